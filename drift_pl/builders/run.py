"""The one place where config becomes objects (its parts: `build_scoring`, `build_incentive`, `build_objective`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy, Strategy

from drift_pl.builders.hardware import refuse_precision
from drift_pl.builders.incentive import (
    build_method_encoder,
    build_prompting,
    build_rival,
    build_selection,
    build_shaping,
)
from drift_pl.builders.objective import build_advantage, build_update
from drift_pl.builders.scoring import build_evaluation_plan, build_evaluator, build_judges, prompts_of
from drift_pl.config.batches import derive_batches, window_bounds
from drift_pl.config.identity import config_hash, run_identity, run_settings
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError, naming
from drift_pl.core.registry import create, find
from drift_pl.evaluation.evaluator import Evaluator
from drift_pl.functional.ddim import ddim_std
from drift_pl.policies.protocol import Policy
from drift_pl.sampling.groups import RolloutPlan
from drift_pl.scoring.rewards import Judge
from drift_pl.training.callbacks import (
    DiversityAlarm,
    DiversityMonitor,
    HeldOutEvaluation,
    RunLength,
    RunProgress,
)
from drift_pl.training.callbacks.evaluation import EvaluationPlan
from drift_pl.training.checkpointing import AtomicCheckpointIO, BoundaryCheckpoint, RunIdentity
from drift_pl.training.datamodule import PromptDataModule
from drift_pl.training.module import DriftModule
from drift_pl.training.plans import JudgingPlan, OptimizerPlan

# A lost host is noticed after this long instead of torch's half hour.
PROCESS_GROUP_TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True)
class Run:
    """Everything that `fit` needs."""

    trainer: L.Trainer
    module: DriftModule
    datamodule: PromptDataModule


def build_run(config: Config, run_dir: Path) -> Run:
    """All objects of a run.

    Raises:
        UserError: something that the config names cannot be loaded.
    """
    train = prompts_of(config, "train")
    judges = build_judges(config.rewards, "rewards")
    evaluator = build_evaluator(config, judges)
    plan = build_evaluation_plan(config)
    policy = build_policy(config)
    _refuse_noiseless_steps(config, policy)
    callbacks = build_callbacks(config, evaluator, plan, run_dir)
    return Run(
        trainer=build_trainer(config, run_dir, callbacks),
        module=build_module(config, policy, judges),
        datamodule=PromptDataModule(
            train, config.prompts.per_iteration, config.objective.updates, config.seed, config.trainer.save_every
        ),
    )


def build_policy(config: Config) -> Policy:
    policy = config.policy
    with naming("policy.family"):
        family = find("family", policy.family)
    return family(
        policy.pretrained,
        rank=policy.lora.rank,
        alpha=policy.lora.alpha,
        targets=policy.lora.targets,
        seed=config.seed,
        resolution=policy.resolution,
        max_sequence_length=policy.max_sequence_length,
        gradient_checkpointing=policy.gradient_checkpointing,
        compile=policy.compile,
        warm_start=policy.lora.pretrained,
        tuning=policy.tuning,
        reference_device=policy.reference_device,
        text_encoder_device=policy.text_encoder_device,
        dtype=policy.dtype,
        quantisation=policy.quantisation,
        **policy.args,
    )


def _refuse_noiseless_steps(config: Config, policy: Policy) -> None:
    """A step without noise has no density to train by; where DDIM's last step ends is the model's own matter.

    Raises:
        UserError: the window may cover such a step.
    """
    if config.sampler.kind != "ddim":
        return
    first, end = window_bounds(config.sampler)
    sigmas = policy.sigmas(config.sampler.steps)
    if any(ddim_std(sigmas[step], sigmas[step + 1], config.sampler.noise_level) == 0 for step in range(first, end)):
        raise UserError(
            "sampler.noisy_last_step=true: this model's scheduler ends where DDIM has no noise in the last step; "
            "use false"
        )


def build_module(config: Config, policy: Policy, judges: Sequence[Judge]) -> DriftModule:
    objective, sampler = config.objective, config.sampler
    rival, categories = build_rival(config)
    first, end = window_bounds(sampler)
    return DriftModule(
        policy=policy,
        judges=judges,
        group_size=config.prompts.group_size,
        selection=build_selection(config),
        prompting=build_prompting(config),
        shaping=build_shaping(config),
        stepwise=config.incentive.shaping.form == "per_step",
        rival=rival,
        encoder=build_method_encoder(config, rival),
        categories=categories,
        judging=JudgingPlan(config.trainer.judge_groups, config.trainer.judge_thread),
        advantage=build_advantage(config),
        per_judge=objective.reward_normalisation == "per_judge",
        update=build_update(config),
        rollout=RolloutPlan(
            steps=sampler.steps,
            noise_level=sampler.noise_level,
            guidance_scale=config.policy.guidance_scale,
            negative_prompt=config.policy.negative_prompt,
            window_first=first,
            window_end=end,
            window_size=derive_batches(config).trained_steps,
            window_schedule=sampler.window_schedule,
            window_stride=sampler.window_stride,
            window_every=sampler.window_every,
            shared_prefix=sampler.shared_prefix,
            kind=sampler.kind,
        ),
        optimizer=OptimizerPlan(objective.learning_rate, objective.weight_decay, objective.warmup),
        ema_decay=objective.ema_decay,
        seed=config.seed,
    )


def build_callbacks(config: Config, evaluator: Evaluator, plan: EvaluationPlan, run_dir: Path) -> list[L.Callback]:
    """In the order in which they act: measures first, then the summary, then checkpoints."""
    trainer = config.trainer
    facts = {
        "experiment": config.experiment,
        "seed": config.seed,
        "config_hash": config_hash(config),
        "encoder": f"{config.evaluation.encoder.name} {config.evaluation.encoder.args}",
        "test_prompts": len(plan.test_prompts),
    }
    callbacks: list[L.Callback] = [
        RunLength(trainer.iterations),
        DiversityMonitor(evaluator.encoder, evaluator.lpips if trainer.monitor_lpips else None),
        DiversityAlarm(trainer.alarm.threshold, trainer.alarm.stop),
        HeldOutEvaluation(evaluator, plan, run_dir, facts),
    ]
    if trainer.progress:
        callbacks.append(RunProgress(trainer.iterations))
    for number, callback in enumerate(trainer.callbacks):
        with naming(f"trainer.callbacks.{number}"):
            callbacks.append(create("callback", callback.name, callback.args))
    folder = run_dir / "checkpoints"
    callbacks.append(RunIdentity(run_identity(config), run_settings(config)))
    callbacks.append(BoundaryCheckpoint(folder / "last.ckpt", trainer.keep_boundary))
    callbacks.append(
        ModelCheckpoint(
            dirpath=folder,
            filename="iteration-{iteration:06.0f}",
            auto_insert_metric_name=False,
            monitor="iteration",
            mode="max",
            save_top_k=trainer.keep_checkpoints,
            save_last=True,
            every_n_epochs=1,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
    )
    return callbacks


def build_trainer(config: Config, run_dir: Path, callbacks: list[L.Callback]) -> L.Trainer:
    trainer = config.trainer
    if trainer.threads:
        torch.set_num_threads(trainer.threads)
    refuse_precision(trainer.accelerator, trainer.precision)
    return L.Trainer(
        accelerator=trainer.accelerator,
        devices=trainer.devices,
        num_nodes=trainer.num_nodes,
        strategy=build_strategy(config),
        precision=trainer.precision,
        max_epochs=-1,
        callbacks=callbacks,
        logger=build_loggers(config, run_dir),
        plugins=[AtomicCheckpointIO()],
        log_every_n_steps=1,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def build_strategy(config: Config) -> Strategy | str:
    trainer = config.trainer
    if trainer.strategy == "auto" and trainer.devices * trainer.num_nodes == 1:
        return "auto"
    return DDPStrategy(timeout=PROCESS_GROUP_TIMEOUT)


def build_loggers(config: Config, run_dir: Path) -> list[Logger]:
    with naming("trainer.logger"):
        return [find("logger", name)(run_dir) for name in config.trainer.logger]
