#!/bin/bash
# A run on several hosts without a scheduler. On each of them, with the same environment and a shared run folder:
#   HOSTS=2 FIRST=host-a docker/torchrun.sh experiment=pickscore_div run_dir=/shared/runs/pickscore
# FIRST is one of the hosts. If a host goes down, the others end within half a minute: start the same lines again.
set -eu

HOSTS=${HOSTS:-1}
PROCESSES=${PROCESSES:-$(nvidia-smi --list-gpus | wc -l)}

exec torchrun --nnodes="$HOSTS" --nproc-per-node="$PROCESSES" \
    --rdzv-backend=c10d --rdzv-endpoint="${FIRST:-localhost}:${PORT:-29400}" --rdzv-id="${RUN_ID:-drift}" \
    -m drift_pl.fit "$@" trainer.devices="$PROCESSES" trainer.num_nodes="$HOSTS" ckpt_path=auto
