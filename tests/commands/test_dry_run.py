"""`dry_run=true`: everything that a run would do, once and tiny, in a folder that no run has.

Catches in config/dry_run.py: settings of an experiment that do not fit the tiny sizes; the run's own folder.
Catches in config/dry_folder.py: a folder that holds a run and is emptied.
"""

from pathlib import Path

import pytest
from runs import TinyWorld

from drift_pl.config.dry_folder import clear_dry_run
from drift_pl.config.experiments import list_experiments
from drift_pl.config.identity import default_run_dir
from drift_pl.config.loading import parse
from drift_pl.fit import main


@pytest.mark.parametrize("experiment", list_experiments())
def test_every_experiment_can_be_made_tiny(experiment: str) -> None:
    """What is tried stays: levers, rewards, sampler, resolution. What is left is one iteration of a few images."""
    whole, dry = parse([f"experiment={experiment}"]).config, parse([f"experiment={experiment}", "dry_run=true"]).config
    assert (dry.trainer.iterations, dry.prompts.per_iteration, dry.evaluation.max_prompts) == (1, 1, 1)
    assert dry.prompts.group_size <= 8
    assert (dry.rewards, dry.policy, dry.incentive.shaping) == (whole.rewards, whole.policy, whole.incentive.shaping)
    assert (dry.sampler.steps, dry.objective.loss) == (whole.sampler.steps, whole.objective.loss)
    assert dry.run_dir == f"{default_run_dir(whole)}-dry"


def test_methods_and_numbers_that_need_images() -> None:
    config = parse(
        ["dry_run=true", "incentive.method=max_at_k", "incentive.selection.rule=none", "incentive.shaping.weight=0"]
    ).config
    assert config.prompts.group_size == 8
    config = parse(["dry_run=true", "incentive.selection={rule: min_variance, keep: 12}", "trainer.devices=3"]).config
    assert (config.prompts.per_iteration, config.incentive.selection.keep) == (3, 4)


def test_what_it_takes_and_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """Checkpoint, evaluation and report are there; the next one replaces them; a run in its place is not touched."""
    world = TinyWorld.create(tmp_path / "world")
    monkeypatch.chdir(tmp_path)
    argv = [*world.overrides(), "dry_run=true", "trainer.logger=[tensorboard]", "run_name=a-b"]
    assert main(argv) == 0
    folder = Path(parse(argv).config.run_dir or "")
    assert (folder.parent, folder.name[-4:]) == (Path("runs"), "-dry")
    assert folder.name.startswith("shapes_drift-a-b-")
    assert sorted(path.name for path in Path("runs").iterdir()) == [folder.name]
    for part in ("summary.json", "report.html", "checkpoints/last.ckpt", "samples/base_and_tuned.png", "tensorboard"):
        assert (folder / part).exists()
    out = capsys.readouterr().out
    assert "dry run: 4 images sampled, scored and learnt from" in out
    assert "checkpoint, summary, report written" in out
    command = next(line for line in out.splitlines() if line.startswith("run it:  python -m drift_pl.fit experiment="))
    assert "dry_run" not in command
    assert "run_name=a-b" in command
    (folder / "note").touch()
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("dry_run: true", "dry_run: false"))
    assert main(argv) == 2
    assert f"run_dir={folder} holds a run that is no dry run" in capsys.readouterr().err
    assert (folder / "note").exists()
    (folder / "config.yaml").write_text(config)
    (folder / ".lock").touch()
    clear_dry_run(folder)
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_it_does_not_resume(capsys: pytest.CaptureFixture) -> None:
    assert main(["dry_run=true", "ckpt_path=last"]) == 2
    assert "dry_run=true begins a run of its own: leave ckpt_path=last out" in capsys.readouterr().err
    assert parse(["dry_run=true", "ckpt_path=auto"]).config.ckpt_path is None
