"""Rival diversity methods, one small file each; `incentive.method` takes their names.

They share the base algorithm with DRIFT, so that a comparison differs in the method and in nothing else.
"""

from drift_pl.incentive.methods.diverse_grpo import DiverseGrpo
from drift_pl.incentive.methods.dra import Dra
from drift_pl.incentive.methods.gardo import Gardo
from drift_pl.incentive.methods.inverse_probability import InverseProbability
from drift_pl.incentive.methods.max_at_k import MaxAtK
from drift_pl.incentive.methods.protocol import Rival

RIVALS: dict[str, type[Rival]] = {
    "gardo": Gardo,
    "diverse_grpo": DiverseGrpo,
    "inverse_probability": InverseProbability,
    "dra": Dra,
    "max_at_k": MaxAtK,
}

__all__ = ["RIVALS", "DiverseGrpo", "Dra", "Gardo", "InverseProbability", "MaxAtK", "Rival"]
