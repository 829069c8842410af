"""Do the levers pay? The comparisons that the plan's rule asks for, Holm-adjusted over the tiers with a claim."""

from collections.abc import Sequence

from benchmark_points import strengths
from benchmark_table import JOINT, Row, Table
from benchmark_text import called, difference_text, gain_text
from levels import holm

from drift_pl.reports.markdown import code, row

HEAD = [
    *("the levers over", "world", "seeds", "levers", "compared with", "diversity at equal reward", "p"),
    *("reward at equal diversity", "p", "hypervolume"),
]
P_VALUES = (
    "p: of no gain, so that it is near 1 where the levers are behind; Holm-adjusted over the recipes of each",
    "comparison, so that the same two methods may have another p in another one.",
)
SAME_KL, BEST_KL, ALL_KLS = "the same update and KL", "the best KL of this update", "all KLs of this update"


def compared_with(table: Table) -> dict[str, str]:
    """What the rule compares a tier's levers with, in words -> a key of `table.rows`; empty without a claim."""
    claim = table.tier.claim
    if not claim or claim["levers"] not in table.fronts:
        return {}
    others = {SAME_KL: claim["same_kl"], BEST_KL: claim["best_kl"]}
    members = next((names for names in strengths(table.tier).values() if claim["best_kl"] in names), ())
    others |= {ALL_KLS: JOINT.join(members)} if len(members) > 1 else {}
    return {words: other for words, other in others.items() if other in table.rows}


def claim_lines(tables: Sequence[Table]) -> list[str]:
    """The section of the page; p-values of no gain are adjusted over the tiers that have the comparison."""
    found: dict[str, list[tuple[Table, str, Row]]] = {}
    for table in tables:
        for words, other in compared_with(table).items():
            levers = table.row_of(table.tier.claim["levers"], other)
            found.setdefault(words, []).append((table, other, levers))
    if not found:
        return []
    lines = ["## Do the levers pay?", "", *P_VALUES, "", row(HEAD), row(["---"] * len(HEAD))]
    for words, entries in found.items():
        p_values = [each.p_values or (1.0, 1.0) for *_, each in entries]
        adjusted = list(zip(*(holm([pair[axis] for pair in p_values]) for axis in (0, 1)), strict=True))
        for (table, other, levers), pair in zip(entries, adjusted, strict=True):
            cells = [words, table.tier.world, str(table.seeds), code(levers.method), called(other)]
            cells += [gain_text(levers.diversity), f"{pair[0]:.3f}", gain_text(levers.reward), f"{pair[1]:.3f}"]
            lines.append(row([*cells, difference_text(levers.hypervolume)]))
    return [*lines, ""]
