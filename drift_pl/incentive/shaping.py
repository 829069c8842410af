"""Lever 3, optimization: potential-based reward shaping with intra-group diversity (DRIFT, arXiv 2601.12401).

The potential Phi of a final image is its diversity d^ within its group, and 0 at the start of the rollout. The shaping
reward gamma Phi(s') - Phi(s) (Ng, Harada and Russell 1999), discounted and summed over T steps, telescopes to
gamma^T d^: a bonus on the return of each image.

The potential of the last state is not zero, so this is *not* the policy-invariant shaping of Ng et al.: it changes the
optimum, on purpose. With d_i the mean distance to the others and no
normalization, J the expected mean pairwise distance of a group of G independent images and l_i = log p(x_i):

    grad J = 2 E[ 1/G sum_i d_i grad l_i ],

because a pair's distance appears in the d of both images. Centred on the group, as in `group_advantages`, the
estimator 1/G sum_i (d_i - mean d) grad l_i has expectation (G - 2) / G * grad J / 2. So the bonus increases the
group's expected diversity, at a rate set by the group size. `incentive/potentials.py` has the other diversities.

Two options go further; neither is policy-invariant. A gate rewards diversity only where the reward is good (DRIVE's and
DIVER's condition on success, arXiv 2509.26209): the potential becomes 1[r_i >= quantile] d^_i, so that bad images get
no bonus for being different; the bonus then also raises the value of passing the gate. The per-step form gives each
step its own return-to-go, with the potential of the image predicted before that step; see `stepwise`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.functional.advantage import masked_mean
from drift_pl.incentive.potentials import POTENTIALS, reward_gate, stretch, without_reward


@dataclass(frozen=True)
class DiversityShaping:
    """The shaping bonus of a group.

    Attributes:
        weight: alpha >= 0. The reward part of an advantage is in standard deviations of the reward, so alpha = 1 makes
            a cosine distance of 1 worth one standard deviation.
        gamma: discount; gamma^T is a constant factor of the bonus.
        normalise: `raw`: d_i unchanged; `minmax`: the group's d scaled to [0, 1]; `centred`: d_i computed among the
            images that pass the gate, minus their mean. With a gate, the first two give passing itself a value (at d =
            0.5, half the weight); `centred` does not: it only redistributes reward among the images that pass.
            `residual`: `centred`, less its regression on the reward among these images, see `without_reward`.
        floor: smallest range that `minmax` scales to [0, 1], so that noise does not separate near-duplicates:
            clip((d - d_min) / max(d_max - d_min, floor), 0, 1). In units of the potential.
        potential: definition of d_i, relative to all valid images of the group unless `centred` or `residual`: `mean`
            distance to the others, distance to the `nearest` other, or leave-one-out gain in the `logdet` or `vendi`
            score. Two opposite modes maximize `mean` and have zero for each of the others; see
            `incentive/potentials.py`.
        gate: which images get the bonus: `none`, all; `median`, those whose reward is at or above the median of their
            group's finite rewards; `quantile`, at or above `gate_quantile`. The others get potential 0, and `minmax`
            scales over those that pass (DRIVE). Unscaled `vendi` may be negative, and thus below the others.
        gate_quantile: in [0, 1].
        form: `terminal`, one bonus for the final image (the call); `per_step`, one for each trained step (`stepwise`).
    """

    weight: float
    gamma: float = 1.0
    normalise: str = "raw"
    floor: float = 0.05
    potential: str = "mean"
    gate: str = "none"
    gate_quantile: float = 0.5
    form: str = "terminal"

    def __call__(
        self, embedding_PGD: Tensor, valid_PG: Tensor, num_steps: int, reward_PG: Tensor | None = None
    ) -> Tensor:
        """alpha gamma^T d^_i: the discounted sum of the shaping rewards of T = `num_steps` steps, float32 [P, G].

        Args:
            embedding_PGD: embeddings of the final images; normalized here.
            valid_PG: bool; invalid images get no bonus and do not count for others.
            reward_PG: rewards for the gate.

        Raises:
            ValueError: there is a gate, or what is left is the `residual`, and `reward_PG` is None.
        """
        return self.weight * self.gamma**num_steps * self.phi(embedding_PGD, valid_PG, reward_PG)

    def stepwise(
        self,
        embedding_PGD: Tensor,
        predicted_embedding_KPGD: Tensor,
        valid_PG: Tensor,
        steps_K: Sequence[int],
        num_steps: int,
        reward_PG: Tensor | None = None,
    ) -> Tensor:
        """Return-to-go of the shaping rewards from each trained step on, float32 [K, P, G].

        State t is the one before step t. With Phi_T of the final images, Phi_t of the clean images that the policy
        predicts in state t (within their group, by the same rules) and Phi_0 := 0, as in the terminal form,

            alpha sum_{u=t}^{T-1} gamma^{u-t} (gamma Phi_{u+1} - Phi_u) = alpha (gamma^{T-t} Phi_T - Phi_t).

        So a step is credited with the diversity that the rest of the trajectory adds to the prediction. Without a gate,
        Phi_t depends on states that step t does not change: it is a baseline, and for gamma = 1 the expected gradient
        is the terminal form's, with a different variance. With gamma < 1 later steps have more weight. Nothing here
        is policy-invariant, because Phi_T is not zero.

        Args:
            predicted_embedding_KPGD: embeddings of the images predicted before each trained step. Non-finite ones
                are left out of their group's Phi_t and get 0.
            steps_K: the trained steps' positions t, from 0.
            num_steps: T, of the whole trajectory.
            embedding_PGD, valid_PG, reward_PG: as for the terminal form; the gate looks at final rewards in each state.

        Raises:
            ValueError: there is a gate, and `reward_PG` is None; or the numbers of steps and of predictions differ.
        """
        final_PG = self.phi(embedding_PGD, valid_PG, reward_PG)
        bonuses = []
        for step, predicted_PGD in zip(steps_K, predicted_embedding_KPGD, strict=True):
            bonus_PG = self.gamma ** (num_steps - step) * final_PG
            if step > 0:
                seen_PG = valid_PG & predicted_PGD.isfinite().all(-1)
                bonus_PG = bonus_PG - self.phi(predicted_PGD, seen_PG, reward_PG)
            bonuses.append(self.weight * bonus_PG)
        return torch.stack(bonuses)

    def phi(self, embedding_PGD: Tensor, valid_PG: Tensor, reward_PG: Tensor | None = None) -> Tensor:
        """Potential of a state after the start: d^_i of each valid image that passes the gate, else 0, [P, G]."""
        passing_PG = self._passing(valid_PG, reward_PG)
        if self.normalise in ("centred", "residual"):
            diversity_PG = self.diversity(embedding_PGD, passing_PG)
            centred_PG = torch.where(passing_PG, diversity_PG - masked_mean(diversity_PG, passing_PG), 0)
            return centred_PG if self.normalise == "centred" else without_reward(centred_PG, reward_PG, passing_PG)
        diversity_PG = self.diversity(embedding_PGD, valid_PG)
        if self.normalise == "raw":
            return torch.where(passing_PG, diversity_PG, 0)
        return stretch(diversity_PG, passing_PG, self.floor)

    def diversity(self, embedding_PGD: Tensor, valid_PG: Tensor) -> Tensor:
        """d_i of each valid image among them, else 0, float32 [P, G]."""
        return POTENTIALS[self.potential](embedding_PGD, valid_PG)

    def _passing(self, valid_PG: Tensor, reward_PG: Tensor | None) -> Tensor:
        if self.gate == "none":
            return valid_PG
        if reward_PG is None:
            raise ValueError(f"the gate {self.gate!r} needs the rewards")
        return valid_PG & reward_gate(reward_PG, 0.5 if self.gate == "median" else self.gate_quantile)
