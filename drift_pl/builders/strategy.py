"""How the processes of a run train together: Lightning's strategy."""

import warnings
from collections.abc import Sequence
from datetime import timedelta

from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.strategies import DDPStrategy, Strategy

from drift_pl.config.batches import world_size
from drift_pl.config.processes import is_first_launched
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError
from drift_pl.core.processes import Patience
from drift_pl.policies.protocol import Policy, Shardable
from drift_pl.scoring.rewards import WeightedReward
from drift_pl.training.sharded_strategy import ShardedStrategy


def build_strategy(config: Config, policy: Policy, patience: Patience) -> Strategy | str:
    """`auto` for one process, DDP for several, or FSDP2.

    Args:
        policy: where it `has_unused_parameters`, DDP looks for them in every pass, and would else fail.
        patience: see `longest_wait`.
    """
    trainer = config.trainer
    world, timeout = world_size(config), timedelta(seconds=patience.seconds)
    if trainer.strategy == "fsdp":
        return ShardedStrategy(data_parallel_size=world, timeout=timeout)
    if trainer.strategy == "auto" and world == 1:
        return "auto"
    # buffers are the same on all processes, and large: Stable Diffusion 3 keeps its position embeddings in one
    unused = getattr(policy, "has_unused_parameters", False)
    return DDPStrategy(timeout=timeout, broadcast_buffers=False, find_unused_parameters=unused)


def longest_wait(config: Config, rewards: Sequence[WeightedReward]) -> Patience:
    """How long processes wait for each other: `trainer.timeout_s`, or as long as a reward, votes say, may take."""
    waits = [Patience("trainer.timeout_s", config.trainer.timeout_s)]
    for number, each in enumerate(rewards):
        waits.append(Patience(f"rewards.{number}.args.deadline_s", getattr(each.reward, "deadline_s", 0.0)))
    return max(waits, key=lambda wait: wait.seconds)


def build_environment(config: Config) -> list[ClusterEnvironment]:
    """SLURM's without Lightning's requeueing, which saves amid an iteration; empty for what Lightning chooses itself.

    One process is a run of its own, however many tasks SLURM has started.
    """
    if TorchElasticEnvironment.detect() or not SLURMEnvironment.detect():
        return []
    return [LightningEnvironment() if world_size(config) == 1 else SLURMEnvironment(auto_requeue=False)]


def is_sharding(config: Config) -> bool:
    """Whether the run shards its network over processes; warns of settings without effect.

    Raises:
        UserError: the accelerator, or another setting, rules it out.
    """
    trainer, policy = config.trainer, config.policy
    if trainer.strategy != "fsdp":
        return False
    if policy.quantisation is not None:
        raise UserError(
            f"trainer.strategy=fsdp cannot shard the weights of policy.quantisation={policy.quantisation}: use "
            "trainer.strategy=ddp, or policy.quantisation=null with policy.dtype=bfloat16"
        )
    if policy.storage is not None:
        raise UserError(
            f"trainer.strategy=fsdp cannot shard the weights of policy.storage={policy.storage}: use "
            "policy.storage=null with policy.dtype=bfloat16, or trainer.strategy=ddp"
        )
    if config.objective.optimizer == "adamw8bit":
        raise UserError(
            "trainer.strategy=fsdp cannot shard the moments of objective.optimizer=adamw8bit: use "
            "objective.optimizer=adamw, whose moments it shards, or trainer.strategy=ddp"
        )
    if policy.compile:
        raise UserError("policy.compile=true does not work with trainer.strategy=fsdp: use policy.compile=false")
    if is_first_launched(config):
        _warn(config)
    return True


def refuse_unsharded(config: Config, policy: Policy) -> None:
    """Raises a `UserError` where a policy of another package cannot be sharded."""
    if config.trainer.strategy == "fsdp" and not isinstance(policy, Shardable):
        raise UserError(
            f"trainer.strategy=fsdp: policy.family={config.policy.family} has no method shard(mesh) "
            "(drift_pl.policies.sharding): use trainer.strategy=ddp"
        )


def _warn(config: Config) -> None:
    policy = config.policy
    if world_size(config) == 1:
        warnings.warn(
            "trainer.strategy=fsdp shards over one process, which gains nothing: set trainer.devices, or use auto",
            stacklevel=1,
        )
    if policy.tuning == "full" and policy.reference_device == "cpu":
        warnings.warn(
            "policy.reference_device=cpu has no effect with trainer.strategy=fsdp: the reference is sharded too",
            stacklevel=1,
        )
