"""Settings under which a run would learn nothing are refused, and levers that they leave without effect are named."""

import warnings

import pytest
import torch

from drift_pl.builders.stochastic_steps import _warn_of_late_noise
from drift_pl.config.batches import derive_batches
from drift_pl.config.loading import parse
from drift_pl.config.signal import quantile_keeps
from drift_pl.core.errors import UserError
from drift_pl.incentive.selection import MaxVariance, MinVariance, NearMedian, Quantile
from drift_pl.policies.process import FlowProcess

PLAIN = "experiment=shapes_flowgrpo"
QUANTILE = "incentive.selection.rule=quantile"
MAX_AT_K = "incentive.method=max_at_k"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["rewards.0.weight=0"], "rewards have weight 0 and incentive.shaping.weight=0, .* rewards.0.weight=1"),
        ([QUANTILE, "prompts.group_size=2"], "keep one image of prompts.group_size=2"),
        (
            [QUANTILE, "prompts.group_size=3", "incentive.selection.low=0.1"],
            "compared with no other: use e.g. incentive.selection.rule=none",
        ),
        (
            [MAX_AT_K, "incentive.selection.rule=band"],
            "which incentive.selection.rule=band drops: use .*=none or max_v",
        ),
        ([MAX_AT_K, QUANTILE], "which incentive.selection.rule=quantile drops"),
        (
            ["experiment=sd15_ddpo_aesthetic", "objective.step_weights=inverse_length"],
            "inverse_length is for flow models, .* policy.family=sd15 is not one: use none or std",
        ),
    ],
)
def test_a_run_without_a_signal_is_refused(settings: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse([PLAIN, *settings])


@pytest.mark.parametrize(
    "settings",
    [
        ["rewards.0.weight=0", "incentive.shaping.weight=1"],
        [QUANTILE, "prompts.group_size=3"],
        [MAX_AT_K, "incentive.selection.rule=max_variance"],
    ],
)
def test_what_has_a_signal_is_taken(settings: list[str]) -> None:
    parse([PLAIN, *settings])


@pytest.mark.parametrize("size", [2, 3, 5, 16, 26, 51])
@pytest.mark.parametrize(("low", "high"), [(0, 0.9), (0.1, 0.9), (0.28, 0.58), (0.14, 0.56), (0.5, 0.75)])
def test_a_quantile_that_falls_on_an_image_keeps_it(size: int, low: float, high: float) -> None:
    """Oracle: fractions of integers, in which 0.28 x 25 is 7.

    Catches in incentive/selection.py: rounding of the rank drops an image; in config/signal.py: the same.
    """
    reward_PG = torch.rand(8, size, generator=torch.Generator().manual_seed(size))
    per_mille = [round(1000 * share) * (size - 1) for share in (low, high)]
    expected = per_mille[1] // 1000 - -(-per_mille[0] // 1000) + 1
    assert Quantile(low, high)(reward_PG).sum(1).tolist() == [max(expected, 0)] * 8
    selection = parse([PLAIN, f"incentive.selection.low={low}", f"incentive.selection.high={high}"]).config
    assert quantile_keeps(selection.incentive.selection, size) == expected


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (["incentive.selection.rule=min_variance", "prompts.group_size=3"], "incentive.selection.rule=min_variance"),
        (["objective.loss=flow_dppo", "objective.updates=1"], "objective.kl_limit"),
        (["sampler.solver=dpm2", "sampler.window_size=null", "sampler.window_range=[]"], "sampler.solver=dpm2"),
        (["objective.ema_decay=0.9", "objective.ema_every=500"], "ema_every up to the run's 160 optimizer steps"),
        (["sampler.noisy_steps=all", "sampler.window_size=null", "sampler.window_range=[]"], "sampler.noisy_steps=all"),
    ],
)
def test_levers_without_effect_are_named(settings: list[str], name: str) -> None:
    assert any(name in each for each in parse([PLAIN, *settings]).ignored)


@pytest.mark.parametrize("size", [2, 3, 5, 16])
def test_they_keep_every_image(size: int) -> None:
    """What the warning says: three quarters of a group of two or three are all of it."""
    reward_PG = torch.rand(64, size, generator=torch.Generator().manual_seed(size))
    keep = -(-3 * size // 4)
    for rule in (MinVariance(keep), NearMedian(keep), MaxVariance(keep)):
        assert bool(rule(reward_PG).all()) == (size < 4)


def test_a_range_without_a_size_is_trained_whole() -> None:
    """Catches in config/batches.py: a window of all steps that does not fit into its range, a crash of the run."""
    config = parse([PLAIN, "sampler.window_size=null", "sampler.window_range=[1,3]"]).config
    assert derive_batches(config).trained_steps == 2


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        (["sampler={steps: 6, window_range: [3, 5], shared_prefix: true}"], True),
        (["sampler={steps: 6, window_range: [2, 5], shared_prefix: true}"], False),
        (["sampler={steps: 6, window_range: [3, 5]}"], False),
        (["sampler={steps: 6, window_range: [3, 5], shared_prefix: true}", "incentive.prompting.low=0.4"], False),
    ],
)
def test_noise_that_only_a_shared_prefix_would_have_is_named(settings: list[str], warned: bool) -> None:
    """Levels 1, 5/6, 4/6, 3/6 ... and noise above 0.6."""
    noise = ["incentive.prompting.rule=embedding_noise", "incentive.prompting.scale=0.5", "sampler.window_size=1"]
    config = parse([PLAIN, *noise, *settings]).config
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _warn_of_late_noise(config, FlowProcess(), torch.linspace(1, 0, config.sampler.steps + 1))
    assert [("embedding_noise has no effect" in str(each.message)) for each in caught] == [True] * warned
