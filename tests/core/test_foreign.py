"""Errors of somebody's code: one line with its place, however deep it is called; errors of our own keep a traceback."""

import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from drift_pl.config.command import run_command
from drift_pl.core.errors import UserError
from drift_pl.core.foreign import is_of_foreign_code
from drift_pl.core.types import Scores
from drift_pl.incentive.method import Method
from drift_pl.incentive.methods.protocol import RewardMethod
from drift_pl.scoring.calls import call


class Broken(RewardMethod):
    def reward(self, scores: Scores) -> Tensor:
        raise ValueError("out of paint\nreally")


def rewarded(argv: list[str]) -> None:
    Method(reward_method=Broken()).effective_reward(Scores(torch.zeros(1, 2), {}, None))


def mistaken(argv: list[str]) -> None:
    raise ValueError("a bug of the command itself")


def test_a_command_tells_an_error_of_a_plug_in_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches in config/command.py: a method, an update or a callback that fails ends in a traceback and status 1."""
    assert run_command(rewarded, []) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: code that the settings name failed: ValueError: out of paint (")
    assert f"{Path(__file__).name}, line " in line
    assert line.endswith("; --debug shows all\n")
    assert line.count("\n") == 1
    assert run_command(rewarded, ["--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_an_error_on_its_way_up_is_known_by_what_called_it() -> None:
    """As Lightning tells it to callbacks: its traceback begins in Lightning, below the frames of this package.

    Catches in core/foreign.py: on several processes a callback that fails is called a bug, with status 1.
    """
    inside = f"{sysconfig.get_path('purelib')}/lightning/made_up.py"
    library: dict[str, Any] = {}
    code = "def run(*callbacks):\n try:\n  callbacks[0]()\n except ValueError as error:\n  found.append(tell(error))"
    exec(compile(code, inside, "exec"), library)
    found: list[bool] = []
    library |= {"found": found, "tell": is_of_foreign_code}

    def fails() -> None:
        raise ValueError("out of paint")

    call("the callback", lambda images: (library["run"](fails), images)[1], torch.zeros(1, 3, 2, 2))
    library["run"](fails)
    assert found == [True, False]


def test_a_bug_of_a_command_is_still_one() -> None:
    """A script that calls commands, such as those of benchmarks/, is no plug-in.

    Catches in core/foreign.py: every error below a script is taken for one of somebody's code.
    """
    with pytest.raises(ValueError, match="a bug of the command itself"):
        run_command(mistaken, [])


def test_a_reward_that_exits_has_failed() -> None:
    """Catches in scoring/calls.py: `sys.exit` in a reward ends a run as SIGTERM does, and a scheduler repeats it."""

    def leaves(images: Tensor) -> Tensor:
        sys.exit(3)

    with pytest.raises(UserError, match=r"^the reward 'x' failed: SystemExit: 3 \(.*test_foreign\.py, line \d+\)"):
        call("the reward 'x'", leaves, torch.zeros(1, 3, 2, 2))


def test_the_place_is_that_of_the_code_that_was_given() -> None:
    """Not that of the library in which it failed."""
    with pytest.raises(UserError, match=r"test_foreign\.py, line \d+\); --debug shows all$"):
        call("the reward 'x'", lambda images: torch.stack([]), torch.zeros(1, 3, 2, 2))
