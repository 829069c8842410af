"""Two tasks under SLURM's variables, started by the example script: pre-empted, queued again, finished.

SLURM is not needed: its `srun` and `scontrol` are replaced by what they do here.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from jobs import LONGEST_S, SECOND_ITERATION, Job, end_session
from runs import TinyWorld, assert_same_training_state, load

DOCKER = Path(__file__).parents[2] / "docker"
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
trap 'kill -TERM "${tasks[@]}" 2> /dev/null' TERM
for ((task = 0; task < SLURM_NTASKS; task++)); do
    SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NODEID=0 SLURM_STEP_ID=0 "$@" &
    tasks[task]=$!
done
highest=0
for task in "${tasks[@]}"; do
    while true; do
        wait "$task"; status=$?
        kill -0 "$task" 2> /dev/null || break
    done
    ((status > highest)) && highest=$status
done
exit "$highest"
"""
SCONTROL = """#!/bin/bash
echo "$@" >> "$REQUEUED"
"""


def slurm(folder: Path) -> dict[str, str]:
    """The variables of a job on one host, and its commands."""
    commands = folder / "bin"
    commands.mkdir(exist_ok=True)
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return {
        "PATH": os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "REQUEUED": str(folder / "requeued"),
        "MASTER_PORT": str(port),
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NAME": "drift",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NNODES": "1",
    }


@pytest.mark.slow
def test_a_job_is_pre_empted_and_finishes_when_it_is_queued_again(world: TinyWorld, tmp_path: Path) -> None:
    """Both tasks end with 0 and one summary; the weights are those of an undisturbed run.

    Catches in config/processes.py: the second task writes the folder too. Catches in docker/slurm.sbatch: the script
    waits until its own signal instead of until the tasks have saved.
    """
    plain = Job.create(world, tmp_path / "plain")
    plain.finish("trainer.iterations=2")
    job = Job.create(world, tmp_path / "job")
    script = ["bash", str(DOCKER / "slurm.sbatch"), *job.command("trainer.iterations=2")[3:]]
    variables = slurm(tmp_path / "job")
    process = subprocess.Popen(
        script,
        env=job.environment(f"1 {SECOND_ITERATION} hangs", **variables),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        job.wait_until_acted(process)
        process.send_signal(signal.SIGTERM)
        errors = process.communicate(timeout=60)[1]
    finally:
        end_session(process)
    assert process.returncode == 143, errors[-3000:]
    assert (tmp_path / "job" / "requeued").read_text() == "requeue 4711\n"
    assert [line.split(";")[0] for line in errors.splitlines() if "stopped" in line] == ["stopped after iteration 1"]
    assert load(job.run_dir)["PromptDataModule"]["iteration"] == 1
    for _ in range(2):  # the second time there is nothing left to do
        done = subprocess.run(
            script, env=job.environment(**variables), capture_output=True, text=True, timeout=LONGEST_S
        )
        assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("this run is complete") == 1
    assert_same_training_state(load(job.run_dir), load(plain.run_dir))
    assert (job.run_dir / "summary.json").exists()
    assert (tmp_path / "job" / "requeued").read_text() == "requeue 4711\n"


@pytest.mark.parametrize("script", ["slurm.sbatch", "torchrun.sh"])
def test_the_examples_are_proper_scripts(script: str) -> None:
    subprocess.run(["bash", "-n", DOCKER / script], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", DOCKER / script], check=True)


@pytest.mark.parametrize("script", ["slurm.sbatch", "torchrun.sh"])
def test_the_examples_start_what_they_are_given(script: str, tmp_path: Path) -> None:
    """With launchers that print their arguments."""
    for name in ("srun", "torchrun"):
        (tmp_path / name).write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
        (tmp_path / name).chmod(0o755)
    numbers = {"SLURM_NTASKS_PER_NODE": "8", "SLURM_NNODES": "2", "HOSTS": "2", "PROCESSES": "8", "FIRST": "host-a"}
    environment = {**os.environ, **numbers, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", DOCKER / script, "experiment=pickscore_div", "prompts.train=a b.txt"]
    lines = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[lines.index("-m") :] == [
        "-m", "drift_pl.fit", "experiment=pickscore_div", "prompts.train=a b.txt",
        "trainer.devices=8", "trainer.num_nodes=2", "ckpt_path=auto",
    ]  # fmt: skip
