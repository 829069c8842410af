"""What `plan` counts for every experiment of a real model, on cards of 24, 48 and 80 GB.

    python benchmarks/cards.py [out=docs/results/plan.json] [experiment=NAME]

Nothing is downloaded, computed or timed: `python -m drift_pl.plan experiment=NAME device=24GB` says the same of one
experiment and one card. Where a run does not fit, the table names the keys with which it does. The file is written
after each experiment; `experiment=NAME` replaces that one's row in it.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speed.timing import options_of, rounded, save

from drift_pl.builders.devices import device_of
from drift_pl.builders.planning import Plan, as_record, plan_of
from drift_pl.builders.quiet import quieten
from drift_pl.builders.remedies import remedies
from drift_pl.config.experiments import list_experiments
from drift_pl.config.loading import parse
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError

CARDS = ("24GB", "48GB", "80GB")
UTILISATION = 0.4
"""Share of a card's peak at which images per second are stated; `plan`'s own."""


def real_experiments() -> list[str]:
    """Those whose model is not in the package."""
    names = list_experiments()
    return [name for name in names if not parse([f"experiment={name}"]).config.policy.pretrained.startswith("pkg:")]


def row_of(name: str) -> dict[str, Any]:
    """The plan of an experiment, and what it says of each card.

    Raises:
        UserError: the model's configuration is not known.
    """

    def change(values: Mapping[str, str]) -> Config:
        return parse([f"experiment={name}", *(f"{key}={value}" for key, value in values.items())]).config

    config = change({})
    plan = plan_of(config)
    cards = {card: on_card(plan, config, card, change) for card in CARDS}
    return {
        "peak_bytes": plan.peak,
        "needed_bytes": plan.needed,
        "peak_phase": plan.peak_phase,
        "phases_bytes": dict(plan.phases),
        "images_per_iteration": plan.images,
        "flops_per_iteration": plan.flops,
        "not_counted": list(plan.unknown),
        "cards": cards,
    }


def on_card(plan: Plan, config: Config, card: str, change: Any) -> dict[str, Any]:
    name, device = device_of(card, None)
    speed = as_record(plan, name, device, UTILISATION)["images_per_s"]
    if plan.fits(device):
        return {"device": name, "fits": True, "images_per_s": speed}
    return {"device": name, "fits": False, "images_per_s": speed, "fits_with": remedies(config, device, change)}


def table(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [f"| run of | GB (peak in) | {' | '.join(CARDS)} |", f"|---|---|{'---|' * len(CARDS)}"]
    for name, row in rows.items():
        if "error" in row:
            lines.append(f"| `{name}` | not counted |{' |' * len(CARDS)}")
            continue
        cells = [cell(row["cards"][card]) for card in CARDS]
        lines.append(f"| `{name}` | {row['needed_bytes'] / 1e9:.1f} ({row['peak_phase']}) | {' | '.join(cells)} |")
    return lines


def cell(card: Mapping[str, Any]) -> str:
    if card["fits"]:
        return f"fits, {card['images_per_s']:.2g} images/s"
    if card["fits_with"] is None:
        return "no"
    return " ".join(f"`{key}={value}`" for key, value in card["fits_with"].items())


def main(argv: list[str]) -> int:
    options = options_of(argv, experiment="")
    quieten()
    names = real_experiments()
    rows = kept_rows(options["out"]) if options["experiment"] else {}
    for name in [options["experiment"]] if options["experiment"] else names:
        try:
            rows[name] = rounded(row_of(name))
        except UserError as error:
            rows[name] = {"error": str(error)}
        print(f"{name}: {rows[name].get('needed_bytes', 0) / 1e9:.1f} GB", file=sys.stderr, flush=True)
        rows = {known: rows[known] for known in names if known in rows}
        save({"title": "counted, not measured", "utilisation": UTILISATION, "experiments": rows}, options["out"])
    print("\n".join(table(rows)))
    return 0


def kept_rows(out: str) -> dict[str, Any]:
    """Of the file that is there, in which a single experiment replaces its own row."""
    path = Path(out) if out else None
    return json.loads(path.read_text(encoding="utf-8"))["experiments"] if path and path.is_file() else {}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
