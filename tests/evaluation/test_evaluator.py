"""Held-out evaluation: its images are a function of prompt and seed index alone, and its values have oracles.

Catches in evaluation/evaluator.py: Vendi's order ignored; drift of one prompt only; embeddings not of unit length.
"""

import dataclasses
import socket
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.spatial.distance import pdist, squareform
from tiny_policies import load_tiny
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure
from vendi_score.vendi import score_K

from drift_pl.core.registry import create, names
from drift_pl.core.types import Condition
from drift_pl.evaluation.evaluated import Evaluated
from drift_pl.evaluation.evaluator import Evaluator
from drift_pl.evaluation.sampling import Model
from drift_pl.policies.process import FlowProcess
from drift_pl.policies.sd3 import StableDiffusion3Policy
from drift_pl.sampling.prompts import PromptEncoder
from drift_pl.sampling.rollout import Sampler
from drift_pl.scoring.encoders import PooledEncoder
from drift_pl.scoring.rewards import WeightedReward

# vendi_score reads scipy by a name that scipy has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning")

PROMPTS = ("a red cat", "two big dog", "sky")


class SquaredDistance:
    """Mean squared difference of pixels, of all pairs."""

    def __call__(self, images_S3HW: Tensor) -> Tensor:
        flat = images_S3HW.flatten(1).double()
        return (flat[:, None] - flat[None]).square().mean(-1)

    def to(self, device: Any) -> "SquaredDistance":
        return self


def brightness(images_B3HW: Tensor, prompts: Sequence[str]) -> Tensor:
    return images_B3HW.mean((1, 2, 3))


def redness(images_B3HW: Tensor, prompts: Sequence[str]) -> Tensor:
    """Cannot score every image."""
    score = images_B3HW[:, 0].mean((1, 2))
    return torch.where(score > score.min(), score, torch.nan)


def word_count(images_PS3HW: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
    """One number per prompt; none for short ones."""
    count = torch.tensor([float(len(prompt.split())) for prompt in prompts])
    return {"words": torch.where(count > 1, count, torch.nan), "contrast": images_PS3HW.flatten(1).std(1)}


class BrightOnes:
    """A measure that counts the brighter images of a prompt only."""

    def __call__(self, images_PS3HW: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
        return {}

    def counts(self, images_S3HW: Tensor, prompt: str) -> Tensor:
        bright_S = images_S3HW.mean((1, 2, 3))
        return bright_S > bright_S.median() if prompt != "sky" else bright_S == bright_S.max()


def make_evaluator(encoder: Path, **changes: Any) -> Evaluator:
    evaluator = Evaluator(
        rewards=[WeightedReward("brightness", brightness, 2.0), WeightedReward("redness", redness, -1.0)],
        encoder=PooledEncoder(str(encoder)),
        lpips=SquaredDistance(),
        micro_batch=4,
        heldout_rewards=[WeightedReward("redness", redness)],
        measures=[word_count],
        grid_prompts=2,
        grid_seeds=3,
    )
    return dataclasses.replace(evaluator, **changes)


def named(*wanted: str) -> dict[str, Any]:
    """Further metrics by their names in the registry."""
    return {name: create("measure", name, {}) for name in wanted}


def model_of(policy: Any) -> Model:
    return Model(policy, PromptEncoder(policy), torch.device("cpu"), nullcontext)


def evaluate(
    policy: StableDiffusion3Policy,
    evaluator: Evaluator,
    prompts: Sequence[str] = PROMPTS,
    seeds: int = 4,
    reference: Tensor | None = None,
) -> Evaluated:
    sampler = Sampler(policy.sigmas(3), 1.0, policy.encode([""], negative=True))
    return evaluator.run(model_of(policy), sampler, prompts, seeds, reference)


def assert_same(ours: Evaluated, theirs: Evaluated, tolerance: float) -> None:
    assert list(ours.values) == list(theirs.values)
    for name, values in ours.values.items():
        torch.testing.assert_close(values, theirs.values[name], rtol=0, atol=tolerance, equal_nan=True)
    torch.testing.assert_close(ours.grid_PS3HW, theirs.grid_PS3HW, rtol=0, atol=tolerance)


def test_every_value_is_that_of_the_images_it_was_measured_on(
    tiny_policy: StableDiffusion3Policy, tiny_evaluation_encoder: Path
) -> None:
    """Oracle: numpy, scipy and vendi_score on the images of the grid, which here are all images.

    Catches in evaluation/evaluator.py: NaN of one image spoils its prompt's mean.
    Catches in evaluation/evaluated.py: values transposed to the wrong prompt.
    """
    evaluator = make_evaluator(tiny_evaluation_encoder, grid_prompts=3, grid_seeds=4)
    result = evaluate(tiny_policy, evaluator)
    assert result.prompts == PROMPTS
    assert result.grid_PS3HW.shape == (3, 4, 3, 16, 16)
    assert set(result.values) == {
        *("reward", "reward/brightness", "reward/redness", "heldout/redness"),
        *("pairwise_distance", "vendi", "pairwise_lpips", "words", "contrast"),
    }
    for row, images in enumerate(result.grid_PS3HW):
        red = images[:, 0].mean((1, 2)).double()
        scored = red > red.min()
        bright = images.mean((1, 2, 3)).double()
        unit = evaluator.encoder(images).double().numpy()
        expected = {
            "reward": float((2 * bright - red)[scored].mean()),
            "reward/brightness": float(bright.mean()),
            "reward/redness": float(red[scored].mean()),
            "heldout/redness": float(red[scored].mean()),
            "pairwise_distance": pdist(unit, metric="cosine").mean(),
            "vendi": score_K(unit @ unit.T, q=1),
            "pairwise_lpips": pdist(images.flatten(1).double().numpy(), metric="sqeuclidean").mean() / 768,
            "contrast": float(images.std()),
        }
        for name, value in expected.items():
            assert float(result.values[name][row]) == pytest.approx(value, abs=1e-6), name  # float32 scores
    assert result.values["words"].tolist()[:2] == [3, 3]
    assert result.values["words"][2].isnan()
    assert result.means()["words"] == 3  # the mean over prompts that have one
    assert all(torch.tensor(value).isfinite() for value in result.means().values())
    assert result.values["vendi"].dtype == torch.float64


def test_images_that_do_not_count_add_no_diversity(
    tiny_policy: StableDiffusion3Policy, tiny_evaluation_encoder: Path
) -> None:
    """Oracle: scipy on the images that the measure counts; a single one has no distance."""
    evaluator = make_evaluator(tiny_evaluation_encoder, grid_prompts=3, grid_seeds=6, measures=[BrightOnes()])
    result = evaluate(tiny_policy, evaluator, seeds=6)
    values = result.values["valid_pairwise_distance"]
    for row in range(2):
        images = result.grid_PS3HW[row]
        kept = images[BrightOnes().counts(images, PROMPTS[row])]
        assert len(kept) == 3
        unit = evaluator.encoder(kept).double().numpy()
        assert float(values[row]) == pytest.approx(pdist(unit, metric="cosine").mean(), abs=1e-6)  # float32 scores
    assert values[2].isnan()
    assert not torch.equal(values[:2], result.values["pairwise_distance"][:2])


def test_further_measures_of_a_prompts_images(
    tiny_policy: StableDiffusion3Policy, tiny_evaluation_encoder: Path
) -> None:
    """Oracles: vendi_score, scipy and torchmetrics on the images of the grid; what was there stays bit for bit."""
    evaluator = make_evaluator(tiny_evaluation_encoder, grid_prompts=3, grid_seeds=4)
    plain = evaluate(tiny_policy, evaluator)
    extra = ("pairwise_ssim", "rke", "nearest_distance")
    result = evaluate(tiny_policy, dataclasses.replace(evaluator, vendi_order=3.0, metrics=named(*extra)))
    assert set(result.values) == {*plain.values, *extra}
    for name in plain.values:
        same = torch.equal(result.values[name].nan_to_num(), plain.values[name].nan_to_num())
        assert same == (name != "vendi"), name
    for row, images in enumerate(result.grid_PS3HW):
        unit = evaluator.encoder(images).double().numpy()
        table = squareform(pdist(unit, metric="cosine"))
        np.fill_diagonal(table, np.inf)
        first, second = torch.triu_indices(4, 4, offset=1)
        expected = {
            "vendi": score_K(unit @ unit.T, q=3),
            "rke": score_K(unit @ unit.T, q=2),
            "nearest_distance": table.min(1).mean(),
            "pairwise_ssim": 1 - structural_similarity_index_measure(images[first], images[second], data_range=1.0),
        }
        for name, value in expected.items():
            assert float(result.values[name][row]) == pytest.approx(float(value), abs=1e-6), name  # float32 scores
    assert result.embedding_PSD is None
    assert result.overall == {}


def test_drift_is_the_distance_of_all_embeddings_from_the_base_models(
    tiny_policy: StableDiffusion3Policy, tiny_evaluation_encoder: Path, tune: Callable[..., None]
) -> None:
    """Oracles: scipy's matrix root and a double loop, on the embeddings of the images of the grids."""
    evaluator = make_evaluator(tiny_evaluation_encoder, grid_prompts=3, grid_seeds=6, metrics=named("fid", "kid"))
    base = evaluate(tiny_policy, evaluator, seeds=6)
    assert base.overall == {}  # there is nothing to compare the base with
    assert base.embedding_PSD is not None
    assert base.embedding_PSD.shape == (3, 6, 16)
    tune(tiny_policy)
    tuned = evaluate(tiny_policy, evaluator, seeds=6, reference=base.embedding_PSD)
    sets = [evaluator.encoder(seen.grid_PS3HW.flatten(0, 1)).double().numpy() for seen in (tuned, base)]
    np.testing.assert_allclose(base.embedding_PSD.flatten(0, 1), sets[1], rtol=0, atol=1e-6)
    covariances = [np.cov(rows, rowvar=False) for rows in sets]
    shift = sets[0].mean(0) - sets[1].mean(0)
    frechet = shift @ shift + np.trace(sum(covariances) - 2 * sqrtm(covariances[0] @ covariances[1]).real)
    within = [np.mean([(x @ y + 1) ** 3 for i, x in enumerate(s) for j, y in enumerate(s) if i != j]) for s in sets]
    across = [(x @ y + 1) ** 3 for i, x in enumerate(sets[0]) for j, y in enumerate(sets[1]) if i != j]
    kernel = sum(within) - 2 * np.mean(across)  # an image and the base's from the same noise are no pair
    # scipy's root of a product of singular covariances is good to half the digits
    assert tuned.overall == pytest.approx({"fid": frechet, "kid": kernel}, rel=1e-4, abs=1e-6)
    assert tuned.overall["fid"] > 1e-4
    assert tuned.means() == tuned.means() | tuned.overall
    assert "reward" in tuned.means()
    again = evaluate(tiny_policy, evaluator, seeds=6, reference=tuned.embedding_PSD)
    assert 0 <= again.overall["fid"] < 1e-9
    alone = evaluate(
        tiny_policy, dataclasses.replace(evaluator, metrics=named("kid")), seeds=6, reference=base.embedding_PSD
    )
    assert alone.overall == {"kid": tuned.overall["kid"]}


def test_drift_of_sets_of_embeddings_does_not_depend_on_their_length(
    tiny_policy: StableDiffusion3Policy, tiny_evaluation_encoder: Path, tune: Callable[..., None]
) -> None:
    """An encoder of one's own need not return unit vectors; cosines do not see it, and neither does drift."""
    unit = make_evaluator(tiny_evaluation_encoder, metrics=named("fid", "kid"))
    longer = dataclasses.replace(unit, encoder=lambda images_B3HW: 7 * unit.encoder(images_B3HW))
    longer.to("cpu")  # a plain function has nothing to move
    values = []
    for evaluator in (unit, longer):
        with tiny_policy.reference():
            base = evaluate(tiny_policy, evaluator)
        tune(tiny_policy)
        values.append(evaluate(tiny_policy, evaluator, reference=base.embedding_PSD).overall)
        with torch.no_grad():
            for name, parameter in tiny_policy.trainable_parameters():
                if "lora_B" in name:
                    parameter.zero_()
    assert values[0] == pytest.approx(values[1], abs=1e-5)


def test_groupwise_rewards_see_a_prompts_images_and_a_prompt_may_have_no_score(
    tiny_policy: StableDiffusion3Policy, tiny_evaluation_encoder: Path
) -> None:
    """A prompt that a reward cannot score at all has no value; a training iteration would stop there."""

    def spread(images_PG3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        assert images_PG3HW.shape[:2] == (1, 4)
        bright = images_PG3HW.mean((2, 3, 4))
        return (bright - bright.mean(1, keepdim=True)).abs()

    def about_cats(images_B3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        cats = torch.tensor(["cat" in prompt for prompt in prompts])
        return torch.where(cats, images_B3HW.mean((1, 2, 3)), torch.nan)

    spread.groupwise = True  # type: ignore[attr-defined]
    evaluator = make_evaluator(
        tiny_evaluation_encoder,
        grid_prompts=3,
        grid_seeds=4,
        rewards=[WeightedReward("spread", spread), WeightedReward("cats", about_cats)],
        heldout_rewards=[WeightedReward("spread", spread), WeightedReward("cats", about_cats)],
    )
    result = evaluate(tiny_policy, evaluator)
    bright = result.grid_PS3HW.mean((2, 3, 4)).double()
    expected = (bright - bright.mean(1, keepdim=True)).abs().mean(1)
    for name in ("reward/spread", "heldout/spread"):
        torch.testing.assert_close(result.values[name], expected, rtol=0, atol=1e-6)
    for name in ("reward", "reward/cats", "heldout/cats"):
        assert result.values[name].isnan().tolist() == [False, True, True]


def test_an_infinite_score_is_left_out_as_in_training(
    tiny_policy: StableDiffusion3Policy, tiny_evaluation_encoder: Path
) -> None:
    """Catches in evaluation/evaluator.py: one infinite score in the mean of a prompt's."""

    def first_is_infinite(images_B3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        return torch.tensor([torch.inf, 1.0, 2.0, torch.nan])

    rewards = [WeightedReward("broken", first_is_infinite)]
    evaluator = make_evaluator(tiny_evaluation_encoder, rewards=rewards, heldout_rewards=rewards)
    values = evaluate(tiny_policy, evaluator).values
    for name in ("reward", "reward/broken", "heldout/broken"):
        assert values[name].tolist() == [1.5, 1.5, 1.5]


def test_values_belong_to_their_prompt_in_any_order(
    tiny_policy: StableDiffusion3Policy, tiny_evaluation_encoder: Path
) -> None:
    """Catches in evaluation/evaluator.py: evaluation noise from the global generator."""
    evaluator = make_evaluator(tiny_evaluation_encoder)
    forward, backward = evaluate(tiny_policy, evaluator), evaluate(tiny_policy, evaluator, PROMPTS[::-1])
    alone = evaluate(tiny_policy, evaluator, PROMPTS[1:2])
    for name, values in forward.values.items():
        torch.testing.assert_close(values, backward.values[name].flip(0), rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(values[1:2], alone.values[name], rtol=0, atol=0, equal_nan=True)
    assert forward.values["pairwise_distance"].unique().numel() == 3


def test_noise_depends_on_the_prompt_and_the_seed_index_and_on_nothing_else(
    tiny_policy: StableDiffusion3Policy, tiny_evaluation_encoder: Path
) -> None:
    """Neither on the global generator, nor on earlier evaluations, nor on the number of images.

    Catches: evaluation noise unseeded, or shared between prompts.
    """
    evaluator = make_evaluator(tiny_evaluation_encoder, grid_prompts=3, grid_seeds=8)
    first = evaluate(tiny_policy, evaluator)
    torch.manual_seed(999)
    before = torch.get_rng_state()
    again = evaluate(tiny_policy, evaluator)
    assert torch.equal(torch.get_rng_state(), before)
    assert_same(again, first, 0)
    more = evaluate(tiny_policy, evaluator, seeds=6)
    torch.testing.assert_close(more.grid_PS3HW[:, :4], first.grid_PS3HW, rtol=0, atol=1e-5)  # another micro-batch


class NoiseItself:
    """A policy whose images are the noise that they start from, whatever the prompt."""

    network = torch.nn.Identity()
    latent_shape = (3, 16, 16)
    process = FlowProcess()

    def encode(self, prompts: Sequence[str], negative: bool = False) -> Condition:
        return Condition(torch.zeros(len(prompts), 1, 1), None, torch.ones(1, dtype=torch.int64))

    def predict(self, latents: Tensor, *_: object) -> Tensor:
        return torch.zeros_like(latents)

    def decode(self, latents: Tensor) -> Tensor:
        return latents


def test_no_two_images_share_their_noise(tiny_evaluation_encoder: Path) -> None:
    """Neither within a prompt nor from prompt to prompt.

    Catches in evaluation/evaluator.py: evaluation noise the same for every prompt.
    """
    policy = NoiseItself()
    evaluator = make_evaluator(tiny_evaluation_encoder, grid_prompts=3, micro_batch=2)
    sampler = Sampler(torch.tensor([1.0, 0.5, 0.0]), 1.0, policy.encode([""], negative=True))
    noise = evaluator.run(model_of(policy), sampler, PROMPTS, 4).grid_PS3HW
    flat = noise.flatten(2).flatten(0, 1).double().numpy()
    correlation = np.corrcoef(flat) - np.eye(len(flat))
    assert np.abs(correlation).max() < 5 / np.sqrt(flat.shape[1])  # five standard errors of independent noise


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_micro_batches_change_nothing(
    tiny_policy: StableDiffusion3Policy, tiny_evaluation_encoder: Path, micro_batch: int
) -> None:
    whole = evaluate(tiny_policy, make_evaluator(tiny_evaluation_encoder))
    parts = evaluate(tiny_policy, make_evaluator(tiny_evaluation_encoder, micro_batch=micro_batch))
    assert_same(parts, whole, 1e-5)


def test_in_reference_mode_it_measures_the_model_before_fine_tuning(
    tiny_policy: StableDiffusion3Policy, tiny_evaluation_encoder: Path, tune: Callable[..., None]
) -> None:
    evaluator = make_evaluator(tiny_evaluation_encoder)
    base = evaluate(tiny_policy, evaluator)
    tune(tiny_policy)
    tuned = evaluate(tiny_policy, evaluator)
    with tiny_policy.reference():
        assert_same(evaluate(tiny_policy, evaluator), base, 0)
    assert (tuned.grid_PS3HW - base.grid_PS3HW).abs().max() > 1e-3


def test_progress_is_reported_once_per_prompt(
    tiny_policy: StableDiffusion3Policy, tiny_evaluation_encoder: Path
) -> None:
    done: list[None] = []
    evaluate(tiny_policy, make_evaluator(tiny_evaluation_encoder, after_prompt=lambda: done.append(None)))
    assert len(done) == len(PROMPTS)


REFERENCE = torch.nn.functional.normalize(torch.randn(12, 16, generator=torch.Generator().manual_seed(3)), dim=1)


def _one_of_several(rank: int, world: int, port: int, pipeline: str, encoder: str, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    policy = load_tiny("sd3", pipeline)
    result = evaluate(policy, make_evaluator(Path(encoder), metrics=named(*names("measure"))), reference=REFERENCE)
    torch.save(dataclasses.asdict(result), Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 4])
def test_several_processes_report_what_one_does(
    tiny_policy: StableDiffusion3Policy, tiny_pipeline: Path, tiny_evaluation_encoder: Path, tmp_path: Path, world: int
) -> None:
    """Three prompts: one of two processes has two, one of four has none. The first has the images of the grid.

    Catches in evaluation/evaluated.py: a process without a prompt counts that of another again.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = (world, port, str(tiny_pipeline), str(tiny_evaluation_encoder), str(tmp_path))
    torch.multiprocessing.spawn(_one_of_several, args=arguments, nprocs=world)
    evaluator = make_evaluator(tiny_evaluation_encoder, metrics=named(*names("measure")))
    expected = evaluate(tiny_policy, evaluator, reference=REFERENCE)
    for rank in range(world):
        result = Evaluated(**torch.load(tmp_path / f"{rank}.pt"))
        if rank > 0:
            result = dataclasses.replace(result, grid_PS3HW=expected.grid_PS3HW)
        assert_same(result, expected, 1e-6)
        torch.testing.assert_close(result.embedding_PSD, expected.embedding_PSD, rtol=0, atol=1e-6)
        assert result.overall == pytest.approx(expected.overall, abs=1e-5)
