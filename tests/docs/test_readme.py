"""The README says nothing that is not so: its commands are read, its links lead somewhere, its example reward runs."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import torch

from drift_pl.config.loading import parse
from drift_pl.core.registry import create
from drift_pl.scoring.rewards import WeightedReward

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```\w*\n(.*?)```", README, re.DOTALL)
FIT_COMMANDS = [
    shlex.split(line, comments=True)
    for block in BLOCKS
    for line in block.splitlines()
    if "-m drift_pl.fit" in line and "my_rewards" not in line
]


def test_there_are_commands() -> None:
    assert len(FIT_COMMANDS) > 5


@pytest.mark.parametrize("command", FIT_COMMANDS, ids=" ".join)
def test_fit_commands_are_understood(command: list[str]) -> None:
    parse(command[command.index("drift_pl.fit") + 1 :])


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", README))))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^make (\w[\w-]*)", README, re.MULTILINE))))
def test_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_example_reward_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = next(block for block in BLOCKS if "class Redness" in block)
    (tmp_path / "my_rewards.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_rewards", raising=False)  # another test's module of that name
    judge = WeightedReward("Redness", create("reward", "my_rewards:Redness", {}))
    images = torch.zeros(2, 3, 4, 4)
    images[0, 0] = 1
    assert judge(images, ["a", "b"]).tolist() == [1.0, 0.0]
