"""The order of CONTRIBUTING, "Where things live": each row imports only from those above it, or its own."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "drift_pl"

ROWS = (
    ("types", "rng", "errors", "locate", "prompt_files"),
    ("functional",),
    ("incentive",),
    ("policies",),
    ("scoring",),
    ("prompts", "paraphrases", "rollout", "metrics", "evaluation", "evaluation_pictures", "grids"),
    ("training",),
    (
        *("config", "config_choices", "config_checks", "keys", "literals", "experiment_files", "arguments"),
        *("help_text", "command", "command_options", "new_folder"),
        *("registry", "build", "build_scoring", "build_incentive", "build_objective", "run_folder"),
        *(
            "evaluate_options",
            "run_checkpoints",
            "checkpoint_weights",
            "evaluation_points",
            "evaluation_base",
            "hardware",
        ),
        *("tuned_policy", "export_weights", "generated_pictures"),
    ),
    ("evidence", "evaluation_base", "card_facts", "model_card"),
    ("fit", "evaluate", "pareto", "generate", "export", "report"),
)
ROW_OF = {room: row for row, rooms in enumerate(ROWS) for room in rooms}
DOORS = ROWS[-1]

# rooms that may import less than their row allows; the built-in world measures with the loaders that runs use
ONLY_FROM = {
    "config": {"errors"},
    "builtin": {"builtin", "errors", "scoring"},
    "evidence": {"evidence", "errors", "functional"},
}
HOMES = {
    "lightning": {"training", "build", "hardware", *DOORS},
    "pytorch_lightning": set(),
    "diffusers": {"policies", "builtin"},
    "peft": {"policies", "builtin"},
}
QUICK = (
    "config",
    "config_choices",
    "config_checks",
    "keys",
    "literals",
    "experiment_files",
    "arguments",
    "help_text",
    "command",
    "command_options",
    "new_folder",
    "errors",
    "evaluate_options",
    "run_checkpoints",
)
"""What `--help` loads: it must not wait for torch."""


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
    return {room for room in rooms if room in ROW_OF or (PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").exists()}


def violations(room: str, modules: set[str]) -> list[str]:
    """What a file of this room may not import."""
    own = own_rooms(modules) - {room}
    if room in ONLY_FROM:
        wrong = own - ONLY_FROM[room]
    else:
        wrong = {other for other in own if other not in ROW_OF or ROW_OF[other] > ROW_OF[room]}
    outside = {name.split(".")[0] for name in modules}
    wrong |= {library for library, homes in HOMES.items() if library in outside and room not in homes}
    if room in QUICK:
        wrong |= outside & {"torch", "torchvision", "transformers"}
    return sorted(wrong)


SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_from_rows_above(path: Path) -> None:
    room = room_of(path)
    assert room in ROW_OF or room == "builtin", f"{room} has no row: give it one here and in CONTRIBUTING.md"
    package = ".".join(["drift_pl", *path.relative_to(PACKAGE).parent.parts])
    assert violations(room, imported_modules(path.read_text(encoding="utf-8"), package)) == []


@pytest.mark.parametrize(
    ("room", "source", "wrong"),
    [
        ("functional", "from drift_pl.types import Trajectory\nimport torch", []),
        ("functional", "from drift_pl.incentive.shaping import bonus", ["incentive"]),
        ("functional", "def late():\n    import lightning.pytorch as pl", ["lightning"]),
        ("training", "from drift_pl.config import Config", ["config"]),
        ("training", "import lightning\nfrom drift_pl import rollout, __version__", []),
        ("config", "from drift_pl.rng import generator", ["rng"]),
        ("scoring", "from diffusers import AutoencoderKL", ["diffusers"]),
        ("builtin", "import diffusers\nfrom drift_pl.types import Batch", ["types"]),
        ("arguments", "import torch", ["torch"]),
        ("build", "import drift_pl.fit", ["fit"]),
        ("policies", "import drift_pl.builtin.world", ["builtin"]),
    ],
)
def test_the_walk_sees_a_violation(room: str, source: str, wrong: list[str]) -> None:
    assert violations(room, imported_modules(source)) == wrong


def test_relative_imports_are_resolved() -> None:
    assert imported_modules("from ..types import A", "drift_pl.functional") == {"drift_pl.types.A"}
    assert imported_modules("from . import sibling", "drift_pl.functional") == {"drift_pl.functional.sibling"}
