"""benchmarks/scaling.py: exchanges are counted wherever they begin, and what is calculated is arithmetic."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from speed import scaling_model
from speed.collectives import Collectives, size_of
from speed.flops import Denoiser
from torch.distributed import HashStore, destroy_process_group, init_process_group
from torch.nn.parallel import DistributedDataParallel


@pytest.fixture
def group() -> Iterator[None]:
    """A group of one process."""
    init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    destroy_process_group()


BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "scaling.py"
ADAPTER_BYTES = 4 * 79_872
"""Of the built-in model's LoRA of rank 8, in float32."""


@pytest.mark.slow
def test_two_processes_sum_gradients_once_per_optimizer_step(tmp_path: Path) -> None:
    """Two optimizer steps, two sums of the adapter's gradients; and no exchange while images are sampled."""
    command = [sys.executable, BENCHMARK, "parts=exchange", "strategies=ddp", "processes=2", f"out={tmp_path}/a.json"]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    found = json.loads((tmp_path / "a.json").read_text())["exchange"]["ddp, 2"]
    assert found["update"] == {"all_reduce": [2, 2 * ADAPTER_BYTES]}
    assert "rollout" not in found


@pytest.mark.usefixtures("group")
def test_collectives_of_python_are_counted() -> None:
    """16 bytes are summed, and gathered; they are counted where they happen, once."""
    vector = torch.ones(4)
    with Collectives() as mode:
        torch.distributed.all_reduce(vector)
        mode.stage = "rollout"
        torch.distributed.all_gather([torch.empty(4)], vector)
        torch.distributed.barrier()
        vector.add(1)
    found = mode.take()
    assert found["between"] == {"all_reduce": [1, 16]}
    assert found["rollout"]["all_gather"] == [1, 16]
    assert found["rollout"]["barrier"][0] == 1
    assert mode.take() == {}


@pytest.mark.usefixtures("group")
def test_what_ddp_starts_in_a_backward_pass_is_counted() -> None:
    """DDP sums a layer's 6 x 5 weights and 5 biases, 140 bytes, in C++, and nothing while it must not.

    Catches in benchmarks/speed/collectives.py: counting calls of torch.distributed's Python functions alone.
    """
    network = DistributedDataParallel(torch.nn.Linear(6, 5))
    with Collectives() as mode:
        with network.no_sync():
            network(torch.ones(2, 6)).sum().backward()
        assert mode.take() == {}
        network(torch.ones(2, 6)).sum().backward()
    assert mode.take() == {"between": {"all_reduce": [1, 140]}}


def test_bytes_of_lists_are_summed() -> None:
    assert size_of([[torch.empty(3), torch.empty(2, dtype=torch.float64)]]) == 28
    assert size_of("a name") == 0


@pytest.fixture
def round_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forward pass of 1 TFLOP, 2 with its backward, an adapter of 25 M numbers on a billion; nothing else counts."""
    work = scaling_model.work_of.__globals__["Work"]
    monkeypatch.setattr(scaling_model, "denoiser_of", lambda *_: Denoiser(1e12, 2e12, 10**9, 25 * 10**6))
    monkeypatch.setattr(scaling_model, "work_of", lambda *_: work(60e15, 40e15, 0, 0, 0))


@pytest.mark.usefixtures("round_numbers")
def test_iterations_on_many_gpus_are_calculated() -> None:
    """By hand, pickscore_div: 100 PFLOP at 40 % of 1,000 TFLOP/s are 250 s on one GPU; two sums of 100 MB an iteration.

    Catches in benchmarks/speed/scaling_model.py: a sum of gradients that crosses the network once.
    """
    cluster = scaling_model.Cluster(peak=1e15, inside=100e9, between=10e9, latency=0.0)
    eight = scaling_model.iteration("pickscore_div", 8, "ddp", weak=False, cluster=cluster)
    assert eight["seconds"] == pytest.approx(250 / 8 + 2 * 2 * 7 / 8 * 1e8 / 100e9)
    many = scaling_model.iteration("pickscore_div", 64, "ddp", weak=True, cluster=cluster)
    assert many["images"] == 8 * 1152
    assert many["seconds"] == pytest.approx(250 / 8 + 2 * 2 * 63 / 64 * 1e8 / 10e9)
    assert many["images_per_s_per_gpu"] == pytest.approx(144 / many["seconds"])


@pytest.mark.usefixtures("round_numbers")
def test_more_gpus_than_work_are_refused() -> None:
    """1,152 images in micro-batches of eight are 144."""
    refused = scaling_model.iteration("pickscore_div", 512, "ddp", weak=False)
    assert refused["refused"].endswith("at most 144 GPUs")


@pytest.mark.usefixtures("round_numbers")
def test_gathering_weights_costs_what_computing_does_not_hide() -> None:
    """Ten steps, nine trained with a reference: 10 + 9 x 3 gathers of 2 GB per micro-batch, 18 micro-batches on 8 GPUs.

    On a link of 1 GB/s they take 37 x 18 x 2 x 7/8 s, and computing 31.25 s of that.
    """
    assert scaling_model.gathers_per_micro_batch("pickscore_div") == 37
    cluster = scaling_model.Cluster(peak=1e15, inside=1e9, latency=0.0)
    row = scaling_model.iteration("pickscore_div", 8, "fsdp", weak=False, cluster=cluster)
    assert row["seconds"] == pytest.approx(37 * 18 * 2 * 7 / 8 + 2 * 2 * 7 / 8 * 0.1)
