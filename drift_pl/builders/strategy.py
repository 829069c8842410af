"""How the processes of a run train together: Lightning's strategy."""

from datetime import timedelta

from lightning.pytorch.strategies import DDPStrategy, Strategy

from drift_pl.config.schema import Config


def build_strategy(config: Config) -> Strategy | str:
    """`auto` for one process, DDP for several."""
    trainer = config.trainer
    alone = trainer.strategy == "auto" and trainer.devices * trainer.num_nodes == 1
    return "auto" if alone else DDPStrategy(timeout=timedelta(seconds=trainer.timeout_s))
