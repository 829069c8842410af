"""How the processes of a run train together: Lightning's strategy."""

from datetime import timedelta

from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.strategies import DDPStrategy, Strategy

from drift_pl.config.processes import world_size
from drift_pl.config.schema import Config


def build_strategy(config: Config) -> Strategy | str:
    """`auto` for one process, DDP for several."""
    trainer = config.trainer
    alone = trainer.strategy == "auto" and world_size(config) == 1
    return "auto" if alone else DDPStrategy(timeout=timedelta(seconds=trainer.timeout_s))


def build_environment(config: Config) -> list[ClusterEnvironment]:
    """SLURM's without Lightning's requeueing, which saves amid an iteration; empty for what Lightning chooses itself.

    One process is a run of its own, however many tasks SLURM has started.
    """
    if TorchElasticEnvironment.detect() or not SLURMEnvironment.detect():
        return []
    return [LightningEnvironment() if world_size(config) == 1 else SLURMEnvironment(auto_requeue=False)]
