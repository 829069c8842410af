"""The processes of a run before they know of each other: what their launcher has put into the environment."""

import os
from collections.abc import Sequence

from drift_pl.config.batches import world_size
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError

SEVERAL = ("trainer.devices=", "trainer.num_nodes=")
"""How arguments that ask for several processes begin."""


def is_first_launched(config: Config | None = None) -> bool:
    """False in the further processes of a run, which leave its folder and its messages to the first.

    torchrun numbers its processes by RANK, also where SLURM has started one torchrun per host; srun by SLURM_PROCID.
    Lightning's own launcher gives LOCAL_RANK to those that it starts, and the user NODE_RANK to it on each host.

    Args:
        config: of the run: one of a single process has no others, whatever the environment says.
    """
    if config is not None and world_size(config) == 1:
        return True
    if "RANK" in os.environ:
        return _number("RANK") == 0
    return not any(_number(name) for name in ("SLURM_PROCID", "NODE_RANK", "LOCAL_RANK"))


def reports_errors(config: Config | None, argv: Sequence[str] = ()) -> bool:
    """Whether a process prints an error of its start: on each host one does, for all of them are likely to meet it.

    Those that Lightning's launcher starts meet none that the process that starts them has met. Tasks of srun that train
    alone are runs of their own, each with its errors.

    Args:
        config: None if the error is in it; then the arguments must name several processes, or each one prints.
        argv: of the command.
    """
    alone = world_size(config) == 1 if config else not any(word.startswith(SEVERAL) for word in argv)
    if alone and "TORCHELASTIC_RUN_ID" not in os.environ:
        return True
    if "RANK" in os.environ:
        return _number("LOCAL_RANK") == 0
    return "LOCAL_RANK" in os.environ or _number("SLURM_LOCALID") == 0


def check_launch(config: Config) -> None:
    """Compares the processes that torchrun or srun has started with `trainer.devices` and `trainer.num_nodes`.

    Raises:
        UserError: torchrun or srun has started another number of processes than the settings say.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        launcher, started = "torchrun", _number("WORLD_SIZE")
    elif world_size(config) > 1 and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        launcher, started = "srun", _number("SLURM_NTASKS")
    else:
        return
    trainer, nodes = config.trainer, _number("SLURM_NNODES") if launcher == "srun" else config.trainer.num_nodes
    if started and (started, nodes or trainer.num_nodes) != (world_size(config), trainer.num_nodes):
        nodes = nodes if nodes and started % nodes == 0 else 1
        raise UserError(
            f"trainer.devices={trainer.devices} trainer.num_nodes={trainer.num_nodes} are {world_size(config)} "
            f"process(es), and {launcher} has started {started}: set trainer.devices={started // nodes} "
            f"trainer.num_nodes={nodes}"
        )
    if launcher == "srun" and started and "SLURM_NTASKS_PER_NODE" not in os.environ:
        raise UserError(
            f"trainer.devices={trainer.devices}: srun does not say how many of its {started} processes a host has: "
            f"use srun --ntasks-per-node={trainer.devices}"
        )


def _number(name: str) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else 0
