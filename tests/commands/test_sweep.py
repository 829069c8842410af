"""`drift-pl sweep`: which runs it makes, what it does when it is called again, and the array script.

Catches in config/sweeping.py: commas of a list that part it; two runs in one folder; an extended run that counts as
finished.
Catches in sweep.py: a failed run that ends the sweep, or is not tried again; a finished one that is run again.
Catches in config/slurm.py: arguments that the shell takes apart; a task too many.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from runs import TinyWorld

from drift_pl import sweep as sweep_command
from drift_pl.config.sweeping import read_sweep, split_values
from drift_pl.core.errors import UserError
from drift_pl.sweep import main

FIT = """
import json, pathlib, sys
from drift_pl.config.loading import parse
from drift_pl.config.identity import default_run_dir
config = parse(sys.argv[1:]).config
assert config.ckpt_path == "auto"
with open("calls", "a") as calls:
    calls.write(f"{config.seed} {config.objective.kl_weight}\\n")
if config.seed == 1 and pathlib.Path("breaks").exists():
    print("warning: no matter"); print("error: out of paint"); print("bye"); sys.exit(2)
folder = default_run_dir(config)
folder.mkdir(parents=True, exist_ok=True)
(folder / "summary.json").write_text(json.dumps({"iterations": config.trainer.iterations}))
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stands a small program in the place of `fit`, and gives what it was called with since the last time."""
    Path("fit.py").write_text(FIT)
    command = sweep_command.sweep
    monkeypatch.setattr(sweep_command, "sweep", lambda *args: command(*args, command=(sys.executable, "fit.py")))

    def read() -> list[str]:
        file = Path("calls")
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return sorted(lines)

    return read


SEEDS = ("seed=0,1", "objective.kl_weight=0.1,0.2")


def test_finished_runs_are_skipped_and_failed_ones_tried_again(calls: Any, capsys: pytest.CaptureFixture) -> None:
    Path("breaks").touch()
    assert main([*SEEDS]) == 2
    out, err = capsys.readouterr()
    assert calls() == ["0 0.1", "0 0.2", "1 0.1", "1 0.2"], "the others are trained all the same"
    assert "4 runs: 0 finished, 4 to do" in out
    assert "how far they are: python -m drift_pl.runs\n" in out
    assert out.count("failed    seed=1") == 2
    assert "error: out of paint" in out
    assert "2 of 4 runs failed (seed=1 objective.kl_weight=0.1; seed=1 objective.kl_weight=0.2)" in err
    record = json.loads(next(Path("runs/sweeps").glob("*/sweep.json")).read_text())
    assert [run["state"] for run in record["runs"]] == ["finished", "finished", "failed", "failed"]
    Path("breaks").unlink()
    assert main([*SEEDS, "jobs=2"]) == 0
    assert calls() == ["1 0.1", "1 0.2"]
    assert "4 runs: 2 finished, 2 to do" in capsys.readouterr().out
    assert main([*SEEDS]) == 0
    assert calls() == []
    _, extended = read_sweep([*SEEDS, "trainer.iterations=500"])
    assert not any(run.is_finished() for run in extended.runs)


def test_a_run_that_went_on_after_it_had_stopped_early_is_not_finished(calls: Any) -> None:
    """Its summary is that of the stop as long as it has not ended again.

    Catches in config/sweeping.py: a run that was interrupted when it was trained on is skipped for ever.
    """
    run = read_sweep([*SEEDS])[1].runs[0]
    run.folder.mkdir(parents=True)
    (run.folder / "summary.json").write_text(json.dumps({"iterations": 3, "stopped": "Timer"}))
    assert run.is_finished()
    for iteration, finished in ((3, True), (4, False)):
        (run.folder / "status.json").write_text(json.dumps({"iteration": iteration}))
        assert run.is_finished() is finished


@pytest.mark.parametrize(
    ("arguments", "slots"),
    [
        ([], [{}]),
        (["jobs=3"], [{}, {}, {}]),
        (["gpus=[2,3]"], [{"CUDA_VISIBLE_DEVICES": "2"}, {"CUDA_VISIBLE_DEVICES": "3"}]),
    ],
)
def test_runs_at_a_time_are_as_many_as_asked_for_or_one_on_each_gpu(
    arguments: list[str], slots: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches in sweep.py: one at a time whatever `jobs`; a GPU's place in the list in place of its number."""
    seen: list[Any] = []
    monkeypatch.setattr(sweep_command, "work", lambda jobs, slots: seen.append(slots) or [])
    assert main(["seed=0,1", *arguments]) == 0
    assert seen == [slots]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0,1,2", ["0", "1", "2"]),
        ("7", ["7"]),
        ("[0,3],[1,4]", ["[0,3]", "[1,4]"]),
        ("[{name: a, args: {x: 1}}],[{name: b}]", ["[{name: a, args: {x: 1}}]", "[{name: b}]"]),
        ("'a, b',c", ["'a, b'", "c"]),
        ("it's,so", ["it's", "so"]),
        ("short, long", ["short", "long"]),
    ],
)
def test_commas_part_values_but_not_lists(text: str, values: list[str]) -> None:
    assert split_values("key", text) == values


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["experiment=shapes_div"], ["nothing to sweep", "e.g. python -m drift_pl.sweep experiment=", "seed=0,1,2"]),
        (["seed=0,,1"], ["seed=0,,1: a value is missing", "e.g. seed=0,1"]),
        (["seed=0,1,0"], ["0 stands there twice"]),
        (["seed=0,x"], ["seed=x should be a valid integer"]),
        (["sed=0,1"], ["unknown key 'sed'"]),
        (["seed=0,1", "run_dir=here"], ["run_dir is set by the sweep"]),
        (["seed=0,1", "ckpt_path=auto"], ["ckpt_path is set by the sweep"]),
        (
            ["trainer.iterations=10,20"],
            ["are one run", "trainer.iterations=10 and trainer.iterations=20", "run_name=a,b"],
        ),
        (["seed=0,1", "prompts.train=/no/such.txt"], ["prompts.train", "does not exist"]),
        (["seed=0,1", "jobs=0"], ["jobs=0 should be greater"]),
        (["seed=0,1", "jobs=2", "gpus=[0,1]"], ["jobs=2 is the number of gpus=[0, 1]: leave jobs out"]),
        (["seed=0,1", "jobs=1", "gpus=[0,1]"], ["jobs=1 is the number of gpus=[0, 1]: leave jobs out"]),
        (["seed=0,", "1"], ["argument '1' has no '='", "quote the whole, 'seed=0, 1'"]),
    ],
)
def test_what_cannot_be_swept_is_one_line(
    argv: list[str], parts: list[str], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches in config/sweeping.py: `jobs` beside `gpus` taken; taken if it is what it is by itself."""
    monkeypatch.setattr(sweep_command, "sweep", lambda *args: [])  # a line that is not refused trains nothing
    assert main(argv) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert all(part in lines[0] for part in parts), lines[0]
    assert not Path("runs").exists()


def test_the_tasks_of_an_array_are_alike(capsys: pytest.CaptureFixture) -> None:
    Path("two.yaml").write_text("base: shapes_div\ntrainer: {devices: 2}\n")
    assert main(["experiment=shapes_div,two.yaml", "slurm=x.sh"]) == 2
    assert "trainer.devices and trainer.num_nodes must be the same in all runs" in capsys.readouterr().err
    assert not Path("x.sh").exists()


def test_every_run_is_what_fit_would_make_of_its_arguments() -> None:
    _, planned = read_sweep(["experiment=shapes_flowgrpo", *SEEDS, "policy.negative_prompt='a, b'"])
    assert [(run.config.seed, run.config.objective.kl_weight) for run in planned.runs] == [
        *((0, 0.1), (0, 0.2), (1, 0.1), (1, 0.2))
    ]
    assert len({run.folder for run in planned.runs}) == 4
    assert all(run.folder.name.startswith("shapes_flowgrpo-") for run in planned.runs)
    assert {run.config.policy.negative_prompt for run in planned.runs} == {"a, b"}


def test_the_array_script_gives_each_task_its_arguments(capsys: pytest.CaptureFixture) -> None:
    """Run by bash, with an `srun` that prints what it is given; a number beyond the array is refused."""
    assert main([*SEEDS, "policy.negative_prompt=it's $HOME; a", "slurm=my sweep.sh"]) == 0
    assert capsys.readouterr().out == "4 runs: sbatch 'my sweep.sh'\n"
    assert not Path("runs").exists()
    Path("bin").mkdir()
    Path("bin/srun").write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    Path("bin/srun").chmod(0o755)
    assert "#SBATCH --array=0-3" in Path("my sweep.sh").read_text()
    for task, values in enumerate([("0", "0.1"), ("0", "0.2"), ("1", "0.1"), ("1", "0.2"), None]):
        variables = {"PATH": f"{Path('bin').absolute()}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": str(task)}
        done = subprocess.run(["bash", "my sweep.sh"], env={**os.environ, **variables}, capture_output=True, text=True)
        if values is None:
            assert done.returncode == 2
            continue
        seed, weight = values
        assert done.stdout.splitlines()[1:] == [
            *(sys.executable, "-m", "drift_pl.fit", f"seed={seed}", f"objective.kl_weight={weight}"),
            *("policy.negative_prompt=it's $HOME; a", "ckpt_path=auto"),
        ]


def test_a_script_that_was_changed_is_not_overwritten(capsys: pytest.CaptureFixture) -> None:
    """Its partition and time are the user's own. The same script may be written again.

    Catches in sweep.py: any file that is named.
    """
    assert main([*SEEDS, "slurm=sweep.sh"]) == main([*SEEDS, "slurm=sweep.sh"]) == 0
    Path("sweep.sh").write_text(Path("sweep.sh").read_text().replace("24:00:00", "1:00:00"))
    assert main([*SEEDS, "slurm=sweep.sh"]) == 2
    assert "slurm=sweep.sh is there and holds something else" in capsys.readouterr().err
    assert "1:00:00" in Path("sweep.sh").read_text()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["gpus=[-1]"], "gpus=[-1]: give the number of each GPU once, from 0 on"),
        (["gpus=[0,0]"], "gpus=[0, 0]: give the number of each GPU once, from 0 on"),
        (["gpus=[0]", "slurm=x.sh"], "slurm=x.sh leaves it to SLURM where a run goes: leave gpus out"),
        (["jobs=2", "slurm=x.sh"], "slurm=x.sh leaves it to SLURM where a run goes: leave jobs out"),
    ],
)
def test_where_runs_go_is_said_once(given: list[str], says: str, capsys: pytest.CaptureFixture) -> None:
    """Catches in config/sweeping.py: two runs on one GPU; a number that hides all of them; keys without effect."""
    assert main([*SEEDS, *given]) == 2
    assert says in capsys.readouterr().err


def test_the_sweep_needs_no_torch() -> None:
    program = "import sys; from drift_pl.sweep import main; main(['seed=0,1', 'slurm=a.sh']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"torch", "lightning", "numpy"}.isdisjoint(done.stdout.splitlines()[-1].split())


@pytest.mark.slow
def test_two_real_runs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    world = TinyWorld.create(tmp_path / "world")
    assert main([*world.overrides(), "trainer.iterations=1", "seed=0,1"]) == 0
    _, planned = read_sweep([*world.overrides(), "trainer.iterations=1", "seed=0,1"])
    assert all(run.is_finished() for run in planned.runs)
    assert main([*world.overrides(), "trainer.iterations=1", "seed=0,1"]) == 0
    assert "2 runs: 2 finished, 0 to do" in capsys.readouterr().out


def test_an_error_of_the_queue_is_the_users(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    Path("runs").touch()
    assert main(["seed=0,1"]) == 2
    assert capsys.readouterr().err.startswith("error: runs/sweeps")


def test_sweeps_refuse_what_is_not_text() -> None:
    with pytest.raises(UserError):
        read_sweep(["seed=0,\udc80"])
