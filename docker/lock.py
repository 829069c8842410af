"""Writes the lock files of the images: every Python package with its version and the SHA-256 of its file.

    python docker/lock.py            # with CPython 3.11 on Linux x86_64, the platform of the images

pip asks PyPI for `install_requires` of setup.cfg within constraints.txt, installs nothing, and reports the file
of each package. `pip install --require-hashes -r docker/requirements.txt` then accepts these files and no others.
PyPI has one build of torch for this platform, with CUDA: both images use it.
"""

import configparser
import json
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PYTHON, PLATFORM = (3, 11), "linux"
HEAD = "# Written by `python docker/lock.py`: {what}. CPython 3.11, Linux x86_64.\n"
FILES = {
    "requirements.txt": "all that the package needs to run, from setup.cfg and constraints.txt",
    "requirements-build.txt": "what builds source packages, installed before the others",
}


def wanted() -> dict[str, list[str]]:
    """Requirements of each lock file."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = setup["options"]["install_requires"].splitlines()
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    return {
        "requirements.txt": [line for line in lines if line and not line.startswith("#")],
        "requirements-build.txt": build,
    }


def resolved(requirements: Sequence[str]) -> list[dict[str, Any]]:
    """The packages of pip's report."""
    report = ["--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    command = [sys.executable, "-m", "pip", "--isolated", "install", *report]
    done = subprocess.run(
        [*command, "-c", str(ROOT / "constraints.txt"), *requirements], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout)["install"]


def locked(packages: Sequence[dict[str, Any]]) -> list[str]:
    """One line per package, sorted by name, in the format that pip reads."""
    lines = []
    for package in packages:
        name, version = package["metadata"]["name"], package["metadata"]["version"]
        digest = package["download_info"]["archive_info"]["hashes"]["sha256"]
        lines.append(f"{name}=={version} --hash=sha256:{digest}")
    return sorted(lines, key=str.lower)


def main() -> None:
    if sys.version_info[:2] != PYTHON or sys.platform != PLATFORM:
        raise SystemExit("error: the images have CPython 3.11 on Linux x86_64: run docker/lock.py there")
    for name, requirements in wanted().items():
        text = HEAD.format(what=FILES[name]) + "\n".join(locked(resolved(requirements))) + "\n"
        (ROOT / "docker" / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
