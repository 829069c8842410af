"""What a run was trained on is kept: another list, or other weights, under the same name are noticed."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml
from runs import TinyWorld, assert_same_training_state, load
from tiny_models import save_tiny_pipeline

from drift_pl.config.inputs import digest
from drift_pl.core.prompt_files import read_prompt_file
from drift_pl.evaluate import main as evaluate
from drift_pl.evaluation.record_file import read_evaluation
from drift_pl.fit import main
from drift_pl.generate import main as generate

RELATIVE = ("policy.pretrained=pipeline", "prompts.train=train.txt", "prompts.test=./test.txt")
ONE_ITERATION = ("trainer.iterations=1", "evaluation.every=0")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyWorld:
    """A world, in whose folder the commands are called."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return TinyWorld.create(tmp_path / "here")


def fit(world: TinyWorld, *argv: str) -> int:
    return main([*world.overrides(), *RELATIVE, *ONE_ITERATION, "run_dir=run", *argv])


def errors(capsys: pytest.CaptureFixture, beginning: str) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith(beginning)]


def test_what_a_run_was_trained_on_is_in_its_folder(here: TinyWorld) -> None:
    lines = [json.dumps({"prompt": text, "tag": text[-1]}) for text in ("# no comment", "a dot", "a b\u2028c")]
    (here.root / "train.jsonl").write_text("\n".join(lines))
    prompting = "incentive.prompting={rule: variants, paraphrases: other.jsonl}"
    (here.root / "other.jsonl").write_text('{"prompt": "a dot", "paraphrases": ["one dot"]}\n')
    assert fit(here, "prompts.train=train.jsonl", prompting) == 0
    run = here.root / "run"
    for which, name in (("train", "train.jsonl"), ("tuning", "test.txt"), ("test", "test.txt")):
        assert read_prompt_file(str(run / "inputs" / f"{which}.jsonl")) == read_prompt_file(name)
    assert (run / "inputs" / "paraphrases.jsonl").read_text() == (here.root / "other.jsonl").read_text()
    inputs = json.loads((run / "run.json").read_text())["inputs"]
    assert inputs["policy.pretrained"] == digest(here.root / "pipeline")
    assert {"prompts.train", "incentive.prompting.paraphrases", "evaluation.lpips.args.pretrained"} < inputs.keys()
    assert load(run)["run_inputs"] == inputs == read_evaluation(run).inputs
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["policy"]["pretrained"] == str(here.root / "pipeline")
    assert config["prompts"]["test"] == str(here.root / "test.txt")
    assert config["incentive"]["prompting"]["paraphrases"] == str(here.root / "other.jsonl")


def test_from_another_folder_the_run_is_the_same(
    here: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Though it holds files of these names."""
    assert fit(here) == 0
    measured = (here.root / "run" / "evaluation" / "test.json").read_text()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    for name in ("train.txt", "test.txt"):
        Path(name).write_text("a green bar\n")
    (tmp_path / "there" / "pipeline").mkdir()
    capsys.readouterr()
    assert evaluate(["ckpt_path=../here/run"]) == 0
    assert errors(capsys, "warning: p") == []
    assert (here.root / "run" / "evaluation" / "test.json").read_text() == measured
    assert main(["ckpt_path=../here/run", "trainer.iterations=2"]) == 0
    monkeypatch.chdir(here.root)
    assert fit(here, "run_dir=whole", "trainer.iterations=2") == 0
    assert_same_training_state(load(here.root / "run"), load(here.root / "whole"))
    names = [json.loads((here.root / run / "run.json").read_text()) for run in ("run", "whole")]
    assert names[0] == names[1]


def test_a_list_that_has_changed_is_refused_by_fit_and_not_used_by_evaluate(
    here: TinyWorld, capsys: pytest.CaptureFixture
) -> None:
    assert fit(here) == 0
    record = read_evaluation(here.root / "run")
    before = (here.root / "train.txt").read_text().split("\n")[:4]
    assert record.training["prompts_digest"] == hashlib.sha256("\n".join(before).encode()).hexdigest()[:12]
    (here.root / "train.txt").write_text("a dot\na bar\n")
    capsys.readouterr()
    assert main(["ckpt_path=run", "trainer.iterations=2"]) == 2
    (line,) = errors(capsys, "error: ")
    kept = "run/inputs/train.jsonl"
    assert "prompts.train: the file has changed" in line
    assert f"prompts.train={kept}" in line
    (here.root / "test.txt").unlink()
    (here.root / "pipeline" / "notes.md").write_text("not weights")
    assert evaluate(["ckpt_path=run", "fresh=true"]) == 0
    warnings = errors(capsys, "warning: p")
    assert [line.partition(":")[2].partition("=")[0].strip() for line in warnings] == ["prompts.train"]
    again = read_evaluation(here.root / "run")
    assert again.training == record.training
    assert again.protocol == record.protocol
    (here.root / "test.txt").write_text("a red bar\na dot\n")
    assert main(["ckpt_path=run", "trainer.iterations=2", f"prompts.train={kept}"]) == 0


@pytest.mark.parametrize("command", ["fit", "evaluate", "generate"])
def test_other_weights_under_the_same_name_are_warned_of(
    here: TinyWorld, command: str, capsys: pytest.CaptureFixture
) -> None:
    assert fit(here) == 0
    shutil.rmtree(here.root / "pipeline")
    save_tiny_pipeline(here.root / "pipeline", seed=9)
    capsys.readouterr()
    calls = {
        "fit": lambda: main(["ckpt_path=run", "trainer.iterations=2"]),
        "evaluate": lambda: evaluate(["ckpt_path=run", "out=other.json"]),
        "generate": lambda: generate(["ckpt_path=run", "prompt=a dot", "n=1", "steps=1"]),
    }
    assert calls[command]() == 0
    (line,) = errors(capsys, "warning: policy.pretrained")
    assert "not the files" in line
    if command == "evaluate":  # values of two base models do not stand in one file
        assert evaluate(["ckpt_path=run"]) == 2
        (line,) = errors(capsys, "error: ")
        assert "policy.pretrained had another content" in line


def test_a_digest_is_of_what_is_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / ".cache").mkdir(parents=True)
    for name, content in (("config.json", "{}"), ("a.safetensors", "1"), ("a.bin", "x"), (".cache/b.json", "y")):
        (folder / name).write_text(content)
    first = digest(folder)
    for unused in ("a.bin", ".cache/b.json", "README.md"):
        (folder / unused).write_text("z")
    assert digest(folder) == digest(shutil.copytree(folder, tmp_path / "copy")) == first
    for used in ("config.json", "a.safetensors"):
        kept = (folder / used).read_text()
        (folder / used).write_text("[]")
        assert digest(folder) != first, used
        (folder / used).write_text(kept)
    (folder / "config.json").rename(folder / "other.json")
    assert digest(folder) != first


def test_of_a_large_file_both_ends_and_the_middle_count(tmp_path: Path) -> None:
    file, size = tmp_path / "a.safetensors", 2**26 + 5
    with file.open("wb") as opened:
        opened.truncate(size)
    first = digest(file)
    for place in (0, size - 1, size // 31):
        with file.open("r+b") as opened:
            opened.seek(place)
            opened.write(b"x")
        assert digest(file) != first, place
        with file.open("r+b") as opened:
            opened.seek(place)
            opened.write(b"\0")
    assert digest(file) == first
