"""The house of CONTRIBUTING, "Where things live": a room imports from lower floors or from itself, never upward."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "drift_pl"

FLOOR = {
    "core": 1,
    "functional": 1,
    "incentive": 2,
    "policies": 2,
    "scoring": 2,
    "config": 2,
    "sampling": 3,
    "builtin": 3,
    "evaluation": 4,
    "training": 5,
    "reports": 5,
    "metrics": 5,
    "builders": 6,
    "fit": 7,
    "evaluate": 7,
    "generate": 7,
    "export": 7,
    "pareto": 7,
    "report": 7,
    "plan": 7,
    "runs": 7,
    "sweep": 7,
    "__main__": 8,
}
"""One row per room: its folder in the package, or the module of a command."""
DOORS = {room for room, floor in FLOOR.items() if floor == 7}
MOST_ARROWS = 75
"""Ordered pairs of rooms with an import."""
NO_TORCH = {"config", "reports", *DOORS}
"""Rooms that read a command line or show results: `--help` and wrong keys answer before torch is imported."""
TORCH_IN_CORE = {"answers.py", "types.py", "rng.py", "processes.py"}
HOMES = {
    "lightning": {"training", "builders"},
    "pytorch_lightning": set(),
    "diffusers": {"policies"},
    "peft": {"policies"},
    "accelerate": {"policies"},
    "pydantic": {"config", "evaluation"},
    "omegaconf": {"config"},
}


def imported_modules(source: str, package: str = "drift_pl") -> set[str]:
    """Absolute dotted names that a source imports, lazily or not; `from a import b` counts as a.b."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def own_rooms(modules: set[str]) -> set[str]:
    """Rooms of the package among imported names; `from drift_pl import __version__` names none."""
    rooms = {name.split(".")[1] for name in modules if name.startswith("drift_pl.")}
    return {room for room in rooms if room in FLOOR or (PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").exists()}


def violations(room: str, modules: set[str], file: str = "") -> list[str]:
    """What a file of this room may not import."""
    wrong = {other for other in own_rooms(modules) - {room} if FLOOR.get(other, 99) >= FLOOR[room]}
    outside = {name.split(".")[0] for name in modules}
    wrong |= {library for library, homes in HOMES.items() if library in outside and room not in homes}
    if room in NO_TORCH or (room == "core" and file not in TORCH_IN_CORE):
        wrong |= outside & {"torch", "torchvision", "transformers"}
    return sorted(wrong)


SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def modules_of(path: Path) -> set[str]:
    package = ".".join(["drift_pl", *path.relative_to(PACKAGE).parent.parts])
    return imported_modules(path.read_text(encoding="utf-8"), package)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_from_lower_floors(path: Path) -> None:
    room = room_of(path)
    assert room in FLOOR, f"{room} is no room: give it a row here and in CONTRIBUTING.md"
    assert violations(room, modules_of(path), path.name) == []


def test_the_house_has_few_arrows() -> None:
    arrows = {(room_of(path), other) for path in SOURCES for other in own_rooms(modules_of(path)) - {room_of(path)}}
    assert len(arrows) <= MOST_ARROWS, sorted(arrows)


def test_only_commands_stand_loose() -> None:
    loose = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert loose == DOORS


@pytest.mark.parametrize(
    ("room", "source", "wrong"),
    [
        ("functional", "import torch", []),
        ("functional", "from drift_pl.incentive.shaping import bonus", ["incentive"]),
        ("functional", "def late():\n    import lightning.pytorch as pl", ["lightning"]),
        ("training", "from drift_pl.builders.run import build_run", ["builders"]),
        ("training", "import lightning\nfrom drift_pl import __version__", []),
        ("config", "from drift_pl.core.errors import UserError\nimport torch", ["torch"]),
        ("core", "import torch", ["torch"]),
        ("scoring", "from diffusers import AutoencoderKL", ["diffusers"]),
        ("scoring", "from drift_pl.policies.protocol import Policy", ["policies"]),
        ("policies", "import drift_pl.builtin.world", ["builtin"]),
        ("evaluation", "from drift_pl.evidence import old", []),
        ("builders", "import drift_pl.fit", ["fit"]),
    ],
)
def test_a_violation_is_seen(room: str, source: str, wrong: list[str]) -> None:
    assert violations(room, imported_modules(source)) == wrong


def test_relative_imports_are_resolved() -> None:
    assert imported_modules("from ..types import A", "drift_pl.functional") == {"drift_pl.types.A"}
    assert imported_modules("from . import sibling", "drift_pl.functional") == {"drift_pl.functional.sibling"}
