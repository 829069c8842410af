"""A run's settings as loggers and services may have them: no key of an address, nothing that a page would run."""

from collections.abc import Sequence
from pathlib import Path

from drift_pl.config.schema import Config
from drift_pl.config.section import flat
from drift_pl.config.yaml_text import format_value
from drift_pl.core.servers import without_queries
from drift_pl.reports.markdown import code, plain
from drift_pl.training.logged import Plain

LONGEST = 300
ALSO = ("experiment", "run_name", "trainer.iterations", "trainer.precision", "trainer.devices", "trainer.num_nodes")
"""Settings that shape no results, and by which runs are told apart."""
FIRST = (
    *("experiment", "seed", "incentive.shaping.weight", "objective.loss", "objective.kl_weight"),
    *("objective.learning_rate", "incentive.method", "incentive.selection.rule", "incentive.prompting.rule"),
    *("prompts.group_size", "prompts.per_iteration", "trainer.iterations", "policy.pretrained"),
    *("rewards.0.name", "rewards.0.weight", "rewards.1.name", "rewards.1.weight", "run_name"),
)
"""What runs are compared by, in TensorBoard's columns; five are shown until others are asked for."""


def logged_settings(config: Config) -> dict[str, Plain]:
    """Dotted key -> value of the settings that shape results, and a few more; lists as text."""
    found: dict[str, Plain] = {}
    for key, value in flat(config.published, {dict, list}).items():
        known = Config.find_key(key)
        if key in ALSO or key == "seed" or (known is not None and known.about.shapes_results):
            text = value if isinstance(value, str) else format_value(value)
            found[key] = value if isinstance(value, bool | int | float) else without_queries(text)[:LONGEST]
    return found


def run_text(config: Config, run_dir: Path, prompts: Sequence[str]) -> str:
    """The run and the prompts of its pictures, as Markdown that shows what users wrote and does nothing else."""
    tags = f", tags {', '.join(map(plain, config.tags))}" if config.tags else ""
    first = f"{code(config.experiment)}, seed {config.seed}{tags}: {code(str(run_dir))}"
    shown = [f"- {plain(prompt[:LONGEST])}" for prompt in prompts[: config.evaluation.grid_prompts]]
    return "\n".join([first, "", "Prompts of the pictures:", "", *shown])
