"""An update and a method from outside of the package train, by a name with a colon and nothing else."""

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import TinyWorld, assert_same_training_state, largest_difference, load

from drift_pl.builders.method import build_update
from drift_pl.config.loading import parse
from drift_pl.core.errors import UserError
from drift_pl.fit import fit

TESTS = Path(__file__).parents[1]
OFF = ["incentive.selection.rule=none", "incentive.prompting.rule=none", "incentive.shaping.weight=0"]
BRIGHTNESS = "rewards=[{name: 'judges:Brightness'}]"
REINFORCE, WINNERS = "objective.loss=my_update:Reinforce", "incentive.method=my_method:Winners"
TWO = ["trainer.iterations=2", "objective.learning_rate=0.001", "objective.skip_zero_advantage=false"]


@pytest.fixture(autouse=True)
def things_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (TESTS / "extending", TESTS / "equivalence"):
        monkeypatch.syspath_prepend(str(folder))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return TinyWorld.create(tmp_path_factory.mktemp("world"))


def train(world: TinyWorld, run_dir: Path, *overrides: str) -> dict[str, Any]:
    """Two iterations; returns the last checkpoint."""
    fit(parse([*world.overrides(), *OFF, BRIGHTNESS, *TWO, *overrides, f"run_dir={run_dir}"]).config)
    return load(run_dir)


def test_where_the_policy_has_not_moved_reinforce_is_the_surrogate(world: TinyWorld, tmp_path: Path) -> None:
    """At ratio 1 the gradient of A p / p_old is that of A log p; the clip tells a second step on the images apart."""
    one = ["objective.updates=1", "objective.clip_range=1e-7"]
    twice = [*one, "objective.inner_epochs=2"]
    ours = train(world, tmp_path / "ours", *one, REINFORCE)
    surrogate = train(world, tmp_path / "surrogate", *one)
    start = train(world, tmp_path / "start", *one, "objective.learning_rate=1e-12")
    assert largest_difference(ours, surrogate) < 1e-6
    assert largest_difference(ours, start) > 1e-4
    ours = train(world, tmp_path / "ours2", *twice, REINFORCE)
    assert largest_difference(ours, train(world, tmp_path / "surrogate2", *twice)) > 1e-4


def test_an_updates_own_arguments_come_from_args(world: TinyWorld, tmp_path: Path) -> None:
    plain = train(world, tmp_path / "plain", REINFORCE)
    named = train(world, tmp_path / "named", REINFORCE, "objective.args={baseline: 0.0}")
    moved = train(world, tmp_path / "moved", REINFORCE, "objective.args={baseline: 0.5}")
    assert_same_training_state(plain, named)
    assert largest_difference(plain, moved) > 1e-4


def test_a_method_sees_scores_and_says_what_is_rewarded(world: TinyWorld, tmp_path: Path) -> None:
    """Who wins does not depend on by how much: a judge of another scale trains the same weights."""
    louder = "rewards=[{name: 'judges:Brightness', weight: 8}]"
    ours = train(world, tmp_path / "ours", WINNERS, "incentive.args={count: 2}")
    other = train(world, tmp_path / "louder", louder, WINNERS, "incentive.args={count: 2}")
    assert_same_training_state(ours, other)
    single = train(world, tmp_path / "single", WINNERS)
    assert largest_difference(ours, single) > 1e-4
    assert largest_difference(ours, train(world, tmp_path / "plain")) > 1e-4


def test_keys_that_an_update_from_elsewhere_does_not_take_are_named(world: TinyWorld) -> None:
    """Those of this package's updates that are not at their defaults; `advantage_clip` is the method's.

    Catches in builders/arguments.py: a clip of advantages that is said to have no effect.
    """
    kept = ["objective.inner_epochs=2", "objective.advantage_std=global", "objective.advantage_clip=3"]
    config = parse([*world.overrides(), REINFORCE, *kept, "objective.clip_range=0.5", "objective.nft_times=2"]).config
    message = "without effect: objective.nft_times, objective.clip_range (not taken by objective.loss=my_update:Rei"
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}"):
        build_update(config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_update(parse([*world.overrides(), REINFORCE, *kept, "objective.clip_range=1e-4"]).config)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_kl_weight_that_no_loss_asks_for_is_warned_of(
    world: TinyWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str], weight: float
) -> None:
    """Catches in training/updates/passes.py: a KL weight without effect, of which a run's settings and card speak."""
    world.fit(tmp_path / "run", REINFORCE, *OFF, f"objective.kl_weight={weight}", "trainer.iterations=1")
    said = "objective.kl_weight=0.5 has no effect: the loss of objective.loss has not called `divergence`"
    assert (said in capfd.readouterr().err) == (weight > 0)


def test_winners_by_hand() -> None:
    from my_method import Winners

    from drift_pl.core.types import Scores

    reward = torch.tensor([[0.1, 0.9, torch.nan, 0.5], [2.0, 2.0, 1.0, 2.0]])
    expected = torch.tensor([[0.0, 1.0, torch.nan, 1.0], [1.0, 1.0, 0.0, 1.0]])
    torch.testing.assert_close(Winners(2).reward(Scores(reward, {}, None)), expected, equal_nan=True)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            [REINFORCE, "objective.args={base: 1}"],
            "objective.args: got an unexpected keyword argument 'base' for 'my_update:Reinforce'; its arguments are:",
        ),
        (
            [WINNERS, "incentive.args={counts: 1}"],
            "incentive.args: got an unexpected keyword argument 'counts' for 'my_method:Winners'; its arguments are: "
            "count",
        ),
        (["objective.loss=my_update:Reinfroce"], "objective.loss='my_update:Reinfroce' cannot be imported: module"),
        (["objective.loss=surogate"], "objective.loss=surogate should be one of surrogate, flow_dppo, nft, awm, th"),
        (["incentive.method=gardoo"], "incentive.method=gardoo should be one of drift, gardo, "),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_setting(
    world: TinyWorld, tmp_path: Path, changes: list[str], says: str
) -> None:
    with pytest.raises(UserError) as caught:
        train(world, tmp_path / "run", *changes)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)
