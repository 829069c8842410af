"""`drift-pl runs`: what it says of each run, and that it reads folders that are damaged, old or empty.

Catches in reports/run_list.py: an extended run that counts as finished; values of an earlier length beside a run that
goes on; a folder of folders that is not entered.
Catches in config/overrides.py: a resume that forgets what the run was begun with; a run without the file that is said
to differ in nothing.
Catches in core/lock.py: a lock of a process that is gone that counts as held.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from drift_pl.config.loading import config_yaml, parse
from drift_pl.config.overrides import OVERRIDES, keep_overrides, read_overrides
from drift_pl.core.lock import hold
from drift_pl.core.run_status import write_status
from drift_pl.runs import main

SUMMARY = {"base": {"reward": 0.5, "pairwise_distance": 0.4}, "tuned": {"reward": 0.75, "pairwise_distance": None}}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make(name: str, *argv: str, iterations: int | None = None, **facts: Any) -> Path:
    """A run's folder as `fit` leaves it; with `iterations`, one that has ended after so many."""
    folder = Path("runs") / name
    request = parse(argv)
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(config_yaml(request.config, request.tree))
    keep_overrides(folder, request.config, request.overrides, folder)
    if iterations is not None:
        (folder / "summary.json").write_text(json.dumps(SUMMARY | {"iterations": iterations, **facts}))
    return folder


def listed(capsys: pytest.CaptureFixture, *argv: str) -> dict[str, dict[str, Any]]:
    assert main([*argv, "--json"]) == 0
    return {Path(run["folder"]).name: run for run in json.loads(capsys.readouterr().out)}


def test_states_iterations_and_values(capsys: pytest.CaptureFixture) -> None:
    make("whole", "trainer.iterations=4", iterations=4)
    make("extended", "trainer.iterations=9", iterations=4)
    make("alarmed", iterations=4, stopped="diversity alarm: 10 %")
    make("went-on", "trainer.iterations=9", iterations=4, stopped="diversity alarm: 10 %")
    write_status(Path("runs/went-on"), {"iteration": 6})
    for name in ("halted", "extended", "went-on"):
        (Path("runs") / name / "checkpoints").mkdir(parents=True, exist_ok=True)
        (Path("runs") / name / "checkpoints" / "iteration-000003.ckpt").touch()
    halted = make("deeper/halted", "seed=3", "run_name=x", "tags=[a,b]")
    shutil.move(str(Path("runs/halted/checkpoints/iteration-000003.ckpt")), halted / "checkpoints")
    write_status(halted, {"iteration": 5, "reward": 0.25})
    begun = make("begun")
    with hold(begun, "run_dir"):
        assert listed(capsys)["begun"]["state"] == "running"
    runs = listed(capsys)
    states = {name: (run["state"], run["iteration"]) for name, run in runs.items()}
    assert states == {
        "whole": ("finished", 4),
        "extended": ("interrupted", 3),
        "alarmed": ("ended early", 4),
        "went-on": ("interrupted", 6),
        "halted": ("interrupted", 5),
        "begun": ("not saved", None),
    }
    assert runs["whole"]["tuned"] == {"reward": 0.75, "pairwise_distance": None}
    assert (runs["extended"]["tuned"], runs["extended"]["iterations"]) == ({}, 9)
    assert runs["alarmed"]["stopped"] == "diversity alarm: 10 %"
    assert (runs["went-on"]["stopped"], runs["went-on"]["tuned"]) == (None, {})
    assert runs["halted"]["training"] == {"reward": 0.25}
    assert (runs["halted"]["seed"], runs["halted"]["run_name"], runs["halted"]["tags"]) == (3, "x", ["a", "b"])
    assert [*listed(capsys, "tags=[b]")] == ["halted"]
    assert [*listed(capsys, "runs/whole", "runs/deeper")] == ["whole", "halted"]


def test_a_lock_of_a_process_that_is_gone_is_not_held(capsys: pytest.CaptureFixture) -> None:
    folder = make("killed")
    program = f"from pathlib import Path; import os; from drift_pl.core.lock import _acquire; \
_acquire(Path({str(folder)!r}), 'run_dir'); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 9
    assert (folder / ".lock").exists()
    before = sorted(folder.iterdir())
    assert listed(capsys)["killed"]["state"] == "not saved"
    assert sorted(folder.iterdir()) == before, "a list of runs writes nothing"


def test_what_differs_is_what_was_typed(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The later of two values counts, also when a run goes on."""
    monkeypatch.setenv("COLUMNS", "200")
    folder = make("run", "sampler.steps=7", "experiment=shapes_flowgrpo", "incentive.shaping.weight=1", "seed=2")
    request = parse([f"experiment={folder}/config.yaml", "trainer.iterations=99", "incentive.shaping.weight=2"])
    keep_overrides(folder, request.config, request.overrides, folder)
    own = ["sampler.steps=7", "incentive.shaping.weight=2"]
    assert read_overrides(folder) == [*own, "seed=2", "trainer.iterations=99"]
    run = listed(capsys)["run"]
    assert run["experiment"] == "shapes_flowgrpo"
    assert run["differs"] == [*own, "trainer.iterations=99"]
    assert main([]) == 0
    table = capsys.readouterr().out
    assert "sampler.steps=7  incentive.shaping.weight=2" in table
    assert "trainer.iterations=99" not in table, "it is in the column beside"


def test_a_narrow_terminal_breaks_neither_names_nor_values(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a table has no room, a run has lines of its own.

    Catches in reports/run_table.py: a folder, or KEY=VALUE, in pieces.
    """
    folder = make(
        "shapes_drift-a-long-name-0123abcd-s0", "sampler.steps=7", "trainer.iterations=4", "tags=[kl]", iterations=4
    )
    halted = make("halted")
    write_status(halted, {"iteration": 5, "reward": 0.25})
    for columns, lines in ((80, 6), (160, 4)):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert main([]) == 0
        shown = capsys.readouterr().out.splitlines()
        assert len(shown) == lines
        assert max(map(len, shown)) <= columns
        for whole in (str(folder), "reward 0.5000 -> 0.7500"[7 * (columns > 80) :], "sampler.steps=7", "kl", "~0.2500"):
            assert any(whole in line for line in shown), whole


def test_a_run_without_the_file_is_compared_with_its_experiment(capsys: pytest.CaptureFixture) -> None:
    """What this version adds to the entries of a list is no difference; a reward is one as it would be typed.

    Catches in config/section.py: entries of a list with their defaults.
    """
    rewards = ["rewards=[{name: jpeg_compressibility}]", "rewards=[{name: aesthetic, weight: 2.0}]"]
    for name, line in zip(("old", "older"), rewards, strict=True):
        folder = make(name, "sampler.steps=7", line, "trainer.logger=[csv]")
        (folder / OVERRIDES).unlink()
        written = yaml.safe_load((folder / "config.yaml").read_text())
        written["rewards"] = [{"args": {}, "weight": 1.0, **entry} for entry in written["rewards"]]  # as 0.1 wrote it
        (folder / "config.yaml").write_text(yaml.safe_dump(written))
    same = make("same")
    (same / OVERRIDES).unlink()
    runs = listed(capsys)
    assert [runs[name]["differs"] for name in ("old", "older", "same")] == [
        *(["sampler.steps=7", line, "trainer.logger=[{name: csv}]"] for line in rewards),
        [],
    ]


@pytest.mark.parametrize("content", ["{", "[1]", "seed: 1\ntrainer: 3\ntags: x", "a: [", ""])
def test_damaged_files_hide_no_run(content: str, capsys: pytest.CaptureFixture) -> None:
    folder = make("run")
    for name in ("config.yaml", "summary.json", OVERRIDES, "status.json"):
        (folder / name).write_text(content)
    assert listed(capsys)["run"]["tuned"] == {}
    assert main([]) == 0


def test_markup_in_a_name_is_text(capsys: pytest.CaptureFixture) -> None:
    make("run", "tags=['[red]x']", "policy.negative_prompt=[bold]no")
    assert main([]) == 0
    assert "[red]x" in (out := capsys.readouterr().out)
    assert "[bold]no" in out


def test_nothing_to_list_is_one_line(capsys: pytest.CaptureFixture) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("no runs in runs: start one with python -m drift_pl.fit")
    assert main(["--json"]) == 0
    assert capsys.readouterr().out == "[]\n"
    os.mkdir("empty")
    assert main(["empty"]) == 0
    assert "no runs in empty" in capsys.readouterr().out
    assert main(["nothing"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: nothing is not there: give a run's folder, or one that holds runs, e.g. runs"


def test_the_list_needs_no_torch() -> None:
    make("run", "tags=[a]", iterations=1)
    program = "import sys; from drift_pl.runs import main; main([]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"torch", "lightning", "numpy"}.isdisjoint(done.stdout.splitlines()[-1].split())


def test_a_real_run_is_listed(tiny_run: Path, capsys: pytest.CaptureFixture) -> None:
    run = listed(capsys, str(tiny_run))[tiny_run.name]
    summary = json.loads((tiny_run / "summary.json").read_text())
    assert (run["state"], run["iteration"], run["iterations"]) == ("finished", 4, 4)
    assert run["tuned"]["reward"] == summary["tuned"]["reward"]

    assert "sampler.steps=4" in run["differs"]
