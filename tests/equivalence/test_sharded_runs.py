"""Sharded over processes a run is the run of one process: weights, moments, average, evaluation, checkpoints.

Two processes belong to the ordinary suite. The whole matrix, four processes, and every change of strategy on resume:
`python -m pytest -m "slow or not slow" tests/equivalence/test_sharded_runs.py` (minutes).
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import fit_together, run_processes
from runs import TinyWorld, assert_same_training_state, gradient_difference, largest_difference, load

from drift_pl.evaluate import main as evaluate
from drift_pl.export import main as export
from drift_pl.generate import main as generate

SETTINGS = [
    "objective.advantage_std=global",
    "objective.kl_weight=0.1",
    "objective.learning_rate=0.0003",
    "objective.ema_decay=0.5",
    "objective.micro_batch=2",
    "prompts.per_iteration=8",
    "rewards=[{name: 'judges:Brightness'}]",
    "incentive.selection.kappa=0.6",
    "incentive.shaping.encoder={name: 'judges:CoarsePixels'}",
    "policy.guidance_scale=1",
    "trainer.iterations=2",
]
"""Every exchange matters; band selection leaves processes with unequal numbers of images. Smooth rewards: see
`test_processes`."""
CASES = {
    f"{loss}-{tuning}": [f"objective.loss={loss}", f"policy.tuning={tuning}"]
    for loss in ("surrogate", "nft")
    for tuning in ("lora", "full")
}
IN_SUITE = ("surrogate-lora", "nft-full")
LIMIT_S = 300
Fit = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def fit(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Fit:
    """A run under a strategy, by a number of processes, as its last checkpoint; each is made once."""
    made: dict[tuple[str, ...], Path] = {}
    prompts = tmp_path_factory.mktemp("prompts") / "three.txt"
    prompts.write_text("a red bar\na dot\nany bar\n")

    def run(strategy: str, count: int, *overrides: str, run_dir: Path | None = None) -> dict[str, Any]:
        key = (strategy, str(count), *overrides)
        if run_dir is None and key in made:
            return load(made[key]) | {"run_dir": made[key]}
        folder = run_dir or tmp_path_factory.mktemp("runs") / "run"
        argv = [*world.overrides(), *SETTINGS, f"prompts.test={prompts}", *overrides]
        argv += [f"trainer.strategy={strategy}", f"trainer.devices={count}"]
        run_processes(count, fit_together, argv, folder, limit_s=LIMIT_S)
        if run_dir is None:
            made[key] = folder
        return load(folder) | {"run_dir": folder}

    return run


def assert_same_run(ours: dict[str, Any], theirs: dict[str, Any], gradients: float, weights: float) -> None:
    """
    Args:
        gradients: relative difference of Adam's first moments, see `gradient_difference`.
        weights: absolute difference of weights and average.
    """
    assert ours["PromptDataModule"] == theirs["PromptDataModule"]
    assert list(ours["state_dict"]) == list(theirs["state_dict"])
    ids = [state["optimizer_states"][0]["param_groups"][0]["params"] for state in (ours, theirs)]
    assert ids[0] == ids[1]
    assert gradient_difference(theirs, ours) <= gradients
    assert largest_difference(ours, theirs) <= weights
    average = theirs["average"]
    assert ours["average"].keys() == average.keys()
    assert max(float((ours["average"][name] - average[name]).abs().max()) for name in average if "." in name) <= weights


def summary(run_dir: Path) -> dict[str, float]:
    """What the final evaluation found: of the average, if it was put into the sharded network."""
    return json.loads((run_dir / "summary.json").read_text())["tuned"]


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[] if case in IN_SUITE else pytest.mark.slow) for case in CASES]
)
def test_two_processes_of_a_sharded_network_train_what_one_process_does(fit: Fit, case: str) -> None:
    """Two iterations of two optimizer steps, with a KL term; three prompts are evaluated.

    Up to rounding: a mean over processes adds the same numbers in another order, and Adam divides by what it adds up,
    so its weights are 1e-5 apart where next to nothing is left of a gradient (see `test_processes`).

    Catches in policies/full.py: the reference of a sharded network is the network itself, so that its KL is 0.
    Catches in training/module.py: the average is that of the parameters before they were sharded.
    Catches in training/sharded_strategy.py: frozen weights in the checkpoint; moments of one process's rows.
    """
    one, two = fit("auto", 1, *CASES[case]), fit("fsdp", 2, *CASES[case])
    assert_same_run(two, one, gradients=1e-4, weights=1e-5)
    ours, theirs = summary(two["run_dir"]), summary(one["run_dir"])
    for name in ("reward", "pairwise_distance", "vendi"):
        assert math.isclose(ours[name], theirs[name], rel_tol=1e-3), name
    trained = [name for name in two["state_dict"] if name != "base_group_std"]
    assert ("lora" in case) == all("lora_" in name for name in trained)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("count", [2, 4])
def test_ddp_and_fsdp_train_the_same(fit: Fit, case: str, count: int) -> None:
    """With an adapter both sum the same gradients once per step; with two processes that is one addition, and no bit
    differs. nft's gradients are clipped: their norm is added up from the processes' parts, and is 1e-7 off. Without an
    adapter a sharded network sums gradients once per pass.
    """
    ddp, fsdp = fit("ddp", count, *CASES[case]), fit("fsdp", count, *CASES[case])
    if (count, case) == (2, "surrogate-lora"):
        assert_same_run(fsdp, ddp, gradients=0, weights=0)
    elif (count, case) == (2, "nft-lora"):
        assert_same_run(fsdp, ddp, gradients=1e-6, weights=1e-6)
    else:
        assert_same_run(fsdp, ddp, gradients=1e-4, weights=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_four_processes_train_what_one_process_does(fit: Fit, case: str) -> None:
    assert_same_run(fit("fsdp", 4, *CASES[case]), fit("auto", 1, *CASES[case]), gradients=1e-4, weights=1e-5)


ONE, DDP2, FSDP2, FSDP4 = ("auto", 1), ("ddp", 2), ("fsdp", 2), ("fsdp", 4)
CHANGES = [(ONE, FSDP2), (DDP2, FSDP2), (FSDP2, DDP2), (FSDP2, ONE), (FSDP2, FSDP4), (FSDP4, ONE), (FSDP2, FSDP2)]


@pytest.mark.slow
@pytest.mark.parametrize("case", IN_SUITE)
@pytest.mark.parametrize(("before", "after"), CHANGES, ids=lambda part: f"{part[0]}{part[1]}")
def test_a_run_goes_on_under_another_strategy(
    fit: Fit, tmp_path: Path, before: tuple[str, int], after: tuple[str, int], case: str
) -> None:
    """An iteration under one, an iteration under the other: the two of one process.

    Catches in training/sharded_strategy.py: moments go to other parameters; the average starts again; a process takes
    the first rows in place of its own.
    """
    short = [*CASES[case], "trainer.save_every=1"]
    fit(*before, *short, "trainer.iterations=1", run_dir=tmp_path / "run")
    resumed = fit(*after, *short, "ckpt_path=last", run_dir=tmp_path / "run")
    assert resumed["average"]["num_updates"] == 4
    if before == after:
        assert_same_training_state(resumed, fit(*after, *short))
    else:
        assert_same_run(resumed, fit("auto", 1, *CASES[case]), gradients=1e-4, weights=1e-5)


def breaking_fit(argv: list[str], run_dir: Path) -> None:
    """Every process breaks in the second iteration, after an optimizer step and within a pass of the network."""
    from drift_pl.training.module import DriftModule

    original = DriftModule.update_policy

    def breaking(self: DriftModule, experience: Any, *args: Any) -> None:
        original(self, experience, *args)
        if experience.batch.iteration == 1:
            next(self.policy.blocks()).register_forward_hook(lambda *_: 1 / 0)
            with torch.no_grad():
                self.sample(experience.batch, self.device)

    DriftModule.update_policy = breaking
    try:
        fit_together(argv, run_dir)
    except (ZeroDivisionError, SystemExit):
        return
    raise AssertionError("it has not broken")


@pytest.mark.slow
@pytest.mark.parametrize(("count", "save_every"), [(1, 2), (2, 1)])
def test_a_run_that_breaks_within_a_pass_resumes_to_the_same_bits(
    fit: Fit, world: TinyWorld, tmp_path: Path, count: int, save_every: int
) -> None:
    """One process saves the copy from before the iteration; of several each has a part, and there is the checkpoint.

    Catches in training/checkpointing.py: the boundary is copied into weights that a broken pass had gathered.
    """
    argv = [*world.overrides(), *SETTINGS, *CASES["nft-full"], f"trainer.save_every={save_every}"]
    argv += ["trainer.strategy=fsdp", f"trainer.devices={count}"]
    run_processes(count, breaking_fit, argv, tmp_path / "run", limit_s=LIMIT_S, codes=(0, 1, 2))
    assert load(tmp_path / "run")["PromptDataModule"] == {"iteration": 1}
    run_processes(count, fit_together, [*argv, "ckpt_path=last"], tmp_path / "run", limit_s=LIMIT_S)
    run_processes(count, fit_together, argv, tmp_path / "whole", limit_s=LIMIT_S)
    assert_same_training_state(load(tmp_path / "run"), load(tmp_path / "whole"))


@pytest.mark.slow
def test_gradient_checkpointing_changes_nothing(fit: Fit) -> None:
    plain = fit("fsdp", 2, *CASES["surrogate-full"])
    assert_same_training_state(fit("fsdp", 2, *CASES["surrogate-full"], "policy.gradient_checkpointing=true"), plain)


@pytest.mark.slow
@pytest.mark.parametrize("option", ["policy.dtype=bfloat16", "trainer.precision=bf16-mixed"])
def test_half_precision_is_the_same_under_both_strategies(fit: Fit, option: str) -> None:
    """A base in bfloat16 with an adapter in float32, in one block; and autocast."""
    assert_same_run(fit("fsdp", 2, option), fit("ddp", 2, option), gradients=0, weights=0)


@pytest.mark.slow
def test_one_process_is_a_run_of_its_own_kind_too(fit: Fit) -> None:
    assert_same_run(fit("fsdp", 1), fit("auto", 1), gradients=0, weights=0)


@pytest.mark.slow
def test_the_other_commands_take_the_run(fit: Fit, tmp_path: Path) -> None:
    run_dir = fit("fsdp", 2, *CASES["surrogate-lora"], "evaluation.every=2")["run_dir"]
    assert evaluate([f"ckpt_path={run_dir}", f"out={tmp_path}/evaluation.json", "trust=true"]) == 0
    assert generate([f"ckpt_path={run_dir}", "prompt=a dot", "n=2", f"out={tmp_path}/pictures", "trust=true"]) == 0
    assert export([f"ckpt_path={run_dir}", f"out={tmp_path}/lora", "trust=true"]) == 0
    assert list((tmp_path / "lora").glob("*.safetensors"))
