"""Builds a training run from its config."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from drift_pl.builders.arguments import named_by
from drift_pl.builders.bench import build_held_out_evaluation
from drift_pl.builders.early import build_further_callbacks, refuse_unfit
from drift_pl.builders.hardware import lightning_refusals, refuse_hardware
from drift_pl.builders.method import (
    build_categories,
    build_method,
    build_method_encoder,
    build_prompting,
    build_update,
)
from drift_pl.builders.policy import build_policy, build_stochastic_step
from drift_pl.builders.scoring import build_rewards, prompts_of, refuse_split_groups
from drift_pl.builders.strategy import build_environment, build_strategy, is_sharding, refuse_unsharded
from drift_pl.config.batches import derive_batches, window_bounds
from drift_pl.config.command import describe
from drift_pl.config.identity import run_settings
from drift_pl.config.inputs import RunMark, read_mark
from drift_pl.config.processes import is_first_process, world_size
from drift_pl.config.run_folder import resume_command
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError, naming
from drift_pl.core.files import local_path, probe_folder
from drift_pl.core.registry import find
from drift_pl.core.text_length import expect_prompts
from drift_pl.policies.protocol import Policy
from drift_pl.sampling.groups import GroupSampling, RolloutPlan, Window
from drift_pl.sampling.prompt_cache import PromptStore
from drift_pl.sampling.prompts import PromptEncoder
from drift_pl.sampling.stochastic import StochasticStep
from drift_pl.scoring.protocol import Encoder
from drift_pl.scoring.rewards import WeightedReward
from drift_pl.training.callbacks import (
    DiversityAlarm,
    DiversityMonitor,
    HeldOutEvaluation,
    RunLength,
    RunProgress,
)
from drift_pl.training.checkpointing import AtomicCheckpointIO, BoundaryCheckpoint, RunIdentity
from drift_pl.training.datamodule import PromptDataModule
from drift_pl.training.failing import RankWatch
from drift_pl.training.module import DriftModule
from drift_pl.training.optimizer import OptimizerPlan
from drift_pl.training.scoring import GroupScoring


@dataclass(frozen=True)
class Run:
    """The objects of `fit`; `watch` if there are several processes."""

    trainer: L.Trainer
    module: DriftModule
    datamodule: PromptDataModule
    watch: RankWatch | None = None


def build_run(
    config: Config,
    run_dir: Path,
    mark: RunMark | None = None,
    done: int = 0,
    trained: bool = False,
    check: Callable[[], None] | None = None,
) -> Run:
    """All objects of a run.

    Args:
        mark: identifies the run's files; None: the mark of the config.
        done: iterations that an earlier part of the run has completed.
        trained: only the final evaluation is left to do.
        check: raises an error if another process has taken over the run's folder.

    Raises:
        UserError: something that the config names cannot be loaded.
    """
    sharded = is_sharding(config)
    refuse_hardware(config)
    refuse_unfit(config)
    mark, train, further = mark or read_mark(config), prompts_of(config, "train"), build_further_callbacks(config)
    rewards = build_rewards(config.rewards, "rewards")
    refuse_split_groups(config, rewards)
    evaluation = build_held_out_evaluation(config, rewards, run_dir, mark)
    policy = build_policy(config, sharded)
    refuse_unsharded(config, policy)
    stochastic = build_stochastic_step(config, policy)
    identity = RunIdentity(mark.identity, run_settings(config), mark.inputs, check)
    callbacks = build_callbacks(config, evaluation, run_dir, identity, trained, further)
    module = build_module(config, policy, stochastic, rewards, evaluation.bench.evaluator.encoder)
    announce_prompts(module, train, evaluation)
    with lightning_refusals(config):
        trainer = build_trainer(config, run_dir, callbacks, done)
    return Run(
        trainer=trainer,
        module=module,
        datamodule=PromptDataModule(
            train,
            config.prompts.per_iteration,
            config.prompts.group_size,
            config.objective.updates,
            config.seed,
            config.trainer.save_every,
        ),
        watch=next((each for each in callbacks if isinstance(each, RankWatch)), None),
    )


def announce_prompts(module: DriftModule, train: Sequence[str], evaluation: HeldOutEvaluation) -> None:
    """Tells the policy and the rewards all texts of the run, so that each warns once of those that it cuts."""
    candidates = getattr(module.sample.prompting, "candidates", lambda prompt: (prompt,))
    evaluator, measured = evaluation.bench.evaluator, evaluation.prompts
    with warnings.catch_warnings():
        if not is_first_process():
            warnings.simplefilter("ignore")
        expect_prompts([module.policy], [*(text for prompt in train for text in candidates(prompt)), *measured])
        expect_prompts([each.reward for each in evaluator.rewards], [*train, *measured])
        expect_prompts([each.reward for each in evaluator.heldout_rewards], measured)


def build_module(
    config: Config, policy: Policy, stochastic: StochasticStep, rewards: Sequence[WeightedReward], monitor: Encoder
) -> DriftModule:
    objective, method, update = config.objective, build_method(config, rewards), build_update(config)
    return DriftModule(
        sampling=build_sampling(config, policy, stochastic, update.keep | method.keep),
        scoring=GroupScoring(
            rewards,
            build_method_encoder(config, method),
            policy.decode,
            build_categories(config, method),
            monitor,
            config.trainer.judge_groups,
            config.trainer.judge_thread,
        ),
        method=method,
        update=update,
        optimizer=OptimizerPlan(**named_by(OptimizerPlan, vars(objective))),
    )


def build_sampling(config: Config, policy: Policy, stochastic: StochasticStep, keep: frozenset[str]) -> GroupSampling:
    """
    Args:
        keep: optional parts of the trajectories, see `rollout`.
    """
    sampler = config.sampler
    window = Window(
        *window_bounds(sampler),
        derive_batches(config).trained_steps,
        sampler.window_schedule,
        sampler.window_stride,
        sampler.window_every,
    )
    plan = RolloutPlan(
        steps=sampler.steps,
        stochastic=stochastic,
        guidance_scale=config.policy.guidance_scale,
        negative_prompt=config.policy.negative_prompt,
        window=window,
        shared_prefix=sampler.shared_prefix,
    )
    return GroupSampling(
        policy, build_prompt_encoder(config, policy), build_prompting(config), plan, config.objective.micro_batch, keep
    )


def build_prompt_encoder(config: Config, policy: Policy) -> PromptEncoder:
    """Keeps encoded prompts in main memory and, if a folder is given, on disk.

    Raises:
        UserError: the folder cannot be used.
    """
    prompts, store = config.prompts, None
    if prompts.cache_dir is not None:
        with naming("prompts.cache_dir"):
            folder = local_path(prompts.cache_dir)
            probe_folder(folder)
            if not hasattr(policy, "encoder_key"):
                raise UserError(f"policy.family={config.policy.family} has no encoder_key: use prompts.cache_dir=null")
            store = PromptStore(folder, policy.encoder_key())
    return PromptEncoder(policy, int(prompts.cache_gb * 10**9), store)


def build_callbacks(
    config: Config,
    evaluation: HeldOutEvaluation,
    run_dir: Path,
    identity: RunIdentity,
    trained: bool,
    further: Sequence[L.Callback],
) -> list[L.Callback]:
    """In the order of their calls: measures, then the summary, then what may end the run, then checkpoints."""
    trainer, evaluator = config.trainer, evaluation.bench.evaluator
    callbacks: list[L.Callback] = [
        identity,
        DiversityMonitor(evaluator.lpips if trainer.monitor_lpips else None),
        DiversityAlarm(trainer.alarm.threshold, trainer.alarm.stop),
        evaluation,
    ]
    if trainer.progress:
        callbacks.append(RunProgress(trainer.iterations))
    callbacks += further
    callbacks.append(RunLength(trainer.iterations, trained))
    folder = run_dir / "checkpoints"
    boundary = BoundaryCheckpoint(folder / "last.ckpt", trainer.keep_boundary)
    callbacks.append(boundary)
    if world_size(config) > 1:
        resume = resume_command(run_dir)
        watch = RankWatch(describe, resume, boundary.saved, trainer.timeout_s, trainer.keep_boundary)
        callbacks.insert(0, watch)
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


def build_trainer(config: Config, run_dir: Path, callbacks: list[L.Callback], done: int = 0) -> L.Trainer:
    trainer = config.trainer
    if trainer.threads:
        torch.set_num_threads(trainer.threads)
    with naming("trainer.logger"):
        makers = [find("logger", name) for name in trainer.logger]
        loggers = [maker(run_dir, **named_by(maker, {"done": done})) for maker in makers]
    return L.Trainer(
        accelerator=trainer.accelerator,
        devices=trainer.devices,
        num_nodes=trainer.num_nodes,
        strategy=build_strategy(config),
        precision=trainer.precision,
        max_epochs=-1,
        callbacks=callbacks,
        logger=loggers,
        plugins=[AtomicCheckpointIO(), *build_environment(config)],
        log_every_n_steps=1,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
