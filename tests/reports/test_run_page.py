"""report.html: what it says, that it needs nothing else, that nothing in it is read as HTML."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from html_page import Page
from made_up_evaluations import PROTOCOL
from runs_on_a_page import NASTY, make_finished_run

from drift_pl.reports.facts import read_facts
from drift_pl.reports.gallery import training_gallery
from drift_pl.reports.run_page import page, table, write_run_page


def page_of(*folders: Path, notes: tuple[str, ...] = ()) -> tuple[Page, str]:
    text = page([read_facts(folder) for folder in folders], notes)
    return Page(text), text


def section(text: str, name: str) -> str:
    return re.search(rf'<section id="{name}">(.*?)\n</?(?:section|main)', text, re.DOTALL)[1]


def test_it_says_what_was_run_and_overridden(tmp_path: Path) -> None:
    """Catches in reports/facts.py: the run's and the experiment's values swapped."""
    shown = page_of(make_finished_run(tmp_path / "run", "objective.kl_weight=0.7", "trainer.iterations=20"))[0].texts
    rows = [shown[at : at + 3] for at in range(len(shown))]
    assert ["objective.kl_weight", "0.3", "0.7"] in rows
    assert ["trainer.iterations", "80", "20"] in rows
    assert "shapes_div" in shown
    assert not any(row[0] == "objective.learning_rate" for row in rows)


@pytest.mark.parametrize(
    ("override", "experiment"),
    [
        ("rewards=[{name: jpeg_compressibility}]", "[{name: pickscore, args: {pretrained: pkg:drift_pl.builtin/"),
        ("rewards.0.weight=2.0", "1.0"),
        ("rewards.0.args.pretrained=pkg:my_models/judge", "pkg:drift_pl.builtin/"),
    ],
)
def test_a_setting_within_a_list_stands_beside_the_experiments(tmp_path: Path, override: str, experiment: str) -> None:
    """Both as they would be typed.

    Catches in reports/facts.py: a list as Python shows its objects.
    Catches in config/schema.py: a key within a list, or within args, that is not found.
    """
    folder = make_finished_run(tmp_path / "run")
    (folder / "overrides.yaml").write_text(json.dumps([override]))
    (change,) = read_facts(folder).changes or ()
    assert (change.key, change.run) == tuple(override.split("=", 1))
    assert change.experiment.startswith(experiment)


def test_values_of_base_and_tuned_stand_in_the_table(tmp_path: Path) -> None:
    """Reward 0.5 -> 0.6 is +20 %, distance 0.8 -> 0.4 is -50 %."""
    shown = page_of(make_finished_run(tmp_path / "run"))[0].texts
    rows = [shown[at : at + 4] for at in range(len(shown))]
    assert ["reward", "0.5000", "0.6000", "+20.0%"] in rows
    assert ["pairwise_distance", "0.8000", "0.4000", "-50.0%"] in rows


def test_most_and_least_diverse_prompts(tmp_path: Path) -> None:
    """Of two prompts with distances 0.3 and 0.5, each list has one.

    Catches in reports/run_page.py: lists swapped.
    """
    text = section(page_of(make_finished_run(tmp_path / "run"))[1], "prompts")
    most, least = text.split("Least diverse</h3>")
    assert PROTOCOL["prompts"][1] in most
    assert PROTOCOL["prompts"][0] not in most
    assert PROTOCOL["prompts"][0] in least
    assert "0.5000" in most
    assert "0.3000" in least


def test_charts_have_the_base_and_every_look(tmp_path: Path) -> None:
    """A table under each chart holds its numbers; looks at iterations 0, 10 and 20."""
    text = section(page_of(make_finished_run(tmp_path / "run"))[1], "training")
    drawn = re.findall(r"<figure.*?</figure>", text, re.DOTALL)
    assert len(drawn) == 5
    reward = drawn[0]
    for iteration, value in ((0, "0.5000"), (10, "0.5500"), (20, "0.6000")):
        assert f"<td>{iteration}</td><td>{value}</td>" in reward
    assert '<th scope="row">base model</th><td></td><td>0.5000</td>' in reward
    assert reward.count("<circle") == 3 + 1  # and one in the legend
    assert 'class="star"' in drawn[2]


def test_every_picture_says_what_it_shows(tmp_path: Path) -> None:
    shown = page_of(make_finished_run(tmp_path / "run"))[0]
    images = [attributes for tag, attributes in shown.tags if tag == "img"]
    # two prompts: base and tuned on the test prompts, three looks on the tuning prompts
    assert len(images) == 2 * 2 + 2 * 3
    assert all(image["src"].startswith("data:image/png;base64,") for image in images)
    alts = [image["alt"] for image in images]
    assert f"base: {PROTOCOL['prompts'][0]}; 3 images, each from its own noise" in alts
    assert f"iteration 10: {PROTOCOL['prompts'][1]}; 3 images, each from its own noise" in alts
    # base, and of the slider's frames the last
    assert [image["alt"].partition(":")[0] for image in images if "hidden" in image] == ["iteration 10", "iteration 10"]


def test_pictures_of_the_run_are_those_of_its_sheets(tmp_path: Path) -> None:
    """Each picture of a sheet becomes lighter from left to right, in steps of eight pixels.

    Catches in evaluation/sheet.py: rows and columns swapped.
    """
    gallery = training_gallery(read_facts(make_finished_run(tmp_path / "run")))
    assert gallery is not None
    base, tuned = gallery.strips
    assert [frame.title for frame in tuned.frames] == ["iteration 10", "iteration 20"]
    for number, frame in enumerate([*base.frames, *tuned.frames]):
        assert frame.tiles_PSHW3.shape == (2, 3, 64, 64, 3)
        for prompt in range(2):
            for seed in range(3):
                expected_HW3 = np.broadcast_to((np.arange(64) // 8)[:, None], (64, 64, 3)) + 40 * number
                np.testing.assert_array_equal(frame.tiles_PSHW3[prompt, seed], expected_HW3 + 10 * prompt + seed)


def test_controls_have_names_and_the_slider_a_value(tmp_path: Path) -> None:
    tags = page_of(make_finished_run(tmp_path / "run"))[0].tags
    sliders = [attributes for tag, attributes in tags if tag == "input"]
    labels = {attributes["for"] for tag, attributes in tags if tag in ("label", "output")}
    assert [slider["type"] for slider in sliders] == ["range"]
    assert {slider["id"] for slider in sliders} == labels
    assert sliders[0]["aria-valuetext"] == "iteration 20"
    assert [attributes for tag, attributes in tags if tag == "svg" and attributes.get("role") == "img"]
    assert all(
        attributes.get("aria-label") or attributes.get("aria-hidden") for tag, attributes in tags if tag == "svg"
    )
    anchors = {attributes["href"] for tag, attributes in tags if tag == "a"}
    assert anchors == {f"#{attributes['id']}" for tag, attributes in tags if tag == "section" and "id" in attributes}


def test_it_asks_nothing_of_the_network(tmp_path: Path) -> None:
    shown, text = page_of(make_finished_run(tmp_path / "run"))
    links = [a.get(key) for _, a in shown.tags for key in ("src", "href", "srcset", "action", "data") if a.get(key)]
    assert all(link.startswith(("data:image/", "#")) for link in links)
    policy = next(a["content"] for tag, a in shown.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "@import" not in text
    assert "url(" not in text


def test_nothing_of_a_run_is_read_as_html(tmp_path: Path) -> None:
    """Prompts, the experiment's name, settings.

    Catches in reports/gallery.py: an alt text that is not escaped.
    """
    folder = make_finished_run(tmp_path / "run", f"policy.negative_prompt={json.dumps(NASTY)}", prompts=[NASTY, "b"])
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"experiment": NASTY, "stopped": NASTY}))
    shown, text = page_of(folder, notes=(NASTY,))
    assert len(shown.scripts) == 1
    assert "alert" not in shown.scripts[0]
    assert NASTY in shown.texts
    assert any(attributes.get("alt", "").startswith(f"base: {NASTY}") for _, attributes in shown.tags)
    assert "<script>alert" not in text


def test_no_cell_of_a_table_shows_a_key() -> None:
    """The experiment's own value comes from a file that may hold one.

    Catches in reports/run_page.py: a cell, or the name of a row, as it is.
    """
    text = table("settings", ["setting", "experiment"], [["http://h/?k=1", "http://h/?k=2"]])
    assert text.count("http://h/?...") == 2
    assert "k=" not in text


def test_several_runs_stand_side_by_side(tmp_path: Path) -> None:
    first = make_finished_run(tmp_path / "a", seed=0)
    second = make_finished_run(tmp_path / "b", seed=1, reward=0.7, experiment="shapes_flowgrpo")
    shown, text = page_of(first, second, notes=("left out: c",))
    header = ["measure", "base", "shapes_div, seed 0", "change", "shapes_flowgrpo, seed 1", "change"]
    assert header in [shown.texts[at : at + 6] for at in range(len(shown.texts))]
    row = ["reward", "0.5000", "0.6000", "+20.0%", "0.7000", "+40.0%"]
    assert row in [shown.texts[at : at + 6] for at in range(len(shown.texts))]
    assert "left out: c" in shown.texts
    assert [text for text in shown.texts if text in ("a", "b")] == ["a", "b"] * 3  # health, prompts, what was run
    assert [tag for tag, _ in shown.tags].count("img") == 3 * 2  # base and both runs, of two prompts
    colours = set(re.findall(r"--colour:(#\w+)", section(text, "training")))
    assert len(colours) == 2


def test_seeds_share_a_place_in_the_legend_and_what_is_fine_is_folded(tmp_path: Path) -> None:
    """Catches in reports/charts.py: a legend that names every seed.

    Catches in reports/run_page.py: the health of many runs in full, before any result.
    """
    runs = [make_finished_run(tmp_path / str(seed), seed=seed) for seed in range(3)]
    other = make_finished_run(tmp_path / "b", experiment="shapes_flowgrpo")
    text = page_of(*runs, other)[1]
    for legend in re.findall(r'<ul class="legend">(.*?)</ul>', text):
        names = re.findall(r"</svg>(.*?)</li>", legend)
        assert names[:2] == ["shapes_div, 3 seeds", "shapes_flowgrpo, seed 0"]
    health = section(text, "health")
    folded = re.findall(r"<details><summary>(\d) fine</summary>(.*?)</details>", health)
    assert [int(count) for count, _ in folded] == [found.count('class="fine"') for _, found in folded]
    assert len(folded) == 4
    assert health.count('class="fine"') == sum(int(count) for count, _ in folded)
    assert "<details><summary>" not in section(page_of(runs[0])[1], "health")


def test_a_run_without_looks_shows_its_training_groups(tmp_path: Path) -> None:
    folder = make_finished_run(tmp_path / "run")
    (folder / "evaluation" / "tuning.json").unlink()
    text = section(page_of(folder)[1], "training")
    assert len(re.findall("<figure", text)) == 2
    (folder / "csv" / "metrics.csv").unlink()
    assert "evaluation.every=0" in section(page_of(folder)[1], "training")


def test_a_damaged_sheet_costs_its_pictures_only(tmp_path: Path) -> None:
    folder = make_finished_run(tmp_path / "run")
    (folder / "samples" / "iteration-000010.png").write_bytes(b"no picture")
    shown = page_of(folder)[0]
    assert not [a for tag, a in shown.tags if tag == "img" and a["alt"].startswith("iteration 10")]


def test_it_is_written_into_the_run(tmp_path: Path) -> None:
    folder = make_finished_run(tmp_path / "run")
    assert write_run_page(folder) == folder / "report.html"
    Page((folder / "report.html").read_text(encoding="utf-8"))


def test_metrics_of_tensorboard_are_read_like_those_of_csv(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of a run that was resumed from its first iteration, too, and without a word.

    Catches in reports/series.py: notices of steps that a resume has purged are shown to the user.
    """
    from torch.utils.tensorboard import SummaryWriter

    folder = make_finished_run(tmp_path / "run")
    expected = read_facts(folder).series
    first, *later = sorted({iteration for values in expected.values() for iteration, _ in values})
    for begins, kept in ((first, [first, later[0]]), (later[0], later)):
        with SummaryWriter(str(folder / "tensorboard"), purge_step=begins - 1, filename_suffix=f".{begins}") as writer:
            for key, values in expected.items():
                for iteration, value in values:
                    if iteration in kept:
                        writer.add_scalar(key, value, iteration - 1)
    (folder / "csv" / "metrics.csv").unlink()
    series = read_facts(folder).series
    assert series.keys() == expected.keys()
    for key, values in expected.items():
        np.testing.assert_allclose(series[key], values, rtol=1e-6)
    assert not caplog.records
