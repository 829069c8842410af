"""Paths and writes: what the file system refuses leaves the old file whole and nothing beside it."""

import ast
import errno
import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drift_pl.core.errors import UserError, naming
from drift_pl.core.files import local_path, new_folder, probe_folder, refused, replacing, write_json, write_text

PACKAGE = Path(__file__).parents[2] / "drift_pl"


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Every write beyond this size fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_failed_write_keeps_the_old_file_and_names_it(tmp_path: Path) -> None:
    """Catches in core/files.py: the temporary's name in the message, a temporary that stays."""
    write_text(tmp_path / "a.json", "old")
    with files_of_at_most(100), pytest.raises(OSError) as caught:
        write_text(tmp_path / "a.json", "x" * 5000)
    assert (tmp_path / "a.json").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]
    assert refused(caught.value) == (
        f"{tmp_path}/a.json: File too large: make room and run it again; a run resumes from its last checkpoint, "
        "which is complete"
    )


@pytest.mark.parametrize("hidden", ["safetensors", "torch"])
def test_a_librarys_own_error_is_the_file_systems(tmp_path: Path, hidden: str) -> None:
    """safetensors and torch raise errors of their own when the disk is full."""
    import torch
    from safetensors.torch import save_file

    def save(weights: dict) -> None:
        with replacing(tmp_path / "weights") as temporary, temporary.open("wb") as file:
            save_file(weights, temporary) if hidden == "safetensors" else torch.save(weights, file)

    with files_of_at_most(1000), pytest.raises(OSError, match="too large") as caught:
        save({"a": torch.zeros(100_000)})
    assert caught.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    def save(weights: dict) -> None:
        with new_folder(tmp_path / "out") as folder:
            save_file(weights, folder / "a.safetensors")

    with files_of_at_most(1000), pytest.raises(UserError, match="out=.*cannot be written"):
        save({"a": torch.zeros(100_000)})
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_does_not_follow_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who guesses the name and puts a link there must not have its target overwritten."""
    monkeypatch.setattr("drift_pl.core.files.secrets.token_hex", lambda _: "0")
    (tmp_path / "victim").write_text("mine")
    (tmp_path / f".a.{os.getpid()}-0.tmp").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError):
        write_text(tmp_path / "a", "theirs")
    assert (tmp_path / "victim").read_text() == "mine"


def test_probing_leaves_nothing_behind(tmp_path: Path) -> None:
    probe_folder(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kept").mkdir()
    probe_folder(tmp_path / "kept")
    assert list(tmp_path.rglob("*")) == [tmp_path / "kept"]


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("file", "a file is where a folder is needed"),
        ("file/below", "a file is where a folder is needed"),
        ("x" * 300, "give a shorter name"),
        ("loop/a", "a link leads back to itself"),
    ],
)
def test_probing_tells_what_is_wrong(tmp_path: Path, folder: str, reason: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OSError) as caught:
        probe_folder(tmp_path / folder)
    assert reason in str(refused(caught.value))


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert local_path("~/a") == Path("/home/me/a")
    assert local_path("a/~") == Path("a/~")
    with naming("prompts.train"), pytest.raises(UserError, match="prompts.train=~nobody_here/x: ~nobody_here has no"):
        local_path("~nobody_here/x")


def test_a_bug_is_no_refusal() -> None:
    assert refused(ConnectionResetError(errno.ECONNRESET, "x")) is None
    assert refused(ValueError("x")) is None


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))


def test_home_is_expanded_in_one_place_and_text_is_utf8() -> None:
    """Every read and write of text names its encoding; only `local_path` expands `~`."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for call in calls(path):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            where = f"{path}:{call.lineno}"
            assert name != "expanduser" or path.name == "files.py", where
            given = {keyword.arg for keyword in call.keywords}
            text_method = name in ("read_text", "write_text") and isinstance(call.func, ast.Attribute)
            if text_method and not (name == "read_text" and len(call.args) == 2):  # ours: read_text(name, content)
                assert "encoding" in given, where
            if name == "open" and isinstance(call.func, ast.Name):
                mode = call.args[1] if len(call.args) > 1 else None
                assert "encoding" in given or (isinstance(mode, ast.Constant) and "b" in str(mode.value)), where


def test_json_has_null_for_what_is_not_finite(tmp_path: Path) -> None:
    nan, infinity = float("nan"), float("inf")
    write_json(tmp_path / "a.json", {"a": [1.5, nan, {"b": -infinity}], "c": (infinity, 2), "d": "NaN", "e": True})
    text = (tmp_path / "a.json").read_text()
    content = json.loads(text, parse_constant=lambda constant: pytest.fail(constant))
    assert content == {"a": [1.5, None, {"b": None}], "c": [None, 2], "d": "NaN", "e": True}
