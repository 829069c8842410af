"""A judge that reads: does the image show the text that its prompt has in double quotes?"""

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
    """1 - d / n, in [0, 1]: n letters asked for, d the edit distance from what is read, at most n.

    As flow_grpo's reward (arXiv 2505.05470): case and blanks do not count, and a text that appears as a whole in what
    is read scores 1. flow_grpo reads with PaddleOCR; this reads with the same family of networks by RapidOCR, whose
    package brings them along, so scores need not be equal. A prompt without a text in double quotes is not scored.

    Args:
        params: RapidOCR's own settings, such as {"EngineConfig.onnxruntime.use_cuda": true}.

    Raises:
        UserError: the package rapidocr, or the runtime that it reads with, is not installed.
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
        return self  # RapidOCR's runtime has devices of its own

    def _score(self, image: Any, prompt: str) -> float:
        wanted = asked_text(prompt)
        if wanted is None:
            return math.nan
        # not the array: RapidOCR takes an array's channels for blue, green, red, and knows an image's
        return text_score("".join(self.reader(Image.fromarray(image)).txts or ()), wanted)


def asked_text(prompt: str) -> str | None:
    """What stands between the first pair of double quotes, straight or curly; None if nothing does."""
    found = re.search(r'"([^"]*)"|\u201c([^\u201d]*)\u201d', prompt)
    text = "" if found is None else found[1] or found[2] or ""
    return text if text.strip() else None


def text_score(read: str, wanted: str) -> float:
    """1 - min(edit distance, n) / n, with n the letters of `wanted`; 1 if it is part of what was read."""
    read, wanted = (re.sub(r"\s", "", text).lower() for text in (read, wanted))
    if wanted in read:
        return 1.0
    return 1 - min(edit_distance(read, wanted), len(wanted)) / len(wanted)


def edit_distance(one: str, other: str) -> int:
    """Levenshtein's: the fewest insertions, deletions and replacements of a letter from one to the other."""
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, start=1):
        diagonal, row[0] = row[0], i
        for j, wanted in enumerate(other, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (letter != wanted))
    return row[-1]
