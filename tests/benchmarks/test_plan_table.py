"""The table of docs/gpu.md is what `benchmarks/cards.py` wrote, with every experiment of a real model."""

import json
from pathlib import Path

import cards
import pytest

DOCS = Path(__file__).parents[2] / "docs"


def test_the_table_is_the_file_that_the_command_wrote() -> None:
    """Catches in benchmarks/cards.py: an experiment left out."""
    rows = json.loads((DOCS / "results" / "plan.json").read_text())["experiments"]
    shown = (DOCS / "gpu.md").read_text().splitlines()
    assert [line for line in cards.table(rows) if line not in shown] == []
    assert list(rows) == cards.real_experiments()


def test_one_experiment_replaces_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the others stay, in the order of the experiments; without a name all are counted anew.

    Catches in benchmarks/cards.py: rows of an earlier count lost; a file that is written at the end alone.
    """
    names, seen, out = ["a", "b", "c"], list[int](), tmp_path / "plan.json"
    never = dict.fromkeys(cards.CARDS, {"fits": False, "fits_with": None})

    def counted(name: str) -> dict[str, object]:
        seen.append(len(json.loads(out.read_text())["experiments"]) if out.is_file() else 0)
        return {"needed_bytes": 1e9, "peak_phase": "update", "cards": never}

    monkeypatch.setattr(cards, "real_experiments", lambda: names)
    monkeypatch.setattr(cards, "row_of", counted)
    for name in ("c", "a"):
        assert cards.main([f"experiment={name}", f"out={out}"]) == 0
    assert list(json.loads(out.read_text())["experiments"]) == ["a", "c"]
    assert cards.main([f"out={out}"]) == 0
    assert seen == [0, 1, 2, 1, 2]
    assert list(json.loads(out.read_text())["experiments"]) == names


def test_a_card_that_is_too_small_shows_the_keys_that_help() -> None:
    assert cards.cell({"fits": True, "images_per_s": 1.234}) == "fits, 1.2 images/s"
    assert cards.cell({"fits": False, "fits_with": {"policy.offload": "true"}}) == "`policy.offload=true`"
    assert cards.cell({"fits": False, "fits_with": None}) == "no"
