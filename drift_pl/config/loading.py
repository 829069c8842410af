"""From the command line to a `Config`: experiment file, dotted overrides, checks. No torch, so it is fast.

`experiment=NAME` is read first wherever it stands; then the overrides apply from left to right. Sections and `args`
merge; lists are replaced whole; giving a named thing (a reward, an encoder) another `name` drops the `args` of the old
one. OmegaConf holds and merges plain trees and resolves `${...}`; the models of `schema` check what comes out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from drift_pl.config.batches import derive_batches
from drift_pl.config.command_line import FLAGS as COMMON_FLAGS
from drift_pl.config.command_line import asks_for_help, read_text, split_line
from drift_pl.config.experiments import load_experiment
from drift_pl.config.fields import about_of, find_key, is_section, strip_optional
from drift_pl.config.identity import default_run_dir
from drift_pl.config.messages import explain, first_of, not_finite, resolve_type, working_example, wrong_type
from drift_pl.config.own_run import with_own_config
from drift_pl.config.schema import RENAMED, Config, NamedConfig, get_value, has_effect
from drift_pl.config.yaml_text import find_non_finite, format_value
from drift_pl.core.errors import UserError

PRINT = {"--print-config": "print the whole config as YAML and stop; saved, it runs as an experiment"}
FLAGS = {"--help, -h": COMMON_FLAGS["--help, -h"], **PRINT, "--debug": COMMON_FLAGS["--debug"]}


@dataclass(frozen=True)
class Request:
    """What a command line asks for. With `help` the config is the bare defaults, unchecked.

    Attributes:
        tree: the merged settings as they were written, `${...}` unresolved.
        ignored: keys that were set and have no effect, each with when it would have one.
    """

    config: Config
    tree: dict[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    print_config: bool = False
    help: bool = False
    debug: bool = False


def parse(argv: Sequence[str]) -> Request:
    """Read a command line (without the program's name).

    Raises:
        UserError: one line that names the argument and a value that would work.
    """
    if asks_for_help(argv):
        return Request(Config(), help=True)
    line = split_line(argv, FLAGS, _example, _remedy)
    draft = _Draft(with_own_config(line.pairs))
    config = draft.config()
    return Request(
        config,
        OmegaConf.to_container(draft.tree),  # type: ignore[arg-type]
        draft.ignored(config),
        print_config="--print-config" in line.flags,
        debug="--debug" in line.flags,
    )


def build_config(overrides: Sequence[tuple[str, str]]) -> Config:
    """The checked `Config` of (key, text) pairs, `experiment` among them or not.

    Raises:
        UserError: see `parse`.
    """
    return _Draft(overrides).config()


def config_yaml(config: Config, tree: dict[str, Any] | None = None) -> str:
    """The whole config as an experiment file that gives it back, under two comment lines.

    Args:
        tree: the settings as they were written; None: as they are.
    """
    header = f"# run folder: {config.run_dir or default_run_dir(config)}\n# {derive_batches(config).describe()}\n"
    return header + OmegaConf.to_yaml(OmegaConf.create(tree or config.model_dump()))


def _example(key: str) -> str | None:
    try:
        return working_example(Config, key)
    except UserError:
        return None


def _remedy(word: str) -> str:
    remedy = "overrides look like KEY=VALUE, e.g. seed=1"
    try:
        resolve_type(Config, word)
    except UserError as error:
        return f"{remedy} ({error})" if word else remedy
    return remedy


class _Origin(NamedTuple):
    """Where a key was last set: in a file, or by an argument (of this text, if the key was given by itself)."""

    file: str = ""
    text: str | None = None


class _Draft:
    """Settings on their way to a `Config`: the merged tree, and where each key is from."""

    def __init__(self, overrides: Sequence[tuple[str, str]]) -> None:
        self.tree: DictConfig = OmegaConf.create(Config().model_dump())
        self._origins: dict[str, _Origin] = {}
        experiment = Config().experiment
        for key, text in overrides:
            experiment = str(_value_of(key, text)) if key == "experiment" else experiment
        self._assign("experiment", experiment, _Origin())
        for file, difference in load_experiment(experiment):
            # a saved config holds every key, whether anybody set it or not
            self._own_file = "" if "experiment" in difference else file
            try:
                for key, value in difference.items():
                    self._assign(key, value, _Origin(file))
            except UserError as error:
                raise UserError(f"{file}: {error}") from error
        for key, text in overrides:
            if key != "experiment":
                self._assign(key, _value_of(key, text), _Origin(text=text))

    def _assign(self, key: str, value: Any, origin: _Origin) -> None:
        """Sets a key; a section merges."""
        key = RENAMED.get(key, key)
        kind, _ = strip_optional(resolve_type(Config, key))
        shown = format_value(value) if origin.text is None else origin.text
        try:
            parent = self._parent(key)
            if is_section(kind) and not (isinstance(value, str) and "${" in value):
                if value is not None and not isinstance(value, dict):
                    raise UserError(wrong_type(Config, key, shown))
                # `name` first: another name drops the arguments that belonged to the old one
                for name, entry in sorted((value or {}).items(), key=lambda pair: pair[0] != "name"):
                    self._assign(f"{key}.{name}", entry, _Origin(origin.file))
                return
            if key.endswith(".name") and _is_named(key.rpartition(".")[0]) and parent.get("name") != value:
                parent["args"] = {}
            OmegaConf.update(self.tree, key, value)
        except OmegaConfBaseException as error:
            example = working_example(Config, key)
            raise UserError(f"{key}={shown}: {str(error).splitlines()[0]}; use e.g. {example}") from error
        self._origins[key] = origin

    def _parent(self, key: str) -> Any:
        """The node that holds the last part of a key; None where `args` do not reach down to it yet."""
        node: Any = self.tree
        parts = key.split(".")
        for depth, part in enumerate(parts):
            above = ".".join(parts[:depth])
            if isinstance(node, ListConfig):
                _check_index(len(node), above, part)
            elif not isinstance(node, DictConfig):
                if is_section(resolve_type(Config, above)):
                    raise UserError(wrong_type(Config, above, format_value(node)))
                return None
            if depth < len(parts) - 1:
                node = node[int(part)] if isinstance(node, ListConfig) else node.get(part)
        return node

    def config(self) -> Config:
        """
        Raises:
            UserError: a value does not fit its key, or values do not go together.
        """
        try:
            plain: Any = OmegaConf.to_container(self.tree, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            where = f"{error.full_key}: " if error.full_key else ""
            raise UserError(f"{where}{str(error).splitlines()[0]}") from error
        bad = find_non_finite(plain)
        if bad:
            raise UserError(not_finite(Config, *bad))
        try:
            return Config.model_validate(plain)
        except ValidationError as error:
            first = first_of(error)
            key = place = ".".join(map(str, first["loc"]))
            while place and place not in self._origins:
                place = place.rpartition(".")[0]
            origin = self._origins.get(place, _Origin())
            message = explain(Config, first, origin.text if place == key else None)
            in_file = origin.file and first["type"] != "value_error"
            raise UserError(f"{origin.file}: {message}" if in_file else message) from error

    def ignored(self, config: Config) -> tuple[str, ...]:
        """Keys that were set, and that what was chosen does not take; each with what would.

        Of the experiment's own file, not of its bases; and not what it takes back to the default, or what an argument
        has switched off.
        """
        found = []
        for key, origin in self._origins.items():
            entry = find_key(Config, key)
            if entry is None or has_effect(config, key):
                continue
            other, *values = about_of(entry.field).only
            chosen_in_file = bool(self._origins.get(other, origin).file)
            own = origin.file == self._own_file and chosen_in_file and get_value(config, key) != entry.default
            if not origin.file or own:
                found.append(f"{key} (only with {other}={' or '.join(values)})")
        return tuple(found)


def _value_of(key: str, text: str) -> Any:
    key = RENAMED.get(key, key)
    return read_text(key, resolve_type(Config, key), text, lambda: working_example(Config, key))


def _is_named(key: str) -> bool:
    kind = strip_optional(resolve_type(Config, key))[0]
    return is_section(kind) and issubclass(kind, NamedConfig)


def _check_index(length: int, key: str, index: str) -> None:
    example = working_example(Config, key)
    if not length:
        raise UserError(f"{key}.{index}: the list {key} is empty; give it whole, e.g. {example}")
    if not index.isdigit() or int(index) >= length:
        known = f"{key}.0" if length == 1 else f"{key}.0 to {key}.{length - 1}"
        raise UserError(f"{key}.{index}: index out of range; there is {known}; or give it whole, e.g. {example}")
