"""One checkpoint of a run, in the policy that it was trained in."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from drift_pl.config.checkpoints import CONFIG, find_checkpoints
from drift_pl.config.inputs import inputs_now
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError

if TYPE_CHECKING:  # what is wrong with a path is told without torch
    from drift_pl.builders.checkpoint_weights import Checkpoint
    from drift_pl.policies.protocol import Policy


@dataclass(frozen=True)
class TunedPolicy:
    """A policy that holds a checkpoint's weights; within `policy.reference()` it is the base model."""

    policy: "Policy"
    checkpoint: "Checkpoint"


def find_checkpoint(given: str) -> tuple[Path, Path]:
    """A run's folder, and the one checkpoint that is meant; of a folder, the last.

    Raises:
        UserError: there is none, or a pattern matches several.
    """
    run_dir, paths = find_checkpoints([given])
    if len(paths) > 1 and not Path(given).expanduser().is_dir():
        names = ", ".join(path.name for path in paths[:8])
        raise UserError(f"ckpt_path={given} matches {len(paths)} checkpoints ({names}): give one of them")
    return run_dir, paths[-1]  # last.ckpt is the newest; where there is none, the highest number is


def load_tuned(config: Config, run_dir: Path, path: Path, weights: str) -> TunedPolicy:
    """Builds the run's policy, on the CPU, and puts a checkpoint's weights in; warns of another base model.

    Args:
        config: the run's.
        weights: `average` for the EMA where there is one, or `live`.

    Raises:
        UserError: the checkpoint is another run's or does not fit, or the base model cannot be loaded.
    """
    from drift_pl.builders.checkpoint_weights import (
        load_weights,
        read_checkpoints,
        refuse_other_shapes,
        without_warm_start,
    )
    from drift_pl.builders.policy import build_policy

    inputs_now(config, run_dir, ("policy.pretrained",))
    checkpoint = read_checkpoints([path], run_dir / CONFIG, weights)[0]
    config = without_warm_start(config)
    plain = config.policy.model_copy(update={"compile": False, "gradient_checkpointing": False})
    policy = build_policy(config.model_copy(update={"policy": plain}))
    parameters = dict(policy.trainable_parameters())
    refuse_other_shapes(parameters, checkpoint, config.policy.lora.rank)
    load_weights(parameters, checkpoint)
    return TunedPolicy(policy, checkpoint)
