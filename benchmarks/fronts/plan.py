"""Reads plan.yaml or plan2.yaml, lists of a study's runs. A run is (tier, method, seed); a tier has common settings.

A plan may have worlds (`frozen.worlds`), whose settings come between the frozen ones and a tier's own.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drift_pl.config.yaml_text import load_yaml
from drift_pl.core.errors import UserError

PLAN = Path(__file__).with_name("plan.yaml")
TIER_KEYS = frozenset(
    (
        "title",
        "seeds",
        "baseline",
        "against",
        "fit",
        "evaluate",
        "pareto",
        "methods",
        "world",
        "reward",
        "core_minutes",
        "claim",
    )
)


@dataclass(frozen=True)
class Job:
    """A run and its evaluation.

    Attributes:
        tier, method, seed: its name.
        overrides: of `python -m drift_pl.fit`, frozen ones first.
        evaluation: arguments of `python -m drift_pl.evaluate`.
        pictures: whether its pictures are kept; those of one seed suffice.
        source: another method of the same tier whose run is evaluated differently; None: trains its own run.
        checkpoint: name of the only checkpoint to evaluate; None: all of the run's.
    """

    tier: str
    method: str
    seed: int
    overrides: tuple[str, ...]
    evaluation: tuple[str, ...]
    pictures: bool
    source: str | None = None
    checkpoint: str | None = None

    @property
    def key(self) -> str:
        """Its name within its tier."""
        return f"{self.method}-s{self.seed}"

    @property
    def name(self) -> str:
        return f"{self.tier}/{self.key}"

    @property
    def run_name(self) -> str:
        """The run that is evaluated: its own, or the source's."""
        return f"{self.tier}/{self.source or self.method}-s{self.seed}"

    @property
    def digest(self) -> str:
        """Twelve hex digits of everything that determines its result; a result with another digest is void."""
        text = json.dumps([self.method, self.seed, self.overrides, self.evaluation, self.source, self.checkpoint])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Tier:
    """One table of the study.

    Attributes:
        name, title: as in the plan.
        methods: in the order of the report.
        seeds: of every method.
        baseline: the method that the others are compared with.
        against: further methods that the others are compared with.
        comparison: arguments of `python -m drift_pl.pareto`.
        jobs: seed by seed, so that methods have equally many seeds if the queue is interrupted.
        world, reward: of a plan with worlds; else empty.
        core_minutes: estimate for one of its runs; 0: none.
        claim: the methods that the claim "levers pay" is about: `levers`, and the same update with the `same_kl` and
            with the `best_kl`; else empty.
    """

    name: str
    title: str
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    baseline: str
    against: tuple[str, ...]
    comparison: tuple[str, ...]
    jobs: tuple[Job, ...]
    world: str = ""
    reward: str = ""
    core_minutes: float = 0
    claim: dict[str, str] = field(default_factory=dict)

    @property
    def on_test_prompts(self) -> bool:
        return "prompts=test" in self.jobs[0].evaluation


def read_plan(path: Path = PLAN) -> dict[str, Tier]:
    """Tier name -> tier.

    Raises:
        UserError: a key is unknown, or a source or baseline is not among the methods.
    """
    plan = load_yaml(path.read_text())
    frozen = plan["frozen"]
    return {name: _read_tier(name, tier, frozen, path) for name, tier in plan["tiers"].items()}


def _read_tier(name: str, tier: dict[str, Any], frozen: dict[str, Any], path: Path) -> Tier:
    unknown = set(tier) - TIER_KEYS
    if unknown:
        raise UserError(f"{path}: tiers.{name} has unknown keys {sorted(unknown)}")
    methods: dict[str, Any] = tier["methods"]
    baselines, claim = [tier["baseline"], *tier.get("against", [])], tier.get("claim", {})
    world = tier.get("world", "")
    if world and world not in frozen["worlds"]:
        raise UserError(f"{path}: tiers.{name}.world={world} is not one of {', '.join(frozen['worlds'])}")
    common = [*frozen["fit"], *(frozen["worlds"][world]["fit"] if world else [])]
    strange = [method for method in (*baselines, *claim.values()) if method not in methods]
    if strange:
        raise UserError(f"{path}: tiers.{name}: {strange[0]}, to compare with, is not one of {', '.join(methods)}")
    jobs = []
    for seed in tier["seeds"]:
        for method, difference in methods.items():
            difference = difference or {}
            unknown = set(difference) - {"fit", "evaluate", "source", "checkpoint"}
            if unknown:
                raise UserError(f"{path}: tiers.{name}.{method} has unknown keys {sorted(unknown)}")
            source = difference.get("source")
            if source is not None and source not in methods:
                raise UserError(f"{path}: tiers.{name}.{method}.source={source} is not one of {', '.join(methods)}")
            if source is not None and "fit" in difference:
                raise UserError(f"{path}: tiers.{name}.{method} has both source={source} and fit: keep one of them")
            # a method with a source is trained as its source is
            trained = difference if source is None else methods[source] or {}
            fit = [*common, *_list(tier, "fit"), *_list(trained, "fit")]
            evaluation = [*frozen["evaluate"], *_list(tier, "evaluate"), *_list(difference, "evaluate")]
            pictures, checkpoint = seed == tier["seeds"][0], difference.get("checkpoint")
            jobs.append(Job(name, method, seed, tuple(fit), tuple(evaluation), pictures, source, checkpoint))
    return Tier(
        name=name,
        title=tier["title"],
        methods=tuple(methods),
        seeds=tuple(tier["seeds"]),
        baseline=baselines[0],
        against=tuple(baselines[1:]),
        comparison=(*_list(frozen, "pareto"), *_list(tier, "pareto")),
        jobs=tuple(jobs),
        world=world,
        reward=tier.get("reward", ""),
        core_minutes=tier.get("core_minutes", 0),
        claim=claim,
    )


def _list(node: dict[str, Any], key: str) -> Sequence[str]:
    """Overrides in order; a nested list is another recipe's, which this one extends."""
    return _flat(node.get(key) or [])


def _flat(entries: Sequence[Any]) -> list[str]:
    return [each for entry in entries for each in (_flat(entry) if isinstance(entry, list) else [str(entry)])]
