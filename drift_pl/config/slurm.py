"""A sweep as a SLURM array: one task per run, each of which survives pre-emption and the time limit."""

import shlex
import sys
from collections.abc import Sequence

from drift_pl.config.sweeping import SweptRun
from drift_pl.core.errors import UserError

SCRIPT = """#!/bin/bash
# {count} runs, one per task of an array: sbatch {file}
# The lines below are a beginning: partition, account, time and memory are your cluster's. The run folders, the models
# and the Python environment must be on a file system that all hosts see.
#SBATCH --job-name={name}
#SBATCH --array=0-{last}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node={devices}
{gpus}#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={name}-%a.log
# SIGTERM to this script, 180 seconds before the time limit (or the pre-emption, where the cluster says so)
#SBATCH --signal=B:TERM@180

case "$SLURM_ARRAY_TASK_ID" in
{cases}
*)
    echo "error: {file} has tasks 0 to {last}: submit it with sbatch" >&2
    exit 2
    ;;
esac

stopping=""
trap 'stopping=yes; kill -TERM "$step" 2> /dev/null' TERM

# ckpt_path=auto starts, resumes and finishes by one command; of a complete run it does nothing
srun --kill-on-bad-exit=1 {python} -m drift_pl.fit "$@" ckpt_path=auto &
step=$!
while true; do
    wait "$step"
    status=$?
    kill -0 "$step" 2> /dev/null || break # not just interrupted by the trap
done

if [ -n "$stopping" ] && [ "$status" -ne 0 ]; then
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$status"
"""


def slurm_script(name: str, runs: Sequence[SweptRun], file: str) -> str:
    """The batch script that submits runs to SLURM as one job array, with a task for each run.

    Raises:
        UserError: the runs have different numbers of processes, and the tasks of an array are alike.
    """
    sizes = {(run.config.trainer.num_nodes, run.config.trainer.devices) for run in runs}
    if len(sizes) > 1:
        raise UserError(
            "slurm: trainer.devices and trainer.num_nodes must be the same in all runs of an array: write one file each"
        )
    ((nodes, devices),) = sizes
    uses_gpus = any(run.config.trainer.accelerator != "cpu" for run in runs)
    return SCRIPT.format(
        count=len(runs),
        last=len(runs) - 1,
        file=shlex.quote(file),
        name=name,
        nodes=nodes,
        devices=devices,
        gpus=f"#SBATCH --gpus-per-node={devices}\n" if uses_gpus else "",
        cases="\n".join(f"{number}) set -- {shlex.join(run.arguments)} ;;" for number, run in enumerate(runs)),
        python=shlex.quote(sys.executable),
    )
