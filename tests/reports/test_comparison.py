"""Grouping by method and seed, and all refusals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_evaluations import PROMPTS, PROTOCOL, make_point, write_file, write_study

from drift_pl.core.errors import UserError
from drift_pl.evaluation.record_file import read_evaluation
from drift_pl.reports.comparison import Comparison, compare


def compared(paths: list[Path], **options: bool) -> Comparison:
    return compare([read_evaluation(path) for path in paths], **options)


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads((path / "evaluation.json").read_text())
    change(content)
    (path / "evaluation.json").write_text(json.dumps(content))


def refusal(paths: list[Path], **options: bool) -> str:
    with pytest.raises(UserError) as error:
        compared(paths, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_arrays_are_in_the_order_of_seeds_iterations_and_prompts(tmp_path: Path) -> None:
    """Seed 1 is given first, and seed 0 holds its points backwards; a prompt without a value is NaN."""
    early, late = make_point(10, [0.1, 0.2]), make_point(20, [0.3, None])
    first = write_file(tmp_path, "m", 1, [make_point(0, [0.0, 0.0]), early, late])
    early, late = make_point(10, [1.1, 1.2]), make_point(20, [1.3, 1.4])
    second = write_file(tmp_path, "m", 0, [make_point(0, [0.0, 0.0]), late, early])
    (method,) = compared([first, second]).methods
    assert method.seeds == [0, 1]
    assert method.labels() == ["base", "iteration 10", "iteration 20"]
    wanted = [[[0, 0], [1.1, 1.2], [1.3, 1.4]], [[0, 0], [0.1, 0.2], [0.3, np.nan]]]
    np.testing.assert_array_equal(method.values_SKP["reward"], wanted)


def test_last_points_only(tmp_path: Path) -> None:
    paths = write_study(tmp_path)
    assert compared(paths, last_only=True).methods[1].labels() == ["base", "iteration 20"]


@pytest.mark.parametrize("field", PROTOCOL)
def test_another_protocol_is_refused_by_the_name_of_the_field_and_of_both_runs(tmp_path: Path, field: str) -> None:
    value = PROTOCOL[field]
    other = {str: "other", list: ["a red dot", "other"], int: 7, float: 7.5, type(None): 512}[type(value)]
    first = write_file(tmp_path, "a", 0, [make_point(0, 0.0), make_point(10, 1.0)])
    second = write_file(tmp_path, "b", 0, [make_point(0, 0.0), make_point(10, 1.0)], {field: other})
    message = refusal([first, second])
    name = "prompt 2" if field == "prompts" else field
    assert f"{first}/evaluation.json and {second}/evaluation.json were measured differently: {name} is " in message
    assert f"python -m drift_pl.evaluate ckpt_path={second}" in message


def test_prompts_that_differ_are_shown(tmp_path: Path) -> None:
    points = [make_point(0, 0.0), make_point(10, 1.0)]
    first = write_file(tmp_path, "a", 0, points)
    second = write_file(tmp_path, "b", 0, points, {"prompts": [PROMPTS[0], "a green bar"]})
    assert 'prompt 2 is "a blue bar" and "a green bar"' in refusal([first, second])
    three = [make_point(point["iteration"], [0.0, 1.0, 2.0]) for point in points]
    for point in three:
        point["per_prompt"] = {name: [0.1, 0.2, 0.3] for name in point["per_prompt"]}
    third = write_file(tmp_path, "c", 0, three, {"prompts": [*PROMPTS, "more"]})
    assert "number of prompts is 2 and 3" in refusal([first, third])


def test_another_base_model_is_refused_beyond_rounding(tmp_path: Path) -> None:
    paths = [write_file(tmp_path, "a", 0, [make_point(0, 0.5), make_point(10, 1.0)])]
    paths.append(write_file(tmp_path, "b", 0, [make_point(0, 0.5 + 3e-7), make_point(10, 1.0)]))
    assert len(compared(paths).methods) == 2
    paths.append(write_file(tmp_path, "c", 0, [make_point(0, 0.5 + 1e-4), make_point(10, 1.0)]))
    message = refusal(paths)
    assert "the base model's reward differs (0.5 and 0.5001): something else changed" in message
    assert str(paths[0]) in message
    assert str(paths[2]) in message
    edit(paths[1], lambda content: content["points"][0]["per_prompt"].pop("coverage"))
    assert "the base model's coverage differs (0.5 and none)" in refusal(paths[:2])


def test_records_without_the_base_model_are_refused(tmp_path: Path) -> None:
    """`fit` measures it on the tuning prompts only where a measure compares with it."""
    first = write_file(tmp_path, "a", 0, [make_point(10, 0.5), make_point(20, 1.0)])
    (first / "evaluation").mkdir()
    tuning = (first / "evaluation.json").rename(first / "evaluation" / "tuning.json")
    message = refusal([tuning])
    assert f"{tuning} does not hold the base model" in message
    assert message.endswith(f"python -m drift_pl.evaluate ckpt_path={first} prompts=tuning")


def test_a_seed_twice_is_refused(tmp_path: Path) -> None:
    points = [make_point(0, 0.0), make_point(10, 1.0)]
    paths = [write_file(tmp_path / name, "a", 3, points) for name in ("one", "two")]
    message = refusal(paths)
    assert f"{paths[0]}/evaluation.json and {paths[1]}/evaluation.json are both seed 3 of a" in message
    assert "method=NAME" in message


def test_other_training_seeds_are_refused(tmp_path: Path) -> None:
    paths = write_study(tmp_path)
    assert "plain_flowgrpo has training seeds 0, 1, 2 and drift has 0, 1: seeds are paired" in refusal(paths[:-1])


def test_other_points_of_a_methods_seeds_are_refused(tmp_path: Path) -> None:
    paths = write_study(tmp_path)
    edit(paths[1], lambda content: content["points"].pop(1))
    message = refusal(paths)
    assert f"{paths[0]}/evaluation.json has iteration 10, average weights and {paths[1]}/evaluation.json" in message
    assert message.endswith(f"python -m drift_pl.evaluate ckpt_path={paths[1]}")
    for key, value, label in (
        ("lora_scale", 0.5, "LoRA scale 0.5, average weights"),
        ("weights", "live", "live weights"),
    ):
        drift = write_study(tmp_path / key, ["drift"])
        edit(drift[2], lambda content, change={key: value}: content["points"].append(content["points"][2] | change))
        edit(drift[2], lambda content: content["points"][-1].update(name="other"))
        assert f"{drift[2]}/evaluation.json has iteration 20, {label}" in refusal(drift)


def test_a_point_twice_and_a_base_alone_are_refused(tmp_path: Path) -> None:
    twice = [make_point(0, 0.0), make_point(10, 1.0), make_point(10, 1.1) | {"name": "again"}]
    assert "holds iteration 10, average weights twice" in refusal([write_file(tmp_path, "a", 0, twice)])
    assert "holds the base model alone" in refusal([write_file(tmp_path, "b", 0, [make_point(0, 0.0)])])


@pytest.mark.parametrize("field", ["images", "optimiser_steps", "prompts_digest"])
def test_other_budgets_are_refused_unless_allowed(tmp_path: Path, field: str) -> None:
    points = [make_point(0, 0.0), make_point(10, 1.0)]
    value = "ba9876543210" if field == "prompts_digest" else 99
    first, second = write_file(tmp_path, "a", 0, points), write_file(tmp_path, "b", 0, points, training={field: value})
    message = refusal([first, second])
    assert f"a and b were trained on different budgets: training.{field} is" in message
    assert f"{value} in {second}" in message
    assert "budgets=differ" in message
    assert f"training.{field} is" in compared([first, second], budgets_may_differ=True).trained_differently


def test_seeds_of_one_method_with_other_settings_are_refused_unless_allowed(tmp_path: Path) -> None:
    """Labels are the user's; the hash of the settings is not."""
    points = [make_point(0, 0.0), make_point(10, 1.0)]
    paths = [write_file(tmp_path, "a", 0, points), write_file(tmp_path, "a", 1, points, config_hash="feedbeef")]
    assert "seeds of a were trained with different settings: config_hash is 0123abcd" in refusal(paths)
    assert "feedbeef" in compared(paths, budgets_may_differ=True).trained_differently
