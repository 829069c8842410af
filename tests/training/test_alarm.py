"""The floor under diversity."""

import warnings
from types import SimpleNamespace
from typing import Any

import pytest

from drift_pl.training.callbacks.alarm import DiversityAlarm


class Module:
    """What the callback needs of a LightningModule."""

    def __init__(self) -> None:
        self.logged: list[float] = []

    def log(self, name: str, value: float, **_: Any) -> None:
        assert name == "diversity/share_of_start"
        self.logged.append(value)


def run(alarm: DiversityAlarm, distances: list[float]) -> tuple[Module, SimpleNamespace, list[str]]:
    module = Module()
    trainer = SimpleNamespace(should_stop=False, datamodule=SimpleNamespace(iteration=0))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for distance in distances:
            trainer.datamodule.iteration += 1
            outputs = {"metrics": {"diversity/pairwise_distance": distance}}
            alarm.on_train_batch_end(trainer, module, outputs, None, 0)
    return module, trainer, [str(one.message) for one in caught]


def test_it_warns_once_when_the_recent_mean_falls_below_the_share() -> None:
    """Start: mean of the first five, 0.8. Then 0.2 each: the mean of five falls below 0.4 with the fourth of them."""
    module, trainer, messages = run(DiversityAlarm(0.5, stop=False), [0.8] * 5 + [0.2] * 6)
    expected = [1.0] * 5 + [(0.8 * (5 - n) + 0.2 * n) / 5 / 0.8 for n in range(1, 6)] + [0.25]
    assert module.logged == pytest.approx(expected)
    assert len(messages) == 1
    assert messages[0].startswith("iteration 9: the groups' diversity is 40% of its initial value, below")
    assert "trainer.alarm.threshold=0.5" in messages[0]
    assert not trainer.should_stop


def test_one_quiet_iteration_is_no_alarm() -> None:
    _, _, messages = run(DiversityAlarm(0.5, stop=True), [0.8] * 6 + [0.1] + [0.8] * 5)
    assert messages == []


def test_it_ends_the_run_if_asked() -> None:
    alarm = DiversityAlarm(0.5, stop=True)
    _, trainer, messages = run(alarm, [0.8] * 5 + [0.2] * 4)
    assert trainer.should_stop
    assert alarm.stopped == "diversity alarm: 40% of the initial diversity (trainer.alarm.stop)"
    assert "the run ends here" in messages[0]


def test_a_threshold_of_zero_never_fires() -> None:
    _, trainer, messages = run(DiversityAlarm(0.0, stop=True), [0.8] * 5 + [0.0] * 9)
    assert messages == []
    assert not trainer.should_stop


def test_first_groups_that_are_alike_switch_it_off_with_a_warning() -> None:
    """A share of nothing is no number: neither an error nor an alarm."""
    module, trainer, messages = run(DiversityAlarm(0.5, stop=True), [0.0] * 5 + [0.5, 0.0, 0.0])
    assert module.logged == []
    assert len(messages) == 1
    assert "all alike for evaluation.encoder" in messages[0]
    assert not trainer.should_stop


def test_iterations_without_a_distance_do_not_count() -> None:
    nan = float("nan")
    module, _, messages = run(DiversityAlarm(0.5, stop=False), [nan, 0.8, nan, *[0.8] * 4, 0.2, nan])
    expected, _, _ = run(DiversityAlarm(0.5, stop=False), [*[0.8] * 5, 0.2])
    assert module.logged == expected.logged
    assert messages == []


def test_a_resumed_alarm_remembers_the_start() -> None:
    """Catches in training/callbacks/alarm.py: a resumed alarm forgets the start."""
    first = DiversityAlarm(0.5, stop=False)
    run(first, [0.8] * 7)
    resumed = DiversityAlarm(0.5, stop=False)
    resumed.load_state_dict(first.state_dict())
    module, _, messages = run(resumed, [0.2] * 5)
    assert module.logged[-1] == pytest.approx(0.25)
    assert len(messages) == 1
