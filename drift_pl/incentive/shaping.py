"""Lever 3, optimisation: potential-based reward shaping with intra-group diversity (DRIFT, arXiv 2601.12401).

The potential Phi of a final image is its diversity d^ within its group, and 0 at the start of the rollout. The shaping
reward gamma Phi(s') - Phi(s) (Ng, Harada and Russell 1999), discounted and summed over T steps, telescopes to
gamma^T d^: a bonus on the return of each image.

What it does and does not do. The potential of the last state is not zero, so this is *not* the policy-invariant
shaping of Ng et al.: it changes the optimum, and that is its purpose. With d_i the mean distance to the others and no
normalisation, J the expected mean pairwise distance of a group of G independent images and l_i = log p(x_i):

    grad J = 2 E[ 1/G sum_i d_i grad l_i ],

because a pair's distance appears in the d of both images. Centred on the group, as in `group_advantages`, the
estimator 1/G sum_i (d_i - mean d) grad l_i has expectation (G - 2) / G * grad J / 2. So the bonus climbs the group's
expected diversity, at a rate that the group size fixes. `incentive/potentials.py` has the other diversities.

Two options depart further, and neither is policy-invariant. A gate gives diversity worth only where the reward is good
(DRIVE's and DIVER's condition on success, arXiv 2509.26209): the potential becomes 1[r_i >= quantile] d^_i, so that
being different is no excuse for being bad, and the bonus raises the value of passing the gate too. The per-step form
gives each step its own return-to-go, with the potential of what the policy expects before that step; see `stepwise`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.incentive.potentials import POTENTIALS, centre, reward_gate, stretch


@dataclass(frozen=True)
class DiversityShaping:
    """The shaping bonus of a group.

    Attributes:
        weight: alpha >= 0. The reward part of an advantage is in standard deviations of the reward, so alpha = 1 weighs
            a cosine distance of 1 like one standard deviation.
        gamma: discount; gamma^T is a plain factor of the bonus.
        normalise: `raw` takes d_i as it is; `minmax` stretches the group's d to [0, 1]; `centred` takes d_i among those
            who pass the gate, less their mean. Behind a gate the other two make passing itself worth something (with
            d = 0.5, half the weight); `centred` does not: it moves reward only among those who pass.
        floor: smallest spread that `minmax` stretches in full, so that near-copies are not told apart by noise:
            clip((d - d_min) / max(d_max - d_min, floor), 0, 1). In the unit of the potential.
        potential: what d_i is, against all valid images of the group unless it is centred: `mean` distance to the
            others, distance to the `nearest` other, leave-one-out gain of the `logdet` or of the `vendi` score. Two
            opposite modes have the largest `mean` there is, and zero of each of the others; see
            `incentive/potentials.py`.
        gate: who gets the bonus: `none`, everyone; `median`, images whose reward is at or above the median of their
            group's finite rewards; `quantile`, at or above `gate_quantile`. The others get the potential 0, and
            `minmax` stretches among those who pass (DRIVE). `vendi` as it is may be below 0, and so below the others.
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
            embedding_PGD: of the final images; normalised here.
            valid_PG: bool; the others neither have nor give diversity.
            reward_PG: what a gate looks at.

        Raises:
            ValueError: there is a gate, and `reward_PG` is None.
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
        """The return-to-go of the shaping rewards from each trained step on, float32 [K, P, G].

        State t is the one before step t. With Phi_T of the final images, Phi_t of the clean images that the policy
        predicts in state t (within their group, by the same rules) and Phi_0 := 0, as in the terminal form,

            alpha sum_{u=t}^{T-1} gamma^{u-t} (gamma Phi_{u+1} - Phi_u) = alpha (gamma^{T-t} Phi_T - Phi_t).

        So a step is credited with the diversity that the rest of the path adds to what was expected. Without a gate,
        Phi_t depends on states that step t does not change: it is a baseline, and for gamma = 1 the expected gradient
        is the terminal form's, with another variance. With gamma < 1 later steps weigh more. Nothing here is
        policy-invariant, because Phi_T is not zero.

        Args:
            predicted_embedding_KPGD: of the images predicted before each trained step. One that is not finite has no
                part in its group's Phi_t, and gets 0 there.
            steps_K: the trained steps' positions t, from 0.
            num_steps: T, of the whole path.
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
        """The potential of a state after the start: d^_i of each valid image that passes the gate, else 0, [P, G]."""
        passing_PG = self._passing(valid_PG, reward_PG)
        if self.normalise == "centred":
            return centre(POTENTIALS[self.potential](embedding_PGD, passing_PG), passing_PG)
        diversity_PG = POTENTIALS[self.potential](embedding_PGD, valid_PG)
        if self.normalise == "raw":
            return torch.where(passing_PG, diversity_PG, 0)
        return stretch(diversity_PG, passing_PG, self.floor)

    def _passing(self, valid_PG: Tensor, reward_PG: Tensor | None) -> Tensor:
        if self.gate == "none":
            return valid_PG
        if reward_PG is None:
            raise ValueError(f"the gate {self.gate!r} needs the rewards")
        return valid_PG & reward_gate(reward_PG, 0.5 if self.gate == "median" else self.gate_quantile)
