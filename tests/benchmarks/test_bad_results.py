"""Files of results that cannot be used: one line from the benchmark's command, which names the file."""

import json
import lzma
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmark import PLAN, _main
from made_up_evaluations import make_point, write_file
from made_up_tiers import EMPTY_PAGE
from plan import read_plan
from run import Queue

from drift_pl.config.command import run_command

Content = dict[str, Any]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Content:
    """What the file of tier b1 holds: one seed of two methods, two looks."""
    folder = tmp_path_factory.mktemp("good")
    plan = read_plan(PLAN)["b1"]
    methods = ("flowgrpo", "nft_kl_0.1")
    jobs = tuple(job for job in plan.jobs if job.method in methods and job.seed == 200)
    tier = replace(plan, methods=methods, against=(), jobs=jobs, seeds=(200,))
    queue = Queue(folder / "runs", folder / "results", made_by={"protocol": 2, "commit": "abc"})
    for job in tier.jobs:
        points = [
            make_point(at, [reward] * 2, valid_pairwise_distance=[0.9 - reward] * 2, pairwise_lpips=0.02)
            for at, reward in ((0, 0.1), (16, 0.5))
        ]
        queue.store.keep(job, write_file(folder / "made", job.method, job.seed, points) / "evaluation.json", 6.0)
    queue.store.gather(tier)
    content: Content = json.loads(lzma.decompress(queue.store.file("b1").read_bytes()))
    return content


def page_of(data: bytes, folder: Path) -> tuple[int, Path]:
    """Status of `page` for a tier's file with this content, and the page."""
    (folder / "results" / "b1").mkdir(parents=True)
    (folder / "results" / "b1" / "evaluations.json.xz").write_bytes(data)
    page = folder / "page.md"
    page.write_text(EMPTY_PAGE)
    where = ["--results", f"{folder}/results", "--runs", f"{folder}/runs", "--page", str(page)]
    return run_command(_main, ["page", *where]), page


def packed(content: Any) -> bytes:
    return lzma.compress(json.dumps(content).encode())


def points(content: Content) -> list[Content]:
    found: list[Content] = content["evaluations"][1]["evaluation"]["points"]
    return found


def without(key: str) -> Callable[[Content], object]:
    return lambda content: content["evaluations"][0]["job"].pop(key)


def set_in_look(key: str, values: list[Any]) -> Callable[[Content], object]:
    return lambda content: points(content)[1]["per_prompt"].update({key: values})


BAD: dict[str, tuple[Callable[[Content], object], str]] = {
    "strings": (lambda content: content.update(evaluations=["a"]), "is damaged: evaluations.0 is no evaluation"),
    "no job": (lambda content: content["evaluations"][1].pop("job"), "is damaged: evaluations.1 is no evaluation"),
    "a list": (lambda content: content["evaluations"][0].update(job=[1]), "(job holds no keys)"),
    "no method": (lambda content: content["evaluations"][0]["evaluation"].pop("method"), "('method')"),
    "twice": (lambda content: content["evaluations"].append(content["evaluations"][0]), "it holds flowgrpo-s200 twice"),
    "no digest": (without("digest"), "#flowgrpo-s200 is damaged: its job has no digest or no minutes"),
    "no minutes": (without("minutes"), "#flowgrpo-s200 is damaged: its job has no digest or no minutes"),
    "nan": (set_in_look("reward", [float("nan"), 1.0]), "points.1.per_prompt.reward is not finite"),
    "fewer": (set_in_look("reward", [0.5]), "points.1.per_prompt.reward is not a list of 2 numbers"),
    "above": (
        set_in_look("reward", [1.5, 1.5]),
        "nft_kl_0.1 has a mean reward of 1.5, above frozen.gains.reward_bound=1",
    ),
    "no measure": (
        lambda content: points(content)[1]["per_prompt"].pop("valid_pairwise_distance"),
        "tier b1: not all of its results have valid_pairwise_distance, which world b is compared by",
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_file_that_cannot_be_used_is_one_line_and_leaves_the_page(
    bad: str, good: Content, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches in evaluation/bundle.py: a traceback for entries that are no evaluations; the second of two kept.

    Catches in benchmarks/fronts: a traceback for a job without its digest; volumes of rewards above the bound.
    """
    change, message = BAD[bad]
    content = json.loads(json.dumps(good))
    change(content)
    status, page = page_of(packed(content), tmp_path)
    error = capsys.readouterr().err
    assert (status, error.count("\n")) == (2, 1)
    assert message in error
    assert page.read_text() == EMPTY_PAGE


@pytest.mark.parametrize("data", [b"", packed([]), packed(None), packed({"a": 1})], ids=["empty", "[]", "null", "keys"])
def test_a_file_of_another_kind_is_one_line(data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert page_of(data, tmp_path)[0] == 2
    assert capsys.readouterr().err.count("evaluations.json.xz is ") == 1


def test_a_half_written_file_is_one_line(good: Content, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = packed(good)
    assert page_of(data[: len(data) // 2], tmp_path)[0] == 2
    assert "is damaged: Compressed file ended" in capsys.readouterr().err


def test_a_last_look_without_two_on_prompt_images_has_an_empty_cell(good: Content, tmp_path: Path) -> None:
    """The model has left its prompts: it has no distance there, and its front ends at the look before.

    Catches in benchmarks/fronts: the last look taken from the looks that have a distance; `nan` in the table.
    """
    content = json.loads(json.dumps(good))
    set_in_look("valid_pairwise_distance", [None, None])(content)
    status, page = page_of(packed(content), tmp_path)
    assert status == 0
    assert "| `nft_kl_0.1` |  |  |" in page.read_text()
    assert "nan" not in page.read_text()


def test_a_baseline_that_gains_no_reward_has_a_page(good: Content, tmp_path: Path) -> None:
    """There is no share of nothing: said in the cells, and not a traceback."""
    content = json.loads(json.dumps(good))
    content["evaluations"][0]["evaluation"]["points"][1]["per_prompt"]["reward"] = [0.1, 0.1]
    status, page = page_of(packed(content), tmp_path)
    assert status == 0
    assert "| the other gains no reward |" in page.read_text()


def test_a_damaged_single_result_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "runs" / "results" / "b1" / "flowgrpo-s200"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text("{")
    status = run_command(_main, ["status", "--results", f"{tmp_path}/results", "--runs", f"{tmp_path}/runs"])
    assert status == 2
    assert "flowgrpo-s200 is damaged: its job has no digest or no minutes; remove the folder" in capsys.readouterr().err
