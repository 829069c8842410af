"""Builds a training run from its config."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.utilities import rank_zero_only

from drift_pl.builders.arguments import named_by
from drift_pl.builders.bench import build_held_out_evaluation
from drift_pl.builders.callbacks import build_callbacks, build_further_callbacks, build_loggers
from drift_pl.builders.early import refuse_arguments, refuse_unfit
from drift_pl.builders.frames import frame_encoder, random_reward_frames, training_rewards
from drift_pl.builders.groups import build_group_sampling
from drift_pl.builders.hardware import accelerator_for, build_precision, lightning_refusals, refuse_hardware
from drift_pl.builders.method import build_categories, build_method, build_method_encoder, build_prompting, build_update
from drift_pl.builders.micro_batch import with_micro_batch
from drift_pl.builders.policy import build_policy
from drift_pl.builders.scoring import build_run_rewards, overlap, prompts_of, refuse_split_groups
from drift_pl.builders.stochastic_steps import build_stochastic_step
from drift_pl.builders.strategy import build_environment, build_strategy, is_sharding, longest_wait, refuse_unsharded
from drift_pl.config.batches import world_size
from drift_pl.config.identity import run_settings
from drift_pl.config.inputs import RunMark, read_mark
from drift_pl.config.processes import is_first_launched
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError
from drift_pl.core.progress import Display
from drift_pl.core.text_length import expect_prompts
from drift_pl.incentive.prompting import PromptingRule
from drift_pl.policies.protocol import Policy
from drift_pl.sampling.stochastic import StochasticStep
from drift_pl.scoring.protocol import Encoder
from drift_pl.scoring.rewards import WeightedReward, tasks_of
from drift_pl.training.callbacks import HeldOutEvaluation
from drift_pl.training.checkpointing import AtomicCheckpointIO, BoundaryCheckpoint, RunIdentity
from drift_pl.training.datamodule import PromptDataModule
from drift_pl.training.failing import RankWatch
from drift_pl.training.module import DriftModule
from drift_pl.training.optimizer import OptimizerPlan
from drift_pl.training.precision import FLOAT16
from drift_pl.training.scoring import GroupScoring

ANNOUNCED = 1000
"""Prompts whose variations are looked at for their length before the run."""


@dataclass(frozen=True)
class Run:
    """The objects of `fit`; `watch` if there are several processes."""

    trainer: L.Trainer
    module: DriftModule
    datamodule: PromptDataModule
    watch: RankWatch | None = None

    @property
    def saved(self) -> int:
        """Iterations that last.ckpt holds."""
        return next(each.saved() for each in self.trainer.callbacks if isinstance(each, BoundaryCheckpoint))


def build_run(
    config: Config,
    run_dir: Path,
    mark: RunMark | None = None,
    done: int = 0,
    trained: bool = False,
    check: Callable[[], None] | None = None,
    display: Display | None = None,
) -> Run:
    """All objects of a run.

    Args:
        mark: identifies the run's files; None: the mark of the config.
        done: iterations that an earlier part of the run has completed.
        trained: only the final evaluation is left to do.
        check: raises an error if another process has taken over the run's folder.
        display: shows what is being loaded, and the run's progress.

    Raises:
        UserError: something that the config names cannot be loaded.
    """
    display = display or Display()
    refuse_hardware(config)
    refuse_unfit(config)
    refuse_arguments(config)
    mark, train, further = mark or read_mark(config), prompts_of(config, "train"), build_further_callbacks(config)
    prompting = build_prompting(config, train, run_dir)
    config, policy = _with_timed_micro_batch(config, run_dir, display)
    with display.stage("loading rewards and encoders"):
        rewards = build_run_rewards(config)
        refuse_split_groups(config, rewards)
        evaluation = build_held_out_evaluation(config, rewards, run_dir, mark, display)
    if policy is None:
        with display.stage(f"loading {config.published.policy.pretrained}"):
            policy = build_policy(config, is_sharding(config))
    refuse_unsharded(config, policy)
    stochastic = build_stochastic_step(config, policy)
    patience = longest_wait(config, rewards)
    identity = RunIdentity(mark.identity, run_settings(config), mark.inputs, check)
    callbacks = build_callbacks(config, evaluation, run_dir, identity, trained, further, patience, display)
    module = build_module(config, policy, stochastic, rewards, evaluation.bench.evaluator.encoder, prompting, train)
    announce_prompts(module, train, evaluation)
    with lightning_refusals(config, [each.name for each in config.trainer.callbacks]):
        trainer = build_trainer(config, run_dir, callbacks, build_strategy(config, policy, patience), done)
    watch = next((each for each in callbacks if isinstance(each, RankWatch)), None)
    return Run(trainer, module, _build_datamodule(config, train), watch)


def _with_timed_micro_batch(config: Config, run_dir: Path, display: Display) -> tuple[Config, Policy | None]:
    """With `objective.micro_batch=auto` the config with the measured one, and the policy that it was measured on.

    Raises:
        UserError: the network is to be sharded.
    """
    if config.objective.micro_batch:
        return config, None
    if is_sharding(config):
        raise UserError(
            "objective.micro_batch=auto measures a whole network, which no process has with trainer.strategy=fsdp: "
            "use e.g. objective.micro_batch=8"
        )
    with display.stage(f"loading {config.published.policy.pretrained}, and timing micro-batches"):
        policy = build_policy(config)
        return with_micro_batch(config, policy, run_dir), policy


def _build_datamodule(config: Config, train: Sequence[str]) -> PromptDataModule:
    prompts, updates, every = config.prompts, config.objective.updates, config.trainer.save_every
    return PromptDataModule(train, prompts.per_iteration, prompts.group_size, updates, config.seed, every)


def announce_prompts(module: DriftModule, train: Sequence[str], evaluation: HeldOutEvaluation) -> None:
    """Tells the policy and the rewards all texts of the run, so that each warns once of those that it cuts."""
    candidates = getattr(module.sample.prompting, "candidates", lambda prompt: (prompt,))
    evaluator, measured = evaluation.bench.evaluator, evaluation.prompts
    with warnings.catch_warnings():
        if not is_first_launched():
            warnings.simplefilter("ignore")
        texts = (text for prompt in train[:ANNOUNCED] for text in candidates(prompt))
        expect_prompts([module.policy], [*texts, *train[ANNOUNCED:], *measured])
        expect_prompts(evaluator.rewards, [*train, *measured])
        expect_prompts(evaluator.heldout_rewards, measured)


def build_module(
    config: Config,
    policy: Policy,
    stochastic: StochasticStep,
    rewards: Sequence[WeightedReward],
    monitor: Encoder,
    prompting: PromptingRule,
    train: Sequence[str] = (),
) -> DriftModule:
    """The Lightning module that trains a policy: sampling, scoring, method, update and optimizer of the config.

    Args:
        train: the training prompts.
    """
    objective, method, update = config.objective, build_method(config), build_update(config)
    return DriftModule(
        sampling=build_group_sampling(config, policy, stochastic, prompting, update.keep | method.keep),
        scoring=GroupScoring(
            training_rewards(config, rewards),
            frame_encoder(config, build_method_encoder(config, method)),
            policy.decode,
            build_categories(config, method),
            monitor,
            *overlap(config, rewards),
            offload=config.policy.offload,
            random_frames=random_reward_frames(config),
            tasks=tasks_of(rewards, train),
        ),
        method=method,
        update=update,
        optimizer=OptimizerPlan(**named_by(OptimizerPlan, vars(objective))),
    )


def build_trainer(
    config: Config, run_dir: Path, callbacks: list[L.Callback], strategy: Strategy | str, done: int = 0
) -> L.Trainer:
    trainer = config.trainer
    if world_size(config) == 1:
        # Lightning takes it from the environment, where a launcher may have numbered whole runs
        rank_zero_only.rank = 0
    if trainer.threads:
        torch.set_num_threads(trainer.threads)
    return L.Trainer(
        accelerator=accelerator_for(trainer.accelerator),
        devices=trainer.devices,
        num_nodes=trainer.num_nodes,
        strategy=strategy,
        precision=None if trainer.precision in FLOAT16 else trainer.precision,
        max_epochs=-1,
        callbacks=callbacks,
        logger=build_loggers(config, run_dir, done),
        plugins=[AtomicCheckpointIO(), *build_environment(config), *build_precision(config)],
        log_every_n_steps=1,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
