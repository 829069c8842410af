"""CLIPScore: image-text similarity by a general-purpose CLIP model."""

from collections.abc import Sequence

from torch import Tensor

from drift_pl.core.signatures import Count, Positive
from drift_pl.scoring.pickscore import ClipReward


class ClipScore(ClipReward):
    """100 * cos(image, text) / normaliser, in float32 (CLIPScore, arXiv 2104.08718).

    Published scales differ: the default normaliser gives torchmetrics' CLIPScore, but per image and not clipped at
    zero. The paper's own is 2.5 max(cos, 0).

    Args:
        pretrained: a CLIPModel, by hub id, folder or pkg:PACKAGE/FOLDER.
        processor: its CLIPProcessor; None for the model's own.
        normaliser: divisor of 100 * cos: 1 as in torchmetrics, 30 as in flow_grpo, 100 for the cosine itself. Reward
            weights tuned with one value do not carry over to another.
        batch_size: images per forward pass.
        revision: branch, tag or commit of `pretrained` on the hub.

    Raises:
        UserError: `pretrained` or `processor` cannot be loaded.
    """

    def __init__(
        self,
        pretrained: str = "openai/clip-vit-large-patch14",
        processor: str | None = None,
        normaliser: Positive = 1.0,
        batch_size: Count = 64,
        revision: str | None = None,
    ) -> None:
        super().__init__(pretrained, processor or pretrained, batch_size, revision)
        self.normaliser = normaliser

    def __call__(self, images_B3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        return 100 * self.cosine(images_B3HW, prompts) / self.normaliser
