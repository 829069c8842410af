"""Prompt lists: text files, JSON lines with metadata, columns of Hugging Face datasets."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drift_pl.core.errors import UserError, named
from drift_pl.core.files import local_path
from drift_pl.core.locate import first_line, import_extra, read_text, split_revision
from drift_pl.core.texts import numbered_lines, read_json_lines, stripped

JSON_LINES = (".jsonl", ".ndjson")
NOT_PROMPTS = (
    *(".json", ".csv", ".tsv", ".yaml", ".yml", ".toml", ".ini", ".xml", ".html", ".htm", ".py", ".ipynb"),
    *(".parquet", ".arrow", ".feather", ".db", ".sqlite", ".xls", ".xlsx", ".ods", ".doc", ".docx", ".odt", ".pdf"),
    *(".rtf", ".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".tgz", ".7z", ".png", ".jpg", ".jpeg", ".webp", ".gif"),
    *(".npy", ".npz", ".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".safetensors"),
)
"""Suffixes of files that are not prompt lists."""
RIGHT_LINE = '{"prompt": "a red circle", "tag": "colours"}'
DATASET = "hf:"
RIGHT_DATASET = "hf:OWNER/NAME:train:prompt"
REWARD = "reward"
"""The field of a JSON line that names the rewards by which its prompt is scored: a string, or a list of strings."""


@dataclass(frozen=True)
class Prompt:
    """A prompt and its metadata.

    Attributes:
        text: what models are conditioned on and rewards see.
        metadata: the other fields of its JSON line, for rewards that check them (`http_judge`); empty in other formats.
        place: file and line, for errors; empty in other formats.
    """

    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    place: str = field(default="", compare=False)

    @property
    def rewards(self) -> tuple[str, ...]:
        """Names of the rewards by which it is scored; empty: by all of the run's."""
        named = self.metadata.get(REWARD, ())
        return (named,) if isinstance(named, str) else tuple(named)


def read_prompt_file(name: str) -> tuple[Prompt, ...]:
    """Reads prompts in order, without surrounding whitespace.

    Args:
        name: a path or pkg:PACKAGE/FILE of a UTF-8 text file with one prompt per line (empty lines and lines that
            start with `#` are skipped), or of a `.jsonl` file with lines like `RIGHT_LINE`. Or a dataset column,
            `hf:OWNER/NAME[/CONFIG]:SPLIT:COLUMN`, with a local folder of parquet or JSON-lines files in place of
            OWNER/NAME if desired.

    Raises:
        UserError: it cannot be read, or contains no prompt.
    """
    if name.startswith(DATASET):
        prompts = _read_dataset(name)
    elif name.lower().endswith(NOT_PROMPTS):
        raise UserError(
            f"{named(name)}: {Path(name).suffix} is not a format of prompt lists: give a text file with one prompt per "
            f"line, .jsonl with lines like {RIGHT_LINE}, or a column of a dataset, {RIGHT_DATASET}"
        )
    elif name.lower().endswith(JSON_LINES):
        prompts = [_prompt_of(entry, place) for place, entry in read_json_lines(name, RIGHT_LINE)]
    else:
        text = read_text(name, "a text file with one prompt per line")
        _refuse_json(name, text)
        prompts = [Prompt(line) for _, line in numbered_lines(text) if not line.startswith("#")]
    if not prompts:
        example = RIGHT_LINE if name.lower().endswith(JSON_LINES) else "'a red circle'"
        raise UserError(f"{named(name)} holds no prompt: write one per line, e.g. {example}")
    return tuple(prompts)


def read_metadata(names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Metadata by prompt, from several lists.

    Raises:
        UserError: a list cannot be read, or a prompt has different metadata in two places.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for name in names:
        for prompt in read_prompt_file(name):
            if found.setdefault(prompt.text, prompt.metadata) != prompt.metadata:
                raise UserError(
                    f"{named()}: {prompt.text!r} has different metadata in two lines, the second in {name}; "
                    "rewards look metadata up by prompt, so word the two differently"
                )
    return found


def _refuse_json(name: str, text: str) -> None:
    """Raises a `UserError` for a text file with JSON objects or lists in its lines, or that is one as a whole."""
    for number, part in [*numbered_lines(text), (1, stripped(text))]:
        try:
            if part.startswith(("{", "[")) and isinstance(json.loads(part), dict | list):
                raise UserError(
                    f"{named(name)}, line {number}: JSON in a text file; call it .jsonl, with lines like {RIGHT_LINE}"
                )
        except (json.JSONDecodeError, RecursionError):  # a prompt that begins with a bracket
            continue


def _prompt_of(entry: Any, place: str) -> Prompt:
    text = entry.pop("prompt", None) if isinstance(entry, dict) else None
    if not isinstance(text, str) or not stripped(text):
        raise UserError(f"{place}: needs the field 'prompt', a non-empty string; write {RIGHT_LINE}")
    named = entry.get(REWARD, "any")
    names = [named] if isinstance(named, str) else named
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise UserError(
            f"{place}: the field '{REWARD}' names the rewards that score this prompt: write "
            '"reward": "ocr", or "reward": ["ocr", "pickscore"], or call a field of your own something else'
        )
    return Prompt(stripped(text), entry, place)


def dataset_parts(name: str) -> tuple[str, str, str]:
    """Name or folder, split and column of `hf:NAME:SPLIT:COLUMN`.

    Raises:
        UserError: one of them is missing.
    """
    # A split may contain a colon (train[:100]): the first colon ends the name, the last one starts the column.
    location, _, rest = name.removeprefix(DATASET).partition(":")
    split, _, column = rest.rpartition(":")
    if not (location and split and column):
        raise UserError(f"{named(name)}: a dataset needs a name, a split and a column, e.g. {RIGHT_DATASET}")
    return location, split, column


def _read_dataset(name: str) -> list[Prompt]:
    location, split, column = dataset_parts(name)
    datasets = import_extra("datasets", "datasets", name)
    source, config = _dataset_source(location)
    try:
        source, pinned = (source, {}) if local_path(source).exists() else split_revision(source)
        rows = datasets.load_dataset(source, name=config, split=split, **pinned)
        columns = rows.column_names
        values = list(rows[column]) if column in columns else []
    except Exception as error:  # errors of the hub, the reader and the file formats
        raise UserError(f"{named(name)}: the dataset cannot be loaded: {first_line(error)}") from error
    if column not in columns:
        raise UserError(f"{named(name)}: it has no column {column!r}: use one of {', '.join(columns)}")
    for number, value in enumerate(values):
        if not isinstance(value, str):
            raise UserError(f"{named(name)}, row {number}: {type(value).__name__} is not a string; give a text column")
    return [Prompt(value.strip()) for value in values if value.strip()]


def _dataset_source(location: str) -> tuple[str, str | None]:
    """Arguments of `load_dataset`: a folder or OWNER/NAME, and the configuration named by a third part."""
    path = local_path(location)
    if location.startswith((".", "/", "~")) or path.is_dir():
        return str(path), None
    owner, _, rest = location.partition("/")
    name, _, config = rest.partition("/")
    return "/".join(part for part in (owner, name) if part), config or None
