"""`drift_pl.metrics` in anyone's code: the evaluator's own numbers, as torchmetrics gives them."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine, pdist
from torch import Tensor
from torchmetrics import MetricCollection
from vendi_score import vendi

from drift_pl import metrics
from drift_pl.evaluation import metrics as measured
from drift_pl.evaluation.metrics import standard_metrics
from drift_pl.functional.distribution import frechet_distance

PROMPTS = ["a", "b", "a", "b", "a", "c"]
"""Groups of three, of two, and of one, which has no pairs."""


@pytest.fixture
def rows() -> Tensor:
    return torch.randn(6, 5, generator=torch.Generator().manual_seed(0))


def members(rows: Tensor) -> list[np.ndarray]:
    return [rows[[0, 2, 4]].double().numpy(), rows[[1, 3]].double().numpy()]


def test_distance_is_scipys_mean_over_groups(rows: Tensor) -> None:
    """Catches in evaluation/group_metrics.py: means over all rows together."""
    metric = metrics.PairwiseDistance()
    metric.update(rows, PROMPTS)
    expected = np.mean([pdist(group, metric="cosine").mean() for group in members(rows)])
    assert metric.compute().item() == pytest.approx(expected, rel=1e-6)


def test_vendi_score_is_that_of_its_authors_package(rows: Tensor) -> None:
    for order in (1.0, 2.0):
        metric = metrics.VendiScore(order)
        metric.update(rows, torch.tensor([0, 1, 0, 1, 0, 2]))
        units = [group / np.linalg.norm(group, axis=1, keepdims=True) for group in members(rows)]
        expected = np.mean([vendi.score_K(unit @ unit.T, q=order) for unit in units])
        assert metric.compute().item() == pytest.approx(expected, rel=1e-5)


def test_nearest_distance_by_scipy(rows: Tensor) -> None:
    metric = metrics.NearestDistance()
    metric.update(rows, PROMPTS)
    nearest = [
        np.mean([min(cosine(one, other) for other in group if other is not one) for one in group])
        for group in (list(group) for group in members(rows))
    ]
    assert metric.compute().item() == pytest.approx(np.mean(nearest), rel=1e-6)


def test_updates_of_whole_groups_add_up_and_reset_forgets(rows: Tensor) -> None:
    metric = metrics.PairwiseDistance()
    metric.update(rows, PROMPTS)
    together = metric.compute()
    metric.reset()
    metric.update(rows[[0, 2, 4]], ["a"] * 3)
    metric.update(rows[[1, 3]])
    assert metric.compute() == together
    metric.reset()
    assert metric.compute().isnan()


def test_a_collection_keeps_its_metrics_apart(rows: Tensor) -> None:
    """A first update without a pair leaves all states equal, and a MetricCollection shares equal ones of one name."""
    apart = {"distance": metrics.PairwiseDistance(), "vendi": metrics.VendiScore(), "vendi_2": metrics.VendiScore(2.0)}
    together = MetricCollection({name: metric.clone() for name, metric in apart.items()})
    for part, prompts in ((rows[:1], ["c"]), (rows, PROMPTS)):
        together.update(part, prompts)
        for metric in apart.values():
            metric.update(part, prompts)
    assert together.compute() == {name: metric.compute() for name, metric in apart.items()}


def test_the_evaluator_computes_with_the_same_classes() -> None:
    """Whoever logs one of these has the number of `eval/...`."""
    ours = {"pairwise_distance": metrics.PairwiseDistance(), "vendi": metrics.VendiScore()}
    evaluators = standard_metrics(None)
    assert {name: type(metric.measure) for name, metric in ours.items()} == {
        name: type(measure) for name, measure in evaluators.items()
    }
    assert isinstance(metrics.RkeScore().measure, measured.RkeScore)


def test_images_and_lpips_of_ones_own() -> None:
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    metric = metrics.PairwiseSsim()
    metric.update(images[:1].expand(3, -1, -1, -1))
    assert metric.compute().item() == pytest.approx(0, abs=1e-6)

    def apart(images_S3HW: Tensor) -> Tensor:
        return (1 - torch.eye(len(images_S3HW))) * 0.25

    lpips = metrics.PairwiseLpips(apart)
    lpips.update(images)
    assert lpips.compute().item() == pytest.approx(0.25)


def test_drift_is_that_of_all_rows(rows: Tensor) -> None:
    other = rows.flip(0) + 1
    metric = metrics.FrechetDistance()
    metric.update(rows[:4], other[:4])
    metric.update(rows[4:], other[4:])
    assert metric.compute().item() == pytest.approx(frechet_distance(rows, other).item(), rel=1e-6)


def test_too_few_labels_are_refused(rows: Tensor) -> None:
    with pytest.raises(ValueError, match="groups has 2 labels for 6 rows: give one for each"):
        metrics.VendiScore().update(rows, ["a", "b"])
