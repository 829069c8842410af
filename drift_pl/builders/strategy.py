"""How the processes of a run train together: Lightning's strategy."""

from datetime import timedelta

from lightning.pytorch.strategies import DDPStrategy, Strategy

from drift_pl.config.schema import Config

PROCESS_GROUP_TIMEOUT = timedelta(minutes=10)
"""Time after which a lost host is noticed, in place of torch's half hour."""


def build_strategy(config: Config) -> Strategy | str:
    """`auto` for one process, DDP for several."""
    trainer = config.trainer
    alone = trainer.strategy == "auto" and trainer.devices * trainer.num_nodes == 1
    return (
        "auto"
        if alone
        else DDPStrategy(
            timeout=PROCESS_GROUP_TIMEOUT,
            broadcast_buffers=False,  # they are the same on all processes, and some networks' are as large as weights
        )
    )
