"""The sheet of pictures, and moving them."""

import numpy as np
import torch
from PIL import Image

from drift_pl.builtin.emoji import WEIGHTS
from drift_pl.builtin.emoji.pictures import SHEET, load_pictures, transformed
from drift_pl.builtin.emoji.things import STYLES, THINGS

LICENCES = WEIGHTS.parent / "licences"


def test_a_row_is_a_thing_and_a_column_a_style() -> None:
    """Catches in builtin/emoji/pictures.py: rows and columns swapped; tiles transposed."""
    pictures = load_pictures()
    assert pictures.shape == (len(THINGS), len(STYLES), 3, 32, 32)
    with Image.open(SHEET) as sheet:
        tile = sheet.convert("RGB").crop((2 * 32, 5 * 32, 3 * 32, 6 * 32))
    pixels = torch.from_numpy(np.array(tile)).permute(2, 0, 1).float() / 255
    assert torch.equal(pictures[5, 2], pixels)
    white = (pictures[:, list(STYLES).index("black and white")] - pictures[:, 3].mean(1, keepdim=True)).abs().amax()
    assert white < 0.02, "a black and white picture has a colour"


def test_moving_by_hand() -> None:
    """Catches in builtin/emoji/pictures.py: a shift in the other direction; x and y swapped; black moving in."""
    image = torch.zeros(1, 1, 2, 3)
    image[0, 0] = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    moved = transformed(image.expand(2, 3, 2, 3), torch.tensor([False, True]), torch.tensor([[1, 0], [0, -1]]))
    torch.testing.assert_close(moved[0, 0], torch.tensor([[1.0, 0.1, 0.2], [1.0, 0.4, 0.5]]))
    torch.testing.assert_close(moved[1, 2], torch.tensor([[0.6, 0.5, 0.4], [1.0, 1.0, 1.0]]))


def test_every_set_and_licence_is_named() -> None:
    notice = (LICENCES / "NOTICE.txt").read_text()
    for name in STYLES.values():
        assert name in notice
    assert "Apache License" in (LICENCES / "Apache-2.0.txt").read_text()
    assert "Microsoft Corporation" in (LICENCES / "MIT.txt").read_text()
