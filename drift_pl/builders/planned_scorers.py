"""Rewards and encoders of a config as networks without weights: bytes, and passes over images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch import nn
from torchvision.models import alexnet, squeezenet1_1, vgg16

from drift_pl.builders.footprint import Pass, bytes_of, give_shapes, measure, shapes_only
from drift_pl.builders.published import CLIPS, VISION, VISION_SIDE
from drift_pl.config.schema import Config, NamedConfig, RewardConfig
from drift_pl.core.locate import locate
from drift_pl.scoring.placement import in_precision

BACKBONES = {"alex": alexnet, "squeeze": squeezenet1_1, "vgg": vgg16}
IMAGES_PER_PASS = 32


@dataclass(frozen=True)
class Scorer:
    """A network that sees images.

    Attributes:
        name: the setting that names it, and what it names.
        bytes: of its weights on the device of a process; 0 if it scores elsewhere.
        run: a pass over `IMAGES_PER_PASS` images or fewer; of videos, over the frames that it sees one after the other.
        images: images, or videos, in that pass.
        in_training: whether it sees every image of an iteration.
    """

    name: str
    bytes: int
    run: Pass
    images: int
    in_training: bool


class Named(NamedTuple):
    """A network that a config names.

    Attributes:
        setting, pretrained: which one, and its weights.
        in_training: whether it sees every training image.
        frames: of a video, that it sees.
        dtype, device: of a reward that has its own.
    """

    setting: str
    pretrained: str
    in_training: bool
    frames: int = 1
    dtype: str | None = None
    device: str | None = None


def scorers_of(config: Config, images: int) -> list[Scorer]:
    """Every network that scores or embeds images; `unknown_scorers` has those that are left out."""
    found = []
    for named in named_networks(config):
        batch = max(1, min(images, IMAGES_PER_PASS))
        counted = _counted(named.pretrained, config.policy.resolution, batch, named.dtype)
        if counted is None:
            continue
        size, run = counted
        name, copies = f"{named.setting} {named.pretrained}", copies_on_a_device(named.device, config)
        if named.dtype:
            name += f", {named.dtype}"
        if named.device:
            name += f", on {named.device}"
        run = run._replace(flops=run.flops * named.frames) if copies else Pass(0, 0, 0.0)
        found.append(Scorer(name, size * copies, run, batch, named.in_training))
    return found


def copies_on_a_device(device: str | None, config: Config) -> int:
    """How many processes keep a network on the fullest device that trains.

    Args:
        device: of a reward; None: where the process trains.
    """
    if device is None:
        return 1
    place, processes = torch.device(device), config.trainer.devices
    if place.type in ("cpu", "meta") or (place.index or 0) >= processes:
        return 0
    return 1 if place.index is None else processes


@cache
def _counted(pretrained: str, resolution: int | None, batch: int, dtype: str | None) -> tuple[int, Pass] | None:
    """Bytes of the weights, and a pass over images; None for weights that are not known."""
    network, side = network_of_scorer(pretrained, resolution)
    if network is None:
        return None
    if dtype is not None:
        in_precision(network, getattr(torch, dtype))
    return bytes_of(network), forward(network, batch, side)


def unknown_scorers(config: Config) -> list[str]:
    networks = named_networks(config)
    return [f"{each.setting} {each.pretrained}" for each in networks if network_of_scorer(each.pretrained)[0] is None]


def named_networks(config: Config) -> Iterator[Named]:
    """The networks of a config, each weights once for a setting."""
    shaping, evaluation, frames = config.incentive.shaping, config.evaluation, config.policy.frames
    rewarded = frames if config.policy.reward_frames == "mean" else 1
    entries: list[tuple[str, NamedConfig, bool, int]] = [("rewards", each, True, rewarded) for each in config.rewards]
    if shaping.weight > 0:
        encoders: Sequence[NamedConfig] = shaping.encoders or [shaping.encoder]
        entries += [("shaping", encoder, True, frames) for encoder in encoders]
    entries += [("evaluation.encoder", evaluation.encoder, True, frames)]
    entries += [("evaluation.lpips", evaluation.lpips, config.trainer.monitor_lpips, frames)]
    entries += [("evaluation.rewards", reward, False, frames) for reward in evaluation.rewards]
    seen = set()
    for setting, entry, in_training, number in entries:
        pretrained = entry.args.get("pretrained")
        if pretrained and (setting, pretrained) not in seen:
            seen.add((setting, pretrained))
            own = (entry.dtype, entry.device) if isinstance(entry, RewardConfig) else (None, None)
            yield Named(setting, pretrained, in_training, number, *own)


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
