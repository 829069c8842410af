"""The LightningModule: one `training_step` is one iteration of DRIFT."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning as L
import torch
from torch import Tensor

from drift_pl.core.types import PromptBatch
from drift_pl.incentive.method import Method, RewardSpread
from drift_pl.sampling.groups import GroupSampling
from drift_pl.training.checkpointing import key_by_position
from drift_pl.training.description import describe_iteration
from drift_pl.training.ema import ParameterAverage
from drift_pl.training.experience import Experience
from drift_pl.training.optimizer import OptimizerPlan
from drift_pl.training.parallel import IterationStatistics, gather_statistics
from drift_pl.training.reporting import IterationReport
from drift_pl.training.scoring import GroupScoring
from drift_pl.training.updates.protocol import Update, UpdateContext


class DriftModule(L.LightningModule):
    """On-policy fine-tuning of a policy on rewards, with DRIFT's three levers (arXiv 2601.12401).

    Args:
        sampling: samples the groups; of its policy only the `network` enters the module tree.
        scoring: rewards and embeddings of their images.
        method: from scores to advantages.
        update: from advantages to gradients.
        optimizer: from gradients to parameters.
    """

    def __init__(
        self, sampling: GroupSampling, scoring: GroupScoring, method: Method, update: Update, optimizer: OptimizerPlan
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.strict_loading = False  # checkpoints hold the trainable weights only
        self.sample, self.score, self.method, self.update, self.optimizer = sampling, scoring, method, update, optimizer
        self.policy, self.encode_prompts = sampling.policy, sampling.encode
        self.network, decay = self.policy.network, optimizer.ema_decay
        self.average = ParameterAverage(self.policy.trainable_parameters(), decay) if decay > 0 else None
        self.register_buffer("base_group_std", torch.tensor(torch.nan))

    def training_step(self, batch: PromptBatch, batch_idx: int) -> dict[str, Any]:
        """Sample, score, select, shape, advantage, update: DRIFT's iteration."""
        report, num_steps = IterationReport(), self.sample.plan.steps
        with self.score.calls(batch.prompts) as judging:
            condition, trajectory = self.sample(batch, self.device, judging.take)
            report.lap("rollout")
            scores = self.score(trajectory, batch.prompts, judging)
        report.lap("judges")
        reward_PG = self.method.effective_reward(scores)
        kept_PG = self.method.select(reward_PG)
        bonus_PG = self.method.bonus(scores, trajectory.steps_K, num_steps)
        statistics = gather_statistics(reward_PG, kept_PG, self.update.updates, self.device)
        spread = self.reward_spread(statistics)
        advantage_PG = self.method.advantage(scores, reward_PG, kept_PG, bonus_PG, spread)
        divergence_KPG = self.method.divergence(scores, trajectory.steps_K, num_steps)
        key, samples = self.sample.key(batch), batch.sample_indices(self.sample.group_size)
        experience = Experience(trajectory, condition, kept_PG, advantage_PG, divergence_KPG, key, samples)
        self.update_policy(batch.iteration, experience, statistics.counts_U, report)
        report.lap("update")
        describe_iteration(report, scores, bonus_PG, experience)
        metrics = self.publish(report, batch.iteration)
        self.trainer.datamodule.iteration = batch.iteration + 1
        return {"images_B3HW": trajectory.images_B3HW, "batch": batch, "metrics": metrics}

    def reward_spread(self, statistics: IterationStatistics) -> RewardSpread:
        """Spreads that advantages are divided by; the first iteration's groups are the base model's."""
        if self.base_group_std.isnan():
            self.base_group_std.fill_(statistics.median_group_std)
        return RewardSpread(statistics.batch_std, float(self.base_group_std))

    def update_policy(self, iteration: int, experience: Experience, counts_U: Tensor, report: IterationReport) -> None:
        """Optimiser steps on an iteration's experience."""
        optimizer = self.optimizers()
        self.optimizer.warm_up(optimizer, iteration)
        optimizer.zero_grad()
        sampler = self.sample.sampler(self.device)
        for _ in self.update.run(UpdateContext(self, self.policy, sampler, experience, counts_U, report)):
            report.add("policy/grad_norm", self.optimizer.clip(self.parameters(), iteration))
            optimizer.step()
            optimizer.zero_grad()
            if self.average is not None:
                self.average.update()

    def publish(self, report: IterationReport, iteration: int) -> dict[str, float]:
        """Logs the iteration's means over all processes, and returns them."""
        metrics, seconds = report.reduce(self.device), report.seconds
        total = sum(seconds.values())
        images = self.sample.group_size * self.trainer.datamodule.per_iteration
        metrics |= {f"time/{name}_s": value for name, value in seconds.items()}
        metrics |= {"time/images_per_s": images / total, "iteration": float(iteration + 1)}
        self.log_dict(metrics, batch_size=1)
        return metrics

    def evaluated_weights(self) -> AbstractContextManager[None]:
        """Within it the network holds the weights that are evaluated and exported: the average, if there is one."""
        return nullcontext() if self.average is None else self.average.swapped_in()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer.create(parameter for _, parameter in self.policy.trainable_parameters())

    def on_fit_start(self) -> None:
        """Moves what is not in the module tree."""
        self.policy.to(self.device)
        self.score.to(self.device)
        if self.average is not None:
            self.average.to(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps what trains and the one measured number; the frozen model is where it was loaded from."""
        trainable = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        kept = trainable | {"base_group_std"}
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: value for name, value in state.items() if name in kept}
        checkpoint["average"] = None if self.average is None else self.average.state_dict()
        positions = [place for place, (name, _) in enumerate(self.named_parameters()) if name in trainable]
        for optimizer_state in checkpoint["optimizer_states"]:
            key_by_position(optimizer_state, positions)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.average is not None and checkpoint["average"] is not None:
            self.average.load_state_dict(checkpoint["average"])

    def boundary_state(self) -> dict[str, Any]:
        """What changes in an iteration besides weights and optimiser; to be copied by who keeps it."""
        average = None if self.average is None else self.average.state_dict()
        return {"average": average, "base_group_std": self.base_group_std}

    def load_boundary_state(self, state: dict[str, Any]) -> None:
        self.base_group_std.copy_(state["base_group_std"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
