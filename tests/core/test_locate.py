"""Names of weights: a hub id may be pinned to a revision, whichever loader reads it."""

from pathlib import Path

import pytest

from drift_pl.core.errors import UserError, naming
from drift_pl.core.locate import load_pretrained, read_text


def loader(location: str, revision: str = "main") -> tuple[str, str]:
    return location, revision


def test_a_revision_goes_to_the_loader(tmp_path: Path) -> None:
    assert load_pretrained(loader, "org/model") == ("org/model", "main")
    assert load_pretrained(loader, "org/model@0123abcd") == ("org/model", "0123abcd")
    (tmp_path / "a@b").mkdir()
    assert load_pretrained(loader, f"{tmp_path}/a@b") == (f"{tmp_path}/a@b", "main"), "a folder of this name"


@pytest.mark.parametrize(
    ("build", "names"),
    [
        ("drift_pl.scoring.encoders:PooledEncoder", ["pretrained"]),
        ("drift_pl.scoring.encoders:ClipEncoder", ["pretrained", "processor"]),
        ("drift_pl.scoring.pickscore:PickScore", ["pretrained", "processor"]),
        ("drift_pl.scoring.clip_score:ClipScore", ["pretrained"]),
        ("drift_pl.scoring.hps:HpsV2", ["pretrained"]),
        ("drift_pl.scoring.aesthetic:Aesthetic", ["pretrained"]),
    ],
)
def test_every_model_takes_it(build: str, names: list[str]) -> None:
    """Offline, the hub's refusal of a pinned name speaks of the name and never of an unexpected argument."""
    from drift_pl.core.registry import find

    with naming("rewards.0"), pytest.raises(UserError, match="could not be fetched|on the hub") as caught:
        find("reward", build)(**{names[0]: "org/nothing@0123abcd"})
    assert "org/nothing@0123abcd" in str(caught.value)


def test_unreadable_text_names_its_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("a")

    def fail(*args: object) -> bytes:
        raise PermissionError(13, "Permission denied", str(tmp_path / "a.txt"))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with (
        naming("prompts.train"),
        pytest.raises(UserError, match=r"^prompts\.train: .*/a\.txt: Permission denied: give"),
    ):
        read_text(str(tmp_path / "a.txt"), "text")
