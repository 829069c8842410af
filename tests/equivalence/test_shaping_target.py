"""`incentive.shaping.target`: the weight follows the groups' diversity, and is part of the run's state."""

import math
from pathlib import Path

import pytest
import recorder
import torch
from runs import TinyWorld, assert_same_training_state, load

from drift_pl.config.loading import parse
from drift_pl.core.errors import UserError
from drift_pl.core.types import Scores
from drift_pl.training import parallel
from drift_pl.training.module import DriftModule

TARGET = ["incentive.shaping.weight=2", "incentive.shaping.target=0.97", "incentive.shaping.target_gain=4"]
SETTINGS = [*TARGET, "rewards=[{name: 'judges:Brightness'}]", "trainer.save_every=1"]
RECORDED = "trainer.callbacks=[{name: 'recorder:Recorder'}]"


@pytest.fixture(autouse=True)
def modules_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    recorder.ROWS.clear()


@pytest.fixture(scope="module")
def whole(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four iterations in one go."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        world.fit(run_dir, *SETTINGS, "trainer.iterations=4")
    return run_dir


def test_the_weight_is_what_the_logged_shares_make_of_it(world: TinyWorld, tmp_path: Path) -> None:
    """Oracle: the controller's formula, written down, on the shares that the run logs.

    Catches in training/module.py: the weight of the iteration before; the base measured anew.
    Catches in incentive/method.py: the configured weight used all the same.
    """
    world.fit(tmp_path / "run", *SETTINGS, RECORDED, "trainer.iterations=4", "evaluation.every=1")
    weight = 2.0
    assert recorder.ROWS[0]["shaping/share_of_base"] == pytest.approx(1)
    for row in recorder.ROWS:
        error = min(0.2, max(-0.2, (0.97 - row["shaping/share_of_base"]) / 0.97))
        weight *= math.exp(4 * error)
        assert row["shaping/weight"] == pytest.approx(weight, rel=1e-5)
        spread = row["shaping/potential_group_std"] * row["shaping/weight"]
        assert row["shaping/bonus_group_std"] == pytest.approx(spread, rel=1e-4)
    assert len({row["shaping/weight"] for row in recorder.ROWS}) == 4
    assert float(load(tmp_path / "run")["state_dict"]["shaping_weight"]) == pytest.approx(weight, rel=1e-5)
    bases = {row["shaping/potential"] / row["shaping/share_of_base"] for row in recorder.ROWS}
    assert max(bases) == pytest.approx(min(bases), rel=1e-5), "one base, by the encoder of the bonus"


def test_a_resumed_run_and_one_with_evaluations_are_the_uninterrupted_one(
    world: TinyWorld, whole: Path, tmp_path: Path
) -> None:
    """Catches in training/module.py: the weight, or the base, not in the checkpoint."""
    world.fit(tmp_path / "parts", *SETTINGS, "trainer.iterations=2")
    again = world.fit(tmp_path / "parts", *SETTINGS, "trainer.iterations=4", "ckpt_path=last")
    assert {"shaping_weight", "base_diversity"} < again["state_dict"].keys()
    assert_same_training_state(again, load(whole))
    watched = world.fit(tmp_path / "watched", *SETTINGS, "trainer.iterations=4", "evaluation.every=1")
    assert_same_training_state(watched, load(whole))


def test_a_broken_iteration_leaves_the_weight_as_it_was(
    world: TinyWorld, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The break comes after the weight has been adjusted.

    Catches in training/module.py: the boundary's state without the weight.
    """
    original = DriftModule.update_policy

    def breaking(self: DriftModule, experience: object, *rest: object) -> None:
        if experience.batch.iteration == 2:  # type: ignore[attr-defined]
            raise RuntimeError("broken")
        original(self, experience, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(DriftModule, "update_policy", breaking)
        with pytest.raises(RuntimeError, match="broken"):
            world.fit(tmp_path / "run", *SETTINGS, "trainer.save_every=4", "trainer.iterations=4")
    resumed = world.fit(tmp_path / "run", *SETTINGS, "trainer.save_every=4", "trainer.iterations=4", "ckpt_path=last")
    assert_same_training_state(resumed, load(whole))


def test_without_a_target_there_is_neither_state_nor_a_figure(world: TinyWorld, tmp_path: Path) -> None:
    state = world.fit(tmp_path / "run", RECORDED, "incentive.shaping.weight=2", "trainer.iterations=1")
    assert {name for name in state["state_dict"] if not name.startswith("network.")} == {"base_group_std"}
    assert not recorder.ROWS[0].keys() & {"shaping/weight", "shaping/share_of_base"}


def test_all_processes_take_the_mean_over_all_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes, of two groups and of one that can be measured: 0.2, 0.4 and 0.9.

    Catches in training/parallel.py: a mean of means; a group with one scored image counted as 0.
    """

    def scores(*distances: float, scored: int = 2) -> Scores:
        rows = [torch.tensor([[1.0, 0.0], [1 - d, math.sqrt(1 - (1 - d) ** 2)]]) for d in distances]
        reward = torch.zeros(len(rows), 2)
        reward[-1, scored:] = torch.nan
        return Scores(reward, {}, torch.stack(rows), counts_N=torch.zeros(2).double())

    parts, vectors = (scores(0.2, 0.4), scores(0.9, 0.1, scored=1)), []
    monkeypatch.setattr(parallel, "gather_vectors", lambda vector, device: vectors.append(vector) or vector[None])
    for part in parts:
        parallel.gather_statistics(part, part.reward_PG, part.valid_PG, 1, torch.device("cpu"))
    monkeypatch.setattr(parallel, "gather_vectors", lambda vector, device: torch.stack(vectors))
    for part in parts:
        found = parallel.gather_statistics(part, part.reward_PG, part.valid_PG, 1, torch.device("cpu"))
        assert found.diversity == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["weight=0", "target=0.9"], "target=0.9 adjusts incentive.shaping.weight=0.0, .* use e.g. .*weight=5"),
        (["weight=300", "target=0.9"], "which must start within target_low=0.1 and target_high=100"),
        (["target_low=5", "target_high=5"], "must satisfy low < high, e.g. 0.1 and 100"),
        (["target=-0.5"], r"target=-0.5 should be greater than or equal to 0; use e.g. incentive.shaping.target=0.95"),
        (["target=95"], "target=95 should be less than or equal to 2"),
        (["target_gain=0"], "target_gain=0 should be greater than 0"),
    ],
)
def test_what_cannot_be_a_target_is_refused(given: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        parse(["experiment=shapes_drift", *(f"incentive.shaping.{each}" for each in given)])
