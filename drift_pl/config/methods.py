"""Arguments of the rival methods that cannot act beside the other settings. No torch."""

from typing import TYPE_CHECKING

from drift_pl.config.batches import window_bounds
from drift_pl.config.updates import replays_steps
from drift_pl.core.errors import UserError

if TYPE_CHECKING:  # its check calls this module
    from drift_pl.config.schema import Config

OF_DIVERGENCE = {"gardo": ("auxiliary", "gated_share"), "diverse_grpo": ("early_steps",)}
"""Method -> its arguments that say where the divergence from the reference acts."""
OF_CLUSTERS = ("diverse_grpo", "inverse_probability")
"""Methods that split a group into clusters."""


def refuse_idle_arguments(config: "Config") -> None:
    """Of values that a method's constructor would take; it refuses the others.

    Raises:
        UserError: an argument that was given has no effect, or the divergence acts nowhere.
    """
    method, args, kl_weight = config.incentive.method, config.incentive.args, config.objective.kl_weight
    for name in OF_DIVERGENCE.get(method, ()):
        if kl_weight == 0 and not isinstance(args.get(name), str | None):
            raise UserError(
                f"incentive.args.{name}={args[name]} says where the divergence acts, and objective.kl_weight=0: "
                "use e.g. objective.kl_weight=0.1, or leave it out"
            )
    size, clusters = config.prompts.group_size, clusters_given(config)
    if clusters >= size:
        raise UserError(
            f"incentive.args.clusters={clusters} makes every image of prompts.group_size={size} a cluster of its own, "
            f"so that none is rare: use e.g. {max(2, size // 4)}"
        )
    if method == "diverse_grpo" and kl_weight > 0 and replays_steps(config):
        _refuse_late_window(config)


def clusters_given(config: "Config") -> int:
    """The number of clusters in a method's arguments; 0: none, or none that it would take."""
    clusters = config.incentive.args.get("clusters")
    return clusters if config.incentive.method in OF_CLUSTERS and type(clusters) is int else 0


def _refuse_late_window(config: "Config") -> None:
    """DiverseGRPO's divergence acts on the first steps of the grid, and only trained steps have one."""
    sampler, early = config.sampler, config.incentive.args.get("early_steps")
    early = -(-sampler.steps // 3) if early is None else early
    first, end = window_bounds(sampler)
    if type(early) is int and early <= first:
        raise UserError(
            f"incentive.method=diverse_grpo diverges in the first {early} of sampler.steps={sampler.steps}, and the "
            f"trained window begins at step {first}, so that objective.kl_weight={config.objective.kl_weight} acts "
            f"nowhere: use e.g. sampler.window_range=[0,{end}], or incentive.args={{early_steps: {first + 1}}}"
        )
