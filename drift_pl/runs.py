"""The command that lists runs: `python -m drift_pl.runs [FOLDER ...] [KEY=VALUE ...]`."""

import json
import shutil
import sys
from pathlib import Path

from drift_pl.config.command import run_command
from drift_pl.config.fields import setting
from drift_pl.config.options import Options
from drift_pl.core.errors import UserError
from drift_pl.core.files import local_path


class RunsOptions(Options):
    """List runs: state, iteration, held-out reward and diversity from base to tuned, what differs from the experiment.

    PATHS are run folders, or folders that hold runs; none: runs. Of a run that has not ended, reward and diversity are
    those of its last training groups.
    """

    program = "python -m drift_pl.runs"
    example = "runs tags=[paper]"
    flags = {"--json": "print a JSON list with every value"}

    paths: list[str] = setting(["runs"], "run folders, or folders that hold runs")
    tags: list[str] = setting([], "only runs that have all of these tags", example="[paper]")


def _run(argv: list[str]) -> None:
    options = RunsOptions.read(argv)
    if options is None:
        return
    from drift_pl.reports.run_list import find_runs, read_listed_run
    from drift_pl.reports.run_table import run_table

    folders = [local_path(path) for path in options.paths]
    _refuse_missing(folders, options.paths)
    runs = [read_listed_run(path) for path in find_runs([folder for folder in folders if folder.is_dir()])]
    runs = [run for run in runs if set(options.tags) <= set(run.tags)]
    if options.has_flag("--json"):
        print(json.dumps([run.as_json() for run in runs], indent=2, ensure_ascii=False))
    elif runs:
        print(run_table(runs, shutil.get_terminal_size((160, 24)).columns, sys.stdout.isatty()), end="")
    else:
        tagged = f" with tags=[{', '.join(options.tags)}]" if options.tags else ""
        print(f"no runs{tagged} in {', '.join(options.paths)}: start one with python -m drift_pl.fit, or name a folder")


def _refuse_missing(folders: list[Path], given: list[str]) -> None:
    """Checks that the folders of the command line exist; a missing one would look like one without runs.

    Raises:
        UserError: a folder that was named is not there; the default one need not be.
    """
    for folder, text in zip(folders, given, strict=True):
        if not folder.is_dir() and given != ["runs"]:
            kind = "a file" if folder.exists() else "not there"
            raise UserError(f"{text} is {kind}: give a run's folder, or one that holds runs, e.g. runs")


def main(argv: list[str] | None = None) -> int:
    return run_command(_run, argv)


if __name__ == "__main__":
    sys.exit(main())
