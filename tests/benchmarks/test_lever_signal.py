"""What levers leave of a reward's signal, by hand and in closed form."""

import json
import re
from pathlib import Path

import pytest
import torch
from learning import learning, learning_table
from lever_signal import (
    TRAINED,
    Groups,
    _changed,
    correlation,
    describe,
    effective_share,
    main,
    refuse_without_levers,
    signal,
)
from runs import TinyWorld

from drift_pl.config.loading import parse
from drift_pl.core.errors import UserError
from drift_pl.core.types import Scores, Trajectory
from drift_pl.incentive.method import Method
from drift_pl.incentive.selection import Band
from drift_pl.incentive.shaping import DiversityShaping


def groups_of(reward_PG: torch.Tensor, embedding_PGD: torch.Tensor | None = None) -> list[Groups]:
    images = torch.zeros(reward_PG.numel(), 3, 1, 1)
    trajectory = Trajectory(images[None], torch.zeros(0, len(images)), (), 4, images, images)
    return [Groups(Scores(reward_PG, {}, embedding_PGD), trajectory)]


@pytest.mark.parametrize(("misses", "left"), [(1, 0.0), (3, 0.0), (4, 1.0), (8, 1.0), (12, 1.0), (13, 0.0)])
def test_a_band_drops_any_minority_below_a_fifth(misses: int, left: float) -> None:
    """Of two values, the rarer one of share p lies sqrt((1 - p) / p) deviations from the mean: above 2 for p < 1/5.

    So with 16 images up to three misses, or up to three hits, are dropped, and the group teaches nothing.

    Catches in benchmarks/fronts/lever_signal.py: the bonus alone reported as the selection.
    """
    reward = torch.cat([torch.zeros(misses), torch.ones(16 - misses)])[None]
    found = describe(Method(selection=Band(2.0, "mean")), groups_of(reward))
    for part in ("selection", "both"):
        assert found[part]["slope"] == pytest.approx(left)
    assert found["bonus"]["slope"] == 1
    assert found["kept"] == pytest.approx(1.0 if left else max(misses, 16 - misses) / 16)
    assert found["best_dropped"] == (left == 0 and misses > 8)
    assert found["worst_dropped"] == (left == 0 and misses < 8)
    assert found["bonus_correlation"] is None


def test_a_bonus_that_follows_the_reward_and_one_that_takes_it_back() -> None:
    """Rewards -1, -1, 1, 1 (their own advantages), distances 2, 2 (of the two that score low) and 1, 1 in angle terms.

    Embeddings at 0, 180 and 90, 90 degrees: d = (2 + 1 + 1) / 3 twice and (1 + 1 + 0) / 3 twice, centred +1/3 and -1/3.
    So the slope is 2/3 at weight 1, with the same direction; the residual leaves nothing of the bonus.

    Catches in benchmarks/fronts/lever_signal.py: the slope by the length of both; the signal of the reward itself.
    """
    reward = torch.tensor([[-1.0, -1.0, 1.0, 1.0]])
    embedding = torch.tensor([[[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]])
    groups = groups_of(reward, embedding)
    found = describe(Method(shaping=DiversityShaping(1.0)), groups)
    assert found["bonus"] == found["both"] == pytest.approx({"slope": 2 / 3, "cosine": 1.0})
    assert found["selection"]["slope"] == 1
    assert found["bonus_correlation"] == pytest.approx(-1)
    residual = describe(Method(shaping=DiversityShaping(1.0, normalise="residual")), groups)
    assert residual["both"] == pytest.approx({"slope": 1.0, "cosine": 1.0})


def test_a_bonus_beside_the_reward_costs_direction_and_no_slope() -> None:
    plain, beside = torch.tensor([[1.0, -1.0, 1.0, -1.0]]), torch.tensor([[1.0, 1.0, -1.0, -1.0]])
    assert signal(plain + beside, plain) == pytest.approx({"slope": 1.0, "cosine": 0.5**0.5})
    assert signal(0.25 * plain, plain) == pytest.approx({"slope": 0.25, "cosine": 1.0})
    assert signal(0 * plain, plain) == {"slope": 0.0, "cosine": 0.0}


def test_shares_and_correlations_by_hand() -> None:
    """Catches in benchmarks/fronts/lever_signal.py: a correlation that sees the groups' means."""
    assert effective_share(torch.tensor([[1.0, -1.0, 1.0, -1.0]])) == 1
    assert effective_share(torch.tensor([[4.0, 0.0, 0.0, 0.0]])) == 0.25
    first, second = torch.tensor([[0.0, 1.0], [10.0, 11.0]]), torch.tensor([[21.0, 20.0], [31.0, 30.0]])
    assert correlation(first, second) == pytest.approx(-1)


def test_a_run_without_levers_is_refused(tmp_path: Path) -> None:
    for settings in (
        ["incentive.selection.rule=none", "incentive.shaping.weight=0"],
        ["incentive.method=dra", "incentive.shaping.weight=0"],
    ):
        with pytest.raises(UserError, match="has neither selection nor shaping: give a run with levers"):
            refuse_without_levers(parse(["experiment=shapes_drift", *settings]).config, tmp_path)
    with pytest.raises(UserError, match="has a bonus for each step"):
        refuse_without_levers(parse(["experiment=shapes_drift", "incentive.shaping.form=per_step"]).config, tmp_path)


@pytest.mark.parametrize(
    "setting", ["objective.loss=nft", "incentive.method=dra", "incentive.shaping.encoders=[]", "seed=1"]
)
def test_further_settings_that_need_other_images_are_refused(setting: str) -> None:
    """Catches in benchmarks/fronts/lever_signal.py: a row for settings that the images do not have."""
    with pytest.raises(UserError, match=rf"--also {re.escape(setting)}: only settings of selection and shaping"):
        _changed(["experiment=shapes_drift"], f"incentive.selection.rule=none {setting}")


def test_bad_arguments_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--iterations", "0"]) == 2
    assert main([str(tmp_path / "nowhere")]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == "error: --iterations 0: give at least 1"
    assert second.startswith(f"error: {tmp_path}/nowhere/csv/metrics.csv does not exist")


def test_the_speed_of_learning_is_the_slope_by_least_squares(tmp_path: Path) -> None:
    """Rewards 0, 1, 1 at iterations 1 to 3: slope 1/2. Rows of evaluations have no reward and do not count.

    Catches in benchmarks/fronts/learning.py: last less first over the number of rows; the KL of all iterations.
    """
    folder = tmp_path / "a" / "csv"
    folder.mkdir(parents=True)
    lines = ["iteration,reward/mean,policy/kl,final/reward", "1,0,0.1,", "2,1,0.1,", "3,1,0.4,", ",,,0.9"]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    found = learning(tmp_path / "a")
    assert found["reward_per_iteration"] == pytest.approx(0.5)
    assert (found["kl"], found["kept"], found["iterations"], found["run"]) == (0.4, None, 3, "a")
    assert "| a | 50.000 |  |  |  |  | 0.4 |" in learning_table([found])
    assert learning(tmp_path / "a", first=2)["reward_per_iteration"] == pytest.approx(1.0)
    (folder / "metrics.csv").write_text("\n".join(lines[:2]))
    with pytest.raises(UserError, match="has 1 iterations: a slope needs two"):
        learning(tmp_path / "a")
    with pytest.raises(UserError, match=r"trainer\.logger=\[csv\]"):
        learning(tmp_path)


def test_a_run_has_a_row_for_the_base_and_each_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    TinyWorld.create(tmp_path).fit(run, "trainer.iterations=2", "trainer.save_every=2", "trainer.logger=[csv]")
    also = "incentive.selection.rule=none incentive.shaping.normalise=residual"
    assert main([str(run), "--iterations", "1", "--out", str(tmp_path / "out.json"), "--also", also]) == 0
    rows = json.loads((tmp_path / "out.json").read_text())["signal"]
    assert [(row["run"], row["iteration"], [*row["methods"]]) for row in rows] == [
        ("run", 0, [TRAINED, also]),
        ("run", 2, [TRAINED, also]),
    ]
    for row in rows:
        assert row["methods"][also]["both"]["slope"] == pytest.approx(1, abs=1e-4)
        assert row["methods"][also]["kept"] == 1
    assert f"| 2 | {also} | 1.00 |" in capsys.readouterr().out
