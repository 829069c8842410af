"""GenEval's rule (arXiv 2310.11513, section 3): does an image show the objects, counts, colours and places asked for?

A pure function of what a detector has found. It needs nothing but Python, so that a reward server in an environment of
its own can import it, or copy the file: `geneval_server.py` is one.

What is asked for are the fields of a line of GenEval's prompt list:

    {"tag": "position", "include": [{"class": "dog", "count": 1},
                                    {"class": "cup", "count": 1, "color": "red", "position": ["left of", 0]}],
     "exclude": [{"class": "dog", "count": 2}], "prompt": "a red cup left of a dog"}
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CONFIDENCE, COUNTING_CONFIDENCE = 0.3, 0.9
"""Detections below it do not count; the second for prompts with the tag `counting`, where each further one is wrong."""
MOST_OBJECTS = 16
"""Of each class, the most confident ones."""
OVERLAP = 0.1
"""The share of both boxes' sizes by which the distance of their centres along an axis is reduced."""
LEAST = 0.5
"""What is left of it must be more than this share of the whole distance: within 60 degrees of the axis, or less."""
RELATIONS = ("left of", "right of", "above", "below")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")


@dataclass(frozen=True)
class Detection:
    """An object that a detector has found.

    Attributes:
        label: its class, as in the prompt list (COCO's names).
        score: confidence in [0, 1].
        box: left, top, right, bottom in pixels; y grows downwards.
        colour: one of `COLOURS`; None: unknown, which is no colour that was asked for.
    """

    label: str
    score: float
    box: tuple[float, float, float, float]
    colour: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What became of the requirements.

    Attributes:
        correct: GenEval's own verdict.
        share: partial credit in [0, 1], for training, see `judge`. It is no part of the verdict: one object too many is
            a fault here, which GenEval's rule lets pass unless it is excluded.
        reasons: what is wrong, one sentence each.
    """

    correct: bool
    share: float
    reasons: tuple[str, ...]


def judge(detections: Sequence[Detection], wanted: Mapping[str, Any]) -> Verdict:
    """Whether an image is correct, and how much of it.

    A group of objects is asked for by class and count; its most confident objects are looked at. All must have the
    colour, and each must stand in the relation to each object of an earlier group. Nothing excluded may be there as
    often as it says. The partial credit is after Flow-GRPO's (arXiv 2505.05470): the mean over requirements, where a
    count has 1 - |found - asked| / asked, and a colour, or a relation, the share of the group's objects (pairs) that
    are right if the count is right, else 0.

    Args:
        wanted: fields `include` and `exclude` of a prompt's line, and `tag`, if any.

    Raises:
        ValueError: the fields are not of this form.
    """
    least = COUNTING_CONFIDENCE if wanted.get("tag") == "counting" else CONFIDENCE
    found = _by_class(detections, least)
    credits: list[float] = []
    reasons: list[str] = []
    groups: list[Sequence[Detection] | None] = []
    for request in _entries(wanted, "include"):
        label, count = request["class"], request["count"]
        objects = found.get(label, [])
        credits.append(max(0.0, 1 - abs(len(objects) - count) / count))
        group: Sequence[Detection] | None = objects[:count]
        if len(objects) < count:
            reasons.append(f"{count} x {label} asked for, {len(objects)} found")
            group = None
        exact = len(objects) == count
        for name, check in (("color", _colour), ("position", _place)):
            if name in request:
                right, reason = (0.0, "") if group is None else check(group, request, groups)
                credits.append(right if exact else 0.0)
                if reason:
                    reasons.append(reason)
                    group = None
        groups.append(group)
    for request in _entries(wanted, "exclude"):
        number = len(found.get(request["class"], []))
        if number >= request["count"]:
            reasons.append(f"fewer than {request['count']} x {request['class']} asked for, {number} found")
    return Verdict(not reasons, sum(credits) / max(len(credits), 1), tuple(reasons))


def relations(one: Detection, other: Detection) -> set[str]:
    """How `one` stands to `other`: none of `RELATIONS` for boxes that overlap by much, two of them on a diagonal."""
    (x, y), (width, height) = _centre(one.box), _size(one.box)
    (other_x, other_y), (other_width, other_height) = _centre(other.box), _size(other.box)
    far_x, far_y = x - other_x, y - other_y
    apart_x = max(abs(far_x) - OVERLAP * (width + other_width), 0)
    apart_y = max(abs(far_y) - OVERLAP * (height + other_height), 0)
    distance = (far_x**2 + far_y**2) ** 0.5
    found = set()
    if apart_x > LEAST * distance:
        found.add("left of" if far_x < 0 else "right of")
    if apart_y > LEAST * distance:
        found.add("above" if far_y < 0 else "below")
    return found


def _by_class(detections: Sequence[Detection], least: float) -> dict[str, list[Detection]]:
    """The detections that count, the most confident of each class first."""
    found: dict[str, list[Detection]] = {}
    for each in sorted(detections, key=lambda each: -each.score):
        if each.score > least:
            found.setdefault(each.label, []).append(each)
    return {label: objects[:MOST_OBJECTS] for label, objects in found.items()}


def _colour(
    group: Sequence[Detection], request: Mapping[str, Any], groups: Sequence[Sequence[Detection] | None]
) -> tuple[float, str]:
    """Share of the objects with the colour, and what is wrong."""
    wanted, colours = request["color"], [each.colour for each in group]
    right = colours.count(wanted) / len(group)
    return right, "" if right == 1 else f"{wanted} {request['class']} asked for, {colours} found"


def _place(
    group: Sequence[Detection], request: Mapping[str, Any], groups: Sequence[Sequence[Detection] | None]
) -> tuple[float, str]:
    """Share of the pairs in the relation, and what is wrong."""
    relation, number = request["position"]
    others = groups[number]
    if others is None:
        return 0.0, f"nothing for {request['class']} to be {relation}"
    pairs = [relation in relations(one, other) for one in group for other in others]
    right = sum(pairs) / len(pairs)
    return right, "" if right == 1 else f"{request['class']} is not {relation} what it should be"


def _entries(wanted: Mapping[str, Any], field: str) -> Sequence[Mapping[str, Any]]:
    """What a prompt's line asks for in a field, `include` or `exclude`.

    Raises:
        ValueError: the field is of another form; the message shows one that works.
    """
    entries = wanted.get(field, [])
    usable = isinstance(entries, list) and all(_is_request(entry, number) for number, entry in enumerate(entries))
    if not usable or (field == "include" and not entries):
        raise ValueError(f'{field!r} is not a list like [{{"class": "dog", "count": 1, "color": "red"}}]: {entries!r}')
    return entries


def _is_request(entry: Any, number: int) -> bool:
    """Whether it asks for a class and a count, and for a relation to an earlier entry only."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("class"), str):
        return False
    count, place = entry.get("count"), entry.get("position", ("above", -1))
    if not isinstance(count, int) or count < 1 or not isinstance(place, list | tuple) or len(place) != 2:
        return False
    return "position" not in entry or (place[0] in RELATIONS and place[1] in range(number))


def _centre(box: Sequence[float]) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _size(box: Sequence[float]) -> tuple[float, float]:
    return abs(box[2] - box[0]), abs(box[3] - box[1])
