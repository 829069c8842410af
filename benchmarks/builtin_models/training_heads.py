"""Auxiliary attribute heads for training the image models."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drift_pl.builtin.world import ATTRIBUTES, Scenes


class AttributeHeads(nn.Module):
    """Linear classifiers of the attributes and a regression of centre and radius; discarded after training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.classify = nn.ModuleDict({name: nn.Linear(width, len(v)) for name, v in ATTRIBUTES.items()})
        self.locate = nn.Linear(width, 3)

    def forward(self, features_BD: Tensor, scenes: Scenes) -> Tensor:
        """Sum of cross-entropies plus the squared error of (x, y, radius) in units of 8 pixels."""
        losses = [
            F.cross_entropy(head(features_BD), scenes.attributes[name], label_smoothing=0.05)
            for name, head in self.classify.items()
        ]
        geometry_B3 = torch.cat([(scenes.centre_B2 - 16.0) / 8.0, scenes.radius_B[:, None] / 8.0 - 0.85], 1)
        return torch.stack(losses).sum() + (self.locate(features_BD) - geometry_B3).square().mean()
