"""Metrics of an iteration: rewards, groups, levers, latents. One place for the logged names."""

from torch import Tensor

from drift_pl.core.types import Scores
from drift_pl.functional.advantage import masked_std
from drift_pl.functional.rounding import equal_up_to_rounding
from drift_pl.incentive.selection import selection_statistics
from drift_pl.training.experience import Experience
from drift_pl.training.reporting import IterationReport


def describe_iteration(
    report: IterationReport,
    scores: Scores,
    effective_PG: Tensor,
    bonus_PG: Tensor | None,
    potential_PG: Tensor | None,
    experience: Experience,
    final_BCHW: Tensor,
) -> None:
    """Adds an iteration to the report; every key is explained in docs/metrics.md.

    Args:
        effective_PG: the rewards that selection saw; `reward/*` are of the raw ones.
        bonus_PG, potential_PG: of `Method`.
        final_BCHW: latents of the final images, as sampled.
    """
    reward_PG = scores.reward_PG
    finite_PG = reward_PG.isfinite()
    std_P = masked_std(reward_PG, finite_PG).flatten()
    report.add("reward/mean", reward_PG)
    report.add("reward/group_std", std_P)
    report.add("reward/zero_std_groups", equal_up_to_rounding(reward_PG, finite_PG).float())
    report.add("reward/unscored_fraction", (~finite_PG).float())
    for name, score_PG in scores.by_reward.items():
        report.add(f"reward/{name}", score_PG)
    for name, value_P in selection_statistics(effective_PG, experience.kept_PG).items():
        report.add(f"selection/{name}", value_P)
    if bonus_PG is not None:
        report.add("shaping/bonus", bonus_PG)
        report.add("shaping/bonus_group_std", masked_std(bonus_PG, bonus_PG.isfinite()).flatten())
    if potential_PG is not None:
        report.add("shaping/potential", potential_PG)
        report.add("shaping/potential_group_std", masked_std(potential_PG, potential_PG.isfinite()).flatten())
    report.add("policy/advantage_magnitude", experience.advantage_PG.abs())
    # Drifts up when a policy learns to raise the reward by brightness or contrast alone.
    report.add("policy/latent_rms", final_BCHW.square().flatten(1).mean(1).sqrt())
