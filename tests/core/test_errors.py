"""Errors begin with the setting named by the enclosing code."""

import pytest

from drift_pl.core.errors import named, naming


def test_settings_nest_and_are_forgotten_again() -> None:
    assert named("x") == "x"
    assert named() == ""
    with naming("rewards.0"):
        with naming(".args.pretrained"):
            assert named("x") == "rewards.0.args.pretrained=x"
        assert named() == "rewards.0"
        with naming("prompts.train"):
            assert named(3) == "prompts.train=3"
    assert named("x") == "x"


def test_a_part_alone_is_a_setting() -> None:
    with naming(".args"):
        assert named() == "args"


def test_an_error_ends_it_too() -> None:
    with pytest.raises(KeyError), naming("a"):
        raise KeyError
    assert named() == ""
