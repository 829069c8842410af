"""What `drift-pl sweep` prints at its end: commands that compare its runs, and that work."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from runs_on_a_page import make_finished_run

from drift_pl import sweep as sweep_command
from drift_pl.config.sweeping import Sweep, SweepOptions, SweptRun
from drift_pl.report import main as report
from drift_pl.sweep import main

Compare = Callable[[list[str]], list[str]]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def finish_all(_: SweepOptions, planned: Sweep) -> list[SweptRun]:
    for run in planned.runs:
        make_finished_run(run.folder, *run.arguments, experiment=run.config.experiment, seed=run.config.seed)
        record, judges = run.folder / "evaluation" / "test.json", [reward.name for reward in run.config.rewards]
        content = json.loads(record.read_text())
        record.write_text(json.dumps(content | {"protocol": content["protocol"] | {"judges": judges}}))
    return []


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Compare:
    """Finishes the runs of a sweep without training, and runs the commands that it prints to compare them."""
    monkeypatch.setattr(sweep_command, "sweep", finish_all)

    def compare(argv: list[str]) -> list[str]:
        assert main(argv) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("compare: ")]
        for line in lines:
            command = shlex.split(line.removeprefix("compare: "))
            assert command[:3] == ["python", "-m", "drift_pl.report"]
            assert report(command[3:]) == 0
        return lines

    return compare


def test_the_command_that_compares_a_sweep_works(compared: Compare) -> None:
    """That of the example in --help, and that of docs/recipes.md.

    Catches in sweep.py: a command that `report` refuses, because a seed comes with every weight.
    """
    assert len(compared(SweepOptions.example.split())) == 1
    rows = Path("report/report.md").read_text().splitlines()
    assert [row.split("|")[1:3] for row in rows[3:]] == [
        [" `shapes_flowgrpo (objective.kl_weight=0.1)` ", " 3 "],
        [" `shapes_flowgrpo (objective.kl_weight=0.3)` ", " 3 "],
    ]
    swept = ["seed=0,1,2", "incentive.shaping.weight=1,5,15"]
    assert len(compared(["experiment=shapes_div", *swept, "run_name=weights", "tags=[weights]"])) == 1


def test_runs_of_a_sweep_that_were_measured_differently_have_a_command_each(
    compared: Compare, capsys: pytest.CaptureFixture
) -> None:
    """Catches in sweep.py: one command for all, which `report` refuses; one that has nothing to compare."""
    rewards = "rewards=[{name: jpeg_compressibility}],[{name: jpeg_incompressibility}]"
    lines = compared(["experiment=shapes_div", "seed=0,1", rewards])
    assert [line.rpartition(" ")[2] for line in lines] == ["out=report-1", "out=report-2"]
    assert main(["experiment=shapes_flowgrpo", rewards]) == 0
    out = capsys.readouterr().out
    assert "compare: no two runs were measured alike; each has its own report.html\n" in out
