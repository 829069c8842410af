"""From a name to an object: what is found, and what an error says."""

from collections import Counter, OrderedDict
from importlib.metadata import EntryPoint

import pytest

from drift_pl.core import registry as registry
from drift_pl.core.errors import UserError
from drift_pl.core.registry import create, find


class Judge:
    def __init__(self, quality: int, scale: float = 1.0) -> None:
        self.quality, self.scale = quality, scale


TABLE = {"judge": Judge, "counter": Counter}
GROUP = "drift_pl.nothing"


def test_a_name_of_the_table_is_called_with_its_arguments() -> None:
    made = create("rewards.0", "judge", {"quality": 3, "scale": 2.0}, TABLE, GROUP)
    assert isinstance(made, Judge)
    assert (made.quality, made.scale) == (3, 2.0)


def test_a_name_with_a_colon_is_imported() -> None:
    assert find("rewards.0", "collections:OrderedDict", TABLE, GROUP) is OrderedDict
    assert create("rewards.0", "fractions:Fraction", {"numerator": 3}, TABLE, GROUP) == 3


def test_names_of_other_packages_come_after_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def offered(group: str) -> list[EntryPoint]:
        assert group == "drift_pl.rewards"
        return [EntryPoint("theirs", "collections:OrderedDict", group), EntryPoint("judge", "os:getcwd", group)]

    monkeypatch.setattr(registry, "entry_points", offered)
    assert find("rewards.0", "theirs", TABLE, "drift_pl.rewards") is OrderedDict
    assert find("rewards.0", "judge", TABLE, "drift_pl.rewards") is Judge
    with pytest.raises(UserError, match="there are judge, counter, theirs, judge"):
        find("rewards.0", "unheard", TABLE, "drift_pl.rewards")


@pytest.mark.parametrize(
    ("name", "table", "says"),
    [
        ("jugde", TABLE, "rewards.0.name='jugde' is unknown: there are judge, counter; did you mean 'judge'?"),
        ("xyz", TABLE, "there are judge, counter; or name your own, their_package.module:Thing"),
        ("xyz", {}, "there are none built in"),
        ("no_such_module:Thing", TABLE, "rewards.0.name='no_such_module:Thing' cannot be imported: No module named"),
        ("collections:Nothing", TABLE, "cannot be imported: module 'collections' has no attribute 'Nothing'"),
        ("collections:", TABLE, "cannot be imported"),
        ("collections:__name__", TABLE, "is not a class or a function"),
    ],
)
def test_a_name_that_is_not_there_is_explained(name: str, table: dict, says: str) -> None:
    with pytest.raises(UserError) as caught:
        find("rewards.0", name, table, GROUP)
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
    with pytest.raises(UserError) as caught:
        create("rewards.0", "judge", args, TABLE, GROUP)
    message = str(caught.value)
    assert message.startswith("rewards.0.args: ")
    assert says in message
    assert "its arguments are: quality: int, scale: float = 1.0" in message


def test_an_error_inside_the_thing_is_its_own() -> None:
    def fails(path: str) -> None:
        raise TypeError("not our business")

    with pytest.raises(TypeError, match="not our business"):
        create("rewards.0", "fails", {"path": "x"}, {"fails": fails}, GROUP)
