"""Paraphrase files: alternative texts for prompts, used by the prompting lever."""

from typing import Any

from drift_pl.core.errors import UserError, named
from drift_pl.core.texts import read_json_lines, stripped

RIGHT_LINE = '{"prompt": "a red circle", "paraphrases": ["a circle in red", "one red disc"]}'


def read_paraphrases(path: str) -> dict[str, tuple[str, ...]]:
    """Alternative texts for each prompt, from a UTF-8 JSON-lines file: one object per line, empty lines skipped.

    Args:
        path: path or pkg:PACKAGE/FILE of a file with lines like `RIGHT_LINE`.

    Returns:
        prompt -> its paraphrases, stripped, in file order; several lines of one prompt are merged.

    Raises:
        UserError: the file does not exist or is not text, a line is not such an object, or there is no line.
    """
    found: dict[str, tuple[str, ...]] = {}
    for place, entry in read_json_lines(path, RIGHT_LINE):
        prompt, paraphrases = _paraphrases_of(entry, place)
        found[prompt] = tuple(dict.fromkeys([*found.get(prompt, ()), *paraphrases]))
    if not found:
        raise UserError(f"{named(path)} holds no paraphrase: write lines like {RIGHT_LINE}")
    return found


def _paraphrases_of(entry: Any, place: str) -> tuple[str, list[str]]:
    if not isinstance(entry, dict) or set(entry) != {"prompt", "paraphrases"}:
        raise UserError(f"{place}: needs the fields 'prompt' and 'paraphrases' and no others; write {RIGHT_LINE}")
    prompt, paraphrases = entry["prompt"], entry["paraphrases"]
    if not isinstance(prompt, str) or not stripped(prompt):
        raise UserError(f"{place}: 'prompt' must be a non-empty string; write {RIGHT_LINE}")
    texts = paraphrases if isinstance(paraphrases, list) else []
    if not texts or not all(isinstance(text, str) and stripped(text) for text in texts):
        raise UserError(f"{place}: 'paraphrases' must be a non-empty list of non-empty strings; write {RIGHT_LINE}")
    return stripped(prompt), [stripped(text) for text in texts]
