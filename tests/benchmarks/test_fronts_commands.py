"""The commands of both studies, run.py and benchmark.py: what they train, note, compare and refuse."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import benchmark
import pytest
import run
import yaml
from run import Queue
from stand_in_commands import PLAN_TEXT, Commands

from drift_pl.config.command import run_command

TIER: dict[str, Any] = PLAN_TEXT["tiers"]["A"]
STUDY: dict[str, Any] = {
    "frozen": {**PLAN_TEXT["frozen"], "pareto": ["resamples=99"]},
    "tiers": {"A": {**TIER, "against": ["levers"]}, "B": {**TIER, "fit": ["trainer.iterations=4"]}, "C": TIER},
}
BENCHMARK: dict[str, Any] = {
    "frozen": {
        **PLAN_TEXT["frozen"],
        "protocol": 2,
        "length": {"iterations": {"a": None, "b": 8}},
        "worlds": {"a": {"fit": []}, "b": {"fit": []}},
    },
    "tiers": {
        "b1": {**TIER, "world": "b"},
        "b2": {**TIER, "world": "b", "fit": ["trainer.iterations=4"]},
        "a1": {**TIER, "world": "a", "claim": {"levers": "levers"}},
    },
}


class Studio:
    """Both commands, whose queues call a stand-in.

    Attributes:
        queues: those that a command has made.
    """

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.commands, self.queues = folder, Commands(), list[Queue]()
        plan = folder / "plan.yaml"
        plan.write_text(yaml.safe_dump(STUDY, sort_keys=False))
        plan2 = folder / "plan2.yaml"
        plan2.write_text(yaml.safe_dump(BENCHMARK, sort_keys=False))
        self.where = ["--runs", f"{folder}/runs", "--results", f"{folder}/results"]
        self.study = self._command(run._main, "--plan", str(plan))
        self.benchmark = self._command(benchmark._main)

        def queue_of(*given: Any, **named: Any) -> Queue:
            self.queues.append(Queue(*given, **named, command=self.commands))
            return self.queues[-1]

        for module in (run, benchmark):
            patch.setattr(module, "Queue", queue_of)
        patch.setattr(benchmark, "PLAN", plan2)
        patch.setattr(benchmark, "commit_of", lambda root: "abc")
        patch.setattr(benchmark, "device_name", lambda: "a card")

    def _command(self, main: Callable[[list[str]], None], *more: str) -> Callable[..., int]:
        return lambda *arguments: run_command(main, [*arguments, *self.where, *more])

    def trained(self) -> list[str]:
        """TIER/METHOD-sSEED of the runs, in order."""
        return [
            "/".join(Path(argument).parts[-2:])
            for call in self.commands.named("drift_pl.fit")
            for argument in call
            if argument.startswith("run_dir=")
        ]


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Studio:
    return Studio(tmp_path, monkeypatch)


def test_the_study_trains_and_compares_the_tiers_that_are_named(studio: Studio) -> None:
    """Catches in benchmarks/fronts/run.py: the first tier compared for each; the plan's arguments left out."""
    assert studio.study("A", "B", "--workers", "2") == 0
    assert studio.queues[0].workers == 2
    assert {name[0] for name in studio.trained()} == {"A", "B"}
    evaluated = studio.commands.named("drift_pl.evaluate")
    assert all("prompts=test" in call for call in evaluated)
    assert all(("method=swept" in call) == ("lora_scale=[0.5]" in call) for call in evaluated)
    compared = studio.commands.named("drift_pl.pareto")
    outs = [argument for call in compared for argument in call if argument.startswith("out=")]
    folder = studio.folder / "results"
    assert outs == [f"out={folder / name}" for name in ("A", "A/against_levers", "B")]
    assert all(call[-1] == "resamples=99" for call in compared)


def test_status_and_compare_train_nothing(studio: Studio, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches in benchmarks/fronts/run.py: work begun by either of them."""
    assert studio.study("A", "--status") == 0
    assert capsys.readouterr().out.startswith("A  0 of 6 done  (first)")
    assert studio.study("A", "--compare") == 0
    assert studio.commands.calls == []


def test_what_is_missing_is_estimated_from_the_median(studio: Studio, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 5 runs the median is 7 minutes, and one is missing; in the benchmark as well.

    Catches in benchmarks/fronts/run.py: the time of all runs.
    """
    studio.commands.fail = "b1/levers-s8"
    assert studio.benchmark("run", "b1") == 2
    files = sorted((studio.folder / "runs" / "results" / "b1").glob("*/job.json"))
    for file, minutes in zip(files, (1, 7, 50, 2, 8), strict=True):
        file.write_text(json.dumps({**json.loads(file.read_text()), "minutes": minutes}))
    capsys.readouterr()
    assert studio.benchmark("status", "b1") == 0
    assert "b1  5 of 6 done, about 7 min of one core missing" in capsys.readouterr().out


def test_a_failure_is_one_line_that_names_the_log(studio: Studio, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is compared that could not be trained, and no further tier of the benchmark begun.

    Catches in benchmarks/fronts: a comparison that failed for one of two baselines alone; a failed training or
    evaluation passed by.
    """
    log = studio.folder / "runs"
    studio.commands.fail = "baseline=levers"
    assert studio.study("A") == 2
    error = capsys.readouterr().err
    assert error == f"error: tier A cannot be compared; the reason is in {log}/A.log\n"
    studio.commands.fail = "method=levers"
    assert studio.study("B") == 2
    error = capsys.readouterr().err
    assert error == f"error: failed: B/levers-s7, B/levers-s8; the reason is in {log}/B/levers-s7.log\n"
    assert len(studio.commands.named("drift_pl.pareto")) == 2, "those of tier A"
    studio.commands.fail = "b1/levers-s7"
    assert studio.benchmark("run", "b1", "b2") == 2
    assert capsys.readouterr().err == f"error: failed: b1/levers-s7; the reason is in {log}/b1/levers-s7.log\n"
    assert not any(name.startswith("b2") for name in studio.trained())


def test_the_benchmark_notes_what_made_a_result(studio: Studio) -> None:
    """One seed of each tier that is named, with the protocol, the commit and the device.

    Catches in benchmarks/fronts/benchmark.py: one of the three is not kept; the last seeds; the first tier alone.
    """
    assert studio.benchmark("run", "b1", "b2", "--seeds", "1", "--workers", "3") == 0
    assert studio.queues[0].workers == 3
    kept = [json.loads(path.read_text()) for path in studio.folder.rglob("job.json")]
    assert {content["job"] for content in kept} == {
        f"{tier}/{method}-s7" for tier in ("b1", "b2") for method in ("plain", "levers", "swept")
    }
    for content in kept:
        assert (content["protocol"], content["commit"], content["device"]) == (2, "abc", "a card")


def test_a_tier_whose_length_is_unknown_is_refused_before_any_is_run(
    studio: Studio, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches in benchmarks/fronts/benchmark.py: another world's length looked at; a check after the first tier."""
    assert studio.benchmark("run", "b1", "a1") == 2
    assert "tier a1 has the length of world a, which is not known: run tier La" in capsys.readouterr().err
    assert studio.commands.calls == []
