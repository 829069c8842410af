"""What somebody's code has returned, where arithmetic would widen another shape and go on."""

from collections.abc import Sequence

from torch import Tensor

from drift_pl.core.errors import UserError


def of_shape(what: str, answer: object, shape: Sequence[int], wanted: str = "") -> Tensor:
    """The answer, a tensor of that shape.

    Args:
        what: who returned it, e.g. `incentive.method: Mine.reward`.
        wanted: in words, see `wrong_answer`.

    Raises:
        UserError: it is anything else.
    """
    if isinstance(answer, Tensor) and answer.shape == (*shape,):
        return answer
    returned = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
    raise wrong_answer(what, returned, ", ".join(map(str, shape)), wanted)


def wrong_answer(what: str, returned: object, shape: str, wanted: str = "") -> UserError:
    """The error to raise.

    Args:
        returned: a shape, or what else it is.
        shape: of what it should have been, e.g. `16, D`.
        wanted: the same in words, e.g. `one number for each of 3 images`.
    """
    instead = f", not {wanted}" if wanted else ""
    return UserError(f"{what} returned {returned}{instead}: return a torch tensor of shape [{shape}]")
