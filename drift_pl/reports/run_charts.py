"""The charts of report.html: reward and diversity along training, and the front. No torch."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from drift_pl.functional.fronts import pareto_front
from drift_pl.reports.charts import Chart, Line, Point, figure
from drift_pl.reports.closing import DIVERSITY
from drift_pl.reports.facts import RunFacts
from drift_pl.reports.figure import COLOURS
from drift_pl.reports.recorded import Recorded

TUNING = "On the tuning prompts, without noise, as the run looked at them."
BETTER = "Better is up and to the right. The broad line is the front: of its points none is beaten in both."
TRAINING = "Of the groups that are trained on: noisy steps and, with the prompting lever, varied prompts."


def charts(runs: Sequence[RunFacts]) -> str:
    """All charts, as HTML; a sentence if there is nothing to draw."""
    recorded = recorded_looks(runs)
    drawn = [_along(runs, recorded, name) for name in ("reward", DIVERSITY)] + [_front(runs, recorded)]
    drawn += [
        _logged(runs, key, name) for key, name in (("reward/mean", "reward"), (f"diversity/{DIVERSITY}", DIVERSITY))
    ]
    text = "".join(figure(chart) for chart in drawn)
    if not text:
        return '<p class="notes">The run looked at no tuning prompts (evaluation.every=0) and logged no metrics.</p>'
    return f'<div class="charts">{text}</div>'


def recorded_looks(runs: Sequence[RunFacts]) -> Recorded | None:
    """The recorded baseline, if it was looked at as all of the runs were."""
    found = [run.recorded for run in runs if run.recorded and run.looks and run.recorded.looks_match(run.looks)]
    return found[0] if len(found) == len(runs) else None


def colours(runs: Sequence[RunFacts]) -> dict[str, str]:
    """Experiment, with its variant -> its colour."""
    names = dict.fromkeys(run.group for run in runs)
    return {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}


def _pairs(entries: Sequence[dict[str, Any]], x: str, y: str) -> list[Point]:
    found = [(entry.get(x), entry.get(y)) for entry in entries]
    return [(float(a), float(b)) for a, b in found if a is not None and b is not None and math.isfinite(a + b)]


def _lines(runs: Sequence[RunFacts], recorded: Recorded | None, x: str, y: str) -> list[Line]:
    chosen = colours(runs)
    lines = [Line(recorded.name + " (recorded)", _pairs(recorded.looks, x, y), None, "plain")] if recorded else []
    lines += [Line(run.label, _pairs(run.run.history, x, y), chosen[run.group], of=run.experiment) for run in runs]
    return [line for line in lines if line.points]


def _base(runs: Sequence[RunFacts], name: str) -> float | None:
    """The base model's value on the tuning prompts: measured there, or by a look before the first iteration."""
    for run in runs:
        if run.looks and run.looks.base and name in run.looks.base.values:
            return run.looks.base.values[name].mean
        start = next((entry for entry in run.run.history if entry["iteration"] == 0), {})
        if start.get(name) is not None:
            return float(start[name])
    return None


def _along(runs: Sequence[RunFacts], recorded: Recorded | None, name: str) -> Chart:
    base, label = _base(runs, name), name.replace("_", " ")
    levels = [] if base is None else [("base model", base)]
    lines = _lines(runs, recorded, "iteration", name)
    return Chart(
        f"{label.capitalize()} over iterations", "iteration", label, lines, levels if lines else [], note=TUNING
    )


def _front(runs: Sequence[RunFacts], recorded: Recorded | None) -> Chart:
    paths, label = _lines(runs, recorded, "reward", DIVERSITY), DIVERSITY.replace("_", " ")
    fronts = []
    for line in paths:
        front = pareto_front(*np.array(line.points, dtype=np.float64).T)
        points = list(zip(front.reward_N.tolist(), front.diversity_N.tolist(), strict=True))
        fronts.append(Line(line.name, points, line.colour, f"{line.style} front"))
    base = _base(runs, "reward"), _base(runs, DIVERSITY)
    star = (base[0], base[1]) if base[0] is not None and base[1] is not None and paths else None
    lines = [*fronts, *paths]
    return Chart("Diversity over reward", "reward", label, lines, star=star, ring=True, note=f"{TUNING} {BETTER}")


def _logged(runs: Sequence[RunFacts], key: str, name: str) -> Chart:
    chosen, label = colours(runs), name.replace("_", " ")
    series = [(run, run.series.get(key, [])) for run in runs]
    lines = [Line(run.label, values, chosen[run.group], "faint", run.experiment) for run, values in series if values]
    return Chart(f"{label.capitalize()} of the training groups", "iteration", label, lines, note=TRAINING)
