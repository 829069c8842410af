"""Runs that are killed at any moment end as the run that nobody has killed, to the bit.

The whole campaign: `python -m pytest tests/campaign/test_kills.py -m slow -s`. CAMPAIGN_KILLS and CAMPAIGN_SEED in the
environment change how many kills there are (100), and when.
"""

import os
from pathlib import Path

import pytest
from campaign.killing import SETTINGS, SHORT, Killed, Moment, Whole, campaign, table
from campaign.server import Server, lines
from runs import TinyWorld

KILLS, SEED = int(os.environ.get("CAMPAIGN_KILLS", "100")), int(os.environ.get("CAMPAIGN_SEED", "0"))
CHOSEN: tuple[Moment, ...] = (
    {"in": "base", "number": 2, "delay_s": 0.0},
    {"in": "file", "name": "checkpoints/", "number": 1, "bytes": 3000},
    {"in": "call", "name": "last.ckpt", "number": 4},  # made, opened, synced, renamed
    {"in": "look", "number": 1, "delay_s": 0.01},
    {"in": "final", "number": 2, "delay_s": 0.0},
    {"in": "call", "name": "report.html", "number": 1},
)
"""For the short form, in the order of a run."""


def test_a_run_that_is_killed_seven_times(server: Server, world: TinyWorld, tmp_path: Path) -> None:
    """The first time as another run.

    Catches in core/files.py: a file written in its place; temporaries that stay.
    Catches in core/lock.py: a holder that is gone counts as alive.
    Catches in config/resuming.py: a summary that is taken for granted.
    Catches in evaluation/record.py: points of another run in this one's record.
    Catches in evaluation/partial.py: what was measured of a point stays beside it.
    Catches in training/callbacks/evaluation.py: images are counted from the resume on.
    Catches in training/datamodule.py: prompts from the start again.
    Catches in training/ema.py: an average that is not restored.
    Catches in training/loggers.py: rows deleted by a resume; steps that stand twice.
    """
    run = Killed(Whole.of("short", SHORT, server, world, tmp_path), tmp_path / "run")
    run.takes_over(server)
    for number, moment in enumerate(CHOSEN):
        assert run.attempt(server, moment, by_folder=number % 2 == 0), f"{moment} was not reached"
    assert not run.attempt(server, None, by_folder=True)
    print(run.story())
    run.check(server)


@pytest.mark.slow
def test_kills(server: Server, world: TinyWorld, tmp_path: Path) -> None:
    """At random moments, a third of them while something is written, a tenth in evaluations."""
    wholes = [Whole.of(name, settings, server, world, tmp_path) for name, settings in SETTINGS.items()]
    runs: list[Killed] = []
    for run in campaign(server, wholes, tmp_path, KILLS, SEED):
        runs.append(run)
        print(f"{sum(len(one.kills) for one in runs)} of {KILLS}: {run.failure or run.story()}", flush=True)
    counts, failures = table(runs), [run.failure for run in runs if run.failure]
    print(f"\n{lines(counts)}")
    print(f"{len(runs)} runs, {len(runs) - len(failures)} of them as the uninterrupted one; seed {SEED}")
    assert not failures, "\n".join(failures)
    *_, total = counts
    written, evaluated, all_ = sum(total[1:3]), sum(total[3:6]), sum(total[1:])
    assert all_ >= KILLS
    assert written >= all_ / 3
    assert evaluated >= all_ / 10
