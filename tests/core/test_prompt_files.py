"""JSON lines with metadata, columns of datasets, and the shipped lists of prompts for real models.

Catches in core/prompt_files.py: cut at Unicode's line separators; lines counted from 0; split cut at its own colon;
rows without a text kept; metadata that disagree pass.
"""

import importlib.util
import json
import re
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import prompt_grammar
import pytest

from drift_pl.core.errors import UserError, naming
from drift_pl.core.prompt_files import Prompt, read_metadata, read_prompt_file
from drift_pl.sampling.prompts import read_prompts

LISTS = {"train": 228, "train_large": 1920, "tuning": 64, "test": 64}
CATEGORIES = ["animals", "people at work", "places", "objects", "styles", "compositions"]


def write(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def test_json_lines_hold_prompts_and_what_belongs_to_them(tmp_path: Path) -> None:
    """A Unicode line separator is part of a JSON string; empty lines are skipped."""
    lines = ['{"prompt": " a red cat ", "tag": "colour", "count": 2}', "", '{"prompt": "图\u2028# sky"}']
    name = write(tmp_path / "prompts.jsonl", *lines)
    assert read_prompt_file(name) == (
        Prompt("a red cat", {"tag": "colour", "count": 2}),
        Prompt("图\u2028# sky", {}),
    )
    assert read_prompts(name) == ("a red cat", "图\u2028# sky")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("a red cat", r"not JSON \(Expecting value, column 1\)"),
        ('["a red cat"]', "needs the field 'prompt'"),
        ('{"text": "a red cat"}', "needs the field 'prompt'"),
        ('{"prompt": ["a red cat"]}', "needs the field 'prompt', a non-empty string"),
        ('{"prompt": "  "}', "needs the field 'prompt', a non-empty string"),
    ],
)
def test_one_bad_line_is_named_by_its_number(tmp_path: Path, line: str, says: str) -> None:
    name = write(tmp_path / "prompts.jsonl", '{"prompt": "a dog"}', "", line, '{"prompt": "a cow"}')
    with (
        naming("prompts.train"),
        pytest.raises(UserError, match=rf"^prompts\.train=.*prompts\.jsonl, line 3: {says}.*write \{{\"prompt\"") as e,
    ):
        read_prompt_file(name)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("value", ["null", "3", "[]", '""', '["ocr", 2]', '{"ocr": 1}'])
def test_the_field_reward_names_rewards(tmp_path: Path, value: str) -> None:
    """Catches in core/prompt_files.py: a number taken for a name of a reward."""
    lines = ['{"prompt": "a", "reward": "ocr"}', '{"prompt": "b", "reward": ["ocr", "hps"]}', '{"prompt": "c"}']
    name = write(tmp_path / "prompts.jsonl", *lines)
    assert [prompt.rewards for prompt in read_prompt_file(name)] == [("ocr",), ("ocr", "hps"), ()]
    broken = write(tmp_path / "broken.jsonl", *lines, f'{{"prompt": "d", "reward": {value}}}')
    with pytest.raises(
        UserError, match=r"broken\.jsonl, line 4: the field 'reward' names .* write \"reward\": \"ocr\""
    ):
        read_prompt_file(broken)


def test_a_list_without_a_prompt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no prompt: write one per line, e\.g\. \{"):
        read_prompt_file(write(tmp_path / "prompts.jsonl", "", ""))


def test_metadata_of_several_lists_are_looked_up_by_prompt(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", '{"prompt": "a dog", "n": 1}', '{"prompt": "a dog", "n": 1}')
    second = write(tmp_path / "b.jsonl", '{"prompt": "a cow", "n": 2}')
    assert read_metadata([first, second]) == {"a dog": {"n": 1}, "a cow": {"n": 2}}
    other = write(tmp_path / "c.jsonl", '{"prompt": "a cow", "n": 3}')
    with (
        naming("k"),
        pytest.raises(UserError, match=r"^k: 'a cow' has different metadata in two lines, the second in .*c\.jsonl"),
    ):
        read_metadata([first, second, other])


class Column(list):
    """Iterable, like a column of a dataset."""


class Rows:
    column_names = ["caption", "width"]

    def __getitem__(self, name: str) -> Column:
        return Column({"caption": [" a cat ", "", "a dog"], "width": [1, 2, 3]}[name])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A stand-in for the package `datasets` that records its calls."""
    asked: list[dict[str, Any]] = []

    def load_dataset(path: str, **arguments: Any) -> Rows:
        asked.append({"path": path, **arguments})
        if path == "nobody/nothing":
            raise FileNotFoundError("Dataset 'nobody/nothing' doesn't exist on the Hub\nor cannot be accessed")
        return Rows()

    module = ModuleType("datasets")
    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    return asked


@pytest.mark.parametrize(
    ("name", "path", "config", "split"),
    [
        ("hf:owner/name:train:caption", "owner/name", None, "train"),
        ("hf:owner/name/small:test:caption", "owner/name", "small", "test"),
        ("hf:owner/name:train[:10]+test:caption", "owner/name", None, "train[:10]+test"),
        ("hf:./some/folder:train:caption", "some/folder", None, "train"),
        ("hf:name:train:caption", "name", None, "train"),
    ],
)
def test_a_column_of_a_dataset_is_asked_for_by_its_name(
    calls: list[dict[str, Any]], name: str, path: str, config: str | None, split: str
) -> None:
    """Rows without a text are left out."""
    assert read_prompts(name) == ("a cat", "a dog")
    assert calls == [{"path": path, "name": config, "split": split}]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("hf:owner/name:train:text", "it has no column 'text': use one of caption, width"),
        ("hf:owner/name:train:width", "row 0: int is not a string"),
        ("hf:nobody/nothing:train:text", "the dataset cannot be loaded: Dataset 'nobody/nothing' doesn't exist on"),
        ("hf:owner/name:train", "a dataset needs a name, a split and a column, e.g. hf:OWNER/NAME:train:prompt"),
        ("hf:owner/name", "a dataset needs a name, a split and a column"),
        ("hf::train:caption", "a dataset needs a name, a split and a column"),
    ],
)
def test_a_dataset_that_cannot_be_used_is_refused_in_one_line(
    calls: list[dict[str, Any]], name: str, says: str
) -> None:
    with naming("prompts.test"), pytest.raises(UserError, match=rf"^prompts\.test={re.escape(name)}") as caught:
        read_prompts(name)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_the_package_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"needs the package datasets: pip install 'drift-pl\[datasets\]'"):
        read_prompts("hf:owner/name:train:caption")


@pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="the package datasets is not installed")
def test_a_folder_of_files_is_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import pyarrow
    from pyarrow import parquet

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    lines, columns = tmp_path / "lines", tmp_path / "columns"
    lines.mkdir(), columns.mkdir()
    rows = [{"caption": text, "width": 3} for text in ("a cat", "a dog", "a cow")]
    write(lines / "train.jsonl", *map(json.dumps, rows))
    parquet.write_table(pyarrow.Table.from_pylist(rows), columns / "train.parquet")
    for folder in (lines, columns):
        assert read_prompts(f"hf:{folder}:train:caption") == ("a cat", "a dog", "a cow")
        assert read_prompts(f"hf:{folder}:train[1:2]:caption") == ("a dog",)
        with pytest.raises(UserError, match="it has no column 'text': use one of caption, width"):
            read_prompts(f"hf:{folder}:train:text")
        with pytest.raises(UserError, match="the dataset cannot be loaded: "):
            read_prompts(f"hf:{folder}:validation:caption")


def shipped(name: str) -> tuple[str, ...]:
    return read_prompts(f"pkg:drift_pl/prompt_lists/real_{name}.txt")


@pytest.mark.parametrize("name", LISTS)
def test_a_shipped_list_is_as_long_and_as_balanced_as_it_says(name: str) -> None:
    path = Path(__file__).parents[2] / "drift_pl" / "prompt_lists" / f"real_{name}.txt"
    head, *lines = path.read_text(encoding="ascii").splitlines()
    assert head.startswith("# ")
    counts: Counter[str] = Counter()
    category = ""
    for line in lines:
        category = line.removeprefix("# ") if line.startswith("# ") else category
        counts[category] += not line.startswith("# ")
    assert list(counts) == CATEGORIES
    assert sum(counts.values()) == len(shipped(name)) == LISTS[name]
    assert max(counts.values()) - min(counts.values()) <= 1
    assert all(3 <= len(prompt.split()) <= 20 for prompt in shipped(name))


def test_no_shipped_prompt_is_in_two_lists_or_nearly_another() -> None:
    """Two written prompts share at most a third of their content words."""
    prompts = [prompt for name in LISTS for prompt in shipped(name) if name != "train_large"]
    assert len(set(prompts)) == len(prompts)
    small = set(re.findall("[a-z]+", "a an the of in on at with and to by from under over its is into for beside"))
    words = [set(prompt.lower().split()) - small for prompt in prompts]
    assert max(len(one & other) / len(one | other) for one, other in combinations(words, 2)) < 1 / 3


def test_the_larger_list_is_what_its_grammar_writes() -> None:
    """No prompt twice, none that shares half of its content words with another of its section or a third with a
    held-out one.

    Catches in benchmarks/prompt_grammar.py: held-out prompts not looked at; a slot walked faster than it has words.
    """
    file = Path(__file__).parents[2] / "drift_pl" / "prompt_lists" / "real_train_large.txt"
    assert prompt_grammar.prompt_list() == file.read_text(encoding="ascii")
    prompts, held_out = shipped("train_large"), shipped("tuning") + shipped("test")
    assert len(set(prompts)) == len(prompts)
    words, held = ([prompt_grammar.content_words(prompt) for prompt in each] for each in (prompts, held_out))
    assert max(len(one & other) / len(one | other) for one in words for other in held) < 1 / 3
    for start in range(0, len(words), 320):
        pairs = combinations(words[start : start + 320], 2)
        assert max(len(one & other) / len(one | other) for one, other in pairs) < 1 / 2
