"""The weight average: its recurrence by hand, and that looking through it changes nothing."""

import torch
from torch import nn

from drift_pl.training.ema import ParameterAverage


def make(decay: float, every: int = 1) -> tuple[nn.Linear, ParameterAverage]:
    layer = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    return layer, ParameterAverage(layer.named_parameters(), decay, every)


def test_follows_the_recurrence_with_its_warm_up() -> None:
    """decay_k = min((1 + k) / (10 + k), 0.15): 0.1, then 0.15 (2/11 is above), from 1 with weights 2 and 3."""
    layer, average = make(0.15)
    for value in (2.0, 3.0):
        with torch.no_grad():
            layer.weight.fill_(value)
        average.update()
    expected = 0.15 * (0.1 * 1 + 0.9 * 2) + 0.85 * 3
    torch.testing.assert_close(average.average["weight"], torch.tensor([[expected]]))


def test_every_third_step_is_averaged_with_the_decay_of_that_step() -> None:
    """flow_grpo's rule: decay (1 + k) / (10 + k) with k the optimizer step, from 0, and an update at k = 2, 5, ...

    Catches in training/ema.py: every step averaged; the decay by the number of updates in place of that of steps.
    """
    layer, average = make(0.9, every=3)
    for step in range(6):
        with torch.no_grad():
            layer.weight.fill_(2.0 + step)
        average.update()
    after_third = 3 / 12 * 1 + 9 / 12 * 4
    torch.testing.assert_close(average.average["weight"], torch.tensor([[6 / 15 * after_third + 9 / 15 * 7]]))


def test_swapping_in_restores_the_live_weights_bit_for_bit() -> None:
    """On a CPU a detached tensor aliases its parameter: a backup without clone() could restore nothing.

    Catches in training/ema.py: the backup of the live weights is a view: an evaluation leaves the average in them.
    Catches: EMA's backup is a view: evaluation overwrites the weights.
    """
    layer, average = make(0.5)
    with torch.no_grad():
        layer.weight.fill_(0.1234567)
    before = layer.weight.detach().clone()
    with average.swapped_in():
        assert float(layer.weight) == 1.0
    assert torch.equal(layer.weight, before)
    assert float(average.average["weight"]) == 1.0


def test_restores_after_an_error_too() -> None:
    layer, average = make(0.5)
    with torch.no_grad():
        layer.weight.fill_(7.0)
    try:
        with average.swapped_in():
            raise RuntimeError
    except RuntimeError:
        pass
    assert float(layer.weight) == 7.0


def test_state_round_trip() -> None:
    layer, average = make(0.9)
    with torch.no_grad():
        layer.weight.fill_(3.0)
    average.update()
    _, other = make(0.9)
    other.load_state_dict(average.state_dict())
    assert other.num_updates == 1
    assert torch.equal(other.average["weight"], average.average["weight"])
