"""ImageReward: a BLIP model whose text encoder cross-attends to the image (arXiv 2304.05977)."""

import json
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import BertTokenizer, BlipTextConfig, BlipVisionConfig, BlipVisionModel, CLIPImageProcessor
from transformers.models.blip.modeling_blip_text import BlipTextModel

from drift_pl.core.errors import UserError, named, naming
from drift_pl.core.locate import first_line, load_pretrained
from drift_pl.core.signatures import Count, Positive
from drift_pl.core.text_length import CutTexts, TextLimit
from drift_pl.scoring.aesthetic import linear_head
from drift_pl.scoring.pixels import processed
from drift_pl.scoring.weight_files import find_file, load_exactly, read_tensors

CHECKPOINT = "ImageReward.pt"
TEXT_CONFIG = "med_config.json"
PROMPT_TOKENS = 35
# Mean and standard deviation of the raw score, from the published code.
SCORE_MEAN, SCORE_STD = 0.16717362830052426, 1.0333394966054072
# BLIP's ViTs, base and large, have heads of this width, which tensor shapes do not determine.
HEAD_WIDTH = 64

VISION_TOP = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj": "embeddings.patch_embedding",
    "norm": "post_layernorm",
}
VISION_BLOCK = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.qkv": "self_attn.qkv",
    "attn.proj": "self_attn.projection",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


class ImageReward:
    """(head(BLIP(image, prompt)) - mean) / std / normaliser, in float32; about standard normal on its training data.

    The text encoder's first token, after cross-attention to the image in every layer, goes through five linear layers
    (768-1024-128-64-16-1, no activations). Images: shorter side to 224 (bicubic, antialiased, on 8 bits), centre crop,
    CLIP's mean and standard deviation. Prompts: truncated to 35 tokens of bert-base-uncased.

    Args:
        pretrained: the published checkpoint: hub id, or a folder (or pkg:PACKAGE/FOLDER) with `ImageReward.pt` or
            `checkpoint`, and `med_config.json`, the text encoder's configuration.
        revision: branch, tag or commit of `pretrained` on the hub.
        checkpoint: name of the weight file there, .pt or .safetensors.
        tokenizer: a BertTokenizer; the published one is bert-base-uncased's.
        mean: mean of the raw score; the published one.
        std: standard deviation of the raw score; the published one.
        normaliser: divisor of the standardized score: 1 in flow_grpo, MixGRPO and DiffusionNFT.
        batch_size: images per forward pass.

    Raises:
        UserError: `pretrained` or `tokenizer` cannot be loaded.
    """

    def __init__(
        self,
        pretrained: str = "THUDM/ImageReward",
        revision: str | None = None,
        checkpoint: str = CHECKPOINT,
        tokenizer: str = "bert-base-uncased",
        mean: float = SCORE_MEAN,
        std: Positive = SCORE_STD,
        normaliser: Positive = 1.0,
        batch_size: Count = 32,
    ) -> None:
        find = partial(find_file, pretrained, revision=revision)
        with naming(".args.pretrained"):
            self.model = blip_from_published(find(checkpoint), find(TEXT_CONFIG))
        self.model.requires_grad_(False).eval().float()
        with naming(".args.tokenizer"):
            self.tokenizer = load_pretrained(BertTokenizer.from_pretrained, tokenizer)
        # BLIP's tokens for decoded and for image-grounded text; ImageReward puts neither before a prompt.
        self.tokenizer.add_tokens(["[DEC]", "[ENC]"], special_tokens=True)
        words = self.model.text.config.vocab_size
        if len(self.tokenizer) > words:
            raise UserError(
                f"rewards.args.tokenizer={tokenizer} has {len(self.tokenizer)} tokens and the text encoder {words}; "
                "the published one belongs to bert-base-uncased"
            )
        side = self.model.vision.config.image_size
        self.processor = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
        self.mean, self.std, self.normaliser = mean, std, normaliser
        self.batch_size = batch_size
        self._cut_texts = CutTexts(type(self).__name__)

    def expect_prompts(self, prompts: Sequence[str]) -> None:
        """Warns, once, of prompts that are cut."""
        self._cut_texts.look(prompts, {"tokenizer": TextLimit(PROMPT_TOKENS, self.tokenizer)})

    @torch.no_grad()
    def __call__(self, images_B3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        self.expect_prompts(prompts)
        with torch.autocast(images_B3HW.device.type, enabled=False):
            raw_B = torch.cat(
                [
                    self._raw(part, prompts[start : start + self.batch_size])
                    for start, part in zip(
                        range(0, len(prompts), self.batch_size), images_B3HW.split(self.batch_size), strict=True
                    )
                ]
            )
            return (raw_B - self.mean) / self.std / self.normaliser

    def to(self, device: torch.device | str) -> "ImageReward":
        self.model.to(device)
        return self

    def _raw(self, images_B3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        device = self.model.vision.device
        pixels = processed(self.processor, images_B3HW)["pixel_values"].to(device)
        text = self.tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=PROMPT_TOKENS, return_tensors="pt"
        ).to(device)
        return self.model(pixels, text["input_ids"], text["attention_mask"])


class BlipReward(nn.Module):
    """BLIP's image encoder, its image-grounded text encoder, and a linear head on the first token."""

    def __init__(self, vision: BlipVisionConfig, text: BlipTextConfig, head: nn.Sequential) -> None:
        super().__init__()
        self.vision = BlipVisionModel(vision)
        self.text = BlipTextModel(text, add_pooling_layer=False)
        self.head = head

    def forward(self, pixels_B3HW: Tensor, tokens_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Raw scores, [B]."""
        image_BND = self.vision(pixels_B3HW).last_hidden_state
        # is_decoder=False: attention in both directions; the cross-attention layers come with the configuration
        text_BLD = self.text(tokens_BL, mask_BL, encoder_hidden_states=image_BND, is_decoder=False).last_hidden_state
        return self.head(text_BLD[:, 0]).squeeze(-1)


def blip_from_published(checkpoint: Path, text_config: Path) -> BlipReward:
    """The model, built from the published checkpoint.

    Raises:
        UserError: the files are not those of such a model.
    """
    tensors = read_tensors(checkpoint)
    parts = {
        start: {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
        for start in ("blip.visual_encoder.", "blip.text_encoder.", "mlp.")
    }
    vision, text, head = parts.values()
    try:
        vision = {_vision_name(name): tensor for name, tensor in vision.items()}
        configs = _vision_config(vision), _text_config(text_config, vision)
        model = BlipReward(*configs, linear_head(head))
    except (KeyError, TypeError, ValueError, OSError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{named()}: {checkpoint} and {text_config.name} are not those of an ImageReward model "
            f"({type(error).__name__}: {first_line(error)}); give {CHECKPOINT} and {TEXT_CONFIG} of THUDM/ImageReward"
        ) from error
    load_exactly(model.vision, vision)
    # a buffer of older transformers; the rest of the checkpoint, two projections, only served pre-training
    text.pop("embeddings.position_ids", None)
    load_exactly(model.text, text)
    return model


def _vision_name(name: str) -> str:
    """Maps timm's name of a ViT tensor, as in the checkpoint, to transformers' name."""
    if name in VISION_TOP:
        return VISION_TOP[name]
    stem, _, kind = name.rpartition(".")
    if not stem.startswith("blocks."):
        return f"{VISION_TOP[stem]}.{kind}"
    layer, _, part = stem.removeprefix("blocks.").partition(".")
    return f"encoder.layers.{layer}.{VISION_BLOCK[part]}.{kind}"


def _vision_config(tensors: dict[str, Tensor]) -> BlipVisionConfig:
    """The image encoder's configuration, inferred from tensor shapes."""
    patch = tensors["embeddings.patch_embedding.weight"].shape[-1]
    _, positions, width = tensors["embeddings.position_embedding"].shape
    return BlipVisionConfig(
        hidden_size=width,
        intermediate_size=tensors["encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=sum(name.endswith("self_attn.qkv.weight") for name in tensors),
        num_attention_heads=max(1, width // HEAD_WIDTH),
        image_size=math.isqrt(positions - 1) * patch,
        patch_size=patch,
        hidden_act="gelu",
        layer_norm_eps=1e-6,
    )


def _text_config(path: Path, vision: dict[str, Tensor]) -> BlipTextConfig:
    """The text encoder's configuration: BERT's, with cross-attention to the image encoder."""
    published = json.loads(path.read_text(encoding="utf-8"))
    names = (
        *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
        *("max_position_embeddings", "hidden_act", "layer_norm_eps", "pad_token_id"),
    )
    return BlipTextConfig(
        **{name: published[name] for name in names},
        encoder_hidden_size=vision["embeddings.position_embedding"].shape[-1],
        is_decoder=True,  # transformers' switch for cross-attention layers
        bos_token_id=None,
        eos_token_id=None,
        sep_token_id=None,
    )
