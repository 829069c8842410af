"""Metrics that callbacks add to an iteration's."""

from typing import Any

import pytest
import torch

from drift_pl.core.errors import UserError
from drift_pl.training import reporting
from drift_pl.training.reporting import IterationReport, observe


class Adds:
    """A callback that adds one number under a name, twice."""

    def __init__(self, name: str, value: Any = 1.0) -> None:
        self.name, self.value = name, value

    def observe_iteration(self, report: IterationReport, *rest: Any) -> None:
        report.add(self.name, self.value)
        report.add(self.name, self.value)


def seen_by(*callbacks: Any) -> dict[str, float]:
    report = IterationReport()
    report.add("reward/mean", torch.tensor(0.9))
    images: Any = torch.zeros(1, 3, 2, 2)
    observe([object(), *callbacks], report, *[None], images, *[None])
    return report.reduce(torch.device("cpu"))


def test_callbacks_add_tensors_and_numbers_of_their_own() -> None:
    found = seen_by(Adds("my/first", torch.tensor([1.0, 3.0])), Adds("my/second", 0.5))
    assert found == pytest.approx({"reward/mean": 0.9, "my/first": 2.0, "my/second": 0.5})


@pytest.mark.parametrize("name", ["reward/mean", "my/first", "time/rollout_s", "iteration"])
def test_a_metric_of_the_run_is_not_mixed_with_a_callbacks(name: str) -> None:
    """Catches in training/reporting.py: the mean reward of the logs is half a callback's number."""
    with pytest.raises(UserError, match=rf"report\.add\('{name}'\).* e\.g\. 'my/{name}'"):
        seen_by(Adds("my/first"), Adds(name))


def test_other_metrics_on_another_process_are_refused_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches in training/reporting.py: two metrics are averaged under the name that the first process gave."""
    gather = reporting.gather_vectors

    def of_two(vector_N: torch.Tensor, device: torch.device) -> torch.Tensor:
        mine_1N = gather(vector_N, device)
        return torch.cat([mine_1N, mine_1N + other])

    monkeypatch.setattr(reporting, "gather_vectors", of_two)
    other = 0
    assert seen_by(Adds("my/first"))["my/first"] == 1.0
    other = 1
    with pytest.raises(UserError, match=r"add different metrics in observe_iteration, this one my/first last: add the"):
        seen_by(Adds("my/first"))
