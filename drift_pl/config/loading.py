"""From the command line to a `Config`: experiment file, dotted overrides, checks. No torch, so it is fast.

`experiment=NAME` is read first wherever it stands; then the overrides apply from left to right. Sections and `args`
merge; lists are replaced whole; giving a named thing (a reward, an encoder) another `name` drops the `args` of the old
one. OmegaConf resolves `${...}` in the merged tree; the models of `schema` check the result.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from drift_pl.config.batches import derive_batches
from drift_pl.config.command_line import FLAGS as COMMON_FLAGS
from drift_pl.config.command_line import read_value, split_line
from drift_pl.config.dry_run import dry_settings
from drift_pl.config.experiments import load_experiment
from drift_pl.config.identity import default_run_dir
from drift_pl.config.idle import idle_levers
from drift_pl.config.interpolation import refuse_explosions
from drift_pl.config.own_run import with_own_config
from drift_pl.config.publishing import published, with_names
from drift_pl.config.schema import RENAMED, Config, get_value, unmet
from drift_pl.config.section import all_keys
from drift_pl.config.trust import refuse_strangers, split_trust
from drift_pl.core.errors import UserError

FLAGS = COMMON_FLAGS | {"--print-config": "print the whole config as YAML and stop; saved, it runs as an experiment"}


class Request(NamedTuple):
    """The settings of a command line.

    Attributes:
        tree: the merged settings as they were written, `${...}` unresolved.
        ignored: keys that were set and have no effect, each with the condition under which it has one.
        overrides: the arguments KEY=VALUE, as they were written.
    """

    config: Config
    tree: dict[str, Any]
    ignored: tuple[str, ...]
    print_config: bool
    overrides: tuple[str, ...] = ()


def parse(argv: Sequence[str], flags: Mapping[str, str] = FLAGS) -> Request:
    """Reads a command line (without the program's name).

    Args:
        flags: those that the command has, see `split_line`.

    Raises:
        UserError: one line that names the argument and a value that would work.
    """
    line = split_line(Config, argv, flags)
    pairs, trusted = split_trust(line.pairs)
    draft = _Draft(with_own_config(pairs))
    if not trusted:
        draft.refuse_strangers(by_fit=True)
    config = draft.config()
    ignored = (*draft.ignored(config), *idle_levers(config))
    if config.dry_run:
        draft = _Draft([*with_own_config(pairs), *dry_settings(config)])
        config = draft.config()
    overrides = tuple(f"{key}={text}" for key, text in pairs)
    return Request(config, draft.tree, ignored, "--print-config" in line.flags, overrides)


def build_config(overrides: Sequence[tuple[str, str]], trusted: bool = True) -> Config:
    """The checked `Config` of (key, text) pairs, `experiment` among them or not.

    Args:
        trusted: False: things will be built of it, and its file may be somebody else's; see `trust`.

    Raises:
        UserError: see `parse`.
    """
    draft = _Draft(overrides)
    if not trusted:
        draft.refuse_strangers(by_fit=False)
    return draft.config()


def config_yaml(config: Config, tree: dict[str, Any] | None = None) -> str:
    """The whole config as an experiment file that gives it back, under two comment lines.

    Args:
        tree: the settings as they were written; None: as they are.
    """
    header = f"# run folder: {config.run_dir or default_run_dir(config)}\n# {derive_batches(config).describe()}\n"
    return header + OmegaConf.to_yaml(OmegaConf.create(tree or config.published.model_dump()))


class _Draft:
    """Settings on their way to a `Config`: the merged tree, and the file that each key is from ("": an argument)."""

    def __init__(self, overrides: Sequence[tuple[str, str]]) -> None:
        given = [(RENAMED.get(key, key), text) for key, text in overrides]
        values = [(key, read_value(Config.require_key(key), key, text)) for key, text in given]
        experiment = str(dict(values).get("experiment", Config().experiment))
        self.tree: dict[str, Any] = Config().model_dump() | {"experiment": experiment}
        self._files: dict[str, str] = {}
        for file, difference in load_experiment(experiment):
            # a saved config holds every key, whether anybody set it or not
            self._own_file = "" if "experiment" in difference else file
            for key, value in difference.items():
                self._put(key, value, file)
        for key, value in values:
            if key != "experiment":
                self._put(key, value, "")
        refuse_explosions(self.tree)

    def _put(self, key: str, value: Any, file: str) -> None:
        """Sets a key; a section merges."""
        key = RENAMED.get(key, key)
        found = Config.find_key(key)
        if found and found.is_section and (value is None or isinstance(value, dict)):
            # `name` first: another name drops the arguments that belonged to the old one
            for name, below in sorted((value or {}).items(), key=lambda pair: pair[0] != "name"):
                self._put(f"{key}.{name}", below, file)
            return
        self.tree = _replaced(self.tree, [], key.split("."), value)
        self._files = {name: was for name, was in self._files.items() if not name.startswith(f"{key}.")} | {key: file}

    def refuse_strangers(self, by_fit: bool) -> None:
        """See `trust.refuse_strangers`."""
        with suppress(OmegaConfBaseException):  # `config` says what cannot be resolved
            refuse_strangers(with_names(self.tree), self._file_of, by_fit)

    def _file_of(self, key: str) -> str:
        """The file that last set a key, or what holds it."""
        while key and key not in self._files:
            key = key.rpartition(".")[0]
        return self._files.get(key, "")

    def config(self) -> Config:
        """The checked config of the merged settings, with every `${...}` resolved.

        Raises:
            UserError: a value does not fit its key, or values do not go together.
        """
        try:
            plain: Any = OmegaConf.to_container(OmegaConf.create(self.tree), resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            key, reason = str(error.full_key or ""), str(error).splitlines()[0]
            found = Config.find_key(key)
            raise UserError(f"{key}: {reason}" + (f"; use e.g. {found.works(key)}" if found else "")) from error
        named = with_names(self.tree)
        config = Config.checked(plain, self._files, named)
        config.publish_as(published(config, plain, named))
        return config

    def ignored(self, config: Config) -> tuple[str, ...]:
        """Keys that were set, and that what was chosen does not take; each with what would.

        Of the experiment's own file, not of its bases; and not what it sets back to the default, or what an argument
        has switched off.
        """
        found = []
        for key, file in self._files.items():
            waits_for = unmet(config, key)
            if not waits_for:
                continue
            known = all_keys(Config)[key]
            chosen_in_file = bool(self._files.get(known.about.only[0], file))
            own = file == self._own_file and chosen_in_file and get_value(config, key) != known.default
            if not file or own:
                found.append(f"{key} (only with {waits_for})")
        return tuple(found)


def _replaced(node: Any, above: list[str], path: list[str], value: Any) -> Any:
    """A tree with another value at a path below `above`; mappings merge.

    Raises:
        UserError: the path leads into a list that is too short, or into a plain value.
    """
    if not path:
        if not (isinstance(node, dict) and isinstance(value, dict)):
            return value
        return node | {key: _replaced(node.get(key), [*above, key], [], entry) for key, entry in value.items()}
    here, (part, *rest) = ".".join(above), path
    if isinstance(node, list):
        if not part.isdigit() or int(part) >= len(node):
            works = Config.works(here)
            raise UserError(
                f"{here}.{part}: {here} has {len(node)} entries, counted from 0; give it whole, e.g. {works}"
            )
        entry = _replaced(node[int(part)], [*above, part], rest, value)
        return [*node[: int(part)], entry, *node[int(part) + 1 :]]
    if not isinstance(node, dict | None):
        raise UserError(f"{here}={node} has no key {part!r}: use e.g. {Config.works(here)}")
    node = node or {}
    if part == "name" and not rest and node.get("name") != value and "args" in node:
        node = node | {"args": {}}
    return node | {part: _replaced(node.get(part), [*above, part], rest, value)}
