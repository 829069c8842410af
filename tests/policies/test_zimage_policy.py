"""Z-Image behind the protocol, against diffusers' own pipeline on the same weights."""

from pathlib import Path

import pytest
import torch
from diffusers import ZImagePipeline
from tiny_models import save_tiny_zimage
from tiny_policies import load_tiny
from torch import Tensor

from drift_pl.config.schema import LoraConfig
from drift_pl.core.errors import UserError
from drift_pl.incentive.prompting import EmbeddingNoise, VariedCondition
from drift_pl.policies.zimage import ZImagePolicy
from drift_pl.sampling.rollout import Sampler, sample_ode

pytestmark = pytest.mark.filterwarnings("ignore:unknown to the model's tokenizer")  # it knows letters only

# 19 tokens of the template and one per character; the network fills them up to 32, 32 and 64
PROMPTS = ["a", "a red cat", "two big dog and a very long story that"]
LENGTHS = [20, 28, 57]
NEGATIVE = "bad art"
TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


@pytest.fixture(scope="module")
def turbo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng(devices=[]):
        return save_tiny_zimage(tmp_path_factory.mktemp("turbo") / "zimage", dynamic=False)


def make_policy(folder: Path, **options: object) -> ZImagePolicy:
    return load_tiny(ZImagePolicy, folder, **{"resolution": 16} | options)


def plain_pipeline(folder: Path) -> ZImagePipeline:
    """diffusers' own, on its own copy of the weights."""
    pipeline = ZImagePipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def drawn_by_diffusers(folder: Path, noise: Tensor, guidance_scale: float, side: int = 16) -> Tensor:
    return plain_pipeline(folder)(
        prompt=list(PROMPTS),
        negative_prompt=[NEGATIVE] * 3,
        height=side,
        width=side,
        num_inference_steps=5,
        guidance_scale=guidance_scale,
        latents=noise.clone(),
        max_sequence_length=80,
        output_type="pt",
    ).images


def drawn_by_the_policy(policy: ZImagePolicy, noise: Tensor, guidance_scale: float) -> Tensor:
    sampler = Sampler(policy.sigmas(5), guidance_scale, policy.encode([NEGATIVE], negative=True))
    return policy.decode(sample_ode(policy, sampler, noise, VariedCondition(policy.encode(PROMPTS))))


@pytest.mark.parametrize(("ours", "theirs"), [(1.0, 0.0), (5.0, 4.0)])
@pytest.mark.parametrize("side", [16, 24])
def test_deterministic_samples_are_the_pipelines_own(
    tiny_zimage: Path, ours: float, theirs: float, side: int, generator: torch.Generator
) -> None:
    """Oracle: ZImagePipeline.__call__ from the same noise; its guidance scale counts from 0, ours from 1.

    Catches in policies/zimage.py: sign of the velocity; time running backwards; padding shown to the network.
    """
    noise = torch.randn(3, 4, side // 2, side // 2, generator=generator)
    expected = drawn_by_diffusers(tiny_zimage, noise, theirs, side)
    policy = make_policy(tiny_zimage)
    assert theirs == ours + policy.guidance_offset
    with policy.at_resolution(side):
        images = drawn_by_the_policy(policy, noise, ours)
    # float32 sums in another order, guidance multiplies them: five steps of a small network, pixels in [0, 1]
    torch.testing.assert_close(images, expected.float(), rtol=0, atol=1e-5)
    assert expected.std() > 0.01  # the images are not flat
    assert (expected[0] - expected[1]).abs().max() > 1e-3


def test_a_constant_shift_draws_the_pipelines_images(turbo: Path, generator: torch.Generator) -> None:
    noise = torch.randn(3, 4, 8, 8, generator=generator)
    ours = drawn_by_the_policy(make_policy(turbo), noise, 1.0)
    torch.testing.assert_close(ours, drawn_by_diffusers(turbo, noise, 0.0).float(), rtol=0, atol=1e-5)


def test_encoding_is_the_pipelines_own_row_by_row(tiny_zimage: Path) -> None:
    """Oracle: encode_prompt of each text alone; a row is that, and zeros.

    Catches in policies/zimage.py: the chat template left in the caller's list of prompts; padding counted as tokens.
    """
    policy, plain = make_policy(tiny_zimage), plain_pipeline(tiny_zimage)
    prompts = list(PROMPTS)
    ours = policy.encode(prompts)
    assert prompts == PROMPTS  # the pipeline writes its template into the list that it is given
    assert ours.tokens_BLE.shape == (3, 80, 16)
    assert ours.num_tokens_B is not None
    assert ours.num_tokens_B.tolist() == LENGTHS
    assert ours.pooled_BE is None
    assert not ours.tokens_BLE.requires_grad
    for row, prompt in enumerate(PROMPTS):
        with torch.no_grad():
            (tokens,), _ = plain.encode_prompt(prompt, do_classifier_free_guidance=False, max_sequence_length=80)
        torch.testing.assert_close(ours.tokens_BLE[row, : LENGTHS[row]], tokens, rtol=0, atol=1e-6)
        assert not ours.tokens_BLE[row, LENGTHS[row] :].any()


def test_longer_texts_are_cut(tiny_zimage: Path) -> None:
    ours = make_policy(tiny_zimage, max_sequence_length=40).encode(PROMPTS)
    assert ours.tokens_BLE.shape == (3, 40, 16)
    assert ours.num_tokens_B is not None
    assert ours.num_tokens_B.tolist() == [20, 28, 40]


def test_a_prediction_does_not_depend_on_the_longer_texts_beside_it(
    tiny_zimage: Path, generator: torch.Generator
) -> None:
    """With a mask and without attention sums in another order: float32, outputs of about 0.5."""
    policy = make_policy(tiny_zimage)
    condition, latents = policy.encode(PROMPTS), torch.randn(3, 4, 8, 8, generator=generator)
    with torch.no_grad():
        together = policy.predict(latents, torch.tensor(0.6), condition, condition[:1], 3.0)
        for row in range(3):
            rows = slice(row, row + 1)
            alone = policy.predict(latents[rows], torch.tensor(0.6), condition[rows], condition[:1], 3.0)
            torch.testing.assert_close(alone, together[rows], rtol=0, atol=1e-5)


def test_the_network_sees_a_prompts_own_tokens_and_all_of_them(tiny_zimage: Path, generator: torch.Generator) -> None:
    policy = make_policy(tiny_zimage)
    condition, latents = policy.encode(PROMPTS), torch.randn(3, 4, 8, 8, generator=generator)

    def changed(token: int) -> list[bool]:
        other = condition[:]
        tokens = other.tokens_BLE.clone()
        tokens[:, token] += 1
        varied = type(condition)(tokens, None, other.num_channels_L, other.num_tokens_B)
        with torch.no_grad():
            one, two = (policy.predict(latents, torch.tensor(0.6), c, c[:1], 1.0) for c in (condition, varied))
        return [not torch.equal(one[row], two[row]) for row in range(3)]

    assert changed(0) == changed(19) == [True, True, True]
    assert changed(20) == [False, True, True]
    assert changed(56) == [False, False, True]
    assert changed(57) == [False, False, False]


def test_prompt_noise_stays_within_each_prompts_tokens(tiny_zimage: Path) -> None:
    condition = make_policy(tiny_zimage).encode(PROMPTS)
    varied = EmbeddingNoise(0.5)(condition, 0, 0, range(3)).at(1.0)
    moved = (varied.tokens_BLE != condition.tokens_BLE).any(-1)
    assert moved.sum(1).tolist() == LENGTHS
    assert varied.num_tokens_B is not None
    assert varied.num_tokens_B.tolist() == LENGTHS


@pytest.mark.parametrize("side", [16, 64])
def test_the_noise_levels_are_the_pipelines_at_each_resolution(tiny_zimage: Path, side: int) -> None:
    """Oracle: the pipeline's scheduler after a call. The shift is a function of the number of image tokens."""
    plain, policy = plain_pipeline(tiny_zimage), make_policy(tiny_zimage)
    arguments = {"height": side, "width": side, "num_inference_steps": 7, "guidance_scale": 0.0}
    plain("a", **arguments, max_sequence_length=80, output_type="latent")
    own = policy.sigmas(7)
    with policy.at_resolution(side):
        assert torch.equal(policy.sigmas(7), plain.scheduler.sigmas)
    assert torch.equal(own, plain.scheduler.sigmas) == (side == 16)
    assert own[[0, -1]].tolist() == [1, 0]


def test_sizes_that_the_positions_do_not_reach_are_refused(tiny_zimage: Path) -> None:
    """Two pixels per latent, two latents per token, 16 tokens; 128 positions of text and image together.

    Catches in policies/zimage.py: one text length too many for the positions.
    """
    assert make_policy(tiny_zimage, resolution=64).latent_shape == (4, 32, 32)
    with pytest.raises(UserError, match=r"policy\.resolution=14 is not a multiple of 4: use e\.g\. 12"):
        make_policy(tiny_zimage, resolution=14)
    with pytest.raises(UserError, match=r"policy\.resolution=68 exceeds .* use at most 64"):
        make_policy(tiny_zimage, resolution=68)
    with pytest.raises(UserError, match=r"policy\.resolution=1024 exceeds"):  # the pipeline's own default
        make_policy(tiny_zimage, resolution=None)
    for length in (0, 97):
        says = rf"^policy\.max_sequence_length={length}: .* 1 to 96 text tokens, e\.g\. 96"
        with pytest.raises(UserError, match=says):
            make_policy(tiny_zimage, max_sequence_length=length).encode(PROMPTS)


def test_the_longest_text_fits_beside_the_image(tiny_zimage: Path, generator: torch.Generator) -> None:
    policy = make_policy(tiny_zimage, max_sequence_length=96)
    condition = policy.encode(["x" * 200])
    assert condition.num_tokens_B is not None
    assert condition.num_tokens_B.tolist() == [96]
    latents = torch.randn(1, 4, 8, 8, generator=generator)
    with torch.no_grad():
        assert policy.predict(latents, torch.tensor(0.6), condition, condition, 1.0).isfinite().all()


def test_the_default_targets_are_refused_with_those_that_match(tiny_zimage: Path) -> None:
    """One stream: there are no layers of a second one."""
    with pytest.raises(UserError, match=r"^policy\.lora\.targets: add_q_proj, .* match no layer; .*attention\.to_q"):
        make_policy(tiny_zimage, targets=LoraConfig().targets)
    layers = {name.partition(".lora_")[0] for name, _ in make_policy(tiny_zimage).trainable_parameters()}
    assert len(layers) == 4 * (2 + 1 + 1)  # blocks, and the refiners of image and text
