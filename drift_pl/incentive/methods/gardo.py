"""GARDO (arXiv 2512.24138): more weight for distinct images, and a KL term on images of uncertain reward only.

Distinctness: with d_i = min_{j != i} (1 - cos(e_i, e_j)), a positive advantage becomes A_i d_i; the others stay.
Gate: the divergence applies to the images of highest uncertainty only,

    U_i = w(main)_i - mean_n w(aux_n)_i,        w(s)_i = share of the other images of the batch that s_i beats,

where main is the trained reward and aux_n are rewards that reveal its hacking. The batch is the images of all groups of
the iteration, on all processes. The authors' code differs from their paper twice, and we follow the paper: the code
divides d_i by its mean (`normalise`), where a group of copies gives 0 / 0; and it subtracts descending ranks, which
flips the sign of U_i. Their reset of the reference is not implemented. They do not divide advantages by a standard
deviation: `objective.advantage_std=none`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from drift_pl.core.errors import UserError
from drift_pl.core.processes import gather, rank_and_world, world_size
from drift_pl.core.types import Scores
from drift_pl.functional.advantage import masked_mean
from drift_pl.functional.diversity import distance_to_nearest
from drift_pl.incentive.methods.protocol import RewardMethod, check_argument

# A mean distance below this is rounding error: no image is more distinct than another.
MIN_MEAN_DISTANCE = 1e-6


@dataclass(frozen=True)
class Gardo(RewardMethod):
    """Advantage shaping by the nearest neighbour, and a divergence gated by uncertainty.

    Attributes:
        auxiliary: names of the auxiliary rewards; give them weight 0 in `rewards` unless they are trained on as well.
            Without any, U_i is w(main) alone.
        gated_share: share of the batch's images that keep the divergence, in [0, 1]: rounded to whole images,
            at least one unless it is 0. It acts with `objective.kl_weight` above 0.
        normalise: divide d_i by the group's mean, so that positive advantages keep their scale. Cosine distances to
            the nearest image are small: without, negative advantages outweigh positive ones.
    """

    auxiliary: Sequence[str] = ()
    gated_share: float = 0.1
    normalise: bool = False

    needs_embeddings = True

    def __post_init__(self) -> None:
        check_argument("gated_share", self.gated_share, 0, 1)
        if isinstance(self.auxiliary, str):
            raise UserError(f"incentive.args.auxiliary={self.auxiliary}: give a list, [{self.auxiliary}]")

    def advantage(self, advantage_PG: Tensor, scores: Scores) -> Tensor:
        """A_i d_i where A_i > 0, float32 [P, G]."""
        return torch.where(advantage_PG > 0, advantage_PG * self.distinctness(scores), advantage_PG)

    def distinctness(self, scores: Scores) -> Tensor:
        """d_i, float32 [P, G]; the others' mean for an image that is not valid, and 1 where fewer than two are."""
        assert scores.embedding_PGD is not None
        valid_PG = scores.valid_PG
        nearest_PG = distance_to_nearest(scores.embedding_PGD, valid_PG).clamp(min=0)
        mean_P1 = masked_mean(nearest_PG, valid_PG)
        if self.normalise:
            nearest_PG = torch.where(mean_P1 > MIN_MEAN_DISTANCE, nearest_PG / mean_P1, 1)
            mean_P1 = torch.ones_like(mean_P1)
        nearest_PG = torch.where(valid_PG, nearest_PG, mean_P1)
        return torch.where(valid_PG.sum(1, keepdim=True) >= 2, nearest_PG, 1)

    def divergence(self, scores: Scores, steps_K: tuple[int, ...], num_steps: int) -> Tensor:
        """1 for the most uncertain images and 0 for the others, at every step: float32 [K, P, G].

        Of equally uncertain ones those of more reward. Processes with groups of their own exchange what U_i is made of.

        Raises:
            UserError: a name in `auxiliary` is not a reward.
        """
        self.check_rewards([*scores.by_reward])
        alone = scores.of_all or world_size() == 1
        everywhere, own = (scores, slice(None)) if alone else self._of_all_processes(scores)
        uncertainty_PG = self.uncertainty(everywhere)
        known_B, reward_B = uncertainty_PG.isfinite().flatten(), everywhere.reward_PG.flatten()
        count = round(self.gated_share * int(known_B.sum()))
        count = max(count, 1) if self.gated_share > 0 else 0
        by_reward_B = reward_B.argsort(descending=True, stable=True)
        sorted_B = torch.where(known_B, uncertainty_PG.flatten(), -torch.inf)[by_reward_B]
        ranked_B = by_reward_B[sorted_B.argsort(descending=True, stable=True)]
        gate_B = torch.zeros_like(reward_B)
        gate_B[ranked_B[:count]] = 1
        return torch.where(known_B, gate_B, 0).view_as(uncertainty_PG)[own].repeat(len(steps_K), 1, 1)

    def _of_all_processes(self, scores: Scores) -> tuple[Scores, slice]:
        """What `uncertainty` needs of the groups of all processes, and where this one's are among them."""
        names = list(self.auxiliary)
        of_rewards_NPG = torch.stack([scores.reward_PG, *(scores.by_reward[name] for name in names)])
        main_PG, *others = gather(of_rewards_NPG).transpose(0, 1).flatten(1, 2)
        tasks, size, rank = scores.tasks, len(scores.reward_PG), rank_and_world()[0]
        everywhere = replace(
            scores,
            reward_PG=main_PG,
            by_reward=dict(zip(names, others, strict=True)),
            tasks=None if tasks is None else replace(tasks, task_P=gather(tasks.task_P).flatten()),
        )
        return everywhere, slice(rank * size, (rank + 1) * size)

    def uncertainty(self, scores: Scores) -> Tensor:
        """U_i in [-1, 1], float32 [P, G], over all images of the batch; NaN where the reward is.

        An auxiliary reward that could not score an image is left out for that image.
        """
        task_P = None if scores.tasks is None else scores.tasks.task_P
        main_PG = win_rate(scores.reward_PG, task_P)
        if not self.auxiliary:
            return main_PG
        auxiliary_NPG = torch.stack([win_rate(scores.by_reward[name], task_P) for name in self.auxiliary])
        return main_PG - auxiliary_NPG.nanmean(0).nan_to_num(0)

    def check_rewards(self, names: Sequence[str]) -> None:
        missing = [name for name in self.auxiliary if name not in names]
        if missing:
            raise UserError(
                f"incentive.args.auxiliary={list(self.auxiliary)}: there is no reward {missing[0]!r}; "
                f"there are {', '.join(names)}"
            )


def win_rate(score_PG: Tensor, task_P: Tensor | None = None) -> Tensor:
    """Share of all other images, whatever their group, that each image's score beats; a tie is half a win.

    Args:
        task_P: tasks of the groups: images are compared with those of the same one; None: with all.

    Returns:
        float32 [P, G] in [0, 1]; NaN where the score is not finite.
    """
    score_B = score_PG.flatten()
    finite_B = score_B.isfinite()
    # An image ties with itself: half a win too many for everyone.
    win_BB = (score_B[:, None] > score_B).float() + 0.5 * (score_B[:, None] == score_B)
    rivals_BB = finite_B.expand_as(win_BB)
    if task_P is not None:
        task_B = task_P.repeat_interleave(score_PG.shape[1])
        rivals_BB = rivals_BB & (task_B[:, None] == task_B)
    win_B = torch.where(rivals_BB, win_BB, 0).sum(1) - 0.5
    return torch.where(finite_B, win_B / (rivals_BB.sum(1) - 1).clamp(min=1), torch.nan).view_as(score_PG)
