"""The registry: looking up names, and the errors."""

from collections import Counter, OrderedDict
from importlib.metadata import EntryPoint

import pytest

from drift_pl.core import registry
from drift_pl.core.errors import UserError, naming
from drift_pl.core.registry import GROUPS, TABLES, Entry, create, find, names


class Judge:
    def __init__(self, quality: int, scale: float = 1.0) -> None:
        self.quality, self.scale = quality, scale


@pytest.fixture(autouse=True)
def tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table with two names and an empty one, in addition to the package's own."""
    entries = {"judge": Entry("core.made_up:Judge", ""), "counter": Entry("core.made_up:Counter", "")}
    monkeypatch.setitem(TABLES, "toy", entries)
    monkeypatch.setitem(GROUPS, "toy", "drift_pl.nothing")
    monkeypatch.setitem(TABLES, "empty", {})
    things = {"drift_pl.core.made_up:Judge": Judge, "drift_pl.core.made_up:Counter": Counter}
    found = registry._import
    monkeypatch.setattr(registry, "_import", lambda name: things[name] if name in things else found(name))


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in TABLES for name in names(kind)])
def test_every_name_of_this_package_stands_for_something_and_says_what(kind: str, name: str) -> None:
    assert callable(find(kind, name))
    assert TABLES[kind][name].about


def test_a_name_of_the_table_is_called_with_its_arguments() -> None:
    made = create("toy", "judge", {"quality": 3, "scale": 2.0})
    assert isinstance(made, Judge)
    assert (made.quality, made.scale) == (3, 2.0)


def test_a_name_with_a_colon_is_imported() -> None:
    assert find("toy", "collections:OrderedDict") is OrderedDict
    assert create("toy", "fractions:Fraction", {"numerator": 3}) == 3


def test_names_of_other_packages_come_after_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def offered(group: str) -> list[EntryPoint]:
        assert group == "drift_pl.nothing"
        return [EntryPoint("theirs", "collections:OrderedDict", group), EntryPoint("judge", "os:getcwd", group)]

    monkeypatch.setattr(registry, "entry_points", offered)
    assert find("toy", "theirs") is OrderedDict
    assert find("toy", "judge") is Judge
    with pytest.raises(UserError, match="there are judge, counter, theirs, judge"):
        find("toy", "unheard")


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("jugde", "toy", "rewards.0.name='jugde' is unknown: there are judge, counter; did you mean 'judge'?"),
        ("xyz", "toy", "there are judge, counter; or name your own, their_package.module:Thing"),
        ("xyz", "empty", "there are none built in"),
        ("no_such_module:Thing", "toy", "rewards.0.name='no_such_module:Thing' cannot be imported: No module named"),
        ("collections:Nothing", "toy", "cannot be imported: module 'collections' has no attribute 'Nothing'"),
        ("collections:", "toy", "cannot be imported"),
        ("collections:__name__", "toy", "is not a class or a function"),
    ],
)
def test_a_name_that_is_not_there_is_explained(name: str, kind: str, says: str) -> None:
    with naming("rewards.0"), pytest.raises(UserError) as caught:
        create(kind, name, {})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"quality": 1, "colour": 2}, "unexpected keyword argument 'colour'"),
        ({}, "missing a required argument: 'quality'"),
    ],
)
def test_arguments_are_checked_before_the_call(args: dict, says: str) -> None:
    with naming("rewards.0"), pytest.raises(UserError) as caught:
        create("toy", "judge", args)
    message = str(caught.value)
    assert message.startswith("rewards.0.args: ")
    assert says in message
    assert "its arguments are: quality: int, scale: float = 1.0" in message


def test_an_error_inside_the_thing_is_one_line_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches in core/registry.py: a traceback for what somebody's constructor raises."""

    def fails(path: str) -> None:
        raise TypeError("not our business\nat all")

    monkeypatch.setattr(registry, "_import", lambda name: fails)
    with naming("rewards.0"), pytest.raises(UserError) as caught:
        create("toy", "their:fails", {"path": "x"})
    assert str(caught.value).startswith("rewards.0='their:fails' cannot be made: TypeError: not our business (")
    assert "test_registry.py, line " in str(caught.value)
