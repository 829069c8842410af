"""The command that shows finished runs: `python -m drift_pl.report RUN_FOLDER ... [out=FOLDER]`."""

import re
import sys
from pathlib import Path

from drift_pl.config.command import run_command
from drift_pl.config.fields import setting
from drift_pl.config.inputs import MARK
from drift_pl.config.options import Options
from drift_pl.config.own_run import CONFIG
from drift_pl.config.run_folder import REPORT, SUMMARY, resume_command
from drift_pl.core.errors import UserError
from drift_pl.core.files import local_path, probe_folder, write_json, write_text


class ReportOptions(Options):
    """Show finished runs side by side: a page, a table over seeds, a figure.

    Writes report.html (what was run, how it went, pictures, health), report.md, report.json and report.png. PATHS are
    run folders, or folders that hold runs; unfinished runs, and folders beside runs that are none, are left out with a
    note. Every fit writes its own page.
    """

    program = "python -m drift_pl.report"
    example = "runs/shapes_div-* runs/shapes_flowgrpo-*"

    paths: list[str] = setting(..., "run folders, or folders that hold runs")
    out: str | None = setting(
        None, "folder to write; null: that of the run if there is one, else report", example="report"
    )


def report(folders: list[Path], out: Path | None = None) -> tuple[Path, str, list[str]]:
    """Reads runs, writes everything, and returns the folder, the table and a note for each folder that was left out.

    Raises:
        UserError: no run is finished, a folder is not there, or two runs cannot be compared; then nothing has been
            written.
    """
    from drift_pl.reports.curves import draw, group_by_experiment, summary_table
    from drift_pl.reports.facts import read_facts
    from drift_pl.reports.run_page import page

    finished, notes = _finished(folders)
    runs = [read_facts(folder) for folder in finished]
    out = out or (runs[0].run.folder if len(runs) == 1 and not notes else Path("report"))
    probe_folder(out)
    groups = group_by_experiment([run.run for run in runs])
    text = summary_table(groups)
    html = page(runs, notes)
    draw(groups, out / "report.png")
    write_text(out / REPORT, html)
    write_text(out / "report.md", text + "\n")
    everything = {experiment: [run.summary for run in group] for experiment, group in groups.items()}
    write_json(out / "report.json", everything)
    return out, text, notes


def _finished(folders: list[Path]) -> tuple[list[Path], list[str]]:
    """The finished runs, and a note for each other folder: `runs/*` names more than the runs, as the logs of sweeps.

    Raises:
        UserError: no run is finished.
    """
    found = _runs_of(folders)
    # without a run all of them stay, and so does what is not there: reading them says what is wrong
    runs = [folder for folder in found if _is_run(folder) or not folder.is_dir()] or found
    notes = [f"left out, no run: {folder}" for folder in found if folder not in runs]
    unfinished = [folder for folder in runs if _is_run(folder) and not (folder / SUMMARY).is_file()]
    to_finish = [f"{folder}; go on with {resume_command(folder)}" for folder in unfinished]
    if unfinished == runs:
        raise UserError(f"no run is finished: {to_finish[0]}")
    notes += [f"left out, not finished: {line}" for line in to_finish]
    return [folder for folder in runs if folder not in unfinished], notes


def _runs_of(folders: list[Path]) -> list[Path]:
    """Each folder, or the runs below it by their names; each once.

    Raises:
        UserError: one is a file.
    """
    from drift_pl.reports.run_list import each_once, find_runs

    found: list[Path] = []
    for path in folders:
        _refuse_file(path)
        holds_others = path.is_dir() and not (path / SUMMARY).is_file()
        found += (sorted(find_runs([path])) if holds_others else []) or [path]
    return each_once(found)


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (SUMMARY, CONFIG, MARK))


def _refuse_file(path: Path) -> None:
    """Refuses a file in place of a run's folder; of a report, the message names its run's folder.

    Raises:
        UserError: the path is a file, which may be a report itself.
    """
    from drift_pl.reports.run_page import FORMAT, GENERATOR

    if not path.is_file():
        return
    head = path.read_text(encoding="utf-8", errors="replace")[:2000]
    found = re.search(rf'content="{GENERATOR} (\d+)"', head)
    if found is None:
        raise UserError(f"{path} is a file: give the folders of runs, e.g. runs/shapes_*")
    age = f", of version {found[1]} (this one writes {FORMAT})" if int(found[1]) != FORMAT else ""
    raise UserError(f"{path} is a report{age}: give its run's folder, python -m drift_pl.report {path.parent}")


def _run(argv: list[str]) -> None:
    options = ReportOptions.read(argv)
    if options is None:
        return
    out = None if options.out is None else local_path(options.out)
    out, text, notes = report([local_path(path) for path in options.paths], out)
    print(text)
    for note in notes:
        print(f"warning: {note}", file=sys.stderr)
    print(f"\nwritten: {out / 'report.html'}, report.md, report.json, report.png")


def main(argv: list[str] | None = None) -> int:
    return run_command(_run, argv)


if __name__ == "__main__":
    sys.exit(main())
