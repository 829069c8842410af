"""Damaged weights in every kind of folder that is loaded: one line that names the setting and the file's place."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import TinyWorld

from drift_pl.builders.policy import build_policy
from drift_pl.builders.scoring import create_scorer
from drift_pl.config.loading import parse
from drift_pl.config.schema import NamedConfig
from drift_pl.core.errors import UserError, naming
from drift_pl.core.locate import load_pretrained


def empty(file: Path) -> None:
    file.write_bytes(b"")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def cut_in_header(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:20])


def no_header(file: Path) -> None:
    """Eight bytes of length that no file has, then noise."""
    file.write_bytes(b"\xff" * 8 + file.read_bytes()[8:])


def noise(file: Path) -> None:
    file.write_bytes(bytes(range(256)) * 8)


def text(file: Path) -> None:
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


DAMAGES = [empty, cut, cut_in_header, no_header, noise, text]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return TinyWorld.create(tmp_path_factory.mktemp("world"))


def one_line(setting: str, load: Callable[[], object]) -> None:
    with pytest.raises(UserError) as caught:
        load()
    message = str(caught.value)
    assert message.startswith(f"{setting}="), message
    assert "cannot be loaded" in message
    assert "\n" not in message


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_a_pipeline(world: TinyWorld, tmp_path: Path, part: str, damage: Callable[[Path], None]) -> None:
    """Catches in core/locate.py: safetensors' own error, which is neither an OSError nor a ValueError."""
    shutil.copytree(world.root / "pipeline", tmp_path / "pipeline")
    damage(next((tmp_path / "pipeline" / part).glob("*.safetensors")))
    config = parse([*world.overrides(), f"policy.pretrained={tmp_path}/pipeline"]).config
    one_line("policy.pretrained", lambda: build_policy(config))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("kind", "name", "folder"),
    [
        ("reward", "pickscore", "preference"),
        ("encoder", "dino", "shaping"),
        ("encoder", "clip", "preference"),
        ("encoder", "lpips", "lpips"),
    ],
)
def test_a_reward_or_an_encoder(
    world: TinyWorld, tmp_path: Path, kind: str, name: str, folder: str, damage: Callable[[Path], None]
) -> None:
    shutil.copytree(world.root / folder, tmp_path / folder)
    damage(next((tmp_path / folder).glob("*.safetensors")))
    entry = NamedConfig(name=name, args={"pretrained": str(tmp_path / folder)})
    one_line("rewards.0.args.pretrained", lambda: create_scorer(kind, entry, "rewards.0"))


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_adapter_to_start_from(world: TinyWorld, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    file = tmp_path / "pytorch_lora_weights.safetensors"
    shutil.copy(next((world.root / "shaping").glob("*.safetensors")), file)
    damage(file)
    config = parse([*world.overrides(), f"policy.lora.pretrained={tmp_path}"]).config
    one_line("policy.lora.pretrained", lambda: build_policy(config))


@pytest.mark.parametrize("content", ["[]", "null", "5", "{", '{"_class_name": 3}'])
def test_the_index_of_a_pipeline(world: TinyWorld, tmp_path: Path, content: str) -> None:
    shutil.copytree(world.root / "pipeline", tmp_path / "pipeline")
    (tmp_path / "pipeline" / "model_index.json").write_text(content)
    config = parse([*world.overrides(), f"policy.pretrained={tmp_path}/pipeline"]).config
    one_line("policy.pretrained", lambda: build_policy(config))


@pytest.mark.parametrize(
    "error", [TypeError("x"), IndexError(), ZeroDivisionError("division by zero"), AttributeError("a")]
)
@pytest.mark.parametrize("name", ["here", "org/model"])
def test_whatever_a_library_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: Exception
) -> None:
    """Of a local folder, and of what lies damaged in the hub's cache; but an accelerator's lack of memory stays one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()

    def fails(location: str, kind: Exception = error) -> None:
        raise kind

    with naming("policy.pretrained"):
        with pytest.raises(UserError, match=rf"cannot be loaded: {type(error).__name__}"):
            load_pretrained(fails, name)
        with pytest.raises(torch.OutOfMemoryError):
            load_pretrained(lambda location: fails(location, torch.OutOfMemoryError("no room")), name)
