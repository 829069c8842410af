"""docs/config.md is what its command writes from the fields, and says of every key what the field says."""

import re

from settings_page import PAGE, page

from drift_pl.config.schema import Config
from drift_pl.config.section import all_keys

ROWS = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]


def test_the_page_is_current() -> None:
    """Catches in docs/make/settings_page.py: bounds, or what shapes results, are left out."""
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python docs/make/settings_page.py"


def test_every_key_has_one_row() -> None:
    shown = [re.match(r"\| `([^`]+)`", row)[1] for row in ROWS]  # type: ignore[index]
    assert sorted(shown) == sorted(name for name, key in all_keys(Config).items() if not key.is_section)


def test_rows_say_type_bounds_default_and_effect_on_results() -> None:
    """Worked out by hand from the fields of config/schema_*.py."""
    rows = {row.split("`")[1]: row for row in ROWS}
    cells = {name: [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[3:6]] for name, row in rows.items()}
    assert cells["prompts.group_size"] == ["int, at least 2, at most 4096", "`16`", "yes"]
    assert cells["trainer.iterations"] == ["int, at least 1", "`200`", "no"]
    assert cells["rewards.N.name"][1] == "required"
    assert "Only with `incentive.selection.rule` = `band`." in rows["incentive.selection.kappa"]
    assert "`pickscore`" not in rows["policy.family"]
    assert "`sdxl` (SDXL)" in rows["policy.family"]
