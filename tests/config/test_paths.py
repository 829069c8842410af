"""Which settings name files: their names become absolute, and their content is digested."""

from pathlib import Path

import pytest

from drift_pl.config.paths import names_a_file, with_absolute_paths
from drift_pl.evaluate import EvaluateOptions


@pytest.mark.parametrize(
    ("key", "value", "is_one"),
    [
        ("rewards.0.args.metadata.0", "meta.jsonl", True),
        ("rewards.0.args.votes", "votes.jsonl", True),
        ("rewards.0.args.votes", "gone.jsonl", False),
        ("rewards.0.args.mode", "clicks", False),
        ("rewards.0.args.model", "llama.3", False),
        ("rewards.0.args.weights", "sub/weights", True),
        ("rewards.0.args.weights", "sub", False),
        ("rewards.0.name", "meta.jsonl", False),
        ("prompts.train", "meta.jsonl", True),
        ("prompts.train", "hf:owner/name:train:prompt", False),
    ],
)
def test_an_argument_is_a_file_if_there_is_one(
    key: str, value: str, is_one: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches in config/paths.py: a file in the working folder taken for a word."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    for name in ("meta.jsonl", "votes.jsonl", "clicks", "sub/weights"):
        (tmp_path / name).touch()
    assert names_a_file(key, value) is is_one
    expected = str(tmp_path / value) if is_one else value
    assert with_absolute_paths({key: value}) == {key: expected}


def test_an_evaluation_may_have_prompts_of_a_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches in config/evaluating.py: its name taken for a text file's."""
    read: list[str] = []
    monkeypatch.setattr("drift_pl.config.evaluating.read_prompt_file", read.append)
    EvaluateOptions.parse(["ckpt_path=run", "prompts=hf:./ds:train:prompt"]).refuse_contradictions()
    assert read == ["hf:./ds:train:prompt"]
