"""Signatures as a module's text states them: arguments can be checked before anything is imported."""

import ast
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Optional, Union

from drift_pl.core.modules import read_source, source_file
from drift_pl.core.signatures import Count, Positive

TYPES: dict[str, Any] = {
    **{kind.__name__: kind for kind in (bool, int, float, str, list, dict, tuple)},
    **{"Sequence": Sequence, "Mapping": Mapping, "Literal": Literal, "Optional": Optional, "Union": Union},
    **{"Any": Any, "Count": Count, "Positive": Positive},
}
"""What an annotation may say that settings are checked against."""
DEPTH = 4
"""Most modules and classes that a name is followed through."""


class Words(str):
    """Source text that stands for a type or a default that is not known without an import."""

    def __repr__(self) -> str:
        return str(self)


def written_signature(name: str, depth: int = DEPTH) -> inspect.Signature | None:
    """The arguments of `package.module:Thing`, a function or a class, as its file states them.

    Returns:
        None where that takes an import: classes made by decorators, several bases, modules that are no Python files.
    """
    module, thing, file, node = _written(name) if depth else ("", "", None, None)
    if isinstance(node, ast.FunctionDef):
        return None if node.decorator_list else _signature(node.args)
    if isinstance(node, ast.ImportFrom):
        origin = _imported_from(node, thing, module, file)
        return written_signature(origin, depth - 1) if origin else None
    if isinstance(node, ast.ClassDef) and not node.keywords:
        return _signature_of_class(node, module, depth)
    return None


def is_written_function(name: str, depth: int = DEPTH) -> bool:
    """Whether `written_signature` is that of a function, and not of a class."""
    module, thing, file, node = _written(name) if depth else ("", "", None, None)
    if isinstance(node, ast.ImportFrom):
        origin = _imported_from(node, thing, module, file)
        return origin is not None and is_written_function(origin, depth - 1)
    return isinstance(node, ast.FunctionDef)


def written_summary(name: str) -> str:
    """The first line of the docstring of `package.module:Thing`, as its file states it; empty if there is none."""
    *_, node = _written(name)
    known = isinstance(node, ast.ClassDef | ast.FunctionDef)
    return (ast.get_docstring(node) or "").partition("\n")[0] if known else ""  # type: ignore[arg-type]


def _signature_of_class(node: ast.ClassDef, module: str, depth: int) -> inspect.Signature | None:
    own = [each for each in node.body if getattr(each, "name", "") in ("__init__", "__new__", "__signature__")]
    inherited: inspect.Signature | None = inspect.Signature()
    if len(node.bases) > 1 or (node.bases and not isinstance(node.bases[0], ast.Name)):
        inherited = None
    elif node.bases and not own:
        inherited = written_signature(f"{module}:{node.bases[0].id}", depth - 1)  # type: ignore[attr-defined]
    if node.decorator_list:
        plain = all(ast.unparse(each).partition("(")[0] == "dataclass" for each in node.decorator_list)
        # a base with arguments of its own may be a dataclass, whose fields come first
        return _signature_of_fields(node) if plain and not own and inherited == inspect.Signature() else None
    if not own:
        return inherited
    function = own[0]
    if len(own) > 1 or not isinstance(function, ast.FunctionDef) or function.name != "__init__":
        return None
    return None if function.decorator_list else _signature(function.args, skip=1)


def _signature_of_fields(node: ast.ClassDef) -> inspect.Signature | None:
    """Of a dataclass; None if a field says more than its type and default."""
    fields = [each for each in node.body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)]
    if any("ClassVar" in ast.unparse(each) or "field(" in ast.unparse(each) for each in fields):
        return None
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    found = [(ast.arg(each.target.id, each.annotation), kind, each.value) for each in fields]  # type: ignore[union-attr]
    return inspect.Signature([_parameter(*each) for each in found])


def _written(name: str) -> tuple[str, str, Path | None, ast.stmt | None]:
    """Module, thing, the module's file, and the statement in it that defines or imports the thing."""
    module, _, thing = name.partition(":")
    file = source_file(module)
    tree = read_source(file, name) if file else None
    return module, thing, file, _definition(tree, thing) if tree else None


def _definition(tree: ast.Module, thing: str) -> ast.stmt | None:
    """The one statement at the top of a module that defines or imports a name."""
    found = [
        node
        for node in tree.body
        if getattr(node, "name", None) == thing
        or (isinstance(node, ast.ImportFrom) and thing in [alias.asname or alias.name for alias in node.names])
    ]
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == thing]
    bound_again = any(isinstance(node.ctx, ast.Store | ast.Del) for node in texts)
    return found[0] if len(found) == 1 and not bound_again else None


def _imported_from(node: ast.ImportFrom, thing: str, module: str, file: Path | None) -> str | None:
    """`module:Thing` of a name that `from ... import` brings."""
    original = next(alias.name for alias in node.names if (alias.asname or alias.name) == thing)
    if not node.level:
        return f"{node.module}:{original}"
    parents = module.split(".")
    drop = node.level - (file is not None and file.name == "__init__.py")
    if drop >= len(parents):
        return None
    return ".".join([*parents[: len(parents) - drop], *([node.module] if node.module else [])]) + f":{original}"


def _signature(arguments: ast.arguments, skip: int = 0) -> inspect.Signature:
    """The signature of a function, from the arguments in its syntax tree.

    Args:
        skip: first parameters to leave out: `self`.
    """
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults: list[Any] = [None] * (len(plain) - len(arguments.defaults)) + list(arguments.defaults)
    kinds: list[Any] = [inspect.Parameter.POSITIONAL_ONLY] * len(arguments.posonlyargs)
    kinds += [inspect.Parameter.POSITIONAL_OR_KEYWORD] * len(arguments.args)
    found = [_parameter(*each) for each in zip(plain, kinds, defaults, strict=True)][skip:]
    found += [_parameter(arguments.vararg, inspect.Parameter.VAR_POSITIONAL)] if arguments.vararg else []
    named_only = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    found += [_parameter(each, inspect.Parameter.KEYWORD_ONLY, default) for each, default in named_only]
    found += [_parameter(arguments.kwarg, inspect.Parameter.VAR_KEYWORD)] if arguments.kwarg else []
    return inspect.Signature(found)


def _parameter(argument: ast.arg, kind: Any, default: ast.expr | None = None) -> inspect.Parameter:
    annotation = inspect.Parameter.empty if argument.annotation is None else _type(argument.annotation)
    value = inspect.Parameter.empty if default is None else _value(default)
    return inspect.Parameter(argument.arg, kind, default=value, annotation=annotation)


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return Words(ast.unparse(node))


def _type(node: ast.expr) -> Any:
    """A type of `TYPES`, or of these put together; of anything else its text."""
    try:
        return _known_type(node)
    except (KeyError, TypeError, SyntaxError, ValueError):
        return Words(ast.unparse(node))


def _known_type(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        return _known_type(ast.parse(node.value, mode="eval").body) if isinstance(node.value, str) else node.value
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _known_type(node.left) | _known_type(node.right)
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name | ast.Attribute):
        outer = _known_type(node.value)
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        parts = tuple(ast.literal_eval(each) if outer is Literal else _known_type(each) for each in inner)
        return outer[parts if len(parts) > 1 else parts[0]]
    if isinstance(node, ast.Name | ast.Attribute):
        return TYPES[node.id if isinstance(node, ast.Name) else node.attr]
    raise ValueError(ast.dump(node))
