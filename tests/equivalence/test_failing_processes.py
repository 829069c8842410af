"""One of several processes fails, hangs or dies: all end, soon, with one line, and a resume knows nothing of it."""

import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from jobs import LONGEST_S, SECOND_ITERATION, Job, end_session, errors_of
from runs import TinyWorld, assert_same_training_state, gradient_difference, load

FAILS = f"1 {SECOND_ITERATION} fails"
LINE = "error: the reward 'acting' failed: ValueError: out of paint"


@pytest.fixture(scope="module")
def whole(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes, two iterations, undisturbed; a checkpoint after each."""
    job = Job.create(world, tmp_path_factory.mktemp("whole"))
    job.finish("trainer.iterations=2", "trainer.save_every=1")
    return job.run_dir


def after_one_iteration(run_dir: Path) -> dict:
    return torch.load(run_dir / "checkpoints" / "iteration-000001.ckpt", weights_only=True)


def test_a_failing_process_ends_all_with_its_line(world: TinyWorld, whole: Path, tmp_path: Path) -> None:
    """The second process fails while the first one waits for it in a collective; the state from before the iteration is
    saved, bit for bit that of a run without a failure.

    Catches in training/failing.py: the failing process tells nobody; the others are not interrupted; both print.
    Catches in training/checkpointing.py: a barrier before the copy is saved (ten minutes of silence).
    """
    job = Job.create(world, tmp_path)
    with job.started(FAILS) as process:
        assert [line.startswith(LINE) for line in errors_of(process)] == [True]
        assert process.returncode == 2
    assert_same_training_state(load(job.run_dir), after_one_iteration(whole))


CALLBACKS = '''
import os
import lightning as L

class Stops(L.Callback):
    """Ends the run after its second iteration, on the second process alone."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_rank == 1 and trainer.datamodule.iteration == 2:
            trainer.should_stop = True

class Fails(L.Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_rank == 1 and trainer.datamodule.iteration == 2:
            raise ValueError("out of ink")
'''


def test_a_callback_that_ends_the_run_on_one_process_ends_it_on_all(world: TinyWorld, tmp_path: Path) -> None:
    """Catches in training/callbacks/progress.py: the others wait for it in the next iteration, for ten minutes."""
    job = Job.create(world, tmp_path)
    (tmp_path / "my_callbacks.py").write_text(CALLBACKS)
    job.finish("trainer.callbacks=[{name: 'my_callbacks:Stops'}]", "trainer.iterations=5")
    assert load(job.run_dir)["PromptDataModule"]["iteration"] == 2
    assert (job.run_dir / "summary.json").is_file()


def test_a_callback_that_fails_on_one_process_is_named(world: TinyWorld, tmp_path: Path) -> None:
    """Lightning calls it, so that its error has no frame of this package.

    Catches in core/foreign.py: a traceback and status 1, as of a bug.
    """
    job = Job.create(world, tmp_path)
    (tmp_path / "my_callbacks.py").write_text(CALLBACKS)
    argv = job.command("trainer.callbacks=[{name: 'my_callbacks:Fails'}]")
    done = subprocess.run(argv, env=job.environment(), capture_output=True, text=True, timeout=LONGEST_S)
    assert done.returncode == 2, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    *_, line = done.stderr.splitlines()
    assert line.startswith("error: code that the settings name failed: ValueError: out of ink (")
    assert "my_callbacks.py, line " in line


@pytest.mark.slow
def test_the_first_process_fails(world: TinyWorld, whole: Path, tmp_path: Path) -> None:
    """Resumed, it ends as a run without a failure does; by a single process too, whose sums differ in rounding."""
    job = Job.create(world, tmp_path)
    with job.started(f"0 {SECOND_ITERATION} fails") as process:
        assert [line.startswith(LINE) for line in errors_of(process)] == [True]
        assert process.returncode == 2
    shutil.copytree(job.run_dir, tmp_path / "alone" / "run")
    job.finish("trainer.iterations=2", "ckpt_path=last")
    assert_same_training_state(load(job.run_dir), load(whole))
    alone = Job.create(world, tmp_path / "alone")
    alone.finish("trainer.iterations=2", "ckpt_path=last", "trainer.devices=1")
    assert gradient_difference(load(whole), load(alone.run_dir)) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_work_while_processes_wait(
    number: int, status: int, world: TinyWorld, whole: Path, tmp_path: Path
) -> None:
    """The second process hangs, the first one waits for it in a collective.

    Catches in training/failing.py: handlers of signals in the main thread only, which a collective blocks.
    """
    job = Job.create(world, tmp_path)
    with job.started(f"1 {SECOND_ITERATION} hangs") as process:
        process.send_signal(number)
        resume = f"resume with: python -m drift_pl.fit ckpt_path={job.run_dir}"
        assert errors_of(process) == [f"stopped after iteration 1; {resume}"]
        assert process.returncode == status
    assert_same_training_state(load(job.run_dir), after_one_iteration(whole))


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["true", "false"])
def test_sigterm_lets_an_iteration_end(keep: str, world: TinyWorld, tmp_path: Path) -> None:
    """All processes stop at the same boundary, one iteration later, and save it together; also without a copy."""
    job = Job.create(world, tmp_path)
    settings = ["trainer.iterations=1000", "trainer.save_every=1000", f"trainer.keep_boundary={keep}"]
    with job.started(f"1 {SECOND_ITERATION} SIGCONT", *settings) as process:
        process.send_signal(signal.SIGTERM)
        (line,) = errors_of(process)
    assert process.returncode == 143
    done = load(job.run_dir)["PromptDataModule"]["iteration"]
    assert done >= 2
    assert line.startswith(f"stopped after iteration {done}; ")


@pytest.mark.slow
def test_a_killed_process_ends_all(world: TinyWorld, whole: Path, tmp_path: Path) -> None:
    """Killed by hand or by the kernel for want of memory, it says nothing; the connection does."""
    job = Job.create(world, tmp_path)
    with job.started(f"1 {SECOND_ITERATION} SIGKILL") as process:
        (line,) = errors_of(process)
        assert process.returncode == 2
    assert line.startswith("error: process 1 on ")
    assert "the run is saved as of iteration 1, resume it with: python -m drift_pl.fit ckpt_path=" in line
    assert_same_training_state(load(job.run_dir), after_one_iteration(whole))


@pytest.mark.slow
def test_a_process_that_answers_nothing_ends_all_after_the_timeout(world: TinyWorld, tmp_path: Path) -> None:
    """The timeout holds for the start as well, which takes some seconds."""
    job = Job.create(world, tmp_path)
    with job.started(f"1 {SECOND_ITERATION} SIGSTOP", "trainer.timeout_s=60") as process:
        assert process.wait(timeout=90) == 2
        end_session(process)  # the stopped process holds the pipe
        (line,) = errors_of(process)
    assert "waited for each other for trainer.timeout_s=60 seconds" in line
    assert load(job.run_dir)["PromptDataModule"]["iteration"] == 1


@pytest.mark.slow
def test_a_process_that_was_not_started(world: TinyWorld, tmp_path: Path) -> None:
    """torchrun's variables say two; the second host's job was forgotten."""
    job = Job.create(world, tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    started = {"TORCHELASTIC_RUN_ID": "a", "RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0", "WORLD_SIZE": "2"}
    command, environment = job.command("trainer.timeout_s=3"), job.environment(**started, **address)
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    (line,) = errors_of(process, within_s=LONGEST_S)
    assert process.returncode == 2
    assert "for trainer.timeout_s=3 seconds: one of them hangs or was not started" in line
    assert "no iteration is saved yet" in line


@pytest.mark.slow
@pytest.mark.parametrize("what", ["fails", "SIGKILL"])
@pytest.mark.parametrize("rank", [0, 1])
def test_under_torchrun(rank: int, what: str, world: TinyWorld, whole: Path, tmp_path: Path) -> None:
    """torchrun itself ends with status 1 and a report of its own; ours is one line among it."""
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    job = Job.create(world, tmp_path, torchrun)
    with job.started(f"{rank} {SECOND_ITERATION} {what}") as process:
        errors = process.communicate(timeout=60)[1]
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, errors[-3000:]
    assert "gloo" not in errors
    if what == "fails":
        assert [line.startswith(LINE) for line in lines] == [True]
    else:
        assert " is gone: it was killed" in lines[0]
    if (rank, what) != (0, "SIGKILL"):  # nobody is left who holds the folder
        assert_same_training_state(load(job.run_dir), after_one_iteration(whole))
    job.finish("trainer.iterations=2", "ckpt_path=auto")
    assert_same_training_state(load(job.run_dir), load(whole))
