"""What is known of the images of whole groups, where groups are split over processes."""

from collections.abc import Mapping
from functools import reduce

import torch
from torch import Tensor

from drift_pl.core.processes import gather
from drift_pl.core.prompt_batch import PromptBatch


def rows_of_groups(rows: Mapping[str, Tensor], batch: PromptBatch) -> dict[str, Tensor]:
    """Rows of all images of the batch's groups, in order, from the rows of this process's images.

    Where groups are split over processes, all processes' rows come together in one exchange: some numbers per image.

    Args:
        rows: name -> [B, ...], with the same names, dtypes and shapes on every process, except for B.

    Returns:
        name -> [P * G, ...].
    """
    if batch.split is None:
        return dict(rows)
    # float32 holds numbers up to 2^24 exactly, and so the samples' own
    dtype = reduce(torch.promote_types, [row.dtype for row in rows.values()], torch.float32)
    flat = [row.flatten(1) if row.ndim > 1 else row[:, None] for row in rows.values()]
    sample_B1 = torch.tensor(batch.split.samples, device=flat[0].device)[:, None]
    own_BN = torch.cat([part.to(dtype) for part in (sample_B1, *flat)], dim=1)
    padded_XN = own_BN.new_full((batch.split.most_images, own_BN.shape[1]), -1)
    padded_XN[: len(own_BN)] = own_BN
    gathered_XN = gather(padded_XN).flatten(0, 1)
    total = len(batch.groups) * batch.group_size
    in_order_BN = gathered_XN[gathered_XN[:, 0].argsort()[-total:], 1:]  # padding comes first: -1
    parts = in_order_BN.split([part.shape[1] for part in flat], dim=1)
    pairs = zip(rows.items(), parts, strict=True)
    return {name: part.reshape(total, *row.shape[1:]).to(row.dtype) for (name, row), part in pairs}
