"""The room of a world in docs/benchmark.md: shares by hand, a damaged file, and the model before it was loosened."""

import json
from pathlib import Path
from typing import Any

import pytest
from benchmark import PAGE, RESULTS
from benchmark_room import kept_by, on_prompt_at, read_room, room_file, room_lines
from room_of_world import _main, tier_of, with_fronts

from drift_pl.config.command import run_command
from drift_pl.core.errors import UserError

DISTANCE = "valid_pairwise_distance"
ROOM: dict[str, Any] = {
    "before": {"reward": 0.9},
    "images_per_prompt": 128,
    "base": {"reward": 0.0, DISTANCE: 0.8},
    "diversity": DISTANCE,
    "fronts": {
        "kl": [[0.0, 0.8], [1.0, 0.4]],
        "levers": [[0.2, 0.84], [1.0, 0.44]],
        "evaluation": [[0.0, 0.8], [0.4, 0.8]],
    },
}


def test_shares_at_a_reward_by_hand() -> None:
    """Half way on the line from .8 to .4 it is .6, three quarters of .8; a front that ends before has none.

    Catches in benchmarks/fronts/benchmark_room.py: the distance in place of its share; a front drawn on beyond its end.
    """
    assert kept_by(ROOM, "kl", 0.5) == pytest.approx(0.75)
    assert kept_by(ROOM, "levers", 0.1) == pytest.approx(1.05), "what is more than asked for may be given away"
    assert kept_by(ROOM, "evaluation", 0.5) is None
    ends = {"plain": (0.5, 0.7, float("nan"))}
    assert room_lines(ROOM, ends)[-1] == "| `plain` | 0.5000 | 70 % |  | 75 % | 86 % |  |  |"
    shares = {**ROOM, "on_prompt_of_kl": [[0.0, 0.2], [0.4, 0.5], [0.6, 0.9]]}
    assert room_lines(shares, ends)[-1] == "| `plain` | 0.5000 | 70 % |  | 75 % | 86 % |  | 70 % |"
    assert on_prompt_at(shares, 0.7) is None


def test_fronts_are_hulls_of_the_worlds_diversity() -> None:
    """Catches in benchmarks/fronts/room_of_world.py: fronts of the distance of all images."""
    points = [
        {"reward": reward, "pairwise_distance": 0.1, DISTANCE: d, "alignment": share}
        for reward, d, share in ((1, 0.4, 0.9), (0.5, 0.5, 0.7))
    ]
    base = {"reward": 0.0, "pairwise_distance": 0.9, DISTANCE: 0.8, "alignment": 0.2}
    found = with_fronts({"base": base, "kinds": {"kl": points}})
    assert found["fronts"] == {"kl": [(0.0, 0.8), (1.0, 0.4)]}
    assert found["on_prompt_of_kl"] == [(0.0, 0.2), (0.5, 0.7), (1, 0.9)]
    assert (found["base"], found["diversity"]) == (base, DISTANCE)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        json.dumps({**ROOM, "fronts": {"kl": []}}),
        json.dumps({**ROOM, "fronts": {**ROOM["fronts"], "kl": [[0.0, float("nan")]]}}),
        json.dumps({**ROOM, "fronts": {**ROOM["fronts"], "kl": [[0.0, 0.8, 1.0]]}}),
        json.dumps({**ROOM, "base": {}}),
        json.dumps({**ROOM, "base": {DISTANCE: float("nan")}}),
        json.dumps({**ROOM, "before": {"reward": None}}),
        json.dumps({**ROOM, "on_prompt_of_kl": [0.1, 0.2]}),
    ],
)
def test_a_damaged_room_is_one_line(text: str, tmp_path: Path) -> None:
    """Catches in benchmarks/fronts/benchmark_room.py: NaN in the page; a traceback for a file of another kind."""
    assert read_room(tmp_path, "b") is None
    room_file(tmp_path, "b").write_text(text)
    with pytest.raises(UserError, match=r"room-b\.json is damaged \(.*make it again with room_of_world\.py b$"):
        read_room(tmp_path, "b")


def test_worlds_and_sizes_that_cannot_be_explored_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert (tier_of("b").name, tier_of("c").name) == ("b1", "C")
    for world in ("a", "nowhere"):
        with pytest.raises(UserError, match=f"the room of world '{world}' is not known: use b or c"):
            tier_of(world)
    assert run_command(_main, ["b", "--images", "16"]) == 2
    assert "--images 16: optima are found on half of them" in capsys.readouterr().err


def test_the_committed_room_is_that_of_the_tables_prompts() -> None:
    """The base model of the room is the tables', from more images; the one before is not loose, and in every table."""
    room = read_room(RESULTS, "b")
    assert room is not None
    assert room["prompts"] == 64
    assert room["base"]["reward"] < 0.85 < 0.9 < room["before"]["reward"]
    assert room["before"]["alignment"] > 4 * room["base"]["alignment"]
    tables = PAGE.read_text().partition("## Tier b1")[2].partition("\n## ")[0]
    first = tables.count("| base model | before fine-tuning |")
    assert tables.count("\n| the model before | the base model before it was loosened |") == first > 1
    assert tables.count("\n| the model before |") == first + 1  # and among further measures; b1 has one length
