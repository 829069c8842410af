"""docs/models.md shows what benchmarks/parity.py wrote, and every family that there is."""

import json
from pathlib import Path

from drift_pl.core.registry import names

DOCS = Path(__file__).parents[2] / "docs"


def test_the_table_is_the_file_that_the_command_wrote() -> None:
    rows = json.loads((DOCS / "results" / "parity.json").read_text())
    shown = [line for line in (DOCS / "models.md").read_text().splitlines() if line.startswith("|")]
    for row in rows:
        assert f"| {row['family']} | {row['measure']} | {row['deviation']:.1e} |" in shown
    assert {row["family"] for row in rows} == {"all", *names("family")}
    assert all(row["deviation"] < 1e-5 for row in rows)
