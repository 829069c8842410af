"""Rewards by a CLIPModel: PickScore and other models of its format."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPModel, CLIPProcessor

from drift_pl.core.errors import naming
from drift_pl.core.locate import load_pretrained, split_revision
from drift_pl.core.signatures import Count, Positive
from drift_pl.core.text_length import CutTexts, TextLimit
from drift_pl.scoring.pixels import processed
from drift_pl.scoring.weight_files import whole

PICKSCORE = "yuvalkirstain/PickScore_v1"
# PickScore_v1 is published without a processor.
PICKSCORE_PROCESSOR = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"


class ClipReward:
    """Image-text similarity by a CLIPModel; subclasses turn the cosine into a reward.

    Args:
        pretrained: hub id, folder or pkg:PACKAGE/FOLDER of a CLIPModel.
        processor: the same for its CLIPProcessor.
        batch_size: images per forward pass.
        revision: branch, tag or commit of `pretrained` on the hub, and of its processor if that is the same.

    Raises:
        UserError: `pretrained` or `processor` cannot be loaded.
    """

    padding: bool | str = True
    """How texts are padded: to the longest of them, or to `max_length`."""

    def __init__(self, pretrained: str, processor: str, batch_size: Count, revision: str | None = None) -> None:
        load_model = partial(whole(CLIPModel), revision=revision)
        with naming(".args.pretrained"):
            self.model = load_pretrained(load_model, pretrained)
        load_processor = partial(CLIPProcessor.from_pretrained, revision=revision if processor == pretrained else None)
        with naming(".args.processor"):
            self.processor = load_pretrained(load_processor, processor)
        self._begin(batch_size)

    def _begin(self, batch_size: Count) -> None:
        self.model.requires_grad_(False).eval().float()
        self.batch_size = batch_size
        self._text_by_prompt: dict[str, Tensor] = {}
        self._cut_texts = CutTexts(type(self).__name__)
        tokenizer = self.processor.tokenizer
        self._limit = TextLimit(min(77, tokenizer.model_max_length), tokenizer)

    def expect_prompts(self, prompts: Sequence[str]) -> None:
        """Warns, once, of prompts that are cut."""
        self._cut_texts.look(prompts, {"tokenizer": self._limit})

    @torch.no_grad()
    def cosine(self, images_B3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        """Cosine between each image's embedding and its prompt's, float32 [B]."""
        with torch.autocast(images_B3HW.device.type, enabled=False):
            image_BD = torch.cat([self._image_features(part) for part in images_B3HW.split(self.batch_size)])
            return (image_BD * self._text_features(prompts)).sum(-1)

    def to(self, device: torch.device | str) -> "ClipReward":
        self.model.to(device)
        self._text_by_prompt.clear()
        return self

    def _image_features(self, images_B3HW: Tensor) -> Tensor:
        inputs = processed(self.processor.image_processor, images_B3HW)
        features = self.model.get_image_features(
            **{name: value.to(self.model.device) for name, value in inputs.items()}
        )
        return normalize(features.pooler_output.float(), dim=-1)

    def _text_features(self, prompts: Sequence[str]) -> Tensor:
        new = [text for text in dict.fromkeys(prompts) if text not in self._text_by_prompt]
        if new:
            self.expect_prompts(new)
            length, tokenizer = self._limit.tokens, self._limit.tokenizer
            inputs = tokenizer(new, padding=self.padding, truncation=True, max_length=length, return_tensors="pt")
            features = self.model.get_text_features(**inputs.to(self.model.device)).pooler_output
            self._text_by_prompt.update(zip(new, normalize(features.float(), dim=-1), strict=True))
        return torch.stack([self._text_by_prompt[text] for text in prompts])


class PickScore(ClipReward):
    """exp(logit_scale) * cos(image, text) / normaliser, in float32 (arXiv 2305.01569, section 4).

    Args:
        pretrained: a CLIPModel.
        processor: its CLIPProcessor; None for the model's own, or for PickScore_v1 the one it was trained with.
        normaliser: 26 in flow_grpo and its descendants (scores near 0.8 to 0.9); 1 for the raw logit.
        batch_size: images per forward pass.
        revision: branch, tag or commit of `pretrained` on the hub.

    Raises:
        UserError: `pretrained` or `processor` cannot be loaded.
    """

    def __init__(
        self,
        pretrained: str = PICKSCORE,
        processor: str | None = None,
        normaliser: Positive = 26.0,
        batch_size: Count = 64,
        revision: str | None = None,
    ) -> None:
        own_processor = PICKSCORE_PROCESSOR if split_revision(pretrained)[0] == PICKSCORE else pretrained
        super().__init__(pretrained, processor or own_processor, batch_size, revision)
        self.normaliser = normaliser

    def __call__(self, images_B3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        return self.model.logit_scale.exp() * self.cosine(images_B3HW, prompts) / self.normaliser
