"""What fits an annotation, compared with pydantic in its strict mode; what is said of what does not."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytest
from pydantic import TypeAdapter, ValidationError

from drift_pl.core.errors import UserError, naming
from drift_pl.core.signatures import (
    Count,
    Positive,
    check_overrides,
    check_signature,
    fits,
    is_called_with,
    shown,
    signature_of,
)

KINDS = [
    *(bool, int, float, str, None, list, dict, int | None, str | float | None, Any),
    *(list[int], list[str | None], dict[str, float], dict[str, Any], Literal["a", "b"], Literal["a"] | None),
]
VALUES = [True, 0, 3, -2.5, 1e300, "a", "", None, [], [1, 2], ["a", None], [1.5], {}, {"a": 1}, {"a": "b"}, {"a": [1]}]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_value_fits_as_pydantic_says(kind: Any) -> None:
    """Catches in core/signatures.py: a truth value for a number; any list for one of numbers; null never taken."""
    for value in VALUES:
        try:
            TypeAdapter(kind).validate_python(value, strict=True)
            right = True
        except ValidationError:
            right = False
        assert fits(value, kind) == right, value


@pytest.mark.parametrize(
    ("value", "kind", "right"),
    [
        ([1, 2], tuple[int, ...], True),  # YAML has no tuples
        ([1, "a"], tuple[int, ...], False),
        ("a", Sequence[str], True),  # one in place of a list of them
        ("a", Sequence[int], False),
        (["a"], Sequence[str], True),
        ({"a": 1}, Mapping[str, int], True),
        (5, Mapping[str, int], False),
        (0, Count, False),
        (1, Count, True),
        (1.5, Count, False),
        (0.0, Positive, False),
        (float("nan"), Positive, False),
        (0.1, Positive, True),
        ("anything", pytest.MonkeyPatch, True),  # a type that YAML cannot write
        ("anything", inspect.Parameter.empty, True),
        ("anything", "not evaluated", True),
    ],
)
def test_types_that_pydantic_reads_otherwise(value: Any, kind: Any, right: bool) -> None:
    """Catches in core/signatures.py: bounds not looked at; a class of somebody else refuses every value."""
    assert fits(value, kind) == right


class Judge:
    def __init__(self, size: int, name: str = None, batch_size: Count = 8, **rest: "nowhere.Thing") -> None: ...  # noqa: F821, RUF013


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({}, "rewards.0.args: missing a required argument: 'size' for 'mine:Judge'; its arguments are: size: int,"),
        ({"size": "many"}, "rewards.0.args.size=many does not fit: 'mine:Judge' takes size: int"),
        ({"size": True}, "rewards.0.args.size=true does not fit"),
        ({"size": None}, "rewards.0.args.size=null does not fit"),
        (
            {"size": 1, "batch_size": 0},
            "rewards.0.args.batch_size=0 does not fit: 'mine:Judge' takes batch_size: int > 0 = 8",
        ),
    ],
)
def test_a_wrong_argument_is_named(args: dict, says: str) -> None:
    def plain(size: int, name: str = None, batch_size: Count = 8) -> None: ...  # noqa: RUF013

    with naming("rewards.0"), pytest.raises(UserError) as caught:
        check_signature("mine:Judge", signature_of(plain), args)
    assert str(caught.value).startswith(says)


def test_an_annotation_that_cannot_be_evaluated_hinders_nobody() -> None:
    """Catches in core/signatures.py: a name imported for type checkers alone ends the command."""
    check_signature("mine:Judge", signature_of(Judge), {"size": 3, "name": None, "other": [1]})


def test_functions_of_images_are_told_by_the_names_of_their_parameters() -> None:
    first = ("images", "prompts")
    assert is_called_with(signature_of(lambda images, prompts: 0), first)
    assert is_called_with(signature_of(lambda images_B3HW, prompts_B, factor: 0), first)
    for other in (lambda images: 0, lambda images, prompts=(): 0, lambda images_folder, prompts: 0, lambda a, b: 0):
        assert not is_called_with(signature_of(other), first)


def test_a_bound_is_shown_as_a_bound() -> None:
    parameters = signature_of(Judge).parameters if signature_of(Judge) else {}
    assert shown(parameters["batch_size"]) == "batch_size: int > 0 = 8"
    assert shown(parameters["size"]) == "size: int"


class Model:
    def step(self, state: Any, number: int, final: bool = False) -> None: ...


class Wider(Model):
    def step(self, first: Any, second: int, third: bool = True, *more: Any) -> None: ...


class Narrower(Model):
    def step(self, state: Any, number: int) -> None: ...


class Demanding(Model):
    def step(self, state: Any, number: int, final: bool, colour: str) -> None: ...


@pytest.mark.parametrize("own", [Narrower, Demanding])
def test_a_method_is_called_as_the_one_that_it_replaces(own: type) -> None:
    """Catches in core/signatures.py: options of the replaced method that its successor lacks; other names refused."""
    check_overrides(Wider, Model)
    with naming("sampler.kind"), pytest.raises(UserError) as error:
        check_overrides(own, Model)
    assert str(error.value).startswith(f"sampler.kind: {own.__name__}.step must take (self, state, number, final): ")
