"""Names of checkpoints, in their folder's listing and by hand."""

from pathlib import Path

from drift_pl.core.checkpoint_files import newest, number_of, numbered, stem_of


def test_the_order_is_that_of_the_numbers(tmp_path: Path) -> None:
    """Catches in core/checkpoint_files.py: by name, so that a million comes before two; files of other names."""
    assert (stem_of(80), stem_of(1_000_000)) == ("iteration-000080", "iteration-1000000")
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    names = [f"{stem_of(number)}.ckpt" for number in (2, 1_000_000, 999_999)]
    for name in (*names, "iteration-000002 (copy).ckpt", "iteration-best.ckpt", "000007.ckpt", "iteration-000009.tmp"):
        (folder / name).touch()
    assert [number_of(path) for path in numbered(folder)] == [2, 999_999, 1_000_000]
    assert number_of(folder / "000007.ckpt") == -1
    assert newest(tmp_path) == folder / "iteration-1000000.ckpt"
    (folder / "last.ckpt").touch()
    assert newest(tmp_path) == folder / "last.ckpt"
    assert newest(tmp_path / "none") is None
