"""The LightningModule: one `training_step` is one iteration of DRIFT."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning as L
import torch
from torch import Tensor

from drift_pl.core.types import PromptBatch, Scores, Trajectory
from drift_pl.functional.advantage import AdvantageRule, global_std, masked_std, reward_moments
from drift_pl.functional.normalisation import normalise_per_reward
from drift_pl.functional.schedule import warmup_factor
from drift_pl.incentive import DiversityShaping, PromptingRule, SelectionRule
from drift_pl.incentive.methods.protocol import Rival
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.policies.protocol import Policy
from drift_pl.sampling.groups import GroupSampling, RolloutPlan
from drift_pl.sampling.prompts import PromptEncoder
from drift_pl.scoring.protocol import Encoder, move
from drift_pl.scoring.rewards import Judge
from drift_pl.training.checkpointing import key_by_position
from drift_pl.training.description import describe_iteration
from drift_pl.training.ema import ParameterAverage
from drift_pl.training.experience import Experience, clip_gradients
from drift_pl.training.parallel import gather_vectors
from drift_pl.training.plans import JudgingPlan, OptimizerPlan, Shared
from drift_pl.training.reporting import IterationReport
from drift_pl.training.scoring import GroupScoring
from drift_pl.training.updates.clipped import ClippedUpdate
from drift_pl.training.updates.forward import ForwardUpdate

Categories = Callable[[Tensor, Sequence[str]], Tensor]

# The smallest divisor of a reward, as a share of the base model's median group spread.
STD_FLOOR_SHARE = 0.01


class DriftModule(L.LightningModule):
    """On-policy fine-tuning of a policy on judges, with DRIFT's three levers (arXiv 2601.12401).

    Args:
        policy: the generator; only its `network` enters the module tree.
        judges: the rewards, with weights.
        group_size: images per prompt.
        selection, prompting, shaping: the levers; `KeepAll`, `NoVariation` and None switch them off.
        stepwise: give every trained step a shaping bonus of its own.
        rival: another method's way with rewards and advantages; `Rival()` itself changes nothing.
        encoder: embeds images for `shaping` or `rival`; None if neither needs it.
        categories: what images show, for a rival that counts; None if it does not.
        judging: how judges are called.
        advantage: from rewards to advantages.
        per_judge: normalise each judge by its own spread before they are summed (GDPO).
        update: the loss and its passes.
        rollout: how training samples.
        optimizer: learning rate and its kin.
        ema_decay: decay of the weight average; 0 for none.
        seed: of everything that training draws.
    """

    def __init__(
        self,
        policy: Policy,
        judges: Sequence[Judge],
        group_size: int,
        selection: SelectionRule,
        prompting: PromptingRule,
        shaping: DiversityShaping | None,
        stepwise: bool,
        rival: Rival,
        encoder: Encoder | None,
        categories: Categories | None,
        judging: JudgingPlan,
        advantage: AdvantageRule,
        per_judge: bool,
        update: ClippedUpdate | ForwardUpdate,
        rollout: RolloutPlan,
        optimizer: OptimizerPlan,
        ema_decay: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.strict_loading = False  # checkpoints hold the trainable weights only
        self.policy, self.judges, self.group_size = policy, tuple(judges), group_size
        self.network = policy.network
        self.selection, self.shaping, self.rival = selection, shaping, rival
        self.advantage, self.per_judge, self.update, self.optimizer = advantage, per_judge, update, optimizer
        self.encode_prompts = PromptEncoder(policy)
        keep = update.keep | ({"predictions"} if stepwise and shaping is not None else set())
        self.sample = GroupSampling(
            policy, self.encode_prompts, prompting, rollout, group_size, update.micro_batch, seed, keep
        )
        self.score = GroupScoring(self.judges, group_size, encoder, policy.decode, categories, judging)
        self.average = ParameterAverage(policy.trainable_parameters(), ema_decay) if ema_decay > 0 else None
        self.register_buffer("base_group_std", torch.tensor(torch.nan))
        self.finished = False  # set by whoever ends the run for good: its length, or the alarm

    def training_step(self, batch: PromptBatch, batch_idx: int) -> dict[str, Any]:
        """Sample, score, select, shape, advantage, update: DRIFT's iteration."""
        report, started = IterationReport(), time.perf_counter()
        with self.score.judging(batch.prompts) as judging:
            condition, trajectory = self.sample(batch, self.device, judging.take)
            sampled = time.perf_counter()
            scores = self.score(trajectory, batch.prompts, judging)
        scored = time.perf_counter()
        reward_PG = self.credit(scores)
        kept_PG = self.selection(reward_PG)
        bonus_PG = self.shape(scores, trajectory.steps_K)
        shared = self.share(reward_PG, kept_PG)
        std_floor = self.std_floor(shared.median_group_std)
        advantage_PG = self.advantage(reward_PG, kept_PG, bonus_PG, shared.batch_std, std_floor)
        advantage_PG = self.rival.advantage(advantage_PG, scores)
        experience = self.experience(batch, trajectory, condition, scores, kept_PG, advantage_PG)
        self.update_policy(batch.iteration, experience, shared.counts_U, report)
        times = {"rollout": sampled - started, "judges": scored - sampled, "update": time.perf_counter() - scored}
        describe_iteration(report, scores, kept_PG, bonus_PG, advantage_PG, trajectory)
        metrics = self.publish(report, batch.iteration, times)
        self.trainer.datamodule.iteration = batch.iteration + 1
        return {"images_B3HW": trajectory.images_B3HW, "batch": batch, "metrics": metrics}

    def credit(self, scores: Scores) -> Tensor:
        """The rewards that selection and advantages are made of: the judges' sum, unless a method changes it."""
        if self.per_judge:
            weights = {judge.name: judge.weight for judge in self.judges}
            return normalise_per_reward(scores.by_judge, weights, scores.reward_PG.isfinite())
        return self.rival.reward(scores)

    def shape(self, scores: Scores, steps_K: tuple[int, ...]) -> Tensor | None:
        """The shaping bonus, [P, G] or [K, P, G], or None with the lever off."""
        if self.shaping is None or scores.embedding_PGD is None:
            return None
        num_steps = self.sample.plan.steps
        if scores.predicted_embedding_KPGD is None:
            return self.shaping(scores.embedding_PGD, scores.valid_PG, num_steps, scores.reward_PG)
        return self.shaping.stepwise(
            scores.embedding_PGD,
            scores.predicted_embedding_KPGD,
            scores.valid_PG,
            steps_K,
            num_steps,
            scores.reward_PG,
        )

    def experience(
        self,
        batch: PromptBatch,
        trajectory: Trajectory,
        condition: VariedCondition,
        scores: Scores,
        kept_PG: Tensor,
        advantage_PG: Tensor,
    ) -> Experience:
        """What the update learns from; images of a group with fewer than two kept ones do not count."""
        steps_K = trajectory.steps_K
        counted_PG = kept_PG & (kept_PG.sum(1, keepdim=True) >= 2)
        divergence_KPG = self.rival.divergence(scores, steps_K, self.sample.plan.steps)
        return Experience(
            trajectory,
            condition,
            advantage_PG.expand(len(steps_K), *kept_PG.shape).flatten(1),
            counted_PG.flatten(),
            (self.sample.seed, batch.iteration),
            batch.sample_indices(self.group_size),
            None if divergence_KPG is None else divergence_KPG.flatten(1),
        )

    def share(self, reward_PG: Tensor, kept_PG: Tensor) -> Shared:
        """The one exchange before the update: moments of the rewards, spreads of the groups, images that count."""
        counted_PG = kept_PG & (kept_PG.sum(1, keepdim=True) >= 2)
        counts_U = torch.stack([part.sum() for part in counted_PG.chunk(self.update.updates)]).double().cpu()
        std_P = masked_std(reward_PG, reward_PG.isfinite()).flatten().double().cpu()
        gathered = gather_vectors(torch.cat([reward_moments(reward_PG), counts_U, std_P]), self.device)
        end = 3 + self.update.updates
        return Shared(
            batch_std=global_std(gathered[:, :3].sum(0)).to(self.device),
            median_group_std=float(gathered[:, end:].flatten().quantile(0.5)),
            counts_U=gathered[:, 3:end].sum(0),
        )

    def std_floor(self, median_group_std: float) -> float:
        """Smallest divisor of a reward: 1 % of the base model's median group spread, of the first iteration."""
        if self.base_group_std.isnan():
            self.base_group_std.fill_(median_group_std)
        return STD_FLOOR_SHARE * float(self.base_group_std)

    def update_policy(self, iteration: int, experience: Experience, counts_U: Tensor, report: IterationReport) -> None:
        """Optimiser steps on what the rollout showed."""
        optimizer = self.optimizers()
        for group in optimizer.param_groups:
            group["lr"] = self.optimizer.learning_rate * warmup_factor(iteration, self.optimizer.warmup)
        optimizer.zero_grad()
        for _ in self.update.run(self, self.policy, self.sample.sampler(self.device), experience, counts_U, report):
            norm = clip_gradients(self, self.update.max_grad_norm, iteration)
            report.add("policy/grad_norm", norm)
            optimizer.step()
            optimizer.zero_grad()
            if self.average is not None:
                self.average.update()

    def publish(self, report: IterationReport, iteration: int, seconds: dict[str, float]) -> dict[str, float]:
        """Logs the iteration's means over all processes, and returns them."""
        metrics = report.reduce(self.device)
        total = sum(seconds.values())
        images = self.group_size * self.trainer.datamodule.per_iteration
        metrics |= {f"time/{name}_s": value for name, value in seconds.items()}
        metrics |= {"time/images_per_s": images / total, "iteration": float(iteration + 1)}
        self.log_dict(metrics, batch_size=1)
        return metrics

    def evaluated_weights(self) -> AbstractContextManager[None]:
        """Within it the network holds the weights that are evaluated and exported: the average, if there is one."""
        return nullcontext() if self.average is None else self.average.swapped_in()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        parameters = [parameter for _, parameter in self.policy.trainable_parameters()]
        plan = self.optimizer
        return torch.optim.AdamW(parameters, lr=plan.learning_rate, weight_decay=plan.weight_decay)

    def on_fit_start(self) -> None:
        """Moves what is not in the module tree."""
        self.policy.to(self.device)
        for part in (*(judge.reward for judge in self.judges), self.score.encoder, self.score.categories):
            move(part, self.device)
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
