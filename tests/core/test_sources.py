"""Modules are found, and their signatures read, without importing any of them."""

import inspect
import sys
from pathlib import Path

import pytest

from drift_pl.core.errors import UserError
from drift_pl.core.modules import is_module, package_folders, refuse_missing_thing
from drift_pl.core.registry import TABLES, find, names, target_of
from drift_pl.core.signatures import signature_of
from drift_pl.core.sources import written_signature

OWN = [(kind, name) for kind in TABLES for name in names(kind) if kind not in ("family", "update", "sampler")]


@pytest.mark.parametrize(("kind", "name"), OWN)
def test_what_is_written_is_what_an_import_gives(kind: str, name: str) -> None:
    """The oracle is inspect.signature, with evaluated annotations, on the imported class.

    Catches in core/sources.py: `self` among the arguments; defaults given to the first parameters; keyword-only
    arguments lost; the base's constructor not followed; fields of a dataclass out of order.
    """
    written, imported = written_signature(target_of(kind, name)), signature_of(find(kind, name))
    if written is None:
        assert kind in ("measure", "callback")  # of torchmetrics and Lightning
        return
    assert imported is not None
    assert [*written.parameters] == [*imported.parameters]
    for ours, theirs in zip(written.parameters.values(), imported.parameters.values(), strict=True):
        assert ours.kind == theirs.kind
        assert (ours.default is ours.empty) == (theirs.default is theirs.empty)
        if isinstance(ours.default, int | float | bool | tuple | None):
            assert ours.default == theirs.default
        if not isinstance(ours.annotation, str):
            assert ours.annotation == theirs.annotation


MODULE = """
raise RuntimeError("it was imported")

from json import JSONDecoder as Decoder
from collections import *


class Base:
    def __init__(self, size: int, *more: str, name: str | None = None) -> None: ...

class Heir(Base): ...

class Two(Base, dict): ...

class Twice:
    def __init__(self, a): ...

class Twice:
    def __init__(self, b): ...

@decorated
class Decorated:
    def __init__(self, a): ...

class Later:
    def __init__(self, a): ...

Later = something(Later)

def function(images, prompts, factor: float = 1.0): ...
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of three modules, none of which can be imported; `deep` has no __init__.py."""
    (tmp_path / "made_up_package" / "deep").mkdir(parents=True)
    (tmp_path / "made_up_package" / "__init__.py").write_text(
        "raise RuntimeError\nfrom .deep.mine import Heir as Alias\n"
    )
    (tmp_path / "made_up_package" / "deep" / "mine.py").write_text(MODULE)
    (tmp_path / "made_up_package" / "broken.py").write_text("x = 1\ndef f(:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "made_up_package"


def test_nothing_is_imported(package: str) -> None:
    """Catches in core/modules.py: importlib's search for a.b.c, which imports a and a.b."""
    mine = f"{package}.deep.mine"
    assert is_module(mine)
    assert not is_module(f"{package}.deep.other")
    assert not is_module(f"{package}.broken.more")
    assert not any(map(is_module, ("", ".", "..x", "a b", "nowhere", "json.nothing", "math.pi")))
    assert is_module("os.path")
    assert [folder.name for folder in package_folders(f"{package}.deep")] == ["deep"]
    assert package_folders("math") == package_folders("nowhere") == package_folders("") == []
    expected = "(size: int, *more: str, name: str | None = None)"
    assert str(written_signature(f"{mine}:Heir")) == str(written_signature(f"{package}:Alias")) == expected
    assert str(written_signature(f"{mine}:function")) == "(images, prompts, factor: float = 1.0)"
    assert written_signature(f"{mine}:Decoder") == inspect.signature(__import__("json").JSONDecoder)
    for unknown in ("Two", "Twice", "Decorated", "Later", "OrderedDict", "nothing"):
        assert written_signature(f"{mine}:{unknown}") is None, unknown
    assert not any(name.startswith(package) for name in sys.modules)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere:Thing", "'nowhere:Thing' cannot be imported: No module named 'nowhere'"),
        ("made_up_package.deep.other:Thing", "No module named 'made_up_package.deep.other'"),
        ("made_up_package.deep.mine:", "give the name of a class or function, made_up_package.deep.mine:Thing"),
        ("made_up_package.broken:f", "SyntaxError: invalid syntax ("),
        ("made_up_package.broken:f", "broken.py, line 2)"),
        ("made_up_package:Thing", "__init__.py has no 'Thing'"),
        (":Thing", "No module named ''"),
    ],
)
@pytest.mark.usefixtures("package")
def test_what_is_not_there_is_refused(name: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        refuse_missing_thing(name)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("package")
def test_what_may_be_there_is_left_to_the_import() -> None:
    """A star import may bring any name."""
    refuse_missing_thing("made_up_package.deep.mine:OrderedDict")
    refuse_missing_thing("collections:OrderedDict")
    refuse_missing_thing("math:sqrt")
