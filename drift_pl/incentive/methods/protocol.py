"""Base class of the methods that replace the shaping lever; it changes nothing."""

import math
from collections.abc import Sequence

from torch import Tensor

from drift_pl.core.errors import UserError
from drift_pl.core.types import Scores


class RewardMethod:
    """A method in place of the shaping lever. A subclass overrides up to three parts of the base algorithm.

    Its constructor takes `incentive.args`. Invalid images (see `Scores.valid_PG`) must not influence the others.
    """

    needs_embeddings: bool = False
    """Whether it reads `Scores.embedding_PGD`, by the shaping encoder."""
    needs_categories: bool = False
    """Whether it reads `Scores.category_PGC`."""

    def reward(self, scores: Scores) -> Tensor:
        """The effective rewards, which selection and advantages use in place of `scores.reward_PG`: float32 [P, G].

        NaN stays NaN; an image that lacks an input of the method becomes NaN and leaves its group.
        """
        return scores.reward_PG

    def advantage(self, advantage_PG: Tensor, scores: Scores) -> Tensor:
        """The advantages, from those of the base algorithm, which are centred and divided: [P, G]."""
        return advantage_PG

    def divergence(self, scores: Scores, steps_K: tuple[int, ...], num_steps: int) -> Tensor | None:
        """Factor of the KL term, per trained step and image.

        Args:
            steps_K: the trained steps' positions in the sampler's grid, from 0 at pure noise.
            num_steps: steps of the whole grid.

        Returns:
            float32 [K, P, G], non-negative; None: 1 everywhere.
        """
        return None

    def check_rewards(self, names: Sequence[str]) -> None:
        """Called with the names of the run's rewards, before it begins.

        Raises:
            UserError: the method needs others.
        """


def check_argument(name: str, value: object, lowest: float, highest: float = math.inf, whole: bool = False) -> None:
    """Refuses an argument of a method that is not a number in [lowest, highest].

    Args:
        name: the constructor's argument.
        whole: only integers are allowed.

    Raises:
        UserError: one line that names the key and the allowed range.
    """
    if isinstance(value, int if whole else (int, float)) and lowest <= value <= highest:
        return
    kind = "a whole number" if whole else "a number"
    allowed = f"of at least {lowest:g}" if highest == math.inf else f"from {lowest:g} to {highest:g}"
    raise UserError(f"incentive.args.{name}={value!r}: give {kind} {allowed}")
