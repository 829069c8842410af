"""The arguments of a command: flags, KEY=VALUE pairs and paths, and what to do where the shell has split a value."""

import difflib
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from drift_pl.config.fields import Key
from drift_pl.config.section import Section
from drift_pl.config.yaml_text import load_yaml
from drift_pl.core.errors import UserError
from drift_pl.core.texts import is_plain

FLAGS = {
    "--help, -h": "show this text; --help WORD: a section, a key, or a kind of names, e.g. --help rewards",
    "--version": "print the version",
    "--debug": "show the traceback of an error",
}
NULLS = ("null", "none", "~")


class Line(NamedTuple):
    """Arguments by their kind, each in the order given."""

    flags: list[str]
    pairs: list[tuple[str, str]]
    paths: list[str]


def asks_for_help(argv: Sequence[str]) -> bool:
    return bool({"--help", "-h"} & {*argv})


def split_line(
    model: type[Section], argv: Sequence[str], flags: Mapping[str, str] = FLAGS, takes_paths: bool = False
) -> Line:
    """Sorts the arguments of a command line without the program's name.

    Args:
        model: the keys of the command.
        takes_paths: arguments without a key are paths.

    Raises:
        UserError: an unknown flag, an argument without '=', or a value that the shell has split.
    """
    for argument in argv:
        if not is_plain(argument):
            raise UserError(f"argument {argument!r} is not UTF-8 text: type it again in a UTF-8 terminal")
    given = [argument for argument in argv if argument.startswith("-")]
    words = [argument for argument in argv if not argument.startswith("-")]
    _refuse_unknown_flags(model, given, [name for entry in flags for name in entry.split(", ")])
    _refuse_split_lists(words)
    pairs, paths = [], []
    for place, argument in enumerate(words):
        key, equals, text = argument.partition("=")
        if takes_paths and (not equals or "/" in key):
            paths.append(argument)
        elif not equals:
            raise UserError(f"argument {argument!r} has no '=': {_remedy(model, words, place)}")
        elif not key:
            raise UserError(f"argument {argument!r} has no key before '=': use e.g. {_first_key(model)}")
        else:
            pairs.append((key, text))
    return Line(given, pairs, paths)


def read_value(key: Key, name: str, text: str) -> object:
    """The value of `name=text`: text as it stands, unless it is quoted, where text is wanted; else YAML.

    Raises:
        UserError: not YAML.
    """
    if key.is_text and text[:1] not in ("'", '"'):
        return None if key.optional and text.lower() in ("", *NULLS) else text
    try:
        return load_yaml(text)
    except ValueError as error:
        raise UserError(f"{name}={text}: not a YAML value ({error}); use e.g. {key.works(name)}") from error


def _refuse_unknown_flags(model: type[Section], given: Sequence[str], known: Sequence[str]) -> None:
    for flag in given:
        if flag in known:
            continue
        close = difflib.get_close_matches(flag, known, n=1, cutoff=0.75)
        key, _, text = flag.lstrip("-").partition("=")
        key = key.replace("-", "_")
        if close:
            remedy = f"did you mean {close[0]!r}?"
        elif model.find_key(key):
            remedy = f"keys take no dashes, use {key}={text or 'VALUE'}"
        else:
            remedy = f"the flags are {', '.join(known)}; keys are given as KEY=VALUE, e.g. {_first_key(model)}"
        raise UserError(f"unknown flag {flag!r}: {remedy}")


def _refuse_split_lists(words: Sequence[str]) -> None:
    """Finds an opening bracket that is closed in a later argument: [{name: a}, {name: b}] without quotes."""
    for place, argument in enumerate(words):
        for end in range(place + 2, len(words) + 1):
            whole = " ".join(words[place:end])
            key, equals, text = whole.partition("=")
            if equals and _depth(argument.partition("=")[2]) > 0 and _depth(text) == 0:
                raise UserError(f"the shell has split the value of {key}: quote it, {shlex.quote(whole)}")


def _depth(text: str) -> int:
    return sum(text.count(bracket) for bracket in "[{") - sum(text.count(bracket) for bracket in "]}")


def _remedy(model: type[Section], words: Sequence[str], place: int) -> str:
    """What to do with a word that has no '=': it is a key, a path, or a part of the value before it."""
    word = words[place]
    key = word if model.find_key(word) else model.nearest(word) if place == 0 else None
    if key:
        return f"use e.g. {model.works(key)}"
    path = f"{_first_key(model).partition('=')[0]}={word}"
    if place == 0:
        return f"use e.g. {path}"
    end = next((later for later in range(place, len(words)) if "=" in words[later]), len(words))
    whole = shlex.quote(" ".join(words[place - 1 : end]))
    quoted = f"if it belongs to {words[place - 1].partition('=')[0]}, quote the whole, {whole}"
    return f"{quoted}; else use e.g. {path}" if "/" in word or "." in word else quoted


def _first_key(model: type[Section]) -> str:
    return model.works(model.key_names()[0])
