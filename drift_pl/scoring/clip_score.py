"""CLIPScore: how well an image fits its prompt, by a CLIP model of general use."""

from collections.abc import Sequence

from torch import Tensor

from drift_pl.scoring.pickscore import ClipJudge


class ClipScore(ClipJudge):
    """100 * cos(image, text) / normaliser, in float32 (CLIPScore, arXiv 2104.08718).

    One name, several scales: with the default normaliser it is torchmetrics' CLIPScore, but per image and not cut off
    at zero. The paper's own is 2.5 max(cos, 0).

    Args:
        pretrained: a CLIPModel, by hub id, folder or pkg:PACKAGE/FOLDER.
        processor: its CLIPProcessor; None for the model's own.
        normaliser: what the hundredfold cosine is divided by: 1 as in torchmetrics, 30 as in flow_grpo, 100 for the
            cosine itself. The weight of a reward that was tuned with one does not fit another.
        batch_size: images per forward pass.
        revision: branch, tag or commit of `pretrained` on the hub.

    Raises:
        UserError: nothing loadable at `pretrained` or `processor`.
    """

    def __init__(
        self,
        pretrained: str = "openai/clip-vit-large-patch14",
        processor: str | None = None,
        normaliser: float = 1.0,
        batch_size: int = 64,
        revision: str | None = None,
    ) -> None:
        super().__init__(pretrained, processor or pretrained, batch_size, revision)
        self.normaliser = normaliser

    def __call__(self, images_B3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        return 100 * self.cosine(images_B3HW, prompts) / self.normaliser
