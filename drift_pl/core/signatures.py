"""What a class or a function takes, compared with what a setting gives it."""

import inspect
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union

from drift_pl.core.errors import UserError, named, naming


class More(NamedTuple):
    """A bound, as `Annotated` notes it."""

    than: float


Count = Annotated[int, More(0)]
Positive = Annotated[float, More(0)]
LISTS = (list, tuple, Sequence, Collection, Iterable)
CALLED_WITH = {
    "reward": ("images", "prompts"),
    "encoder": ("images",),
    "measure": ("images", "prompts"),
    "categories": ("images", "prompts"),
    "writer": ("prompts", "count"),
}
"""Kind -> the first parameters of a function that is itself a reward, an encoder, a measure, categories, a writer."""


def signature_of(thing: Any) -> inspect.Signature | None:
    """Arguments of a callable, with types where these can be known; None for the few that do not say."""
    try:
        return inspect.signature(thing, eval_str=True)
    except Exception:  # an annotation is code, too, and some name what is imported for type checkers alone
        try:
            return inspect.signature(thing)
        except (TypeError, ValueError):
            return None


def is_called_with(signature: inspect.Signature | None, first: Sequence[str]) -> bool:
    """Whether the first parameters have these names, with or without a suffix for the shape, and no defaults."""
    parameters = list(signature.parameters.values()) if signature else []
    return len(parameters) >= len(first) and all(
        parameter.default is parameter.empty and _has_name(parameter.name, name)
        for parameter, name in zip(parameters, first, strict=False)
    )


def without_first(signature: inspect.Signature, count: int) -> inspect.Signature:
    """What is left to be given by name when the first parameters are given at each call."""
    return signature.replace(parameters=list(signature.parameters.values())[count:])


def without_folder(signature: inspect.Signature) -> inspect.Signature:
    """What a logger may be given by name: the run gives it its folder, and how many iterations are done.

    The folder is `run_dir`, `save_dir`, or else the first argument that is required.
    """
    parameters = list(signature.parameters.values())
    required = [each for each in parameters if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD]
    if not {"run_dir", "save_dir"} & {*signature.parameters} and required:
        parameters.remove(required[0])
    kept = [each for each in parameters if each.name not in ("run_dir", "done")]
    kept = [each.replace(default=None) if each.name == "save_dir" else each for each in kept]
    try:
        return signature.replace(parameters=kept)
    except ValueError:  # a default before an argument without one
        return signature.replace(parameters=[each for each in kept if each.name != "save_dir"])


def check_signature(
    name: str, signature: inspect.Signature | None, args: Mapping[str, Any], others: Mapping[str, Any] | None = None
) -> None:
    """Rejects arguments that are unknown, missing or of another type than a signature states.

    Args:
        name: of the thing, for messages.
        args: as the user gave them.
        others: further arguments, whose types are not checked.

    Raises:
        UserError: one line that names the argument and what is taken.
    """
    if signature is None:  # the call itself will fail
        return
    with naming(".args"):
        try:
            signature.bind(**{**(others or {}), **args})
        except TypeError as error:
            takes = ", ".join(map(shown, signature.parameters.values())) or "none"
            raise UserError(f"{named()}: {error} for {name!r}; its arguments are: {takes}") from error
        for key, value in args.items():
            parameter = signature.parameters.get(key)
            if parameter is None or (value is None and parameter.default is None):
                continue
            with naming(f".{key}"):
                if not fits(value, parameter.annotation):
                    raise UserError(f"{named(_plain(value))} does not fit: {name!r} takes {shown(parameter)}")


def check_function(kind: str, name: str, signature: inspect.Signature | None, args: Mapping[str, Any]) -> bool:
    """As `check_signature`, for a function that is itself a thing of `CALLED_WITH`, or makes one of its arguments.

    Returns:
        Whether it is one itself: `args` are then what its further parameters take.

    Raises:
        UserError: as `check_signature`; the line says how the first parameters of such a function are called.
    """
    first = CALLED_WITH[kind]
    if is_called_with(signature, first):
        check_signature(name, without_first(signature, len(first)) if signature else None, args)
        return True
    try:
        check_signature(name, signature, args)
    except UserError as error:
        article = "an" if kind == "encoder" else "a"
        hint = f"a function that is {article} {kind} itself has first parameters called {', '.join(first)}"
        raise UserError(f"{error}; {hint}") from error
    return False


def check_overrides(own: type, base: type) -> None:
    """Rejects methods that cannot be called, by position, as those of a base class or a protocol are.

    Raises:
        UserError: one line that names the method and what it must take.
    """
    for part, model in inspect.getmembers(base, inspect.isfunction):
        given = inspect.getattr_static(own, part, model)
        if part.startswith("__") or given is model or not inspect.isfunction(given):
            continue
        wanted, signature = inspect.signature(model), signature_of(given)
        taken = [each for each in wanted.parameters.values() if each.kind is each.POSITIONAL_OR_KEYWORD]
        try:
            if signature:
                signature.bind(*taken)
        except TypeError as error:
            parameters = ", ".join(each.name for each in taken)
            raise UserError(f"{named()}: {own.__name__}.{part} must take ({parameters}): {error}") from error


def fits(value: Any, kind: Any) -> bool:
    """Whether a plain value is of an annotated type; True for types that no plain value shows."""
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin is Annotated:
        return fits(value, inner[0]) and all(value > each.than for each in inner[1:] if isinstance(each, More))
    if origin in (Union, UnionType):
        return any(fits(value, each) for each in inner)
    if origin is Literal:
        return value in inner and not isinstance(value, bool | float)
    if kind in (None, type(None)):
        return value is None
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind in (bool, int, str):
        return type(value) is kind
    if origin in (dict, Mapping):
        return isinstance(value, Mapping) and (not inner or all(fits(each, inner[1]) for each in value.values()))
    if origin in LISTS:
        element = inner[0] if len(inner) == 1 or (len(inner) == 2 and inner[1] is ...) else Any
        if isinstance(value, str):  # one text in place of a list of them
            return element is str or origin in (Collection, Iterable)
        return isinstance(value, list | tuple) and all(fits(each, element) for each in value)
    return True


def shown(parameter: inspect.Parameter) -> str:
    """A parameter as a user reads it: bounds in place of `Annotated`."""
    kind = parameter.annotation
    if typing.get_origin(kind) is not Annotated:
        return str(parameter)
    plain, *bounds = typing.get_args(kind)
    words = "".join(f" > {each.than:g}" for each in bounds if isinstance(each, More))
    return str(parameter.replace(annotation=plain)).replace(f": {plain.__name__}", f": {plain.__name__}{words}", 1)


def _has_name(parameter: str, name: str) -> bool:
    suffix = parameter.removeprefix(name)
    return parameter.startswith(name) and (not suffix or (suffix[0] == "_" and suffix == suffix.upper() != "_"))


def _plain(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
