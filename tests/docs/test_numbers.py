"""Figures that pages repeat are those of the files that commands wrote."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"


def rows(text: str, first: str) -> list[dict[str, str]]:
    """Rows of all tables whose header has a cell `first`: column -> cell."""
    found, header = [], []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            header = []
        elif first in cells:
            header = cells
        elif header and set(line) - set("|-: "):
            found.append(dict(zip(header, cells, strict=False)))
    return found


@pytest.mark.parametrize("page", ["README.md", "docs/start.md", "docs/evidence.md"])
def test_a_table_of_the_three_seeds_is_that_of_the_report(page: str) -> None:
    """Catches in docs/start.md: a digit of another run."""
    report = {row[""]: row for row in rows((RESULTS / "report.md").read_text(), "pairwise_distance")}
    shown = rows((ROOT / page).read_text(encoding="utf-8"), "pairwise_distance")
    assert len(shown) == 3
    for row in shown:
        name = re.match(r"`?\w+`?", row[""])[0]  # type: ignore[index]
        for column in set(row) - {""}:
            assert report[name][column].startswith(row[column]), (name, column)


def test_what_an_iteration_costs_at_best_is_that_of_the_count() -> None:
    """Catches in docs/gpu.md: seconds of another experiment."""
    counted = json.loads((RESULTS / "limit.json").read_text())["experiments"]
    shown = rows((ROOT / "docs" / "gpu.md").read_text(encoding="utf-8"), "experiment")
    assert len(shown) >= 9
    for row in shown:
        _, images, memory, seconds = row.values()
        facts = counted[row["experiment"].strip("`")]
        parameters = facts["denoiser"]["parameters"] / 1e9
        assert images == str(facts["images"])
        assert [float(part) for part in re.findall(r"[\d.]+", memory)] == pytest.approx(
            [4 * parameters, 2 * parameters], rel=0.02
        )
        assert float(seconds) == pytest.approx(facts["seconds_at_peak"], rel=0.01)


def test_what_was_measured_on_a_gpu_is_in_its_file() -> None:
    """Catches in docs/gpu.md: the memory of another configuration."""
    measured = json.loads((RESULTS / "gpu_check.json").read_text())["rows"]
    shown = rows((ROOT / "docs" / "gpu.md").read_text(encoding="utf-8"), "configuration")
    assert len(shown) == sum("error" not in found for found in measured.values())
    for row in shown:
        name, *cells = row.values()
        found = measured[name.strip("`")]
        speed, shares = found["images_per_s"], (found["denoiser_share"], found["share_of_peak"]["iteration"])
        wanted = [*(speed[part] for part in ("iteration", "rollout", "update")), found["peak_bytes"] / 1e9]
        assert [float(cell.rstrip(" %")) for cell in cells] == pytest.approx(
            [*wanted, *(100 * share for share in shares)], abs=0.051
        )


def test_gains_of_the_first_screen_are_those_of_the_study() -> None:
    """The evidence page and the README repeat tier F; docs/results/fronts/F/pareto.md is made by a command.

    Catches in docs/evidence.md: the gain of another method, or of another tier.
    """
    table = (RESULTS / "fronts" / "F" / "pareto.md").read_text()
    for page in ("README.md", "docs/evidence.md"):
        text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
        assert "+6.3 % [+3.7, +9.8]" in text
        assert "+6.3 % [+3.7, +9.8]" in table
    assert re.search(r"\+81\.0 % \[\+52\.7, \+120\.7\]", table)
