"""benchmarks/precision.py: what each precision computes in, and the table of docs/models.md."""

import json
from pathlib import Path

import precision
import pytest

from drift_pl.config.schema import NO_FLOAT16
from drift_pl.core.registry import names

DOCS = Path(__file__).parents[2] / "docs"
DTYPES = {"32-true": "float32", "bf16-mixed": "bfloat16", "16-mixed": "float16"}


@pytest.mark.filterwarnings("ignore:unknown to the model's tokenizer")
def test_every_precision_is_the_one_that_the_network_computes_in(tiny_pipeline: Path) -> None:
    """Float16 has 3 bits more than bfloat16, so that its log-densities are nearer to float32's.

    Catches in benchmarks/precision.py: Lightning's float16, which is bfloat16 on a CPU.
    """
    rows = {row["precision"]: row for row in precision.rows_of("sd3", tiny_pipeline)}
    assert {name: row["dtype"] for name, row in rows.items()} == DTYPES
    assert all(row["ratio"] == 0 for row in rows.values())
    assert 0 == rows["32-true"]["log_density"] < rows["16-mixed"]["log_density"] < rows["bf16-mixed"]["log_density"]


def test_the_table_of_precisions_is_the_file_that_the_command_wrote() -> None:
    rows = json.loads((DOCS / "results" / "precision.json").read_text())["rows"]
    shown = (DOCS / "models.md").read_text().splitlines()
    assert [line for line in precision.table(rows) if line not in shown] == []
    taken = {(family, name) for family in names("family") for name in DTYPES}
    assert {(row["family"], row["precision"]) for row in rows} == taken - {(name, "16-mixed") for name in NO_FLOAT16}
    assert all(row["ratio"] == 0 and row["dtype"] == DTYPES[row["precision"]] for row in rows)
