"""DRIFT's three levers (arXiv 2601.12401): selection, prompting (embedding noise, and text variants), shaping."""

from typing import TypeAlias

from drift_pl.incentive.prompting import EmbeddingNoise, NoVariation
from drift_pl.incentive.selection import Band, KeepAll, MaxVariance, MinVariance, NearMedian, Quantile
from drift_pl.incentive.shaping import DiversityShaping
from drift_pl.incentive.variants import TextVariants

SelectionRule: TypeAlias = KeepAll | Band | Quantile | MinVariance | NearMedian | MaxVariance
PromptingRule: TypeAlias = NoVariation | EmbeddingNoise | TextVariants

__all__ = [
    "Band",
    "DiversityShaping",
    "EmbeddingNoise",
    "KeepAll",
    "MaxVariance",
    "MinVariance",
    "NearMedian",
    "NoVariation",
    "PromptingRule",
    "Quantile",
    "SelectionRule",
    "TextVariants",
]
