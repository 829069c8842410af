"""The LightningModule: `training_step` is one iteration of DRIFT, as we read the paper.

It samples a group of images per prompt, scores them with rewards, selects which images to train on, adds the diversity
bonus, turns rewards and bonus into advantages, and updates the policy on them. Everything else here is what Lightning
asks for: the optimizer, devices, checkpoints.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning as L
import torch
from torch import Tensor

from drift_pl.core.prompt_batch import PromptBatch
from drift_pl.incentive.method import Method
from drift_pl.policies.protocol import Offloadable, Shardable
from drift_pl.policies.sharding import collected, is_sharded
from drift_pl.sampling.groups import GroupSampling
from drift_pl.training.checkpoint_faults import optimizer_entries
from drift_pl.training.checkpointing import key_by_position
from drift_pl.training.description import describe_iteration
from drift_pl.training.ema import OldPolicy, ParameterAverage
from drift_pl.training.experience import Experience
from drift_pl.training.optimizer import OptimizerPlan
from drift_pl.training.parallel import IterationStatistics, gather_statistics, of_groups
from drift_pl.training.precision import ScaledPrecision
from drift_pl.training.reporting import IterationReport, observe
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
        self.network = self.policy.network
        self.average = optimizer.average(self.policy.trainable_parameters())
        self.old_policy = self._make_old_policy()
        self.register_buffer("base_group_std", torch.full(scoring.per_task, torch.nan))
        if method.shaping is not None and method.target is not None:
            self.register_buffer("base_diversity", torch.tensor(torch.nan))
            self.register_buffer("shaping_weight", torch.tensor(method.shaping.weight))

    def on_train_batch_start(self, batch: PromptBatch, batch_idx: int) -> None:
        """Iteration i is logged at step i - 1: Lightning's own counter may have seen an iteration that broke."""
        self.trainer.fit_loop.epoch_loop._batches_that_stepped = batch.iteration

    def training_step(self, batch: PromptBatch, batch_idx: int) -> dict[str, Any]:
        """One iteration: sample, score, select, shape, advantage, update."""
        report = IterationReport()
        with self.score.calls(batch) as calls:
            with self.sampling_policy():
                condition, trajectory = self.sample(batch, self.device, calls.take)
            if isinstance(self.policy, Offloadable):
                self.policy.rest()
            report.lap("rollout")
            scores = self.score(trajectory, batch, calls)
        report.lap("judges")
        reward_PG = self.method.effective_reward(scores)
        kept_PG = self.method.selection(reward_PG)
        statistics = gather_statistics(scores, reward_PG, kept_PG, self.update.updates, self.device)
        self.score.check(statistics.scored_N)
        bonus_PG = self.method.bonus(scores, trajectory, self.adjusted_weight(statistics, report))
        spread = (statistics.batch_std, of_groups(self.base_spread(statistics), scores.tasks))
        advantage_PG = self.method.advantage(scores, reward_PG, kept_PG, bonus_PG, *spread)
        divergence_KPG = self.method.divergence(scores, trajectory)
        finite = trajectory.without_nan()
        experience = Experience(batch, finite, condition, kept_PG, advantage_PG, divergence_KPG)
        self.update_policy(experience, statistics.counts_U, report)
        report.lap("update")
        shaping = (bonus_PG, self.method.potential(scores))
        describe_iteration(report, scores, reward_PG, *shaping, experience, trajectory.final_BCHW)
        observe(self.trainer.callbacks, report, scores, trajectory.images_B3HW, batch)
        self.trainer.datamodule.iteration = batch.iteration + 1
        return {"images_B3HW": trajectory.images_B3HW, "batch": batch, "metrics": self.publish(report)}

    def base_spread(self, statistics: IterationStatistics) -> Tensor:
        """Median standard deviation of a group's rewards under the base model, measured in the first iteration.

        Where prompts name their rewards: of each task, measured when the first of its groups comes.
        """
        known = ~self.base_group_std.isnan()
        measured = statistics.median_group_std.to(self.base_group_std)
        self.base_group_std.copy_(torch.where(known, self.base_group_std, measured))
        return self.base_group_std

    def adjusted_weight(self, statistics: IterationStatistics, report: IterationReport) -> float | None:
        """The weight of the bonus in this iteration, the same on all processes; None where it is fixed."""
        target = self.method.target
        if target is None or "shaping_weight" not in self._buffers:
            return None
        if self.base_diversity.isnan():  # the first iteration's images are the base model's
            self.base_diversity.fill_(statistics.diversity)
        base = float(self.base_diversity)
        self.shaping_weight.fill_(target.adjusted(float(self.shaping_weight), statistics.diversity, base))
        report.add("shaping/weight", self.shaping_weight)
        report.add("shaping/share_of_base", torch.tensor(statistics.diversity) / base)
        return float(self.shaping_weight)

    @torch.enable_grad()  # whatever a callback, or an imported module, has switched off
    def update_policy(self, experience: Experience, counts_U: Tensor, report: IterationReport) -> None:
        """The optimizer steps of an iteration."""
        optimizer, iteration = self.optimizers(), experience.batch.iteration
        self.optimizer.warm_up(optimizer, iteration)
        optimizer.zero_grad()
        inputs = (self.policy, self.sample.sampler(self.device), experience, counts_U, report, self.old_policy)
        steps, scaled = 0, self._scaled
        for _ in self.update.run(UpdateContext(self, *inputs)):
            norm = self.optimizer.clip(optimizer.optimizer, iteration, scaled)
            report.add("policy/grad_norm", norm)
            optimizer.step()
            optimizer.zero_grad()
            if scaled is not None:
                report.add("policy/skipped_steps", (~norm.isfinite()).double())
                if not norm.isfinite():
                    continue
            steps += 1
            if self.average is not None:
                self.average.update()
        if self.old_policy is not None:
            self.old_policy.end_iteration(steps)

    @property
    def _scaled(self) -> ScaledPrecision | None:
        """How the loss is scaled, where it is."""
        plugin = self.trainer.precision_plugin
        return plugin if isinstance(plugin, ScaledPrecision) else None

    def publish(self, report: IterationReport) -> dict[str, float]:
        """Logs the iteration's means over all processes, and returns them."""
        metrics, data = report.reduce(self.device), self.trainer.datamodule
        metrics |= {f"time/{name}_s": value for name, value in report.seconds.items()}
        metrics["time/images_per_s"] = data.group_size * data.per_iteration / sum(report.seconds.values())
        metrics["iteration"] = float(data.iteration)
        self.log_dict(metrics, batch_size=1)
        return metrics

    def sampling_policy(self) -> AbstractContextManager[None]:
        """Context in which the network holds the weights that sample: those of an old policy, if it samples."""
        old = self.old_policy
        return nullcontext() if old is None or not old.lag.samples else old.swapped_in()

    def _make_old_policy(self) -> OldPolicy | None:
        lag = getattr(self.update, "lag", None)  # an update of another package may lack it
        return None if lag is None else OldPolicy(self.policy.trainable_parameters(), lag)

    def evaluated_weights(self) -> AbstractContextManager[None]:
        """Context in which the network holds the weights that are evaluated and exported: the average, if any."""
        return nullcontext() if self.average is None else self.average.swapped_in()

    def configure_model(self) -> None:
        """Shards the network, under `trainer.strategy=fsdp`; only then are its weights read."""
        if self.device_mesh is not None and not is_sharded(self.network):
            assert isinstance(self.policy, Shardable)
            self.policy.shard(self.device_mesh["data_parallel"])
            self.average = self.optimizer.average(self.policy.trainable_parameters())
            self.old_policy = self._make_old_policy()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = (parameter for _, parameter in self.policy.trainable_parameters())
        return self.optimizer.create(trained, scaled=self._scaled is not None)

    def on_fit_start(self) -> None:
        """Moves the parts outside the module tree."""
        self.policy.to(self.device)
        self.score.to(self.device)
        for weights in (self.average, self.old_policy):
            if weights is not None:
                weights.to(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Stores the trainable weights and own buffers; frozen weights are loaded from their source again."""
        trainable = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        kept = trainable | {name for name, _ in self.named_buffers(recurse=False)}
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: value for name, value in state.items() if name in kept}
        for part, weights in self._kept_weights().items():
            checkpoint[part] = None if weights is None else collected(weights.state_dict())
        positions = [place for place, (name, _) in enumerate(self.named_parameters()) if name in trainable]
        for optimizer_state in checkpoint["optimizer_states"]:
            key_by_position(optimizer_state, positions)
        checkpoint["optimizer_entries"] = optimizer_entries(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for part, weights in self._kept_weights().items():
            if weights is not None and checkpoint.get(part) is not None:
                weights.load_state_dict(checkpoint[part])

    def boundary_state(self) -> dict[str, Any]:
        """The state that an iteration changes besides weights and optimizer; not a copy."""
        kept = {part: None if each is None else each.state_dict() for part, each in self._kept_weights().items()}
        buffers, plugin = dict(self.named_buffers(recurse=False)), self.trainer.precision_plugin
        return {**kept, "buffers": buffers, "precision": plugin.state_dict()}

    def load_boundary_state(self, state: dict[str, Any]) -> None:
        for name, value in self.named_buffers(recurse=False):
            value.copy_(state["buffers"][name])
        self.trainer.precision_plugin.load_state_dict(state["precision"])
        for part, weights in self._kept_weights().items():
            if weights is not None:
                weights.load_state_dict(state[part])

    def _kept_weights(self) -> dict[str, ParameterAverage | None]:
        """Weights beside the trained ones, by their parts of a checkpoint."""
        return {"average": self.average, "old_policy": self.old_policy}
