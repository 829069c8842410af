"""Whole runs whose prompts name their rewards."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import TinyWorld, assert_equal, assert_same_training_state, load
from same_runs import summary_of

from drift_pl.core.types import Scores
from drift_pl.incentive.method import Method

BOTH = "rewards=[{name: 'judges:Brightness'}, {name: 'judges:Redness', args: {scale: 100.0}}]"
ONE = "rewards=[{name: 'judges:Brightness'}]"
SHORT = ["trainer.iterations=2", "prompts.per_iteration=2", "objective.updates=1", "objective.advantage_std=global"]


@pytest.fixture(autouse=True)
def judges_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def lists(folder: Path, world: TinyWorld, *rewards: str | None) -> list[str]:
    """The tiny world's prompts in JSON lines; their rewards in turn, None for a line without."""
    arguments = []
    for which in ("train", "test"):
        texts = (world.root / f"{which}.txt").read_text().splitlines()
        lines = [{"prompt": text, "reward": rewards[number % len(rewards)]} for number, text in enumerate(texts)]
        lines = [{key: value for key, value in line.items() if value is not None} for line in lines]
        file = folder / f"{which}.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        arguments += [f"prompts.{name}={file}" for name in (["train"] if which == "train" else ["tuning", "test"])]
    return arguments


def test_a_reward_that_no_prompt_names_is_as_good_as_absent(world: TinyWorld, tmp_path: Path) -> None:
    """Weights, optimizer and measurements are those of a run without it, bit for bit.

    Catches in training/scoring.py: tasks of the reward's own, with other floors.
    """
    named = lists(tmp_path, world, "Brightness")
    with_it = world.fit(tmp_path / "both", *SHORT, *named, BOTH)
    without = world.fit(tmp_path / "one", *SHORT, ONE)
    assert_same_training_state(with_it, without)
    ours, theirs = summary_of(tmp_path / "both"), summary_of(tmp_path / "one")
    assert_equal(ours["tuned"]["reward"], theirs["tuned"]["reward"], "reward")
    assert_equal(ours["tuned"]["reward/Brightness"], theirs["tuned"]["reward/Brightness"], "reward/Brightness")


def test_a_run_of_two_tasks_is_resumed_as_if_uninterrupted(world: TinyWorld, tmp_path: Path) -> None:
    """With a spread of the base per task; the evaluation's means are over the prompts of each reward.

    Catches in training/module.py: the tasks' spreads measured again after a resume.
    """
    mixed = [*lists(tmp_path, world, "Brightness", "Redness"), BOTH, *SHORT, "trainer.save_every=1"]
    whole = world.fit(tmp_path / "whole", *mixed, "trainer.iterations=3")
    world.fit(tmp_path / "part", *mixed, "trainer.iterations=1")
    part = world.fit(tmp_path / "part", *mixed, "trainer.iterations=3", "ckpt_path=last")
    assert_same_training_state(whole, part)
    assert load(tmp_path / "whole")["state_dict"]["base_group_std"].shape == (2,)
    assert torch.isfinite(whole["state_dict"]["base_group_std"]).all()
    record = json.loads((tmp_path / "whole" / "evaluation" / "test.json").read_text())
    assert [judge.partition(" on ")[2][:14] for judge in record["protocol"]["judges"]] == ["1 of 2 prompts"] * 2
    point = record["points"][-1]
    bright, red = (point["per_prompt"][f"reward/{name}"] for name in ("Brightness", "Redness"))
    assert bright[1] is None
    assert red[0] is None
    assert point["per_prompt"]["reward"] == [bright[0], red[1]]
    assert point["values"]["reward/Redness"]["mean"] == red[1]


def test_the_floor_under_a_groups_spread_is_its_tasks(
    world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches in training/module.py: the first task's spread of the base for all groups."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    advantage = Method.advantage

    def watched(method: Method, scores: Scores, *rest: Any) -> Any:
        assert scores.tasks is not None
        seen.append((scores.tasks.task_P, rest[-1].clone()))
        return advantage(method, scores, *rest)

    monkeypatch.setattr(Method, "advantage", watched)
    mixed = lists(tmp_path, world, "Brightness", "Redness")
    options = [*SHORT, "prompts.per_iteration=4", "trainer.iterations=1"]
    base_X = world.fit(tmp_path / "run", *mixed, BOTH, *options)["state_dict"]["base_group_std"]
    (task_P, floor_P1) = seen[0]
    assert sorted(set(task_P.tolist())) == [0, 1]
    assert base_X[0] != base_X[1]
    assert torch.equal(floor_P1, base_X[task_P][:, None])
