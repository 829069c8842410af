"""Measures and metrics of a prompt's images, called as everything that others write is (see `scoring/calls.py`)."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from drift_pl.core.answers import of_shape, wrong_answer
from drift_pl.core.errors import UserError
from drift_pl.evaluation.metrics import DriftMetric, GroupedMetric
from drift_pl.scoring.calls import as_numbers, call, finite_only, known_rows, name_of
from drift_pl.scoring.protocol import ImageFilter, Measure

NAME = re.compile(r"[^\s|`]{1,80}")
"""Of a value: it stands in tables, in files and in TensorBoard."""


def add_values(values: dict[str, Tensor], measure: Measure, found: Mapping[str, Tensor]) -> None:
    """Adds what a measure has found of a prompt.

    Raises:
        UserError: it has the name of a value that is there already, such as `reward`.
    """
    taken = next((name for name in found if name in values), None)
    if taken is not None:
        raise UserError(
            f"the measure {name_of(measure)!r} returned {taken!r}, which the evaluation or another measure returns: "
            f"call it e.g. {f'my_{taken}'!r}"
        )
    values |= found


def group_value(name: str, metric: GroupedMetric, rows_SX: Tensor) -> Tensor:
    """A metric of one prompt's rows, 0-dimensional; NaN of fewer than two.

    Args:
        rows_SX: images or embeddings, finite.

    Raises:
        UserError: it fails, or does not return one number.
    """
    if len(rows_SX) < 2:
        return torch.tensor(torch.nan)
    return _one_number(f"the metric {name!r}", call(f"the metric {name!r}", metric.of_group, rows_SX))


def drift_value(name: str, metric: DriftMetric, embedding_ND: Tensor, reference_MD: Tensor) -> float:
    """Distance of the embeddings from the base model's; NaN of fewer than two.

    Images of which either model has no finite embedding are left out of both, where both have as many images.

    Raises:
        UserError: the metric fails, or does not return one number.
    """
    what, ours_N, theirs_M = f"the metric {name!r}", known_rows(embedding_ND), known_rows(reference_MD)
    if len(ours_N) == len(theirs_M):
        ours_N = theirs_M = ours_N & theirs_M
    if not ours_N.all() or not theirs_M.all():
        embedding_ND, reference_MD = embedding_ND[ours_N], reference_MD[theirs_M]
    if min(len(embedding_ND), len(reference_MD)) < 2:
        return float("nan")
    return float(_one_number(what, call(what, metric.between, embedding_ND, reference_MD)))


def counted_images(measure: ImageFilter, images_S3HW: Tensor, prompt: str, finite_S: Tensor) -> Tensor:
    """bool [S]: the images that a measure counts; none with NaN, which it is not shown.

    Raises:
        UserError: it fails, or does not return one truth value per image.
    """
    what, size = f"the measure {name_of(measure)!r}", int(finite_S.sum())
    if not size:
        return finite_S
    wanted = f"whether each of {size} images counts"
    answer = call(what, measure.counts, finite_only(images_S3HW, finite_S), prompt)
    counts_N = of_shape(what, as_numbers(what, answer, wanted, f"{size}"), (size,), wanted)
    counts_S = finite_S.clone()
    counts_S[finite_S] = counts_N.bool().to(finite_S.device)
    return counts_S


def call_measure(measure: Measure, images_S3HW: Tensor, prompt: str, finite_S: Tensor) -> dict[str, Tensor]:
    """Named values of one prompt's images, each 0-dimensional: of those without NaN; NaN of fewer than two.

    Raises:
        UserError: it fails, or does not return one number per prompt for each name.
    """
    what, enough = f"the measure {name_of(measure)!r}", int(finite_S.sum()) >= 2
    # with too few images it is shown black ones, because only it knows the names of its values
    seen_N3HW = finite_only(images_S3HW, finite_S) if enough else torch.zeros_like(images_S3HW)
    values = call(what, measure, seen_N3HW[None], [prompt])
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise UserError(f"{what} returned {type(values).__name__}: return a dict, name -> torch tensor of shape [1]")
    unfit = next((name for name in values if not NAME.fullmatch(name)), None)
    if unfit is not None:
        raise UserError(
            f"{what} returned the name {unfit!r}: use letters, digits and signs without spaces, as in 'a/b_1'"
        )
    found = {name: _of_one_prompt(f"{what}, {name!r},", value) for name, value in values.items()}
    return found if enough else {name: torch.full_like(value, torch.nan) for name, value in found.items()}


def _of_one_prompt(what: str, value: object) -> Tensor:
    wanted = "one number for each of 1 prompts"
    return of_shape(what, as_numbers(what, value, wanted, "1"), (1,), wanted)[0].double()


def _one_number(what: str, value: object) -> Tensor:
    number = as_numbers(what, value, "one number", "")
    if number.numel() != 1:
        raise wrong_answer(what, tuple(number.shape), "", "one number")
    return number.reshape(())
