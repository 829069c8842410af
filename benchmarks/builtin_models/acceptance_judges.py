"""Acceptance of the preference model and the encoders: ranking and rank correlation on scenes of known content."""

from __future__ import annotations

import random
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional import spearman_corrcoef
from training_denoiser import tokenize
from training_encoders import embed_images
from training_preference import score
from transformers import AutoModel, CLIPModel, CLIPProcessor

from drift_pl.builtin.captions import caption
from drift_pl.builtin.world import ATTRIBUTES, differing_attributes, render, sample_scenes, scenes_of
from drift_pl.scoring.encoders import LpipsEncoder


def changed(attributes: dict[str, Tensor], count_B: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """The attribute table with ``count_B[i]`` random attributes of scene i changed to another random value."""
    order_BA = torch.rand((len(count_B), len(ATTRIBUTES)), generator=generator).argsort(1).argsort(1)
    table = {}
    for column, (name, values) in enumerate(ATTRIBUTES.items()):
        shift_B = torch.randint(1, len(values), (len(count_B),), generator=generator)
        other_B = (attributes[name] + shift_B) % len(values)
        table[name] = torch.where(order_BA[:, column] < count_B, other_B, attributes[name])
    return table


def scene_pairs(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Image pairs that differ in 0 to 5 attributes, equally often: two [B, 3, H, W] and the number, int64 [B]."""
    first = sample_scenes(count, generator)
    differing_B = torch.randint(len(ATTRIBUTES) + 1, (count,), generator=generator)
    second = scenes_of(changed(first.attributes, differing_B, generator), generator)
    assert torch.equal(differing_attributes(first.attributes, second.attributes), differing_B)
    return render(first), render(second), differing_B


@torch.no_grad()
def spearman(folder: Path, seed: int, count: int = 1500) -> float:
    """Spearman correlation of an encoder's cosine distance with the number of differing attributes."""
    encoder = AutoModel.from_pretrained(folder).eval()
    first, second, differing_B = scene_pairs(count, torch.Generator().manual_seed(seed))
    similarity_B = torch.cat(
        [
            (embed_images(encoder, a) * embed_images(encoder, b)).sum(1)
            for a, b in zip(first.split(250), second.split(250), strict=True)
        ]
    )
    return spearman_corrcoef(1.0 - similarity_B, differing_B.float()).item()


@torch.no_grad()
def lpips_spearman(folder: Path, seed: int, count: int = 1000) -> float:
    """Spearman correlation of LPIPS with the number of differing attributes."""
    encoder = LpipsEncoder(str(folder))
    first, second, differing_B = scene_pairs(count, torch.Generator().manual_seed(seed))
    distances = [
        (encoder.features(a) - encoder.features(b)).square().sum(1)
        for a, b in zip(first.split(125), second.split(125), strict=True)
    ]
    return spearman_corrcoef(torch.cat(distances), differing_B.float()).item()


def broken(images_B3HW: Tensor, generator: torch.Generator) -> Tensor:
    """Images that show nothing readable, a quarter each: blends of two, coarse blobs, noise, flat colour."""
    quarter = len(images_B3HW) // 4
    coarse = torch.rand((quarter, 3, 4, 4), generator=generator)
    size = images_B3HW.shape[2:]
    return torch.cat(
        [
            0.5 * (images_B3HW[:quarter] + images_B3HW[quarter : 2 * quarter]),
            F.interpolate(coarse, size, mode="bicubic").clamp(0.0, 1.0),
            torch.rand((quarter, 3, *size), generator=generator),
            torch.rand((len(images_B3HW) - 3 * quarter, 3, 1, 1), generator=generator).expand(-1, -1, *size),
        ]
    )


@torch.no_grad()
def judge_ranking(folder: Path, seed: int, count: int = 1000) -> dict[str, float]:
    """How often the preference model scores an on-prompt image above another one.

    Prompts name one or two attributes. ``equal``: the other image differs from the first in one named attribute only;
    ``random``: its unnamed attributes are redrawn as well; ``broken``: it is unreadable.
    """
    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder)
    generator, words = torch.Generator().manual_seed(seed), random.Random(seed)
    scenes, free = sample_scenes(count, generator), sample_scenes(count, generator)
    off_equal = {name: values.clone() for name, values in scenes.attributes.items()}
    off_random = {name: values.clone() for name, values in free.attributes.items()}
    texts = []
    for i in range(count):
        names = words.sample(list(ATTRIBUTES), words.choice((1, 2)))
        shown = {name: ATTRIBUTES[name][scenes.attributes[name][i]] for name in ATTRIBUTES}
        texts.append(caption(shown, names, words))
        wrong = words.choice(names)
        shift = words.randrange(1, len(ATTRIBUTES[wrong]))
        for name in names:
            off_random[name][i] = scenes.attributes[name][i]
        for table in (off_equal, off_random):
            table[wrong][i] = (scenes.attributes[wrong][i] + shift) % len(ATTRIBUTES[wrong])
    ids = tokenize(processor.tokenizer, texts)

    def paired(images_B3HW: Tensor) -> Tensor:
        parts = zip(images_B3HW.split(100), ids.split(100), strict=True)
        return torch.cat([score(model, images, tokens).diagonal() for images, tokens in parts])

    on_B = paired(render(scenes))
    others = {
        "equal": render(scenes_of(off_equal, generator)),
        "random": render(scenes_of(off_random, generator)),
        "broken": broken(render(free), generator),
    }
    return {name: (on_B > paired(images)).double().mean().item() for name, images in others.items()}
