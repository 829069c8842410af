"""Update time as a function of the share of each group that is trained on, in short runs of the default experiment.

    python benchmarks/over_sampling.py

Prints the median `time/update_s` of each `keep`, as a share of the time for the whole group.
"""

import csv
import statistics
import tempfile

from drift_pl.config.loading import parse
from drift_pl.fit import fit

GROUP = 16
RUN = [
    *("trainer.iterations=6", "trainer.logger=[csv]", "trainer.progress=false", f"prompts.group_size={GROUP}"),
    *("evaluation.seeds_per_prompt=2", "evaluation.every=0", "evaluation.max_prompts=1"),
]


def update_seconds(keep: int) -> float:
    """Median over the iterations after the first."""
    with tempfile.TemporaryDirectory() as folder:
        selection = ["incentive.selection.rule=max_variance", f"incentive.selection.keep={keep}"]
        run_dir = fit(parse([*RUN, *selection, f"run_dir={folder}/run"]).config)
        with (run_dir / "csv" / "metrics.csv").open() as file:
            times = [float(row["time/update_s"]) for row in csv.DictReader(file) if row["time/update_s"]]
    return statistics.median(times[1:])


if __name__ == "__main__":
    whole = update_seconds(GROUP)
    for keep in (3 * GROUP // 4, GROUP // 2, GROUP // 4):
        print(f"keep {keep} of {GROUP}: {update_seconds(keep) / whole:.2f} of the update time")
