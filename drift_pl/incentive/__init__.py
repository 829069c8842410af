"""DRIFT's three levers (arXiv 2601.12401), one file each: selection, prompting, shaping."""

from drift_pl.incentive.prompting import EmbeddingNoise, NoVariation
from drift_pl.incentive.selection import Band, KeepAll
from drift_pl.incentive.shaping import DiversityShaping

__all__ = ["Band", "DiversityShaping", "EmbeddingNoise", "KeepAll", "NoVariation"]
