"""Two measures outside of the package: of each prompt's images, and of their embeddings."""

from collections.abc import Sequence

from torch import Tensor

from drift_pl.evaluation.metrics import GroupedMetric
from drift_pl.functional.diversity import cosine_kernel


def contrast(images_PS3HW: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
    """Standard deviation of all pixels of a prompt's images."""
    return {"contrast": images_PS3HW.float().flatten(1).std(1)}


class FarthestPair(GroupedMetric):
    """Largest cosine distance of two images, in [0, 2], of the embeddings given to `update`."""

    def of_group(self, rows_SX: Tensor) -> Tensor:
        return (1 - cosine_kernel(rows_SX)).amax()
