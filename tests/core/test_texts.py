"""What is a prompt and what is none: formats, encodings, line ends, half characters.

Catches in core/prompt_files.py: any file as a list of prompts.
Catches in core/texts.py: lines cut at U+2028; a lone surrogate that reaches a tokenizer.
Catches in sampling/prompts.py: a repeated test prompt that weighs double.
"""

import json
import warnings
from pathlib import Path

import pytest

from drift_pl.config.command_line import split_line
from drift_pl.config.schema import Config
from drift_pl.config.yaml_text import load_yaml
from drift_pl.core.errors import UserError, naming
from drift_pl.core.prompt_files import NOT_PROMPTS, read_metadata, read_prompt_file
from drift_pl.incentive.paraphrases import read_paraphrases
from drift_pl.sampling.prompts import distinct, read_prompts


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize("suffix", [*NOT_PROMPTS, ".JSON", ".Csv", ".txt.gz"])
def test_other_formats_are_refused_by_name(tmp_path: Path, suffix: str) -> None:
    name = write(tmp_path / f"prompts{suffix}", "a cat\n")
    with naming("prompts.train"), pytest.raises(UserError) as caught:
        read_prompts(name)
    last = f".{suffix.rpartition('.')[2]}"
    assert str(caught.value).startswith(
        f"prompts.train={name}: {last} is not a format of prompt lists: give a text file"
    )
    assert "\n" not in str(caught.value)


def test_json_lines_are_known_by_their_end_in_any_case(tmp_path: Path) -> None:
    for end in ("JSONL", "Ndjson"):
        assert read_prompts(write(tmp_path / f"prompts.{end}", '{"prompt": "a cat"}\n')) == ("a cat",)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('a cat\n{"prompt": "a dog"}\n', 2),
        ('["a cat", "a dog"]\n', 1),
        (json.dumps([{"prompt": "a cat"}], indent=1), 1),
        (json.dumps({"prompts": ["a cat"]}, indent=1), 1),
    ],
)
def test_json_in_a_text_file_is_refused(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(UserError, match=rf"prompts\.txt, line {line}: JSON in a text file; call it \.jsonl"):
        read_prompts(write(tmp_path / "prompts.txt", text))


def test_a_prompt_may_begin_with_a_bracket(tmp_path: Path) -> None:
    prompts = ("[a cat] on a mat", "{prompt}", "[1] and (2)", '"a cat"', "{", "[" * 5000)
    assert read_prompts(write(tmp_path / "prompts.txt", "\n".join(prompts))) == prompts


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["txt", "jsonl"])
def test_utf_16_is_refused_with_a_mark_or_without(tmp_path: Path, encoding: str, end: str) -> None:
    name = write(tmp_path / f"prompts.{end}", '{"prompt": "a cat"}\na dog\n'.encode(encoding))
    with pytest.raises(UserError, match=r"is not a UTF-8 text file \(UTF-16 or not text at all\): save it as UTF-8$"):
        read_prompts(name)
    with pytest.raises(UserError, match="save it as UTF-8"):
        read_paraphrases(name)


def test_only_line_ends_end_a_line(tmp_path: Path) -> None:
    inside = "\u2028\u2029\x85\x0c\x0b\x1c\x1d\x1e"
    text = "".join(f"a{mark}b\r\n" for mark in inside) + "one\rtwo\nthree"
    expected = (*(f"a{mark}b" for mark in inside), "one", "two", "three")
    assert read_prompts(write(tmp_path / "prompts.txt", text)) == expected
    entries = "\r\n".join(json.dumps({"prompt": f"a{mark}b"}, ensure_ascii=False) for mark in inside if mark > " ")
    assert read_prompts(write(tmp_path / "p.jsonl", entries)) == tuple(f"a{mark}b" for mark in inside if mark > " ")


def test_invisible_marks_at_the_ends_are_no_part_of_a_prompt(tmp_path: Path) -> None:
    """Two files with byte order marks, joined; a zero-width joiner makes an emoji and stays."""
    text = "\ufeffa cat\n\ufeff \u200ba dog\u200b \n\ufeff\n\ufeff# no prompt\n👩\u200d🚀\n"
    assert read_prompts(write(tmp_path / "prompts.txt", text)) == ("a cat", "a dog", "👩\u200d🚀")
    name = write(tmp_path / "p.jsonl", '\ufeff{"prompt": "\ufeffa cat"}\n\ufeff{"prompt": "a dog\u200b"}')
    assert read_prompts(name) == ("a cat", "a dog")
    name = write(tmp_path / "q.jsonl", '\ufeff{"prompt": "\ufeffa cat", "paraphrases": ["a feline\u200b"]}')
    assert read_paraphrases(name) == {"a cat": ("a feline",)}


@pytest.mark.parametrize("line", ['{"prompt": "a \\ud83d cat"}', '{"prompt": "a cat", "tags": {"k": ["\\ude00"]}}'])
def test_half_a_character_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    name = write(tmp_path / "prompts.jsonl", f'{{"prompt": "a \\ud83d\\ude00"}}\n{line}\n')
    with pytest.raises(UserError, match=r"prompts\.jsonl, line 2: half of a character \(a lone surrogate"):
        read_prompts(name)
    with pytest.raises(UserError, match="line 2: half of a character"):
        read_metadata([name])


def test_half_a_character_in_paraphrases_settings_and_arguments(tmp_path: Path) -> None:
    name = write(tmp_path / "p.jsonl", '{"prompt": "a cat", "paraphrases": ["\\ud83d"]}\n')
    with pytest.raises(UserError, match="line 1: half of a character"):
        read_paraphrases(name)
    with pytest.raises(ValueError, match="found half of a character"):
        load_yaml('negative_prompt: "\\ud83d"')
    assert load_yaml('"\\U0001F600"') == "😀"
    for argument in ("prompt=a \udcff cat", "--\udcff"):
        with pytest.raises(UserError, match="is not UTF-8 text"):
            split_line(Config, [argument])


@pytest.mark.parametrize("line", ["[" * 100_000, '{"prompt": "a", "n": ' + "9" * 5000 + "}", "9" * 5000])
def test_json_that_python_cannot_read(tmp_path: Path, line: str) -> None:
    with pytest.raises(UserError, match=r"prompts\.jsonl, line 1: ") as caught:
        read_prompt_file(write(tmp_path / "prompts.jsonl", line))
    assert len(str(caught.value)) < 600


def test_a_prompt_that_stands_twice_is_measured_once(tmp_path: Path) -> None:
    """Training sees each line equally often; a mean over prompts would count it twice, and its interval as well."""
    name = write(tmp_path / "prompts.txt", "a cat\na dog\n a cat\na cat\na cow\n")
    with naming("prompts.test"), pytest.warns(UserWarning, match="repeat another") as caught:
        assert distinct(name) == ("a cat", "a dog", "a cow")
    assert [str(warning.message) for warning in caught] == [
        f"prompts.test={name}: 2 of 5 prompts repeat another; each is measured once"
    ]
    assert len(read_prompts(name)) == 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert distinct(write(tmp_path / "others.txt", "a cat\nA cat\n")) == ("a cat", "A cat")
