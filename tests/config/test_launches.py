"""Which of a run's processes this is, as launchers say it, before the processes know of each other."""

import pytest

from drift_pl.config.loading import parse
from drift_pl.config.processes import check_launch, is_first_launched, reports_errors
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError
from drift_pl.fit import main

NAMES = (
    "RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID", "SLURM_PROCID",
    "SLURM_LOCALID", "SLURM_NTASKS", "SLURM_NNODES", "SLURM_NTASKS_PER_NODE", "SLURM_JOB_NAME",
)  # fmt: skip


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def of(devices: int, nodes: int = 1) -> Config:
    return parse(["experiment=shapes_drift", f"trainer.devices={devices}", f"trainer.num_nodes={nodes}"]).config


@pytest.mark.parametrize(
    ("variables", "first", "reports"),
    [
        ("", True, True),
        ("RANK=0 LOCAL_RANK=0", True, True),
        ("RANK=1 LOCAL_RANK=1", False, False),
        ("RANK=2 LOCAL_RANK=0 SLURM_PROCID=1", False, True),  # torchrun on the second host, by SLURM
        ("RANK=1 LOCAL_RANK=1 SLURM_PROCID=0", False, False),
        ("RANK=0 LOCAL_RANK=0 SLURM_PROCID=0 SLURM_LOCALID=0", True, True),
        ("SLURM_PROCID=0 SLURM_LOCALID=0", True, True),
        ("SLURM_PROCID=1 SLURM_LOCALID=1", False, False),
        ("SLURM_PROCID=2 SLURM_LOCALID=0", False, True),  # the second host's first
        ("LOCAL_RANK=1", False, True),  # started by Lightning
        ("LOCAL_RANK=1 SLURM_PROCID=0", False, True),  # the same, in an interactive job
        ("NODE_RANK=0", True, True),
        ("NODE_RANK=1", False, True),  # Lightning on the second host
        ("NODE_RANK=1 LOCAL_RANK=0", False, True),
        ("NODE_RANK=0 LOCAL_RANK=1", False, True),
    ],
)
def test_the_first_process_and_those_that_report(
    variables: str, first: bool, reports: bool, launched: pytest.MonkeyPatch
) -> None:
    """Catches in config/processes.py: a second task writes the folder; an error of another host is hidden."""
    for entry in variables.split():
        launched.setenv(*entry.split("="))
    assert is_first_launched() is is_first_launched(of(2)) is first
    assert is_first_launched(of(1))
    assert reports_errors(of(2)) is reports
    assert reports_errors(None, ["experiment=x", "trainer.devices=2", "seedd=1"]) is reports


@pytest.mark.parametrize(
    ("variables", "reports"),
    [
        ("RANK=1 LOCAL_RANK=1 WORLD_SIZE=2", True),  # numbers of something else
        ("SLURM_PROCID=1 SLURM_LOCALID=1", True),  # srun of several runs
        ("RANK=1 LOCAL_RANK=1 TORCHELASTIC_RUN_ID=1", False),  # torchrun's processes are one run, and the first says so
        ("RANK=0 LOCAL_RANK=0 TORCHELASTIC_RUN_ID=1", True),
    ],
)
def test_a_run_of_one_process_reports_its_errors(variables: str, reports: bool, launched: pytest.MonkeyPatch) -> None:
    """Catches in config/processes.py: status 2 without a word in the second of several runs of one srun."""
    for entry in variables.split():
        launched.setenv(*entry.split("="))
    assert reports_errors(of(1)) is reports
    assert reports_errors(None, ["seedd=1"]) is reports


def test_a_misspelt_key_is_told_in_every_task(launched: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    for entry in ("SLURM_PROCID=1", "SLURM_LOCALID=1"):
        launched.setenv(*entry.split("="))
    assert main(["seedd=1"]) == 2
    assert "seedd" in capsys.readouterr().err
    assert main(["trainer.devices=2", "seedd=1"]) == 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("variables", "devices", "nodes", "remedy"),
    [
        ("TORCHELASTIC_RUN_ID=1 WORLD_SIZE=2", 1, 1, "trainer.devices=2 trainer.num_nodes=1"),
        ("TORCHELASTIC_RUN_ID=1 WORLD_SIZE=4", 1, 2, "trainer.devices=2 trainer.num_nodes=2"),
        ("TORCHELASTIC_RUN_ID=1 WORLD_SIZE=4", 2, 2, None),
        ("SLURM_NTASKS=4 SLURM_NNODES=2 SLURM_NTASKS_PER_NODE=2", 4, 1, "trainer.devices=2 trainer.num_nodes=2"),
        ("SLURM_NTASKS=4 SLURM_NNODES=2 SLURM_NTASKS_PER_NODE=2", 2, 2, None),
        ("SLURM_NTASKS=2 SLURM_NNODES=1", 2, 1, "srun --ntasks-per-node=2"),
        ("SLURM_NTASKS=1 SLURM_JOB_NAME=bash", 2, 1, None),  # Lightning starts the second
        ("SLURM_NTASKS=8 SLURM_NTASKS_PER_NODE=8", 1, 1, None),  # eight runs of one process each
    ],
)
def test_another_number_of_processes_than_the_settings_say(
    variables: str, devices: int, nodes: int, remedy: str | None, launched: pytest.MonkeyPatch
) -> None:
    """Catches in config/processes.py: torchrun's second process meets the lock of its own run."""
    for entry in variables.split():
        launched.setenv(*entry.split("="))
    config = of(devices, nodes)
    if remedy is None:
        check_launch(config)
        return
    with pytest.raises(UserError, match="trainer.devices=") as caught:
        check_launch(config)
    assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["0", "-1", "1e-6", ".nan", ".inf", "soon"])
def test_a_timeout_is_a_second_or_more(value: str) -> None:
    with pytest.raises(UserError, match=r"trainer\.timeout_s"):
        parse(["experiment=shapes_drift", f"trainer.timeout_s={value}"])
