"""What `fit` says at its end: base against tuned, a recorded baseline beside them, how to read it. No torch."""

from typing import Any

from drift_pl.config.run_folder import shown_measures
from drift_pl.reports.recorded import Recorded, relative_change

DIVERSITY = "pairwise_distance"


def closing_table(summary: dict[str, Any], recorded: Recorded | None = None) -> str:
    """Base against tuned on the held-out prompts, as text."""
    names, base, tuned = shown_measures(summary["base"], summary["tuned"]), summary["base"], summary["tuned"]
    rows = [["", "base", "tuned", "change"] + (["plain", "change"] if recorded else [])]
    for name in names:
        cells = [number(base[name]), number(tuned[name]), percent(relative_change(base[name], tuned[name]))]
        if recorded:
            plain = recorded.tuned.get(name)
            cells += [number(plain), percent(relative_change(recorded.base.get(name), plain))]
        rows.append([name, *cells])
    return "\n".join(f"{row[0]:24}" + "".join(f"{cell:>10}" for cell in row[1:]) for row in rows)


def how_to_read(summary: dict[str, Any], recorded: Recorded | None) -> str:
    """One sentence about the table; with a baseline, a second one that says where its figures are from."""
    reward, kept = (relative_change(summary["base"].get(n), summary["tuned"].get(n)) for n in ("reward", DIVERSITY))
    rule = "the higher the reward and the nearer to 0 the loss of diversity, the better"
    if recorded is None:
        return f"how to read it: change is tuned against base; {rule}"
    plain = relative_change(recorded.base.get(DIVERSITY), recorded.tuned.get(DIVERSITY))
    plain_reward = relative_change(recorded.base.get("reward"), recorded.tuned.get("reward"))
    return (
        f"how to read it: {DIVERSITY} changed by {percent(kept)} here and by {percent(plain)} in {recorded.name}, at "
        f"{percent(reward)} and {percent(plain_reward)} of reward; {rule}\n"
        f"plain:   {recorded.name}: {recorded.source}"
    )


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def percent(change: float | None) -> str:
    return "-" if change is None else f"{change:+.1%}"
