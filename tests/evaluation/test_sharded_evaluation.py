"""Evaluation of a sharded network: processes with fewer prompts keep pace with the others."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import run_processes
from sharded import load_sharded, process_group
from tiny_policies import load_tiny
from torch import Tensor
from torch.nn.functional import normalize

from drift_pl.evaluation.evaluator import Evaluator
from drift_pl.evaluation.partial import PartialPoint
from drift_pl.evaluation.sampling import Model
from drift_pl.policies.pipeline import PipelinePolicy
from drift_pl.sampling.prompts import PromptEncoder
from drift_pl.sampling.rollout import Sampler
from drift_pl.scoring.rewards import WeightedReward

PROMPTS = ("a red cat", "two big dogs", "sky", "a dot", "a bar")


def brightness(images_B3HW: Tensor, prompts: list[str]) -> Tensor:
    return images_B3HW.mean((1, 2, 3))


class Pixels:
    """An encoder."""

    def __call__(self, images_B3HW: Tensor) -> Tensor:
        return normalize(images_B3HW.flatten(1), dim=-1)

    def to(self, device: Any) -> "Pixels":
        return self


def evaluate(policy: PipelinePolicy, partial: PartialPoint | None, count: int) -> dict[str, Tensor]:
    model = Model(policy, PromptEncoder(policy), torch.device("cpu"), nullcontext)
    sampler = Sampler(policy.sigmas(3), 1.0, policy.encode([""], negative=True))
    evaluator = Evaluator([WeightedReward("brightness", brightness, 1.0)], Pixels(), None, micro_batch=2)
    return evaluator.run(model, sampler, PROMPTS[:count], 4, partial=partial).values


def evaluate_together(folder: Path, out: Path, count: int, done: list[int]) -> None:
    """
    Args:
        done: prompts that an earlier part of the run has measured.
    """
    partial = PartialPoint(out / f"{count}")
    with process_group() as mesh:
        policy = load_sharded(folder, mesh)
        first = evaluate(policy, partial, count)
        torch.distributed.barrier()
        if torch.distributed.get_rank() == 0:
            for number in {*range(count)} - {*done}:
                partial._file(number).unlink()
        torch.distributed.barrier()
        again = evaluate(policy, partial, count)
    expected = evaluate(load_tiny("sd3", folder), None, count)
    for name, value_P in expected.items():
        for values in (first, again):
            torch.testing.assert_close(values[name], value_P, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("count", "done"), [(5, []), (4, [0, 2]), pytest.param(1, [], marks=pytest.mark.slow)])
def test_prompts_that_do_not_divide_are_measured_as_by_one_process(
    tiny_pipeline: Path, tmp_path: Path, count: int, done: list[int]
) -> None:
    """Three and two prompts; after a kill that left one process nothing to do and the other two; one prompt for both.

    Fails at its time limit if the processes wait for each other.

    Catches in evaluation/evaluator.py: a process samples for its own prompts only, and leaves the others waiting.
    Catches in evaluation/evaluator.py: prompts that are done are counted among those that are sampled.
    """
    run_processes(2, evaluate_together, tiny_pipeline, tmp_path, count, done)
