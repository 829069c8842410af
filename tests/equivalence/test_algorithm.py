"""The iteration as a whole: levers off is the base algorithm, and what must not matter does not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from peft import LoraConfig
from runs import TinyWorld, assert_same_training_state, largest_difference, load
from torch import Tensor

from drift_pl.builders.run import build_run
from drift_pl.config.loading import parse
from drift_pl.core.errors import UserError
from drift_pl.core.rng import make_generator

OFF = ["incentive.selection.rule=none", "incentive.prompting.rule=none", "incentive.shaping.weight=0"]
BRIGHTNESS = "rewards=[{name: 'judges:Brightness'}]"


@pytest.fixture(autouse=True)
def judges_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def test_neutral_levers_are_levers_off_bit_for_bit(world: TinyWorld, tmp_path: Path) -> None:
    """All three levers' code runs, with a band that keeps all, noise of scale 0 and a potential discounted to 0."""
    neutral = ["incentive.selection.rule=band", "incentive.selection.kappa=1e30", "incentive.shaping.weight=1"]
    neutral += ["incentive.shaping.gamma=0", "incentive.prompting.rule=embedding_noise", "incentive.prompting.scale=0"]
    off = world.fit(tmp_path / "off", "trainer.iterations=2", *OFF)
    assert_same_training_state(world.fit(tmp_path / "neutral", "trainer.iterations=2", *neutral), off)


@pytest.mark.parametrize(
    "lever",
    [
        ["incentive.selection.rule=band", "incentive.selection.kappa=0.5"],
        ["incentive.prompting.rule=embedding_noise", "incentive.prompting.scale=0.5"],
        ["incentive.shaping.weight=5"],
    ],
)
def test_each_lever_alone_changes_the_run(world: TinyWorld, tmp_path: Path, lever: list[str]) -> None:
    off = world.fit(tmp_path / "off", "trainer.iterations=2", *OFF)
    on = world.fit(tmp_path / "on", "trainer.iterations=2", *OFF, *lever)
    assert largest_difference(off, on) > 1e-4


@pytest.mark.parametrize(
    ("own", "arguments"),
    [
        ([], {}),
        (["objective.loss=flow_dppo", "objective.kl_limit=4.1e-6"], {"limit": 4.1e-6}),
        (
            ["sampler.kind=flow_cps", "objective.ratio=unscaled", "objective.clip_range=4e-7"],
            {"cps": True, "clip": 4e-7},
        ),
    ],
    ids=["flow_grpo", "flow_dppo", "flow_cps"],
)
def test_levers_off_is_the_paper_written_down_independently(
    own: list[str], arguments: dict[str, Any], world: TinyWorld, tmp_path: Path
) -> None:
    """One iteration against `plain_flow_grpo` below, which uses nothing of the package but its random numbers.

    Catches in training/updates/clipped.py: a step's divergence from another mean than that of its rollout; Flow-CPS's
    published ratio with another factor than 2 std^2.
    """
    settings = ["trainer.iterations=1", "trainer.save_every=1", "policy.guidance_scale=3.0", BRIGHTNESS, *OFF]
    settings += ["objective.learning_rate=0.001", "objective.kl_weight=0.05", "objective.kl_form=flow_grpo"]
    settings += ["objective.advantage_std=group"]
    settings += own
    prompts = list(build_run(parse([*world.overrides(), *settings]).config, tmp_path).datamodule.batch(0).prompts)
    ours = world.fit(tmp_path / "run", *settings, "objective.ema_decay=0")["state_dict"]
    theirs = plain_flow_grpo(world.root / "pipeline", prompts, **arguments)
    assert {name.removeprefix("network.") for name in ours} - {"base_group_std"} == set(theirs)
    # Relative to the update (B starts at zero): float32 sums run in another order, and Adam divides each gradient by
    # its own size, the rounding of near-zero ones included. A wrong formula is off by a tenth of the update or more.
    update = torch.cat([value.flatten() for name, value in theirs.items() if "lora_B" in name])
    error = torch.cat([(ours[f"network.{name}"] - value).flatten() for name, value in theirs.items()])
    assert update.abs().max() > 1e-3
    assert error.norm() < 1e-3 * update.norm()


def test_constant_rewards_without_bonus_give_no_update(world: TinyWorld, tmp_path: Path) -> None:
    still = ["rewards=[{name: 'judges:Constant'}]", "objective.weight_decay=0", *OFF]
    state = world.fit(tmp_path / "run", "trainer.iterations=2", *still)["state_dict"]
    assert all(not value.any() for name, value in state.items() if "lora_B" in name)
    moving = world.fit(tmp_path / "moving", "trainer.iterations=2", *still, BRIGHTNESS)["state_dict"]
    assert any(value.any() for name, value in moving.items() if "lora_B" in name)


def test_constant_rewards_with_bonus_still_feel_it(world: TinyWorld, tmp_path: Path) -> None:
    settings = ["rewards=[{name: 'judges:Constant'}]", "objective.weight_decay=0", *OFF, "incentive.shaping.weight=1"]
    state = world.fit(tmp_path / "run", "trainer.iterations=2", *settings)["state_dict"]
    assert any(value.any() for name, value in state.items() if "lora_B" in name)


def test_micro_batch_does_not_matter(world: TinyWorld, tmp_path: Path) -> None:
    """To float summation: batches of one and two take another matrix product.

    Catches: EMA updated per micro-batch, so that results depend on hardware.
    """
    settings = ["trainer.iterations=2", "objective.learning_rate=0.001"]
    whole = world.fit(tmp_path / "16", *settings, "objective.micro_batch=16")
    for size in (1, 3, 4):
        split = world.fit(tmp_path / str(size), *settings, f"objective.micro_batch={size}")
        assert largest_difference(whole, split) < 2e-5


@pytest.mark.parametrize("kind", ["flow_sde", "dance_sde", "flow_cps"])
def test_first_ratio_is_exactly_one(world: TinyWorld, tmp_path: Path, kind: str) -> None:
    """Logged every iteration, with guidance and KL on; later ratios are not one.

    Catches: ratio not 1 before the first update.
    """
    kind = f"sampler.kind={kind}"
    metrics = logged(world, tmp_path, "policy.guidance_scale=3.0", "objective.kl_weight=0.1", kind, *OFF)
    assert [row["policy/ratio_deviation_first"] for row in metrics] == [0.0] * len(metrics)
    assert all(row["policy/ratio_deviation_max"] > 0 for row in metrics)


def test_unscored_images_leave_their_group(world: TinyWorld, tmp_path: Path) -> None:
    nan = "rewards=[{name: 'judges:Brightness', args: {nan_every: 4}}]"
    metrics = logged(world, tmp_path, nan, *OFF)
    assert {row["reward/unscored_fraction"] for row in metrics} == {0.25}
    assert all(np.isfinite(row["reward/mean"]) and np.isfinite(row["policy/grad_norm"]) for row in metrics)


def test_failing_judge_is_named_and_loses_nothing(world: TinyWorld, tmp_path: Path) -> None:
    world.fit(tmp_path / "run", "trainer.iterations=2", BRIGHTNESS)
    before = load(tmp_path / "run")
    with pytest.raises(UserError, match="the reward 'Broken' failed: ConnectionError: no answer"):
        world.fit(tmp_path / "other", "trainer.iterations=2", "rewards=[{name: 'judges:Broken'}]")
    assert_same_training_state(load(tmp_path / "run"), before)


def test_average_is_evaluated_and_training_goes_on_with_the_live_weights(world: TinyWorld, tmp_path: Path) -> None:
    """An evaluation in between must not leave the average in the weights.

    Catches in training/callbacks/evaluation.py: the average overwrites the live weights at an evaluation.
    """
    quiet = world.fit(tmp_path / "quiet", "trainer.iterations=4")
    watched = world.fit(tmp_path / "watched", "trainer.iterations=4", "evaluation.every=1")
    assert_same_training_state(watched, quiet)
    average = {name: value for name, value in quiet["average"].items() if name != "num_updates"}
    assert any(not torch.equal(quiet["state_dict"][f"network.{name}"], value) for name, value in average.items())


def test_longer_warmup_and_more_passes_change_the_run(world: TinyWorld, tmp_path: Path) -> None:
    plain = world.fit(tmp_path / "plain", "trainer.iterations=2")
    changes = ["objective.warmup=10", "objective.inner_epochs=2", "objective.max_grad_norm=1e-9"]
    for number, change in enumerate(changes):
        changed = world.fit(tmp_path / str(number), "trainer.iterations=2", change)
        assert largest_difference(plain, changed) > 1e-5


def logged(world: TinyWorld, tmp_path: Path, *overrides: str) -> list[dict[str, float]]:
    """Metrics of each of three iterations, as a user's own callback sees them."""
    recorder = "trainer.callbacks=[{name: 'recorder:Recorder'}]"
    import recorder as recorded

    recorded.ROWS.clear()
    world.fit(tmp_path / "logged", "trainer.iterations=3", recorder, *overrides)
    assert len(recorded.ROWS) == 3
    return list(recorded.ROWS)


def plain_flow_grpo(
    folder: Path, prompts: list[str], limit: float | None = None, cps: bool = False, clip: float | None = None
) -> dict[str, Tensor]:
    """Flow-GRPO's iteration 0 as in its paper: 4 prompts x 4 images, 4 steps, the SDE in 2 of the first 3.

    With a limit Flow-DPPO's: no clip, and no gradient of an image that has moved further than that and goes on. With
    `cps` the steps of Flow-CPS (arXiv 2509.05952), and the density that its code takes, -|x - mean|^2.
    """
    pipe = StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None)
    net, group, guidance, level, beta = pipe.transformer.requires_grad_(False), 4, 3.0, 0.7, 0.05
    clip = clip or parse(["experiment=shapes_drift"]).config.objective.clip_range
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
        encoded = pipe.encode_prompt(prompts, None, None, negative_prompt="", max_sequence_length=0)
    tokens, empty, pooled, empty_pooled = (part.repeat_interleave(group, 0) for part in encoded)
    pipe.scheduler.set_timesteps(4)
    sigmas = pipe.scheduler.sigmas
    start = int(torch.randint(2, (1,), generator=make_generator("window", 0, 0)))

    def velocity(x: Tensor, step: int, rows: slice) -> Tensor:
        time = (sigmas[step] * 1000).expand(len(x))
        conditional = net(x, tokens[rows], pooled[rows], time, return_dict=False)[0]
        unconditional = net(x, empty[rows], empty_pooled[rows], time, return_dict=False)[0]
        return unconditional + guidance * (conditional - unconditional)

    def sde(x: Tensor, v: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
        sigma, dt = sigmas[step], sigmas[step + 1] - sigmas[step]
        if cps:
            std = sigmas[step + 1] * np.sin(level * np.pi / 2)
            image, pure_noise = x - sigma * v, x + (1 - sigma) * v
            mean = (1 - sigmas[step + 1]) * image + torch.sqrt(sigmas[step + 1] ** 2 - std**2) * pure_noise
            return mean, std, std
        spread = level * torch.sqrt(sigma / (1 - (sigmas[1] if sigma == 1 else sigma)))
        mean = x * (1 + spread**2 / (2 * sigma) * dt) + v * (1 + spread**2 * (1 - sigma) / (2 * sigma)) * dt
        return mean, spread * torch.sqrt(-dt), spread

    def log_prob(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        if cps:
            return -((x - mean) ** 2).mean((1, 2, 3))
        return torch.distributions.Normal(mean, std).log_prob(x).mean((1, 2, 3))

    everything = slice(None)
    x = torch.stack([torch.randn(4, 8, 8, generator=make_generator("initial_latents", 0, 0, b)) for b in range(16)])
    noise = [make_generator("step_noise", 0, 0, b) for b in range(16)]
    visited, old = [], []
    with torch.no_grad():
        for step in range(4):
            v = velocity(x, step, everything)
            if start <= step < start + 2:
                mean, std, _ = sde(x, v, step)
                following = mean + std * torch.stack([torch.randn(4, 8, 8, generator=one) for one in noise])
                visited.append((step, x, following, mean))
                old.append(log_prob(following, mean, std))
                x = following
            else:
                x = x + (sigmas[step + 1] - sigmas[step]) * v
        pixels = pipe.vae.decode(x / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor).sample
    rewards = (pixels / 2 + 0.5).clamp(0, 1).mean((1, 2, 3)).reshape(4, group).double().numpy()
    floor = 0.01 * np.median(rewards.std(1))
    advantages = (rewards - rewards.mean(1, keepdims=True)) / np.maximum(rewards.std(1, keepdims=True), floor)
    advantages = torch.from_numpy(np.clip(advantages, -5, 5)).float().flatten()
    masked = []
    for half in (slice(0, 8), slice(8, 16)):
        losses = []
        for (step, before, after, old_mean), old_log_prob in zip(visited, old, strict=True):
            net.disable_adapters()
            with torch.no_grad():
                reference, _, _ = sde(before[half], velocity(before[half], step, half), step)
            net.enable_adapters()
            mean, std, spread = sde(before[half], velocity(before[half], step, half), step)
            ratio = torch.exp(log_prob(after[half], mean, std) - old_log_prob[half])
            if limit is None:
                surrogate = torch.minimum(ratio * advantages[half], ratio.clamp(1 - clip, 1 + clip) * advantages[half])
                masked.append(surrogate < ratio * advantages[half])
            else:
                moved = ((mean - old_mean[half]) ** 2).mean((1, 2, 3)) / (2 * std**2)
                stopped = (moved > limit) & (advantages[half] * (ratio - 1) > 0)
                surrogate = torch.where(stopped, 0, ratio * advantages[half])
                masked.append(stopped)
            kl = ((mean - reference) ** 2).mean((1, 2, 3)) / (2 * spread**2)
            losses.append(-surrogate + beta * kl)
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.step()
    assert limit is None and not cps or 0 < torch.cat(masked[2:]).sum() < 16, (
        "of the second half some are stopped, and some are not"
    )
    return {name: weight.detach() for name, weight in weights.items()}
