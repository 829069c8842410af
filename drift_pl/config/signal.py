"""Settings under which a run would learn nothing. No torch."""

import math
from typing import TYPE_CHECKING

from drift_pl.core.errors import UserError

if TYPE_CHECKING:  # its check calls this module
    from drift_pl.config.schema import Config
    from drift_pl.config.schema_levers import SelectionConfig

KEEPS_EXTREMES = ("none", "max_variance")
"""Rules that do not keep the bulk of a group."""


def refuse_no_signal(config: "Config") -> None:
    """Checks that the rewards, the levers and the method leave something to learn from.

    Raises:
        UserError: every advantage would be zero.
    """
    incentive, selection = config.incentive, config.incentive.selection
    rewarded = incentive.method != "drift" or incentive.shaping.weight > 0 or any(one.weight for one in config.rewards)
    if config.rewards and not rewarded:
        raise UserError(
            "rewards have weight 0 and incentive.shaping.weight=0, so that there is nothing to train on: use e.g. "
            "rewards.0.weight=1"
        )
    if incentive.method == "max_at_k" and selection.rule not in KEEPS_EXTREMES:
        raise UserError(
            f"incentive.method=max_at_k rewards the best image of each category, which incentive.selection.rule="
            f"{selection.rule} drops: use incentive.selection.rule=none or max_variance"
        )
    if selection.rule == "quantile" and quantile_keeps(selection, config.prompts.group_size) < 2:
        raise UserError(
            f"incentive.selection.low={selection.low:g} and high={selection.high:g} keep one image of "
            f"prompts.group_size={config.prompts.group_size}, which is compared with no other: use e.g. "
            "incentive.selection.rule=none"
        )


def quantile_keeps(selection: "SelectionConfig", size: int) -> int:
    """How many images of a group without ties lie between two quantiles, ends included."""
    lowest, highest = ((size - 1) * each for each in (selection.low, selection.high))
    return math.floor(highest + 1e-9) - math.ceil(lowest - 1e-9) + 1
