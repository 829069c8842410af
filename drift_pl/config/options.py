"""Options of a command: keys of its own, and some that replace settings of the run that it reads."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import PrivateAttr

from drift_pl.config.command_line import FLAGS, NULLS, asks_for_help, read_value, split_line
from drift_pl.config.early import Thing, refuse_missing
from drift_pl.config.fields import Key, setting
from drift_pl.config.help import entry, help_text, table
from drift_pl.config.help_topics import topic_blocks, topics_of
from drift_pl.config.inputs import with_kept_lists
from drift_pl.config.loading import build_config
from drift_pl.config.schema import Config
from drift_pl.config.section import Section, all_keys
from drift_pl.core.errors import UserError

Weights = Literal["average", "live"]


def checkpoint_key(meaning: str = "a run folder (its last checkpoint), or a checkpoint") -> Any:
    return setting(..., meaning, example="runs/shapes_div-d738dcc0-s0")


def trust_key() -> Any:
    return setting(False, "take what the run's config.yaml names of code and tokens (docs/sharing.md)", example="true")


def weights_key() -> Any:
    return setting("average", "weights of a checkpoint: average (the EMA, in runs that have one) or live")


class Options(Section):
    """Options of a command; a subclass's docstring is its description in `--help`.

    A field `paths` takes the arguments without a key.

    Attributes:
        program: how the command is called.
        example: its arguments.
        run_keys: key -> the key of the run's config that it replaces; what lies below is replaced alike.
        flags: its own flags, each with its explanation.
    """

    program: ClassVar[str]
    example: ClassVar[str]
    run_keys: ClassVar[Mapping[str, str]] = {}
    flags: ClassVar[Mapping[str, str]] = {}

    _flags_given: list[str] = PrivateAttr(default_factory=list)
    _overrides: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def read(cls, argv: Sequence[str]) -> Self | None:
        """The options of a command line; None after printing the help, for `--help` and for no arguments."""
        needs_nothing = not any(field.is_required() for field in cls.model_fields.values())
        if (argv or needs_nothing) and not asks_for_help(argv):
            return cls.parse(argv)
        print(cls.help(topics=topics_of(argv)), end="")
        return None

    @classmethod
    def help(cls, width: int | None = None, topics: Sequence[str] = ()) -> str:
        """The text of `--help`; see `help_text` for `width`.

        Args:
            topics: keys, or kinds of names, that alone are explained.

        Raises:
            UserError: a topic is neither.
        """
        own = [key for name, key in all_keys(cls).items() if name in cls.model_fields and name != "paths"]
        paths = cls.model_fields.get("paths")
        required = [] if paths is None else ["PATHS ..."] if paths.is_required() else ["[PATHS ...]"]
        required += [f"{key.name}=..." for key in own if key.field.is_required()]
        run_keys = {name: entry(name, all_keys(Config)[key], f"the run's {key}") for name, key in cls.run_keys.items()}
        usage = " ".join([cls.program, *required])
        entries = {key.name: entry(key.name, key) for key in own} | run_keys
        blocks = topic_blocks(topics, entries, ignore_unknown="paths" in cls.model_fields)
        if blocks:
            return help_text(usage, str(cls.__doc__), blocks, width)
        blocks = {"keys": [line for key in own for line in entry(key.name, key)]}
        if run_keys:
            blocks["keys that replace a setting of the run, or one below it"] = sum(run_keys.values(), [])
        blocks |= {"flags": table({**FLAGS, **cls.flags}), "example": [f"  {cls.program} {cls.example}"]}
        return help_text(usage, str(cls.__doc__), blocks, width)

    @classmethod
    def parse(cls, argv: Sequence[str]) -> Self:
        """Reads a command line without the program's name; of a key that comes twice, the later value counts.

        Raises:
            UserError: one line that names the argument and a value that would work.
        """
        takes_paths = "paths" in cls.model_fields
        line = split_line(cls, argv, {**FLAGS, **cls.flags}, takes_paths)
        values: dict[str, Any] = {"paths": line.paths} if takes_paths and line.paths else {}
        overrides: dict[str, str] = {}
        for name, text in line.pairs:
            key = cls.require_key(name)
            if name in cls.model_fields:
                values[name] = _value(key, name, text)
            elif text.lower() in NULLS and cls.run_keys.get(name, name) != name:  # the run's own
                overrides.pop(name, None)
            elif cls._target(name):
                overrides[name] = text
            else:
                raise UserError(f"{name} cannot be set by itself: use e.g. {cls.works(name)}")
        if takes_paths and not line.paths and cls.model_fields["paths"].is_required():
            raise UserError(f"no run folder given: {cls.program} {cls.example}")
        options = cls.checked(values)
        options._overrides, options._flags_given = overrides, line.flags
        return options

    def has_flag(self, flag: str) -> bool:
        return flag in self._flags_given

    def config(self, file: Path) -> Config:
        """The config of the run that wrote `file`, with the options put in, and with the run's own prompt lists.

        Raises:
            UserError: the file cannot be read, a value does not fit, or something that the command needs is missing.
        """
        targets = {name: str(self._target(name)) for name in self._overrides}
        overrides = [(targets[name], text) for name, text in self._overrides.items()]
        try:
            config = build_config([("experiment", str(file)), *overrides], trusted=getattr(self, "trust", False))
        except UserError as error:
            message = str(error)
            for name, target in targets.items():
                message = message.replace(target, name)
            raise UserError(message) from error
        config = with_kept_lists(config, file.parent, self.replaced())
        refuse_missing(config, self.needs(), self.things())
        return config

    def needs(self) -> tuple[str, ...]:
        """Beginnings of the settings whose files and modules the command needs."""
        return ("policy.family", "policy.pretrained")

    def things(self) -> list[Thing]:
        """What the command names besides the config."""
        return []

    def replaced(self) -> set[str]:
        """Keys of the run's config that were given another value."""
        return {str(self._target(name)) for name in self._overrides}

    @classmethod
    def _target(cls, key: str) -> str | None:
        """The key of the run's config that a key replaces."""
        for name, target in cls.run_keys.items():
            if key == name or key.startswith(f"{name}."):
                return target + key.removeprefix(name)
        return None

    @classmethod
    def find_key(cls, key: str) -> Key | None:
        target = cls._target(key)
        if target:
            return Config.find_key(target)
        return None if key == "paths" else super().find_key(key)

    @classmethod
    def works(cls, key: str, wrong: object = None) -> str:
        """See `Section.works`; an own key is given whole."""
        return super().works(key if cls._target(key) else key.partition(".")[0], wrong)

    @classmethod
    def key_names(cls) -> list[str]:
        return [name for name in [*all_keys(cls), *cls.run_keys] if name != "paths"]

    @classmethod
    def unknown_key(cls, key: str) -> str:
        for name, target in cls.run_keys.items():
            if target == key or target.endswith(f"_{key}"):
                return f"unknown key {key!r}: did you mean {name!r}?"
        if Config.find_key(key) and not cls.nearest(key):
            return f"{key!r} is a setting of the run and cannot be changed: --help lists the keys of this command"
        return super().unknown_key(key)


def _value(key: Key, name: str, text: str) -> Any:
    """The value of an option; its texts are never YAML."""
    if key.default is None and key.optional and text.lower() in NULLS:
        return None
    if not text.strip():
        raise UserError(f"{name}= is empty: use e.g. {key.works(name)}")
    if key.element is str and not text.startswith("["):
        return [text]
    return text if key.is_text else read_value(key, name, text)
