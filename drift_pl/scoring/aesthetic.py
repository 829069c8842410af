"""The LAION aesthetic predictor: a linear head on CLIP image features, trained on human ratings."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import AutoImageProcessor, CLIPImageProcessor, CLIPModel

from drift_pl.core.errors import UserError, named, naming
from drift_pl.core.locate import load_pretrained, locate
from drift_pl.core.signatures import Count, Positive
from drift_pl.scoring.pixels import processed
from drift_pl.scoring.weight_files import find_file, load_exactly, read_tensors, whole

HEAD = "trl-lib/ddpo-aesthetic-predictor"
HEAD_FILE = "aesthetic-model.pth"


class Aesthetic:
    """head(CLIP(image) / |CLIP(image)|) / normaliser, in float32; ordinary images score 5 to 6 of about 10.

    The improved-aesthetic-predictor (sac+logos+ava1-l14-linearMSE): linear layers 768-1024-128-64-16-1 without
    activations on the projected image features of OpenAI's ViT-L/14. The prompt is ignored.

    Args:
        pretrained: a CLIPModel (hub id, folder or pkg:PACKAGE/FOLDER), or a model name (`ViT-L/14`) or
            file (`./ViT-L-14.pt`) of the package clip.
        revision: branch, tag or commit of a CLIPModel on the hub.
        head: the head's .pth or .safetensors file, a folder or a hub id that contains `head_file`. The default is the
            author's sac+logos+ava1-l14-linearMSE.pth under another name.
        head_file: name of the head's file in the folder or on the hub.
        head_revision: branch, tag or commit of the head on the hub.
        normaliser: divisor of the score: 1 in DDPO and flow_grpo. With 10, scores are near 0.5 and comparable with
            other rewards in a weighted sum.
        batch_size: images per forward pass.

    Raises:
        UserError: `pretrained` or `head` cannot be loaded, or the two do not match.
    """

    def __init__(
        self,
        pretrained: str = "openai/clip-vit-large-patch14",
        revision: str | None = None,
        head: str = HEAD,
        head_file: str = HEAD_FILE,
        head_revision: str | None = None,
        normaliser: Positive = 1.0,
        batch_size: Count = 64,
    ) -> None:
        with naming(".args.pretrained"):
            self.features = _features(pretrained, revision)
        with naming(".args.head"):
            self.head = linear_head(read_tensors(find_file(head, head_file, head_revision)))
        if self.features.width != self.head[0].in_features:
            raise UserError(
                f"rewards.args.head={head} takes {self.head[0].in_features} features, and "
                f"rewards.args.pretrained={pretrained} has "
                f"{self.features.width}; the published head belongs to openai/clip-vit-large-patch14"
            )
        for network in (self.features, self.head):
            network.requires_grad_(False).eval().float()
        self.normaliser = normaliser
        self.batch_size = batch_size

    @torch.no_grad()
    def __call__(self, images_B3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        with torch.autocast(images_B3HW.device.type, enabled=False):
            scores = [
                self.head(normalize(self.features(part), dim=-1)).squeeze(-1)
                for part in images_B3HW.split(self.batch_size)
            ]
            return torch.cat(scores) / self.normaliser

    def to(self, device: torch.device | str) -> "Aesthetic":
        self.features.to(device)
        self.head.to(device)
        return self


def linear_head(tensors: dict[str, Tensor]) -> nn.Sequential:
    """Sequence of linear layers from the weights of `layers.N`, in the order of N; the last has one output.

    Missing N are dropout layers, which are inactive in evaluation. ImageReward has the same head.

    Args:
        tensors: `layers.N.weight` and `layers.N.bias`.

    Raises:
        UserError: the tensors do not form such a sequence.
    """
    numbers = sorted(int(found[1]) for name in tensors if (found := re.fullmatch(r"layers\.(\d+)\.weight", name)))
    sizes = [tuple(tensors[f"layers.{number}.weight"].shape) for number in numbers]
    chained = all(len(size) == 2 for size in sizes) and all(
        before[0] == after[1] for before, after in zip(sizes, sizes[1:], strict=False)
    )
    if not sizes or not chained or sizes[-1][0] != 1:
        raise UserError(
            f"{named()}: not a sequence of linear layers with one output: layers.N.weight are {sizes}; "
            "the published widths are 768, 1024, 128, 64, 16 and 1"
        )
    head = nn.Sequential(*(nn.Linear(inputs, outputs) for outputs, inputs in sizes))
    places = {f"layers.{number}": str(place) for place, number in enumerate(numbers)}
    by_layer = [(name.rpartition("."), tensor) for name, tensor in tensors.items()]
    load_exactly(head, {f"{places.get(stem, stem)}.{kind}": tensor for (stem, _, kind), tensor in by_layer})
    return head


class TransformersFeatures(nn.Module):
    """Projected image features of a CLIPModel, [B, width], of images in [0, 1] rounded to 8 bits."""

    def __init__(self, pretrained: str, revision: str | None) -> None:
        super().__init__()
        self.model = load_pretrained(partial(whole(CLIPModel), revision=revision), pretrained)
        loader = partial(AutoImageProcessor.from_pretrained, revision=revision)
        self.processor = load_pretrained(loader, pretrained)
        self.width = self.model.config.projection_dim

    def forward(self, images_B3HW: Tensor) -> Tensor:
        inputs = processed(self.processor, images_B3HW)
        return self.model.get_image_features(inputs["pixel_values"].to(self.model.device)).pooler_output


class ClipPackageFeatures(nn.Module):
    """The same for a model of the package clip, whose weights are published in float16."""

    def __init__(self, pretrained: str) -> None:
        super().__init__()
        import clip  # not at the top: importing it emits a warning

        def load(name: str) -> nn.Module:
            return clip.load(name, device="cpu")[0].visual

        self.model = load_pretrained(load, pretrained)
        side = self.model.input_resolution
        # CLIP's mean and standard deviation, bicubic resizing and centre crop are the defaults of this class
        self.processor = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
        self.width = self.model.output_dim

    def forward(self, images_B3HW: Tensor) -> Tensor:
        inputs = processed(self.processor, images_B3HW)
        return self.model(inputs["pixel_values"].to(self.model.conv1.weight.device))


def _features(pretrained: str, revision: str | None) -> TransformersFeatures | ClipPackageFeatures:
    if pretrained.startswith(("ViT-", "RN")) or Path(locate(pretrained)).is_file():
        return ClipPackageFeatures(pretrained)
    return TransformersFeatures(pretrained, revision)
