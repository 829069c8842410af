"""The command that shows finished runs: `python -m drift_pl.report RUN_FOLDER ... [out=FOLDER]`.

Groups runs by experiment, averages over seeds, and writes `report.md`, `report.json` and `report.png`: reward and
diversity along training, and the same noise through the base and through each experiment.
"""

import sys
from pathlib import Path

from drift_pl.config.command import run_command
from drift_pl.config.fields import setting
from drift_pl.config.help import read_options
from drift_pl.config.options import Options
from drift_pl.core.errors import UserError
from drift_pl.core.files import local_path, probe_folder, write_json, write_text


class ReportOptions(Options):
    """What a command line asks for."""

    program = "python -m drift_pl.report"
    purpose = (
        "Show finished runs: groups runs by experiment, averages over seeds, and writes report.md, report.json and "
        "report.png: reward and diversity along training, and the same noise through the base and through each "
        "experiment. PATHS are run folders."
    )
    example = "runs/shapes_div-* runs/shapes_flowgrpo-*"
    paths_field = "paths"

    paths: list[str] = setting(..., "run folders")
    out: str = setting(".", "folder to write", example="report")


def report(folders: list[Path], out: Path) -> str:
    """Reads runs, writes everything, and returns the table.

    Raises:
        UserError: a folder is not that of a finished run, or two cannot be compared; nothing has been written then.
    """
    from drift_pl.reports.curves import draw, group_by_experiment, read_run, summary_table

    probe_folder(out)
    groups = group_by_experiment([read_run(folder) for folder in folders])
    text = summary_table(groups)
    write_text(out / "report.md", text + "\n")
    everything = {experiment: [run.summary for run in group] for experiment, group in groups.items()}
    write_json(out / "report.json", everything)
    draw(groups, out / "report.png")
    return text


def _run(argv: list[str]) -> None:
    options = read_options(ReportOptions, argv)
    if options is None:
        return
    if not options.paths:
        raise UserError(f"no run folder given: {options.program} {options.example}")
    out = local_path(options.out)
    text = report([local_path(path) for path in options.paths], out)
    print(text)
    print(f"\nwritten: {out / 'report.md'}, report.json, report.png")


def main(argv: list[str] | None = None) -> int:
    return run_command(_run, argv)


if __name__ == "__main__":
    sys.exit(main())
