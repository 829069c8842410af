"""Image-text similarity by SigLIP 2 (arXiv 2502.14786), or by SigLIP."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor
from transformers import AutoModel, AutoProcessor, SiglipModel

from drift_pl.core.errors import UserError, named, naming
from drift_pl.core.locate import load_pretrained
from drift_pl.core.signatures import Count, Positive
from drift_pl.core.text_length import TextLimit
from drift_pl.scoring.pickscore import ClipReward
from drift_pl.scoring.weight_files import whole

SIGLIP2 = "google/siglip2-base-patch16-224"


class Siglip2(ClipReward):
    """(exp(logit_scale) * cos(image, text) + logit_bias) / normaliser, in float32: the logit of "they belong together".

    The pooled text is the last token's, so texts are padded to the length that the model was trained with: 64 tokens in
    all published ones.

    Args:
        pretrained: a SiglipModel with its processor, by hub id, folder or pkg:PACKAGE/FOLDER: SigLIP, and SigLIP 2
            of one resolution (not its NaFlex variants).
        normaliser: divisor of the logit.
        batch_size: images per forward pass.
        revision: branch, tag or commit of `pretrained` on the hub.

    Raises:
        UserError: `pretrained` cannot be loaded, or is no SiglipModel.
    """

    padding = "max_length"

    def __init__(
        self,
        pretrained: str = SIGLIP2,
        normaliser: Positive = 1.0,
        batch_size: Count = 64,
        revision: str | None = None,
    ) -> None:
        with naming(".args.pretrained"):
            self.model = load_pretrained(partial(whole(AutoModel), revision=revision), pretrained)
            if not isinstance(self.model, SiglipModel):
                kind = type(self.model).__name__
                kind += " (a NaFlex variant)" if kind == "Siglip2Model" else ""
                raise UserError(f"{named(pretrained)} is a {kind}, and no SiglipModel: give e.g. {SIGLIP2}")
            self.processor = load_pretrained(partial(AutoProcessor.from_pretrained, revision=revision), pretrained)
        self._begin(batch_size)
        self._limit = TextLimit(self.model.config.text_config.max_position_embeddings, self.processor.tokenizer)
        self.normaliser = normaliser

    def __call__(self, images_B3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        scale, bias = self.model.logit_scale.exp(), self.model.logit_bias
        return (scale * self.cosine(images_B3HW, prompts) + bias) / self.normaliser
