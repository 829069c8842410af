"""Grids of images: where each one lies."""

from pathlib import Path

import torch
from PIL import Image

from drift_pl.evaluation.grids import LABEL_WIDTH, labelled_grid, save_image

TOP, GAP = 28, 2


def coloured(rows: int, seeds: int, side: int, blue: float) -> torch.Tensor:
    """One flat colour per image: red tells the row, green the seed."""
    images = torch.full((rows, seeds, 3, side, side), blue)
    images[:, :, 0] = (torch.arange(rows) / 10)[:, None, None, None]
    images[:, :, 1] = (torch.arange(seeds) / 10)[None, :, None, None]
    return images


def test_images_lie_at_their_row_seed_and_block() -> None:
    """Images of 16 pixels are enlarged to 64; two blocks of 3 prompts x 2 seeds."""
    sheet = labelled_grid(["base", "tuned"], [coloured(3, 2, 16, 0.2), coloured(3, 2, 16, 0.8)], ["a", "b", "c"])
    side = 64 + GAP
    assert sheet.size == (LABEL_WIDTH + 2 * (2 * side + 8), TOP + 3 * side)
    for block, blue in enumerate((0.2, 0.8)):
        for row in range(3):
            for seed in range(2):
                left, top = LABEL_WIDTH + block * (2 * side + 8) + seed * side, TOP + row * side
                colour = tuple(round(value * 255) for value in (row / 10, seed / 10, blue))
                for corner in ((left, top), (left + 63, top + 63)):
                    assert sheet.getpixel(corner) == colour
                assert sheet.getpixel((left + 64, top + 64)) == (255, 255, 255)


def test_large_images_keep_their_size_and_values_are_clamped() -> None:
    sheet = labelled_grid(["only"], [torch.full((1, 1, 3, 80, 80), 1.7)], ["a prompt"])
    assert sheet.size == (LABEL_WIDTH + 82 + 8, TOP + 82)
    assert sheet.getpixel((LABEL_WIDTH, TOP)) == (255, 255, 255)


def test_the_prompt_is_written_beside_its_row() -> None:
    images = coloured(2, 1, 64, 0.5)
    with_label, without = labelled_grid(["t"], [images], ["", "a red cat"]), labelled_grid(["t"], [images], ["", ""])
    first, second = ((0, TOP, LABEL_WIDTH, TOP + 66), (0, TOP + 66, LABEL_WIDTH, TOP + 132))
    assert with_label.crop(first).tobytes() == without.crop(first).tobytes()
    assert with_label.crop(second).tobytes() != without.crop(second).tobytes()
    assert labelled_grid(["t"], [images], ["word " * 200, ""]).size == without.size  # a long prompt is cut


def test_an_image_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "samples" / "000001.png"
    save_image(Image.new("RGB", (3, 2), "red"), path)
    save_image(Image.new("RGB", (5, 4), "blue"), path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.size == (5, 4)
        assert image.getpixel((0, 0)) == (0, 0, 255)
    assert [file.name for file in path.parent.iterdir()] == ["000001.png"]
