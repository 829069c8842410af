"""Rival diversity methods, one small file each; `incentive.method` takes their names.

They share the base algorithm with DRIFT, so that a comparison differs in the method and in nothing else.
"""

from drift_pl.incentive.rivals.diverse_grpo import DiverseGrpo
from drift_pl.incentive.rivals.dra import Dra
from drift_pl.incentive.rivals.gardo import Gardo
from drift_pl.incentive.rivals.inverse_probability import InverseProbability
from drift_pl.incentive.rivals.max_at_k import MaxAtK
from drift_pl.incentive.rivals.protocol import Rival

RIVALS: dict[str, type[Rival]] = {
    "gardo": Gardo,
    "diverse_grpo": DiverseGrpo,
    "inverse_probability": InverseProbability,
    "dra": Dra,
    "max_at_k": MaxAtK,
}

__all__ = ["RIVALS", "DiverseGrpo", "Dra", "Gardo", "InverseProbability", "MaxAtK", "Rival"]
