"""The weights of a run's checkpoints: reading them, and loading them into a policy."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from drift_pl.builders.policy import build_policy
from drift_pl.config.checkpoints import CONFIG, refuse_foreign_checkpoint
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError
from drift_pl.policies.protocol import Policy
from drift_pl.training.checkpointing import checkpoint_iteration, read_checkpoint, weights_digest


class Checkpoint(NamedTuple):
    """Facts about a checkpoint, without its weights in memory.

    Attributes:
        weights: those to be measured, `average` (the EMA) or `live`.
        digest: twelve hex digits of these weights.
        shapes: shapes of the trained parameters, by their names in the policy's network.
        identity: its run, HASH-sSEED.
    """

    path: Path
    iteration: int
    weights: str
    digest: str
    shapes: dict[str, tuple[int, ...]]
    identity: str


def read_checkpoints(paths: Sequence[Path], config_file: Path, which: str) -> list[Checkpoint]:
    """Checkpoints in the order of iterations; last.ckpt only if no other has its iteration.

    Args:
        config_file: config.yaml of their run.
        which: `average` for the EMA where there is one, or `live`.

    Raises:
        UserError: a file is not a checkpoint of this package, or belongs to another run.
    """
    found: list[Checkpoint] = []
    for path in sorted(paths, key=lambda path: path.name == "last.ckpt"):
        content = read_checkpoint(path)
        refuse_foreign_checkpoint(content, path, config_file)
        iteration = checkpoint_iteration(content)
        if path.name == "last.ckpt" and any(other.iteration == iteration for other in found):
            continue
        weights, label = trained_weights(content, which)
        shapes = {name: tuple(value.shape) for name, value in weights.items()}
        found.append(Checkpoint(path, iteration, label, weights_digest(weights), shapes, content["run_identity"]))
    return sorted(found, key=lambda checkpoint: checkpoint.iteration)


class TunedPolicy(NamedTuple):
    """A policy with a checkpoint's weights; within `policy.reference()` it is the base model."""

    policy: Policy
    checkpoint: Checkpoint


def load_tuned(config: Config, run_dir: Path, path: Path, weights: str) -> TunedPolicy:
    """Builds the run's policy, on the CPU, and loads a checkpoint's weights into it.

    Args:
        config: the run's.
        weights: `average` for the EMA where there is one, or `live`.

    Raises:
        UserError: the checkpoint belongs to another run or does not fit, or the base model cannot be loaded.
    """
    checkpoint = read_checkpoints([path], run_dir / CONFIG, weights)[0]
    config = without_warm_start(config)
    plain = config.policy.model_copy(update={"compile": False, "gradient_checkpointing": False})
    policy = build_policy(config.model_copy(update={"policy": plain}))
    parameters = dict(policy.trainable_parameters())
    refuse_other_shapes(parameters, checkpoint, config.policy.lora.rank)
    load_weights(parameters, checkpoint)
    return TunedPolicy(policy, checkpoint)


def trained_weights(content: Mapping[str, Any], which: str) -> tuple[dict[str, Tensor], str]:
    """Parameters by their names in the policy's network, and whether they are the `average` or `live`."""
    average = content.get("average")
    if which == "average" and average is not None:
        return {name: value for name, value in average.items() if name != "num_updates"}, "average"
    state = content["state_dict"]
    return {name.removeprefix("network."): state[name] for name in state if name.startswith("network.")}, "live"


def without_warm_start(config: Config) -> Config:
    """For a policy that a checkpoint is loaded into: its weights replace a warm start, whose file may be gone."""
    lora = config.policy.lora.model_copy(update={"pretrained": None})
    return config.model_copy(update={"policy": config.policy.model_copy(update={"lora": lora})})


def load_weights(parameters: Mapping[str, Tensor], checkpoint: Checkpoint) -> None:
    """Copies a checkpoint's weights into a policy's trained parameters, by name."""
    weights, _ = trained_weights(read_checkpoint(checkpoint.path), checkpoint.weights)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


def refuse_other_shapes(parameters: Mapping[str, Tensor], checkpoint: Checkpoint, rank: int) -> None:
    """Raises a `UserError` where names or shapes differ from those of the policy of the run's config.

    Args:
        rank: of the config's adapter, for the message.
    """
    own = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    for name in sorted(own.keys() | checkpoint.shapes.keys()):
        ours, theirs = own.get(name), checkpoint.shapes.get(name)
        if ours != theirs:
            raise UserError(
                f"ckpt_path={checkpoint.path}: its {name} is {_shape(theirs)}, and {_shape(ours)} in the policy of "
                f"config.yaml (policy.lora.rank={rank}): they are of different runs"
            )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else " x ".join(map(str, shape))
