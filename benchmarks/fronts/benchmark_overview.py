"""The one table of docs/benchmark.md: every method in every world, after two lengths; and which recipes it took."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from benchmark_table import Table
from benchmark_text import gain_text
from plan import Job

from drift_pl.reports.markdown import code, row

RECIPES = (
    "## Recipes that met the test prompts",
    "",
    "Each once, however many tiers have it. A recipe is its settings without the length of the run.",
    "",
)


def overview_lines(tables: Sequence[Table], content: dict[str, Any]) -> list[str]:
    """A row for each method, two columns for each world; of several tiers that have a method, the one of most seeds.

    Args:
        tables: of all tiers; those without a checkpoint at the world's one length are left out.
        content: of plan2.yaml.
    """
    whole = sorted((table for table in tables if table.at_length), key=lambda table: -table.seeds)
    worlds = sorted({table.tier.world for table in whole})
    having = {name: [table for table in whole if name in table.tier.methods] for name in content["methods"]}
    head = ["method", *(f"{world}: at equal reward" for world in worlds), *(f"{world}: ends" for world in worlds)]
    lines = [row([*head, "minutes"]), row(["---"] * (len(head) + 1))]
    for name, found in having.items():
        first = [next((table for table in found if table.tier.world == world), None) for world in worlds]
        if found:
            cells = [*(_gain(table, name) for table in first), *(_ends(table, name) for table in first)]
            lines.append(row([code(name), *cells, _cost(found, name)]))
    return [*lines, "", *(f"- {code(name)}: {content['methods'][name]}." for name, found in having.items() if found)]


def recipe_lines(tables: Sequence[Table]) -> list[str]:
    """How many recipes were evaluated on test prompts, and which: a recipe is its settings, without seed and length."""
    met: dict[str, dict[Any, str]] = {}
    tiers: dict[str, list[str]] = {}
    for tier in (table.tier for table in tables):
        tiers.setdefault(tier.world, []).append(tier.name)
        met.setdefault(tier.world, {}).update({_recipe(job): job.method for job in tier.jobs})
    lines = list(RECIPES)
    for world in sorted(met):
        names = ", ".join(map(code, met[world].values()))
        lines.append(f"- World {world} ({', '.join(tiers[world])}): {len(met[world])}, {names}.")
    return [*lines, ""]


def _recipe(job: Job) -> Any:
    settings = tuple(entry for entry in job.overrides if not entry.startswith("trainer."))
    return settings, job.source, tuple(entry for entry in job.evaluation if entry.startswith("lora_scale"))


def _gain(table: Table | None, name: str) -> str:
    """The gain in diversity over the baseline; below it the ceiling and the number of seeds."""
    if table is None:
        return ""
    found = table.row_of(name, table.tier.baseline)
    if found.at_share is None:
        return "the baseline"
    ceiling = "" if found.ceiling is None else f"of {100 * found.ceiling:+.1f} %, "
    return f"{gain_text(found.diversity)}<br>{ceiling}{table.seeds} seeds"


def _ends(table: Table | None, name: str) -> str:
    """Reward and diversity kept after one length; below it after two."""
    if table is None or any(job.source for job in table.tier.jobs if job.method == name):
        return ""
    looks = (table.at_length.get(name), table.row_of(name, table.tier.baseline).final)
    return "<br>".join(_end(values, table) for values in looks if values is not None)


def _end(values: dict[str, float], table: Table) -> str:
    kept = table.kept(values)
    return f"{values['reward']:.3f}" + ("" if np.isnan(kept) else f", {100 * kept:.0f} %")


def _cost(having: Sequence[Table], name: str) -> str:
    """Minutes of a run and its evaluation, of the baseline's, where both were timed on the same device."""
    for table in sorted(having, key=lambda table: table.tier.world != "b"):
        baseline = table.tier.baseline
        own, plain = (table.row_of(each, baseline).minutes for each in (name, baseline))
        if own is not None and plain:
            return f"{own / plain:.1f}"
    return ""
