"""report.html in a browser: phone and desk, light and dark, by keyboard, without a request.

python -m pytest -m browser tests/reports/test_report_layout.py --basetemp=/tmp/pictures    # and its pictures
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Chromium
from runs_on_a_page import make_finished_run

from drift_pl.reports.facts import read_facts
from drift_pl.reports.run_page import page

pytestmark = pytest.mark.browser
LONG = "a very long prompt with " + "averyveryverylongwordwithoutanybreak" * 5
ARABIC = "حصان أحمر!"
WIDTHS = (360, 390, 768, 1280)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    chromium = Chromium(tmp_path_factory.mktemp("profile"))
    yield chromium
    chromium.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of one run, with long words in it, and one of two."""
    folder = tmp_path_factory.mktemp("report")
    overrides = ("objective.kl_weight=0.7", f"policy.negative_prompt='{LONG}'")
    one = make_finished_run(folder / "shapes_div-with-a-long-name-d738dcc0-s0", *overrides, prompts=[LONG, ARABIC])
    two = make_finished_run(folder / "b", experiment="shapes_flowgrpo", seed=1, reward=0.7)
    found = {}
    for name, runs in {"one": [one], "two": [one, two]}.items():
        found[name] = folder / f"{name}.html"
        found[name].write_text(page([read_facts(run) for run in runs], ["left out: another run"]), encoding="utf-8")
    return found


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["one", "two"])
def test_nothing_is_wider_than_the_window(
    browser: Chromium, files: dict[str, Path], tmp_path: Path, name: str, width: int
) -> None:
    """Tables scroll by themselves, and words without an end are broken."""
    browser.open(files[name], width)
    assert browser.ask("document.documentElement.scrollWidth") <= width
    outside = "[...document.querySelectorAll('main *')].filter((e) => !e.closest('.scroll') && !e.closest('svg') && "
    outside += "e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.tagName + '.' + e.className)"
    assert browser.ask(outside) == []
    browser.picture(tmp_path / f"{name}-{width}.png")


def test_settings_stand_below_one_another_on_a_phone(browser: Chromium, files: dict[str, Path]) -> None:
    """A long value has the page's width, and says which column it is of; on a desk it is in its column.

    Catches in reports/report.html: three columns in the width of a phone.
    """
    width = "document.querySelector('.stack td:last-child').getBoundingClientRect().width"
    label = "getComputedStyle(document.querySelector('.stack td:last-child'), '::before').content"
    browser.open(files["one"], 390)
    assert browser.ask(width) > 300
    assert browser.ask(label) != "none"
    browser.open(files["one"], 1280)
    assert browser.ask(label) == "none"


def test_a_prompt_is_read_in_its_own_direction(browser: Chromium, files: dict[str, Path]) -> None:
    """The mark at the end of a sentence in Arabic stands on its left.

    Catches in reports/report.html: prompts in the direction of the page.
    """
    browser.open(files["one"], 1280)
    place = "((at) => { const text = [...document.querySelectorAll('h4')].at(-1).firstChild, part = new Range(); "
    place += "part.setStart(text, at); part.setEnd(text, at + 1); return part.getBoundingClientRect().left; })"
    assert browser.ask(f"{place}({len(ARABIC) - 1})") < browser.ask(f"{place}(0)")
    assert browser.ask("[...document.querySelectorAll('h4')].at(-1).textContent") == ARABIC


def test_texts_of_a_chart_can_be_read_on_a_phone(browser: Chromium, files: dict[str, Path]) -> None:
    """At least 9 pixels high, and inside of the drawing."""
    browser.open(files["one"], 390)
    sizes = "[...document.querySelectorAll('.chart > svg text')].map((e) => e.getBoundingClientRect())"
    assert browser.ask(f"{sizes}.every((r) => Math.max(r.width, r.height) >= 9)")
    inside = "[...document.querySelectorAll('.chart > svg')].every((s) => { const o = s.getBoundingClientRect(); "
    inside += (
        "return [...s.querySelectorAll('text')].every((e) => { const r = e.getBoundingClientRect(); return r.left >= "
    )
    inside += "o.left - 1 && r.right <= o.right + 1 && r.top >= o.top - 1 && r.bottom <= o.bottom + 1; }); })"
    assert browser.ask(inside)


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_in_both_schemes(browser: Chromium, files: dict[str, Path], tmp_path: Path, dark: bool) -> None:
    """The contrast of WCAG 2.1, AA: 4.5 for text."""
    browser.open(files["one"], 1280, dark)
    browser.picture(tmp_path / f"dark-{dark}.png")
    colours = "['main p', '.notes', 'td', 'th', '.try', 'a', '.legend li', 'footer'].map((s) => "
    colours += "getComputedStyle(document.querySelector(s)).color)"
    paper = browser.ask("getComputedStyle(document.body).backgroundColor")
    assert (_luminance(paper) < 0.1) == dark
    for colour in browser.ask(colours):
        light, deep = sorted((_luminance(colour), _luminance(paper)), reverse=True)
        assert (light + 0.05) / (deep + 0.05) >= 4.5, (colour, paper)


def _luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)`, by WCAG 2.1."""
    values = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_slider_is_moved_by_keys(browser: Chromium, files: dict[str, Path]) -> None:
    """Catches in reports/report.html: the slider's frames are hidden in the wrong order."""
    browser.open(files["one"], 390)
    shown = "[...document.querySelectorAll('.strip img')].filter((e) => e.checkVisibility())"
    shown += ".map((e) => e.alt.split(':')[0])"
    value = "document.querySelector('output').textContent"
    browser.ask("document.querySelector('input').focus()")
    assert browser.ask(shown).count("iteration 20") == 2 + 2  # the last of the run, and of the looks
    browser.press("ArrowLeft")
    assert browser.ask(value) == "iteration 10"
    assert browser.ask("document.querySelector('input').getAttribute('aria-valuetext')") == "iteration 10"
    assert browser.ask(shown).count("iteration 10") == 2
    assert browser.ask(shown).count("iteration 20") == 2
    browser.press("ArrowRight")
    assert browser.ask(value) == "iteration 20"


def test_everything_is_reached_by_tab_and_the_focus_is_seen(browser: Chromium, files: dict[str, Path]) -> None:
    browser.open(files["one"], 1280)
    reached, outlines = [], []
    for _ in range(30):
        browser.press("Tab")
        reached.append(browser.ask("document.activeElement.tagName + (document.activeElement.className || '')"))
        outlines.append(browser.ask("getComputedStyle(document.activeElement).outlineStyle"))
    assert {"A", "INPUT", "SUMMARY", "DIVscroll"} <= set(reached)
    focused = [outline for where, outline in zip(reached, outlines, strict=True) if where != "BODY"]
    assert "none" not in focused


def test_it_asks_for_nothing(browser: Chromium, files: dict[str, Path]) -> None:
    browser.requested.clear()
    browser.open(files["two"], 1280)
    assert [url for url in browser.requested if not url.startswith("data:")] == [files["two"].as_uri()]
