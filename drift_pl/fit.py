"""The command that fine-tunes: `python -m drift_pl.fit experiment=NAME [KEY=VALUE ...]`.

`python -m drift_pl.fit ckpt_path=RUN_FOLDER [KEY=VALUE ...]` resumes a run.
"""

import json
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from drift_pl.builders.quiet import quieten
from drift_pl.config.command import leaving_at_second_sigterm, run_command
from drift_pl.config.command_line import asks_for_help
from drift_pl.config.dry_folder import clear_dry_run, dry_run_report
from drift_pl.config.early import refuse_missing
from drift_pl.config.fit_help import fit_help
from drift_pl.config.help import table
from drift_pl.config.inputs import RunMark, keep_inputs, read_mark, with_absolute_names
from drift_pl.config.loading import Request, config_yaml, parse
from drift_pl.config.overrides import OVERRIDES, keep_overrides
from drift_pl.config.own_run import CONFIG, run_folder_of
from drift_pl.config.processes import check_launch, is_first_launched, reports_errors
from drift_pl.config.publishing import with_names
from drift_pl.config.resuming import same_run, what_is_left
from drift_pl.config.run_folder import (
    REPORT,
    SUMMARY,
    RunFolder,
    choose_run_folder,
    resume_command,
    run_path,
    settings_to_keep,
)
from drift_pl.config.schema import Config
from drift_pl.config.trust import register
from drift_pl.core.errors import UserError
from drift_pl.core.exit_status import INTERRUPTED, TERMINATED, USER_ERROR
from drift_pl.core.files import Contents, contents, put_back, remove_temporaries, write_text
from drift_pl.core.locate import first_line
from drift_pl.core.lock import FolderLock, hold
from drift_pl.core.progress import Display, clock

if TYPE_CHECKING:
    from drift_pl.builders.run import Run

TAKEN_OVER = ": an earlier try ended before its first checkpoint; nothing was trained, so it is taken over"


def fit(config: Config, tree: dict[str, Any] | None = None, overrides: Sequence[str] | None = None) -> Path:
    """Runs a fine-tuning from beginning or checkpoint to end, and returns the run's folder.

    Args:
        tree: the settings as they were written, for config.yaml; None: as they are.
        overrides: the arguments KEY=VALUE that they were made from, for overrides.yaml; None: not from arguments, so
            that the file lists every setting that differs from the experiment as it is now, see `keep_overrides`.

    Raises:
        UserError: something that the config names cannot be used; nothing has been written then.
    """
    _fit(config, tree, overrides)
    return run_path(config)


@dataclass(frozen=True)
class _Job:
    """A run that is about to be made. `lock` is None in further processes, which show nothing."""

    config: Config
    tree: dict[str, Any] | None
    overrides: Sequence[str] | None
    folder: RunFolder
    lock: FolderLock | None
    display: Display

    def say(self, line: str, stream: TextIO | None = None) -> None:
        if self.lock is not None:  # the first process
            print(line, file=stream, flush=True)


def _fit(config: Config, tree: dict[str, Any] | None, overrides: Sequence[str] | None) -> bool:
    """`fit`; False if there is nothing left to do."""
    check_launch(config)
    first = is_first_launched(config)
    held, kind = hold(run_path(config), "run_dir") if first else nullcontext(), config.trainer.progress
    with held as lock, Display(kind if first else "none") as display:
        if lock is not None and config.dry_run:
            clear_dry_run(run_path(config))
        return _train(_Job(config, tree, overrides, choose_run_folder(config), lock, display))


def _train(job: _Job) -> bool:
    config, folder, display = job.config, job.folder, job.display
    with display.stage("importing libraries"):
        quieten()
        # Imported late: `--help` and wrong keys answer at once.
        from drift_pl.builders.overview import overview
        from drift_pl.builders.run import build_run
        from drift_pl.training.checkpoint_content import RestoredShapes
        from drift_pl.training.checkpointing import checkpoint_iteration, read_checkpoint

    mark, restored, done, stopped = read_mark(config), None, 0, None
    if folder.resume_from is not None:
        content = read_checkpoint(folder.resume_from, mapped=True)
        mark, stopped = same_run(content, folder, config, mark), content.get("stopped")
        done, restored = checkpoint_iteration(content), RestoredShapes.of(content)
        del content
    left = what_is_left(folder, config, mark, done, stopped)
    if left == "report":
        if job.lock is not None:
            remove_temporaries(folder.path)
            conclude(folder.path)
        job.say(f"run folder {folder.path}: this run is complete; only {REPORT} was missing")
        return False
    if left == "nothing":
        job.say(f"run folder {folder.path}: this run is complete; extend it with {resume_command(folder.path)} ...")
        return False
    check = job.lock.check if job.lock else None
    run = build_run(with_absolute_names(config), folder.path, mark, done, left == "evaluation", check, display)
    if restored and folder.resume_from:
        restored.refuse_others(run.module, folder.resume_from)
    before: Contents = {}
    if job.lock is not None:
        before = contents([folder.path / CONFIG, folder.path / OVERRIDES])
        _write_down(job, mark)
        rows = overview(config, run.module.policy, run.trainer, folder.path)
        rows["run folder"] += (f", from iteration {done}" if done else "") + (TAKEN_OVER if folder.takes_over else "")
        job.say("\n".join(table(rows)))
    _work(run, job, before)
    if job.lock is not None:
        conclude(folder.path)
    return True


def _write_down(job: _Job, mark: RunMark) -> None:
    """What the folder holds of a run before it begins: nothing has been written before."""
    folder = job.folder.path
    remove_temporaries(folder)
    settings = settings_to_keep(job.config, job.tree)
    write_text(folder / CONFIG, config_yaml(job.config, settings))
    register(with_names(settings), folder)
    keep_inputs(folder, mark)
    source = job.folder.resume_from
    keep_overrides(folder, job.config, job.overrides, folder if source is None else run_folder_of(source))


def _work(run: "Run", job: _Job, before: Contents) -> None:
    """Trains, and says how to go on after an end that was asked for.

    Args:
        before: what stood in files that have been written for this run; put back if its checkpoint cannot be restored.
    """
    from drift_pl.training.checkpoint_content import not_restored, raised_while_restoring

    folder = job.folder
    try:
        with nullcontext() if run.watch else leaving_at_second_sigterm():
            run.trainer.fit(run.module, datamodule=run.datamodule, ckpt_path=folder.resume_from)
    except SystemExit as stop:  # Lightning's answer to SIGTERM, without an exit status, and to Ctrl-C
        job.display.close()
        line = f"stopped after iteration {run.saved}; resume with: {resume_command(folder.path)}"
        job.say(line, sys.stderr)
        raise SystemExit(INTERRUPTED if isinstance(stop.__context__, KeyboardInterrupt) else TERMINATED) from stop
    except BaseException as error:
        job.display.close()
        if run.watch:
            run.watch.end(error)
        if folder.resume_from and not isinstance(error, UserError) and raised_while_restoring(error):
            put_back(before)
            raise not_restored(folder.resume_from, error) from error
        raise
    finally:
        if run.watch:
            run.watch.close()


def conclude(run_dir: Path) -> None:
    """What follows in a run's folder when its `summary.json` is written: its report, without which it is complete."""
    from drift_pl.reports.run_page import write_run_page

    try:
        write_run_page(run_dir)
    except Exception as error:  # whatever it is, the run is done and kept
        print(f"warning: {REPORT} was not written ({first_line(error)}): the run is complete", file=sys.stderr)


def _close(run_dir: Path, config: Config) -> None:
    from drift_pl.reports.closing import closing_table, how_to_read
    from drift_pl.reports.recorded import baseline_of_run

    summary, recorded = json.loads((run_dir / SUMMARY).read_text(encoding="utf-8")), baseline_of_run(run_dir)
    print(f"\n{summary['test_prompts']} held-out prompts x {summary['images_per_prompt']} images")
    print(closing_table(summary, recorded))
    print(how_to_read(summary, recorded) + "\n")
    if (run_dir / REPORT).is_file():
        print(f"report:  {run_dir / REPORT}")
    print(f"images:  {run_dir / 'samples' / 'base_and_tuned.png'}")
    if any(logger.name == "tensorboard" for logger in config.trainer.logger):
        print(f"watch:   tensorboard --logdir {run_dir}")
    if "stopped" in summary:
        print(f"stopped: after iteration {summary['iterations']} of {config.trainer.iterations}, {summary['stopped']}")
    print(f"resume:  {resume_command(run_dir, f'trainer.iterations={2 * config.trainer.iterations}')}")


def _run(argv: list[str]) -> None:
    if asks_for_help(argv):
        print(fit_help(argv), end="")
        return
    config = None
    try:
        request = parse(argv)
        config = request.config
        _follow(request)
    except UserError as error:
        if reports_errors(config, argv):
            raise
        raise SystemExit(USER_ERROR) from error


def _follow(request: Request) -> None:
    refuse_missing(request.config, runs=not request.print_config)
    if request.ignored and is_first_launched(request.config):
        print(f"warning: without effect: {', '.join(request.ignored)}", file=sys.stderr)
    if request.print_config:
        print(config_yaml(request.config, request.tree), end="")
    else:
        began = time.monotonic()
        worked = _fit(request.config, request.tree, request.overrides)
        if worked and is_first_launched(request.config):
            folder, seconds = run_path(request.config), clock(time.monotonic() - began)
            if request.config.dry_run:
                print(dry_run_report(folder, request.config, request.overrides, seconds))
            else:
                _close(folder, request.config)


def main(argv: list[str] | None = None) -> int:
    return run_command(_run, argv)


if __name__ == "__main__":
    sys.exit(main())
