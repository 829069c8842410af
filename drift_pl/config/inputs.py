"""The local files that shape a run: their absolute names, digests of their content, and the texts that are kept.

A run's folder holds its mark, `run.json`, and in `inputs/` the prompt lists and paraphrases as they were.
"""

import hashlib
import json
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from drift_pl.config.identity import hash_of, run_identity
from drift_pl.config.paths import names_a_file, with_absolute_paths
from drift_pl.config.prompt_rewards import LISTS
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError, naming
from drift_pl.core.files import write_json, write_text
from drift_pl.core.json_files import read_json
from drift_pl.core.locate import locate
from drift_pl.core.prompt_files import DATASET, read_prompt_file

PARAPHRASES = "incentive.prompting.paraphrases"
FORMAT = "drift_pl.run"
MARK, KEPT = "run.json", "inputs"
PREFERRED, OTHERS, TEXTS = (".safetensors",), (".bin", ".pt", ".pth", ".npz"), (".json", ".txt", ".model")
"""Endings of weights, of weights that do not count beside the preferred ones, and of what describes them."""
BLOCK, WHOLE, SAMPLES = 2**20, 2**26, 32
"""In bytes: of a file larger than `WHOLE`, only `SAMPLES` blocks of size `BLOCK` are read."""


@dataclass(frozen=True)
class RunMark:
    """What tells a run's files from another's.

    Attributes:
        identity: HASH-sSEED.
        inputs: setting -> digest of the local file or folder that it names.
        lists: setting -> text of a prompt list (JSON lines) or of paraphrases.
    """

    identity: str
    inputs: Mapping[str, str]
    lists: Mapping[str, str]

    @property
    def config_hash(self) -> str:
        return hash_of(self.identity)

    def of_run(self, identity: str) -> "RunMark":
        """The same files in a run that began under another mark."""
        return replace(self, identity=identity)

    def changed(self, earlier: Mapping[str, str]) -> list[str]:
        """Settings whose file was another one."""
        return [key for key, digest in earlier.items() if self.inputs.get(key, digest) != digest]

    def same(self, earlier: Mapping[str, str]) -> set[str]:
        """Settings whose file has the same content, wherever it is now."""
        return {key for key, digest in earlier.items() if self.inputs.get(key) == digest}


def read_mark(config: Config) -> RunMark:
    """The mark of a run that begins now.

    Raises:
        UserError: a list cannot be read.
    """
    lists = {f"prompts.{which}": _list_text(config, which) for which in LISTS}
    if config.incentive.prompting.paraphrases is not None:
        with suppress(UserError, OSError, ValueError):  # refused by whoever reads what it says
            lists[PARAPHRASES] = Path(locate(config.incentive.prompting.paraphrases)).read_text(encoding="utf-8-sig")
    digests = {key: _short(hashlib.sha256(text.encode())) for key, text in lists.items()}
    return RunMark(run_identity(config), digests | digests_of(config), lists)


def digests_of(config: Config, only: Collection[str] = ()) -> dict[str, str]:
    """Setting -> digest of the weights, or other local files, that it names; hub ids have none.

    Args:
        only: beginnings of the settings that are looked at; empty for all.
    """
    found = {}
    for key, name in _files_of(with_absolute_paths(config.model_dump())):
        if not only or key.startswith(tuple(only)):
            with suppress(UserError, OSError):  # refused by whoever loads it
                path = Path(locate(name))
                if path.exists():
                    found[key] = digest(path)
    return found


def digest(path: Path) -> str:
    """Twelve hex digits of a file, or of the names and contents of the weights and settings in a folder.

    Of files above 64 MiB their size and 32 blocks of 1 MiB, evenly spaced, count: enough to tell one training of a
    network from another, and quick with any model.
    """
    content = hashlib.sha256()
    for file in _weights_in(path) if path.is_dir() else [path]:
        size = file.stat().st_size
        content.update(f"{file.relative_to(path).as_posix()} {size}\n".encode())
        with file.open("rb") as opened:
            if size <= WHOLE:
                content.update(opened.read())
                continue
            for number in range(SAMPLES):
                opened.seek((size - BLOCK) * number // (SAMPLES - 1))
                content.update(opened.read(BLOCK))
    return _short(content)


def keep_inputs(run_dir: Path, mark: RunMark) -> None:
    """Writes the mark and the texts."""
    for key, text in mark.lists.items():
        write_text(kept_file(run_dir, key), text)
    write_json(run_dir / MARK, {"format": FORMAT, "identity": mark.identity, "inputs": dict(mark.inputs)})


def kept_file(run_dir: Path, key: str) -> Path:
    """Where a run keeps what a setting named."""
    return run_dir / KEPT / f"{key.rpartition('.')[2]}.jsonl"


def kept_mark(run_dir: Path) -> RunMark | None:
    """The mark of the run in a folder; None if there is none that can be read."""
    try:
        content = read_json(run_dir / MARK)
        return RunMark(str(content["identity"]), dict(content["inputs"]), {})
    except (ValueError, KeyError, TypeError):
        return None


def inputs_now(config: Config, run_dir: Path, only: Collection[str], given: Collection[str] = ()) -> dict[str, str]:
    """Digests of a run's inputs, some as they are now; warns of those that are not what the run was trained on.

    Args:
        only: beginnings of the settings that are looked at now.
        given: settings that were set anew; other weights of the policy are warned of all the same.
    """
    mark, now = kept_mark(run_dir), digests_of(config, only)
    earlier = mark.inputs if mark else {}
    for key in now:
        meant = not key.startswith("policy.") and key.startswith(tuple(given))
        if not meant and earlier.get(key, now[key]) != now[key]:
            print(f"warning: {key}: these are not the files that the run was trained with", file=sys.stderr)
    return {**earlier, **now}


def with_kept_lists(config: Config, run_dir: Path, given: Collection[str] = ()) -> Config:
    """The config of a run with the prompt lists that the run keeps; warns where a file has changed since.

    Args:
        given: settings that were set anew.
    """
    lists = {}
    for which in LISTS:
        key = f"prompts.{which}"
        kept, name = kept_file(run_dir, key), getattr(config.prompts, which)
        if key in given or not kept.is_file():
            continue
        lists[which] = str(kept)
        if not name.startswith(DATASET):
            with suppress(UserError, OSError):
                if _list_text(config, which) != kept.read_text(encoding="utf-8"):
                    print(f"warning: {key}={name} has changed: the run's own list, {kept}, is used", file=sys.stderr)
    return _with_lists(config, lists)


def with_absolute_names(config: Config) -> Config:
    """The config with absolute names of local files."""
    absolute = Config.model_validate(with_absolute_paths(config.model_dump()))
    if config.published is not config:
        absolute.publish_as(with_absolute_names(config.published))
    return absolute


def _with_lists(config: Config, lists: Mapping[str, str]) -> Config:
    changed = config.model_copy(update={"prompts": config.prompts.model_copy(update=lists)})
    if config.published is not config:
        changed.publish_as(_with_lists(config.published, lists))
    return changed


def _list_text(config: Config, which: str) -> str:
    """A prompt list as JSON lines, whatever it was read from."""
    with naming(f"prompts.{which}"):
        prompts = read_prompt_file(getattr(config.prompts, which))
    lines = (json.dumps({"prompt": one.text, **one.metadata}, ensure_ascii=False) for one in prompts)
    return "".join(f"{line}\n" for line in lines)


def _files_of(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Settings that name a file other than a prompt list, or paraphrases, with the name."""
    if isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _files_of(entry, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for number, entry in enumerate(value):
            yield from _files_of(entry, f"{key}.{number}")
    elif isinstance(value, str) and names_a_file(key, value) and not key.startswith(("prompts.", PARAPHRASES)):
        yield key, value


def _weights_in(folder: Path) -> list[Path]:
    files = [file for file in folder.rglob("*") if file.is_file() and "/." not in f"/{file.relative_to(folder)}"]
    preferred = {file.parent for file in files if file.suffix in PREFERRED}
    return sorted(
        file
        for file in files
        if file.suffix in PREFERRED + TEXTS or (file.suffix in OTHERS and file.parent not in preferred)
    )


def _short(content: Any) -> str:
    return content.hexdigest()[:12]
