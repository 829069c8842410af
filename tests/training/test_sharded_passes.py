"""Processes of a sharded network pass it together, however many images each of them has to learn from.

One that makes fewer passes than the others leaves them waiting: these tests then fail at their time limit.
"""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from processes import run_processes
from sharded import load_sharded, process_group
from tiny_policies import load_tiny

from drift_pl.core.prompt_batch import PromptBatch
from drift_pl.core.rng import sample_generators
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.policies.pipeline import PipelinePolicy
from drift_pl.policies.sharding import whole
from drift_pl.sampling.rollout import Sampler, rollout
from drift_pl.sampling.stochastic import FlowSde
from drift_pl.training.experience import Experience
from drift_pl.training.reporting import IterationReport
from drift_pl.training.sharded_strategy import ShardedStrategy
from drift_pl.training.updates.clipped import ClippedUpdate
from drift_pl.training.updates.nft import NftUpdate
from drift_pl.training.updates.passes import Passes
from drift_pl.training.updates.protocol import UpdateContext

KEPT = (
    torch.tensor([[True, True, True, False], [True, True, True, True]]),
    torch.tensor([[True, True, False, False], [False, True, True, False]]),
)
"""Of each process: two groups of four images, one group per optimizer step."""
ADVANTAGE = (
    torch.tensor([[1.0, -0.5, -0.5, 0.0], [0.0, 0.0, 1.0, -1.0]]),
    torch.tensor([[1.0, -1.0, 0.0, 0.0], [0.0, 0.5, -0.5, 0.0]]),
)
COUNTS_U = torch.tensor([5.0, 6.0]).double()
COMMON = {"inner_epochs": 1, "updates": 2, "micro_batch": 1}
SURROGATE = partial(
    ClippedUpdate,
    **COMMON,
    clip_range=0.2,
    kl_form="exact",
    ratio="plain",
    step_weights="none",
    trainable_steps=(0, 3),
)
NFT = partial(NftUpdate, **COMMON, nft_times=2, nft_beta=0.5, advantage_clip=5.0)
CASES: dict[str, tuple[Passes, str]] = {
    "selection": (SURROGATE(skip_zero_advantage=False, kl_weight=0.1), "lora"),
    "zero advantages": (SURROGATE(skip_zero_advantage=True, kl_weight=0.0), "lora"),
    "old policy": (NFT(skip_zero_advantage=True, kl_weight=0.1), "full"),
}


def context_of(policy: PipelinePolicy, strategy: Any, rank: int) -> UpdateContext:
    """An update of a process: two prompts, four images of each, drawn by the policy."""
    prompts = (("a red cat", "sky"), ("two dots", "a tree"))[rank]
    batch = PromptBatch(0, 0, prompts, (2 * rank, 2 * rank + 1), group_size=4)
    sampler = Sampler(policy.sigmas(4), 1.0, policy.encode([""], negative=True), FlowSde(0.7))
    condition = VariedCondition(policy.encode(batch.repeated_prompts))
    noise = torch.randn(8, *policy.latent_shape, generator=torch.Generator().manual_seed(rank))
    generators = sample_generators("test", samples=batch.samples)
    trajectory = rollout(policy, sampler, condition, (0, 1), noise, generators)
    experience = Experience(batch, trajectory, condition, KEPT[rank], ADVANTAGE[rank], None)
    module: Any = SimpleNamespace(trainer=SimpleNamespace(strategy=strategy), manual_backward=torch.Tensor.backward)
    return UpdateContext(module, policy, sampler, experience, COUNTS_U, IterationReport())


def learn(update: Passes, policy: PipelinePolicy, contexts: list[UpdateContext]) -> None:
    """The optimizer steps on the mean of the gradients of some processes."""
    optimizer = torch.optim.SGD([parameter for _, parameter in policy.trainable_parameters()], lr=2.0)
    for _ in zip(*(update.run(context) for context in contexts), strict=True):
        for _, parameter in policy.trainable_parameters():
            parameter.grad /= len(contexts)
        optimizer.step()
        optimizer.zero_grad()


def update_together(folder: Path, case: str) -> None:
    update, tuning = CASES[case]
    maxima: list[int] = []
    with process_group() as mesh:
        original = torch.distributed.all_reduce

        def counted(tensor: torch.Tensor, op: Any = torch.distributed.ReduceOp.SUM, **options: Any) -> Any:
            maxima.extend([int(tensor)] if op == torch.distributed.ReduceOp.MAX else [])
            return original(tensor, op, **options)

        torch.distributed.all_reduce = counted
        rank = torch.distributed.get_rank()
        policy, alone = (
            load(folder, tuning=tuning) for load in (partial(load_sharded, mesh=mesh), partial(load_tiny, "sd3"))
        )
        fake = SimpleNamespace(lightning_module=SimpleNamespace(network=policy.network))
        strategy = SimpleNamespace(block_backward_sync=partial(ShardedStrategy.block_backward_sync, fake))
        learn(update, policy, [context_of(policy, strategy, rank)])
        assert len(maxima) == 2, "one exchange per optimizer step"
        learn(update, alone, [context_of(alone, object(), each) for each in range(2)])
        assert len(maxima) == 2, "none where the network is whole"
        start = dict(load_tiny("sd3", folder, tuning=tuning).trainable_parameters())
        moved = 0.0
        for (name, ours), (_, theirs) in zip(policy.trainable_parameters(), alone.trainable_parameters(), strict=True):
            torch.testing.assert_close(whole(ours.detach()), theirs.detach(), rtol=0, atol=1e-6, msg=name)
            moved = max(moved, float((theirs - start[name]).abs().max()))
        assert moved > 1e-3, "the weights must have moved for the comparison to mean anything"


@pytest.mark.parametrize("case", CASES)
def test_processes_with_unequal_work_learn_what_one_does(tiny_pipeline: Path, case: str) -> None:
    """Passes of 3 and 2, then 4 and 2 images; without a KL term 3 and 2, then 2 and 2.

    Up to 1e-6: the mean over processes adds the same gradients in another order.

    Catches in training/updates/passes.py: a process makes the passes of its own images only, and waits for ever.
    Catches in training/updates/passes.py: a further pass has a weight.
    Catches in training/updates/nft.py: the old policy is asked for the process's own images only.
    Catches in training/sharded_strategy.py: gradients of all passes but the last are not summed over processes.
    """
    run_processes(2, update_together, tiny_pipeline, case)
