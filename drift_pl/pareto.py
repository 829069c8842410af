"""The command that compares methods: `python -m drift_pl.pareto RUN_FOLDERS... [KEY=VALUE ...]`."""

import difflib
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drift_pl.config.command import run_command
from drift_pl.core.errors import UserError
from drift_pl.core.files import write_text

if TYPE_CHECKING:  # numpy and the rest are not needed for --help
    from drift_pl.reports.results import Results

HELP = """\
usage: python -m drift_pl.pareto RUN_FOLDER_OR_EVALUATION_FILE ... [KEY=VALUE ...]

Compare methods by their reward-diversity fronts: groups evaluations by method and training seed, averages seeds point
by point before any front, and writes pareto.json, pareto.md, pareto.png, pareto.svg and index.html. Each run needs an
evaluation first: python -m drift_pl.evaluate ckpt_path=RUN_FOLDER

  baseline=METHOD       what the others are held against (default: the shortest name with 'flowgrpo' in it, else the
                        first method given)
  diversity=[A, B]      measures of diversity, a front and a row of gains for each (default: pairwise_distance and
                        coverage, whichever there are)
  reward=MEASURE        what fronts have on their x-axis (default: reward, the training judges' weighted sum)
  reward_bound=X        the highest reward that the judges can give; hypervolumes are normalised by it, and left out
                        without it
  points=all            all evaluated points of a run, or `last`: the base and the last iteration's alone
  budgets=same          `differ` lets methods of different budgets (images, optimiser steps, training prompts) through;
                        the table says so
  out=FOLDER            where to write (default: pareto)

options:
  -h, --help            show this text
  --debug               show the traceback of an error

example:
  python -m drift_pl.pareto runs/shapes_div-* runs/shapes_flowgrpo-* baseline=shapes_flowgrpo reward_bound=1
"""
FLAGS = ("--help", "-h", "--debug")
CHOICES = {"points": ("all", "last"), "budgets": ("same", "differ")}
EXAMPLE = "python -m drift_pl.pareto runs/shapes_div-* runs/shapes_flowgrpo-*"


@dataclass(frozen=True)
class Request:
    """What a command line asks for; see `HELP`."""

    paths: tuple[Path, ...]
    baseline: str | None = None
    diversity: tuple[str, ...] = ()
    reward: str = "reward"
    reward_bound: float | None = None
    points: str = "all"
    budgets: str = "same"
    out: Path = Path("pareto")


KEYS = tuple(name for name in Request.__dataclass_fields__ if name != "paths")


def parse(argv: list[str]) -> Request:
    """Reads a command line without the program's name.

    Raises:
        UserError: an unknown key or flag, a value that does not fit, or no path.
    """
    paths: list[Path] = []
    given: dict[str, Any] = {}
    for argument in argv:
        key, equals, text = argument.partition("=")
        if argument.startswith("-"):
            _refuse_unknown_flag(argument)
        elif equals and "/" not in key:
            if key not in KEYS:
                near = difflib.get_close_matches(key, KEYS, n=1)
                remedy = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(KEYS)}"
                raise UserError(f"unknown key {key!r}: {remedy}")
            given[key] = _value(key, text)
        else:
            paths.append(Path(argument))
    if not paths:
        raise UserError(f"no run folder given: {EXAMPLE}")
    return Request(tuple(paths), **given)


def _value(key: str, text: str) -> object:
    if key == "diversity":
        names = tuple(name.strip(" '\"") for name in text.strip("[] ").split(","))
        if "" in names or len(set(names)) < len(names):
            raise UserError(f"diversity={text}: give each measure once, e.g. diversity=[pairwise_distance, coverage]")
        return names
    if not text:
        raise UserError(f"{key}= has no value: --help shows what it takes")
    if key == "reward_bound":
        try:
            bound = float(text)
        except ValueError:
            bound = math.nan
        if not math.isfinite(bound):
            raise UserError(f"reward_bound={text} is not a finite number: use e.g. reward_bound=1")
        return bound
    if key in CHOICES and text.lower() not in CHOICES[key]:
        raise UserError(f"{key}={text}: choose {key}={f' or {key}='.join(CHOICES[key])}")
    return text.lower() if key in CHOICES else Path(text) if key == "out" else text


def _refuse_unknown_flag(flag: str) -> None:
    name = flag.lstrip("-").partition("=")[0].replace("-", "_")
    if name in KEYS:
        raise UserError(f"unknown flag {flag!r}: keys take no dashes, use {name}=VALUE")
    if flag not in FLAGS:
        raise UserError(f"unknown flag {flag!r}: the flags are {', '.join(FLAGS)}")


def pareto(request: Request) -> "Results":
    """Reads, compares and writes everything; returns the numbers.

    Raises:
        UserError: a file is missing or old, or two runs cannot be compared; nothing has been written then.
    """
    from drift_pl.evaluation.bundle import read_evaluations
    from drift_pl.reports.comparison import compare
    from drift_pl.reports.compute import compute
    from drift_pl.reports.figure import draw
    from drift_pl.reports.page import write_page
    from drift_pl.reports.question import Question
    from drift_pl.reports.table import markdown

    if request.out.is_file():
        raise UserError(f"out={request.out} is a file: give a folder, e.g. out=pareto")
    evaluations = [evaluation for path in request.paths for evaluation in read_evaluations(path)]
    comparison = compare(evaluations, request.points == "last", request.budgets == "differ")
    question = Question(request.reward, request.diversity, request.baseline, request.reward_bound)
    results = compute(comparison, question)
    request.out.mkdir(parents=True, exist_ok=True)
    write_text(request.out / "pareto.json", results.to_json())
    write_text(request.out / "pareto.md", markdown(results))
    draw(results, request.out)
    write_page(results, request.out)
    return results


def _run(argv: list[str]) -> None:
    if not argv or "--help" in argv or "-h" in argv:
        print(HELP, end="")
        return
    request = parse(argv)
    pareto(request)
    print((request.out / "pareto.md").read_text(encoding="utf-8"))
    print(f"written: {request.out / 'index.html'}, pareto.md, pareto.json, pareto.png, pareto.svg")


def main(argv: list[str] | None = None) -> int:
    return run_command(_run, argv)


if __name__ == "__main__":
    sys.exit(main())
