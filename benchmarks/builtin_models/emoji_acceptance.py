"""Acceptance test of the emoji world: `python benchmarks/builtin_models/emoji_acceptance.py`.

Prints one table and writes it to `weights/acceptance.json` and into the model card. What the reader is tried on is not
what it compares with: shifts by parts of a pixel, changes of size, reconstructions, samples.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from acceptance import Row, conclude
from acceptance_samples import load_pipeline, sample_images
from diffusers import AutoencoderKL
from emoji_pool import broken_images
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc
from training_autoencoder import reconstruct
from training_denoiser import tokenize
from training_encoders import embed_images
from training_preference import score
from transformers import AutoModel, CLIPModel, CLIPProcessor

from drift_pl.builtin.emoji import PROMPTS, WEIGHTS
from drift_pl.builtin.emoji.captions import parse, phrase
from drift_pl.builtin.emoji.pictures import load_pictures
from drift_pl.builtin.emoji.reader import PictogramMeasure, PictogramReader
from drift_pl.builtin.emoji.things import STYLES, THINGS
from drift_pl.scoring.encoders import LpipsEncoder

CARD_GUIDANCE, SAMPLING_STEPS, SEED = 2.0, 20, 90_001
SHOWN = 4
"""Repetitions of every picture, each with its own shift, in the rows about the reader."""


def moved(images_B3HW: Tensor, generator: torch.Generator) -> Tensor:
    """Half of them mirrored, each shifted by up to 2 pixels and resized by up to 5 %, none by whole pixels."""
    count = len(images_B3HW)
    flip_B = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    size_B = 1.0 + 0.1 * (torch.rand(count, generator=generator) - 0.5)
    affine_B23 = torch.zeros(count, 2, 3)
    affine_B23[:, 0, 0], affine_B23[:, 1, 1] = flip_B * size_B, size_B
    affine_B23[:, :, 2] = (4.0 * torch.rand(count, 2, generator=generator) - 2.0) * 2.0 / images_B3HW.shape[3]
    grid = F.affine_grid(affine_B23, list(images_B3HW.shape), align_corners=False)
    return 1.0 - F.grid_sample(1.0 - images_B3HW, grid, align_corners=False)


@torch.no_grad()
def reader_rows(weights: Path) -> Iterator[Row]:
    """The reader on moved pictures, on reconstructions of them, and on images that show nothing."""
    generator, reader = torch.Generator().manual_seed(SEED), PictogramReader()
    pictures = load_pictures()
    images_B3HW = moved(pictures.flatten(0, 1).repeat(SHOWN, 1, 1, 1), generator)
    thing_B = torch.arange(len(THINGS)).repeat_interleave(len(STYLES)).repeat(SHOWN)
    style_B = torch.arange(len(STYLES)).repeat(len(THINGS) * SHOWN)

    def right(images_B3HW: Tensor) -> float:
        reading = reader(images_B3HW)
        agree_B = (reading.thing_B == thing_B) & (reading.style_B == style_B) & reading.readable_B
        return agree_B.double().mean().item()

    note = f"thing and style, {len(images_B3HW)} images"
    yield Row("reader right on moved pictures", right(images_B3HW), 0.97, note)
    autoencoder = AutoencoderKL.from_pretrained(weights / "pipeline" / "vae").float().eval()
    rebuilt_B3HW = torch.cat([reconstruct(autoencoder, part) for part in images_B3HW.split(200)])
    yield Row("reader right on reconstructions of them", right(rebuilt_B3HW), 0.95, note)
    error = (2.0 * (rebuilt_B3HW - images_B3HW)).square().mean().item()
    yield Row("reconstruction error", error, None, "mean squared, on [-1, 1]")
    names = (
        "blends of two",
        "blends of latents",
        "noise as latents",
        "noise on latents",
        "two halves",
        "blobs",
        "flat",
    )
    for name, part in zip(names, broken_images(autoencoder, 7 * 300, generator).split(300), strict=True):
        unreadable = 1.0 - reader(part).readable_B.double().mean().item()
        yield Row(f"unreadable: {name}", unreadable, 0.90 if name in ("noise as latents", "blobs", "flat") else None)


def sample_rows(weights: Path, images: int, guidances: tuple[float, ...], device: str = "cpu") -> Iterator[Row]:
    """Alignment and styles of samples for all prompts that name a thing, and for the groups."""
    pipeline, measure = load_pipeline(weights), PictogramMeasure()
    pipeline.to(device, dtype=torch.float32)
    named = [phrase(thing) for thing in THINGS]
    groups = [text for text in (PROMPTS / "test.txt").read_text().splitlines() if not parse(text).names_one_thing]
    draw = partial(sample_images, steps=SAMPLING_STEPS)
    for guidance in guidances:
        bar, count = (0.80, images) if guidance == CARD_GUIDANCE else (None, min(images, 16))
        label, note = f"samples, guidance {guidance:g}", f"{len(named)} things x {count} images"
        found = [
            measure(draw(pipeline, text, count, guidance, seed=SEED + 1000 * number)[None], [text])
            for number, text in enumerate(named)
        ]
        alignment, styles = (torch.cat([each[name] for each in found]) for name in ("alignment", "styles"))
        yield Row(f"{label}: readable and on prompt", alignment.mean().item(), bar, note)
        yield Row(f"{label}: things above one half", (alignment > 0.5).double().mean().item(), None, note)
        data = data_styles(count)
        both = f"{styles.mean():.2f} / {data:.2f}; {note}"
        yield Row(f"{label}: styles / data's", styles.mean().item() / data, bar and 0.85, both)
        if bar:
            wide = [
                measure(draw(pipeline, text, count, guidance, seed=SEED + 77 + 1000 * number)[None], [text])
                for number, text in enumerate(groups)
            ]
            means = {name: torch.cat([each[name] for each in wide]).mean().item() for name in wide[0]}
            note = f"{len(groups)} open prompts; styles {means['styles']:.2f}, things {means['things']:.2f}"
            yield Row(f"{label}: open prompts, on prompt", means["alignment"], None, note)


def data_styles(count: int, repetitions: int = 2000) -> float:
    """The effective number of styles that as many pictures of a thing show, drawn with equal probability."""
    draws = torch.randint(len(STYLES), (repetitions, count), generator=torch.Generator().manual_seed(SEED))
    share = F.one_hot(draws, len(STYLES)).double().mean(1)
    return torch.special.entr(share).sum(1).exp().mean().item()


@torch.no_grad()
def judge_rows(weights: Path, count: int = 1000) -> Iterator[Row]:
    """How often the preference model scores a picture of what the prompt names above one of another thing."""
    generator = torch.Generator().manual_seed(SEED)
    folder = weights / "preference"
    model = CLIPModel.from_pretrained(folder).float().eval()
    processor = CLIPProcessor.from_pretrained(folder)
    pictures = load_pictures()
    thing_B = torch.randint(len(THINGS), (count,), generator=generator)
    other_B = (thing_B + torch.randint(1, len(THINGS), (count,), generator=generator)) % len(THINGS)
    style_B, free_B = (torch.randint(len(STYLES), (count,), generator=generator) for _ in range(2))
    texts = [phrase(list(THINGS)[thing]) for thing in thing_B.tolist()]
    ids = tokenize(processor.tokenizer, texts)

    def scores(images_B3HW: Tensor) -> Tensor:
        parts = zip(moved(images_B3HW, generator).split(100), ids.split(100), strict=True)
        return torch.cat([score(model, images, tokens).diagonal() for images, tokens in parts])

    on_B = scores(pictures[thing_B, style_B])
    for name, style in (("same style", style_B), ("any style", free_B)):
        above = (on_B > scores(pictures[other_B, style])).double().mean().item()
        yield Row(f"judge: on prompt above another thing, {name}", above, 0.95, f"{count} pairs")


@torch.no_grad()
def encoder_rows(weights: Path, count: int = 1500) -> Iterator[Row]:
    """Whether distances separate the same picture from another style of its thing, and a thing from another one."""
    generator, pictures = torch.Generator().manual_seed(SEED + 1), load_pictures()
    thing_B = torch.randint(len(THINGS), (count,), generator=generator)
    style_B = torch.randint(len(STYLES), (count,), generator=generator)
    other_thing_B = (thing_B + torch.randint(1, len(THINGS), (count,), generator=generator)) % len(THINGS)
    other_style_B = (style_B + torch.randint(1, len(STYLES), (count,), generator=generator)) % len(STYLES)
    first = moved(pictures[thing_B, style_B], generator)
    pairs = {
        "same": moved(pictures[thing_B, style_B], generator),
        "style": moved(pictures[thing_B, other_style_B], generator),
        "thing": moved(pictures[other_thing_B, style_B], generator),
    }
    for name in ("shaping_encoder", "evaluation_encoder", "lpips"):
        distance = distances(weights / name)
        found = {kind: distance(first, second) for kind, second in pairs.items()}
        for kind, what in (("style", "other style"), ("thing", "other thing")):
            value = torch.cat([found["same"], found[kind]])
            auc = binary_auroc(value, torch.arange(len(value)) >= count).item()
            yield Row(f"{name}: AUC, {what}", auc, None if name == "lpips" else 0.90, f"{count} pairs each")


def distances(folder: Path):  # noqa: ANN201
    """(images, images) -> distance of each pair by the encoder, or the LPIPS, of a folder."""
    if folder.name == "lpips":
        lpips = LpipsEncoder(str(folder))
        return lambda a, b: torch.cat(
            [
                (lpips.features(x) - lpips.features(y)).square().sum(1)
                for x, y in zip(a.split(100), b.split(100), strict=True)
            ]
        )
    encoder = AutoModel.from_pretrained(folder).float().eval()
    return lambda a, b: 1.0 - (embed_images(encoder, a) * embed_images(encoder, b)).sum(1)


def main(arguments: list[str] | None = None) -> int:
    """Run the checks; the exit status is 1 if a threshold is missed."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/builtin_models/emoji_acceptance.py", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--samples", type=int, default=64, help="images per prompt (%(default)s)")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder of the models (%(default)s)")
    parser.add_argument("--only", choices=("reader", "samples", "judges"), help="one part; nothing is written")
    parser.add_argument("--guidances", type=float, nargs="+", default=[1.0, 1.5, CARD_GUIDANCE, 3.0])
    parser.add_argument("--device", default="cpu", help="where samples are drawn (%(default)s)")
    options = parser.parse_args(arguments)
    if options.samples < 2:
        parser.error(f"--samples must be at least 2, not {options.samples}")
    rows: list[Row] = []
    if options.only in (None, "reader"):
        rows += reader_rows(options.weights)
    if options.only in (None, "judges"):
        rows += [*judge_rows(options.weights), *encoder_rows(options.weights)]
    if options.only in (None, "samples"):
        rows += sample_rows(options.weights, options.samples, tuple(options.guidances), options.device)
    return conclude(rows, options.weights if options.only is None else None)


if __name__ == "__main__":
    raise SystemExit(main())
