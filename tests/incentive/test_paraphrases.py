"""Paraphrase files: what is read, and the errors of bad lines.

Catches in incentive/paraphrases.py: lines counted from 0; last line wins; byte order mark kept; unknown fields
accepted.
"""

import json
from pathlib import Path

import pytest

from drift_pl.core.errors import UserError, naming
from drift_pl.incentive.paraphrases import RIGHT_LINE, read_paraphrases


def written(path: Path, *entries: object) -> str:
    path.write_text("\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries) + "\n", encoding="utf-8")
    return str(path)


def test_the_line_that_errors_show_is_right(tmp_path: Path) -> None:
    path = tmp_path / "paraphrases.jsonl"
    path.write_text(RIGHT_LINE)
    assert read_paraphrases(str(path)) == {"a red circle": ("a circle in red", "one red disc")}


def test_each_line_holds_a_prompt_and_its_paraphrases(tmp_path: Path) -> None:
    path = written(
        tmp_path / "p.jsonl",
        {"prompt": " a cat ", "paraphrases": ["ünïcode 图", " a feline "]},
        {"prompt": "a dog", "paraphrases": ["a hound"]},
        {"paraphrases": ["a feline", "a tom"], "prompt": "a cat"},
    )
    expected = {"a cat": ("ünïcode 图", "a feline", "a tom"), "a dog": ("a hound",)}
    assert read_paraphrases(path) == expected
    assert list(read_paraphrases(path)) == list(expected)


def test_empty_lines_windows_line_ends_and_a_byte_order_mark_are_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"prompt": "a", "paraphrases": ["b"]}\r\n\r\n{"prompt": "c", "paraphrases": ["d"]}\r\n'
    )
    assert read_paraphrases(str(path)) == {"a": ("b",), "c": ("d",)}


def test_a_separator_that_json_allows_inside_a_text_does_not_end_the_line(tmp_path: Path) -> None:
    """U+2028 and U+0085 are allowed unescaped in a JSON string."""
    path = written(tmp_path / "p.jsonl", {"prompt": "a\u2028b", "paraphrases": ["c\u0085d"]})
    assert read_paraphrases(path) == {"a\u2028b": ("c\u0085d",)}


GOOD = '{"prompt": "a", "paraphrases": ["b"]}'


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"prompt": "a"', "not JSON"),
        ("a cat", "not JSON"),
        ('["a", "b"]', "needs the fields"),
        ('"a"', "needs the fields"),
        ('{"prompt": "a"}', "needs the fields"),
        ('{"prompt": "a", "paraphrase": ["b"]}', "needs the fields"),
        ('{"prompt": "a", "paraphrases": ["b"], "source": "me"}', "no others"),
        ('{"prompt": 3, "paraphrases": ["b"]}', "'prompt' must be"),
        ('{"prompt": "  ", "paraphrases": ["b"]}', "'prompt' must be"),
        ('{"prompt": "a", "paraphrases": []}', "'paraphrases' must be a non-empty list"),
        ('{"prompt": "a", "paraphrases": "b"}', "'paraphrases' must be a non-empty list"),
        ('{"prompt": "a", "paraphrases": ["b", 3]}', "'paraphrases' must be a non-empty list"),
        ('{"prompt": "a", "paraphrases": ["b", " "]}', "of non-empty strings"),
    ],
)
def test_a_wrong_line_is_named_with_its_key_its_number_and_a_right_one(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(f"{GOOD}\n\n{line}\n{GOOD}\n")
    with naming("incentive.prompting.paraphrases"), pytest.raises(UserError) as error:
        read_paraphrases(str(path))
    message = str(error.value)
    assert message.startswith(f"incentive.prompting.paraphrases={path}, line 3: ")
    assert says in message
    assert message.endswith(RIGHT_LINE)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.jsonl", None, "no such file"),
        ("empty.jsonl", b"\n \n", "holds no paraphrase"),
        ("binary.jsonl", b"a cat\n\xff\xfe", r"is not a UTF-8 text file \(byte 6 cannot be read\)"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes | None, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with (
        naming("incentive.prompting.paraphrases"),
        pytest.raises(UserError, match=rf"^incentive\.prompting\.paraphrases={name}.*{says}"),
    ):
        read_paraphrases(name)
