"""Lists of prompts: text files, JSON lines with metadata, columns of Hugging Face datasets."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drift_pl.core.errors import UserError, named
from drift_pl.core.locate import first_line, import_extra, read_text

JSON_LINES = (".jsonl", ".ndjson")
RIGHT_LINE = '{"prompt": "a red circle", "tag": "colours"}'
DATASET = "hf:"
RIGHT_DATASET = "hf:OWNER/NAME:train:prompt"


@dataclass(frozen=True)
class Prompt:
    """A prompt, and what its file says about it besides.

    Attributes:
        text: what models are conditioned on and judges see.
        metadata: the other fields of its line, for a judge that checks them (`http_judge`); empty for other kinds of
            lists.
    """

    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


def read_prompt_file(name: str) -> tuple[Prompt, ...]:
    """Prompts by name, in their order, blanks around them left out.

    Args:
        name: a path or pkg:PACKAGE/FILE: of a UTF-8 text with one prompt per line, where empty lines and lines that
            start with `#` are skipped, or (`.jsonl`) of lines like `RIGHT_LINE`. Or a column of a dataset,
            `hf:OWNER/NAME[/CONFIG]:SPLIT:COLUMN`, where a local folder of parquet or JSON-lines files may stand in
            place of OWNER/NAME.

    Raises:
        UserError: it cannot be read, or it holds no prompt.
    """
    if name.startswith(DATASET):
        prompts = _read_dataset(name)
    elif name.endswith(JSON_LINES):
        text = read_text(name, f"a JSON-lines file with lines like {RIGHT_LINE}")
        # Not splitlines(): it would also cut at characters that JSON allows inside a text, such as U+2028.
        lines = enumerate(text.split("\n"), start=1)
        prompts = [_read_json_line(line, f"{named(name)}, line {number}") for number, line in lines if line.strip()]
    else:
        text = read_text(name, "a text file with one prompt per line")
        stripped = [line.strip() for line in text.splitlines()]
        prompts = [Prompt(line) for line in stripped if line and not line.startswith("#")]
    if not prompts:
        example = RIGHT_LINE if name.endswith(JSON_LINES) else "'a red circle'"
        raise UserError(f"{named(name)} holds no prompt: write one per line, e.g. {example}")
    return tuple(prompts)


def read_metadata(names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Metadata by prompt, over several lists.

    Raises:
        UserError: a list cannot be read, or one prompt has different metadata in two places.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for name in names:
        for prompt in read_prompt_file(name):
            if found.setdefault(prompt.text, prompt.metadata) != prompt.metadata:
                raise UserError(
                    f"{named()}: {prompt.text!r} has different metadata in two lines, the second in {name}; "
                    "a judge is told the prompt alone, so give each its own wording"
                )
    return found


def _read_json_line(line: str, place: str) -> Prompt:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{place}: not JSON ({error.msg}, column {error.colno}); write {RIGHT_LINE}") from error
    text = entry.pop("prompt", None) if isinstance(entry, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{place}: needs the field 'prompt', a text that is not empty; write {RIGHT_LINE}")
    return Prompt(text.strip(), entry)


def _read_dataset(name: str) -> list[Prompt]:
    # A split may hold a colon itself (train[:100]): the first one ends the name, the last one begins the column.
    location, _, rest = name.removeprefix(DATASET).partition(":")
    split, _, column = rest.rpartition(":")
    if not (location and split and column):
        raise UserError(f"{named(name)}: a dataset is named by name, split and column, e.g. {RIGHT_DATASET}")
    datasets = import_extra("datasets", "datasets", name)
    source, config = _dataset_source(location)
    try:
        rows = datasets.load_dataset(source, name=config, split=split)
        columns = rows.column_names
        values = list(rows[column]) if column in columns else []
    except Exception as error:  # the hub's, the reader's and the file formats' own kinds
        raise UserError(f"{named(name)}: the dataset cannot be loaded: {first_line(error)}") from error
    if column not in columns:
        raise UserError(f"{named(name)}: it has no column {column!r}: use one of {', '.join(columns)}")
    for number, value in enumerate(values):
        if not isinstance(value, str):
            raise UserError(f"{named(name)}, row {number}: {type(value).__name__} is not a text; use a column of texts")
    return [Prompt(value.strip()) for value in values if value.strip()]


def _dataset_source(location: str) -> tuple[str, str | None]:
    """What `load_dataset` takes: a folder, or OWNER/NAME, and the configuration that a third part names."""
    path = Path(location).expanduser()
    if location.startswith((".", "/", "~")) or path.is_dir():
        return str(path), None
    owner, _, rest = location.partition("/")
    name, _, config = rest.partition("/")
    return "/".join(part for part in (owner, name) if part), config or None
