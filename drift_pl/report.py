"""The command that shows finished runs: `python -m drift_pl.report RUN_FOLDER ... [out=FOLDER]`.

Groups runs by experiment, averages over seeds, and writes `report.md`, `report.json` and `report.png`: reward and
diversity along training, and the same noise through the base and through each experiment.
"""

import sys
from pathlib import Path

from drift_pl.config.command import run_command
from drift_pl.core.errors import UserError
from drift_pl.core.files import write_json, write_text


def report(folders: list[Path], out: Path) -> str:
    """Reads runs, writes everything, and returns the table.

    Raises:
        UserError: a folder is not a finished run's, or two cannot be compared; then nothing has been written.
    """
    from drift_pl.reports.curves import draw, group_by_experiment, read_run, summary_table

    groups = group_by_experiment([read_run(folder) for folder in folders])
    text = summary_table(groups)
    write_text(out / "report.md", text + "\n")
    everything = {experiment: [run.summary for run in group] for experiment, group in groups.items()}
    write_json(out / "report.json", everything)
    draw(groups, out / "report.png")
    return text


def _run(argv: list[str]) -> None:
    if not argv or "--help" in argv or "-h" in argv:
        print(__doc__)
        return
    out = Path(next((item.removeprefix("out=") for item in argv if item.startswith("out=")), "."))
    folders = [Path(item) for item in argv if not item.startswith(("out=", "--"))]
    if not folders:
        raise UserError("no run folder given: python -m drift_pl.report runs/shapes_div-* runs/shapes_flowgrpo-*")
    text = report(folders, out)
    print(text)
    print(f"\nwritten: {out / 'report.md'}, report.json, report.png")


def main(argv: list[str] | None = None) -> int:
    return run_command(_run, argv)


if __name__ == "__main__":
    sys.exit(main())
