"""Whole runs with rewards and models that misbehave: the weights of a run with well-behaved ones, or one line.

Catches in core/types.py: a stand-in with NaN in the update.
Catches in builders/stochastic_steps.py: no warning of a step with next to no noise.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import TinyWorld, assert_same_training_state
from torch import Tensor

from drift_pl.core.errors import UserError
from drift_pl.policies.sd3 import StableDiffusion3Policy

ONE = ["trainer.iterations=1", "trainer.save_every=1"]
BRIGHTNESS = "{name: 'judges:Brightness'}"
WATCHED = "incentive.shaping.weight=1"


@pytest.fixture(autouse=True)
def judges_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    yield
    torch.set_grad_enabled(True)


@pytest.fixture(scope="module")
def polite(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An iteration with all levers, and its evaluations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        return world.fit(tmp_path_factory.mktemp("polite") / "run", *ONE, WATCHED, f"rewards=[{BRIGHTNESS}]")


@pytest.mark.parametrize("rude", ["Blackening", "Learning", "SwitchingOff"])
def test_a_rude_reward_changes_no_bit_of_a_run(
    world: TinyWorld, polite: dict[str, Any], tmp_path: Path, rude: str
) -> None:
    """It scores as the other one and comes first, so that whatever it spoils is seen by the rest of the run."""
    rewards = f"rewards=[{{name: 'judges:{rude}'}}, {{name: 'judges:Brightness', weight: 0}}]"
    assert_same_training_state(world.fit(tmp_path / "run", *ONE, WATCHED, rewards), polite)


def test_a_mute_reward_without_a_weight_changes_no_bit(
    world: TinyWorld, polite: dict[str, Any], tmp_path: Path
) -> None:
    rewards = f"rewards=[{BRIGHTNESS}, {{name: 'judges:Brightness', args: {{nan_every: 1}}, weight: 0}}]"
    assert_same_training_state(world.fit(tmp_path / "run", *ONE, WATCHED, rewards), polite)


def spoil(monkeypatch: pytest.MonkeyPatch, every: int) -> None:
    """Every `every`-th latent of a batch decodes to NaN, and is NaN, as of a network that overflows."""
    decode = StableDiffusion3Policy.decode

    def broken(self: StableDiffusion3Policy, latents: Tensor) -> Tensor:
        latents[::every] = torch.nan
        return decode(self, latents)

    monkeypatch.setattr(StableDiffusion3Policy, "decode", broken)


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("loss", ["surrogate", "nft"])
def test_broken_images_are_left_out_of_a_run(
    world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, loss: str
) -> None:
    """Each second image, and with groups of their own in the second optimizer step: whole shares without an image."""
    import recorder

    spoil(monkeypatch, 2)
    recorder.ROWS.clear()
    callback = "trainer.callbacks=[{name: 'recorder:Recorder'}]"
    settings = [f"objective.loss={loss}", "policy.guidance_scale=1", WATCHED, callback]
    state = world.fit(tmp_path / "run", *ONE, *settings)
    assert all(value.isfinite().all() for value in state["state_dict"].values())
    assert any(value.any() for name, value in state["state_dict"].items() if "lora_B" in name)
    (row,) = recorder.ROWS
    assert row["reward/unscored_fraction"] == 0.5
    warned = [line for line in capsys.readouterr().err.splitlines() if "are NaN" in line]
    assert warned[0].startswith("warning: evaluation: ")
    assert sum(line.startswith("warning: this iteration: 8 of 16 images are NaN and left out") for line in warned) == 1


def test_a_model_that_makes_nothing_else_is_blamed(
    world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, 1)
    with pytest.raises(UserError, match=r"all \d+ images are NaN; the model gives them, .* policy\.dtype=bfloat16"):
        world.fit(tmp_path / "run", *ONE)


def test_an_optimizer_step_without_an_image_changes_no_weight_to_nan(
    world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All images of two groups are NaN: the first optimizer step has none, and its stand-in is one of them."""
    decode, calls = StableDiffusion3Policy.decode, []

    def broken(self: StableDiffusion3Policy, latents: Tensor) -> Tensor:
        calls.append(len(latents))
        if len(latents) == 4 and calls.count(4) <= 2:  # rollouts: groups of four; evaluations: two images
            latents[:] = torch.nan
        return decode(self, latents)

    monkeypatch.setattr(StableDiffusion3Policy, "decode", broken)
    settings = ["objective.loss=nft", "policy.guidance_scale=1", "incentive.shaping.weight=0"]
    state = world.fit(tmp_path / "run", *ONE, f"rewards=[{BRIGHTNESS}]", *settings)
    assert calls.count(4) == 4
    assert all(value.isfinite().all() for value in state["state_dict"].values())
    assert any(value.any() for name, value in state["state_dict"].items() if "lora_B" in name)


def test_a_reward_that_differs_by_rounding_trains_nothing(world: TinyWorld, tmp_path: Path) -> None:
    off = ["incentive.selection.rule=none", "incentive.prompting.rule=none", "incentive.shaping.weight=0"]
    state = world.fit(tmp_path / "run", *ONE, *off, "rewards=[{name: 'judges:Rounding'}]", "objective.weight_decay=0")
    assert not any(value.any() for name, value in state["state_dict"].items() if "lora_B" in name)


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            [],
            r"window_range=\[0,3\]: sampler.kind=flow_cps has so little noise in step 2 .*window_range=\[0,2\] or obj",
        ),
        (["sampler.window_range=[0,2]"], ""),
        (["objective.ratio=guard"], ""),
        (["objective.loss=flow_dppo"], r"window_range=\[0,3\].*; use sampler.window_range=\[0,2\]$"),
        (["sampler.kind=flow_sde"], ""),
    ],
)
def test_a_step_with_next_to_no_noise_is_warned_of(
    world: TinyWorld, tmp_path: Path, capsys: pytest.CaptureFixture, settings: list[str], says: str
) -> None:
    import re

    world.fit(tmp_path / "run", *ONE, f"rewards=[{BRIGHTNESS}]", "sampler.kind=flow_cps", *settings)
    warned = [line for line in capsys.readouterr().err.splitlines() if "so little noise" in line]
    assert len(warned) == bool(says)
    assert re.search(says, "".join(warned))
