"""Settings that name files: relative names become absolute, so that they mean the same from every folder."""

import os
from pathlib import Path
from typing import Any

from drift_pl.core.files import local_path
from drift_pl.core.prompt_files import DATASET

NAMES_A_FILE = (
    *("prompts.train", "prompts.tuning", "prompts.test", "incentive.prompting.paraphrases"),
    *("incentive.prompting.vocabulary", "policy.pretrained", "policy.lora.pretrained"),
)
LOCAL = ("/", "./", "../", "~")


def names_a_file(key: str, value: str) -> bool:
    """Whether a setting's value is a local file or folder, or one of an installed package."""
    if key not in NAMES_A_FILE and ".args." not in key:
        return False
    if value.startswith((*LOCAL, "pkg:")) or value in (".", ".."):
        return True
    if key in NAMES_A_FILE or key.endswith(".pretrained") or "/" in value:
        return os.path.exists(value)
    return bool(os.path.splitext(value)[1]) and os.path.isfile(value)  # such as metadata: [train.jsonl]


def with_absolute_paths(value: Any, key: str = "") -> Any:
    """Settings, nested or by dotted keys, with absolute names of local files; what is no such name stays."""
    if isinstance(value, dict):
        return {name: with_absolute_paths(entry, f"{key}.{name}".lstrip(".")) for name, entry in value.items()}
    if isinstance(value, list):
        return [with_absolute_paths(entry, f"{key}.{number}") for number, entry in enumerate(value)]
    if not isinstance(value, str):
        return value
    if value.startswith(DATASET) and key in NAMES_A_FILE:
        location, colon, rest = value.removeprefix(DATASET).partition(":")
        return f"{DATASET}{absolute(location) if _is_local(location) else location}{colon}{rest}"
    return absolute(value) if names_a_file(key, value) and not value.startswith("pkg:") else value


def absolute(name: str) -> str:
    return os.path.abspath(local_path(name))


def _is_local(location: str) -> bool:
    return location.startswith(LOCAL) or os.path.isdir(location)


def same_file_names(theirs: Any, ours: Any) -> bool:
    """Whether two values of a setting are equal, or name files of which one is relative and the other's end.

    Runs of version 0.2 keep names as they were typed.
    """
    if isinstance(theirs, dict) and isinstance(ours, dict) and theirs.keys() == ours.keys():
        return all(same_file_names(theirs[key], ours[key]) for key in theirs)
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        return all(map(same_file_names, theirs, ours))
    if isinstance(theirs, str) and isinstance(ours, str) and os.path.isabs(ours) and not os.path.isabs(theirs):
        tail = [part for part in Path(theirs).parts if part not in ("..", ".")]
        return bool(tail) and list(Path(ours).parts[-len(tail) :]) == tail
    return theirs == ours
