"""`${...}` and levels of YAML are bounded: no few lines take all memory, or all of Python's stack."""

import pytest

from drift_pl.config.loading import parse
from drift_pl.config.yaml_text import MOST_LEVELS, load_yaml
from drift_pl.core.errors import UserError


def chained(value: str, levels: int) -> str:
    """Each argument refers to the one before it twice."""
    args = ["a0: xxxxxxxxxx"]
    for number in range(1, levels + 1):
        before = f"${{rewards.0.args.a{number - 1}}}"
        args.append(f"a{number}: {value.format(before)}")
    return f"rewards=[{{name: 'a:b', args: {{{', '.join(args)}}}}}]"


@pytest.mark.parametrize("value", ["'{0}{0}'", "['{0}', '{0}']"])
@pytest.mark.parametrize("levels", [20, 2000])
def test_what_would_take_all_memory_is_refused(value: str, levels: int) -> None:
    """10 x 2^20 characters; without the bound 2000 levels never end.

    Catches in config/interpolation.py: a text counted once however often it is referred to.
    """
    with pytest.raises(UserError, match=r"rewards: its \$\{\.\.\.\} stand for more than 1000000 characters"):
        parse([chained(value, levels)])


def test_what_is_referred_to_twice_is_fine() -> None:
    assert parse([chained("'{0}{0}'", 4)]).config.rewards[0].args["a4"] == "x" * 160
    config = parse(["policy.negative_prompt=${.pretrained} ${prompts.test}", "policy.pretrained=a/b"]).config
    assert config.policy.negative_prompt == f"a/b {config.prompts.test}"


@pytest.mark.parametrize("argument", ["seed=${seed}", "policy.negative_prompt=${policy}", "rewards=${rewards}"])
def test_what_refers_to_itself_is_refused(argument: str) -> None:
    with pytest.raises(UserError) as caught:
        parse([argument])
    assert "\n" not in str(caught.value)


def test_a_long_text_without_references_is_fine() -> None:
    assert len(parse([f"policy.negative_prompt={'x' * 1_100_000}"]).config.policy.negative_prompt) == 1_100_000


@pytest.mark.parametrize("levels", [MOST_LEVELS + 1, 150, 300, 3000])
@pytest.mark.parametrize("brackets", ["[]", ("{a: ", "}")], ids=["lists", "mappings"])
def test_deep_yaml_is_refused(levels: int, brackets: tuple[str, str]) -> None:
    """From 150 levels on OmegaConf runs out of stack, from 500 PyYAML."""
    begin, end = brackets
    with pytest.raises(ValueError, match="it has more than 64 levels"):
        load_yaml(begin * levels + end * levels)


def test_levels_are_counted_through_aliases() -> None:
    """Catches in config/yaml_text.py: the levels of an alias are those of its name."""
    deep = "[" * 40 + "1" + "]" * 40
    load_yaml(f"a: &a {deep}\nb: *a\n")
    with pytest.raises(ValueError, match="it has more than 64 levels"):
        load_yaml(f"a: &a {deep}\nb: {'[' * 30}*a{']' * 30}\n")
