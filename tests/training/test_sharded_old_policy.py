"""The old policy of a network that is sharded over processes (`trainer.strategy=fsdp`)."""

from functools import partial
from pathlib import Path

import pytest
import torch
from processes import run_processes
from sharded import load_sharded, prediction, process_group, train
from tiny_policies import load_tiny

from drift_pl.policies.sharding import collected
from drift_pl.training.ema import Lag, OldPolicy


def follow_together(folder: Path, tuning: str) -> None:
    with process_group() as mesh:
        found, states = [], []
        for load in (partial(load_tiny, "sd3"), partial(load_sharded, mesh=mesh)):
            policy = load(folder, tuning=tuning)
            old = OldPolicy(policy.trainable_parameters(), Lag(0.2, 0.5, 0, samples=True))
            train(policy, steps=2)
            old.end_iteration(2)
            train(policy, steps=1)
            with torch.no_grad(), old.swapped_in():
                within = prediction(policy)
            with torch.no_grad():
                found.append((within, prediction(policy)))
            states.append(collected(old.state_dict()))
        for ours, theirs in zip(found[1], found[0], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
        assert (found[0][0] - found[0][1]).abs().max() > 1e-3, "it lags"
        old.load_state_dict(states[0])  # of one process, into the sharded one
        if torch.distributed.get_rank() == 0:
            assert states[1].keys() == states[0].keys()
            for name, value in states[0].items():
                torch.testing.assert_close(torch.as_tensor(states[1][name]), torch.as_tensor(value), rtol=0, atol=1e-6)


@pytest.mark.parametrize("tuning", ["lora", pytest.param("full", marks=pytest.mark.slow)])
def test_two_processes_have_the_old_policy_of_one(tiny_pipeline: Path, tuning: str) -> None:
    """Its predictions while it is swapped in, those of the policy of now afterwards, and what a checkpoint holds.

    Meant for, in training/ema.py: the copy of the parameters before they were sharded, which no pass would see.
    """
    run_processes(2, follow_together, tiny_pipeline, tuning, limit_s=300)
