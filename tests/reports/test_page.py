"""The page: one file that needs nothing else, holds every point, and escapes labels."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from html_page import Page
from made_up_evaluations import make_point, write_file, write_study

from drift_pl.evaluation.record_file import read_evaluation
from drift_pl.reports.comparison import compare
from drift_pl.reports.compute import compute
from drift_pl.reports.page import write_page
from drift_pl.reports.question import Question
from drift_pl.reports.results import Results
from drift_pl.reports.table import markdown

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000a49444154789c63000100000500010d0a2db40000000049454e44ae426082"
)
NASTY = "</script><script>alert(1)</script> & \"quoted\" 'x' <!-- `tick` | $a_b$"


def results_of(paths: list[Path], *diversity: str) -> Results:
    return compute(compare([read_evaluation(path) for path in paths]), Question(diversity=diversity))


def page_of(results: Results, out: Path) -> tuple[Page, dict]:
    out.mkdir(parents=True, exist_ok=True)
    write_page(results, out)
    page = Page((out / "index.html").read_text(encoding="utf-8"))
    return page, json.loads(page.scripts[0])


def test_every_point_is_on_the_page(tmp_path: Path) -> None:
    results = results_of(write_study(tmp_path), "pairwise_distance", "coverage")
    page, data = page_of(results, tmp_path / "out")
    assert data["diversity"] == ["pairwise_distance", "coverage"]
    for method, shown in zip(results.methods, data["methods"], strict=True):
        assert (shown["name"], shown["final"]) == (method.name, method.final)
        assert [point["label"] for point in shown["points"]] == [point.label for point in method.points]
        for point, expected in zip(shown["points"], method.points, strict=True):
            assert (point["mean"], point["per_seed"]) == (expected.mean, expected.per_seed)
        assert shown["fronts"]["coverage"]["points"] == method.fronts["coverage"].points
        cells = [[method.name, point.label, f"{point.mean['reward']:.4f}"] for point in method.points]
        assert all(row in [page.texts[at : at + 3] for at in range(len(page.texts))] for row in cells)


def test_the_page_needs_no_network(tmp_path: Path) -> None:
    page, _ = page_of(results_of(write_study(tmp_path, seeds=1)), tmp_path / "out")
    assert not any({"src", "href"} & attributes.keys() for tag, attributes in page.tags)
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 2
    assert "http" not in "".join(page.scripts).replace("http://www.w3.org/2000/svg", "")
    assert "@@" not in (tmp_path / "out" / "index.html").read_text()
    labels = [attributes for tag, attributes in page.tags if tag == "label"]
    names = {attributes.get("id") for _, attributes in page.tags}
    assert {attributes["for"] for attributes in labels} <= names


def test_ids_that_the_script_asks_for_are_there(tmp_path: Path) -> None:
    page, _ = page_of(results_of(write_study(tmp_path, seeds=1)), tmp_path / "out")
    names = {attributes.get("id") for _, attributes in page.tags}
    used = set(re.findall(r'byId\("([a-z-]+)"\)', page.scripts[1]))
    assert len(used) > 10
    assert used <= names


def test_a_label_is_shown_and_never_run(tmp_path: Path) -> None:
    names = {NASTY: "live", "plain": "average"}
    paths = [
        write_file(
            tmp_path / kind, name, 0, [make_point(0, 0.0), make_point(10, 1.0, pairwise_distance=0.7, weights=kind)]
        )
        for name, kind in names.items()
    ]
    results = results_of(paths)
    page, data = page_of(results, tmp_path / "out")
    assert [method["name"] for method in data["methods"]] == [NASTY, "plain"]
    assert "<" not in page.scripts[0]
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 2
    assert not any("alert" in script for script in page.scripts[1:])
    assert NASTY in page.texts
    row = next(line for line in markdown(results).splitlines() if line.startswith("| `</script>"))
    assert "\\|" in row
    assert row.count("`") == 2
    text = re.sub("`[^`\n]*`", "", markdown(results))
    assert "alert(1)" in text
    assert "<" not in text


def test_pictures_are_copied_once_per_point_and_linked_beside_the_page(tmp_path: Path) -> None:
    """Two seeds: the base's picture once, each point's for each seed; one that is gone is none."""
    for seed in range(2):
        points = [make_point(0, 0.0, picture="points/base.png"), make_point(10, 1.0, picture="points/10.png")]
        points.append(make_point(20, 2.0, picture="points/gone.png"))
        folder = write_file(tmp_path, "a/b <i>", seed, points)
        (folder / "points").mkdir()
        for name in ("base", "10"):
            (folder / "points" / f"{name}.png").write_bytes(PIXEL + bytes([seed]))
    runs = sorted(path for path in tmp_path.iterdir() if path.is_dir())
    _, data = page_of(results_of(runs), tmp_path / "out")
    points = data["methods"][0]["points"]
    linked = [data["base_picture"], *points[1]["pictures"]]
    assert [(tmp_path / "out" / path).read_bytes()[-1] for path in linked] == [0, 0, 1]
    assert points[2]["pictures"] == [None, None]
    assert sorted(path.name for path in (tmp_path / "out" / "pictures").iterdir()) == sorted(
        Path(path).name for path in linked
    )
    assert all(re.fullmatch(r"pictures/[\w.-]+\.png", path) for path in linked)


@pytest.mark.parametrize("picture", ["../secret.png", "../{run}/../secret.png", "points/link.png", "settings.txt", "."])
def test_only_pictures_of_the_run_itself_are_copied(picture: str, tmp_path: Path) -> None:
    """A record from elsewhere may name any file, and the page's folder is shared."""
    points = [make_point(0, 0.0, picture=picture), make_point(10, 1.0, picture="points/own.png")]
    folder = write_file(tmp_path, "m", 0, points)
    (folder / "points").mkdir()
    (folder / "points" / "own.png").write_bytes(PIXEL)
    (folder / "settings.txt").write_text("secret")
    (tmp_path / "secret.png").write_text("secret")
    (folder / "points" / "link.png").symlink_to(tmp_path / "secret.png")
    _, data = page_of(results_of([folder]), tmp_path / "out")
    assert data["base_picture"] is None
    assert [path.read_bytes() for path in (tmp_path / "out" / "pictures").iterdir()] == [PIXEL]


def test_names_stay_on_their_line_and_are_no_markup(tmp_path: Path) -> None:
    """Catches in reports/markdown.py: a name whose line break begins a heading, a measure that is an image."""
    evil, image = "a\n# heading\n", "![x](http://h/x.png)<img src=x>"
    points = [make_point(0, 0.0), make_point(10, 1.0)]
    for point in points:
        point["per_prompt"][image] = [0.1, 0.2]
    paths = [write_file(tmp_path / str(number), name, 0, points) for number, name in enumerate((evil, "b"))]
    text = markdown(results_of(paths))
    assert [line for line in text.splitlines() if line.startswith("#")][:1] == ["# Reward-diversity fronts"]
    assert not any(line.startswith("# heading") for line in text.splitlines())
    assert "`a # heading`" in text
    assert "![x]" not in text
    assert "<img" not in text


def test_json_is_strict_and_gives_everything_back(tmp_path: Path) -> None:
    """Floats to seven digits, all else as it was.

    Catches in drift_pl/reports/results.py: fewer digits; integers or texts touched.
    """
    results = results_of(write_study(tmp_path, seeds=2))
    content = json.loads(results.to_json(), parse_constant=pytest.fail)
    assert leaves(content) == {
        place: pytest.approx(value, rel=1e-6) if isinstance(value, float) else value
        for place, value in leaves(json.loads(json.dumps(results.plain()))).items()
    }
    assert content["methods"][1]["points"][2]["mean"]["reward"] == pytest.approx(
        results.methods[1].points[2].mean["reward"], rel=1e-6
    )


def leaves(content: Any, place: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Any]:
    """Path -> value, for all that is no dict and no list."""
    if not isinstance(content, dict | list):
        return {place: content}
    items = content.items() if isinstance(content, dict) else enumerate(content)
    return {path: value for key, each in items for path, value in leaves(each, (*place, key)).items()}
