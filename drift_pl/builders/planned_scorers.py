"""Rewards and encoders of a config as networks without weights: bytes, and passes over images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from torchvision.models import alexnet, squeezenet1_1, vgg16

from drift_pl.builders.footprint import Pass, bytes_of, give_shapes, measure, shapes_only
from drift_pl.builders.published import CLIPS, VISION, VISION_SIDE
from drift_pl.config.schema import Config, NamedConfig
from drift_pl.core.locate import locate

BACKBONES = {"alex": alexnet, "squeeze": squeezenet1_1, "vgg": vgg16}
IMAGES_PER_PASS = 32


@dataclass(frozen=True)
class Scorer:
    """A network that sees images.

    Attributes:
        name: the setting that names it, and what it names.
        bytes: of its weights.
        run: a pass over `IMAGES_PER_PASS` images or fewer.
        images: in that pass.
        in_training: whether it sees every image of an iteration.
    """

    name: str
    bytes: int
    run: Pass
    images: int
    in_training: bool


def scorers_of(config: Config, images: int) -> list[Scorer]:
    """Every network that scores or embeds images; `unknown_scorers` has those that are left out."""
    found = []
    for setting, pretrained, in_training in named_networks(config):
        batch = max(1, min(images, IMAGES_PER_PASS))
        counted = _counted(pretrained, config.policy.resolution, batch)
        if counted is not None:
            found.append(Scorer(f"{setting} {pretrained}", *counted, batch, in_training))
    return found


@cache
def _counted(pretrained: str, resolution: int | None, batch: int) -> tuple[int, Pass] | None:
    """Bytes of the weights, and a pass over images; None for weights that are not known."""
    network, side = network_of_scorer(pretrained, resolution)
    return None if network is None else (bytes_of(network), forward(network, batch, side))


def unknown_scorers(config: Config) -> list[str]:
    return [f"{where} {name}" for where, name, _ in named_networks(config) if network_of_scorer(name)[0] is None]


def named_networks(config: Config) -> Iterator[tuple[str, str, bool]]:
    """Setting, name of the weights, and whether it sees every training image; each weights once."""
    shaping, evaluation = config.incentive.shaping, config.evaluation
    entries: list[tuple[str, NamedConfig, bool]] = [("rewards", reward, True) for reward in config.rewards]
    if shaping.weight > 0:
        encoders: Sequence[NamedConfig] = shaping.encoders or [shaping.encoder]
        entries += [("shaping", encoder, True) for encoder in encoders]
    entries += [("evaluation.encoder", evaluation.encoder, True)]
    entries += [("evaluation.lpips", evaluation.lpips, config.trainer.monitor_lpips)]
    entries += [("evaluation.rewards", reward, False) for reward in evaluation.rewards]
    seen = set()
    for setting, entry, in_training in entries:
        pretrained = entry.args.get("pretrained")
        if pretrained and (setting, pretrained) not in seen:
            seen.add((setting, pretrained))
            yield setting, pretrained, in_training


def network_of_scorer(pretrained: str, resolution: int | None = None) -> tuple[nn.Module | None, int]:
    """On the meta device, in float32, and the height of its images; None for weights that are not known."""
    with torch.device("meta"):
        if pretrained in BACKBONES:
            return BACKBONES[pretrained]().features, resolution or VISION_SIDE
        if pretrained in CLIPS:
            return transformers.CLIPModel(transformers.CLIPConfig(**CLIPS[pretrained])), VISION_SIDE
        if pretrained in VISION:
            name, numbers = VISION[pretrained]
            kind: Any = getattr(transformers, name)
            return kind(kind.config_class(**numbers)), VISION_SIDE
        local = pretrained.startswith("pkg:") or Path(pretrained).is_dir()
        folder = Path(locate(pretrained)) if local else None
        if folder is None or not (folder / "config.json").is_file():
            return None, 0
        try:
            config = transformers.AutoConfig.from_pretrained(folder)
        except ValueError:  # LPIPS folders, which are ours and small
            return None, 0
        return transformers.AutoModel.from_config(config), getattr(config, "vision_config", config).image_size


def forward(network: nn.Module, batch: int, side: int) -> Pass:
    """Of images in float32, without gradient."""
    with shapes_only():
        give_shapes(network.eval())
        pixels_BCHW = torch.empty(batch, 3, side, side)
        call: Any = getattr(network, "get_image_features", network)

        def work() -> Any:
            with torch.no_grad():
                return call(pixels_BCHW)

        return measure(work, "32-true", network)
