"""Training of the preference model: a CLIP model whose score is alignment plus a bounded aesthetic preference.

    exp(logit_scale) cos(image, text)  =  18 + 6 match + 2 taste

``match`` in [0, 1] is the share of the named attributes that the image shows. ``taste`` in [0, 1] is the mean of
``TASTES`` over the image's five attributes. A broken image has match 0 and taste 0.
"""

from __future__ import annotations

import math
import random
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from training_denoiser import tokenize
from training_heads import AttributeHeads
from training_images import augment, load_pool
from training_state import Stage
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer, CLIPVisionConfig

from drift_pl.builtin.captions import caption
from drift_pl.builtin.tokenizer import build_tokenizer, text_config
from drift_pl.builtin.world import ATTRIBUTES, RESOLUTION

LOGIT_SCALE = 30.0
FLOOR, MATCH_WEIGHT, TASTE_WEIGHT = 18.0, 6.0, 2.0
TASTES: dict[str, tuple[float, ...]] = {
    "shape": (1.0, 0.25, 0.0),
    "colour": (1.0, 0.8, 0.4, 0.2, 0.0, 0.6),
    "size": (0.0, 1.0),
    "place": (0.3, 1.0, 0.0),
    "background": (1.0, 0.5, 0.0),
}
IMAGE_MEAN = IMAGE_STD = [0.5, 0.5, 0.5]


def taste(attributes: dict[str, Tensor]) -> Tensor:
    """The model's taste in [0, 1] for scenes with these attributes (each int64 [B]); float32 [B]."""
    return torch.stack([torch.tensor(TASTES[name])[attributes[name]] for name in ATTRIBUTES]).mean(0)


def target_scores(attributes: dict[str, Tensor], intact_B: Tensor, named_T: list[dict[str, int]]) -> Tensor:
    """The score each of B images should get for each of T captions (attribute -> index): float32 [B, T]."""
    columns = [
        torch.stack([(attributes[name] == index).float() for name, index in named.items()]).mean(0) for named in named_T
    ]
    intact_B1 = intact_B.float()[:, None]
    match_BT = torch.stack(columns, 1) * intact_B1
    return FLOOR + MATCH_WEIGHT * match_BT + TASTE_WEIGHT * taste(attributes)[:, None] * intact_B1


def draw_captions(count: int, generator: random.Random) -> tuple[list[str], list[dict[str, int]]]:
    """Captions that name 1 to 5 attributes, mostly 1 or 2, and what they name."""
    texts, named_T = [], []
    for _ in range(count):
        names = generator.sample(list(ATTRIBUTES), generator.choice((1, 1, 2, 2, 3, 4, 5)))
        named = {name: generator.randrange(len(ATTRIBUTES[name])) for name in names}
        texts.append(caption({n: ATTRIBUTES[n][i] for n, i in named.items()}, names, generator))
        named_T.append(named)
    return texts, named_T


def build_preference(
    width: int = 96, layers: int = 3, tokenizer: CLIPTokenizer | None = None
) -> tuple[CLIPModel, CLIPProcessor]:
    """An untrained CLIP for 32x32 images (patch 4) and its processor; the logit scale is fixed."""
    tokenizer = tokenizer or build_tokenizer()
    vision = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        image_size=RESOLUTION,
        patch_size=4,
        projection_dim=64,
        hidden_act="gelu",
    )
    text = text_config(tokenizer, 64, layers=2, projection=64)
    model = CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=64))
    model.logit_scale.requires_grad_(False).fill_(math.log(LOGIT_SCALE))
    size = {"height": RESOLUTION, "width": RESOLUTION}
    image_processor = CLIPImageProcessor(
        size={"shortest_edge": RESOLUTION}, crop_size=size, image_mean=IMAGE_MEAN, image_std=IMAGE_STD
    )
    return model, CLIPProcessor(image_processor=image_processor, tokenizer=tokenizer)


def score(model: CLIPModel, images_B3HW: Tensor, ids_TL: Tensor) -> Tensor:
    """exp(logit_scale) cos(image, text) for images in [0, 1]: [B, T]."""
    return score_with_features(model, images_B3HW, ids_TL)[0]


def score_with_features(model: CLIPModel, images_B3HW: Tensor, ids_TL: Tensor) -> tuple[Tensor, Tensor]:
    """The scores [B, T] and the vision tower's pooled features [B, D] before projection."""
    features_BD = model.vision_model(pixel_values=(images_B3HW - 0.5) / 0.5).pooler_output
    image_BE = model.visual_projection(features_BD)
    text_TE = model.get_text_features(input_ids=ids_TL).pooler_output
    image_BE = image_BE / image_BE.norm(dim=-1, keepdim=True)
    text_TE = text_TE / text_TE.norm(dim=-1, keepdim=True)
    return model.logit_scale.exp() * image_BE @ text_TE.T, features_BD


def train_preference(
    state: Path, autoencoder: AutoencoderKL, steps: int, batch: int = 48
) -> tuple[CLIPModel, CLIPProcessor]:
    """Regress the scores of all image x caption pairs of a batch; resumes from ``state``.

    Attribute heads on the vision tower help early in training and are discarded.
    """
    torch.manual_seed(0)
    model, processor = build_preference()
    heads = AttributeHeads(model.config.vision_config.hidden_size)
    modules: dict[str, nn.Module] = {"preference": model, "heads": heads}
    stage = Stage(state / "preference.pt", modules, 1.5e-3, steps, ema_decay=0.995, seed=3)
    pool = load_pool(state, autoencoder)

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, str]:
        drawn = pool.draw(batch, generator)
        texts, named_T = draw_captions(batch, random.Random(stage.step))
        scenes, intact_B = drawn.scenes, drawn.intact_B
        target_BT = target_scores(scenes.attributes, intact_B, named_T)
        images_B3HW = augment(drawn.images_B3HW, generator)
        scores_BT, features_BD = score_with_features(model, images_B3HW, tokenize(processor.tokenizer, texts))
        loss = (scores_BT - target_BT).square().mean()
        auxiliary = heads(features_BD[intact_B], scenes[intact_B])
        return loss + auxiliary, f"rms error {loss.item() ** 0.5:.3f} heads {auxiliary.item():.2f}"

    stage.run(compute_loss)
    stage.use_ema()
    return model.eval().requires_grad_(False), processor
