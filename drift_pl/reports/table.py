"""The numbers as tables of text: Markdown here, and the same tables on the page."""

from collections.abc import Callable
from dataclasses import dataclass, field

from drift_pl.reports.gains import NO_BOUND
from drift_pl.reports.markdown import code, harmless, plain, row
from drift_pl.reports.results import EqualGain, Estimate, FrontResult, Level, MethodResult, Results

DAGGER = "†"
DAGGER_NOTE = (
    f"{DAGGER} alignment by the attribute reader falls below the base model's, at the final point or on the front: "
    "part of this diversity is broken images"
)
NOTHING = "-"
PAIRED = "paired, and averaged point by point before any front"
INTERVALS = (
    "[a, b] is the 95 % interval over training seeds and prompts; of values at the final point, over training seeds"
)


@dataclass
class Table:
    """Cells of text, and notes that cells refer to by a number in brackets.

    Attributes:
        diversity: the measure of diversity that the table shows; None if it shows all.
        rows: a name, then the cells of the other columns.
        marked: indices of rows whose alignment falls below the base model's.
    """

    title: str
    header: list[str]
    diversity: str | None = None
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    marked: set[int] = field(default_factory=set)

    def noted(self, text: str, note: str | None) -> str:
        """The text with a reference to the note; equal notes are stated once."""
        if note is None:
            return text
        if note not in self.notes:
            self.notes.append(note)
        return f"{text} [{self.notes.index(note) + 1}]"

    def footnotes(self) -> list[str]:
        numbered = [f"[{number}] {note}" for number, note in enumerate(self.notes, start=1)]
        return [*numbered, DAGGER_NOTE] if self.marked else numbered


def tables(results: Results) -> list[Table]:
    """Three tables per measure of diversity (one, if there is no baseline), and that of all measures."""
    found = []
    for name in results.diversity:
        if results.baseline is not None:
            found += [_diversity_gains(results, name), _reward_gains(results, name)]
        found.append(_hypervolumes(results, name))
    return [*found, _final_points(results)]


def markdown(results: Results) -> str:
    """The whole report: what was compared, notes, tables."""
    lines = ["# Reward-diversity fronts", "", *(f"- {line}" for line in summary(results))]
    lines += [f"- {harmless(note)}" for note in results.notes]
    for table in tables(results):
        lines += [
            "",
            f"## {harmless(table.title)}",
            "",
            row([plain(cell) for cell in table.header]),
            "|---" * len(table.header) + "|",
        ]
        for number, (name, *cells) in enumerate(table.rows):
            lines.append(row([code(name) + f" {DAGGER}" * (number in table.marked), *cells]))
        for note in table.footnotes():
            lines += ["", harmless(note)]
    return "\n".join(lines) + "\n"


def summary(results: Results) -> list[str]:
    """What was compared, a sentence each."""
    protocol, seeds = results.protocol, ", ".join(map(str, results.seeds))
    trained = f"training seed {seeds}" if len(results.seeds) == 1 else f"training seeds {seeds}, {PAIRED}"
    rewards = code(", ".join(protocol["judges"]))
    said = [
        f"methods: {', '.join(code(method.name) for method in results.methods)}; {trained}",
        f"{len(protocol['prompts'])} prompts x {protocol['seeds_per_prompt']} images; {code(results.reward)} by "
        f"{rewards}; encoder {code(protocol['encoder'])}",
        f"base model: {', '.join(f'{plain(name)} {number(results.base[name])}' for name in _shown(results))}",
    ]
    if results.baseline is not None:
        said.insert(1, f"baseline: {code(results.baseline)}; {INTERVALS}")
    return said


def _shown(results: Results) -> list[str]:
    wanted = [results.reward, *results.diversity, "alignment"]
    return [name for name in dict.fromkeys(wanted) if results.base.get(name) is not None]


def _diversity_gains(results: Results, name: str) -> Table:
    header = ["gain", "ceiling", "common rewards (above the base's)", "gain at the baseline's final reward"]

    def cells(table: Table, method: MethodResult, front: FrontResult) -> list[str]:
        if front.gains is None:
            return []
        equal, ceiling = front.gains.diversity, _percent(front.gains.ceiling)
        return [_percent_interval(table, equal.gain), ceiling, _rewards_there(equal)[0], _level(table, equal.at_final)]

    return _front_table(results, name, "diversity gain at equal reward", header, cells)


def _reward_gains(results: Results, name: str) -> Table:
    header = ["gain", f"common {name}", "baseline's rewards there (above the base's)"]
    header += ["method's rewards there (above the base's)", "gain at the baseline's final diversity"]

    def cells(table: Table, method: MethodResult, front: FrontResult) -> list[str]:
        if front.gains is None:
            return []
        equal = front.gains.alignment
        common = NOTHING if equal.low is None or equal.high is None else f"{equal.low:.4f} to {equal.high:.4f}"
        gain = _percent_interval(table, equal.gain)
        return [gain, common, *_rewards_there(equal), _level(table, equal.at_final)]

    return _front_table(results, name, "gain in reward at equal diversity", header, cells)


def _rewards_there(equal: EqualGain) -> list[str]:
    """The baseline's rewards at the ends of the common interval, and the method's."""
    low, high = equal.low_rewards, equal.high_rewards
    if low is None or high is None:
        return [NOTHING] * 2
    return [
        f"{low.baseline:.4f} ({low.baseline_above_base:+.4f}) to {high.baseline:.4f} ({high.baseline_above_base:+.4f})",
        f"{low.method:.4f} ({low.method_above_base:+.4f}) to {high.method:.4f} ({high.method_above_base:+.4f})",
    ]


def _hypervolumes(results: Results, name: str) -> Table:
    header = ["hypervolume", "minus the baseline's", f"final {results.reward}", f"final {name}"]

    def cells(table: Table, method: MethodResult, front: FrontResult) -> list[str]:
        volume = table.noted(NOTHING, NO_BOUND) if front.hypervolume is None else f"{front.hypervolume:.4f}"
        difference = NOTHING if front.gains is None else _interval(table, front.gains.hypervolume, "{:+.4f}".format)
        final = method.points[method.final].mean
        return [volume, difference, number(final[results.reward]), number(final[name])]

    return _front_table(results, name, "hypervolume and final point", header, cells)


def _front_table(
    results: Results,
    name: str,
    title: str,
    header: list[str],
    cells_of: Callable[[Table, MethodResult, FrontResult], list[str]],
) -> Table:
    """A row per method that has cells; after the first cell the alignment, if it was measured."""
    table, base = Table(f"{name}: {title}", ["method", *header], name), results.base.get("alignment")
    if base is not None:
        table.header.insert(2, f"alignment: final, lowest (base {number(base)})")
    for method in results.methods:
        front = method.fronts[name]
        cells = cells_of(table, method, front)
        if not cells:
            continue
        if base is not None:
            final = method.points[method.final].mean["alignment"]
            cells.insert(1, f"{number(final)}, {number(front.lowest_alignment)}")
        if front.alignment_falls:
            table.marked.add(len(table.rows))
        table.rows.append([method.name, *cells])
    return table


def _final_points(results: Results) -> Table:
    """All measures, including held-out rewards."""
    names = list(results.methods[0].final_values)
    table = Table("Every measure at the final point", ["model", "final point", *names])
    table.rows.append(["base", NOTHING, *(number(results.base.get(name)) for name in names)])
    for method in results.methods:
        cells = [_interval(table, method.final_values[name], number) for name in names]
        table.rows.append([method.name, method.points[method.final].label, *cells])
    return table


def points_table(results: Results) -> Table:
    """Every point of every method; only for the page, as it is long."""
    names = _shown(results)
    table = Table("All points, means over seeds", ["method", "point", *names])
    table.rows = [
        [method.name, point.label, *(number(point.mean[name]) for name in names)]
        for method in results.methods
        for point in method.points
    ]
    return table


def _level(table: Table, level: Level) -> str:
    """The gain at a level; "> x" is a lower bound, ">" alone says that the level is beyond the method's front."""
    if level.level is None:
        return table.noted(NOTHING, level.note)
    where = f" at {number(level.level)}"
    if level.gain is not None:
        return _percent(level.gain) + where
    if level.at_least is not None:
        return table.noted(f"> {_percent(level.at_least)}{where}", level.note)
    return table.noted((f"> its front,{where}" if level.beyond else NOTHING), level.note)


def _interval(
    table: Table, estimate: Estimate, show: Callable[[float], str], show_end: Callable[[float], str] | None = None
) -> str:
    """The value with its interval, or with a reference to the reason why there is none."""
    text = NOTHING if estimate.value is None else show(estimate.value)
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return table.noted(text, estimate.note)
    low, high = map(show_end or show, (estimate.low, estimate.high))
    return f"{text} [{low}, {high}]"


def _percent_interval(table: Table, estimate: Estimate) -> str:
    return _interval(table, estimate, _percent, lambda value: f"{100 * value:+.1f}")


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:+.1f} %"


def number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4f}"
