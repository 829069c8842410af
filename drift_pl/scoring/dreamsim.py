"""DreamSim, a perceptual distance trained on human judgments (arXiv 2306.09344), as an encoder."""

from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from drift_pl.core.errors import UserError
from drift_pl.core.files import local_path
from drift_pl.core.locate import first_line, import_extra
from drift_pl.core.signatures import Count
from drift_pl.scoring.pixels import to_bytes


class DreamSim:
    """Encoder from the authors' package `dreamsim`; its distance is 1 - cos of two embeddings, in [0, 2].

    The package resizes to 224 x 224 with its own preprocessing, on 8-bit images, one at a time on the CPU. Its weights
    are downloaded into `cache_dir` if missing.

    Args:
        kind: the package's `dreamsim_type`: `ensemble` (DINO, CLIP and OpenCLIP, its default and the published
            metric), or one network: dino_vitb16, dinov2_vitb14, clip_vitb32, open_clip_vitb32, synclr_vitb16.
        cache_dir: folder of the weights.
        batch_size: images per forward pass.

    Raises:
        UserError: the package is not installed, or the weights cannot be loaded.
    """

    def __init__(self, kind: str = "ensemble", cache_dir: str = "~/.cache/dreamsim", batch_size: Count = 64) -> None:
        self._make = import_extra("dreamsim", "dreamsim").dreamsim
        self.kind, self.folder, self.batch_size = kind, local_path(cache_dir), batch_size
        self._load(torch.device("cpu"))

    @torch.no_grad()
    def __call__(self, images_B3HW: Tensor) -> Tensor:
        """Unit embeddings, float32 [B, D], of images in [0, 1] rounded to 8 bits."""
        with torch.autocast(images_B3HW.device.type, enabled=False):
            return torch.cat([self._embed(part) for part in images_B3HW.split(self.batch_size)])

    def to(self, device: torch.device | str) -> "DreamSim":
        """Reloads the model: parts of it stay on the device they were created for when it is moved."""
        if torch.device(device) != self.device:
            self._load(torch.device(device))
        return self

    def _load(self, device: torch.device) -> None:
        try:
            self.model, self.preprocess = self._make(
                pretrained=True, device=str(device), cache_dir=str(self.folder), dreamsim_type=self.kind
            )
        except Exception as error:  # downloads, archives, unknown kinds: whatever the package raises
            raise UserError(
                f"encoder.args.kind={self.kind}: DreamSim cannot be loaded from encoder.args.cache_dir={self.folder}: "
                f"{first_line(error)}; without network access, copy that folder from a machine that has it"
            ) from error
        self.model.requires_grad_(False).eval()
        self.device = device

    def _embed(self, images_B3HW: Tensor) -> Tensor:
        pixels = to_bytes(images_B3HW).cpu().permute(0, 2, 3, 1).numpy()
        inputs: Any = torch.cat([self.preprocess(Image.fromarray(image)) for image in pixels])
        embedding = self.model.embed(inputs.to(self.device)).float().reshape(len(pixels), -1)
        return normalize(embedding, dim=-1)
