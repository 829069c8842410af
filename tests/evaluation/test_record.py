"""evaluation.json: intervals by hand, what is written is what is read, and what is refused."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from drift_pl.core.errors import UserError
from drift_pl.evaluation.protocol import Protocol, Training, first_difference
from drift_pl.evaluation.record import TUNED, Evaluation, Point, Value, summarise, titles
from drift_pl.evaluation.record_file import from_plain, read_evaluation, to_plain, write_evaluation
from drift_pl.reports.display import table

PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"
EXAMPLE: dict[str, Any] = json.loads(re.findall(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0])


def point(name: str, iteration: int, **fields: Any) -> Point:
    values = {"reward": Value(0.5, 0.25, 0.75, 2), "heldout/clip": Value(None, None, None, 0)}
    per_prompt = {"reward": [0.4, 0.6], "heldout/clip": [None, None]}
    plain = Point(name, f"{name}.ckpt", iteration, iteration * 8, "live", 1.0, None, values, per_prompt, None, "abc")
    return replace(plain, **fields)


def base() -> Point:
    return point("base", 0, checkpoint=None, weights="base", digest=None)


def made(path: Path, *points: Point) -> Evaluation:
    header = {name: EXAMPLE[name] for name in ("method", "experiment", "seed", "config_hash", "training", "protocol")}
    return (
        Evaluation(path=path, **header).with_point(base()) if not points else Evaluation(path, **header, points=points)
    )


def test_an_interval_by_hand() -> None:
    """1, 2, 3: mean 2, standard deviation 1; Student's t at 0.975 with two degrees of freedom is 4.302653."""
    value = summarise([1.0, None, 2.0, 3.0])
    half = 4.302652729911275 / math.sqrt(3)
    assert (value.mean, value.low, value.high) == pytest.approx((2, 2 - half, 2 + half), rel=1e-9)
    assert value.prompts == 3
    assert summarise([0.5, 0.5]) == Value(0.5, 0.5, 0.5, 2)


def test_intervals_are_scipys_and_missing_below_two_prompts() -> None:
    numbers = [0.13, -0.2, 0.9, 0.44, 0.41, 0.02, 1.3]
    value = summarise(numbers)
    expected = stats.t.interval(0.95, 6, loc=sum(numbers) / 7, scale=stats.sem(numbers))
    assert (value.low, value.high) == pytest.approx(expected, rel=1e-8)
    assert summarise([None, 0.7]) == Value(0.7, None, None, 1)
    assert summarise([None, None]) == Value(None, None, None, 0)


def test_what_is_written_is_read_whatever_the_prompts_say(tmp_path: Path) -> None:
    nasty = ['[ 1, 2 ] "quoted" \\ é\n[\n3 ]', "null, [\t]"]
    evaluation = made(tmp_path / "evaluation.json", base(), point("iteration-000010", 10, importance_power=1.5))
    evaluation = replace(evaluation, protocol=evaluation.protocol | {"prompts": nasty})
    write_evaluation(evaluation)
    text = evaluation.path.read_text(encoding="utf-8")
    assert '"reward": [0.4, 0.6]' in text
    assert '"heldout/clip": [null, null]' in text
    again = read_evaluation(tmp_path)  # the folder that holds it
    assert again.protocol["prompts"] == nasty
    assert again.points == evaluation.points
    assert again.path == evaluation.path
    assert [file.name for file in tmp_path.iterdir()] == ["evaluation.json"]


def test_a_number_that_is_not_finite_leaves_the_old_file(tmp_path: Path) -> None:
    good = made(tmp_path / "evaluation.json")
    write_evaluation(good)
    with pytest.raises(ValueError):
        write_evaluation(good.with_point(point("a", 1, per_prompt={"reward": [math.nan, 1.0]})))
    assert read_evaluation(good.path) == good


def test_points_keep_their_order_and_their_names_are_unique(tmp_path: Path) -> None:
    evaluation = made(tmp_path / "x.json")
    names = ["late", "early", "early-scale0.5", "early-power2", "early-power1"]
    fields = [{}, {}, {"lora_scale": 0.5}, {"importance_power": 2.0}, {"importance_power": 1.0}]
    for name, more in zip(names, fields, strict=True):
        evaluation = evaluation.with_point(point(name, 20 if name == "late" else 10, checkpoint="c", **more))
    in_order = ["base", "early-scale0.5", "early", "early-power1", "early-power2", "late"]
    assert [one.name for one in evaluation.points] == in_order
    assert evaluation.with_point(point("other", 20, checkpoint="c")).points[-1].name == "other", "the same weights"
    again = evaluation.with_point(point("early", 10, checkpoint="c", digest="new"))
    assert [one.name for one in again.points] == in_order
    assert [one.digest for one in again.points] == [None, "abc", "new", "abc", "abc", "abc"]


@pytest.mark.parametrize(
    "change",
    [
        *({"digest": "other"}, {"iteration": 11}, {"weights": "average"}),
        *({"lora_scale": 0.9}, {"importance_power": 0.0}),
    ],
)
def test_what_makes_another_point(change: dict[str, Any]) -> None:
    one = point("a", 10)
    assert replace(one, **change).identity() != one.identity()
    assert replace(one, values={}, per_prompt={}, picture="p", name="b", checkpoint="c").identity() == one.identity()


def test_the_first_difference_is_named() -> None:
    protocol = EXAMPLE["protocol"]
    assert first_difference(protocol, dict(protocol)) is None
    for field in Protocol.__annotations__:
        other = protocol | {field: "other" if field != "prompts" else ["a cross", "a dot"]}
        assert str(first_difference(protocol, other)).startswith(("('prompt 2'", f"('{field}'"))
    assert first_difference(protocol, protocol | {"steps": 9}) == ("steps", 20, 9)
    assert first_difference(protocol, protocol | {"prompts": ["a cross"]}) == ("number of prompts", 2, 1)
    changed = first_difference(protocol, protocol | {"prompts": ["a cross", "a dot"]})
    assert changed == ("prompt 2", "something red", "a dot")


def write(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps(EXAMPLE | changes))
    return path


def edited(**changes: Any) -> list[dict[str, Any]]:
    """The example's points with another first one; None takes a key out."""
    first = {name: value for name, value in (EXAMPLE["points"][0] | changes).items() if value != "gone"}
    return [first, EXAMPLE["points"][1]]


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"format": "else"}, "is not an evaluation file"),
        ({"version": 0}, "was made by an older drift_pl (format version 0, this one has 1)"),
        ({"version": None}, "was made by an older drift_pl"),
        ({"version": 2}, "was made by a newer drift_pl"),
        ({"seed": "0"}, "damaged: seed: input should be a valid integer"),
        ({"training": {}}, "damaged: training.iterations: field required"),
        (
            {"protocol": EXAMPLE["protocol"] | {"steps": True}},
            "damaged: protocol.steps: input should be a valid int",
        ),
        (
            {"protocol": EXAMPLE["protocol"] | {"judges": [1]}},
            "damaged: protocol.judges.0: input should be a",
        ),
        (
            {"protocol": EXAMPLE["protocol"] | {"prompts": ["a red\n'x'", "b", "a red\n'x'"]}},
            r"""damaged: protocol.prompts holds "a red\n'x'" twice; make it again""",
        ),
        ({"protocol": EXAMPLE["protocol"] | {"prompts": []}}, "damaged: protocol.prompts holds no prompt"),
        ({"points": []}, "damaged: it has no points"),
        ({"points": [3]}, "damaged: points.0: "),
        ({"points": [EXAMPLE["points"][0]] * 2}, "damaged: two points have one name"),
        ({"points": edited(name="../../base")}, "damaged: points.0.name is not the name of a file"),
        ({"points": edited(iteration="gone")}, "damaged: points.0.iteration: field required"),
        ({"points": edited(values={"reward": {}})}, "damaged: points.0.values.reward.mean: field required"),
        ({"points": edited(per_prompt={"reward": [0.1]})}, "points.0.per_prompt.reward is not a list of 2 numbers"),
        (
            {"points": edited(per_prompt={"reward": [0.1, "x"]})},
            "points.0.per_prompt.reward.1: input should be",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_command_that_makes_it(
    tmp_path: Path, changes: dict[str, Any], part: str
) -> None:
    """Catches in evaluation/record_file.py: a prompt that stands twice, and so weighs double."""
    with pytest.raises(UserError) as caught:
        read_evaluation(write(tmp_path / "evaluation.json", **changes))
    assert part in str(caught.value)
    assert str(tmp_path / "evaluation.json") in str(caught.value)
    assert f"python -m drift_pl.evaluate ckpt_path={tmp_path}" in str(caught.value)


def test_a_run_folder_stands_for_its_test_prompts_and_in_version_0_1_for_the_file_above(tmp_path: Path) -> None:
    """Commands in messages name the run's folder, wherever in it a file lies."""
    write(tmp_path / "evaluation.json", method="old")
    assert read_evaluation(tmp_path).method == "old"
    (tmp_path / "evaluation").mkdir()
    write(tmp_path / "evaluation" / "test.json", method="new")
    found = read_evaluation(tmp_path)
    assert (found.method, found.run_dir) == ("new", tmp_path)
    assert found.folder == tmp_path / "evaluation" / "test" / "points"
    (tmp_path / "evaluation" / "test.json").write_text("{}")
    with pytest.raises(UserError, match=f"python -m drift_pl.evaluate ckpt_path={tmp_path}$"):
        read_evaluation(tmp_path)


def test_plain_content_is_the_evaluation_whatever_its_place() -> None:
    evaluation = from_plain(EXAMPLE, Path("somewhere/a.json"))
    assert to_plain(evaluation) == EXAMPLE
    assert evaluation.path == Path("somewhere/a.json")


def test_two_runs_or_two_protocols_may_not_share_a_file(tmp_path: Path) -> None:
    one = made(tmp_path / "x.json")
    extended = Training(one.training, iterations=one.training["iterations"] + 100)
    assert one.difference(replace(one, points=(), path=tmp_path, method="m", training=extended)) is None
    elsewhere = Training(one.training, prompts_digest="other")
    assert "another list, prompts.train" in str(one.difference(replace(one, training=elsewhere)))
    name = EXAMPLE["config_hash"]
    assert one.difference(replace(one, seed=5)) == f"is of the run {name}-s0, and this one is {name}-s5"
    assert "other" in str(one.difference(replace(one, config_hash="other")))
    steps = replace(one, protocol={**one.protocol, "steps": 9})
    assert one.difference(steps) == "was measured differently: steps is 20 there and 9 now"


def test_the_final_point_is_the_one_that_fit_measured_or_else_the_longest_trained(tmp_path: Path) -> None:
    swept = [point("b", 20, lora_scale=0.5), point("c", 20), point("d", 20, importance_power=2.0)]
    evaluation = made(tmp_path / "x.json", base(), point("a", 10), *swept)
    assert (evaluation.base, evaluation.tuned.name) == (evaluation.points[0], "c")
    assert evaluation.with_point(point(TUNED, 20, lora_scale=0.7)).tuned.lora_scale == 0.7
    assert made(tmp_path / "y.json", point("a", 10)).base is None


def test_titles_name_the_weights_only_where_they_distinguish_points() -> None:
    """Catches in evaluation/record.py: live and averaged weights of one iteration under one title."""
    swept = point("b", 20, weights="average", lora_scale=0.5, importance_power=2.0)
    points = [base(), point("a", 10), swept, point("c", 20, weights="average"), point("c-live", 20)]
    assert titles(points) == [
        *("base", "iteration 10", "iteration 20, LoRA scale 0.5, importance power 2"),
        *("iteration 20, average weights", "iteration 20, live weights"),
    ]


def test_no_file_and_no_json(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file; make it with python -m drift_pl.evaluate ckpt_path="):
        read_evaluation(tmp_path)
    (tmp_path / "evaluation.json").write_text('{"format": ')
    with pytest.raises(UserError, match=r"is not a JSON file \(.*\); make it again with .* fresh=true"):
        read_evaluation(tmp_path)


def test_the_page_explains_every_key_and_its_example_is_a_file(tmp_path: Path) -> None:
    evaluation = read_evaluation(write(tmp_path / "evaluation.json"))
    shown, expected = evaluation.points[0].values["reward"], summarise([0.75, 0.95])
    assert (shown.mean, shown.low, shown.high) == pytest.approx((expected.mean, expected.low, expected.high), abs=1e-6)
    assert evaluation.points[1].values["reward"] == summarise([0.9, None])
    rows = [row.split("|")[1] for row in PAGE.read_text(encoding="utf-8").splitlines() if row.startswith("| `")]
    documented = {key for row in rows for key in re.findall("`([^`]+)`", row)}
    keys = {"format", "version", *EXAMPLE, *Protocol.__annotations__, *EXAMPLE["points"][0]}
    assert keys <= documented
    assert EXAMPLE["points"][0].keys() == Point.__dataclass_fields__.keys()
    assert all(
        f"`{name}`" in PAGE.read_text(encoding="utf-8")
        for name in (*Training.__annotations__, *Value.__dataclass_fields__)
    )


def test_the_table_shows_means_and_dashes(tmp_path: Path) -> None:
    lines = table(
        made(tmp_path / "x.json", base(), point("c", 10, values={"reward": Value(0.25, 0, 1, 2)}))
    ).splitlines()
    assert [line.split() for line in lines] == [
        *(["reward", "clip"], ["base", "0.5000", "-"], ["iteration", "10", "0.2500", "-"]),
    ]
    assert len({len(line) for line in lines}) == 1


def test_a_picture_is_named_by_the_folder_that_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pareto.json names it, and is passed on.

    Catches in evaluation/record.py: the whole path on this machine; a picture from outside of the run.
    """
    monkeypatch.chdir(tmp_path)
    folder = Path("run", "evaluation", "points")
    folder.mkdir(parents=True)
    (folder / "base.png").touch()
    Path("other.png").touch()
    own, strange = (replace(base(), picture=name) for name in ("points/base.png", "../../other.png"))
    evaluation = made(Path("run", "evaluation", "test.json"), own)
    assert evaluation.picture_of(own) == folder / "base.png"
    assert evaluation.picture_of(strange) is None
