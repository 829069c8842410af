"""The diversity monitor: means over groups, measured where the images are, summed in the exchange of the metrics."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist, squareform
from torch import Tensor
from vendi_score.vendi import score_K

from drift_pl.core.prompt_batch import PromptBatch
from drift_pl.core.types import Scores
from drift_pl.scoring.calls import row_per_image
from drift_pl.training import reporting
from drift_pl.training.callbacks.diversity import DiversityMonitor
from drift_pl.training.reporting import IterationReport, observe

# vendi_score reads scipy by a name that scipy has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning")

CPU = torch.device("cpu")
GROUPS, SIZE = 3, 5


def pixels(images: Tensor) -> Tensor:
    """An encoder."""
    return images.flatten(1).double()


def city_block(images: Tensor) -> Tensor:
    """A distance of all pairs."""
    return torch.cdist(images.flatten(1), images.flatten(1), p=1)


@pytest.fixture
def images(generator: torch.Generator) -> Tensor:
    return torch.rand(GROUPS * SIZE, 3, 4, 4, generator=generator)


def spoilt(images: Tensor, *rows: int) -> Tensor:
    images = images.clone()
    images[list(rows), 1, 2] = torch.nan
    return images


def report_of(images: Tensor, groups: Sequence[int]) -> IterationReport:
    """What a process that has these groups reports."""
    batch = PromptBatch(0, 0, ("a",) * len(groups), tuple(groups), len(images) // len(groups))
    embedding_PGD = row_per_image("encoder", pixels, images).unflatten(0, (len(groups), -1))
    scores = Scores(torch.zeros(embedding_PGD.shape[:2]), {}, None, monitor_embedding_PGD=embedding_PGD)
    report = IterationReport()
    observe([object(), DiversityMonitor(city_block)], report, scores, images, batch)
    return report


def expected(groups: Sequence[np.ndarray]) -> dict[str, float]:
    """Means over groups, by scipy and the authors' Vendi score."""
    rows = [group.reshape(len(group), -1).astype(float) for group in groups]
    return {
        "diversity/pairwise_distance": np.mean([pdist(group, "cosine").mean() for group in rows]),
        "diversity/vendi": np.mean([score_K(1 - squareform(pdist(group, "cosine"))) for group in rows]),
        "diversity/pairwise_lpips": np.mean([pdist(group, "cityblock").mean() for group in rows]),
    }


def test_values_are_means_over_groups(images: Tensor) -> None:
    """Catches in training/callbacks/diversity.py: images of all groups measured together."""
    groups = [group.numpy() for group in images.split(SIZE)]
    assert report_of(images, range(GROUPS)).reduce(CPU) == pytest.approx(expected(groups), rel=1e-5)


def test_images_with_nan_do_not_count(images: Tensor) -> None:
    """Nor does a group of which one image is left: a broken image is not a diverse one.

    Catches in training/callbacks/diversity.py: images with NaN measured; a group without a value counted as 0.
    """
    left = [images[[0, 1, 3, 4]].numpy(), images[5:10].numpy()]
    broken = spoilt(images, 2, *range(11, 15))
    assert report_of(broken, range(GROUPS)).reduce(CPU) == pytest.approx(expected(left), rel=1e-5)


def test_two_processes_report_the_mean_of_all_groups(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of unequal numbers of groups; what they exchange is as long as it is with one group or a hundred."""
    reports, sent = [report_of(images[:5], [0]), report_of(images[5:], [1, 2])], []
    with monkeypatch.context() as patch:
        patch.setattr(reporting, "gather_vectors", lambda vector, device: sent.append(vector) or vector[None])
        for report in reports:
            report.reduce(CPU)
        assert [len(vector) for vector in sent] == [6, 6]
        patch.setattr(reporting, "gather_vectors", lambda vector, device: torch.stack(sent))
        groups = [group.numpy() for group in images.split(SIZE)]
        for report in reports:
            assert report.reduce(CPU) == pytest.approx(expected(groups), rel=1e-5)
