"""The one way in which rewards, encoders, distances and measures are called.

Others write them, so nothing that they do may reach beyond their answer: they get images of their own, run without
gradients, leave torch's switches as they were, and answer with numbers of the right shape, or in one line of error.

Images with NaN or infinity (a float16 decoder that overflows) are shown to nobody: whoever rounds to bytes would take
them for black ones. Everything is called with the others, and the answer for them is NaN.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from drift_pl.core.answers import of_shape, wrong_answer
from drift_pl.core.errors import UserError
from drift_pl.core.foreign import described

NAN_REMEDY = (
    "the model gives them, not a reward or an encoder: float16 overflows, so try policy.dtype=bfloat16 with "
    "trainer.precision=bf16-mixed, then policy.dtype=float32 with 32-true; if only the fine-tuned model gives them, a "
    "lower objective.learning_rate"
)


def finite_images(images_B3HW: Tensor) -> Tensor:
    """Images without NaN and infinity, bool [B]."""
    return images_B3HW.flatten(1).isfinite().all(1)


def finite_only(images_B3HW: Tensor, finite_B: Tensor) -> Tensor:
    """The images that are finite: all of them as they are, or a copy of some."""
    return images_B3HW if finite_B.all() else images_B3HW[finite_B]


def refuse_nan_images(lost: int, total: int, where: str) -> None:
    """Ends the command when no image is left to score or to measure, with advice on precision.

    Raises:
        UserError: all images are lost.
    """
    if lost == total:
        raise UserError(f"{where}: all {total} images are NaN; {NAN_REMEDY}")


def nan_images(lost: int, total: int, where: str) -> str:
    """The warning that some images are left out."""
    return f"{where}: {lost} of {total} images are NaN and left out; {NAN_REMEDY}"


@contextmanager
def switches_kept() -> Iterator[None]:
    """Afterwards gradients and the default dtype are as they were before, whatever was done to them within it."""
    dtype = torch.get_default_dtype()
    with torch.set_grad_enabled(torch.is_grad_enabled()):
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


def call(what: str, thing: Callable[..., Any], images: Tensor, *rest: Any) -> Any:
    """`thing(images, *rest)` without gradients, on a copy of the images.

    Args:
        what: name of the thing in errors.

    Raises:
        UserError: it fails.
    """
    try:
        with switches_kept(), torch.no_grad():
            return thing(images.clone(), *rest)
    except UserError as error:
        raise UserError(f"{what} failed: {error}") from error
    except (Exception, SystemExit) as error:  # a run would take an exit for SIGTERM
        raise UserError(f"{what} failed: {described(error)}") from error


def as_numbers(what: str, answer: Any, wanted: str, shape: str) -> Tensor:
    """A copy of an answer as a real tensor without gradient; lists and arrays of numbers will do.

    Args:
        wanted: what it should have returned, e.g. `one number for each of 3 images`.
        shape: of the tensor that it should have returned.

    Raises:
        UserError: it cannot be read as real numbers.
    """
    kind = type(answer).__name__
    if not isinstance(answer, Tensor):
        try:
            answer = torch.as_tensor(answer)
        except (TypeError, ValueError, RuntimeError) as error:
            raise wrong_answer(what, kind, shape, wanted) from error
    if answer.is_complex() or answer.is_meta or answer.layout is not torch.strided:
        kind = (
            "complex numbers" if answer.is_complex() else "a tensor without data" if answer.is_meta else "a sparse one"
        )
        raise wrong_answer(what, kind, shape, wanted)
    return answer.detach().clone()


def numbers_per_image(what: str, thing: Callable[..., Any], images: Tensor, rest: Sequence[Any] = ()) -> Tensor:
    """One number per image, float32, in the shape of the images' leading dimensions, on their device.

    Args:
        images: [B, 3, H, W], or [P, G, 3, H, W] for what sees groups; finite.

    Raises:
        UserError: it fails, or returns anything else.
    """
    shape = images.shape[:-3]
    sizes = " x ".join(map(str, shape))
    wanted, wanted_shape = f"one number for each of {sizes} images", ", ".join(map(str, shape))
    score = as_numbers(what, call(what, thing, images, *rest), wanted, wanted_shape)
    return of_shape(what, score, shape, wanted).float().to(images.device)


def row_per_image(
    what: str, thing: Callable[..., Any], images_B3HW: Tensor, prompts: Sequence[str] | None = None
) -> Tensor:
    """One row of numbers per image, such as an embedding, [B, D], on the images' device.

    Rows of images with NaN are NaN.

    Args:
        prompts: B prompts, for what is called with them.

    Raises:
        UserError: it fails, returns anything else, or has no finite row for any finite image.
    """
    finite_B = finite_images(images_B3HW)
    if not finite_B.any():  # one black image says how long a row is
        rest = [] if prompts is None else [list(prompts[:1])]
        row_1D = _rows(what, thing, torch.zeros_like(images_B3HW[:1]), rest)
        return torch.full_like(row_1D, torch.nan).repeat(len(images_B3HW), 1)
    rows = finite_B.nonzero().flatten().tolist()
    rest = [] if prompts is None else [[prompts[row] for row in rows]]
    answer_ND = _rows(what, thing, finite_only(images_B3HW, finite_B), rest)
    if not known_rows(answer_ND).any():
        raise UserError(f"{what} returned NaN or infinity for all of {len(rows)} images")
    if len(rows) == len(images_B3HW):
        return answer_ND
    answer_BD = answer_ND.new_full((len(images_B3HW), answer_ND.shape[1]), torch.nan)
    answer_BD[finite_B] = answer_ND
    return answer_BD


def _rows(what: str, thing: Callable[..., Any], images_N3HW: Tensor, rest: Sequence[Any]) -> Tensor:
    size = len(images_N3HW)
    wanted, shape = f"one row of numbers for each of {size} images", f"{size}, D"
    answer_ND = as_numbers(what, call(what, thing, images_N3HW, *rest), wanted, shape)
    if answer_ND.ndim != 2 or len(answer_ND) != size or not answer_ND.numel():
        raise wrong_answer(what, tuple(answer_ND.shape), shape, wanted)
    return (answer_ND if answer_ND.is_floating_point() else answer_ND.float()).to(images_N3HW.device)


def known_rows(rows_XD: Tensor) -> Tensor:
    """Rows that are finite throughout, bool [...], of [..., D]."""
    return rows_XD.isfinite().all(-1)


def name_of(thing: object) -> str:
    """A function's or an object's name, for errors."""
    return getattr(thing, "__name__", type(thing).__name__)
