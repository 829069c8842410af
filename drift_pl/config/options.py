"""Commands with keys of their own: a model of them, read and explained as a `Config` is. No torch.

A key that stands for one of the run's config has that one's type and bounds, and goes on into the config; messages
speak of the key that was given.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import PrivateAttr, ValidationError

from drift_pl.config.command_line import FLAGS, NULLS, read_text, split_line
from drift_pl.config.fields import Section, about_of, choices_of, element_type, is_text, setting, strip_optional
from drift_pl.config.inputs import with_kept_lists
from drift_pl.config.loading import build_config
from drift_pl.config.messages import explain, first_of, resolve_type, working_example
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError

Weights = Literal["average", "live"]


def checkpoint_key() -> Any:
    """Which run, or which of its checkpoints."""
    return setting(..., "a run folder (its last checkpoint), or a checkpoint", example="runs/shapes_div-d738dcc0-s0")


def weights_key() -> Any:
    """Which of a checkpoint's weights."""
    return setting("average", "average (the EMA, in runs that have one) or live", example="live")


class Options(Section):
    """What a command line asks for, and what `--help` says of the command.

    Attributes:
        program: how the command is called.
        purpose: what it does, in sentences.
        example: its arguments.
        passed_on: keys of the run's config that may be given another value, below them included.
        paths_field: the field that holds the arguments without a key; empty: there are none.
    """

    program: ClassVar[str]
    purpose: ClassVar[str]
    example: ClassVar[str]
    passed_on: ClassVar[tuple[str, ...]] = ()
    paths_field: ClassVar[str] = ""

    _overrides: list[tuple[str, str, str]] = PrivateAttr(default_factory=list)

    @classmethod
    def parse(cls, argv: Sequence[str]) -> Self:
        """Reads a command line without the program's name; of a key that comes twice, the later value counts.

        Raises:
            UserError: one line that names the argument and a value that would work.
        """
        line = split_line(argv, FLAGS, cls._example_of, cls._remedy, bool(cls.paths_field))
        values: dict[str, Any] = {}
        texts = dict(line.pairs)
        for key, text in line.pairs:
            if key in cls.own_keys():
                values[key] = cls._read(key, text)
            elif not cls._is_passed_on(key):
                raise UserError(cls._unknown_key(key))
        for key, field in cls.model_fields.items():
            if field.is_required() and key not in values and key != cls.paths_field:
                raise UserError(f"{key} is missing: {cls.program} {cls.example}")
        if cls.paths_field:
            values[cls.paths_field] = list(line.paths)
        try:
            options = cls.model_validate(values)
        except ValidationError as error:
            first = first_of(error)
            raise UserError(explain(cls, first, texts.get(".".join(map(str, first["loc"]))))) from error
        options._overrides = [*options._set_by_own_keys(texts), *((k, t, k) for k, t in line.pairs if k not in values)]
        return options

    def config(self, file: Path) -> Config:
        """The config of the run that wrote `file`, with what was asked for put in, and the run's own prompt lists.

        Raises:
            UserError: the file cannot be read, or a value is none that the config takes.
        """
        try:
            config = build_config([("experiment", str(file)), *((sets, text) for sets, text, _ in self._overrides)])
        except UserError as error:
            message = str(error)
            for sets, _, given in self._overrides:
                message = message.replace(sets, given)
            raise UserError(message) from error
        return with_kept_lists(config, file.parent, self.given_keys())

    def given_keys(self) -> set[str]:
        """Keys of the run's config that were given another value."""
        return {sets for sets, _, _ in self._overrides}

    @classmethod
    def own_keys(cls) -> tuple[str, ...]:
        return tuple(name for name in cls.model_fields if name != cls.paths_field)

    def _set_by_own_keys(self, texts: dict[str, str]) -> list[tuple[str, str, str]]:
        """(key of the run's config, text, key as it was given) of keys that go on into it."""
        given = ((key, about_of(type(self).model_fields[key])) for key in texts if key in self.own_keys())
        return [(about.reads, texts[key], key) for key, about in given if about.sets and getattr(self, key) is not None]

    @classmethod
    def _read(cls, key: str, text: str) -> Any:
        """The value of a key, checked if a key of the run's config says how.

        Raises:
            UserError: it does not fit.
        """
        field, works = cls.model_fields[key], str(cls._example_of(key))
        reads, kind = about_of(field).reads, field.annotation
        if field.default is None and text.lower() in NULLS[:-1]:
            return None
        if not text.strip():
            raise UserError(f"{key}= is empty: use e.g. {works}")
        if kind == list[str] and not text.startswith("["):
            return [text]
        kind = resolve_type(Config, reads) if kind is Any else kind
        choice = next((choice for choice in choices_of(field) if choice == text.lower()), text)
        value = choice if is_text(kind) else read_text(key, kind, text, lambda: works)
        if reads:
            _refuse_as(reads, value, key, text)
        return value

    @classmethod
    def _is_passed_on(cls, key: str) -> bool:
        return any(key == passed or key.startswith(f"{passed}.") for passed in cls.passed_on)

    @classmethod
    def _example_of(cls, key: str) -> str | None:
        if key in cls.own_keys():
            return working_example(cls, key)
        return working_example(Config, key) if key in cls.passed_on else None

    @classmethod
    def _remedy(cls, word: str) -> str:
        first = cls.own_keys()[0]
        return f"use e.g. {first}={word}" if word else f"use e.g. {cls._example_of(first)}"

    @classmethod
    def _unknown_key(cls, name: str) -> str:
        reads = {key: about_of(cls.model_fields[key]).reads for key in cls.own_keys()}
        ends = (f".{name}", f"_{name}")  # importance_power: the last words of sampler.eval_importance_power
        same = [key for key in reads if reads[key] == name]
        same += [key for key in reads if key.endswith(ends) or reads[key].endswith(ends)]
        same += [key for key in cls.passed_on if key.endswith(f".{name}")]
        known = [*reads, *cls.passed_on]
        close = same or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        if close:
            return f"unknown key {name!r}: did you mean {close[0]!r}?"
        try:
            resolve_type(Config, name)
        except UserError:
            return f"unknown key {name!r}: the keys are {', '.join(known)}; --help says what they mean"
        return f"{name!r} is a setting of the run and cannot be changed any more: --help lists the keys of this command"


def _refuse_as(reads: str, value: Any, key: str, text: str) -> None:
    """A value, or each entry of a list of values, must be one of the run's config's key `reads`.

    Raises:
        UserError: it is not; the message speaks of `key`.
    """
    section, _, name = reads.rpartition(".")
    model = resolve_type(Config, section)
    each = isinstance(value, list) and element_type(strip_optional(resolve_type(Config, reads))[0]) is None
    for entry in value if each else [value]:
        try:
            model.model_validate({name: entry})
        except ValidationError as error:
            first = first_of(error)
            shown = text if first["loc"] == (name,) and not each else None
            first["loc"] = (*section.split("."), *first["loc"])
            raise UserError(explain(Config, first, shown).replace(reads, key)) from error
