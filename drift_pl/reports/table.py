"""The numbers as tables of text: Markdown here, and the same tables on the page."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from drift_pl.reports.gains import NO_BOUND
from drift_pl.reports.markdown import code, harmless, plain, row
from drift_pl.reports.results import EqualGain, Estimate, FrontResult, Gains, Level, MethodResult, Results

DAGGER = "†"
DAGGER_NOTE = (
    f"{DAGGER} alignment by the attribute reader falls below the base model's, at the final point or on the front: "
    "part of this diversity is broken images"
)
NOTHING = "-"
PAIRED = "paired, and averaged point by point before any front"


@dataclass
class Table:
    """Cells of text; notes that cells point to by a number in brackets.

    Attributes:
        diversity: the measure of diversity that the table is about; None if about all.
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
        """The text with a pointer to the note; one note that is needed twice stands once."""
        if note is None:
            return text
        if note not in self.notes:
            self.notes.append(note)
        return f"{text} [{self.notes.index(note) + 1}]"

    def footnotes(self) -> list[str]:
        numbered = [f"[{number}] {note}" for number, note in enumerate(self.notes, start=1)]
        return [*numbered, DAGGER_NOTE] if self.marked else numbered


def tables(results: Results) -> list[Table]:
    """Three tables per measure of diversity (one, if there is nothing to compare with), and that of all measures."""
    found = []
    for name in results.diversity:
        if results.baseline is not None:
            found += [_diversity_gains(results, name), _alignment_gains(results, name)]
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
    judges = code(", ".join(protocol["judges"]))
    said = [
        f"methods: {', '.join(code(method.name) for method in results.methods)}; {trained}",
        f"{len(protocol['prompts'])} prompts x {protocol['seeds_per_prompt']} images; {code(results.reward)} by "
        f"{judges}; encoder {code(protocol['encoder'])}",
        f"base model: {', '.join(f'{plain(name)} {number(results.base[name])}' for name in _shown(results))}",
    ]
    if results.baseline is not None:
        said.insert(1, f"baseline: {code(results.baseline)}; [a, b] is the 95 % interval over training seeds")
    return said


def _shown(results: Results) -> list[str]:
    wanted = [results.reward, *results.diversity, "alignment"]
    return [name for name in dict.fromkeys(wanted) if results.base.get(name) is not None]


def _diversity_gains(results: Results, name: str) -> Table:
    header = ["method", "gain", "ceiling", "common rewards (above the base's)", "gain at the baseline's final reward"]
    table = Table(f"{name}: diversity gain at equal alignment (reward)", header, name)
    for method, front, gains in _compared(results, name):
        equal = gains.diversity
        cells = [_percent_interval(table, equal.gain), percent(gains.ceiling), _rewards_there(equal)[0]]
        cells.append(_level(table, equal.at_final))
        _append(table, method, front, cells)
    return _with_alignment(table, results)


def _alignment_gains(results: Results, name: str) -> Table:
    header = ["method", "gain", f"common {name}", "baseline's rewards there (above the base's)"]
    header += ["method's rewards there (above the base's)", "gain at the baseline's final diversity"]
    table = Table(f"{name}: alignment (reward) gain at equal diversity", header, name)
    for method, front, gains in _compared(results, name):
        equal = gains.alignment
        cells = [_percent_interval(table, equal.gain), _range(equal.low, equal.high), *_rewards_there(equal)]
        _append(table, method, front, [*cells, _level(table, equal.at_final)])
    return _with_alignment(table, results)


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
    header = ["method", "hypervolume", "minus the baseline's", f"final {results.reward}", f"final {name}"]
    table = Table(f"{name}: hypervolume and final point", header, name)
    for method in results.methods:
        front = method.fronts[name]
        cells = [table.noted(NOTHING, NO_BOUND) if front.hypervolume is None else f"{front.hypervolume:.4f}"]
        cells.append(NOTHING if front.gains is None else _difference(table, front.gains.hypervolume))
        final = method.points[method.final].mean
        _append(table, method, front, [*cells, number(final[results.reward]), number(final[name])])
    return _with_alignment(table, results)


def _final_points(results: Results) -> Table:
    """All measures, held-out judges among them."""
    names = list(results.methods[0].final_values)
    table = Table("Every measure at the final point", ["model", "final point", *names])
    table.rows.append(["base", NOTHING, *(number(results.base.get(name)) for name in names)])
    for method in results.methods:
        cells = [_mean_interval(table, method.final_values[name]) for name in names]
        table.rows.append([method.name, method.points[method.final].label, *cells])
    return table


def points_table(results: Results) -> Table:
    """Every point of every method; for the page alone, as it is long."""
    names = _shown(results)
    table = Table("All points, means over seeds", ["method", "point", *names])
    table.rows = [
        [method.name, point.label, *(number(point.mean[name]) for name in names)]
        for method in results.methods
        for point in method.points
    ]
    return table


def _compared(results: Results, name: str) -> Iterator[tuple[MethodResult, FrontResult, Gains]]:
    """The methods that are held against the baseline, by one measure of diversity."""
    for method in results.methods:
        front = method.fronts[name]
        if front.gains is not None:
            yield method, front, front.gains


def _append(table: Table, method: MethodResult, front: FrontResult, cells: list[str]) -> None:
    """A row: name, first cell, alignment beside it, the other cells; marked if the method breaks images."""
    final = method.points[method.final].mean.get("alignment")
    if front.alignment_falls:
        table.marked.add(len(table.rows))
    table.rows.append([method.name, cells[0], f"{number(final)}, {number(front.lowest_alignment)}", *cells[1:]])


def _with_alignment(table: Table, results: Results) -> Table:
    """Names the column of alignment, or drops it where nothing measured it."""
    base = results.base.get("alignment")
    if base is None:
        table.rows = [row[:2] + row[3:] for row in table.rows]
    else:
        table.header.insert(2, f"alignment: final, lowest (base {number(base)})")
    return table


def _level(table: Table, level: Level) -> str:
    """The gain at a level; "> x" is a lower bound, ">" alone says that the level is beyond the method's front."""
    if level.level is None:
        return table.noted(NOTHING, level.note)
    where = f" at {number(level.level)}"
    if level.gain is not None:
        return percent(level.gain) + where
    if level.at_least is not None:
        return table.noted(f"> {percent(level.at_least)}{where}", level.note)
    return table.noted((f"> its front,{where}" if level.beyond else NOTHING), level.note)


def _percent_interval(table: Table, estimate: Estimate) -> str:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return table.noted(percent(estimate.value), estimate.note)
    return f"{percent(estimate.value)} [{100 * estimate.low:+.1f}, {100 * estimate.high:+.1f}]"


def _difference(table: Table, estimate: Estimate) -> str:
    if estimate.value is None:
        return table.noted(NOTHING, estimate.note)
    if estimate.low is None or estimate.high is None:
        return table.noted(f"{estimate.value:+.4f}", estimate.note)
    return f"{estimate.value:+.4f} [{estimate.low:+.4f}, {estimate.high:+.4f}]"


def _mean_interval(table: Table, estimate: Estimate) -> str:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return table.noted(number(estimate.value), estimate.note)
    return f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"


def _range(low: float | None, high: float | None) -> str:
    return NOTHING if low is None or high is None else f"{low:.4f} to {high:.4f}"


def percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:+.1f} %"


def number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4f}"
