"""`python -m drift_pl.fit` as a user meets it: what it prints, and one line for what it cannot use."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from html_page import Page
from runs import TinyWorld, load
from safetensors.torch import load_file

from drift_pl.fit import main
from drift_pl.reports.closing import closing_table
from drift_pl.training.callbacks import HeldOutEvaluation


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return TinyWorld.create(tmp_path_factory.mktemp("world"))


def refused(capsys: pytest.CaptureFixture, folder: Path, *argv: str) -> str:
    """Runs the command, checks status 2, a single line and an untouched folder, and returns the line."""
    before = sorted(folder.rglob("*"))
    assert main(list(argv)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert sorted(folder.rglob("*")) == before
    return lines[0]


def test_run_ends_with_a_table_and_the_next_commands(
    world: TinyWorld, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Catches in fit.py: TensorBoard offered for a run that has no files of it."""
    run_dir = tmp_path / "run"
    argv = [*world.overrides(), "trainer.iterations=2", "trainer.progress=true", f"run_dir={run_dir}"]
    assert main([*argv, "trainer.logger=[{name: tensorboard}]"]) == 0
    out = capsys.readouterr().out
    assert_stages_and_table(out, world, run_dir)
    shown = ["training 2/2 iterations", "images/s", "pairwise_distance", "how to read it: ", "tensorboard --logdir"]
    for part in (*shown, f"fit ckpt_path={run_dir} "):
        assert part in out
    summary = json.loads((run_dir / "summary.json").read_text())
    assert closing_table(summary) in out
    assert len(summary["config_hash"]) == 8
    assert f"report:  {run_dir / 'report.html'}" in out
    Page((run_dir / "report.html").read_text(encoding="utf-8"))
    assert main([*argv, "trainer.iterations=1", f"run_dir={tmp_path / 'other'}"]) == 0
    assert "tensorboard" not in capsys.readouterr().out


def test_a_report_that_fails_costs_a_line_and_no_run(
    world: TinyWorld, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resume writes it, and nothing else: neither the run's own line nor its folder is then refused.

    Catches in fit.py: an error of the report that ends the command.
    Catches in config/resuming.py: a run that was killed before its report never gets one.
    """

    def fails(folder: Path) -> Path:
        raise ZeroDivisionError("no room\nfor it")

    argv = [*world.overrides(), "trainer.iterations=1", f"run_dir={tmp_path / 'run'}"]
    with monkeypatch.context() as patched:
        patched.setattr("drift_pl.reports.run_page.write_run_page", fails)
        assert main(argv) == 0
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if "report.html" in line]
    assert lines == ["warning: report.html was not written (no room): the run is complete"]
    assert "report: " not in captured.out
    assert (tmp_path / "run" / "summary.json").is_file()
    for again in ([*argv, "ckpt_path=auto"], [f"ckpt_path={tmp_path / 'run'}"]):
        assert main(again) == 0
        assert "only report.html was missing" in capsys.readouterr().out
        Page((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
        (tmp_path / "run" / "report.html").unlink()


def test_all_is_logged_before_a_run_counts_as_complete(
    world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing mends half a row, or a missing one, once the summary is there.

    Catches in training/logged.py: final values that a logger still holds when the summary is written.
    """
    rows: list[str] = []
    write = HeldOutEvaluation._write_summary

    def reads_first(self: HeldOutEvaluation, *args: Any) -> None:
        rows.extend((tmp_path / "run" / "csv" / "metrics.csv").read_text().splitlines())
        write(self, *args)

    monkeypatch.setattr(HeldOutEvaluation, "_write_summary", reads_first)
    assert (
        main([*world.overrides(), "trainer.iterations=1", "trainer.logger=[csv]", f"run_dir={tmp_path / 'run'}"]) == 0
    )
    assert rows == (tmp_path / "run" / "csv" / "metrics.csv").read_text().splitlines()
    assert "final/reward" in rows[0]


def test_saved_config_is_the_run_again(world: TinyWorld, tmp_path: Path) -> None:
    argv = [*world.overrides(), "trainer.iterations=2", f"run_dir={tmp_path / 'first'}"]
    assert main(argv) == 0
    again = [f"experiment={tmp_path / 'first' / 'config.yaml'}", f"run_dir={tmp_path / 'second'}"]
    assert main(again) == 0
    first, second = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("first", "second"))
    assert first["tuned"] == second["tuned"]
    assert first["config_hash"] == second["config_hash"]


def assert_stages_and_table(out: str, world: TinyWorld, run_dir: Path) -> None:
    """The numbers of parameters are those in the run's checkpoint and in the pipeline's file."""
    weights = load_file(next((world.root / "pipeline" / "transformer").glob("*.safetensors")))
    frozen = sum(weight.numel() for name, weight in weights.items() if name != "pos_embed.pos_embed")  # not learnt
    trained = sum(weight.numel() for weight in load(run_dir)["state_dict"].values()) - 1  # base_group_std
    share = trained / (trained + frozen)
    rows = [re.match(r"  (\w+(?: \w+)?)  +(\S.*)", line) for line in out.splitlines()]
    assert {row[1]: row[2] for row in rows if row} == {
        "experiment": "shapes_drift, seed 0",
        "policy": f"sd3, {world.root}/pipeline",
        "trained": f"{trained:,} of {trained + frozen:,} parameters ({share:.1%}), LoRA of rank 8",
        "batch": "4 prompts x 4 = 16 images per iteration (4 groups, 16 images per process), 2 trained steps, "
        "2 optimizer steps of 8 images",
        "update": "surrogate, learning rate 0.001",
        "levers": "selection band, prompting embedding_noise, shaping 6 (dino)",
        "rewards": "pickscore x 1",
        "length": "2 iterations, 32 images",
        "devices": "1 x cpu, 32-true, 1 thread",
        "run folder": str(run_dir),
    }
    stages = ["importing libraries", "loading rewards", "measuring the base model", "first pictures", "training (2 it"]
    stages += ["one iteration: ", "training 2/2", "measuring the tuned model", "held-out prompts x"]
    assert stages == sorted(stages, key=out.index), "no stage is silent, and they come in this order"
    status = json.loads((run_dir / "status.json").read_text())
    assert (status["iteration"], status["iterations"]) == (2, 2)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("policy.pretrained=/no/such/folder", ["policy.pretrained=/no/such/folder", "does not exist"]),
        ("policy.pretrained=pkg:no_such_package/x", ["no installed package", "no_such_package"]),
        ("prompts.train=/no/such/file.txt", ["prompts.train", "does not exist"]),
        ("rewards=[{name: pickscor}]", ["rewards.0.name='pickscor'", "did you mean 'pickscore'"]),
        ("rewards=[{name: 'json:nothing'}]", ["rewards.0.name", "cannot be imported"]),
        ("rewards=[{name: jpeg_compressibility, args: {qualty: 3}}]", ["rewards.0.args", "qualty", "quality: int"]),
        ("policy.lora.targets=[to_q,to_nothing]", ["policy.lora.targets", "to_nothing"]),
        ("policy.resolution=17", ["policy.resolution=17", "use e.g. 16"]),
        ("ckpt_path=/no/such.ckpt", ["ckpt_path=/no/such.ckpt", "no such file"]),
        ("ckpt_path=last", ["ckpt_path=last", "ckpt_path=auto"]),
        ("prompts.per_iteration=3", ["prompts.per_iteration=3", "2 or 4"]),
        ("prompts.group_size=1", ["prompts.group_size=1", "greater than or equal to 2"]),
    ],
)
def test_bad_input_is_one_line(
    world: TinyWorld, tmp_path: Path, capsys: pytest.CaptureFixture, override: str, parts: list[str]
) -> None:
    line = refused(capsys, tmp_path, *world.overrides(), f"run_dir={tmp_path / 'run'}", override)
    assert all(part in line for part in parts), line


def test_a_key_without_effect_is_one_line_of_warning(capsys: pytest.CaptureFixture) -> None:
    assert main(["--print-config", "objective.clip_range=0.1", "sampler.window_stride=2"]) == 0
    assert capsys.readouterr().err == (
        "warning: without effect: objective.clip_range (only with objective.loss=surrogate or awm), "
        "sampler.window_stride (only with sampler.window_schedule=sliding or linear_decay or exp_decay)\n"
    )
    assert main(["--print-config"]) == 0
    assert capsys.readouterr().err == ""


def test_hub_name_without_network_names_the_key(
    world: TinyWorld, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    line = refused(capsys, tmp_path, *world.overrides(), f"run_dir={tmp_path / 'r'}", "policy.pretrained=someone/model")
    assert "policy.pretrained=someone/model" in line
    assert "policy.pretrained=/path/to/folder" in line


def test_folder_of_another_kind_is_refused(world: TinyWorld, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = world.root / "preference"
    line = refused(capsys, tmp_path, *world.overrides(), f"run_dir={tmp_path / 'r'}", f"policy.pretrained={folder}")
    assert "model_index.json is missing" in line


def test_what_is_not_a_checkpoint_is_refused(world: TinyWorld, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "notes.ckpt"
    file.write_text("not a checkpoint")
    line = refused(capsys, tmp_path, *world.overrides(), f"run_dir={tmp_path / 'r'}", f"ckpt_path={file}")
    assert "is not a checkpoint" in line


def test_empty_prompt_file_is_refused(world: TinyWorld, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "empty.txt").write_text("\n# nothing\n")
    argv = [*world.overrides(), f"run_dir={tmp_path / 'r'}", f"prompts.train={tmp_path / 'empty.txt'}"]
    assert "holds no prompt" in refused(capsys, tmp_path, *argv)


def test_the_table_has_a_cell_for_what_has_no_number() -> None:
    """A base of 0, as OCR or a strict rule gives it, and measures without a value."""
    base = {"reward": 0.0, "heldout/ocr": 0.5, "vendi": 2.0, "alignment": None, "rke": 1.0}
    tuned = {"reward": 0.25, "heldout/ocr": 0.25, "vendi": None, "alignment": 0.5, "rke": 1.0}
    rows = [line.split() for line in closing_table({"base": base, "tuned": tuned}).splitlines()]
    assert rows == [
        ["base", "tuned", "change"],
        ["reward", "0.0000", "0.2500", "-"],
        ["vendi", "2.0000", "-", "-"],
        ["alignment", "-", "0.5000", "-"],
        ["heldout/ocr", "0.5000", "0.2500", "-50.0%"],
    ]
