"""Diversity of a prompt's images, against scipy, torchmetrics and the authors' Vendi score.

Catches in evaluation/metrics.py: similarity for distance; kernel not normalised.
"""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist, squareform
from torch import Tensor
from torchmetrics.image import StructuralSimilarityIndexMeasure
from vendi_score.vendi import score_K

from drift_pl.evaluation.metrics import (
    MeanNearestDistance,
    MeanPairwiseDistance,
    PairwiseLpips,
    PairwiseSsim,
    RkeScore,
    VendiScore,
)
from drift_pl.scoring.encoders import LpipsEncoder

# vendi_score reads scipy by a name that scipy has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning")

NAMES = ("distance", "nearest", "vendi", "vendi_order_2", "rke")
# group sizes 5, 3, 1 and 4 of prompts 7, 2, 40 and 0; a single image has no distance to anything
PROMPT = torch.tensor([7] * 5 + [2] * 3 + [40] + [0] * 4)


def rows(generator: torch.Generator) -> Tensor:
    """Embeddings of very different lengths, one direction per prompt."""
    centre = torch.randn(41, 6, generator=generator)[PROMPT]
    scale = 10 * torch.rand(len(PROMPT), 1, generator=generator) + 0.1
    return scale * (centre + torch.randn(len(PROMPT), 6, generator=generator))


def expected_values(embedding: Tensor) -> dict[str, float]:
    """Means over the three prompts that have at least two images, by scipy and vendi_score."""
    values: dict[str, list[float]] = {name: [] for name in NAMES}
    for prompt in (7, 2, 0):
        group = embedding[prompt == PROMPT].double().numpy()
        values["distance"].append(pdist(group, metric="cosine").mean())
        table = squareform(pdist(group, metric="cosine"))
        np.fill_diagonal(table, np.inf)
        values["nearest"].append(table.min(1).mean())
        unit = group / (group**2).sum(1, keepdims=True) ** 0.5
        values["vendi"].append(score_K(unit @ unit.T, q=1))
        values["vendi_order_2"].append(score_K(unit @ unit.T, q=2))
        values["rke"].append(score_K(unit @ unit.T, q=2))
    return {name: sum(value) / 3 for name, value in values.items()}


METRICS = {
    "distance": MeanPairwiseDistance(),
    "nearest": MeanNearestDistance(),
    "vendi": VendiScore(),
    "vendi_order_2": VendiScore(order=2),
    "rke": RkeScore(),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_value_is_each_sets_diversity(name: str, generator: torch.Generator) -> None:
    """Catches in evaluation/metrics.py: Vendi's order ignored."""
    embedding = rows(generator)
    values = [METRICS[name].of_group(embedding[prompt == PROMPT]) for prompt in (7, 2, 0)]
    assert float(torch.stack(values).mean()) == pytest.approx(expected_values(embedding)[name], rel=1e-6)


def test_pairwise_lpips_is_the_mean_over_pairs_of_a_prompts_images(
    tiny_lpips: Path, generator: torch.Generator
) -> None:
    """Oracle: torchmetrics' network on the pairs of each prompt."""
    images = torch.rand(3, 3, 32, 32, generator=generator)
    encoder = LpipsEncoder(str(tiny_lpips))
    first, second = torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2])
    with torch.no_grad():
        pairs = encoder.net(images[first], images[second], normalize=True)
        value = PairwiseLpips(encoder).of_group(images)
    assert float(value) == pytest.approx(float(pairs.mean()), abs=1e-6)


def test_pairwise_ssim_is_one_minus_the_index_of_a_prompts_pairs(generator: torch.Generator) -> None:
    """Oracle: torchmetrics' class on the pairs of each prompt, one by one."""
    images = torch.rand(5, 3, 16, 20, generator=generator)
    index = StructuralSimilarityIndexMeasure(data_range=1.0)
    pairs = itertools.combinations(range(5), 2)
    expected = np.mean([1 - float(index(images[i : i + 1], images[j : j + 1])) for i, j in pairs])
    assert float(PairwiseSsim().of_group(images)) == pytest.approx(expected, abs=1e-5)
