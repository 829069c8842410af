"""A command line in its parts: flags, KEY=VALUE pairs and paths; and what to do where the shell has split a value."""

import difflib
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from drift_pl.config.fields import is_text
from drift_pl.config.yaml_text import is_plain_text, load_yaml
from drift_pl.core.errors import UserError

HELP = ("--help", "-h")
FLAGS = {"--help, -h": "show this text", "--debug": "show the traceback of an error"}
NULLS = ("null", "none", "~", "")


@dataclass(frozen=True)
class Line:
    """Arguments by their kind, each in the order given."""

    flags: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    paths: tuple[str, ...]


def asks_for_help(argv: Sequence[str]) -> bool:
    return bool({*HELP} & {*argv})


def split_line(
    argv: Sequence[str],
    flags: Iterable[str],
    example: Callable[[str], str | None],
    remedy: Callable[[str], str],
    takes_paths: bool = False,
) -> Line:
    """Sorts the arguments of a command line without the program's name.

    Args:
        flags: those of the command, as `FLAGS` lists them.
        example: an argument that works, of a key; None for what is no key.
        remedy: what to do with an argument that is no key and has no value.
        takes_paths: arguments without a key are paths.

    Raises:
        UserError: an unknown flag, an argument without '=', or a value that the shell has split.
    """
    for argument in argv:
        if not is_plain_text(argument):
            raise UserError(f"argument {argument!r} is not UTF-8 text: rename the file, or type it again")
    known = [name for entry in flags for name in entry.split(", ")]
    for argument in argv:
        if argument.startswith("-") and argument not in known:
            raise UserError(_unknown_flag(argument, known, example))
    words = [argument for argument in argv if not argument.startswith("-")]
    _refuse_split_lists(words)
    pairs, paths = [], []
    for place, argument in enumerate(words):
        key, equals, text = argument.partition("=")
        if takes_paths and (not equals or "/" in key):
            paths.append(argument)
        elif not equals:
            raise UserError(_without_value(words, place, example, remedy))
        elif not key:
            raise UserError(f"argument {argument!r} has no key before '=': {remedy('')}")
        else:
            pairs.append((key, text))
    return Line(tuple(argument for argument in argv if argument.startswith("-")), tuple(pairs), tuple(paths))


def read_text(key: str, kind: object, text: str, example: Callable[[], str]) -> object:
    """The value of `key=text`: text as it stands, unless it is quoted, where text is wanted; else YAML.

    Raises:
        UserError: not YAML.
    """
    if is_text(kind) and text[:1] not in ("'", '"'):
        return None if type(None) in getattr(kind, "__args__", ()) and text.lower() in NULLS else text
    try:
        return load_yaml(text)
    except ValueError as error:
        raise UserError(f"{key}={text}: not a YAML value ({error}); use e.g. {example()}") from error


def _unknown_flag(flag: str, known: Sequence[str], example: Callable[[str], str | None]) -> str:
    close = difflib.get_close_matches(flag, known, n=1, cutoff=0.75)
    if close:
        return f"unknown flag {flag!r}: did you mean {close[0]!r}?"
    name, _, text = flag.lstrip("-").partition("=")
    name = name.replace("-", "_")
    if example(name):
        return f"unknown flag {flag!r}: keys take no dashes, use {name}={text or 'VALUE'}"
    return f"unknown flag {flag!r}: the flags are {', '.join(known)}; overrides look like KEY=VALUE, e.g. seed=1"


def _refuse_split_lists(words: Sequence[str]) -> None:
    """An opening bracket whose closing one stands in a later argument: [{name: a}, {name: b}] without quotes."""
    for place, argument in enumerate(words):
        key, equals, text = argument.partition("=")
        if not equals or _depth(text) <= 0:
            continue
        for end in range(place + 2, len(words) + 1):
            whole = " ".join(words[place:end])
            if _depth(whole.partition("=")[2]) == 0:
                raise UserError(f"the shell has split the value of {key}: quote it, {shlex.quote(whole)}")


def _depth(text: str) -> int:
    return sum(text.count(bracket) for bracket in "[{") - sum(text.count(bracket) for bracket in "]}")


def _without_value(
    words: Sequence[str], place: int, example: Callable[[str], str | None], remedy: Callable[[str], str]
) -> str:
    word = words[place]
    message = f"argument {word!r} has no '=': "
    works = example(word)
    if works:
        return f"{message}use e.g. {works}"
    if place == 0:
        return message + remedy(word)
    end = next((later for later in range(place, len(words)) if "=" in words[later]), len(words))
    whole = " ".join(words[place - 1 : end])
    quoted = f"if it belongs to {words[place - 1].partition('=')[0]}, quote the whole, {shlex.quote(whole)}"
    return f"{message}{quoted}" + (f"; else {remedy(word)}" if "/" in word or "." in word else "")
