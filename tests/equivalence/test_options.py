"""Whole runs with the options beyond the defaults: each does what it says, and only that."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import SD3Transformer2DModel
from runs import TinyWorld, assert_same_training_state, largest_difference
from tiny_policies import load_tiny

from drift_pl.core.errors import UserError
from drift_pl.functional.transition import flow_sde_diffusion

OFF = ["incentive.selection.rule=none", "incentive.prompting.rule=none", "incentive.shaping.weight=0"]
BRIGHTNESS = "rewards=[{name: 'judges:Brightness'}]"
ONE = ["trainer.iterations=1", "trainer.save_every=1"]


@pytest.fixture(autouse=True)
def judges_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def first_metrics(world: TinyWorld, folder: Path, *overrides: str) -> dict[str, float]:
    import recorder

    recorder.ROWS.clear()
    world.fit(folder, *ONE, "trainer.callbacks=[{name: 'recorder:Recorder'}]", *overrides)
    return recorder.ROWS[0]


@contextmanager
def trained_rows() -> Iterator[list[int]]:
    """Sizes of the batches that the denoiser sees with gradients on."""
    sizes: list[int] = []
    plain = SD3Transformer2DModel.forward

    def counted(self: SD3Transformer2DModel, hidden_states: torch.Tensor, *args: object, **kwargs: object) -> object:
        if torch.is_grad_enabled():
            sizes.append(len(hidden_states))
        return plain(self, hidden_states, *args, **kwargs)

    SD3Transformer2DModel.forward = counted
    try:
        yield sizes
    finally:
        SD3Transformer2DModel.forward = plain


def test_ratios_scale_the_first_gradient_by_the_steps_std(world: TinyWorld, tmp_path: Path) -> None:
    """At ratio 1 the gradient of std (log p - log p_old + |m - m_old|^2 / 2 std^2) is std times that of log p, and that
    of -|x - m|^2, which Flow-CPS's code takes for a log-density, 2 std^2 times.

    Catches in training/updates/clipped.py: GRPO-Guard's ratio ignored.
    """
    settings = [*OFF, BRIGHTNESS, "objective.updates=1", "sampler.window_size=1", "sampler.window_range=[1,2]"]
    plain = first_metrics(world, tmp_path / "plain", *settings)
    guard = first_metrics(world, tmp_path / "guard", *settings, "objective.ratio=guard")
    assert guard["policy/ratio_deviation_first"] == 0
    sigmas = load_tiny("sd3", world.root / "pipeline", targets=["attn.to_q"]).sigmas(4)
    std = flow_sde_diffusion(sigmas[1], sigmas[1], 0.7) * (sigmas[1] - sigmas[2]).sqrt()
    assert guard["policy/grad_norm"] == pytest.approx(float(std) * plain["policy/grad_norm"], rel=1e-4)
    unscaled = first_metrics(world, tmp_path / "unscaled", *settings, "objective.ratio=unscaled")
    assert unscaled["policy/grad_norm"] == pytest.approx(2 * float(std) ** 2 * plain["policy/grad_norm"], rel=1e-4)


def test_the_kind_of_stochastic_steps_reaches_the_rollouts(world: TinyWorld, tmp_path: Path) -> None:
    """The same noise, drawn in another way, makes other images; the spread of the states tells which.

    Catches in sampling/groups.py: kind of stochastic step not passed on.
    """
    rms = {
        kind: first_metrics(world, tmp_path / kind, *OFF, BRIGHTNESS, f"sampler.kind={kind}")["policy/latent_rms"]
        for kind in ("flow_sde", "dance_sde", "flow_cps")
    }
    assert len(set(rms.values())) == 3


def test_untrained_noise_of_the_last_step_reaches_the_rollouts(world: TinyWorld, tmp_path: Path) -> None:
    """The same window and so the same trained states, other images.

    Catches in builders/run.py: noise of the last step not passed on.
    """
    plain, noisy = (
        first_metrics(world, tmp_path / name, *OFF, BRIGHTNESS, *more)
        for name, more in (
            ("plain", []),
            ("noisy", ["sampler.noisy_last_step=true", "sampler.train_last_step=false"]),
        )
    )
    assert noisy["policy/latent_rms"] != plain["policy/latent_rms"]


def test_step_weights_keep_the_mean_and_shift_the_steps(world: TinyWorld, tmp_path: Path) -> None:
    """With one step that can be trained there is nothing to shift; with three the runs differ.

    Catches in training/updates/clipped.py: the weight of another step.
    """
    one = [*OFF, BRIGHTNESS, *ONE, "sampler.window_size=1", "sampler.window_range=[1,2]"]
    plain = world.fit(tmp_path / "one", *one)
    weighted = world.fit(tmp_path / "one_weighted", *one, "objective.step_weights=inverse_length")
    assert_same_training_state(plain, weighted)
    assert any(value.any() for name, value in plain["state_dict"].items() if "lora_B" in name)
    two = world.fit(tmp_path / "two", *OFF, BRIGHTNESS, *ONE)
    changed = world.fit(tmp_path / "std", *OFF, BRIGHTNESS, *ONE, "objective.step_weights=std")
    assert largest_difference(two, changed) > 1e-4


def test_images_of_zero_advantage_cost_no_forward_pass_and_change_nothing(world: TinyWorld, tmp_path: Path) -> None:
    """Half of the groups score alike. With a KL term every image has a gradient, and none is skipped.

    Catches in training/updates/passes.py: images of zero advantage skipped under a KL term.
    Catches in training/scoring.py: judges see other groups' prompts.
    """
    half = [*OFF, *ONE, "rewards=[{name: 'judges:BrightnessOfRed'}]", "objective.learning_rate=0.001"]
    with trained_rows() as skipping:
        skipped = world.fit(tmp_path / "skipped", *half)
    with trained_rows() as everything:
        whole = world.fit(tmp_path / "whole", *half, "objective.skip_zero_advantage=false")
    assert largest_difference(whole, skipped) < 2e-5  # batches of one take another matrix product
    assert sum(everything) == 2 * 16  # two trained steps of 16 images
    assert sum(skipping) < sum(everything)
    with trained_rows() as with_kl:
        world.fit(tmp_path / "kl", *half, "objective.kl_weight=0.1")
    assert sum(with_kl) == 2 * 16


@pytest.mark.parametrize("rule", ["min_variance", "median", "max_variance"])
def test_over_sampling_costs_update_time_for_the_kept_images_only(world: TinyWorld, tmp_path: Path, rule: str) -> None:
    selection = [f"incentive.selection.rule={rule}", "incentive.selection.keep=2"]
    with trained_rows() as sizes:
        metrics = first_metrics(world, tmp_path / "run", *OFF[1:], BRIGHTNESS, *selection)
    assert metrics["selection/kept_fraction"] == 0.5
    assert sum(sizes) == 2 * 16 // 2


def test_each_judge_by_its_own_spread_makes_scales_meaningless(world: TinyWorld, tmp_path: Path) -> None:
    """Catches in builders/method.py: per-judge normalisation ignored."""

    def fit(name: str, scale: float, normalisation: str) -> dict[str, object]:
        judges = f"[{{name: 'judges:Brightness'}}, {{name: 'judges:Redness', args: {{scale: {scale}}}}}]"
        rule = f"objective.reward_normalisation={normalisation}"
        return world.fit(tmp_path / name, *OFF, *ONE, f"rewards={judges}", rule)

    small, large = fit("small", 1.0, "per_judge"), fit("large", 1024.0, "per_judge")
    assert largest_difference(small, large) < 1e-6  # a power of two scales floats exactly, the summed moments nearly
    assert largest_difference(fit("a", 1.0, "sum"), fit("b", 1024.0, "sum")) > 1e-3


@pytest.mark.parametrize(
    "options",
    [
        ["incentive.method=gardo", "objective.kl_weight=0.1"],
        ["incentive.method=diverse_grpo", "objective.kl_weight=0.1", "objective.kl_form=mean"],
        ["incentive.method=inverse_probability"],
        ["incentive.method=dra"],
        ["incentive.shaping.weight=1", "incentive.shaping.form=per_step"],
        ["incentive.shaping.weight=1", "incentive.shaping.potential=nearest"],
        ["incentive.shaping.weight=1", "incentive.shaping.potential=logdet"],
        ["incentive.shaping.weight=1", "incentive.shaping.potential=vendi"],
        ["incentive.shaping.weight=1", "incentive.shaping.gate=median"],
        ["incentive.prompting.rule=embedding_noise", "incentive.prompting.form=cads"],
        ["incentive.prompting.rule=variants", "incentive.prompting.templates=['{prompt} now']"],
        ["incentive.selection.rule=quantile", "incentive.selection.high=0.6"],
        ["sampler.shared_prefix=true"],
        ["objective.kl_weight=0.5", "objective.kl_form=mean"],
    ],
    ids=lambda options: " ".join(option.partition(".")[2] for option in options[-1:]),
)
def test_each_option_trains_changes_the_run_and_starts_at_ratio_one(
    world: TinyWorld, tmp_path: Path, options: list[str]
) -> None:
    """Catches in training/updates/clipped.py: replay under the clean prompt.
    Catches in incentive/method.py: a method's rewards, or its advantages, ignored.
    """
    settings = [*OFF, BRIGHTNESS, "objective.micro_batch=8"]
    plain = world.fit(tmp_path / "plain", *ONE, *settings)
    metrics = first_metrics(world, tmp_path / "changed", *settings, *options)
    # exact where the replay's batches are the rollout's own; a batch with fewer rows takes another matrix product
    assert metrics["policy/ratio_deviation_first"] <= (0 if metrics["selection/kept_fraction"] == 1 else 1e-6)
    assert np.isfinite(metrics["policy/grad_norm"])
    assert metrics["policy/grad_norm"] > 0
    changed = torch.load(tmp_path / "changed" / "checkpoints" / "last.ckpt", weights_only=True)
    assert largest_difference(plain, changed) > 1e-5


def test_a_per_step_bonus_differs_from_step_to_step(world: TinyWorld, tmp_path: Path) -> None:
    """Terminal and per-step bonuses of the same group are not the same advantage."""
    shaping = [*OFF[:2], *ONE, "rewards=[{name: 'judges:Constant'}]", "incentive.shaping.weight=1"]
    terminal = world.fit(tmp_path / "terminal", *shaping)
    stepwise = world.fit(tmp_path / "stepwise", *shaping, "incentive.shaping.form=per_step")
    assert largest_difference(terminal, stepwise) > 1e-4


def test_several_encoders_shape_together(world: TinyWorld, tmp_path: Path) -> None:
    """Twice the same encoder is that encoder; another one is not."""
    one = f"{{name: dino, args: {{pretrained: {world.root}/shaping}}}}"
    other = f"{{name: pooled, args: {{pretrained: {world.root}/evaluation}}, weight: 3}}"
    settings = [*OFF[:2], *ONE, "rewards=[{name: 'judges:Constant'}]", "incentive.shaping.weight=1"]
    single = world.fit(tmp_path / "single", *settings)
    twice = world.fit(tmp_path / "twice", *settings, f"incentive.shaping.encoders=[{one}, {one}]")
    mixed = world.fit(tmp_path / "mixed", *settings, f"incentive.shaping.encoders=[{one}, {other}]")
    # Adam divides a gradient by its size, so rounding of the smallest entries is seen; another encoder changes them all
    assert largest_difference(single, twice) < 0.1 * largest_difference(single, mixed)


def test_evaluation_at_scale_zero_is_the_base_and_at_another_resolution_is_not(
    world: TinyWorld, tmp_path: Path
) -> None:
    """Catches in evaluation/sampling.py: LoRA scale, or importance guidance, ignored; guidance annealed backwards."""

    def summary(name: str, *overrides: str) -> dict[str, dict[str, float]]:
        world.fit(tmp_path / name, *ONE, *OFF, BRIGHTNESS, "sampler.eval_steps=4", *overrides)
        return json.loads((tmp_path / name / "summary.json").read_text())

    plain = summary("plain")
    assert plain["tuned"] != plain["base"]
    off = summary("off", "sampler.eval_lora_scale=0")
    assert off["tuned"] == pytest.approx(plain["base"], abs=1e-6)
    assert off["base"] == plain["base"]
    # u^p with u < 1: a huge power is the reference alone
    assert summary("guided", "sampler.eval_importance_power=1e6")["tuned"] == pytest.approx(plain["base"], abs=1e-6)
    between = summary("half", "sampler.eval_importance_power=1")["tuned"]
    assert between != pytest.approx(plain["base"], abs=1e-6)
    assert between != pytest.approx(plain["tuned"], abs=1e-6)
    assert summary("small", "evaluation.resolution=8")["base"] != plain["base"]
    grid = np.load(tmp_path / "small" / "evaluation" / "test" / "points" / "base.npz")["grid"]
    assert grid.shape[-2:] == (8, 8)


def test_a_run_that_the_alarm_ends_is_finished_and_goes_on_when_asked(
    world: TinyWorld, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """A threshold of twice the start's diversity fires at once."""
    run = tmp_path / "run"
    message = "warning: iteration 1: the groups' diversity is 100% of its initial value"
    alarm = ["trainer.alarm.threshold=2", "trainer.alarm.stop=true", "trainer.iterations=4", "trainer.save_every=1"]
    world.fit(run, *alarm)
    assert message in capsys.readouterr().err
    assert json.loads((run / "summary.json").read_text())["iterations"] == 1
    state = world.fit(run, *alarm[2:], "trainer.alarm.threshold=0", "ckpt_path=last")
    assert state["PromptDataModule"]["iteration"] == 4
    assert_same_training_state(state, world.fit(tmp_path / "quiet", *alarm[2:]))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["incentive.method=gardo"], "has its own diversity term: set incentive.shaping.weight=0"),
        (["incentive.args={a: 1}"], "incentive.args is for a rival method: name one, e.g. incentive.method=gardo"),
        (["incentive.selection.keep=9"], r"keep=9 does not lie in \[2, prompts.group_size=4\]: use e.g. 4"),
        (["incentive.selection.low=0.9", "incentive.selection.high=0.5"], "must satisfy 0 <= low < high <= 1"),
        (["evaluation.extra=[fad]"], "evaluation.extra=\\[fad\\] should be a list of rke, nearest_distance"),
        (["incentive.prompting.share=1.5"], r"incentive.prompting.share=1.5 should be less than or equal to 1"),
        (["incentive.prompting.rule=variants"], "needs texts: give incentive.prompting.paraphrases=FILE"),
        (
            ["incentive.method=dra", "incentive.shaping.weight=0", "objective.reward_normalisation=per_judge"],
            "set objective.reward_normalisation=sum",
        ),
        (
            ["incentive.method=dra", "incentive.shaping.weight=0", "incentive.args={beta: 1}"],
            "incentive.args: got an unexpected keyword argument 'beta' for 'dra'",
        ),
    ],
)
def test_what_cannot_be_is_refused(world: TinyWorld, tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        world.fit(tmp_path / "run", *overrides)


def test_judges_in_a_thread_change_no_bit_of_a_run(world: TinyWorld, tmp_path: Path) -> None:
    """Groups of four in micro-batches of three; a network judges each group while the next is sampled."""
    settings = ["trainer.iterations=2", "trainer.judge_groups=1", "objective.micro_batch=3"]
    beside = world.fit(tmp_path / "beside", *settings, "trainer.judge_thread=true")
    assert_same_training_state(beside, world.fit(tmp_path / "after", *settings))
