"""The generated part of docs/benchmark.md, between two markers, and its figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from benchmark_claim import claim_lines
from benchmark_overview import overview_lines, recipe_lines
from benchmark_room import room_lines
from benchmark_table import CPU, FURTHER, HELD_OUT, Row, Table
from benchmark_text import called, difference_text, gain_text, level_text
from plan import Tier

from drift_pl.core.errors import UserError
from drift_pl.core.files import write_text
from drift_pl.reports.figure import BASELINE_COLOUR, COLOURS, MARKERS, STAR, STYLE, save_png
from drift_pl.reports.markdown import code, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BEGIN, END = "<!-- benchmark:begin -->", "<!-- benchmark:end -->"
BEGIN_TABLE, END_TABLE = "<!-- table:begin -->", "<!-- table:end -->"
BEFORE = "the model before"
HEAD = [
    *("method", "what it is", "reward", "held out: minus the file size in kB", "on-prompt share", "diversity", "LPIPS"),
    *("diversity gain at equal reward", "ceiling", "at 75 % of the baseline's gain", "reward gain at equal diversity"),
    *("hypervolume", "minutes"),
]

WHOLE = "diversity at 100 % of the baseline's gain in reward (nothing is claimed of it)"
AXES = {"valid_pairwise_distance": "distance among on-prompt images", "pairwise_distance": "distance"}
"""Measure -> what the figure calls it."""


def write_page(
    path: Path, tables: Sequence[Table], plan: dict[str, Tier], content: dict[str, Any], further: Sequence[str] = ()
) -> None:
    """Replaces what stands between the two pairs of markers: the one table, and the tables of the tiers.

    Args:
        further: lines below the tables, such as what was tried on tuning prompts.

    Raises:
        UserError: the page has no markers.
    """
    parts = [*claim_lines(tables), *(part for table in tables for part in _table(table))]
    parts += [*further, *recipe_lines(tables), *_missing(tables, plan)]
    text = path.read_text(encoding="utf-8")
    sections = {(BEGIN_TABLE, END_TABLE): overview_lines(tables, content), (BEGIN, END): parts}
    for (begin, end), lines in sections.items():
        before, found, rest = text.partition(begin + "\n")
        _, ended, after = rest.partition(end)
        if not found or not ended:
            raise UserError(f"{path} needs the lines {begin} and {end}, between which a table is written")
        text = before + begin + "\n" + "\n".join(lines) + "\n" + end + after
    write_text(path, text)


def _table(table: Table) -> list[str]:
    tier, seeds = table.tier, ", ".join(map(str, table.tier.seeds))
    lines = [
        f"## Tier {tier.name}: {tier.title}",
        "",
        f"World {tier.world}, seed {seeds}, commit `{table.commit}`. Diversity: `{table.measure}`. Minutes are those "
        f"of a run and its evaluation by the clock, the median, on {_devices(table)}.",
        "",
        *_rows(table, tier.baseline),
    ]
    for other in table.rows:
        if other != tier.baseline:
            lines += ["", f"Against {called(other)}:", "", *_rows(table, other)]
    lines += [*_at_length(table), "", "Further measures at the last look:", "", *_further(table)]
    lines += ["", *_sensitivity(table)]
    if table.room is not None:
        lines += room_lines(table.room, _ends(table))
    return [*lines, ""]


def _devices(table: Table) -> str:
    """What trained which seeds; minutes are compared on one of them."""
    names = {device: "one core of a shared machine" if device == CPU else device for device in table.devices}
    several = "" if table.timed_on == CPU else ", with several runs at a time"
    others = [
        f"seed {', '.join(map(str, seeds))} on {names[device]}, not timed"
        for device, seeds in table.devices.items()
        if device != table.timed_on
    ]
    return "; ".join([names[table.timed_on] + several, *others])


def _at_length(table: Table) -> list[str]:
    """What each method has after one length, and how much of the base model's diversity it keeps."""
    if not table.at_length:
        return []
    lines = ["", f"After one length, {table.length} iterations:", "", row([*HEAD[:1], *HEAD[2:7], "diversity kept"])]
    lines.append(row(["---"] * 7))
    if before := _before(table):
        lines.append(row([BEFORE, *_values(before, table.measure), ""]))
    for name, values in table.at_length.items():
        lines.append(row([code(name), *_values(values, table.measure), f"{100 * table.kept(values):.0f} %"]))
    return lines


def _further(table: Table) -> list[str]:
    """Measures that no gain is computed from."""
    names = {measure: name for measure, name in FURTHER.items() if measure in table.base}
    before = _before(table)
    ends = {"base model": table.base, **({BEFORE: before} if before else {})}
    ends |= {code(each.method): each.final for each in table.rows[table.tier.baseline]}
    whole = {code(each.method): each.at_whole for each in table.rows[table.tier.baseline]}
    lines = [row(["method", *names.values(), WHOLE]), row(["---"] * (2 + len(names)))]
    for method, values in ends.items():
        cells = [f"{values[measure]:.4g}" if measure in values else "" for measure in names]
        gain = whole.get(method)
        lines.append(row([method, *cells, "" if gain is None else level_text(gain)]))
    return lines


def _sensitivity(table: Table) -> list[str]:
    """Diversity as it is defined beside diversity over equal prompts: the definition is the frozen one."""
    tier = table.tier
    others = list(table.rows)
    lines = [
        f"Diversity as defined is the mean over the prompts that have one. Over equal prompts, the "
        f"{table.equal_prompts:.0f} that have one at every look of every method, at the last look and as gains at "
        "equal reward (first as defined, then over equal prompts):",
        "",
        row(["method", "diversity", "over equal prompts", *(f"against {called(other)}" for other in others)]),
        row(["---"] * (3 + len(others))),
        row(["base model", *_pair(table.base[table.measure], table.over_equal["base"]), *[""] * len(others)]),
    ]
    rows = {other: {each.method: each for each in found} for other, found in table.rows.items()}
    for name in tier.methods:
        first = rows[tier.baseline][name]
        gains = [_both_gains(rows[other].get(name)) for other in others]
        lines.append(row([code(name), *_pair(first.final[table.measure], table.over_equal[name]), *gains]))
    return lines


def _ends(table: Table) -> dict[str, tuple[float, float, float]]:
    """Reward and shares of the base model's diversity at the last look, as defined and over equal prompts."""
    equal_base = table.over_equal["base"]
    return {
        each.method: (each.final["reward"], table.kept(each.final), table.over_equal[each.method] / equal_base)
        for each in table.rows[table.tier.baseline]
    }


def _pair(defined: float, equal: float) -> list[str]:
    return ["" if np.isnan(value) else f"{value:.4f}" for value in (defined, equal)]


def _both_gains(each: Row | None) -> str:
    if each is None or each.at_share is None:
        return ""
    return f"{gain_text(each.diversity)}; {gain_text(each.equal_prompts)}"


def _rows(table: Table, other: str) -> list[str]:
    head = HEAD if other == table.tier.baseline else [each.replace("the baseline", called(other)) for each in HEAD]
    lines = [row(head), row(["---"] * len(HEAD))]
    lines.append(row(["base model", "before fine-tuning", *_values(table.base, table.measure), *[""] * 6]))
    if before := _before(table):
        lines.append(row([BEFORE, "the base model before it was loosened", *_values(before, table.measure), *[""] * 6]))
    return [*lines, *(row(_cells(each, table.measure)) for each in table.rows[other])]


def _cells(each: Row, measure: str) -> list[str]:
    cells = [code(each.method), each.says, *_values(each.final, measure)]
    minutes = "" if each.minutes is None else f"{each.minutes:.0f}"
    if each.at_share is None:
        return [*cells, *[""] * 5, minutes]
    ceiling = "" if each.ceiling is None else f"{each.ceiling:+.1%}"
    cells += [gain_text(each.diversity), ceiling, level_text(each.at_share), gain_text(each.reward)]
    return [*cells, difference_text(each.hypervolume), minutes]


def _values(values: dict[str, float], measure: str) -> list[str]:
    shown = ("reward", HELD_OUT, "alignment", measure, "pairwise_lpips")
    found = (values.get(name, float("nan")) for name in shown)
    return ["" if np.isnan(value) else f"{value:.4f}" for value in found]


def _before(table: Table) -> dict[str, float]:
    """The model before it was loosened; empty in the worlds that have none."""
    return {} if table.room is None else table.room["before"]


def draw(tables: Sequence[Table], path: Path) -> None:
    """Writes `figure_of` the tables; nothing without any."""
    if tables:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_png(figure_of(tables), path, dpi=200)


def figure_of(tables: Sequence[Table]) -> "Figure":
    """A panel per world, of its last tier with a claim: every method's points in the order of training, averaged over
    seeds. Without claims a panel per tier. A method looks the same in every panel.
    """
    import matplotlib
    from matplotlib.figure import Figure

    claimed = {table.tier.world: table for table in tables if table.tier.claim}
    tables = list(claimed.values()) or tables
    others = [name for table in tables for name in table.fronts if name != table.tier.baseline]
    places = {name: place for place, name in enumerate(dict.fromkeys(others))}
    shown: dict[str, Any] = {}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.4 * len(tables) + 1.6, 2.9), layout="constrained")
        for axes, table in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables, strict=True):
            for name, (rewards, diversities) in table.fronts.items():
                place = places.get(name, -1)
                colour = BASELINE_COLOUR if place < 0 else COLOURS[place % len(COLOURS)]
                marker = MARKERS[(place + 1) % len(MARKERS)]
                (shown[name],) = axes.plot(rewards, diversities, marker + "-", color=colour)
            (base,) = axes.plot(table.base["reward"], table.base[table.measure], linestyle="", **STAR)
            title = f"world {table.tier.world}, {len(table.tier.seeds)} seeds"
            axes.set(xlabel="reward", ylabel=AXES.get(table.measure, table.measure), title=title)
        shown["base model"] = base
        figure.legend(shown.values(), shown.keys(), loc="outside right upper", frameon=False)
    return figure


def _missing(tables: Sequence[Table], plan: dict[str, Tier]) -> list[str]:
    """What the plan has beside the tables."""
    lines = ["## What has not been run", ""]
    for name, tier in plan.items():
        missing = len(tier.jobs) - sum(len(table.tier.jobs) for table in tables if table.tier.name == name)
        if missing:
            lines.append(f"- {name}, {tier.title}: {missing} of {len(tier.seeds) * len(tier.methods)} runs.")
    return lines if len(lines) > 2 else [*lines, "Nothing of the plan; what it cuts is listed at its end."]
