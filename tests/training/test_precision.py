"""float16: what the network sees, the scale of the loss, steps that overflow. On the CPU, with a scaler of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from runs import TinyWorld, assert_same_training_state, load
from torch import nn

from drift_pl.builders.hardware import choose_device
from drift_pl.config.loading import parse
from drift_pl.core.errors import UserError
from drift_pl.policies.sd3 import StableDiffusion3Policy
from drift_pl.training.module import DriftModule
from drift_pl.training.optimizer import OptimizerPlan
from drift_pl.training.precision import ScaledPrecision

SIZES = ["evaluation.max_prompts=1", "trainer.iterations=2", "trainer.logger=[csv]"]


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return TinyWorld.create(tmp_path_factory.mktemp("world"))


@contextmanager
def seen_dtypes(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[tuple[torch.dtype, torch.dtype]]]:
    """Dtypes of the predictions and of what the first attention layer multiplies, within a fit."""
    found: set[tuple[torch.dtype, torch.dtype]] = set()
    predict = StableDiffusion3Policy.predict

    def spy(self: StableDiffusion3Policy, *inputs: Any) -> torch.Tensor:
        inside: list[torch.dtype] = []
        layer = self.network.transformer_blocks[0].attn.to_q
        handle = layer.register_forward_hook(lambda module, given, out: inside.append(out.dtype))
        try:
            prediction = predict(self, *inputs)
        finally:
            handle.remove()
        found.add((inside[0], prediction.dtype))
        return prediction

    with monkeypatch.context() as patch:
        patch.setattr(StableDiffusion3Policy, "predict", spy)
        yield found


def metrics(run_dir: Path) -> list[dict[str, float]]:
    import csv

    with (run_dir / "csv" / "metrics.csv").open() as file:
        rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    return [row for row in rows if "policy/grad_norm" in row or "policy/skipped_steps" in row]


@pytest.mark.parametrize(
    ("precision", "dtype"), [("16-mixed", "null"), ("16-mixed", "float16"), ("16-true", "float16")]
)
def test_the_network_computes_in_float16_and_the_first_ratio_is_one(
    precision: str, dtype: str, world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning by itself computes in bfloat16 on a CPU.

    Catches in builders/run.py: the precision left to Lightning.
    """
    with seen_dtypes(monkeypatch) as dtypes:
        state = world.fit(tmp_path / "run", *SIZES, f"trainer.precision={precision}", f"policy.dtype={dtype}")
    assert dtypes == {(torch.float16, torch.float16)}
    trained = {name: value for name, value in state["state_dict"].items() if "lora_" in name}
    assert {value.dtype for value in trained.values()} == {torch.float32}
    assert any(value.any() for name, value in trained.items() if "lora_B" in name)
    for row in metrics(tmp_path / "run"):
        assert row["policy/ratio_deviation_first"] == 0
        assert row["policy/skipped_steps"] == 0
    assert state["ScaledPrecision"]["scale"] == 2.0**16


def test_commands_without_training_compute_in_float16_as_well() -> None:
    """Catches in builders/hardware.py: an evaluation in another precision than the run's."""
    for precision, expected in (("16-mixed", torch.float16), ("16-true", torch.float32)):
        config = parse(["trainer.accelerator=cpu", f"trainer.precision={precision}", "policy.dtype=float16"]).config
        device, autocast = choose_device(config)
        assert device.type == "cpu"
        with autocast():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected


@pytest.mark.parametrize("scale", [2.0**4, 2.0**14])
def test_the_norm_that_is_clipped_is_that_of_the_unscaled_gradient(scale: float) -> None:
    """Gradient (3, 4), norm 5, clipped to 1, whatever the scale: (0.6, 0.8).

    Catches in training/optimizer.py: clipped before it is unscaled.
    """
    precision, parameter = ScaledPrecision("cpu"), nn.Parameter(torch.zeros(2))
    precision.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    plan = OptimizerPlan(0.1, max_grad_norm=1.0)
    optimizer = plan.create([parameter], scaled=True)
    precision.scaler.scale((parameter * torch.tensor([3.0, 4.0])).sum()).backward()
    norm = plan.clip(optimizer, 0, precision)
    assert float(norm) == pytest.approx(5.0)
    torch.testing.assert_close(parameter.grad, torch.tensor([0.6, 0.8]))


def test_an_optimizer_whose_gradients_are_scaled_is_not_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches in training/optimizer.py: fused AdamW beside a scaler."""
    made: dict[str, Any] = {}
    monkeypatch.setattr(torch.optim, "AdamW", lambda parameters, **options: made.update(options))
    on_cuda: Any = SimpleNamespace(is_cuda=True)
    for scaled, fused in ((False, True), (True, None)):
        OptimizerPlan(0.1).create([on_cuda], scaled=scaled)
        assert made["fused"] is fused


def test_an_overflowed_step_is_skipped_counted_and_resumed(
    world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first gradient of the second iteration is infinite: no weight, moment or average moves by it, the scale
    halves, and a run that is resumed goes on with that scale.

    Catches in training/module.py: the average counts a skipped step; the scale not restored after a break.
    Catches in training/optimizer.py: an overflow ends the run.
    """
    settings = ["trainer.precision=16-mixed", "trainer.iterations=3", "trainer.logger=[csv]", "trainer.save_every=10"]
    settings += ["evaluation.max_prompts=1", "objective.updates=2"]
    original = OptimizerPlan.clip
    counts = {"calls": 0}

    def overflow(self: OptimizerPlan, optimizer: Any, iteration: int, scaled: Any = None) -> torch.Tensor:
        counts["calls"] += 1
        if iteration == 1 and counts["calls"] == 3:
            optimizer.param_groups[0]["params"][0].grad.fill_(torch.inf)
        return original(self, optimizer, iteration, scaled)

    monkeypatch.setattr(OptimizerPlan, "clip", overflow)
    whole = world.fit(tmp_path / "whole", *settings)
    assert [row["policy/skipped_steps"] for row in metrics(tmp_path / "whole")] == [0, 0.5, 0]
    assert whole["ScaledPrecision"]["scale"] == 2.0**15
    assert whole["average"]["num_updates"] == 5
    assert {float(each["step"]) for each in whole["optimizer_states"][0]["state"].values()} == {5.0}

    counts["calls"] = 0
    update = DriftModule.update_policy

    def breaking(self: DriftModule, experience: Any, *rest: Any) -> None:
        update(self, experience, *rest)
        if experience.batch.iteration == 2:
            self.trainer.precision_plugin.scaler.update(1.0)
            raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(DriftModule, "update_policy", breaking)
        with pytest.raises(RuntimeError, match="out of memory"):
            world.fit(tmp_path / "run", *settings)
    assert load(tmp_path / "run")["ScaledPrecision"]["scale"] == 2.0**15
    assert_same_training_state(world.fit(tmp_path / "run", *settings, "ckpt_path=last"), whole)


def test_a_gradient_that_overflows_at_every_scale_ends_the_run() -> None:
    """Catches in training/precision.py: a loss of NaN skipped for ever."""
    precision, parameter = ScaledPrecision("cpu"), nn.Parameter(torch.zeros(2))
    plan = OptimizerPlan(0.1)
    optimizer = plan.create([parameter], scaled=True)
    for _ in range(16):
        precision.scaler.scale((parameter * torch.nan).sum()).backward()
        assert not plan.clip(optimizer, 7, precision).isfinite()
        precision.scaler.step(optimizer)
        precision.scaler.update()
        optimizer.zero_grad()
    assert not parameter.any()
    precision.scaler.scale((parameter * torch.nan).sum()).backward()
    with pytest.raises(UserError, match=r"iteration 7: the gradient is not finite at any loss scale: .*bf16-mixed"):
        plan.clip(optimizer, 7, precision)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["trainer.precision=16-true"], "policy.dtype=null: set policy.dtype=float16, or use"),
        (["trainer.precision=16-true", "policy.dtype=float16", "policy.tuning=full"], "use trainer.precision=16-mixed"),
        (["trainer.precision=16-mixed", "trainer.strategy=fsdp"], "use trainer.precision=bf16-mixed, or"),
        (["trainer.precision=16-mixed", "policy.family=sana"], "use trainer.precision=bf16-mixed"),
    ],
)
def test_what_float16_does_not_go_with_is_refused(settings: list[str], says: str) -> None:
    with pytest.raises(UserError, match=r"trainer\.precision=16-") as caught:
        parse(settings)
    assert says in str(caught.value)
