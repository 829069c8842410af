"""OCR reward: does the image show the text that its prompt has in double quotes?"""

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from drift_pl.core.errors import UserError
from drift_pl.core.locate import first_line, import_extra
from drift_pl.scoring.pixels import to_bytes


class Ocr:
    """1 - d / n, in [0, 1]: n requested letters, d the edit distance from the recognized text, at most n.

    As in flow_grpo (arXiv 2505.05470), case and whitespace are ignored, and a text that appears in full within the
    recognized text scores 1. flow_grpo uses PaddleOCR; this uses the same family of networks through RapidOCR, whose
    package includes them, so scores may differ. A prompt without text in double quotes is not scored.

    Args:
        params: RapidOCR settings, such as {"EngineConfig.onnxruntime.use_cuda": true}.

    Raises:
        UserError: the package rapidocr, or its runtime, is not installed.
    """

    def __init__(self, params: dict[str, Any] | None = None) -> None:
        package = import_extra("rapidocr", "ocr")
        try:
            self.reader = package.RapidOCR(params=params)
        except Exception as error:  # a missing runtime, unknown settings: whatever the package raises
            raise UserError(f"rewards.args.params={params}: RapidOCR cannot be started: {first_line(error)}") from error

    def __call__(self, images_B3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        pixels = to_bytes(images_B3HW).cpu().permute(0, 2, 3, 1).numpy()
        scores = [self._score(image, prompt) for image, prompt in zip(pixels, prompts, strict=True)]
        return torch.tensor(scores, dtype=torch.float32, device=images_B3HW.device)

    def to(self, device: torch.device | str) -> "Ocr":
        return self  # RapidOCR's runtime manages its own devices

    def _score(self, image: Any, prompt: str) -> float:
        wanted = asked_text(prompt)
        if wanted is None:
            return math.nan
        # an Image, because RapidOCR takes the channels of an array as blue, green, red
        return text_score("".join(self.reader(Image.fromarray(image)).txts or ()), wanted)


def asked_text(prompt: str) -> str | None:
    """The text between the first pair of double quotes, straight or curly; None if there is none."""
    found = re.search(r'"([^"]*)"|\u201c([^\u201d]*)\u201d', prompt)
    text = "" if found is None else found[1] or found[2] or ""
    return text if text.strip() else None


def text_score(read: str, wanted: str) -> float:
    """1 - min(edit distance, n) / n, with n the letters of `wanted`; 1 if `read` contains it."""
    read, wanted = (re.sub(r"\s", "", text).lower() for text in (read, wanted))
    if wanted in read:
        return 1.0
    return 1 - min(edit_distance(read, wanted), len(wanted)) / len(wanted)


def edit_distance(one: str, other: str) -> int:
    """Levenshtein distance: the fewest single-letter insertions, deletions and substitutions."""
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, start=1):
        diagonal, row[0] = row[0], i
        for j, wanted in enumerate(other, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (letter != wanted))
    return row[-1]
