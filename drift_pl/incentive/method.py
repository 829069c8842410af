"""The method: from the rewards of an iteration's images to their advantages."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from drift_pl.core.answers import of_shape
from drift_pl.core.errors import UserError
from drift_pl.core.types import Scores, Trajectory
from drift_pl.functional.advantage import AdvantageRule
from drift_pl.incentive.methods.protocol import RewardMethod
from drift_pl.incentive.selection import KeepAll, SelectionRule
from drift_pl.incentive.shaping import DiversityShaping
from drift_pl.incentive.target import WeightTarget

# The smallest divisor of a reward, as a share of the base model's median group spread; `AdvantageRule` adds an absolute
# one.
STD_FLOOR_SHARE = 0.01


@dataclass(frozen=True)
class Method:
    """DRIFT's levers on an iteration's rewards, or another method in place of the shaping.

    Attributes:
        selection: lever 1; `KeepAll` switches it off.
        shaping: lever 3; None switches it off. (Lever 2, prompting, acts where images are sampled.)
        advantage_rule: from rewards to advantages.
        reward_method: what another method makes of rewards, advantages and the divergence; the base class changes none.
        target: adjusts the weight of `shaping` from iteration to iteration; None: it is fixed.
    """

    selection: SelectionRule = KeepAll()
    shaping: DiversityShaping | None = None
    advantage_rule: AdvantageRule = AdvantageRule()
    reward_method: RewardMethod = field(default_factory=RewardMethod)
    target: WeightTarget | None = None

    @property
    def keep(self) -> frozenset[str]:
        """What the rollout stores in addition, see `rollout`."""
        return frozenset({"predictions"} if self.shaping is not None and self.shaping.form == "per_step" else ())

    def effective_reward(self, scores: Scores) -> Tensor:
        """The reward used for selection and advantages, float32 [P, G]; NaN for images that have none.

        Raises:
            UserError: the method gives none of the images that have a reward one, or no such tensor.
        """
        reward_PG = self._checked("reward", self.reward_method.reward(scores), scores.reward_PG.shape)
        scored = int(scores.reward_PG.isfinite().sum())
        if scored and not reward_PG.isfinite().any():
            name = type(self.reward_method).__name__
            raise UserError(f"incentive.method: {name}.reward gives none of {scored} images a finite reward")
        return reward_PG

    def bonus(self, scores: Scores, trajectory: Trajectory, weight: float | None = None) -> Tensor | None:
        """The shaping bonus, float32 [P, G], or [K, P, G] if each trained step has its own; None with the lever off.

        NaN for an image without an embedding (or, per step, without one of its prediction): it has no bonus, which is
        not a bonus of 0, because the others' mean is subtracted. A gate and a residual look at the effective rewards,
        which are what the bonus is added to.

        Args:
            weight: in place of the weight of `shaping`; None: that one.
        """
        if self.shaping is None or scores.embedding_PGD is None:
            return None
        shaping = self.shaping if weight is None else replace(self.shaping, weight=weight)
        embedding_PGD, valid_PG, reward_PG = scores.embedding_PGD, scores.valid_PG, self.effective_reward(scores)
        known_PG = embedding_PGD.isfinite().all(-1)
        if shaping.form == "terminal":
            bonus_PG = shaping(embedding_PGD, valid_PG, trajectory.num_steps, reward_PG)
            return torch.where(known_PG, bonus_PG, torch.nan)
        assert scores.predicted_embedding_KPGD is not None
        predicted_KPGD, grid = scores.predicted_embedding_KPGD, (trajectory.steps_K, trajectory.num_steps)
        bonus_KPG = shaping.stepwise(embedding_PGD, predicted_KPGD, valid_PG, *grid, reward_PG)
        start_K = torch.tensor([step == 0 for step in trajectory.steps_K], device=known_PG.device)  # has no potential
        known_KPG = known_PG & (predicted_KPGD.isfinite().all(-1) | start_K[:, None, None])
        return torch.where(known_KPG, bonus_KPG, torch.nan)

    def potential(self, scores: Scores) -> Tensor | None:
        """The diversity d_i that the bonus is made of, before gate, rescaling and weight, float32 [P, G].

        NaN for invalid images; None with the lever off.
        """
        if self.shaping is None or scores.embedding_PGD is None:
            return None
        diversity_PG = self.shaping.diversity(scores.embedding_PGD, scores.valid_PG)
        return torch.where(scores.valid_PG, diversity_PG, torch.nan)

    def advantage(
        self,
        scores: Scores,
        reward_PG: Tensor,
        kept_PG: Tensor,
        bonus_PG: Tensor | None,
        batch_std: Tensor,
        base_group_std: Tensor | float,
    ) -> Tensor:
        """Advantages, float32 [P, G], or [K, P, G] if the bonus differs from step to step.

        `advantage_rule` clips them before `reward_method` gets them, and the result is returned as it is: under GARDO,
        which multiplies the positive ones by the image's distinctness, they may exceed the clip.

        Args:
            reward_PG: effective rewards.
            kept_PG: bool, the images that are trained on.
            bonus_PG: see `bonus`.
            batch_std: standard deviation of the effective rewards of all images of the iteration, over all processes;
                0-dimensional, or [P, 1]: of those of the group's task.
            base_group_std: median over the groups of the run's first iteration, likewise; 1 % of it is the smallest
                divisor.
        """
        std_floor = STD_FLOOR_SHARE * torch.as_tensor(base_group_std, dtype=torch.float64)
        advantage_PG = self.advantage_rule(reward_PG, kept_PG, bonus_PG, batch_std, std_floor)
        return self._checked("advantage", self.reward_method.advantage(advantage_PG, scores), advantage_PG.shape)

    def divergence(self, scores: Scores, trajectory: Trajectory) -> Tensor | None:
        """Factor of the KL term, see `RewardMethod.divergence`."""
        steps_K = trajectory.steps_K or (0,)  # without trained steps: of the image
        divergence_KPG = self.reward_method.divergence(scores, steps_K, trajectory.num_steps)
        if divergence_KPG is None:
            return None
        return self._checked("divergence", divergence_KPG, (len(steps_K), *scores.reward_PG.shape))

    def _checked(self, what: str, value: object, shape: Sequence[int]) -> Tensor:
        """What a method, perhaps somebody's, has returned."""
        return of_shape(f"incentive.method: {type(self.reward_method).__name__}.{what}", value, shape)
