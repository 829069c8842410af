"""Many evaluations in one file: read as they were written, chosen by name, refused in one line."""

import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from made_up_evaluations import make_point, write_file, write_study

from drift_pl.core.errors import UserError
from drift_pl.evaluation.bundle import name_of, read_bundle, read_evaluations, read_jobs, write_bundle
from drift_pl.evaluation.record_file import read_evaluation, to_plain

JOBS = {"drift-s1": {"digest": "0123", "fit": ["seed=1"]}}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "kept" / "study.json.xz"
    write_bundle(path, [read_evaluation(run) for run in write_study(tmp_path)], JOBS)
    return path


def test_evaluations_are_read_as_they_were_written(bundle: Path, tmp_path: Path) -> None:
    """Numbers to seven digits, null, prompts of any script and the order.

    Catches in evaluation/bundle.py: digits that float32 does not have kept, which are half of a file.
    """
    again = [read_evaluation(run) for run in sorted(tmp_path.glob("*-s*"))]
    seven_digits = json.loads(
        json.dumps([to_plain(each) for each in again]), parse_float=lambda text: float(f"{float(text):.7g}")
    )
    assert [to_plain(each) for each in sorted(read_bundle(bundle), key=name_of)] == seven_digits
    assert [name_of(each) for each in read_bundle(bundle)] == [
        f"{method}-s{seed}" for method in ("plain_flowgrpo", "drift") for seed in (0, 1, 2)
    ]
    assert read_jobs(bundle) == JOBS
    third = [1 / 3, None]
    path = write_file(tmp_path, "é", 7, [make_point(0, third)], {"prompts": ["ein Würfel", "[\n1 ]"]})
    write_bundle(bundle, [read_evaluation(path)], {})
    (evaluation,) = read_bundle(bundle)
    assert evaluation.points[0].per_prompt["reward"] == [0.3333333, None]
    assert evaluation.protocol["prompts"] == ["ein Würfel", "[\n1 ]"]


def test_the_same_content_gives_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    write_bundle(tmp_path / "again.json.xz", read_bundle(bundle), read_jobs(bundle))
    assert (tmp_path / "again.json.xz").read_bytes() == bundle.read_bytes()


def test_pictures_stay_behind(tmp_path: Path) -> None:
    """Catches in evaluation/bundle.py: pictures named that are not kept."""
    path = write_file(tmp_path, "drawn", 0, [make_point(0, 1.0, picture="points/base.png")])
    write_bundle(tmp_path / "one.json.xz", [read_evaluation(path)], {})
    assert read_bundle(tmp_path / "one.json.xz")[0].points[0].picture is None


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("drift-s1", ["drift-s1"]),
        ("drift-s*", ["drift-s0", "drift-s1", "drift-s2"]),
        ("*-s2", ["plain_flowgrpo-s2", "drift-s2"]),
    ],
)
def test_a_pattern_chooses_by_name(bundle: Path, pattern: str, names: list[str]) -> None:
    """Catches in evaluation/bundle.py: a pattern taken for a beginning; members called by their file alone."""
    chosen = read_evaluations(Path(f"{bundle}#{pattern}"))
    assert [name_of(each) for each in chosen] == names
    assert [str(each.path) for each in chosen] == [f"{bundle}#{name}" for name in names], "which can be given again"


def test_one_reader_takes_folders_files_and_files_of_many(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "drift-s1"
    assert read_evaluations(folder) == read_evaluations(folder / "evaluation.json") == [read_evaluation(folder)]
    assert read_evaluations(bundle) == read_bundle(bundle)


def packed(content: Any) -> bytes:
    return lzma.compress(json.dumps(content).encode())


NEWER = {"format": "drift_pl.evaluations", "version": 2, "evaluations": []}
LACKING = {"format": "drift_pl.evaluations", "version": 1, "evaluations": [{"job": None, "evaluation": {"seed": 1}}]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{}", r"is damaged: .*get it again"),
        (packed({})[:-9], r"is damaged: .*get it again"),
        (packed([1]), r"is not a file of many evaluations .*: give a run folder"),
        (packed(NEWER), r"is not a file of many evaluations \(drift_pl\.evaluations, version 1\)"),
        (packed(LACKING), r"is damaged: method: field required; get it again"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    """Catches in evaluation/bundle.py: a newer version read all the same."""
    path = tmp_path / "bad.json.xz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_evaluations(path)


def test_an_evaluation_that_stands_twice_is_refused(bundle: Path) -> None:
    """By whoever reads the file: a name chooses one of its evaluations, and tables pair them by seeds.

    Catches in evaluation/bundle.py: of two of one name the last one taken.
    """
    evaluations = read_bundle(bundle)
    write_bundle(bundle, [*evaluations, evaluations[1]], {})
    for read in (read_bundle, read_jobs, read_evaluations):
        with pytest.raises(UserError, match=r"is damaged: it holds plain_flowgrpo-s1 twice; get it again"):
            read(bundle)
    with pytest.raises(UserError, match="it holds plain_flowgrpo-s1 twice"):
        read_evaluations(Path(f"{bundle}#drift-s1"))


def test_what_is_not_there_is_named(bundle: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.json\.xz: no such file; give a run folder"):
        read_evaluations(bundle.with_name("gone.json.xz"))
    with pytest.raises(UserError, match=r"matches 'drift': it has plain_flowgrpo-s0, .*drift-s2"):
        read_evaluations(Path(f"{bundle}#drift"))
