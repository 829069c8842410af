"""`export ... push_to_hub=OWNER/NAME`, against a hub on this machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import TOKEN, FakeHub, running_hub

from drift_pl.export import main


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with running_hub() as running:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.address)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no_token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield running


def test_a_private_repository_gets_the_folder(
    tiny_run: Path, hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Catches in export.py: a repository that is public by default."""
    out = tmp_path / "lora"
    assert main([f"ckpt_path={tiny_run}", f"out={out}", "push_to_hub=me/my-lora"]) == 0
    assert hub.repositories == {"me/my-lora": True}
    assert hub.files["me/my-lora"] == {file.name: file.read_bytes() for file in out.iterdir()}
    assert set(hub.files["me/my-lora"]) == {"README.md", "pytorch_lora_weights.safetensors"}
    assert f"Bearer {TOKEN}" in hub.tokens
    captured = capsys.readouterr()
    assert f"pushed:  {hub.address}/me/my-lora" in captured.out
    stages = [line.split()[0] for line in captured.out.splitlines() if line.endswith("...")]
    assert stages == ["importing", "loading", "writing", "uploading"]
    written = [file for folder in (tiny_run, out) for file in folder.rglob("*") if file.is_file()]
    assert not [file for file in written if TOKEN.encode() in file.read_bytes()]
    assert TOKEN not in captured.out + captured.err


def test_a_public_one_only_if_asked_for(tiny_run: Path, hub: FakeHub, tmp_path: Path) -> None:
    argv = [f"ckpt_path={tiny_run}", f"out={tmp_path / 'lora'}", "push_to_hub=me/open", "private=false"]
    assert main(argv) == 0
    assert hub.repositories == {"me/open": False}


@pytest.mark.parametrize(
    ("argument", "refuses", "says"),
    [
        ("push_to_hub=my-lora", None, "push_to_hub=my-lora has no owner: use e.g. push_to_hub=me/my-lora"),
        ("push_to_hub=me/my lora", None, "is no name of a repository"),
        ("push_to_hub=me/taken", None, "push_to_hub=me/taken is there and public: give private=false"),
        ("push_to_hub=me/new", ("whoami", 401), "the hub refuses (status 401): log in with hf auth login"),
    ],
)
def test_what_cannot_be_pushed_is_said_before_anything_is_written(
    tiny_run: Path,
    hub: FakeHub,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    argument: str,
    refuses: tuple[str, int] | None,
    says: str,
) -> None:
    hub.repositories["me/taken"] = False
    hub.refuses = refuses or hub.refuses
    assert main([f"ckpt_path={tiny_run}", f"out={tmp_path / 'lora'}", argument]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "lora").exists()


def test_a_push_that_fails_keeps_the_folder_and_says_how_to_go_on(
    tiny_run: Path, hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    hub.refuses = ("/commit/", 403)
    out = tmp_path / "lora"
    assert main([f"ckpt_path={tiny_run}", f"out={out}", "push_to_hub=me/new"]) == 2
    error = capsys.readouterr().err
    assert f"{out} is written and complete; push it again with: hf upload me/new {out}" in error
    assert TOKEN not in error
    assert (out / "README.md").is_file()


def test_without_a_login_nothing_is_tried(
    tiny_run: Path, hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert main([f"ckpt_path={tiny_run}", f"out={tmp_path / 'lora'}", "push_to_hub=me/new"]) == 2
    assert "push_to_hub=me/new: there is no login" in capsys.readouterr().err
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert main([f"ckpt_path={tiny_run}", f"out={tmp_path / 'lora'}", "push_to_hub=me/new"]) == 2
    assert "HF_HUB_OFFLINE is set" in capsys.readouterr().err
