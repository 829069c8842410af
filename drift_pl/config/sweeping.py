"""From `seed=0,1,2 incentive.shaping.weight=1,5` to the runs of a sweep, each checked before any begins."""

import hashlib
import itertools
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from drift_pl.config.command_line import FLAGS, split_line
from drift_pl.config.early import refuse_missing
from drift_pl.config.fields import setting
from drift_pl.config.loading import parse
from drift_pl.config.options import Options
from drift_pl.config.run_folder import SUMMARY, run_path
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError
from drift_pl.core.json_files import read_json
from drift_pl.core.run_status import went_on

OF_A_RUN = ("run_dir", "ckpt_path")
"""Keys of `fit` that a sweep sets itself."""


class SweepOptions(Options):
    """Train every combination of values: give a key several values, with commas between them.

    All keys of `fit` can be given (fit --help); brackets and quotes protect commas. The runs go on where they were when
    the same command is given again: finished ones are skipped, failed ones are tried again. slurm=FILE writes an array
    script instead.
    """

    program = "python -m drift_pl.sweep"
    example = "experiment=shapes_flowgrpo seed=0,1,2 objective.kl_weight=0.1,0.3"

    jobs: int = setting(1, "runs at a time on this machine", ge=1, le=1024)
    gpus: list[int] = setting(
        [], "numbers of the GPUs, of which each run at a time has one, instead of jobs", example="[0, 1, 2, 3]"
    )
    slurm: str | None = setting(None, "file to write: an array script for sbatch; nothing is run", example="sweep.sh")


class SweptRun(NamedTuple):
    """A run of a sweep.

    Attributes:
        arguments: of `fit`.
        values: those of the keys that are swept, as KEY=VALUE.
    """

    folder: Path
    arguments: tuple[str, ...]
    values: tuple[str, ...]
    config: Config

    def is_finished(self) -> bool:
        """Whether there is nothing left to do, as `ckpt_path=auto` understands it."""
        try:
            summary = read_json(self.folder / SUMMARY)
            stopped = "stopped" in summary and not went_on(self.folder, summary["iterations"])
            return stopped or summary["iterations"] >= self.config.trainer.iterations
        except (ValueError, KeyError, TypeError):
            return False


class Sweep(NamedTuple):
    name: str
    runs: tuple[SweptRun, ...]


def read_sweep(argv: Sequence[str]) -> tuple[SweepOptions, Sweep]:
    """The options and the runs of a command line without the program's name.

    Raises:
        UserError: nothing is swept, two runs would be the same, or one of them cannot be run.
    """
    pairs = split_line(Config, argv, FLAGS).pairs
    own = [f"{key}={text}" for key, text in pairs if key in SweepOptions.model_fields]
    options = SweepOptions.parse(own)
    _refuse_places(options, {key for key, _ in pairs})
    values = {key: split_values(key, text) for key, text in pairs if key not in SweepOptions.model_fields}
    for key in OF_A_RUN:
        if key in values:
            raise UserError(f"{key} is set by the sweep, for each run its own: leave {key}=... out")
    swept = [key for key, texts in values.items() if len(texts) > 1]
    if not swept:
        raise UserError(
            "nothing to sweep: give a key several values with commas between them, e.g. "
            f"{SweepOptions.program} {SweepOptions.example}"
        )
    runs = tuple(_run(dict(zip(values, texts, strict=True)), swept) for texts in itertools.product(*values.values()))
    _refuse_twins(runs)
    for run in runs:
        refuse_missing(run.config, runs=options.slurm is None)
    text = json.dumps([run.arguments for run in runs])
    return options, Sweep(f"{_experiment(runs)}-{hashlib.sha256(text.encode()).hexdigest()[:8]}", runs)


def _refuse_places(options: SweepOptions, given: Collection[str]) -> None:
    """Checks `slurm`, `jobs` and `gpus`, which decide where a sweep's runs go, against each other.

    Raises:
        UserError: the options say twice where runs are to go, or the numbers of GPUs are none.
    """
    here = [key for key in ("jobs", "gpus") if key in given]
    if options.slurm is not None and here:
        raise UserError(f"slurm={options.slurm} leaves it to SLURM where a run goes: leave {here[0]} out")
    if options.gpus and "jobs" in here:
        raise UserError(f"jobs={options.jobs} is the number of gpus={options.gpus}: leave jobs out")
    if min(options.gpus, default=0) < 0 or len(set(options.gpus)) < len(options.gpus):
        raise UserError(f"gpus={options.gpus}: give the number of each GPU once, from 0 on, e.g. gpus=[0,1]")


def split_values(key: str, text: str) -> list[str]:
    """The values between commas; commas in brackets or quotes belong to a value.

    Raises:
        UserError: a value is missing.
    """
    values, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and not values[-1].strip("[{ "):
            quote = character
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0 and not quote:
            values.append("")
        else:
            values[-1] += character
    values = [value.strip() for value in values] if len(values) > 1 else values
    if len(values) > 1 and "" in values:
        raise UserError(
            f"{key}={text}: a value is missing between commas: use e.g. {key}={','.join(filter(None, values))}"
        )
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise UserError(f"{key}={text}: {twice} stands there twice")
    return values


def _run(texts: dict[str, str], swept: Sequence[str]) -> SweptRun:
    arguments = tuple(f"{key}={text}" for key, text in texts.items())
    config = parse(arguments).config
    return SweptRun(run_path(config), arguments, tuple(f"{key}={texts[key]}" for key in swept), config)


def _refuse_twins(runs: Sequence[SweptRun]) -> None:
    """Runs that differ only in what shapes no result have the same folder.

    Raises:
        UserError: there are two.
    """
    seen: dict[Path, SweptRun] = {}
    for run in runs:
        other = seen.setdefault(run.folder, run)
        if other is not run:
            raise UserError(
                f"{' '.join(other.values)} and {' '.join(run.values)} are one run, {run.folder}: they differ only in "
                "what changes no result; sweep other keys, or add run_name=a,b"
            )


def _experiment(runs: Sequence[SweptRun]) -> str:
    names = dict.fromkeys(Path(run.config.experiment).stem for run in runs)
    return "-".join(names)[:60]
