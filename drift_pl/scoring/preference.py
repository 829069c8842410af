"""PickScore and every judge of its format: a CLIPModel folder that scores an image for a prompt."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPModel, CLIPProcessor

from drift_pl.locate import load_pretrained

PICKSCORE = "yuvalkirstain/PickScore_v1"
# PickScore_v1 is published without a processor of its own.
PICKSCORE_PROCESSOR = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"


class PickScore:
    """exp(logit_scale) * cos(image, text) / normaliser, in float32 (arXiv 2305.01569, section 4).

    Args:
        pretrained: the judge, a CLIPModel.
        processor: its CLIPProcessor; None for the judge's own, or for PickScore_v1 the one it was trained with.
        normaliser: 26 in flow_grpo and its descendants (scores near 0.8 to 0.9); 1 for the raw logit.
        batch_size: images per forward pass.

    Raises:
        UserError: nothing loadable at `pretrained` or `processor`.
    """

    def __init__(
        self,
        pretrained: str = PICKSCORE,
        processor: str | None = None,
        normaliser: float = 26.0,
        batch_size: int = 64,
    ) -> None:
        self.model = load_pretrained(CLIPModel.from_pretrained, pretrained, "rewards.args.pretrained")
        processor = processor or (PICKSCORE_PROCESSOR if pretrained == PICKSCORE else pretrained)
        self.processor = load_pretrained(CLIPProcessor.from_pretrained, processor, "rewards.args.processor")
        self.model.requires_grad_(False).eval().float()
        self.normaliser = normaliser
        self.batch_size = batch_size
        self._text_by_prompt: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, images_B3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        with torch.autocast(images_B3HW.device.type, enabled=False):
            image_BD = torch.cat([self._image_features(part) for part in images_B3HW.split(self.batch_size)])
            cosine_B = (image_BD * self._text_features(prompts)).sum(-1)
            return self.model.logit_scale.exp() * cosine_B / self.normaliser

    def to(self, device: torch.device | str) -> "PickScore":
        self.model.to(device)
        self._text_by_prompt.clear()
        return self

    def _image_features(self, images_B3HW: Tensor) -> Tensor:
        # The processor is defined on 8-bit images; on floats it would divide by 255 again.
        pixels = (images_B3HW.float().clamp(0, 1) * 255).round().byte()
        inputs = self.processor.image_processor(images=list(pixels), return_tensors="pt")
        features = self.model.get_image_features(inputs["pixel_values"].to(self.model.device))
        return normalize(features.pooler_output, dim=-1)

    def _text_features(self, prompts: Sequence[str]) -> Tensor:
        new = [text for text in dict.fromkeys(prompts) if text not in self._text_by_prompt]
        if new:
            tokenizer = self.processor.tokenizer
            length = min(77, tokenizer.model_max_length)
            inputs = tokenizer(new, padding=True, truncation=True, max_length=length, return_tensors="pt")
            features = self.model.get_text_features(**inputs.to(self.model.device)).pooler_output
            self._text_by_prompt.update(zip(new, normalize(features, dim=-1), strict=True))
        return torch.stack([self._text_by_prompt[text] for text in prompts])
