"""Settings reach the constructors that name them."""

import re
from dataclasses import dataclass
from typing import Any

import pytest

from drift_pl.builders.arguments import named_by
from drift_pl.builders.method import build_method, build_selection, build_shaping, build_target, build_update
from drift_pl.config.loading import parse
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError
from drift_pl.incentive.methods.gdpo import Gdpo
from drift_pl.incentive.selection import Band, MinVariance, Quantile
from drift_pl.incentive.shaping import DiversityShaping
from drift_pl.incentive.target import WeightTarget
from drift_pl.training.updates.clipped import ClippedUpdate
from drift_pl.training.updates.nft import NftUpdate


def config_of(*overrides: str) -> Config:
    """On plain Flow-GRPO, which switches every lever off."""
    return parse(["experiment=shapes_flowgrpo", *overrides]).config


@dataclass
class Named:
    learning_rate: float
    trainable_steps: tuple[int, int]
    temperature: float = 2.0
    keep = frozenset()
    updates = 1
    run = None


def variadic(*args: Any, updates: int = 1, **kwargs: Any) -> None:
    """Takes what it does not name, too."""


def test_an_update_gets_the_keys_that_it_names() -> None:
    common = ["objective.inner_epochs=3", "objective.updates=4", "objective.kl_weight=0.5"]
    rest = ["objective.ratio=guard", "objective.step_weights=std", "objective.clip_range=0.25"]
    rest += ["sampler.window_range=[1,3]", "sampler.window_size=1", "objective.kl_form=mean", "objective.micro_batch=2"]
    update = build_update(config_of(*common, *rest))
    assert update == ClippedUpdate(
        inner_epochs=3, updates=4, micro_batch=2, skip_zero_advantage=True, kl_weight=0.5, clip_range=0.25,
        kl_form="mean", ratio="guard", step_weights="std", trainable_steps=(1, 3),
    )  # fmt: skip
    assert update.keep == {"means"}
    nft = ["objective.loss=nft", "policy.guidance_scale=1", "objective.nft_times=7", "objective.nft_beta=0.5"]
    update = build_update(config_of(*common, *nft, "objective.advantage_clip=3", "objective.micro_batch=2"))
    assert update == NftUpdate(
        inner_epochs=3, updates=4, micro_batch=2, skip_zero_advantage=True, kl_weight=0.5, nft_times=7, nft_beta=0.5,
        advantage_clip=3.0,
    )  # fmt: skip
    assert update.keep == frozenset()


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["incentive.prompting.update=clean"], "update=clean gives objective.loss=their.package:Named the clean"),
        (["incentive.prompting.update=varied"], ""),
        (["objective.loss=nft", "incentive.prompting.update=clean"], ""),
        (["objective.loss=awm", "objective.clip_range=1e-4"], "clip_range=0.0001 .* after the first of 2 optimizer st"),
        (["objective.loss=awm", "objective.clip_range=1"], ""),
        (["objective.loss=awm", "objective.clip_range=1e-4", "objective.updates=1"], ""),
    ],
)
def test_an_update_that_may_be_wrong_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder, settings: list[str], says: str
) -> None:
    """Catches in builders/method.py: steps replayed under a condition that nothing was sampled under, and a clip range
    of the surrogate for matching, both without a word."""
    monkeypatch.setattr("drift_pl.core.registry._import", lambda name: Named)
    noisy = ["objective.loss=their.package:Named", "incentive.prompting.rule=embedding_noise"]
    build_update(config_of(*noisy, "policy.guidance_scale=1", *settings))
    assert [bool(re.search(says, str(each.message))) for each in recwarn] == [True] * bool(says)


def test_another_update_gets_keys_steps_and_args(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drift_pl.core.registry._import", lambda name: Named)
    own = ["objective.loss=their.package:Named", "objective.learning_rate=0.5"]
    own += ["sampler.window_range=[1,3]", "sampler.window_size=2"]
    assert build_update(config_of(*own)) == Named(0.5, (1, 3))
    assert build_update(config_of(*own, "objective.args={temperature: 3.0}")) == Named(0.5, (1, 3), 3.0)
    says = r"^objective\.args: .*'temprature' for 'their.package:Named'; its arguments are: learning_"
    with pytest.raises(UserError, match=says):
        build_update(config_of(*own, "objective.args={temprature: 3.0}"))


def test_variadic_parameters_name_no_setting() -> None:
    assert named_by(variadic, {"args": {}, "kwargs": {}, "updates": 3, "other": 2}) == {"updates": 3}


def test_a_rule_gets_its_own_keys() -> None:
    settings = ["incentive.selection.kappa=1.5", "incentive.selection.statistics=median", "incentive.selection.low=0.2"]
    settings += ["incentive.selection.high=0.9", "prompts.group_size=8"]

    def selection(rule: str) -> object:
        return build_selection(config_of(*settings, f"incentive.selection.rule={rule}"))

    assert selection("band") == Band(1.5, "median")
    assert selection("quantile") == Quantile(0.2, 0.9)
    assert selection("min_variance") == MinVariance(6)
    assert build_shaping(config_of("incentive.shaping.weight=0")) is None
    shaping = ["weight=2", "gamma=0.9", "form=per_step", "potential=vendi", "gate=quantile", "gate_quantile=0.25"]
    assert build_shaping(config_of(*(f"incentive.shaping.{each}" for each in shaping))) == DiversityShaping(
        2.0, 0.9, potential="vendi", gate="quantile", gate_quantile=0.25, form="per_step"
    )


def test_a_target_gets_its_own_keys() -> None:
    """Catches in builders/method.py: bounds or a gain that are not passed on; a target without a bonus."""
    keys = ["weight=2", "target=0.9", "target_gain=3", "target_low=0.5", "target_high=20"]
    assert build_target(config_of(*(f"incentive.shaping.{each}" for each in keys))) == WeightTarget(0.9, 3.0, 0.5, 20.0)
    assert build_target(config_of("incentive.shaping.weight=2")) is None


def test_per_reward_normalisation_is_a_method_with_the_judges_weights() -> None:
    """Under the names that they have in the run: the second of a name is NAME#2."""
    judges = "rewards=[{name: 'a:One', weight: 2.0}, {name: 'b:Two', weight: 0.5}, {name: 'c:One'}]"
    method = build_method(config_of("objective.reward_normalisation=per_judge", judges))
    assert method.reward_method == Gdpo({"One": 2.0, "Two": 0.5, "One#2": 1.0})
