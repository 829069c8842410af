"""Bad inputs of all six commands: one line `error: ...`, status 2, nothing left behind, within a minute.

The whole table: `python -m pytest tests/campaign/inputs/test_bad_inputs.py -m "slow or not slow"`. The ordinary suite
tries one row of each kind.

Catches in config/yaml_text.py: keys compared before it is known that they are texts.
Catches in training/checkpoint_content.py: a parameter without moments; loops without a count; an identity of no run.
Catches in reports/summaries.py: a summary whose parts are not looked at.
Catches in evaluation/record_file.py: numbers whose sum is infinite.
Catches in evaluation/bundle.py: a file without evaluations.
Catches in evaluation/arrays.py: an array that is no picture.
Catches in core/json_files.py: a file of any size is read.
Catches in policies/folders.py: weights that are not in the files; a part whose folder is missing.
Catches in scoring/weight_files.py: random numbers for weights that are not in the files.
"""

import shutil
from pathlib import Path

import pytest
from campaign.inputs import (
    rows_command_line,
    rows_files,
    rows_levers,
    rows_models,
    rows_records,
    rows_rewards,
    rows_runs,
)
from campaign.inputs.rows import Row
from campaign.inputs.stage import Stage

TABLE: dict[str, list[Row]] = {
    **rows_command_line.KINDS,
    **rows_files.KINDS,
    **rows_levers.KINDS,
    **rows_models.KINDS,
    **rows_runs.KINDS,
    **rows_records.KINDS,
    **rows_rewards.KINDS,
}
"""Kind -> its rows; the first of each is tried in the ordinary suite."""

CASES = [
    pytest.param(row, id=f"{kind}-{number}", marks=[pytest.mark.slow] if number else [])
    for kind, rows in TABLE.items()
    for number, row in enumerate(rows)
]


@pytest.mark.parametrize("row", CASES)
def test_one_line_status_2_and_nothing_left(
    row: Row, stage: Stage, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    ended = stage.try_row(row, here, capfd)
    *warnings, error = ended.err.splitlines() or [""]
    assert (ended.status, error[:7]) == (2, "error: "), ended.err
    assert [line[:9] for line in warnings] == ["warning: "] * row.warned, ended.err
    assert len(error) < 900
    assert [part for part in row.says if part not in error] == [], error
    begun = ("new", str(stage.state)) if row.begins else ()
    left = {name for name in ended.changes if not name.startswith(begun)}
    assert left == set()
    assert list((here / "new").rglob("*.tmp")) == []
    assert list((here / "new" / "checkpoints").glob("*")) == []
    shutil.rmtree(here)
