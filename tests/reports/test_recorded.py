"""Recorded baselines belong to the experiments as they are, and are shown beside runs of the same budget only."""

import json
from pathlib import Path

import pytest

from drift_pl.builders.bench import new_record
from drift_pl.config.identity import config_hash
from drift_pl.config.loading import parse
from drift_pl.evaluation.record import Evaluation
from drift_pl.reports.closing import closing_table, how_to_read
from drift_pl.reports.recorded import Recorded, all_recorded, baseline_of

ROOT = Path(__file__).parents[2]
AGAIN = "the recipe has changed: train it again and run benchmarks/record_baseline.py"


def record_of(which: str, *argv: str) -> Evaluation:
    config = parse(argv).config
    seeds = {"test": config.evaluation.seeds_per_prompt, "tuning": config.evaluation.seeds_while_training}[which]
    return new_record(config, Path(f"{which}.json"), which, seeds)


@pytest.fixture
def plain() -> Recorded:
    return next(each for each in all_recorded() if each.experiment == "shapes_flowgrpo")


@pytest.mark.parametrize("recorded", all_recorded(), ids=lambda recorded: recorded.experiment)
def test_figures_are_those_of_the_recipe(recorded: Recorded) -> None:
    """The digest of all settings that shape results, the budget, and how it was measured."""
    argv = [f"experiment={recorded.experiment}"]
    assert config_hash(parse(argv).config) == recorded.config_hash, AGAIN
    test, tuning = (record_of(which, *argv) for which in ("test", "tuning"))
    assert (test.training, test.protocol) == (recorded.training, recorded.protocol), AGAIN
    assert tuning.protocol == recorded.looks_protocol, AGAIN
    assert len(recorded.per_seed) == len(recorded.seeds) == len(set(recorded.seeds))
    assert [entry["iteration"] for entry in recorded.looks][-1] == recorded.training["iterations"]


@pytest.mark.parametrize("experiment", ["shapes_div", "shapes_flowgrpo"])
def test_the_reports_figures_are_the_recipes_or_said_to_be_older(experiment: str) -> None:
    """docs/results/report.json, from which README and docs quote."""
    runs = json.loads((ROOT / "docs" / "results" / "report.json").read_text(encoding="utf-8"))[experiment]
    (settings,) = {run["config_hash"] for run in runs}
    evidence = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    current = config_hash(parse([f"experiment={experiment}"]).config)
    assert settings == current or f"`{settings}`" in evidence, "train them again, or say in evidence.md what they are"


@pytest.mark.parametrize("experiment", ["shapes_div", "shapes_drift"])
def test_shipped_experiments_have_a_baseline(experiment: str, plain: Recorded) -> None:
    assert baseline_of(record_of("test", f"experiment={experiment}")) == plain
    assert plain.looks_match(record_of("tuning", f"experiment={experiment}"))


@pytest.mark.parametrize(
    "override",
    ["trainer.iterations=40", "prompts.group_size=8", "evaluation.seeds_per_prompt=16", "evaluation.max_prompts=4"],
)
def test_another_budget_or_measurement_has_none(override: str) -> None:
    """Catches in reports/recorded.py: the protocol is not compared."""
    assert baseline_of(record_of("test", "experiment=shapes_div", override)) is None


def test_a_baseline_is_not_compared_with_itself() -> None:
    assert baseline_of(record_of("test", "experiment=shapes_flowgrpo")) is None
    assert baseline_of(None) is None


def test_the_closing_table_names_it(plain: Recorded) -> None:
    """By hand: distance 0.5 of 0.8 is -37.5 %, the plain one's 0.2 of 0.8 is -75 %; rewards 0.55 and 0.6 of 0.5."""
    base, tuned = {"reward": 0.5, "pairwise_distance": 0.8}, {"reward": 0.55, "pairwise_distance": 0.5}
    summary = {"base": base, "tuned": tuned}
    made = {**vars(plain), "base": base, "seeds": [0, 1]}
    both = [{"reward": 0.5, "pairwise_distance": 0.1}, {"reward": 0.7, "pairwise_distance": 0.3}]
    recorded = Recorded(**made | {"per_seed": both})
    rows = [line.split() for line in closing_table(summary, recorded).splitlines()]
    assert rows[0] == ["base", "tuned", "change", "plain", "change"]
    assert rows[1] == ["reward", "0.5000", "0.5500", "+10.0%", "0.6000", "+20.0%"]
    assert rows[2] == ["pairwise_distance", "0.8000", "0.5000", "-37.5%", "0.2000", "-75.0%"]
    sentence, source = how_to_read(summary, recorded).splitlines()
    assert "pairwise_distance changed by -37.5% here and by -75.0% in plain Flow-GRPO" in sentence
    assert "recorded figures of experiment=shapes_flowgrpo at this budget, mean of 2 seeds" in source
    assert "not measured by this run" in source
    assert how_to_read(summary, None).count("\n") == 0
