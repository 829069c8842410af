"""Two processes add points to one evaluation file: none is lost, and what was dropped stays dropped."""

import threading
from dataclasses import replace
from pathlib import Path

from made_up_evaluations import make_point, write_file

from drift_pl.evaluation.record import Evaluation, Point
from drift_pl.evaluation.record_file import read_evaluation
from drift_pl.evaluation.shared import write_shared


def begun(tmp_path: Path) -> Evaluation:
    return read_evaluation(write_file(tmp_path, "m", 0, [make_point(0, 0.0)]))


def point(evaluation: Evaluation, number: int) -> Point:
    return replace(evaluation.points[0], name=f"p{number}", weights="live", iteration=number, digest=f"d{number}")


def names(path: Path) -> list[str]:
    return [point.name for point in read_evaluation(path).points]


def test_each_keeps_the_others_points(tmp_path: Path) -> None:
    """Catches in evaluation/shared.py: the last writer's points alone."""
    first = begun(tmp_path)
    second = read_evaluation(first.path)
    first = write_shared(first.with_point(point(first, 1)))
    second = write_shared(second.with_point(point(second, 2)))
    first = write_shared(first.with_point(point(first, 3)))
    assert names(first.path) == ["base", "p1", "p2", "p3"]
    assert [point.name for point in second.points] == ["base", "p1", "p2"]


def test_what_one_drops_does_not_come_back(tmp_path: Path) -> None:
    """A checkpoint that was trained on: its old point goes. A file that is measured afresh: all go."""
    evaluation = begun(tmp_path)
    evaluation = write_shared(evaluation.with_point(point(evaluation, 1)))
    left = replace(evaluation, points=evaluation.points[:1])
    assert [point.name for point in write_shared(left).points] == ["base"]


def test_another_protocol_is_replaced(tmp_path: Path) -> None:
    evaluation = begun(tmp_path)
    other = replace(evaluation, protocol=evaluation.protocol | {"steps": 3}, known=frozenset())  # type: ignore[arg-type]
    write_shared(replace(other, points=(point(evaluation, 5),)))
    assert names(evaluation.path) == ["p5"]


def test_many_at_once(tmp_path: Path) -> None:
    path = begun(tmp_path).path

    def add(number: int) -> None:
        evaluation = read_evaluation(path)
        for step in range(5):
            evaluation = write_shared(evaluation.with_point(point(evaluation, 10 * number + step + 1)))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names(path)) == 21
    assert [file.name for file in path.parent.iterdir()] == [path.name]
