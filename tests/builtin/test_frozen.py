"""World, reward and evaluation are frozen: numbers of different releases are comparable while this tag stays."""

import hashlib
import re
from pathlib import Path

from drift_pl.builtin import PROMPTS, WEIGHTS

CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"


def digest(*folders: Path) -> str:
    """SHA-256 over the names and contents of all weights and prompt files, in order."""
    total = hashlib.sha256()
    files = [path for folder in folders for path in sorted(folder.rglob("*"))]
    for path in files:
        if path.suffix in (".safetensors", ".txt"):
            total.update(f"{path.parent.name}/{path.name}\n".encode() + path.read_bytes())
    return total.hexdigest()


def test_the_changelogs_tag_is_that_of_the_files() -> None:
    tags = re.findall(r"`builtin-world-1` \(`([0-9a-f]{16})`\)", CHANGELOG.read_text())
    assert tags[0] == digest(WEIGHTS, PROMPTS)[:16], "weights or prompts changed: every figure made with them is void"
