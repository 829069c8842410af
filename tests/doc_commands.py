"""The commands that the README and the docs show, and the files that these pages let the reader write."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
OURS = re.compile(r"(?:-m drift_pl[. ]|(?:^|\s)drift-pl )(?P<command>\w+)(?P<rest>.*)")
FILE = re.compile(r"# (?P<name>\w+\.(?:py|yaml))\n")
LOOP = re.compile(r"^for (?P<name>\w+) in (?P<values>.*); do\n(?P<body>.*?)^done\n", re.MULTILINE | re.DOTALL)
PLACEHOLDERS = {
    **{"METHOD": "shapes_flowgrpo", "X": "1.0"},
    **{"RUN": "runs/placeholder", "RUNS": "runs/placeholder", "BASELINE_RUN": "runs/baseline"},
}


@dataclass(frozen=True)
class Command:
    """A command of this package on a page, e.g. `fit` with its arguments."""

    page: str
    name: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {self.name} {' '.join(self.arguments)}"

    @property
    def runs(self) -> list[str]:
        """Run folders that it reads."""
        words = [word.removeprefix("ckpt_path=") for word in self.arguments if not word.startswith("run_dir=")]
        found = [re.match(r"(runs/[\w.-]+)", word) for word in words]
        return [match[1] for match in found if match]


def blocks(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def written_files(page: Path) -> dict[str, str]:
    """Name -> content of the files whose block begins with their name as a comment."""
    found = {match["name"]: block for block in blocks(page) if (match := FILE.match(block))}
    return {name: content + "\n" for name, content in found.items()}


def commands(page: Path) -> list[Command]:
    """Commands of this package, in the page's order, with RUN and other placeholders filled in."""
    texts = [LOOP.sub(_unrolled, re.sub(r"\\\n\s*", "", block)) for block in blocks(page)]
    lines = [re.sub(r"\s# .*", "", line) for text in texts for line in text.splitlines()]
    found = [match for line in lines if not line.lstrip().startswith("docker") and (match := OURS.search(line))]
    return [Command(page.name, match["command"], _arguments(match["rest"])) for match in found]


def _unrolled(loop: re.Match[str]) -> str:
    """A shell loop written out."""
    return "".join(loop["body"].replace(f"${loop['name']}", value) for value in loop["values"].split())


def _arguments(text: str) -> tuple[str, ...]:
    words = shlex.split(text.replace("RUNS...", "RUNS"))
    return tuple(re.sub(r"^(\w+=)?([A-Z_]+)$", lambda word: _filled(word[1] or "", word[2]), word) for word in words)


def _filled(key: str, name: str) -> str:
    return key + PLACEHOLDERS.get(name, name)


ALL = [command for page in PAGES for command in commands(page)]
