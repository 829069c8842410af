"""Protocol 2 as it was frozen: its tag, its prompts, its compute, and valid runs."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import yaml
from benchmark import PLAN
from benchmark_trials import Trial
from plan import read_plan
from prompts_of_worlds import FOLDER, emoji, shapes

from drift_pl.builtin import PROMPTS
from drift_pl.builtin.captions import parse
from drift_pl.builtin.emoji import PROMPTS as EMOJI_PROMPTS
from drift_pl.config.loading import parse as parse_settings

CONTENT = yaml.safe_load(PLAN.read_text())
CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"
BASES = {
    "a": "pkg:drift_pl.builtin/weights/pipeline",
    "b": "pkg:drift_pl.builtin/loose",
    "c": "pkg:drift_pl.builtin.emoji/weights/pipeline",
}


def frozen_digest() -> str:
    """Of all but the lengths, which are found by the frozen rule."""
    frozen = {**CONTENT["frozen"], "length": {**CONTENT["frozen"]["length"], "iterations": None}}
    files = [PLAN.with_name("plain.yaml"), *sorted(FOLDER.glob("*.txt"))]
    text = json.dumps(frozen, sort_keys=True) + "".join(path.read_text() for path in files)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_the_protocol_is_that_of_the_changelogs_tag() -> None:
    tags = re.findall(r"`benchmark-protocol-2` \(`([0-9a-f]{16})`\)", CHANGELOG.read_text())
    assert tags == [frozen_digest()], "the protocol changed: every figure is void"


def test_the_prompts_are_new_and_the_recipes() -> None:
    """Catches in benchmarks/fronts/prompts_of_worlds.py: attributes that a shipped list has; openings left out."""
    kept = {name: (FOLDER / f"{name}.txt").read_text().splitlines() for name in ("shapes", "emoji")}
    assert kept == {"shapes": shapes(), "emoji": emoji()}
    assert [len(set(prompts)) for prompts in kept.values()] == [64, 56]
    met = [sorted(parse(line).items()) for path in PROMPTS.glob("t*.txt") for line in path.read_text().splitlines()]
    assert len(met) == 96
    assert not [prompt for prompt in kept["shapes"] if sorted(parse(prompt).items()) in met]
    trained = [
        line for name in ("train", "tuning") for line in (EMOJI_PROMPTS / f"{name}.txt").read_text().splitlines()
    ]
    assert not [prompt for prompt in kept["emoji"] if prompt.partition(" of ")[2] in trained]


def test_the_whole_plan_takes_at_most_forty_core_hours() -> None:
    """What a tier takes over from another, the same job, is run once."""
    minutes = sum({job.digest: tier.core_minutes for tier in read_plan(PLAN).values() for job in tier.jobs}.values())
    assert 30 * 60 < minutes <= 60 * CONTENT["core_hours"] == 60 * 40


@pytest.mark.parametrize("tier", read_plan(PLAN).values(), ids=lambda tier: tier.name)
def test_every_run_is_valid_and_no_prompt_is_chosen_by_and_reported(tier) -> None:
    """One budget for a tier; test prompts meet seeds from 200 on alone."""
    lengths = set()
    for job in {job.method: job for job in tier.jobs}.values():
        assert {job.method, Trial(job.method, {}).method} & set(CONTENT["methods"])
        config = parse_settings([*job.overrides, f"seed={job.seed}"]).config
        lengths.add((config.trainer.iterations, config.prompts.per_iteration, config.objective.learning_rate))
        assert config.policy.pretrained == BASES[tier.world]
        (prompts,) = (each for each in job.evaluation if each.startswith("prompts="))
        assert (prompts, job.seed >= 200) in {("prompts=test", True), ("prompts=tuning", False)}
    assert len(lengths) == 1
