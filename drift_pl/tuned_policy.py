"""One checkpoint of a run, in the policy that it was trained in."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from drift_pl.config import Config
from drift_pl.errors import UserError
from drift_pl.run_checkpoints import CONFIG, find_checkpoints, recorded_identity

if TYPE_CHECKING:  # what is wrong with a path is told without torch
    from drift_pl.evaluation_points import Checkpoint
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
    """Builds the run's policy, on the CPU, and puts a checkpoint's weights in.

    Args:
        config: the run's.
        weights: `average` for the EMA where there is one, or `live`.

    Raises:
        UserError: the checkpoint is another run's or does not fit, or the base model cannot be loaded.
    """
    import torch

    from drift_pl.build import build_policy
    from drift_pl.evaluation_points import read_checkpoints, trained_weights
    from drift_pl.training.checkpointing import read_checkpoint

    checkpoint = read_checkpoints([path], recorded_identity(run_dir / CONFIG), weights)[0]
    # the checkpoint's weights replace those of a warm start, whose file may be gone
    lora = replace(config.policy.lora, pretrained=None)
    plain = replace(config.policy, lora=lora, compile=False, gradient_checkpointing=False)
    policy = build_policy(replace(config, policy=plain))
    parameters = dict(policy.trainable_parameters())
    _refuse_other_shapes({name: tuple(value.shape) for name, value in parameters.items()}, checkpoint, config)
    values, _ = trained_weights(read_checkpoint(path), checkpoint.weights)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])
    return TunedPolicy(policy, checkpoint)


def _refuse_other_shapes(own: dict[str, tuple[int, ...]], checkpoint: "Checkpoint", config: Config) -> None:
    for name in sorted(own.keys() | checkpoint.shapes.keys()):
        ours, theirs = own.get(name), checkpoint.shapes.get(name)
        if ours != theirs:
            raise UserError(
                f"ckpt_path={checkpoint.path}: its {name} is {_shape(theirs)}, and {_shape(ours)} in the policy of "
                f"config.yaml (policy.lora.rank={config.policy.lora.rank}): they are of different runs"
            )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "not there" if shape is None else " x ".join(map(str, shape))
