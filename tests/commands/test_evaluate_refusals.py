"""What `python -m drift_pl.evaluate` refuses, and in which words: one line, status 2, nothing written."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import TinyWorld

from drift_pl.evaluate import EvaluateOptions, main


@pytest.fixture
def refused(capsys: pytest.CaptureFixture, tiny_run: Path, tmp_path: Path) -> Callable[..., str]:
    """Runs the command and returns its one line; neither the run nor the test's folder may change."""

    def call(*argv: str, ckpt_path: object = tiny_run) -> str:
        before = [(path, path.stat().st_mtime_ns) for root in (tiny_run, tmp_path) for path in sorted(root.rglob("*"))]
        assert main([f"ckpt_path={ckpt_path}", f"out={tmp_path / 'mine.json'}", *argv]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        after = [(path, path.stat().st_mtime_ns) for root in (tiny_run, tmp_path) for path in sorted(root.rglob("*"))]
        assert after == before
        return lines[0]

    return call


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("seed_per_prompt=4", ["unknown key 'seed_per_prompt'", "did you mean 'seeds_per_prompt'"]),
        ("vendi_order=2", ["unknown key 'vendi_order'", "did you mean 'evaluation.vendi_order'"]),
        ("objective.learning_rate=1", ["'objective.learning_rate' is a setting of the run", "cannot be changed"]),
        ("qqqqqq=1", ["unknown key 'qqqqqq'", "--help"]),
        ("--fresh", ["unknown flag '--fresh'", "fresh=VALUE"]),
        ("--verbose", ["unknown flag '--verbose'", "--debug"]),
        ("runs/mine", ["'runs/mine' has no '='", "ckpt_path=runs/mine"]),
        ("ckpt_path=", ["ckpt_path= is empty", "ckpt_path=runs/"]),
        ("ckpt_path=[1]", ["ckpt_path.0=1 should be a valid string"]),
        ("seeds_per_prompt=1", ["seeds_per_prompt=1 should be greater than or equal to 2"]),
        (
            "seeds_per_prompt=some",
            ["error: seeds_per_prompt=some should be a valid integer", "e.g. seeds_per_prompt=16"],
        ),
        ("evaluation.seeds_per_prompt=8", ["unknown key", "did you mean 'seeds_per_prompt'"]),
        ("max_prompts=-1", ["error: max_prompts=-1 should be greater than or equal to 0; use e.g. max_prompts=0"]),
        ("micro_batch=0", ["error: micro_batch=0 should be greater than or equal to 1"]),
        ("threads=-1", ["error: threads=-1 should be greater"]),
        ("accelerator=tpu", ["error: accelerator=tpu should be 'auto', 'cpu', 'gpu'", "accelerator=auto"]),
        ("evaluation.vendi_order=-1", ["evaluation.vendi_order=-1 should be greater than 0"]),
        ("evaluation.extra=[nothing]", ["evaluation.extra=[nothing] should be a list of rke"]),
        ("prompts=/no/such.txt", ["prompts=/no/such.txt: no such file"]),
        ("prompts=tunning", ["prompts=tunning: no such file", "use test, tuning"]),
        ("method=", ["method= is empty: use e.g. method=plain"]),
        ("out=mine", ["out=mine: use e.g. out=evaluation-tuning.json"]),
        ("base=", ["base= is empty: use e.g. base=runs/other/evaluation.json"]),
        ("base=/no/such.json", ["/no/such.json: no such file; make it with python -m drift_pl.evaluate"]),
        ("weights=ema", ["weights=ema should be 'average' or 'live'", "use e.g. weights="]),
        ("fresh=2", ["fresh=2 should be a valid boolean", "fresh=true"]),
        ("lora_scale=0.5", ["lora_scale=0.5 should be a valid list", "lora_scale=[0.5, 1.0]"]),
        ("lora_scale=[0.5, much]", ["lora_scale.1=much should be a valid number"]),
        ("lora_scale=[-1]", ["lora_scale.0=-1 should be greater than or equal to 0", "lora_scale="]),
        ("lora_scale=[null]", ["lora_scale.0=null should be a valid number"]),
        ("lora_scale=[1, 1.0]", ["names a number twice"]),
        ("importance_power=[nan]", ["importance_power.0=nan should be a valid number"]),
        ("importance_power=[1", ["importance_power=[1: not a YAML value"]),
        ("--hlep", ["unknown flag '--hlep'", "did you mean '--help'"]),
        ("judges=[{name: nobody}]", ["judges.0.name='nobody' is unknown", "pickscore"]),
        ("judges=[{nam: pickscore}]", ["unknown key 'judges.0.nam'", "judges.0.name"]),
        ("judges=[{args: {}}]", ["judges.0.name is missing"]),
        ("judges=[{name: jpeg_compressibility, args: {qualty: 3}}]", ["judges.0.args", "quality: int"]),
    ],
)
def test_bad_argument(refused: Callable[..., str], argument: str, parts: list[str]) -> None:
    line = refused(argument)
    assert all(part in line for part in parts), line


def test_hardware_that_is_not_there(refused: Callable[..., str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("it is there")
    line = refused("accelerator=gpu")
    assert "accelerator=gpu cannot be used here" in line
    assert "accelerator=cpu" in line


def test_empty_prompt_file(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("# nothing\n")
    assert f"prompts={tmp_path / 'empty.txt'} holds no prompt" in refused(f"prompts={tmp_path / 'empty.txt'}")


def test_checkpoints_that_are_not_there(
    refused: Callable[..., str], tiny_run: Path, evaluated_world: TinyWorld, tmp_path: Path
) -> None:
    checkpoints = tiny_run / "checkpoints"
    for missing in ("iteration-000003.ckpt", "iteration-*9.ckpt"):
        line = refused(ckpt_path=checkpoints / missing)
        assert line.endswith("holds iteration-000002.ckpt, iteration-000004.ckpt, last.ckpt")
    assert f"did you mean {evaluated_world.root / 'pipeline'}?" in refused(ckpt_path=evaluated_world.root / "pipelin")
    assert f"{tiny_run.parent} holds run" in refused(ckpt_path=tiny_run.parent / "somewhere")
    assert "holds no config.yaml and no checkpoint" in refused(ckpt_path=evaluated_world.root)
    assert f"{tiny_run.parent} holds run" in refused(ckpt_path=tiny_run.parent)
    assert "no such file or folder; give a folder that" in refused(ckpt_path="/no/such/run")
    (tmp_path / "young").mkdir()
    shutil.copy(tiny_run / "config.yaml", tmp_path / "young")
    assert "the run has no checkpoint yet" in refused(ckpt_path=tmp_path / "young")


def test_what_is_no_checkpoint(refused: Callable[..., str], tiny_run: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_run / "config.yaml", tmp_path)
    (tmp_path / "notes.ckpt").write_text("no checkpoint")
    assert "notes.ckpt is not a checkpoint" in refused(ckpt_path=tmp_path / "notes.ckpt")


def test_checkpoint_without_its_config(refused: Callable[..., str], tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "deep" / "down").mkdir(parents=True)
    shutil.copy(tiny_run / "checkpoints" / "last.ckpt", tmp_path / "deep" / "down")
    assert "there is no config.yaml beside it" in refused(ckpt_path=tmp_path / "deep" / "down" / "last.ckpt")


def test_checkpoints_of_different_runs(
    refused: Callable[..., str], remade: Callable[..., Path], tiny_run: Path, tmp_path: Path
) -> None:
    def with_other_settings(content: dict[str, Any]) -> None:
        content["run_identity"] = "0123abcd-s0"
        content["run_settings"]["objective.clip_range"] = 0.5

    other = remade(tmp_path / "other", with_other_settings)
    line = refused(ckpt_path=f"[{tiny_run}, {other}]")
    assert all(part in line for part in (str(tiny_run), str(other), "are of different runs"))
    line = refused(ckpt_path=other)
    assert all(part in line for part in (str(other), "0123abcd-s0", "objective.clip_range is 0.5 there and"))
    twice = remade(tmp_path / "twice", lambda content: None)
    shutil.copy(twice / "checkpoints" / "iteration-000004.ckpt", twice)
    name = "iteration-000004.ckpt"
    assert "have one name" in refused(ckpt_path=f"[{twice / name}, {twice / 'checkpoints' / name}]")


def test_adapter_of_another_shape(refused: Callable[..., str], remade: Callable[..., Path], tmp_path: Path) -> None:
    def halve_the_rank(content: dict[str, Any]) -> None:
        for name in content["average"].keys() - {"num_updates"}:
            value = content["average"][name]
            rank = value.shape[0 if "lora_A" in name else 1] // 2
            content["average"][name] = (value[:rank] if "lora_A" in name else value[:, :rank]).clone()

    line = refused(ckpt_path=remade(tmp_path / "run", halve_the_rank))
    assert all(part in line for part in ("lora_A", "4 x 16", "8 x 16", "policy.lora.rank=8", "different runs")), line


def test_a_file_of_another_protocol_run_or_version(
    refused: Callable[..., str], tiny_run: Path, tmp_path: Path, remade: Callable[..., Path]
) -> None:
    """The field is named, and the two ways out; a fresh file replaces the old one.

    Catches in evaluation/base.py: a base model's values taken over from another protocol.
    """
    file, last = tmp_path / "mine.json", tiny_run / "checkpoints" / "last.ckpt"
    assert main([f"ckpt_path={last}", f"out={file}"]) == 0
    for argument, part in (
        ("seeds_per_prompt=3", "seeds_per_prompt is 2 there and 3 now"),
        ("max_prompts=1", "number of prompts is 2 there and 1 now"),
        ("judges=[{name: jpeg_compressibility}]", "heldout_judges is "),
        ("sampler.eval_steps=3", "steps is 2 there and 3 now"),
    ):
        line = refused(argument)
        assert part in line
        assert all(part in line for part in ("was measured differently", "out=", "fresh=true"))
    other = refused("seeds_per_prompt=3", f"base={file}", f"out={tmp_path / 'other.json'}")
    assert f"base={file} was measured differently: seeds_per_prompt is 2 there and 3 now" in other
    content = json.loads(file.read_text())
    for change, part in (
        ({"seed": 5}, f"is of the run {content['config_hash']}-s5, and this one is {content['config_hash']}-s0"),
        ({"version": 0}, "made by an older drift_pl"),
        ({"version": 2}, "made by a newer drift_pl"),
        ({"format": "other"}, "is not an evaluation file"),
        ({"points": []}, "is damaged: it has no points"),
    ):
        file.write_text(json.dumps(content | change))
        line = refused()
        assert part in line
        assert f"python -m drift_pl.evaluate ckpt_path={tmp_path}" in line or "out=" in line
    assert main([f"ckpt_path={last}", f"out={file}", "seeds_per_prompt=3", "fresh=true"]) == 0
    assert json.loads(file.read_text())["protocol"]["seeds_per_prompt"] == 3


def test_fresh_replaces_nothing_but_a_record_of_this_run_and_prompts(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Catches in evaluation/record_file.py: the run's summary, or its record of training, overwritten."""
    last = tiny_run / "checkpoints" / "last.ckpt"
    summary, tuning = tmp_path / "summary.json", tmp_path / "tuning.json"
    summary.write_text("{}")
    assert main([f"ckpt_path={last}", "prompts=tuning", f"out={tuning}"]) == 0
    other = tmp_path / "other.json"
    other.write_text(json.dumps(json.loads(tuning.read_text()) | {"seed": 5}))
    for file, says in (
        (summary, "is not an evaluation file"),
        (tuning, "is of other prompts"),
        (other, "is of another run"),
    ):
        before = file.read_bytes()
        assert main([f"ckpt_path={last}", f"out={file}", "fresh=true"]) == 2
        line = capsys.readouterr().err
        assert f"error: {file} {says}, and would be lost: give another file, e.g. out=" in line
        assert file.read_bytes() == before


def test_debug_shows_the_traceback(tiny_run: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([f"ckpt_path={tiny_run}", "weights=ema", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_help_names_every_key_and_waits_for_nothing() -> None:
    program = "import sys; from drift_pl.evaluate import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    text, _, modules = done.stdout.rpartition("\n\n")
    assert {"torch", "lightning", "transformers"}.isdisjoint(modules.split())
    assert all(
        f"  {key} (" in text or f"  {key}: " in text
        for key in [*EvaluateOptions.model_fields, *EvaluateOptions.run_keys]
        if "encoder" not in key
    )
    narrow = EvaluateOptions.help(width=70)
    assert all(len(line) <= 70 for line in narrow.splitlines() if "python -m" not in line)
