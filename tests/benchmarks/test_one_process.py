"""The benchmarks of one process: what counts as a network, what is equal, bytes by hand."""

import memory
import metrics
import pytest
import torch
from overhead import Clock
from torch import nn

from drift_pl.config.loading import build_config


def test_only_the_outermost_calls_of_networks_and_backward_count() -> None:
    """Catches in benchmarks/overhead.py: an inner module counted twice."""
    clock = Clock(cuda=False)
    network = nn.Sequential(nn.Linear(300, 300), nn.Sequential(nn.Linear(300, 300), nn.ReLU()))
    rows = torch.randn(400, 300)
    with clock.watching():
        clock.lap()
        for _ in range(30):
            network(rows).sum().backward()
        total, inside = clock.lap()
        assert 0.5 * total < inside <= total
        for _ in range(30):
            rows @ rows.T
        total, inside = clock.lap()
        assert total > inside == 0
    assert nn.Module.__call__ is nn.Module._wrapped_call_impl


def test_a_difference_of_results_is_seen() -> None:
    found = metrics.compare(lambda: [1.0, 2.0], lambda: [1.0, 2.5], repeats=3)
    assert found["difference"] == pytest.approx(0.2)


@pytest.mark.parametrize(("rule", "rows"), [("embedding_noise", 48), ("variants", 1152)])
def test_bytes_are_those_of_the_shapes(rule: str, rows: int) -> None:
    """By hand for 1,152 images of pickscore_div: 16 x 64 x 64 latents, 3 x 512 x 512 pixels, 205 tokens of 4,096.

    Catches in benchmarks/memory.py: the state after the last trained step left out; texts of variants counted as
    prompts.
    """
    arguments = [("experiment", "pickscore_div"), ("incentive.prompting.rule", rule)]
    arguments.append(("incentive.prompting.templates", "['a {prompt}']"))
    table = memory.counted(build_config(arguments), processes=1)
    now = {name: entry["now"] for name, entry in table.items()}
    assert now["latents of the trained steps"] == 10 * 1152 * 16 * 64 * 64 * 4
    assert now["images"] == 1152 * 3 * 512 * 512 * 4
    assert now["conditions, one row per text"] == rows * (205 * 4096 + 2048) * 4
    assert now["noise of the prompts"] == (8 * 205 * 4096 * 4 if rule == "embedding_noise" else 0)
    half = memory.counted(build_config(arguments), processes=2)
    assert 2 * half["images"]["now"] == now["images"]
