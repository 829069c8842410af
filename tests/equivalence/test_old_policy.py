"""The old policy that samples and lags behind the trained one (`objective.old_decay_max`), in whole runs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from runs import TinyWorld, assert_same_training_state, load_checkpoint

NFT = ["objective.loss=nft", "policy.guidance_scale=1", "objective.ema_decay=0"]
LAG = ["objective.old_decay_max=0.6", "objective.old_decay_rate=0.1", "objective.old_decay_after=2"]
ON_POLICY = ["objective.old_decay_max=0.5", "objective.old_decay_after=1000000"]
ALL_IMAGES = ["objective.skip_zero_advantage=false", "incentive.selection.rule=none"]


@pytest.fixture(scope="module")
def whole(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four iterations of two optimizer steps, with a checkpoint after each."""
    folder = tmp_path_factory.mktemp("lag") / "run"
    world.fit(folder, *NFT, *LAG, "trainer.iterations=4", "trainer.save_every=1", "trainer.keep_checkpoints=9")
    return folder


def kept(folder: Path, iteration: int) -> dict[str, Any]:
    return load_checkpoint(folder / "checkpoints" / f"iteration-{iteration:06d}.ckpt")


def test_it_follows_the_schedule(whole: Path) -> None:
    """Oracle: old <- d old + (1 - d) new after each iteration, d = min(0.1 (n - 2), 0.6) in optimizer steps n.

    Catches in training/module.py: steps counted by iteration. Catches in training/ema.py: new and old exchanged.
    """
    shares = {1: 0.0, 2: 0.2, 3: 0.4, 4: 0.6}
    old: dict[str, torch.Tensor] = {}
    for iteration, share in shares.items():
        content = kept(whole, iteration)
        new = {name.removeprefix("network."): value for name, value in content["state_dict"].items()}
        assert content["old_policy"].pop("num_updates") == 2 * iteration
        for name, value in content["old_policy"].items():
            old[name] = share * old.get(name, new[name]) + (1 - share) * new[name]
            torch.testing.assert_close(value, old[name], rtol=1e-5, atol=1e-7)
    assert max(float((old[name] - new[name]).abs().max()) for name in old) > 1e-3, "it does lag"


def test_a_resumed_run_has_the_same_old_policy(world: TinyWorld, whole: Path, tmp_path: Path) -> None:
    """Bit for bit. Meant for, in training/module.py: an old policy that starts again from the weights of now."""
    settings = [*NFT, *LAG, "trainer.save_every=1"]
    world.fit(tmp_path / "parts", *settings, "trainer.iterations=3")
    resumed = world.fit(tmp_path / "parts", *settings, "trainer.iterations=4", "ckpt_path=last")
    uninterrupted = kept(whole, 4)
    assert_same_training_state(resumed, uninterrupted)
    for name, value in uninterrupted["old_policy"].items():
        assert (
            value == resumed["old_policy"][name]
            if name == "num_updates"
            else torch.equal(value, resumed["old_policy"][name])
        )


def test_without_a_lag_it_is_the_update_on_policy(world: TinyWorld, tmp_path: Path) -> None:
    """Bit for bit: the same weights sample, and the same velocities are v_old.

    Meant for, in training/updates/nft.py: the old policy is asked after the first step.
    """
    settings = [*NFT, *ALL_IMAGES, "trainer.iterations=2", "objective.inner_epochs=2"]
    plain = world.fit(tmp_path / "plain", *settings)
    assert_same_training_state(world.fit(tmp_path / "lag", *settings, *ON_POLICY), plain)


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_the_old_policy_samples(world: TinyWorld, tmp_path: Path, tuning: str) -> None:
    """A policy that is kept for ever samples what the base model would: the images of iteration 2 are the base's.

    Meant for, in training/module.py: rollouts of the trained policy.
    """
    import recorder

    latents: dict[str, list[float]] = {}
    settings = [f"policy.tuning={tuning}", "trainer.iterations=2", "trainer.callbacks=[{name: 'recorder:Recorder'}]"]
    for name, kept_share in {"old": 0.999999, "new": 0.0}.items():
        for rate in (0.01, 1e-9):
            recorder.ROWS.clear()
            lag = [f"objective.old_decay_max={kept_share}", "objective.old_decay_rate=1000000"]
            world.fit(tmp_path / f"{name}{rate}", *NFT, *settings, *lag, f"objective.learning_rate={rate}")
            latents[f"{name} {rate}"] = [row["policy/latent_rms"] for row in recorder.ROWS]
    still = latents["new 1e-09"][1]
    assert latents["old 0.01"][1] == pytest.approx(still, rel=1e-4)
    assert latents["new 0.01"][1] != pytest.approx(still, rel=1e-3)
