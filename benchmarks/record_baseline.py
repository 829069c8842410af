"""Records a plain baseline's figures for `fit`'s closing table and report.html: drift_pl/reports/recorded.json.

    python -m drift_pl.fit experiment=shapes_flowgrpo seed=0        # and seeds 1 and 2
    python benchmarks/record_baseline.py "plain Flow-GRPO" runs/shapes_flowgrpo-*

Replaces the baseline of that name. A test ties the file to the experiment's settings.
"""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from drift_pl.core.files import write_json
from drift_pl.evaluation.record_file import read_evaluation
from drift_pl.reports.finished_run import history_of
from drift_pl.reports.recorded import FILE, FORMAT, VERSION, Recorded, all_recorded
from drift_pl.reports.summaries import read_summary

LOOKED_AT = ("iteration", "reward", "pairwise_distance", "vendi")
TARGET = Path(__file__).parents[1] / "drift_pl" / "reports" / FILE


def record(name: str, folders: list[Path]) -> Recorded:
    """The baseline of runs of one experiment that differ in their seed."""
    summaries = sorted((read_summary(folder) | {"folder": folder} for folder in folders), key=lambda one: one["seed"])
    test, looks = (read_evaluation(summaries[0]["folder"] / "evaluation" / f"{w}.json") for w in ("test", "tuning"))
    assert len({one["config_hash"] for one in summaries}) == 1, "give the runs of one experiment"
    return Recorded(
        name=name,
        experiment=test.experiment,
        config_hash=test.config_hash,
        seeds=[one["seed"] for one in summaries],
        training=test.training,
        protocol=test.protocol,
        base=_rounded(summaries[0]["base"]),
        per_seed=[_rounded(one["tuned"]) for one in summaries],
        looks=[_rounded({key: entry[key] for key in LOOKED_AT}) for entry in history_of(looks)],
        looks_protocol=looks.protocol,
    )


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value if isinstance(value, int) else round(value, 6) for key, value in values.items()}


if __name__ == "__main__":
    made = record(sys.argv[1], [Path(name) for name in sys.argv[2:]])
    kept = [asdict(each) for each in all_recorded() if each.name != made.name] if TARGET.exists() else []
    write_json(TARGET, {"format": FORMAT, "version": VERSION, "baselines": [*kept, asdict(made)]}, indent=1)
    print(f"written: {TARGET}: {made.name}, {len(made.seeds)} seeds")
