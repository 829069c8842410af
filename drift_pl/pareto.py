"""The command that compares methods: `python -m drift_pl.pareto RUN_FOLDERS... [KEY=VALUE ...]`."""

import sys
from typing import TYPE_CHECKING, Literal

from drift_pl.config.command import run_command
from drift_pl.config.fields import setting
from drift_pl.config.options import Options
from drift_pl.core.errors import UserError
from drift_pl.core.files import local_path, probe_folder, write_text

if TYPE_CHECKING:  # numpy and the rest are not needed for --help
    from drift_pl.reports.results import Results


class ParetoOptions(Options):
    """Compare methods by their reward-diversity fronts.

    Groups evaluations by method and training seed, averages seeds point by point before any front, and writes
    pareto.json, pareto.md, pareto.png, pareto.svg and index.html. PATHS are run folders or evaluation files; each run
    needs an evaluation first: python -m drift_pl.evaluate ckpt_path=RUN_FOLDER
    """

    program = "python -m drift_pl.pareto"
    example = "runs/shapes_div-* runs/shapes_flowgrpo-* baseline=shapes_flowgrpo reward_bound=1"

    paths: list[str] = setting(..., "run folders or evaluation files")
    baseline: str | None = setting(
        None,
        "method that the others are compared with; null: the shortest name that contains 'flowgrpo', else the one "
        "whose name is in all others, else the first",
        example="shapes_flowgrpo",
    )
    diversity: list[str] = setting(
        [],
        "measures of diversity, each with a front and a row of gains; []: pairwise_distance and coverage if measured",
        example="[pairwise_distance, coverage]",
    )
    reward: str = setting("reward", "x-axis of the fronts; reward: the weighted sum of the training rewards")
    reward_bound: float | None = setting(
        None,
        "the highest possible reward, by which hypervolumes are normalized; null: leaves them out",
        example="1",
    )
    points: Literal["all", "last"] = setting(
        "all", "evaluated points of a run: all, or last (the base and the last iteration only)"
    )
    budgets: Literal["same", "differ"] = setting(
        "same",
        "differ: compare methods of different budgets (images, optimizer steps, training prompts), with a note",
    )
    out: str = setting("pareto", "folder to write")

    def measures(self) -> tuple[str, ...]:
        """Names of `diversity`, which may also be written A,B without brackets.

        Raises:
            UserError: a name is missing or comes twice.
        """
        names = tuple(name.strip() for entry in self.diversity for name in entry.split(","))
        if "" in names or len(set(names)) < len(names):
            example = "give each measure once, e.g. diversity=[pairwise_distance, coverage]"
            raise UserError(f"diversity={', '.join(names)}: {example}")
        return names


def pareto(options: ParetoOptions) -> "Results":
    """Reads, compares and writes everything; returns the numbers.

    Raises:
        UserError: a file is missing or old, or two runs cannot be compared; then nothing has been written.
    """
    from drift_pl.evaluation.bundle import read_evaluations
    from drift_pl.reports.comparison import compare
    from drift_pl.reports.compute import compute
    from drift_pl.reports.figure import draw
    from drift_pl.reports.page import write_page
    from drift_pl.reports.question import Question
    from drift_pl.reports.table import markdown

    out, measures = local_path(options.out), options.measures()
    if out.is_file():
        raise UserError(f"out={out} is a file: give a folder, e.g. out=pareto")
    probe_folder(out)
    evaluations = [evaluation for path in options.paths for evaluation in read_evaluations(local_path(path))]
    comparison = compare(evaluations, options.points == "last", options.budgets == "differ")
    question = Question(options.reward, measures, options.baseline, options.reward_bound)
    results = compute(comparison, question)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "pareto.json", results.to_json())
    write_text(out / "pareto.md", markdown(results))
    draw(results, out)
    write_page(results, out)
    return results


def _run(argv: list[str]) -> None:
    options = ParetoOptions.read(argv)
    if options is None:
        return
    pareto(options)
    out = local_path(options.out)
    print((out / "pareto.md").read_text(encoding="utf-8"))
    print(f"written: {out / 'index.html'}, pareto.md, pareto.json, pareto.png, pareto.svg")


def main(argv: list[str] | None = None) -> int:
    return run_command(_run, argv)


if __name__ == "__main__":
    sys.exit(main())
