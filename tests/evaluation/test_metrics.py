"""The torchmetrics classes: grouping over updates and processes, against scipy and the authors' Vendi score.

Catches in evaluation/metrics.py: similarity for distance; kernel not normalised; sets split by position; marks not
concatenated over processes.
"""

import itertools
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist, squareform
from torch import Tensor
from torchmetrics import Metric
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


def make_metrics(**options: Any) -> dict[str, Metric]:
    return {
        "distance": MeanPairwiseDistance(**options),
        "nearest": MeanNearestDistance(**options),
        "vendi": VendiScore(**options),
        "vendi_order_2": VendiScore(order=2, **options),
        "rke": RkeScore(**options),
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_value_is_the_mean_over_prompts_of_each_sets_diversity(name: str, generator: torch.Generator) -> None:
    """Catches in evaluation/metrics.py: metrics mix the prompts; Vendi's order ignored."""
    embedding = rows(generator)
    metric = make_metrics()[name]
    metric.update(embedding, PROMPT)
    assert float(metric.compute()) == pytest.approx(expected_values(embedding)[name], rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_several_updates_in_any_order_are_one_update(name: str, generator: torch.Generator) -> None:
    """Catches in evaluation/metrics.py: metrics remember the last update only."""
    embedding = rows(generator)
    metric = make_metrics()[name]
    for part in torch.randperm(len(PROMPT), generator=generator).split(4):
        metric.update(embedding[part], PROMPT[part])
    assert float(metric.compute()) == pytest.approx(expected_values(embedding)[name], rel=1e-6)
    metric.reset()
    metric.update(embedding[:5], PROMPT[:5])
    alone = make_metrics()[name]
    alone.update(embedding[:5], PROMPT[:5])
    assert float(metric.compute()) == float(alone.compute())  # nothing is left of what came before


def test_without_two_images_of_a_prompt_there_is_no_value() -> None:
    metric = MeanPairwiseDistance()
    metric.update(torch.randn(2, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 2]))
    assert metric.compute().isnan()


def test_pairwise_lpips_is_the_mean_over_pairs_of_a_prompts_images(
    tiny_lpips: Path, generator: torch.Generator
) -> None:
    """Oracle: torchmetrics' network on the pairs of each prompt."""
    images = torch.rand(5, 3, 32, 32, generator=generator)
    encoder = LpipsEncoder(str(tiny_lpips))
    metric = PairwiseLpips(encoder)
    metric.update(images[:3], torch.tensor([0, 1, 0]))
    metric.update(images[3:], torch.tensor([1, 1]))
    first, second = torch.tensor([0, 1, 1, 3]), torch.tensor([2, 3, 4, 4])
    with torch.no_grad():
        pairs = encoder.net(images[first], images[second], normalize=True).flatten()
    assert float(metric.compute()) == pytest.approx(float(pairs[0] + pairs[1:].mean()) / 2, abs=1e-6)
    assert not list(metric.parameters())  # the frozen network is no part of a module that holds the metric


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_that_is_spread_over_processes_is_one_set(name: str, generator: torch.Generator) -> None:
    """Through torchmetrics' own synchronisation, with the second process' states handed in by the gather.

    Catches in evaluation/metrics.py: metrics: one process' images are not joined with the other's.
    """
    embedding = rows(generator)
    other = {torch.float32: embedding[::2], torch.int64: PROMPT[::2]}
    metric = make_metrics(
        distributed_available_fn=lambda: True,
        dist_sync_fn=lambda mine, group=None: [mine, other[mine.dtype]],
    )[name]
    metric.update(embedding[1:6:2], PROMPT[1:6:2])
    metric.update(embedding[7::2], PROMPT[7::2])
    assert float(metric.compute()) == pytest.approx(expected_values(embedding)[name], rel=1e-6)


def test_pairwise_ssim_is_one_minus_the_index_of_a_prompts_pairs(generator: torch.Generator) -> None:
    """Oracle: torchmetrics' class on the pairs of each prompt, one by one."""
    images = torch.rand(5, 3, 16, 20, generator=generator)
    metric = PairwiseSsim()
    metric.update(images[:3], torch.tensor([0, 1, 0]))
    metric.update(images[3:], torch.tensor([1, 1]))
    means = []
    for members in ((0, 2), (1, 3, 4)):
        pairs = itertools.combinations(members, 2)
        index = StructuralSimilarityIndexMeasure(data_range=1.0)
        means.append(np.mean([1 - float(index(images[i : i + 1], images[j : j + 1])) for i, j in pairs]))
    assert float(metric.compute()) == pytest.approx(np.mean(means), abs=1e-5)


def _one_of_two(rank: int, port: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    embedding = rows(torch.Generator().manual_seed(1))
    mine = slice(0, 4) if rank == 0 else slice(4, None)  # of unequal length
    values = {}
    for name, metric in make_metrics().items():
        metric.update(embedding[mine], PROMPT[mine])
        values[name] = float(metric.compute())
    torch.save(values, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_real_processes_agree_on_the_value_of_all_images(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_one_of_two, args=(port, str(tmp_path)), nprocs=2)
    expected = expected_values(rows(torch.Generator().manual_seed(1)))
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == pytest.approx(expected, rel=1e-6)
