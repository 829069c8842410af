"""What the results of docs/benchmark.md took: runs and hours of each tier, by device."""

from collections.abc import Mapping
from typing import Any

from benchmark_table import CPU

from drift_pl.reports.markdown import row

Jobs = Mapping[str, Mapping[str, Any]]
HEAD = ["tier", "what it is", "runs", "core-hours", "hours of a process on an accelerator that runs several"]


def compute_lines(titles: Mapping[str, str], made: Mapping[str, Jobs], core_hours: float) -> list[str]:
    """The section of the page.

    Args:
        titles: of each tier.
        made: tier -> METHOD-sSEED -> job.json's content, of the results in the tier's own file: one that it took over
            from another counts there.
        core_hours: what the plan allows.
    """
    lines = ["## Compute", "", row(HEAD), row(["---"] * len(HEAD))]
    total = {True: 0.0, False: 0.0}
    for name, jobs in made.items():
        hours = {True: 0.0, False: 0.0}
        for job in jobs.values():
            hours[job.get("device", CPU) == CPU] += job["minutes"] / 60
        if jobs:
            lines.append(row([name, titles[name], str(len(jobs)), f"{hours[True]:.1f}", f"{hours[False]:.1f}"]))
            total = {on_cpu: total[on_cpu] + hours[on_cpu] for on_cpu in total}
    runs = sum(map(len, made.values()))
    lines.append(row(["together", "", str(runs), f"{total[True]:.1f} of {core_hours:g}", f"{total[False]:.1f}"]))
    return [*lines, "", "By the clock, evaluations included; a shared machine is slower than one of its own.", ""]
