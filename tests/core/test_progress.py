"""What a command shows of its work: lines without a terminal, a bar on one, and nothing that stays when it fails.

Catches in core/progress.py: a time left that counts what an earlier part of the run did; a silent minute; a stage
within another that ends it; a thread that goes on after the work.
"""

import os
import pty
import re
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from drift_pl.core.progress import Display, Stage, clock


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (59.6, "0:01:00"), (3599, "0:59:59"), (345600, "96:00:00"), (-1, "0:00:00")]
)
def test_durations(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_time_left_is_at_the_pace_of_this_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten things in 100 s, 30 to go: 300 s; what was done before took none of these seconds."""
    monkeypatch.setattr("drift_pl.core.progress.time", SimpleNamespace(monotonic=lambda: 1000.0))
    stage = Stage("training", total=80, first=40, done=50, began=900.0)
    assert stage.seconds_left() == pytest.approx(300)
    assert stage.line() == "training 50/80  0:01:40, 0:05:00 left"
    assert Stage("training", total=80, first=40, done=40).seconds_left() is None
    assert "left" not in Stage("loading").line()


def test_lines(capsys: pytest.CaptureFixture) -> None:
    with Display("lines") as display:
        with display.stage("loading"):
            pass
        with display.stage("training", 3, "iterations", first=1) as training:
            display.advance("reward 1", done=2)
            with display.stage("measuring", 2, "prompts"):
                display.advance()
                display.advance()
            display.note("first pictures: here")
            display.advance("reward 2", done=3)
            assert training.done == 3
    lines = capsys.readouterr().out.splitlines()
    assert [re.sub(r"\d:\d\d:\d\d", "T", line) for line in lines] == [
        *("loading ...", "training (2 iterations)", "measuring (2 prompts)", "measuring 2/2 prompts  T"),
        *("first pictures: here", "training 3/3 iterations  reward 2  T"),
    ]
    assert "progress" not in [thread.name for thread in threading.enumerate()]


def test_no_minute_is_silent(capsys: pytest.CaptureFixture) -> None:
    """Nothing is done, and all the same there are lines; none after the end."""
    with Display("lines", line_every_s=0.05) as display, display.stage("training", 9), display.stage("measuring", 4):
        time.sleep(1)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("training 0/9 > measuring 0/4  0:00:0")]
    time.sleep(0.2)
    assert capsys.readouterr().out == ""


def test_nothing_is_shown_of_none(capsys: pytest.CaptureFixture) -> None:
    with Display("none") as display, display.stage("training", 2):
        display.advance()
        display.note("first pictures")
    assert capsys.readouterr().out == ""


def test_an_error_ends_what_is_shown(capsys: pytest.CaptureFixture) -> None:
    display = Display("lines")
    with pytest.raises(KeyError), display, display.stage("training", 2):
        raise KeyError
    capsys.readouterr()
    display.note("late")
    with display.stage("later", 1):
        display.advance()
    assert capsys.readouterr().out == ""


def test_a_bar_on_a_terminal() -> None:
    """The bar is drawn over itself and gone at the end; what is said beside it stays."""
    program = """
import time
from drift_pl.core.progress import Display
with Display("auto") as display:
    with display.stage("training [bold]", 2, "iterations"):
        display.advance("reward 1")
        time.sleep(1)
        print("of the reward")
        display.note("first [red]pictures")
        display.advance("reward 2")
print("end")
"""
    ours, theirs = pty.openpty()
    variables = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen([sys.executable, "-c", program], stdout=theirs, stderr=subprocess.PIPE, env=variables)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    assert process.wait(60) == 0, process.stderr
    text = shown.decode()
    for part in (
        "training [bold]",
        "1/2 iterations",
        "reward 1",
        "0:00:0",
        "left",
        "of the reward",
        "first [red]pictures",
    ):
        assert part in text
    assert text.rstrip().endswith("end")


def test_random_states_are_untouched() -> None:
    import random

    state = random.getstate()
    with Display("lines", line_every_s=0.01) as display, display.stage("training", 2):
        time.sleep(0.05)
        display.advance()
    assert random.getstate() == state
