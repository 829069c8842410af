"""The method: what an iteration's scores are worth to the update, from effective rewards to advantages."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from drift_pl.core.types import Scores
from drift_pl.functional.advantage import AdvantageRule
from drift_pl.incentive import SelectionRule
from drift_pl.incentive.methods.protocol import RewardMethod
from drift_pl.incentive.selection import KeepAll
from drift_pl.incentive.shaping import DiversityShaping

# The smallest divisor of a reward, as a share of the base model's median group spread; `AdvantageRule` adds an absolute
# one.
STD_FLOOR_SHARE = 0.01


@dataclass(frozen=True)
class RewardSpread:
    """Standard deviations of the effective rewards over all processes, each >= 0 and in the unit of the rewards.

    Attributes:
        batch: of all images of the iteration, 0-dimensional.
        base_group: median over groups, of the run's first iteration.
    """

    batch: Tensor
    base_group: float


@dataclass(frozen=True)
class Method:
    """DRIFT's levers on scored images, or another method in place of the shaping.

    Attributes:
        selection: lever 1; `KeepAll` switches it off.
        shaping: lever 3; None switches it off. (Lever 2, prompting, acts where images are sampled.)
        advantage_rule: from rewards to advantages.
        reward_method: what another method makes of rewards, advantages and the divergence; the base class changes none.
    """

    selection: SelectionRule = KeepAll()
    shaping: DiversityShaping | None = None
    advantage_rule: AdvantageRule = AdvantageRule()
    reward_method: RewardMethod = field(default_factory=RewardMethod)

    @property
    def keep(self) -> frozenset[str]:
        """What it needs of a rollout besides, see `rollout`."""
        return frozenset({"predictions"} if self.shaping is not None and self.shaping.form == "per_step" else ())

    def effective_reward(self, scores: Scores) -> Tensor:
        """The reward used for selection and advantages, float32 [P, G]; NaN for images that have none."""
        return self.reward_method.reward(scores)

    def select(self, reward_PG: Tensor) -> Tensor:
        """bool [P, G]: which images are trained on."""
        return self.selection(reward_PG)

    def bonus(self, scores: Scores, steps_K: tuple[int, ...], num_steps: int) -> Tensor | None:
        """The shaping bonus, float32 [P, G], or [K, P, G] of each trained step; None with the lever off.

        NaN for an image without an embedding (or, per step, without one of what was predicted): it has no bonus, which
        is not a bonus of 0, because the others' mean is subtracted.

        Args:
            steps_K: the trained steps' positions in the sampler's grid, from 0 at pure noise.
            num_steps: steps of the whole grid.
        """
        if self.shaping is None or scores.embedding_PGD is None:
            return None
        embedding_PGD, valid_PG, reward_PG = scores.embedding_PGD, scores.valid_PG, scores.reward_PG
        known_PG = embedding_PGD.isfinite().all(-1)
        if self.shaping.form == "terminal":
            return torch.where(known_PG, self.shaping(embedding_PGD, valid_PG, num_steps, reward_PG), torch.nan)
        assert scores.predicted_embedding_KPGD is not None
        predicted_KPGD = scores.predicted_embedding_KPGD
        start_K = torch.tensor([step == 0 for step in steps_K], device=known_PG.device)  # has no potential
        known_KPG = known_PG & (predicted_KPGD.isfinite().all(-1) | start_K[:, None, None])
        bonus_KPG = self.shaping.stepwise(embedding_PGD, predicted_KPGD, valid_PG, steps_K, num_steps, reward_PG)
        return torch.where(known_KPG, bonus_KPG, torch.nan)

    def advantage(
        self, scores: Scores, reward_PG: Tensor, kept_PG: Tensor, bonus_PG: Tensor | None, spread: RewardSpread
    ) -> Tensor:
        """Clipped advantages, float32 [P, G], or [K, P, G] if the bonus differs from step to step.

        Args:
            reward_PG: effective rewards.
            kept_PG: bool, the images that are trained on.
            bonus_PG: see `bonus`.
            spread: of the effective rewards; a group's spread is taken to be 1 % of the base model's at least.
        """
        std_floor = STD_FLOOR_SHARE * spread.base_group
        advantage_PG = self.advantage_rule(reward_PG, kept_PG, bonus_PG, spread.batch, std_floor)
        return self.reward_method.advantage(advantage_PG, scores)

    def divergence(self, scores: Scores, steps_K: tuple[int, ...], num_steps: int) -> Tensor | None:
        """Factor of the divergence from the reference, see `RewardMethod.divergence`."""
        return self.reward_method.divergence(scores, steps_K, num_steps)
