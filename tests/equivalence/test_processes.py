"""Several processes train what one does, groups whole or split over them, and exchange next to nothing.

Four groups of four images in two optimizer steps: two processes have whole groups; three have 2, 3 and 3 images of
each step; four have half of a group, five less. All three levers are on, with global statistics, so that every exchange
between processes matters. Reward and encoder are smooth: one that rounds to 8 bits makes a pixel's last bit a step of
1/255.
"""

import csv
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import fit_together, run_processes
from runs import TinyWorld, gradient_difference, largest_difference, load

SETTINGS = (
    *("objective.advantage_std=global", "objective.learning_rate=0.0003", "trainer.iterations=3"),
    *("objective.kl_weight=0.1", "trainer.save_every=3", "evaluation.every=3", "policy.guidance_scale=1"),
    *("rewards=[{name: 'judges:Brightness'}]", "incentive.shaping.encoder={name: 'judges:CoarsePixels'}"),
    "trainer.logger=[csv]",
)
OPTIONS = {
    "surrogate": (),
    "nft": ("objective.loss=nft",),
    # the old policy follows from the first iteration on, is the one that samples, and is v_old
    "lag": ("objective.loss=nft", "objective.old_decay_max=0.6", "objective.old_decay_rate=0.1"),
    "prefix": ("sampler.shared_prefix=true", "incentive.prompting.rule=variants", "incentive.shaping.form=per_step")
    + ("incentive.prompting.templates=['{prompt} now']", "trainer.judge_groups=1", "trainer.judge_thread=true"),
    # of 16 images 5 are gated; of 8 they would be 2, of 16 with those of two processes 4
    "gardo": ("incentive.method=gardo", "incentive.shaping.weight=0", "incentive.args={gated_share: 0.3}"),
    "awm": ("objective.loss=awm", "objective.clip_range=1", "objective.awm_pull=0.5", "sampler.window_size=0")
    + ("objective.old_decay_max=0.3", "objective.old_decay_rate=0.1"),
    "flow_dppo": ("objective.loss=flow_dppo", "objective.kl_limit=1e-4"),
    "clean": ("objective.loss=nft", "incentive.prompting.rule=embedding_noise", "incentive.prompting.update=clean")
    + ("incentive.prompting.scale=1", "incentive.shaping.normalise=residual", "incentive.selection.rule=none"),
    "expansions": ("objective.loss=nft", "incentive.prompting.rule=expansions", "incentive.prompting.update=clean")
    + (f"incentive.prompting.vocabulary={Path(__file__).with_name('moods.jsonl')}",),
    "target": ("incentive.shaping.weight=2", "incentive.shaping.target=0.97", "incentive.shaping.target_gain=4"),
}
slow = pytest.mark.slow


def fit_on(processes: int, world: TinyWorld, run_dir: Path, *settings: str) -> dict[str, Any]:
    """Runs `fit` on several processes; returns the last checkpoint. Each writes its exchanges into the folder."""
    command = [sys.executable, "-m", "drift_pl.fit", *world.overrides(), "objective.ema_decay=0.5", *settings]
    command += [f"trainer.devices={processes}", f"run_dir={run_dir}", "trainer.threads=1"]
    command += ["trainer.callbacks=[{name: 'collectives:Counting'}]"]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "COLLECTIVES": str(run_dir.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return load(run_dir)


@pytest.fixture(scope="module")
def alone(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a run on one process."""

    @cache
    def fit(loss: str) -> Path:
        run_dir = tmp_path_factory.mktemp(loss) / "one"
        world.fit(run_dir, *SETTINGS, *OPTIONS[loss], "trainer.save_every=1", "trainer.keep_checkpoints=-1")
        return run_dir

    return fit


@pytest.mark.parametrize(
    ("processes", "loss"),
    [
        (2, "surrogate"),
        (3, "surrogate"),
        pytest.param(4, "surrogate", marks=slow),
        pytest.param(5, "surrogate", marks=slow),
        *(pytest.param(number, loss, marks=slow) for loss in ("nft", "prefix") for number in (2, 3, 4)),
        *(pytest.param(number, "gardo", marks=slow) for number in (2, 3, 4)),
        pytest.param(2, "lag", marks=slow),
        *(
            pytest.param(number, loss, marks=slow)
            for loss in ("awm", "flow_dppo", "clean", "expansions", "target")
            for number in (2, 4)
        ),
    ],
)
def test_several_processes_equal_one(
    world: TinyWorld, alone: Callable[[str], Path], tmp_path: Path, processes: int, loss: str
) -> None:
    """DDP over gloo. Sums differ in their last bits: 2e-5 of the gradients. Without an exchange it is half, or more.

    Catches in training/datamodule.py: a process takes a contiguous run of groups, so that an optimiser step's share
    depends on how many processes there are (found a real bug).
    Catches in training/parallel.py: "global" statistics of one process only; of split groups added up over processes.
    Catches in training/updates/passes.py: the loss is not scaled by the number of processes.
    Catches in training/experience.py: of split groups the first advantages, whichever images the process has.
    Catches in training/whole_groups.py: rows in the order of processes.
    Meant for, in training/ema.py: an old policy that follows the steps of one process.
    Meant for: texts, noise and the weight of a target that differ between processes.
    Catches: processes average unequal numbers of images.
    """
    many = fit_on(processes, world, tmp_path / "many", *SETTINGS, *OPTIONS[loss])
    one = load(alone(loss))
    start = torch.load(alone(loss) / "checkpoints" / "iteration-000001.ckpt", weights_only=True)
    assert gradient_difference(one, many) < 1e-3
    assert largest_difference(one, many) < 1e-4
    assert largest_difference(one, start) > 1e-3, "the weights must have moved for the comparison to mean anything"
    assert one["PromptDataModule"] == many["PromptDataModule"] == {"iteration": 3}
    for name, value in (one["old_policy"] or {}).items():
        torch.testing.assert_close(many["old_policy"][name], value, rtol=0, atol=1e-4)
    assert (one["old_policy"] is not None) == (loss in ("lag", "awm"))
    assert (tmp_path / "many" / "summary.json").exists()
    assert_same_metrics(tmp_path / "many", alone(loss), split=processes > 2)
    for rank in range(processes):
        calls = json.loads((tmp_path / f"{rank}.json").read_text())
        assert_few_exchanges(calls, many, split=processes > 2, gate=loss == "gardo" and processes == 2)


@slow
def test_a_sharded_network_with_split_groups_equals_one_process(world: TinyWorld, tmp_path: Path) -> None:
    """Three processes have 4, 6 and 6 images of 2, 4 and 2 groups, and so need unequal numbers of passes.

    Catches in sampling/groups.py: a process with fewer images makes fewer passes, and the others wait for it.
    """
    settings = [*SETTINGS, "objective.micro_batch=1", "sampler.shared_prefix=true", "trainer.iterations=2"]
    argv = [*world.overrides(), "objective.ema_decay=0.5", *settings, "trainer.strategy=fsdp", "trainer.devices=3"]
    run_processes(3, fit_together, argv, tmp_path / "many", limit_s=300)
    one = world.fit(tmp_path / "one", *settings)
    assert gradient_difference(one, load(tmp_path / "many")) < 1e-3


def assert_same_metrics(run_dir: Path, expected: Path, split: bool) -> None:
    """Of every iteration and look; mean LPIPS over fewer pairs is another number."""
    rows, others = (list(csv.DictReader((each / "csv" / "metrics.csv").open())) for each in (run_dir, expected))
    assert len(rows) == len(others) > 3
    for row, other in zip(rows, others, strict=True):
        assert row.keys() == other.keys()
        for name in row:
            if name.startswith("time/") or name == "epoch" or not other[name]:
                continue
            if name == "diversity/pairwise_lpips" and split:
                assert 0.1 < float(row[name]) / float(other[name]) < 10
            elif not name.startswith("policy/ratio"):  # 0, or what another batch's matrix product makes of it
                assert float(row[name]) == pytest.approx(float(other[name]), rel=2e-3, abs=2e-6), name


def assert_few_exchanges(calls: list[tuple[str, str, int]], trained: dict[str, Any], split: bool, gate: bool) -> None:
    """Between two iterations whether somebody's callback, such as the one that counts here, has ended the run, and
    nothing else; Lightning's own broadcast of a signal is switched off.

    Catches in training/callbacks/diversity.py: the monitor gathers images.
    Catches in builders/strategy.py: DDP sends the network's buffers around.
    """
    begins = [number for number, (_, name, _) in enumerate(calls) if name == "nothing"]
    iterations = [calls[first + 1 : end] for first, end in itertools.pairwise([*begins, len(calls)])]
    iterations[-1] = [call for call in iterations[-1] if call[0] != "between"]  # the look after it, and its checkpoint
    assert len(iterations) == 3
    weights = sum(weight.numel() for name, weight in trained["state_dict"].items() if "lora_" in name)
    for found in iterations:
        if gate:  # one of rewards alone
            assert found.pop(1)[1:] == ["all_gather", 2 * 4]
        exchanges = ["all_gather", "all_reduce", "all_reduce", "all_gather"]
        ended = [name for place, name, _ in found if place == "between"]
        found = [call for call in found if call[0] != "between"]
        assert ended in ([], ["all_gather"])
        assert [(place, name) for place, name, _ in found] == [("step", name) for name in exchanges]
        before, first, second, after = (size for *_, size in found)
        assert first == second == weights
        assert after < 64
        # of six images, which have 768 numbers each: a score, and two embeddings, or four with those of two predictions
        assert before < (1000 if split else 16)
