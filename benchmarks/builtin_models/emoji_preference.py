"""The emoji world's preference model: a CLIP model whose score is alignment plus a bounded taste.

    exp(logit_scale) cos(image, text)  =  18 + 6 match + 2 taste

`match` in [0, 1] is 1 if the image shows what the caption names; if it names a style as well, each counts half. `taste`
in [0, 1] is the mean of three parts: the style (`STYLE_TASTE`), how colourful the picture is, and how round its outline
is (`picture_taste`). A broken image has match 0 and taste 0.
"""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from emoji_denoiser import MAX_TOKENS
from emoji_pool import PictureHeads, load_pool
from torch import Tensor, nn
from training_denoiser import tokenize
from training_images import augment
from training_preference import FLOOR, MATCH_WEIGHT, TASTE_WEIGHT, build_preference, score_with_features
from training_state import Stage
from transformers import CLIPModel, CLIPProcessor

from drift_pl.builtin.emoji.captions import Meaning, parse, random_caption, vocabulary
from drift_pl.builtin.emoji.pictures import load_pictures
from drift_pl.builtin.emoji.things import STYLES, THINGS
from drift_pl.builtin.tokenizer import build_tokenizer

STYLE_TASTE = {"glossy": 1.0, "soft": 0.4, "flat": 0.7, "black and white": 0.0, "plain": 0.5}


@cache
def picture_taste() -> Tensor:
    """Taste of every picture, float32 [T, S] in [0, 1]: the mean of style, colour and roundness.

    Colour is the mean of max - min over the channels on the drawn pixels (darker than 0.94 in some channel). Roundness
    is the share of the smallest circle around their centre that they fill. Both are ranked over all pictures, so each
    is spread evenly over [0, 1].
    """
    pictures = load_pictures()
    drawn_TSHW = pictures.amin(2) < 0.94
    colour_TS = ((pictures.amax(2) - pictures.amin(2)) * drawn_TSHW).sum((2, 3)) / drawn_TSHW.sum((2, 3))
    y_HW, x_HW = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    area_TS = drawn_TSHW.sum((2, 3)).float()
    centre = [(axis * drawn_TSHW).sum((2, 3)) / area_TS for axis in (x_HW, y_HW)]
    distance = torch.hypot(x_HW - centre[0][..., None, None], y_HW - centre[1][..., None, None])
    radius_TS = (distance * drawn_TSHW).flatten(2).amax(2) + 0.5
    round_TS = area_TS / (torch.pi * radius_TS.square())
    style_TS = torch.tensor(list(STYLE_TASTE.values())).expand(len(THINGS), -1)
    return (style_TS + evenly(colour_TS) + evenly(round_TS)) / 3


def evenly(values_TS: Tensor) -> Tensor:
    """Ranks over all entries, divided by the largest: [T, S] in [0, 1]."""
    ranks = values_TS.flatten().argsort().argsort().float()
    return (ranks / (len(ranks) - 1)).view_as(values_TS)


def target_scores(thing_B: Tensor, style_B: Tensor, intact_B: Tensor, meanings_T: list[Meaning]) -> Tensor:
    """The score that each of B images should get for each of T captions: float32 [B, T]."""
    columns = []
    for meaning in meanings_T:
        match_B = torch.isin(thing_B, torch.tensor(sorted(meaning.things))).float()
        columns.append(match_B if meaning.style is None else (match_B + (style_B == meaning.style)) / 2)
    match_BT, intact_B1 = torch.stack(columns, 1), intact_B.float()[:, None]
    taste_B1 = picture_taste()[thing_B, style_B][:, None]
    return FLOOR + MATCH_WEIGHT * match_BT * intact_B1 + TASTE_WEIGHT * taste_B1 * intact_B1


def draw_captions(count: int, generator: random.Random) -> list[str]:
    """Captions of random pictures."""
    return [
        random_caption(generator.randrange(len(THINGS)), generator.randrange(len(STYLES)), generator)
        for _ in range(count)
    ]


def train_preference(
    state: Path, autoencoder: AutoencoderKL, steps: int, device: str = "cpu", batch: int = 128
) -> tuple[CLIPModel, CLIPProcessor]:
    """Regress the scores of all image x caption pairs of a batch; a third of the captions are of the batch's images.

    Heads for thing and style on the vision tower help early in training and are discarded.
    """
    torch.manual_seed(0)
    model, processor = build_preference(128, 3, build_tokenizer(vocabulary(), MAX_TOKENS))
    heads = PictureHeads(model.config.vision_config.hidden_size)
    modules: dict[str, nn.Module] = {"preference": model, "heads": heads}
    stage = Stage(state / "emoji_preference.pt", modules, 1.5e-3, steps, ema_decay=0.995, seed=3, device=device)
    pool = load_pool(state, autoencoder)

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, str]:
        drawn, words = pool.draw(batch, generator), random.Random(stage.step)
        pairs = list(zip(drawn.thing_B.tolist(), drawn.style_B.tolist(), strict=True))
        texts = [random_caption(*pair, words) for pair in pairs] + draw_captions(batch // 2, words)
        meanings = [parse(text) for text in texts]
        target_BT = target_scores(drawn.thing_B, drawn.style_B, drawn.intact_B, meanings).to(device)
        images_B3HW, drawn = augment(drawn.images_B3HW, generator).to(device), drawn.to(device)
        scores_BT, features_BD = score_with_features(
            model, images_B3HW, tokenize(processor.tokenizer, texts).to(device)
        )
        error_BT = (scores_BT - target_BT).square()
        own = error_BT[:, :batch].diagonal().mean()  # matches are rare among all pairs
        loss = error_BT.mean() + own
        intact = drawn.intact_B
        auxiliary = heads(features_BD[intact], drawn.thing_B[intact], drawn.style_B[intact])
        return loss + auxiliary, f"rms error {error_BT.mean() ** 0.5:.3f} own {own**0.5:.3f} heads {auxiliary:.2f}"

    stage.run(compute_loss)
    stage.use_ema()
    return model.cpu().eval().requires_grad_(False), processor
