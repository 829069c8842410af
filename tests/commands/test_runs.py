"""Runs that are interrupted, go on, end early or meet another run: what is left to do is done, and nothing is lost."""

import json
import os
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import TinyWorld, assert_same_training_state, load
from same_runs import summary_of

from drift_pl.core import lock
from drift_pl.core.errors import UserError
from drift_pl.core.lock import NAME
from drift_pl.evaluate import main as evaluate
from drift_pl.evaluation import evaluator
from drift_pl.evaluation.record_file import read_evaluation
from drift_pl.fit import main
from drift_pl.training.experience import Experience
from drift_pl.training.module import DriftModule

LEARNING = ("objective.learning_rate=0.01", "objective.ema_decay=0.5")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return TinyWorld.create(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def argv(world: TinyWorld) -> list[str]:
    return [*world.overrides(), *LEARNING, "trainer.iterations=3", "evaluation.every=2"]


@pytest.fixture(scope="module")
def whole(world: TinyWorld, argv: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three iterations without an interruption."""
    run_dir = tmp_path_factory.mktemp("whole") / "it's a run"
    assert main([*argv, f"run_dir={run_dir}"]) == 0
    return run_dir


@pytest.fixture(scope="module")
def longer(world: TinyWorld, argv: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Five iterations."""
    run_dir = tmp_path_factory.mktemp("longer") / "run"
    assert main([*argv, "trainer.iterations=5", f"run_dir={run_dir}"]) == 0
    return load(run_dir)


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> "Sampled":
    counter = Sampled(evaluator.sample_images)
    monkeypatch.setattr(evaluator, "sample_images", counter)
    return counter


class Sampled:
    """Counts the prompts that evaluations sample; one of them can be made to break."""

    def __init__(self, sample: Callable[..., Any]) -> None:
        self._sample = sample
        self.count, self.breaks_at, self.error = 0, -1, KeyboardInterrupt
        self.act: Callable[[], Any] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        if self.count == self.breaks_at and self.act:
            self.act()
        elif self.count == self.breaks_at:
            raise self.error
        return self._sample(*args, **kwargs)


def interrupted(argv: list[str], capsys: pytest.CaptureFixture) -> list[str]:
    """Runs the command until its interruption, and returns the arguments that it says to go on with."""
    capsys.readouterr()
    assert main(argv) == 130
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "resume with: " in line]
    return fit_arguments(line)


def fit_arguments(line: str) -> list[str]:
    words = shlex.split(line.partition("python")[2])
    assert words[:2] == ["-m", "drift_pl.fit"]
    return words[2:]


def refusal(argv: list[str], capsys: pytest.CaptureFixture) -> str:
    capsys.readouterr()
    assert main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def break_in_iteration(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    update = DriftModule.update_policy

    def breaking(self: DriftModule, experience: Experience, *args: Any) -> None:
        update(self, experience, *args)
        if experience.batch.iteration == number:
            raise RuntimeError("a bug")

    monkeypatch.setattr(DriftModule, "update_policy", breaking)


def test_the_line_at_the_end_extends_the_run(
    argv: list[str], longer: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Though keys were overridden, and the folder's name needs quotes."""
    run_dir = tmp_path / "it's a run"
    assert main([*argv, f"run_dir={run_dir}"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("resume:")]
    arguments = fit_arguments(line)
    assert arguments == [f"ckpt_path={run_dir}", "trainer.iterations=6"]
    assert main([arguments[0], "trainer.iterations=5"]) == 0
    assert_same_training_state(load(run_dir), longer)
    assert summary_of(run_dir)["iterations"] == 5
    assert "objective.clip_range is 0.005 there and 0.5 now" in refusal(
        [arguments[0], "objective.clip_range=0.5"], capsys
    )


@pytest.mark.parametrize("form", ["last", "auto", "file"])
def test_other_forms_take_the_runs_own_config_too(
    form: str, argv: list[str], longer: dict[str, Any], tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    assert main([*argv, "trainer.iterations=2", f"run_dir={run_dir}"]) == 0
    given = [f"run_dir={run_dir}", f"ckpt_path={form}"]
    if form == "file":
        given = [f"ckpt_path={run_dir}/checkpoints/iteration-000002.ckpt"]
    assert main([*given, "trainer.iterations=5"]) == 0
    assert_same_training_state(load(run_dir), longer)


def test_a_complete_run_says_so_to_a_scheduler_and_is_left_alone(
    argv: list[str], whole: Path, capsys: pytest.CaptureFixture
) -> None:
    before = files(whole)
    for line in ([*argv, f"run_dir={whole}", "ckpt_path=auto"], [f"run_dir={whole}", "ckpt_path=auto"]):
        assert main(line) == 0
        (out,) = capsys.readouterr().out.splitlines()
        assert "this run is complete" in out
    assert "already has 3 of trainer.iterations=3" in refusal([f"ckpt_path={whole}"], capsys)
    assert files(whole) == before


def test_a_run_that_is_stopped_in_its_final_evaluation_goes_on_there(
    argv: list[str],
    whole: Path,
    longer: dict[str, Any],
    tmp_path: Path,
    sampled: Sampled,
    capsys: pytest.CaptureFixture,
) -> None:
    """Prompts in order: 2 of the first look, 2 of the base, 2 of the look at iteration 2, 2 of the tuned model."""
    run_dir = tmp_path / "run"
    sampled.breaks_at = 8
    resume = interrupted([*argv, f"run_dir={run_dir}"], capsys)
    assert not (run_dir / "summary.json").exists()
    assert list((run_dir / "evaluation" / "test" / "partial").rglob("*.npz"))
    sampled.breaks_at, sampled.count = -1, 0
    assert main(resume) == 0
    assert sampled.count == 1
    assert summary_of(run_dir) == summary_of(whole)
    assert not (run_dir / "evaluation" / "test" / "partial").exists()
    assert_same_training_state(load(run_dir), load(whole))
    assert main([*resume, "trainer.iterations=5"]) == 0
    assert_same_training_state(load(run_dir), longer)


def test_a_kill_in_the_final_evaluation_of_an_extended_run_is_no_end(
    argv: list[str], tmp_path: Path, sampled: Sampled, capsys: pytest.CaptureFixture
) -> None:
    """The summary that is there is that of the shorter run."""
    run_dir = tmp_path / "run"
    given = [*argv, f"run_dir={run_dir}", "evaluation.every=0", "ckpt_path=auto"]
    assert main([*given, "trainer.iterations=1"]) == 0
    sampled.breaks_at = sampled.count + 2
    interrupted([*given, "trainer.iterations=2"], capsys)
    assert summary_of(run_dir)["iterations"] == 1
    assert main([*given, "trainer.iterations=2"]) == 0
    assert summary_of(run_dir)["iterations"] == 2


def test_the_base_model_is_not_measured_twice(
    argv: list[str], whole: Path, tmp_path: Path, sampled: Sampled, capsys: pytest.CaptureFixture
) -> None:
    """Nor by a run that was stopped while it measured it; nothing was trained then, and the folder is free."""
    run_dir = tmp_path / "run"
    sampled.breaks_at = 4
    interrupted([*argv, f"run_dir={run_dir}"], capsys)
    assert not list(run_dir.rglob("*.ckpt"))
    sampled.breaks_at, sampled.count = -1, 0
    assert main([*argv, f"run_dir={run_dir}"]) == 0
    assert "nothing was trained" in capsys.readouterr().out
    assert sampled.count == 2 + 1 + 2 + 2
    assert summary_of(run_dir) == summary_of(whole)


def test_a_look_that_breaks_takes_its_iteration_with_it(
    argv: list[str], whole: Path, tmp_path: Path, sampled: Sampled, capsys: pytest.CaptureFixture
) -> None:
    """The iteration is counted, and its weights are put back: both, or neither."""
    run_dir = tmp_path / "run"
    sampled.breaks_at = 6
    resume = interrupted([*argv, f"run_dir={run_dir}"], capsys)
    assert load(run_dir)["PromptDataModule"]["iteration"] == 1
    assert main(resume) == 0
    assert_same_training_state(load(run_dir), load(whole))
    assert load(run_dir)["callbacks"]["DiversityAlarm"] == load(whole)["callbacks"]["DiversityAlarm"]
    assert summary_of(run_dir) == summary_of(whole)
    points = read_evaluation(run_dir / "evaluation" / "tuning.json").points
    assert points == read_evaluation(whole / "evaluation" / "tuning.json").points


@pytest.mark.parametrize("change", [[], ["seed=5", "prompts.group_size=3"]])
def test_a_run_that_broke_in_its_first_iteration_leaves_its_folder_free(
    change: list[str],
    argv: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """For any run: what it measured is another run's, and measured anew."""
    run_dir = tmp_path / "run"
    with monkeypatch.context() as patch:
        break_in_iteration(patch, 0)
        assert main([*argv, f"run_dir={run_dir}"]) == 2
    assert not list(run_dir.rglob("*.ckpt"))
    assert (run_dir / "evaluation" / "test.json").exists()
    assert main([*argv, *change, f"run_dir={run_dir}"]) == 0
    assert "nothing was trained, so it is taken over" in capsys.readouterr().out
    assert main([*argv, *change, f"run_dir={tmp_path / 'fresh'}"]) == 0
    assert summary_of(run_dir) == summary_of(tmp_path / "fresh")
    assert_same_training_state(load(run_dir), load(tmp_path / "fresh"))


@pytest.mark.parametrize(
    ("callback", "iteration", "why"),
    [
        (
            "{name: 'lightning.pytorch.callbacks:EarlyStopping', args: {monitor: iteration, patience: 1}}",
            4,
            "EarlyStopping: iteration",
        ),
        ("{name: 'lightning.pytorch.callbacks:Timer', args: {duration: {microseconds: 1}}}", 1, "Timer: "),
    ],
)
def test_a_run_that_a_callback_ends_is_evaluated_and_says_why(
    callback: str,
    iteration: int,
    why: str,
    argv: list[str],
    tmp_path: Path,
    sampled: Sampled,
    capsys: pytest.CaptureFixture,
) -> None:
    """Lightning's epochs are of two iterations; the timer has run out after the first."""
    run_dir = tmp_path / "run"
    given = [*argv, f"run_dir={run_dir}", "trainer.iterations=9", f"trainer.callbacks=[{callback}]"]
    assert main(given) == 0
    summary, out = summary_of(run_dir), capsys.readouterr().out
    assert summary["iterations"] == iteration
    assert summary["stopped"].startswith(why)
    assert f"stopped: after iteration {iteration} of 9, {why}" in out
    assert load(run_dir)["stopped"] == summary["stopped"]
    assert main([*given, "ckpt_path=auto"]) == 0
    assert "this run is complete" in capsys.readouterr().out
    if why == "Timer: ":  # by hand it is to go on, and the timer would end it again
        assert main([*given, f"ckpt_path={run_dir}"]) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("error: trainer.callbacks: the run was stopped before (Timer: its duration has passed)")
        assert summary_of(run_dir) == summary
    (run_dir / "summary.json").unlink()  # as if it had been killed in its final evaluation
    assert main([*given, "ckpt_path=auto"]) == 0
    assert summary_of(run_dir) == summary


@pytest.mark.parametrize("place", [2, -1])
def test_an_evaluation_stops_when_it_is_asked_to(
    place: int, argv: list[str], whole: Path, tmp_path: Path, sampled: Sampled, capsys: pytest.CaptureFixture
) -> None:
    """That of the base model, and the last one, of which the last prompt is left when the run goes on.

    Catches in training/callbacks/evaluation.py: SIGTERM waits for an evaluation of hours, and the run ends with 0.
    """
    assert main([*argv, f"run_dir={tmp_path / 'counted'}"]) == 0
    total, sampled.count = sampled.count, 0
    sampled.breaks_at, sampled.act = place % (total + 1), lambda: os.kill(os.getpid(), signal.SIGTERM)
    run_dir = tmp_path / "run"
    assert main([*argv, f"run_dir={run_dir}"]) == 143
    assert "resume with: " in capsys.readouterr().err
    assert not (run_dir / "summary.json").exists()
    sampled.breaks_at = -1
    assert main([*argv, f"run_dir={run_dir}", "ckpt_path=auto"]) == 0
    assert summary_of(run_dir) == summary_of(whole)


@pytest.mark.parametrize("place", [2, -1])
def test_a_folder_that_is_moved_during_an_evaluation_is_not_made_again(
    place: int, argv: list[str], tmp_path: Path, sampled: Sampled, capsys: pytest.CaptureFixture
) -> None:
    """Catches in evaluation/partial.py: results in two folders, one of which was made by writing a file."""
    assert main([*argv, f"run_dir={tmp_path / 'counted'}"]) == 0
    total, sampled.count = sampled.count, 0
    run_dir = tmp_path / "run"
    sampled.breaks_at, sampled.act = place % (total + 1), lambda: run_dir.rename(tmp_path / "moved")
    assert main([*argv, f"run_dir={run_dir}"]) == 2
    assert "is gone" in capsys.readouterr().err.splitlines()[-1]
    assert not run_dir.exists()


def test_a_folder_in_use_is_refused(argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / NAME).write_text(json.dumps(lock._me()))
    message = refusal([*argv, f"run_dir={tmp_path / 'run'}"], capsys)
    assert f"in use by process {os.getpid()} on {os.uname().nodename}" in message
    assert [path.name for path in (tmp_path / "run").iterdir()] == [NAME]


def test_only_the_first_process_of_a_run_locks(
    argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The others get as far as the next step."""

    def further(*_: object) -> None:
        raise UserError("got further")

    monkeypatch.setattr("drift_pl.fit.choose_run_folder", further)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / NAME).write_text(json.dumps(lock._me()))
    two = [*argv, f"run_dir={tmp_path / 'run'}", "trainer.devices=2"]
    assert "in use" in refusal(two, capsys)
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "1")
            assert "got further" in refusal(two, capsys), name


def test_a_checkpoint_of_another_run_does_not_overwrite_a_folder(
    argv: list[str], whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main([*argv, "seed=1", "trainer.iterations=2", f"run_dir={tmp_path / 'b'}"]) == 0
    before = files(whole)
    file = tmp_path / "b" / "checkpoints" / "last.ckpt"
    message = refusal([f"ckpt_path={file}", f"run_dir={whole}", "trainer.iterations=4"], capsys)
    assert f"run_dir={whole} holds the run" in message
    assert files(whole) == before
    assert main([f"ckpt_path={file}", f"run_dir={tmp_path / 'c'}", "trainer.iterations=3"]) == 0
    assert main([*argv, "seed=1", f"run_dir={tmp_path / 'd'}"]) == 0
    assert_same_training_state(load(tmp_path / "c"), load(tmp_path / "d"))


@pytest.mark.parametrize("name", ["checkpoints/.last.ckpt.17.tmp", "evaluation/test/points/.base.png.17.tmp"])
def test_what_a_kill_left_of_a_write_is_removed(name: str, argv: list[str], tmp_path: Path) -> None:
    """Catches in core/files.py: temporaries looked for in the run's folder and one below it only."""
    left = tmp_path / "run" / name
    left.parent.mkdir(parents=True)
    left.write_text("half")
    assert main([*argv, "trainer.iterations=1", "evaluation.every=0", f"run_dir={tmp_path / 'run'}"]) == 0
    assert not left.exists()


def test_what_a_kill_left_of_a_point_is_removed(argv: list[str], tmp_path: Path) -> None:
    """Catches in training/callbacks/evaluation.py: a partial base that is left where the base is on record."""
    run_dir = tmp_path / "run"
    assert main([*argv, "trainer.iterations=1", "evaluation.every=1", f"run_dir={run_dir}"]) == 0
    left = run_dir / "evaluation" / "test" / "partial"
    (left / "base-0123456789abcdef").mkdir(parents=True)
    assert main([f"ckpt_path={run_dir}", "trainer.iterations=2"]) == 0
    assert not left.exists()


def test_evaluate_goes_on_within_a_point(argv: list[str], whole: Path, tmp_path: Path, sampled: Sampled) -> None:
    given = [f"ckpt_path={whole}", "prompts=tuning", f"out={tmp_path / 'mine.json'}"]
    sampled.breaks_at, sampled.error = 4, RuntimeError
    assert evaluate(given) == 2
    sampled.breaks_at, sampled.count = -1, 0
    assert evaluate(given) == 0
    continued = read_evaluation(tmp_path / "mine.json")
    assert sampled.count == 2 * len(continued.points) - 3
    assert evaluate([*given, "fresh=true"]) == 0
    assert read_evaluation(tmp_path / "mine.json").points == continued.points
