"""Prompts that name their rewards: what may stand there, and what is refused before anything is loaded."""

import json
from pathlib import Path

import pytest

from drift_pl.config.early import refuse_missing
from drift_pl.config.inputs import read_mark
from drift_pl.config.loading import parse
from drift_pl.config.prompt_rewards import prompt_rewards, reward_names
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError

REWARDS = (
    "rewards=[{name: jpeg_compressibility}, {name: 'my.thing:Redness', weight: 0.5}, {name: aesthetic, weight: 0}, "
    "{name: jpeg_compressibility}]"
)
ALL = ["jpeg_compressibility", "Redness", "aesthetic", "jpeg_compressibility#2"]


def config_of(folder: Path, test: str = '{"prompt": "t"}', *train: str) -> Config:
    (folder / "train.jsonl").write_text("\n".join(train or ('{"prompt": "any"}',)) + "\n")
    (folder / "test.jsonl").write_text(test + "\n")
    return parse([REWARDS, f"prompts.train={folder}/train.jsonl", f"prompts.test={folder}/test.jsonl"]).config


def line(prompt: str, *rewards: str) -> str:
    return json.dumps({"prompt": prompt, **({"reward": list(rewards)} if rewards else {})})


def test_rewards_have_the_names_of_logs(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    assert reward_names(config.rewards) == ALL
    assert reward_names(config.rewards[:1], ["aesthetic", "jpeg_compressibility#2"]) == ["jpeg_compressibility#2"]


def test_a_line_names_one_reward_or_several(tmp_path: Path) -> None:
    """Who names all, or none, is scored by all.

    Catches in config/prompt_rewards.py: prompts of the test list left out.
    """
    config = config_of(
        tmp_path,
        line("t", "Redness"),
        line("a", "Redness", "aesthetic"),
        line("b"),
        line("c", *ALL),
        line("a", *ALL[1:3]),
    )
    assert prompt_rewards(config) == {"t": {"Redness"}, "a": {"Redness", "aesthetic"}}
    assert prompt_rewards(config, ["train"]) == {"a": {"Redness", "aesthetic"}}
    assert prompt_rewards(config, [str(tmp_path / "test.jsonl")]) == {"t": {"Redness"}}


@pytest.mark.parametrize(
    ("train", "test", "says"),
    [
        (
            [line("a"), line("b", "redness")],
            line("t"),
            "train.jsonl, line 2: 'redness' is none of the run's rewards, which are jpeg_compressibility, Redness, "
            "aesthetic, jpeg_compressibility#2; did you mean 'Redness'?",
        ),
        ([line("a")], line("t", "xyz"), "test.jsonl, line 1: 'xyz' is none of the run's rewards, which are "),
        ([line("a", "aesthetic")], line("t"), "train.jsonl, line 1: aesthetic has weight 0 in rewards"),
        (
            [line("a", "Redness"), line("a")],
            line("t"),
            "train.jsonl, line 2: 'a' is scored by Redness, aesthetic, jpeg_compressibility, jpeg_compressibility#2 "
            "here and by Redness elsewhere: give it the same 'reward' everywhere",
        ),
        ([line("a", "Redness")], line("a"), "test.jsonl, line 1: 'a' is scored by Redness, aesthetic, "),
    ],
    ids=["a typing error", "unknown", "weight 0", "twice in a list", "in two lists"],
)
def test_what_cannot_be_meant_is_refused_early(tmp_path: Path, train: list[str], test: str, says: str) -> None:
    """Catches in config/early.py: choices of rewards not looked at."""
    with pytest.raises(UserError) as caught:
        refuse_missing(config_of(tmp_path, test, *train), only=["prompts"], runs=False)
    assert says in str(caught.value)
    assert str(caught.value).startswith("prompts.te" if "test.jsonl" in says else "prompts.tr")
    assert "\n" not in str(caught.value)


def test_another_choice_is_another_list(tmp_path: Path) -> None:
    """A run that is resumed notices, and keeps its own list."""
    before = read_mark(config_of(tmp_path, line("t"), line("a", "Redness"))).inputs
    after = read_mark(config_of(tmp_path, line("t"), line("a"))).inputs
    assert {key for key in before if before[key] != after[key]} == {"prompts.train"}
