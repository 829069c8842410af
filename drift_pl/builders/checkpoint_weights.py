"""The weights of a run's checkpoints: reading them, and loading them into a policy."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from drift_pl.builders.policy import build_policy
from drift_pl.config.checkpoints import CONFIG, refuse_foreign_checkpoint
from drift_pl.config.identity import hash_of
from drift_pl.config.inputs import inputs_now
from drift_pl.config.schema import Config
from drift_pl.core.checkpoint_files import LAST
from drift_pl.core.errors import UserError
from drift_pl.policies.protocol import Policy
from drift_pl.training.checkpoint_content import shape_difference
from drift_pl.training.checkpointing import checkpoint_iteration, read_checkpoint, weights_digest


class Checkpoint(NamedTuple):
    """Facts about a checkpoint.

    Attributes:
        weights: those to be measured, `average` (the EMA) or `live`.
        digest: twelve hex digits of these weights.
        shapes: shapes of the trained parameters, by their names in the policy's network.
        identity: its run, HASH-sSEED.
        held: the weights themselves, of a file that a run may replace meanwhile; None: they are read when needed.
    """

    path: Path
    iteration: int
    weights: str
    digest: str
    shapes: dict[str, tuple[int, ...]]
    identity: str
    held: Mapping[str, Tensor] | None = None

    @property
    def config_hash(self) -> str:
        return hash_of(self.identity)


def read_checkpoint_of(path: Path, config_file: Path, which: str) -> Checkpoint:
    """One checkpoint, with its weights; see `read_checkpoints`."""
    content = read_checkpoint(path)
    refuse_foreign_checkpoint(content, path, config_file)
    weights, label = trained_weights(content, which)
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    digest, identity = weights_digest(weights), content["run_identity"]
    return Checkpoint(path, checkpoint_iteration(content), label, digest, shapes, identity, weights)


def read_checkpoints(paths: Sequence[Path], config_file: Path, which: str) -> list[Checkpoint]:
    """Checkpoints in the order of iterations; last.ckpt only if no other has its iteration.

    Of last.ckpt, which a running `fit` replaces, the weights are kept.

    Args:
        config_file: config.yaml of their run.
        which: `average` for the EMA where there is one, or `live`.

    Raises:
        UserError: a file is not a checkpoint of this package, or belongs to another run.
    """
    found: list[Checkpoint] = []
    for path in sorted(paths, key=lambda path: path.name == LAST):
        checkpoint = read_checkpoint_of(path, config_file, which)
        if path.name != LAST:
            checkpoint = checkpoint._replace(held=None)
        elif any(other.iteration == checkpoint.iteration for other in found):
            continue
        found.append(checkpoint)
    return sorted(found, key=lambda checkpoint: checkpoint.iteration)


class TunedPolicy(NamedTuple):
    """A policy with a checkpoint's weights; within `policy.reference()` it is the base model."""

    policy: Policy
    checkpoint: Checkpoint


def load_tuned(config: Config, run_dir: Path, path: Path, weights: str) -> TunedPolicy:
    """Builds the run's policy, on the CPU, and loads a checkpoint's weights into it; warns of another base model.

    Args:
        config: the run's.
        weights: `average` for the EMA where there is one, or `live`.

    Raises:
        UserError: the checkpoint belongs to another run or does not fit, or the base model cannot be loaded.
    """
    inputs_now(config, run_dir, ("policy.pretrained",))
    checkpoint = read_checkpoint_of(path, run_dir / CONFIG, weights)
    config = without_warm_start(config)
    plain = config.policy.model_copy(update={"compile": False, "gradient_checkpointing": False})
    policy = build_policy(config.model_copy(update={"policy": plain}))
    parameters = dict(policy.trainable_parameters())
    refuse_other_shapes(parameters, checkpoint, config.policy.lora.rank)
    load_weights(parameters, checkpoint)
    return TunedPolicy(policy, checkpoint._replace(held=None))


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
    """Copies a checkpoint's weights into a policy's trained parameters, by name.

    Raises:
        UserError: the file is gone or holds other weights by now.
    """
    weights = checkpoint.held
    if weights is None:
        weights, _ = trained_weights(read_checkpoint(checkpoint.path), checkpoint.weights)
        if weights_digest(weights) != checkpoint.digest:
            raise UserError(
                f"ckpt_path={checkpoint.path} holds other weights than when this command began; what was measured is "
                "kept: run the command again for the rest"
            )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


def refuse_other_shapes(parameters: Mapping[str, Tensor], checkpoint: Checkpoint, rank: int) -> None:
    """Raises a `UserError` where names or shapes differ from those of the policy of the run's config.

    Args:
        rank: of the config's adapter, for the message.
    """
    own = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    difference = shape_difference(checkpoint.shapes, own)
    if difference:
        name, theirs, ours = difference
        raise UserError(
            f"ckpt_path={checkpoint.path}: its {name} is {theirs}, and {ours} in the policy "
            f"of config.yaml (policy.lora.rank={rank}): they are of different runs"
        )
