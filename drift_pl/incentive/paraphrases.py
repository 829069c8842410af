"""Files of paraphrases: what the prompting lever may say in place of a prompt."""

import json

from drift_pl.core.errors import UserError, named
from drift_pl.core.locate import read_text

RIGHT_LINE = '{"prompt": "a red circle", "paraphrases": ["a circle in red", "one red disc"]}'


def read_paraphrases(path: str) -> dict[str, tuple[str, ...]]:
    """Other texts for each prompt, from a UTF-8 JSON-lines file: one object per line, empty lines skipped.

    Args:
        path: of a file of lines like `RIGHT_LINE`, or pkg:PACKAGE/FILE.

    Returns:
        prompt -> its paraphrases, without blanks around them, in the file's order; several lines of one prompt add up.

    Raises:
        UserError: there is no such file, it is not text, a line is not such an object, or there is none.
    """
    text = read_text(path, f"a JSON-lines file with lines like {RIGHT_LINE}")
    found: dict[str, tuple[str, ...]] = {}
    # Not splitlines(): it would also cut at characters that JSON allows inside a text, such as U+2028.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            prompt, paraphrases = _read_line(line, f"{named(path)}, line {number}")
            found[prompt] = tuple(dict.fromkeys([*found.get(prompt, ()), *paraphrases]))
    if not found:
        raise UserError(f"{named(path)} holds no paraphrase: write lines like {RIGHT_LINE}")
    return found


def _read_line(line: str, place: str) -> tuple[str, list[str]]:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{place}: not JSON ({error.msg}, column {error.colno}); write {RIGHT_LINE}") from error
    if not isinstance(entry, dict) or set(entry) != {"prompt", "paraphrases"}:
        raise UserError(f"{place}: needs the fields 'prompt' and 'paraphrases' and no others; write {RIGHT_LINE}")
    prompt, paraphrases = entry["prompt"], entry["paraphrases"]
    if not isinstance(prompt, str) or not prompt.strip():
        raise UserError(f"{place}: 'prompt' must be a text that is not empty; write {RIGHT_LINE}")
    texts = paraphrases if isinstance(paraphrases, list) else []
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise UserError(f"{place}: 'paraphrases' must list at least one text, none of them empty; write {RIGHT_LINE}")
    return prompt.strip(), [text.strip() for text in texts]
