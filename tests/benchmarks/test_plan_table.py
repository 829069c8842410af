"""The table of docs/gpu.md is what `benchmarks/cards.py` wrote, with every experiment of a real model."""

import json
from pathlib import Path

import cards

DOCS = Path(__file__).parents[2] / "docs"


def test_the_table_is_the_file_that_the_command_wrote() -> None:
    """Catches in benchmarks/cards.py: an experiment left out."""
    rows = json.loads((DOCS / "results" / "plan.json").read_text())["experiments"]
    shown = (DOCS / "gpu.md").read_text().splitlines()
    assert [line for line in cards.table(rows) if line not in shown] == []
    assert list(rows) == cards.real_experiments()


def test_a_card_that_is_too_small_shows_the_keys_that_help() -> None:
    assert cards.cell({"fits": True, "images_per_s": 1.234}) == "fits, 1.2 images/s"
    assert cards.cell({"fits": False, "fits_with": {"policy.offload": "true"}}) == "`policy.offload=true`"
    assert cards.cell({"fits": False, "fits_with": None}) == "no"
