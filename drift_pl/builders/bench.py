"""Builds the evaluation of a run from its config: sampling, measures, and the record of both."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from drift_pl.builders.frames import on_frames
from drift_pl.builders.scoring import build_encoder, build_rewards, build_run_rewards, create_scorer, prompts_of
from drift_pl.config.batches import derive_batches, sampling_micro_batch
from drift_pl.config.identity import config_hash
from drift_pl.config.inputs import RunMark
from drift_pl.config.prompt_rewards import chosen, prompt_rewards, reward_names
from drift_pl.config.schema import Config, NamedConfig, RewardConfig
from drift_pl.core.errors import naming
from drift_pl.core.progress import Display
from drift_pl.core.registry import create, names
from drift_pl.evaluation.bench import Bench
from drift_pl.evaluation.evaluator import Evaluator
from drift_pl.evaluation.metrics import DriftMetric, GroupedMetric
from drift_pl.evaluation.protocol import Protocol, Training
from drift_pl.evaluation.record import Evaluation
from drift_pl.evaluation.sampling import SamplingPlan
from drift_pl.sampling.prompts import distinct
from drift_pl.scoring.rewards import WeightedReward
from drift_pl.training.callbacks.evaluation import HeldOutEvaluation


def build_sampling(config: Config) -> SamplingPlan:
    sampler, guidance = config.sampler, config.sampler.eval_guidance_scale
    return SamplingPlan(
        steps=sampler.eval_steps,
        guidance_scale=config.policy.guidance_scale if guidance is None else guidance,
        negative_prompt=config.policy.negative_prompt,
        importance_power=sampler.eval_importance_power,
        lora_scale=sampler.eval_lora_scale,
        resolution=config.evaluation.resolution,
    )


def build_bench(config: Config, rewards: Sequence[WeightedReward], further: Sequence[RewardConfig] = ()) -> Bench:
    """The held-out evaluation of a config.

    Args:
        rewards: the run's own.
        further: held-out rewards besides the config's.

    Raises:
        UserError: something that the config names cannot be loaded.
    """
    evaluation = config.evaluation
    encoder = build_encoder(evaluation.encoder, "evaluation.encoder")
    lpips = build_encoder(evaluation.lpips, "evaluation.lpips")
    offload = config.policy.offload
    held_out = build_rewards(evaluation.rewards, "evaluation.rewards", offload=offload)
    held_out += build_rewards(further, "judges", held_out, offload=offload)
    metrics = {name: create("measure", name, {}) for name in names("measure") if name in evaluation.extra}
    measures = []
    for number, entry in enumerate(evaluation.measures):
        measure = create_scorer("measure", entry, f"evaluation.measures.{number}")
        if isinstance(measure, (GroupedMetric, DriftMetric)):
            metrics[entry.name.rpartition(":")[2]] = measure
        else:
            measures.append(measure)
    size = (evaluation.grid_prompts, evaluation.grid_seeds)
    micro_batch, order = sampling_micro_batch(config), evaluation.vendi_order
    evaluator = Evaluator(
        rewards, encoder, lpips, micro_batch, held_out, measures, metrics, *size, order, offload=offload
    )
    return Bench(on_frames(config, evaluator), build_sampling(config))


def build_picture_evaluator(config: Config) -> Evaluator:
    """Reward and diversity of a few pictures, by all of the run's own rewards and its evaluation encoder."""
    rewards = build_run_rewards(config, lists=())  # the run's prompts need not be on this machine
    encoder = build_encoder(config.evaluation.encoder, "evaluation.encoder")
    return on_frames(config, Evaluator(rewards, encoder, None, sampling_micro_batch(config)))


def build_held_out_evaluation(
    config: Config, rewards: Sequence[WeightedReward], run_dir: Path, mark: RunMark, display: Display | None = None
) -> HeldOutEvaluation:
    """The measurements of `fit` and the files of their records."""
    bench, folder = build_bench(config, rewards), run_dir / "evaluation"
    tuning = new_record(config, folder / "tuning.json", "tuning", config.evaluation.seeds_while_training)
    test = new_record(config, folder / "test.json", "test", config.evaluation.seeds_per_prompt)
    test, tuning = (replace(one, config_hash=mark.config_hash, inputs=dict(mark.inputs)) for one in (test, tuning))
    facts = {
        "experiment": config.experiment,
        "seed": config.seed,
        "config_hash": mark.config_hash,
        "encoder": _named(config.published.evaluation.encoder),
        "test_prompts": len(test.protocol["prompts"]),
    }
    return HeldOutEvaluation(bench, test, tuning, config.evaluation.every, run_dir, facts, display)


def new_record(
    config: Config, path: Path, prompts: str, seeds_per_prompt: int, further: Sequence[RewardConfig] = ()
) -> Evaluation:
    """The record of a run's evaluation, without points.

    Args:
        prompts: `test` or `tuning`, the run's own; else a text file.
        further: held-out rewards besides the config's.

    Raises:
        UserError: the prompts cannot be read.
    """
    own = prompts in ("test", "tuning")
    with naming(f"prompts.{prompts}" if own else "prompts"):
        texts = distinct(getattr(config.prompts, prompts) if own else prompts)
    experiment = Path(config.experiment).stem
    texts = texts[: config.evaluation.max_prompts or None]
    protocol = _protocol(config, texts, seeds_per_prompt, further, _judges(config, prompts, texts))
    return Evaluation(path, experiment, experiment, config.seed, config_hash(config), _training(config), protocol)


def _judges(config: Config, prompts: str, texts: Sequence[str]) -> list[str]:
    """The rewards with their weights; those that some prompts leave out, with the number and a digest of the others.

    Args:
        prompts: see `new_record`.
    """
    choices, judges = prompt_rewards(config, [prompts]), []
    for name, reward in zip(reward_names(config.rewards), config.published.rewards, strict=True):
        scored = [text for text in texts if name in choices.get(text, {name})]
        of = "" if len(scored) == len(texts) else f" on {len(scored)} of {len(texts)} prompts ({_digest(scored)})"
        judges.append(f"{_named(reward)} x {reward.weight}{of}")
    return judges


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def _protocol(
    config: Config, prompts: Sequence[str], seeds: int, further: Sequence[RewardConfig], judges: list[str]
) -> Protocol:
    config = config.published  # the record is shared
    evaluation, policy, plan = config.evaluation, config.policy, build_sampling(config)
    return {
        "prompts": list(prompts),
        "seeds_per_prompt": seeds,
        "steps": plan.steps,
        "guidance_scale": float(plan.guidance_scale),
        "negative_prompt": plan.negative_prompt,
        "resolution": policy.resolution if plan.resolution is None else plan.resolution,
        "precision": config.trainer.precision,
        "policy": f"{policy.family} {policy.pretrained}{f', {policy.frames} frames' * (policy.frames > 1)}",
        "judges": judges,
        "heldout_judges": [*map(_named, [*evaluation.rewards, *further])],
        "encoder": _named(evaluation.encoder),
        "lpips": _named(evaluation.lpips),
        "measures": [*map(_named, evaluation.measures), *evaluation.extra],
        "vendi_order": float(evaluation.vendi_order),
    }


def _training(config: Config) -> Training:
    """Length of the whole run and digest of its prompts."""
    batches, iterations = derive_batches(config), config.trainer.iterations
    prompts = prompts_of(config, "train")
    choices = chosen(prompt_rewards(config, ["train"]), prompts)
    return {
        "iterations": iterations,
        "images": iterations * batches.images_per_iteration,
        "optimiser_steps": iterations * batches.optimizer_steps_per_iteration,
        "prompts_digest": _digest([*prompts, choices] if choices else prompts),
    }


def _named(thing: NamedConfig) -> str:
    dtype = getattr(thing, "dtype", None)
    return f"{thing.name} {thing.args}" + (f" in {dtype}" if dtype else "")
