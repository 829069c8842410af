"""setup.cfg against the disk, and the wheel against what a user needs from it."""

import configparser
import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DATA = ("prompts/*.txt", "weights/**/*")


def listed(section: str, key: str) -> list[str]:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config[section][key].split("\n")[1:]


def test_every_package_on_disk_is_listed() -> None:
    on_disk = {".".join(init.parent.relative_to(ROOT).parts) for init in (ROOT / "drift_pl").rglob("__init__.py")}
    assert {name for name in listed("options", "packages") if name != "drift_pl.experiments"} == on_disk


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {path.parent for path in (ROOT / "drift_pl").rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_constraints_cover_every_requirement_with_a_version_in_its_range() -> None:
    packaging = pytest.importorskip("packaging.requirements")
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {_canonical(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line}
    assert [line for line in lines if "/" in line or "@" in line] == [], "a pin must install from anywhere"
    wanted = listed("options", "install_requires")
    for extra in ("test", "dev", "docs", "wandb"):
        wanted += listed("options.extras_require", extra)
    for requirement in map(packaging.Requirement, wanted):
        if requirement.name != "drift-pl":
            version = pinned.get(_canonical(requirement.name))
            assert version is not None, f"{requirement.name} is not pinned"
            assert version in requirement.specifier, f"{requirement} excludes its own pin {version}"


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


@pytest.fixture(scope="module")
def wheel_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that is built from a copy, so that the checkout stays clean."""
    pytest.importorskip("setuptools")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    for name in ("drift_pl", "experiments"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--no-index", "-w", str(out), str(source)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel_names(wheel_path: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel_path).namelist())


def test_wheel_holds_every_module(wheel_names: set[str]) -> None:
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "drift_pl").rglob("*.py")}
    assert modules - wheel_names == set()


def test_wheel_holds_the_experiments(wheel_names: set[str]) -> None:
    files = {f"drift_pl/experiments/{path.name}" for path in (ROOT / "experiments").glob("*.yaml")}
    assert files - wheel_names == set()


def test_wheel_holds_weights_and_prompts(wheel_names: set[str]) -> None:
    builtin = ROOT / "drift_pl" / "builtin"
    files = {str(path.relative_to(ROOT)) for glob in DATA for path in builtin.glob(glob) if path.is_file()}
    files |= {str(path.relative_to(ROOT)) for path in (ROOT / "drift_pl" / "prompt_lists").iterdir()}
    assert files - wheel_names == set()
    assert {"drift_pl/py.typed", "drift_pl/reports/page.html"} <= wheel_names


def test_installed_wheel_finds_its_experiments_from_anywhere(wheel_path: Path, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    zipfile.ZipFile(wheel_path).extractall(site)
    code = "from drift_pl.config import experiments as e; print(e.experiments_folder(), *e.list_experiments())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=elsewhere,
        env={"PYTHONPATH": str(site)},
    )
    folder, *names = done.stdout.split()
    assert Path(folder).parent in (site / "drift_pl", site), done.stderr
    assert names == sorted(path.stem for path in (ROOT / "experiments").glob("*.yaml"))


def test_the_loose_pipeline_of_a_wheel_is_put_together_from_two_folders(wheel_path: Path, tmp_path: Path) -> None:
    """The wheel has no file twice, and whoever reads the model finds the folder of the checkout.

    Catches in core/shared_parts.py: parts of the other folder left out. In setup.cfg: links that are followed.
    """
    site = tmp_path / "site"
    zipfile.ZipFile(wheel_path).extractall(site)
    loose = site / "drift_pl" / "builtin" / "loose"
    assert sum(path.stat().st_size for path in loose.rglob("*") if path.is_file()) < 13e6
    assert not (loose / "vae").exists()
    code = (
        "import hashlib, pathlib; from drift_pl.core.locate import locate\n"
        "folder = pathlib.Path(locate('pkg:drift_pl.builtin/loose')); print(folder)\n"
        "for part in folder.iterdir():\n"
        "    for path in [part] if part.is_file() else part.iterdir():\n"
        "        print(path.relative_to(folder), hashlib.sha256(path.read_bytes()).hexdigest())"
    )
    env = {"PYTHONPATH": str(site), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=env)
    folder, *found = done.stdout.splitlines()
    here = ROOT / "drift_pl" / "builtin" / "loose"
    files = [path for part in here.iterdir() for path in ([part] if part.is_file() else part.iterdir())]
    assert sorted(found) == sorted(
        f"{path.relative_to(here)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files
    ), done.stderr
    assert Path(folder).parent == tmp_path
    assert not Path(folder).exists(), "gone with the process"


def test_wheel_holds_nothing_else(wheel_names: set[str]) -> None:
    allowed = re.compile(r"drift_pl/|drift_pl-[^/]+\.dist-info/")
    assert [name for name in wheel_names if not allowed.match(name)] == []


def test_shipped_models_name_no_folder_of_the_machine_that_made_them() -> None:
    """diffusers writes where a model was loaded from into its config."""
    shipped = sorted((ROOT / "drift_pl" / "builtin").rglob("*.json"))
    assert len(shipped) > 20
    assert [path for path in shipped if re.search(r'": "(/|~|[A-Z]:)', path.read_text(encoding="utf-8"))] == []
