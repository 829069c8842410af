"""Flow-DPPO (`objective.loss=flow_dppo`) in whole runs."""

from pathlib import Path

from runs import TinyWorld, assert_same_training_state, largest_difference

STEPS = ["trainer.iterations=2", "objective.inner_epochs=2", "objective.updates=1"]


def test_a_limit_that_is_never_reached_is_a_clip_that_is_never_reached(world: TinyWorld, tmp_path: Path) -> None:
    """Bit for bit; and a limit that is always exceeded stops what leads away, as a clip of next to nothing does not.

    Meant for, in training/updates/divergence.py: the means of the rollout not kept; the mask inverted.
    """
    clipped = world.fit(tmp_path / "clipped", *STEPS, "objective.loss=surrogate", "objective.clip_range=1000")
    free = world.fit(tmp_path / "free", *STEPS, "objective.loss=flow_dppo", "objective.kl_limit=1000")
    assert_same_training_state(free, clipped)
    held = world.fit(tmp_path / "held", *STEPS, "objective.loss=flow_dppo", "objective.kl_limit=1e-12")
    assert largest_difference(free, held) > 1e-3
