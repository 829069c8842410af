"""A folder that shares parts with another one: put together where they are missing, and left alone where not."""

from pathlib import Path

import pytest

from drift_pl.core import shared_parts
from drift_pl.core.errors import UserError
from drift_pl.core.shared_parts import SHARED_PARTS, whole_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`own` has a part of two levels and shares `index` and `vae` with `other`."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    own, other = tmp_path / "own", tmp_path / "other"
    for path, text in {
        own / "net/deep/a": "own",
        other / "vae/b": "b",
        other / "net/c": "c",
        other / "index": "i",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (own / SHARED_PARTS).write_text("../other\nindex\nvae\n")
    return own


def contents(folder: Path) -> dict[str, str]:
    """Also of what lies behind links."""
    found = {}
    for path in folder.iterdir():
        found |= (
            {f"{path.name}/{name}": text for name, text in contents(path).items()}
            if path.is_dir()
            else {path.name: path.read_text()}
        )
    return found


@pytest.mark.parametrize("links", [True, False])
def test_missing_parts_come_from_the_other_folder(links: bool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own parts are its own, also where the other one has one of that name; without links they are copies.

    Catches in core/shared_parts.py: all parts of the other folder; parts of one level only.
    """
    if not links:

        def refused(self: Path, *args: object, **kwargs: object) -> None:
            raise OSError("no links here")

        monkeypatch.setattr(Path, "symlink_to", refused)
    whole = whole_folder(folder)
    expected = {"net/deep/a": "own", "vae/b": "b", "index": "i", SHARED_PARTS: "../other\nindex\nvae\n"}
    assert contents(whole) == expected
    assert whole != folder
    assert whole_folder(folder) is whole, "once per process"
    assert (whole / "vae").is_symlink() == links


def test_what_is_whole_is_left_alone(folder: Path, tmp_path: Path) -> None:
    """With links in a checkout; and any folder that shares nothing, a file, or what is not there."""
    for part in ("index", "vae"):
        (folder / part).symlink_to(f"../other/{part}")
    assert whole_folder(folder) == folder
    for path in (tmp_path / "other", tmp_path / "other" / "index", tmp_path / "nowhere"):
        assert whole_folder(path) == path


def test_a_part_that_neither_has_is_an_error_of_one_line(folder: Path) -> None:
    shared_parts.whole_folder.cache_clear()
    (folder / SHARED_PARTS).write_text("../other\nindex\ntokenizer\n")
    with pytest.raises(UserError, match=r"own needs tokenizer of \.\./other, which is not there: install the package"):
        whole_folder(folder)
