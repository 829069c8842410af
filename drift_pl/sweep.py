"""The command that trains many runs: `python -m drift_pl.sweep experiment=NAME KEY=VALUE,VALUE ... [KEY=VALUE ...]`."""

import json
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from drift_pl.config.command import run_command
from drift_pl.config.command_line import asks_for_help
from drift_pl.config.run_folder import MEASURED, REPORT, SUMMARY
from drift_pl.config.slurm import slurm_script
from drift_pl.config.sweeping import Sweep, SweepOptions, SweptRun, read_sweep
from drift_pl.core.errors import UserError
from drift_pl.core.files import local_path, write_json, write_text
from drift_pl.core.job_queue import Job, Outcome, work
from drift_pl.core.json_files import read_keys
from drift_pl.core.progress import clock

LOGS = Path("runs") / "sweeps"
FIT = (sys.executable, "-m", "drift_pl.fit")


def sweep(options: SweepOptions, planned: Sweep, command: Sequence[str] = FIT) -> list[SweptRun]:
    """Trains the runs that are not finished, and returns those that failed.

    Args:
        command: what trains; it is given a run's arguments and `ckpt_path=auto`.
    """
    folder = LOGS / planned.name
    waiting = [run for run in planned.runs if not run.is_finished()]
    slots = [{"CUDA_VISIBLE_DEVICES": str(gpu)} for gpu in options.gpus] or [{}] * options.jobs
    finished = len(planned.runs) - len(waiting)
    print(f"{len(planned.runs)} runs: {finished} finished, {len(waiting)} to do; logs in {folder}", flush=True)
    if waiting:
        print("how far they are: python -m drift_pl.runs", flush=True)
    by_name = {run.folder.name: run for run in waiting}
    jobs = [
        Job(name, [*command, *run.arguments, "ckpt_path=auto"], folder / f"{name}.log") for name, run in by_name.items()
    ]
    failed: list[SweptRun] = []
    states = {str(run.folder): "finished" if run.is_finished() else "waiting" for run in planned.runs}
    _record(folder, planned, states)
    seconds = 0.0
    for done, outcome in enumerate(work(jobs, slots), 1):
        run = by_name[outcome.job.name]
        seconds += outcome.seconds
        left = seconds / done * (len(jobs) - done) / min(len(slots), len(jobs))
        failed += [run] if outcome.status else []
        states[str(run.folder)] = "failed" if outcome.status else "finished"
        _record(folder, planned, states)
        line = f"{done}/{len(jobs)}  {states[str(run.folder)]:<8}  {' '.join(run.values)}  {clock(outcome.seconds)}"
        line += f", {clock(left)} left" if done < len(jobs) else ""
        print(line + (f"  {_reason(outcome)}" if outcome.status else ""), flush=True)
    return failed


def _reason(outcome: Outcome) -> str:
    """The last line of a log that says what went wrong."""
    with outcome.job.log.open("rb") as log:
        log.seek(max(0, outcome.job.log.stat().st_size - 20_000))
        lines = log.read().decode("utf-8", "replace").splitlines()
    lines = [line.strip() for line in lines if line.strip()]
    found = [line for line in lines if re.match(r"error: |stopped|terminated|interrupted|\w*Error\b", line)]
    return (found or lines or [f"status {outcome.status}"])[-1][:300]


def _record(folder: Path, planned: Sweep, states: dict[str, str]) -> None:
    """`sweep.json`: the runs, their arguments, and how far each is."""
    runs = [
        {"folder": str(run.folder), "arguments": run.arguments, "state": states[str(run.folder)]}
        for run in planned.runs
    ]
    write_json(folder / "sweep.json", {"runs": runs})


def _run(argv: list[str]) -> None:
    if not argv or asks_for_help(argv):
        SweepOptions.read(argv or ["--help"])
        return
    options, planned = read_sweep(argv)
    if options.slurm is not None:
        file = local_path(options.slurm)
        script = slurm_script(planned.name, planned.runs, str(file))
        if file.is_file() and file.read_bytes() != script.encode():
            raise UserError(f"slurm={file} is there and holds something else, perhaps your changes: give a new file")
        write_text(file, script)
        print(f"{len(planned.runs)} runs: sbatch {shlex.quote(str(file))}")
        return
    failed = sweep(options, planned)
    if failed:
        names = "; ".join(" ".join(run.values) for run in failed)
        raise UserError(
            f"{len(failed)} of {len(planned.runs)} runs failed ({names}): logs in {LOGS / planned.name}; the same "
            "command tries them again, and skips the others"
        )
    folders = shlex.join(str(run.folder) for run in planned.runs)
    print(f"list:    python -m drift_pl.runs {folders}")
    print("\n".join(_comparisons([run.folder for run in planned.runs])))


def _comparisons(folders: Sequence[Path]) -> list[str]:
    """The commands that compare those finished runs that were measured alike; `report` refuses others together."""
    alike: dict[str, list[Path]] = {}
    for folder in folders:
        alike.setdefault(_measurement(folder), []).append(folder)
    several = [shlex.join(map(str, runs)) for runs in alike.values() if len(runs) > 1]
    if not several:
        return [f"compare: no two runs were measured alike; each has its own {REPORT}"]
    names = ["report"] if len(several) == 1 else [f"report-{number}" for number in range(1, len(several) + 1)]
    return [f"compare: python -m drift_pl.report {runs} out={name}" for runs, name in zip(several, names, strict=True)]


def _measurement(folder: Path) -> str:
    """What a finished run measured and how, as text; read without numpy, for a sweep needs none."""
    summary, record = read_keys(folder / SUMMARY), read_keys(folder / "evaluation" / "test.json")
    return json.dumps([[summary.get(key) for key in MEASURED], record.get("protocol")], sort_keys=True)


def main(argv: list[str] | None = None) -> int:
    return run_command(_run, argv)


if __name__ == "__main__":
    sys.exit(main())
