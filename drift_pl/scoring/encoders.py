"""Image encoders for the shaping lever and for evaluation."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import interpolate, normalize
from torchmetrics.functional.image.lpips import _NoTrainLpips
from transformers import AutoImageProcessor, AutoModel, CLIPModel

from drift_pl.core.errors import UserError, named, naming
from drift_pl.core.locate import load_pretrained, locate
from drift_pl.core.signatures import Count
from drift_pl.functional.spread import PairSpread
from drift_pl.scoring.calls import row_per_image
from drift_pl.scoring.pixels import processed
from drift_pl.scoring.protocol import Encoder, move
from drift_pl.scoring.weight_files import whole

LPIPS_BACKBONES = ("alex", "vgg", "squeeze")


class PooledEncoder:
    """A transformers vision model whose pooled output is the embedding: DINOv2, DINOv3, ConvNeXt, ResNet, ViT.

    Args:
        pretrained: hub id, folder or pkg:PACKAGE/FOLDER with a model and its image processor.
        batch_size: images per forward pass.

    Raises:
        UserError: `pretrained` cannot be loaded.
    """

    def __init__(self, pretrained: str = "facebook/dinov2-base", batch_size: Count = 64) -> None:
        with naming(".args.pretrained"):
            self.model = load_pretrained(whole(AutoModel), pretrained)
            self.processor = load_pretrained(AutoImageProcessor.from_pretrained, pretrained)
        self.model.requires_grad_(False).eval().float()
        self.batch_size = batch_size

    @torch.no_grad()
    def __call__(self, images_B3HW: Tensor) -> Tensor:
        """Unit embeddings, float32 [B, D], of images in [0, 1] rounded to 8 bits (as the processor is defined)."""
        with torch.autocast(images_B3HW.device.type, enabled=False):
            return torch.cat([self._embed(part) for part in images_B3HW.split(self.batch_size)])

    def to(self, device: torch.device | str) -> "PooledEncoder":
        self.model.to(device)
        return self

    def _embed(self, images_B3HW: Tensor) -> Tensor:
        inputs = processed(self.processor, images_B3HW)
        pooled = self.model(inputs["pixel_values"].to(self.model.device)).pooler_output
        return normalize(pooled.flatten(1), dim=-1)


class ClipEncoder(PooledEncoder):
    """Projected image features of a CLIPModel (CLIP, PickScore and other models of this format).

    Args:
        pretrained: hub id, folder or pkg:PACKAGE/FOLDER of a CLIPModel.
        processor: the same for its image processor; None for the model's own.
        batch_size: images per forward pass.

    Raises:
        UserError: `pretrained` or `processor` cannot be loaded.
    """

    def __init__(
        self, pretrained: str = "openai/clip-vit-large-patch14", processor: str | None = None, batch_size: Count = 64
    ) -> None:
        with naming(".args.pretrained"):
            self.model = load_pretrained(whole(CLIPModel), pretrained)
        with naming(".args.processor"):
            self.processor = load_pretrained(AutoImageProcessor.from_pretrained, processor or pretrained)
        self.model.requires_grad_(False).eval().float()
        self.batch_size = batch_size

    def _embed(self, images_B3HW: Tensor) -> Tensor:
        inputs = processed(self.processor, images_B3HW)
        features = self.model.get_image_features(inputs["pixel_values"].to(self.model.device))
        return normalize(features.pooler_output, dim=-1)


class CombinedEncoder:
    """Combines encoders, so that images differ if any of the encoders separates them.

    The embedding concatenates the parts' unit embeddings e_k, each scaled by sqrt(w_k / sum_k w_k). It has unit length,
    and its cosine kernel is the weighted mean of the parts' kernels:

        <e(x), e(y)> = sum_k w_k <e_k(x), e_k(y)> / sum_k w_k.

    Args:
        encoders: pairs (encoder, weight), at least one. Only the ratios of the weights matter.

    Raises:
        UserError: there is no encoder, or a weight is not a positive number.
    """

    def __init__(self, encoders: Sequence[tuple[Encoder, float]]) -> None:
        if not encoders:
            raise UserError("incentive.shaping.encoders is empty; name at least one encoder, with a weight such as 1.0")
        for place, (_, weight) in enumerate(encoders):
            if not (math.isfinite(weight) and weight > 0):
                raise UserError(
                    f"incentive.shaping.encoders.{place}.weight={weight}: a weight must be positive, such as 1.0"
                )
        self.encoders = tuple(encoder for encoder, _ in encoders)
        total = sum(weight for _, weight in encoders)
        self.scales = tuple(math.sqrt(weight / total) for _, weight in encoders)

    @torch.no_grad()
    def __call__(self, images_B3HW: Tensor) -> Tensor:
        """Unit embeddings, float32 [B, D], D the sum over the parts, of images in [0, 1]."""
        parts = []
        for place, (encoder, scale) in enumerate(zip(self.encoders, self.scales, strict=True)):
            embedding_BD = row_per_image(f"incentive.shaping.encoders.{place}", encoder, images_B3HW)
            parts.append(scale * normalize(embedding_BD.float(), dim=-1))
        return torch.cat(parts, dim=-1)

    def to(self, device: torch.device | str) -> "CombinedEncoder":
        for encoder in self.encoders:
            move(encoder, device)
        return self


class LpipsEncoder:
    """LPIPS (arXiv 1801.03924) of all pairs of a set from one forward pass per image.

    The distance is a sum over layers of mean squared differences of weighted unit features, so it is the
    squared Euclidean distance between one long feature vector per image.

    Args:
        pretrained: `alex`, `vgg` or `squeeze` (torchmetrics' network, whose backbone torchvision downloads), or a
            folder with `config.json` ({"net": ..., "resize": pixels or null}) and `model.safetensors`.
        batch_size: images per forward pass.

    Raises:
        UserError: `pretrained` cannot be loaded.
    """

    def __init__(self, pretrained: str = "alex", batch_size: Count = 64) -> None:
        self.resize: int | None = None
        with naming(".args.pretrained"):
            if pretrained in LPIPS_BACKBONES:
                self.net = load_pretrained(lambda name: _NoTrainLpips(net=name), pretrained)
            else:
                self._load_folder(Path(locate(pretrained)))
        self.net.requires_grad_(False).eval()
        self.batch_size = batch_size

    def __call__(self, images_S3HW: Tensor) -> Tensor:
        """LPIPS of all pairs, float64 [S, S], of images in [0, 1]."""
        vectors_SD = self.features(images_S3HW).double()
        norm_S = vectors_SD.square().sum(-1)
        squared_SS = norm_S[:, None] + norm_S[None, :] - 2 * vectors_SD @ vectors_SD.T
        return squared_SS.clamp(min=0).fill_diagonal_(0)

    @torch.no_grad()
    def mean_distance(self, images_S3HW: Tensor) -> Tensor:
        """Mean LPIPS of all pairs, float64, 0-dimensional, of at least two images in [0, 1].

        Linear in S, and in the memory of one batch; see `PairSpread` for its error.
        """
        spreads = [PairSpread() for _ in self.net.lins]
        for part in images_S3HW.split(self.batch_size):
            for spread, unit_BCHW in zip(spreads, self._unit_maps(part), strict=True):
                spread.add(unit_BCHW)
        layers = zip(spreads, self._weights, strict=True)
        return torch.stack([spread.mean_over_pairs() @ weight_C.double() for spread, weight_C in layers]).sum()

    def to(self, device: torch.device | str) -> "LpipsEncoder":
        self.net.to(device)
        return self

    def _load_folder(self, folder: Path) -> None:
        def load(location: str) -> _NoTrainLpips:
            config = json.loads((Path(location) / "config.json").read_text(encoding="utf-8"))
            net = _NoTrainLpips(net=config["net"], pnet_rand=True)
            net.load_state_dict(load_file(Path(location) / "model.safetensors"))
            self.resize = config["resize"]
            return net

        self.net = load_pretrained(load, str(folder))
        if any((layer.model[-1].weight < 0).any() for layer in self.net.lins):
            raise UserError(f"{named(folder)}: its linear layers must not be negative")

    @property
    def _weights(self) -> list[Tensor]:
        """Of each layer's channels, [C], before the mean over positions."""
        return [linear.model[-1].weight.flatten() for linear in self.net.lins]

    @torch.no_grad()
    def features(self, images_B3HW: Tensor) -> Tensor:
        """Vectors whose squared Euclidean distance is LPIPS: float32 [B, D]."""
        return torch.cat([self._feature_rows(part) for part in images_B3HW.split(self.batch_size)])

    def _feature_rows(self, images_B3HW: Tensor) -> Tensor:
        parts = []
        for unit_BCHW, weight_C in zip(self._unit_maps(images_B3HW), self._weights, strict=True):
            area = unit_BCHW.shape[-2] * unit_BCHW.shape[-1]
            parts.append((unit_BCHW * (weight_C[:, None, None] / area).sqrt()).flatten(1))
        return torch.cat(parts, dim=1)

    def _unit_maps(self, images_B3HW: Tensor) -> list[Tensor]:
        """Each layer's features of unit length in every position, float32 [B, C, H, W]."""
        with torch.autocast(images_B3HW.device.type, enabled=False):
            images = images_B3HW.float() * 2 - 1
            if self.resize is not None:
                images = interpolate(images, size=(self.resize, self.resize), mode="bilinear", antialias=True)
            return [_unit_length(output) for output in self.net.net(self.net.scaling_layer(images))]


def _unit_length(output_BCHW: Tensor) -> Tensor:
    """Features divided by their length in every position, in place; 1e-8 as in LPIPS's own code."""
    length_B1HW = output_BCHW.square().sum(1, keepdim=True).add_(1e-8).sqrt_()
    return output_BCHW.div_(length_B1HW)
