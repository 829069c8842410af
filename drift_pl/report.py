"""The command that shows finished runs: `python -m drift_pl.report RUN_FOLDER ... [out=FOLDER]`."""

import sys
from pathlib import Path

from drift_pl.config.command import run_command
from drift_pl.config.fields import setting
from drift_pl.config.options import Options
from drift_pl.core.files import local_path, probe_folder, write_json, write_text


class ReportOptions(Options):
    """Summarize finished runs: group them by experiment and average over seeds.

    Writes report.md, report.json and report.png: reward and diversity along training, and the same noise through the
    base model and through each experiment. PATHS are run folders.
    """

    program = "python -m drift_pl.report"
    example = "runs/shapes_div-* runs/shapes_flowgrpo-*"

    paths: list[str] = setting(..., "run folders")
    out: str = setting(".", "folder to write")


def report(folders: list[Path], out: Path) -> str:
    """Reads runs, writes everything, and returns the table.

    Raises:
        UserError: a folder is not a finished run's, or two cannot be compared; then nothing has been written.
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
    options = ReportOptions.read(argv)
    if options is None:
        return
    out = local_path(options.out)
    print(report([local_path(path) for path in options.paths], out))
    print(f"\nwritten: {out / 'report.md'}, report.json, report.png")


def main(argv: list[str] | None = None) -> int:
    return run_command(_run, argv)


if __name__ == "__main__":
    sys.exit(main())
