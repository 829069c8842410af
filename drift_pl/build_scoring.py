"""Config becomes what scores and what measures: judges, encoders, held-out evaluation."""

from collections.abc import Sequence
from typing import Any

from drift_pl.config import Config, NamedConfig, RewardConfig
from drift_pl.evaluation import Evaluator
from drift_pl.prompts import read_prompts
from drift_pl.registry import create
from drift_pl.scoring import ENCODERS, REWARDS
from drift_pl.scoring.judges import Judge
from drift_pl.training.callbacks.evaluation import EvaluationPlan


def build_judges(rewards: Sequence[RewardConfig], key: str) -> list[Judge]:
    """Named judges; two of one name are told apart by a number."""
    judges: list[Judge] = []
    for number, reward in enumerate(rewards):
        thing = create(f"{key}.{number}", reward.name, reward.args, REWARDS, "drift_pl.rewards")
        name = reward.name.rpartition(":")[2]
        taken = sum(judge.name.partition("#")[0] == name for judge in judges)
        judges.append(Judge(f"{name}#{taken + 1}" if taken else name, thing, reward.weight))
    return judges


def build_encoder(encoder: NamedConfig, key: str) -> Any:
    return create(key, encoder.name, encoder.args, ENCODERS, "drift_pl.encoders")


def build_evaluator(config: Config, judges: Sequence[Judge]) -> Evaluator:
    evaluation = config.evaluation
    return Evaluator(
        judges=judges,
        encoder=build_encoder(evaluation.encoder, "evaluation.encoder"),
        lpips=build_encoder(evaluation.lpips, "evaluation.lpips"),
        micro_batch=config.objective.micro_batch,
        heldout_judges=build_judges(evaluation.rewards, "evaluation.rewards"),
        measures=[
            create(f"evaluation.measures.{number}", measure.name, measure.args, {}, "drift_pl.measures")
            for number, measure in enumerate(evaluation.measures)
        ],
        grid_prompts=evaluation.grid_prompts,
        grid_seeds=evaluation.grid_seeds,
    )


def build_evaluation_plan(config: Config) -> EvaluationPlan:
    guidance = config.sampler.eval_guidance_scale
    limit = config.evaluation.max_prompts or None
    return EvaluationPlan(
        steps=config.sampler.eval_steps,
        guidance_scale=config.policy.guidance_scale if guidance is None else guidance,
        negative_prompt=config.policy.negative_prompt,
        tuning_prompts=read_prompts(config.prompts.tuning, "prompts.tuning")[:limit],
        test_prompts=read_prompts(config.prompts.test, "prompts.test")[:limit],
        every=config.evaluation.every,
        test_seeds=config.evaluation.seeds_per_prompt,
        tuning_seeds=config.evaluation.seeds_while_training,
    )
