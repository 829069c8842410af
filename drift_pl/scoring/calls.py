"""The one way in which rewards, encoders, distances and measures are called.

Others write them, so nothing that they do may reach beyond their answer: they get images of their own, run without
gradients, leave torch's switches as they were, and answer with numbers of the right shape, or in one line of error.

Images with NaN or infinity (a float16 decoder that overflows) are shown to nobody: whoever rounds to bytes would take
them for black ones. Rewards and measures are called with the others; an encoder sees black in their place, and its rows
for them become NaN.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from drift_pl.core.errors import UserError

NAN_REMEDY = (
    "the model gives them, not a reward or an encoder: float16 overflows, so try policy.dtype=bfloat16 or float32, "
    "then trainer.precision=32-true; if only the fine-tuned model gives them, a lower objective.learning_rate"
)


def finite_images(images_B3HW: Tensor) -> Tensor:
    """Images without NaN and infinity, bool [B]."""
    return images_B3HW.flatten(1).isfinite().all(1)


def refuse_nan_images(lost: int, total: int, where: str) -> None:
    """
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
    except Exception as error:
        raise UserError(f"{what} failed: {type(error).__name__}: {error}") from error


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
            raise wrong_answer(what, kind, wanted, shape) from error
    if answer.is_complex() or answer.is_meta or answer.layout is not torch.strided:
        kind = (
            "complex numbers" if answer.is_complex() else "a tensor without data" if answer.is_meta else "a sparse one"
        )
        raise wrong_answer(what, kind, wanted, shape)
    return answer.detach().clone()


def wrong_answer(what: str, returned: object, wanted: str, shape: str) -> UserError:
    return UserError(f"{what} returned {returned}, not {wanted}: return a torch tensor of shape [{shape}]")


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
    if score.shape != shape:
        raise wrong_answer(what, tuple(score.shape), wanted, wanted_shape)
    return score.float().to(images.device)


def row_per_image(what: str, thing: Callable[..., Any], images_B3HW: Tensor, rest: Sequence[Any] = ()) -> Tensor:
    """One row of numbers per image, such as an embedding, [B, D], on the images' device.

    Rows of images with NaN are NaN.

    Raises:
        UserError: it fails, returns anything else, or has no finite row for any finite image.
    """
    finite_B = finite_images(images_B3HW)
    whole, size = bool(finite_B.all()), len(images_B3HW)
    seen_B3HW = images_B3HW if whole else torch.where(finite_B[:, None, None, None], images_B3HW, 0)
    wanted = f"one row of numbers for each of {size} images"
    answer_BD = as_numbers(what, call(what, thing, seen_B3HW, *rest), wanted, f"{size}, D").to(images_B3HW.device)
    if answer_BD.ndim != 2 or len(answer_BD) != size or not answer_BD.numel():
        raise wrong_answer(what, tuple(answer_BD.shape), wanted, f"{size}, D")
    if not answer_BD.is_floating_point():
        answer_BD = answer_BD.float()
    if not whole:
        answer_BD[~finite_B] = torch.nan
    if bool(finite_B.any()) and not bool(known_rows(answer_BD).any()):
        raise UserError(f"{what} returned NaN or infinity for all of {int(finite_B.sum())} images")
    return answer_BD


def known_rows(rows_XD: Tensor) -> Tensor:
    """Rows that are finite throughout, bool [...], of [..., D]."""
    return rows_XD.isfinite().all(-1)


def name_of(thing: object) -> str:
    """A function's or an object's name, for errors."""
    return getattr(thing, "__name__", type(thing).__name__)
