"""The figures of docs/concepts.md are what their command draws, and are shown there."""

from pathlib import Path

import pytest
from concept_figures import DOCS, FIGURES, draw


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    draw(folder)
    return folder


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_current(name: str, drawn: Path) -> None:
    """Catches in incentive/selection.py: `quantile` drops the lowest rewards in place of the highest.

    Catches in functional/fronts.py: a gain at one reward is read at the wrong end of a front.
    """
    committed = DOCS / "figures" / f"{name}.svg"
    assert committed.read_bytes() == (drawn / f"{name}.svg").read_bytes(), "run: python docs/make/concept_figures.py"


def test_all_are_shown() -> None:
    page = (DOCS / "concepts.md").read_text(encoding="utf-8")
    assert [name for name in FIGURES if f"(figures/{name}.svg)" not in page] == []
    assert {path.stem for path in (DOCS / "figures").iterdir()} == set(FIGURES)
