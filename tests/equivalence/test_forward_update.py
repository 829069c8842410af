"""The update by the forward process (`objective.loss=nft`), in whole runs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from peft import LoraConfig
from runs import TinyWorld, assert_same_training_state, gradient_difference, largest_difference
from torch import Tensor

from drift_pl.builders.run import build_run
from drift_pl.config.loading import parse
from drift_pl.core.rng import make_generator
from drift_pl.policies.sd3 import StableDiffusion3Policy
from drift_pl.training.updates.forward import NoisedImages
from drift_pl.training.updates.nft import NftUpdate
from drift_pl.training.updates.protocol import UpdateContext

NFT = ["objective.loss=nft", "policy.guidance_scale=1", "rewards=[{name: 'judges:Brightness'}]"]
OFF = ["incentive.selection.rule=none", "incentive.prompting.rule=none", "incentive.shaping.weight=0"]
ONE = ["trainer.iterations=1", "trainer.save_every=1"]


@pytest.fixture(autouse=True)
def judges_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture(scope="module")
def plain(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An iteration without levers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        return world.fit(tmp_path_factory.mktemp("plain") / "run", *ONE, *NFT, *OFF)


@pytest.fixture
def experiences(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What every update of a run learnt from."""
    seen: list[Any] = []
    original = NftUpdate.run

    def recording(self: NftUpdate, context: UpdateContext) -> Any:
        seen.append(context.experience)
        return original(self, context)

    monkeypatch.setattr(NftUpdate, "run", recording)
    return seen


def first_metrics(world: TinyWorld, folder: Path, *overrides: str) -> dict[str, float]:
    import recorder

    recorder.ROWS.clear()
    world.fit(folder, *ONE, "trainer.callbacks=[{name: 'recorder:Recorder'}]", *overrides)
    return recorder.ROWS[0]


def test_it_is_diffusion_nft_written_down_independently(
    world: TinyWorld, tmp_path: Path, experiences: list[Any]
) -> None:
    """One iteration of two optimiser steps on the same images, twice, against `plain_nft` below."""
    settings = [*NFT, *OFF, *ONE, "objective.learning_rate=0.001", "objective.kl_weight=0.3", "objective.nft_beta=0.2"]
    settings += ["objective.nft_times=3", "objective.inner_epochs=2"]
    prompts = list(build_run(parse([*world.overrides(), *settings]).config, tmp_path).datamodule.batch(0).prompts)
    ours = world.fit(tmp_path / "run", *settings, "objective.ema_decay=0")["state_dict"]
    (experience,) = experiences
    clean, advantage = experience.trajectory.final_BCHW, experience.advantage_KB[0]
    assert len(advantage.unique()) > 8
    theirs = plain_nft(world.root / "pipeline", prompts, clean, advantage)
    update = torch.cat([value.flatten() for name, value in theirs.items() if "lora_B" in name])
    error = torch.cat([(ours[f"network.{name}"] - value).flatten() for name, value in theirs.items()])
    assert update.abs().max() > 1e-3
    assert error.norm() < 1e-3 * update.norm()


def plain_nft(folder: Path, prompts: list[str], clean: Tensor, advantage: Tensor) -> dict[str, Tensor]:
    """DiffusionNFT's loss on policy, on 4 prompts x 4 images, with a KL weight of 0.3 and beta 0.2.

    Both branches and the KL share a weight, as by default here; the published form is in test_diffusion_nft.py.
    """
    pipe = StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None)
    net, beta, limit = pipe.transformer.requires_grad_(False), 0.2, 5.0
    targets = parse([]).config.policy.lora
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net.add_adapter(
            LoraConfig(r=targets.rank, lora_alpha=targets.alpha, target_modules=targets.targets,
                       init_lora_weights="gaussian")
        )  # fmt: skip
    weights = {name: weight for name, weight in net.named_parameters() if weight.requires_grad}
    optimizer = torch.optim.AdamW(weights.values(), lr=1e-3, weight_decay=1e-4)
    with torch.no_grad():
        tokens, _, pooled, _ = pipe.encode_prompt(prompts, None, None, max_sequence_length=0)
    tokens, pooled = tokens.repeat_interleave(4, 0), pooled.repeat_interleave(4, 0)
    place = torch.rand((), generator=make_generator("forward_times", 0, 0), dtype=torch.float64).clamp(0.05, 0.95)
    times = [float((part + place) / 3) for part in range(3)]
    noise = torch.stack(
        [torch.randn(3, 4, 8, 8, generator=make_generator("forward_noise", 0, 0, b)) for b in range(16)]
    )

    def velocity(n: int, rows: slice) -> Tensor:
        x = (1 - times[n]) * clean[rows] + times[n] * noise[rows, n]
        return net(x, tokens[rows], pooled[rows], torch.full((len(x),), 1000 * times[n]), return_dict=False)[0]

    with torch.no_grad():
        old = [velocity(n, slice(None)) for n in range(3)]
    r = (0.5 + 0.5 * advantage / limit).view(-1, 1, 1, 1)
    for half in (slice(0, 8), slice(8, 16), slice(0, 8), slice(8, 16)):
        losses = []
        for n, time in enumerate(times):
            net.disable_adapters()
            with torch.no_grad():
                reference = velocity(n, half)
            net.enable_adapters()
            v, target, before = velocity(n, half), noise[half, n] - clean[half], old[n][half]
            good, bad = (1 - beta) * before + beta * v, (1 + beta) * before - beta * v
            errors = r[half] * (good - target) ** 2 + (1 - r[half]) * (bad - target) ** 2
            kl = (v - reference) ** 2
            weight = time / (before - target).abs().mean((1, 2, 3))
            losses.append(weight * (errors * limit / beta + 0.3 * kl).mean((1, 2, 3)))
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.step()
    return {name: weight.detach() for name, weight in weights.items()}


def noised_images(experience: Any) -> NoisedImages:
    update = NftUpdate(1, 1, 16, True, 0.0, nft_times=3, nft_beta=1.0, advantage_clip=5.0)
    return update.noised_images(SimpleNamespace(experience=experience))


def test_every_image_has_its_own_noise_at_every_level_and_iteration(
    world: TinyWorld, tmp_path: Path, experiences: list[Any]
) -> None:
    world.fit(tmp_path / "run", *NFT, *OFF, "trainer.iterations=2")
    images = [noised_images(experience) for experience in experiences]
    noises = torch.cat(
        [(each.target_NBCHW + e.trajectory.final_BCHW) for each, e in zip(images, experiences, strict=True)]
    )
    rows = noises.flatten(2).flatten(0, 1)
    assert len(rows) == 2 * 3 * 16
    similarity = torch.corrcoef(rows).fill_diagonal_(0).abs()
    assert similarity.max() < 0.4, "256 numbers: five standard deviations are 0.3"
    assert images[0].times_N != images[1].times_N
    again = noised_images(experiences[0])
    assert torch.equal(again.state_NBCHW, images[0].state_NBCHW)


def test_the_trained_latents_are_those_of_the_judged_images(
    world: TinyWorld, tmp_path: Path, experiences: list[Any]
) -> None:
    """After the ODE steps that follow the window, too."""
    window = ["sampler.window_size=1", "sampler.window_range=[0,1]"]
    run = build_run(parse([*world.overrides(), *NFT, *OFF, *ONE, *window]).config, tmp_path)
    world.fit(tmp_path / "run", *NFT, *OFF, *ONE, *window)
    trajectory = experiences[0].trajectory
    torch.testing.assert_close(run.module.policy.decode(trajectory.final_BCHW), trajectory.images_B3HW)
    assert not torch.equal(trajectory.final_BCHW, trajectory.latents_KBCHW[-1])


def test_a_resumed_run_is_the_uninterrupted_one(world: TinyWorld, tmp_path: Path) -> None:
    settings = [*NFT, "objective.kl_weight=0.1"]
    whole = world.fit(tmp_path / "whole", *settings, "trainer.iterations=4")
    world.fit(tmp_path / "parts", *settings, "trainer.iterations=2")
    assert_same_training_state(
        world.fit(tmp_path / "parts", *settings, "trainer.iterations=4", "ckpt_path=last"), whole
    )


def test_micro_batch_does_not_matter(world: TinyWorld, tmp_path: Path) -> None:
    """To float summation, as with the other loss; also for the old policy's velocities."""
    settings = [*NFT, "trainer.iterations=2", "objective.learning_rate=0.001"]
    whole = world.fit(tmp_path / "16", *settings, "objective.micro_batch=16")
    split = world.fit(tmp_path / "3", *settings, "objective.micro_batch=3")
    assert largest_difference(whole, split) < 2e-5


def test_the_first_optimiser_step_begins_at_the_old_policy(world: TinyWorld, tmp_path: Path) -> None:
    """Its velocity has not changed; in a second step on the same images it has, and beta matters."""
    one = [*NFT, *OFF, "objective.updates=1"]
    first = first_metrics(world, tmp_path / "one", *one)
    assert first["policy/velocity_change"] == 0
    assert first["policy/velocity_error"] > 0.1
    assert "policy/clipped_high" not in first
    twice = first_metrics(world, tmp_path / "twice", *one, "objective.inner_epochs=2")
    assert twice["policy/velocity_change"] > 0
    held, loose = (
        world.fit(tmp_path / f"again{beta}", *ONE, *one, "objective.inner_epochs=2", f"objective.nft_beta={beta}")
        for beta in (1.0, 0.01)
    )
    assert largest_difference(held, loose) > 1e-4


def test_it_raises_the_reward_and_bad_images_push(world: TinyWorld, tmp_path: Path) -> None:
    """Ten iterations on brightness, and on its opposite, from the same noise."""
    rewards = {}
    for sign in (1, -1):
        judge = f"rewards=[{{name: 'judges:Brightness', weight: {sign}}}]"
        import recorder

        recorder.ROWS.clear()
        world.fit(
            tmp_path / str(sign), *NFT, judge, *OFF, "trainer.iterations=10", "trainer.save_every=10",
            "objective.learning_rate=0.003", "trainer.callbacks=[{name: 'recorder:Recorder'}]",
        )  # fmt: skip
        rewards[sign] = [row["reward/Brightness"] for row in recorder.ROWS]
    gains = [up - down for up, down in zip(rewards[1], rewards[-1], strict=True)]
    assert gains[0] == 0
    assert min(gains[3:]) > 0
    assert gains[-1] > 5e-4


def test_an_image_is_learnt_from_under_the_condition_that_it_was_sampled_under(
    world: TinyWorld, tmp_path: Path, experiences: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, Tensor]] = []
    original = StableDiffusion3Policy.predict

    def recording(self: StableDiffusion3Policy, latents: Tensor, sigma: Tensor, condition: Any, *rest: Any) -> Tensor:
        if torch.is_grad_enabled():
            seen.append((float(sigma), condition.tokens_BLE))
        return original(self, latents, sigma, condition, *rest)

    monkeypatch.setattr(StableDiffusion3Policy, "predict", recording)
    noise = ["incentive.prompting.rule=embedding_noise", "incentive.prompting.scale=0.5"]
    whole = ["objective.updates=1", "objective.micro_batch=16"]
    world.fit(tmp_path / "run", *ONE, *NFT, *OFF, *noise, *whole)
    (experience,) = experiences
    assert len(seen) == 4
    for time, tokens in seen:
        torch.testing.assert_close(tokens, experience.condition.at(time).tokens_BLE)
    assert not torch.allclose(seen[-1][1], experience.condition.unvaried.tokens_BLE), "varied at high noise"


@pytest.mark.parametrize(
    "lever",
    [
        ["incentive.selection.rule=band", "incentive.selection.kappa=0.5"],
        ["incentive.prompting.rule=embedding_noise", "incentive.prompting.scale=0.5"],
        ["incentive.shaping.weight=5"],
        ["incentive.method=gardo", "objective.kl_weight=0.1"],
    ],
    ids=lambda lever: lever[0].partition(".")[2],
)
def test_each_lever_acts_on_it(world: TinyWorld, plain: dict[str, Any], tmp_path: Path, lever: list[str]) -> None:
    assert largest_difference(plain, world.fit(tmp_path / "on", *ONE, *NFT, *OFF, *lever)) > 1e-4


def test_skipping_images_of_zero_advantage_changes_nothing(world: TinyWorld, tmp_path: Path) -> None:
    """Half of the groups score alike. From the second optimizer step on their images hold the policy back.

    Catches in training/updates/nft.py: images of zero advantage left out of later steps.
    """
    half = [*NFT[:2], "rewards=[{name: 'judges:BrightnessOfRed'}]", *OFF, *ONE, "objective.learning_rate=0.003"]
    half += ["objective.inner_epochs=3"]
    skipped = world.fit(tmp_path / "skipped", *half)
    whole = world.fit(tmp_path / "whole", *half, "objective.skip_zero_advantage=false")
    assert gradient_difference(whole, skipped) < 1e-5
