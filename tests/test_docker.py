"""The images' files against the rules that need no engine: locked, unprivileged, nothing but the package inside."""

import importlib.util
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from drift_pl.scoring.example_server import serve

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
LOCKS = ("requirements.txt", "requirements-build.txt")
LOCKED = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+) --hash=sha256:[0-9a-f]{64}")


def instructions() -> list[tuple[str, str]]:
    """Instruction and arguments of each line of the Dockerfile, continuation lines joined, comments left out."""
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ").splitlines()
    pairs = [line.split(None, 1) for line in lines if line.strip()]
    return [(name, arguments) for name, arguments in pairs]


def stages() -> dict[str, list[tuple[str, str]]]:
    """Instructions of each stage by its name; what comes before the first FROM is left out."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, arguments in instructions():
        if name == "FROM":
            current = found.setdefault(arguments.split(" AS ")[1], [])
        elif found:
            current.append((name, arguments))
    return found


def copied() -> list[str]:
    """Sources of all COPY instructions from the build context."""
    pairs = [arguments.split() for name, arguments in instructions() if name == "COPY" and "--from" not in arguments]
    return [source for words in pairs for source in words[:-1]]


def sent(path: str) -> bool:
    """Whether .dockerignore lets a file into the build context: of the patterns that match it, or a folder that it is
    in, the last one decides (docs.docker.com, "dockerignore file").
    """
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    parts, allowed = Path(path).parts, True
    prefixes = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
    for line in lines:
        pattern = line.removeprefix("!")
        if not line or line.startswith("#"):
            continue
        if pattern.startswith("**/"):
            matches = any(fnmatch(part, pattern.removeprefix("**/")) for part in parts)
        else:
            depth = pattern.count("/") + 1
            matches = any(fnmatch(prefix, pattern) for prefix in prefixes if prefix.count("/") + 1 == depth)
        allowed = line.startswith("!") if matches else allowed
    return allowed


def files() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listed.stdout.split("\0") if name]


def test_every_image_ends_without_rights() -> None:
    """Catches in docker/Dockerfile: a last USER root."""
    ends = {"runtime", "cuda", "cpu"}
    for stage in ends & stages().keys():
        users = [arguments for name, arguments in stages()[stage] if name == "USER"]
        assert not users or users[-1] == "1000:1000", stage
    assert ends <= stages().keys()
    assert [arguments for name, arguments in stages()["runtime"] if name == "USER"] == ["1000:1000"]


def test_base_images_have_a_full_version() -> None:
    """A tag with patch version and release of the system; a digest may follow. Never `latest`, never no tag."""
    (base,) = [arguments.removeprefix("BASE=") for name, arguments in instructions() if name == "ARG"]
    assert re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", base)
    froms = [arguments.split()[0] for name, arguments in instructions() if name == "FROM"]
    assert set(froms) <= {"${BASE}", "runtime"}
    for service in COMPOSE["services"].values():
        assert re.fullmatch(r"drift-pl:(cpu|cuda)", service["image"])


def test_the_image_has_a_health_check() -> None:
    checks = [arguments for name, arguments in stages()["runtime"] if name == "HEALTHCHECK"]
    assert len(checks) == 1
    assert "/opt/drift/health.py" in checks[0]


def test_what_is_copied_exists_and_is_sent() -> None:
    """Catches in .dockerignore: a lock file that is not let in."""
    assert len(copied()) >= 8
    for source in copied():
        assert (ROOT / source).exists(), source
        within = [name for name in files() if name == source or name.startswith(f"{source}/")]
        assert all(sent(name) for name in within or [source]), source


def test_nothing_else_is_sent() -> None:
    """Of all files of the repository, and of some that must never leave a machine.

    Catches in .dockerignore: tests that are let in.
    """
    wanted = copied()
    others = [name for name in files() if not any(name == source or name.startswith(f"{source}/") for source in wanted)]
    assert len(others) > 100
    never = [".git/config", ".env", "runs/a/config.yaml", "id_rsa", "drift_pl/__pycache__/a.pyc", "docker/token.txt"]
    assert [name for name in (*others, *never) if sent(name)] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_one_hash_and_its_pin(lock: str) -> None:
    """Catches in docker/lock.py: versions outside of constraints.txt."""
    lines = [line for line in (DOCKER / lock).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert [line for line in lines if not LOCKED.fullmatch(line)] == []
    locked = {canonical(found["name"]): found["version"] for line in lines if (found := LOCKED.fullmatch(line))}
    assert len(locked) == len(lines)
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    )
    differ = {name: pin for name, pin in pins.items() if locked.get(canonical(name), pin) != pin}
    assert differ == {}


def test_the_lock_covers_the_requirements() -> None:
    packaging = pytest.importorskip("packaging.requirements")
    for lock, requirements in docker_module("lock").wanted().items():
        text = (DOCKER / lock).read_text(encoding="utf-8")
        locked = {canonical(found["name"]): found["version"] for found in LOCKED.finditer(text)}
        for requirement in map(packaging.Requirement, requirements):
            assert locked[canonical(requirement.name)] in requirement.specifier


def test_pip_is_held_to_the_hashes() -> None:
    """Catches in docker/Dockerfile: an install without --require-hashes."""
    installs = [arguments for name, arguments in instructions() if name == "RUN" and "pip install" in arguments]
    for command in re.split(r"&&", " && ".join(installs)):
        if "pip install" in command:
            assert "--require-hashes" in command or ("--no-index" in command and "--no-deps" in command), command


def test_services_are_unprivileged_and_local() -> None:
    """Catches in docker/compose.yaml: a port that other machines reach."""
    assert {"train", "tensorboard", "rewards"} <= COMPOSE["services"].keys()
    for name, service in COMPOSE["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["build"]["target"] in stages(), name
        assert (DOCKER / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in COMPOSE["volumes"], name
        if "entrypoint" in service:
            assert "healthcheck" in service, f"{name}: the image's check is of a training"


def test_services_train_with_settings_that_exist() -> None:
    from drift_pl.config.loading import parse

    for name, service in COMPOSE["services"].items():
        if "entrypoint" not in service:
            settings = [re.sub(r"\$\{\w+:-(\w*)\}", r"\1", argument) for argument in service["command"]]
            assert parse(settings).config.trainer.progress == "none", name


@pytest.fixture
def health() -> ModuleType:
    return docker_module("health")


@pytest.fixture
def judge_url() -> Iterator[str]:
    server = serve("127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/score"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_reward_server_is_healthy_while_it_answers(
    health: ModuleType, judge_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert health.main(["--rewards", judge_url]) == 0
    assert health.main(["--page", judge_url]) == 1  # it answers POST alone
    assert "501" in capsys.readouterr().out
    assert health.main(["--rewards", "http://127.0.0.1:1/score"]) == 1
    assert "refused" in capsys.readouterr().out


def test_a_training_is_unhealthy_when_it_has_long_written_nothing(health: ModuleType, tmp_path: Path) -> None:
    """Catches in docker/health.py: a container that has only just begun is unhealthy."""
    now = time.time()
    assert health.training(tmp_path, 60, started=now) is None
    assert "nothing was written" in health.training(tmp_path, 60, started=now - 100)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.csv").write_text("")
    assert health.training(tmp_path, 60, started=now - 100) is None


def docker_module(name: str) -> Any:
    """A script of docker/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"docker_{name}", DOCKER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
