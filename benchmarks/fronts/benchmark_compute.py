"""What the results of docs/benchmark.md took: runs and hours of each tier, by device."""

from collections.abc import Mapping
from typing import Any

from benchmark_table import CPU
from plan import Tier

from drift_pl.reports.markdown import row

Jobs = Mapping[str, Mapping[str, Any]]
HEAD = ["tier", "runs", "core-hours", "hours of a process on an accelerator that runs several"]


def compute_lines(plan: Mapping[str, Tier], held: Mapping[str, Jobs], core_hours: float) -> list[str]:
    """The section of the page. A result that a tier took over from another counts in the first of them alone.

    Args:
        held: tier -> METHOD-sSEED -> job.json's content.
        core_hours: what the plan allows.
    """
    lines = ["## Compute", "", row(HEAD), row(["---"] * len(HEAD))]
    total, counted = {True: 0.0, False: 0.0}, set[tuple[str, str]]()
    for name in plan:
        hours = {True: 0.0, False: 0.0}
        jobs = held.get(name, {}).values()
        new = {made: job for job in jobs if (made := (job["digest"], job["commit"])) not in counted}
        for job in new.values():
            hours[job.get("device", CPU) == CPU] += job["minutes"] / 60
        if new:
            lines.append(row([name, str(len(new)), f"{hours[True]:.1f}", f"{hours[False]:.1f}"]))
            total = {on_cpu: total[on_cpu] + hours[on_cpu] for on_cpu in total}
            counted.update(new)
    lines.append(row(["together", str(len(counted)), f"{total[True]:.1f} of {core_hours:g}", f"{total[False]:.1f}"]))
    return [*lines, "", "By the clock, evaluations included; a shared machine is slower than one of its own.", ""]
