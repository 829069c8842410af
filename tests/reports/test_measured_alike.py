"""`report` refuses runs whose means are not of one thing, and takes those that only measured more."""

import json
from pathlib import Path

import pytest
from runs_on_a_page import make_finished_run

from drift_pl.report import main


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("judges", ["clip_score x 1.0"], 'judges is ["pickscore x 1.0"] and ["clip_score x 1.0"]'),
        ("prompts", ["a red dot", "a green bar"], 'prompt 2 is "a blue bar" and "a green bar"'),
        ("steps", 10, "steps is 20 and 10"),
        (
            "heldout_judges",
            ["clip_score in bfloat16"],
            'heldout_judges is ["clip_score"] and ["clip_score in bfloat16"]',
        ),
    ],
)
def test_runs_that_were_measured_differently_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, field: str, value: object, message: str
) -> None:
    """By other rewards or on other prompts, as many of them; the command that is offered works.

    Catches in reports/curves.py: means of different rewards averaged; in reports/compatibility.py: a held-out reward
    that has another name with every setting.
    """
    runs = [make_finished_run(tmp_path / str(seed), seed=seed) for seed in range(3)]
    change_protocol(runs[1], **{field: value})
    out = f"out={tmp_path / 'out'}"
    assert main([*map(str, runs), out]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"were measured differently: {message}" in line
    assert str(runs[1] / "evaluation" / "test.json") in line
    command = "python -m drift_pl.report "
    assert line.endswith(f": report runs that were measured alike, {command}{runs[0]} {runs[2]}")
    assert not (tmp_path / "out").exists()
    assert main([*line.partition(command)[2].split(), out]) == 0


def test_what_only_some_runs_measured_besides_is_no_difference(tmp_path: Path) -> None:
    """The table shows what all have. A run that was measured anew has other pictures, not another summary.

    Catches in reports/compatibility.py: whole protocols compared.
    """
    runs = [make_finished_run(tmp_path / str(seed), seed=seed) for seed in range(2)]
    change_protocol(runs[1], measures=["fid", "shapes"], heldout_judges=[], seeds_per_prompt=64)
    assert main([*map(str, runs), f"out={tmp_path / 'out'}"]) == 0


def change_protocol(folder: Path, **fields: object) -> None:
    file = folder / "evaluation" / "test.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {"protocol": record["protocol"] | fields}))
