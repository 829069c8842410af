"""Callbacks that monitor, evaluate or end a run."""

from drift_pl.training.callbacks.alarm import DiversityAlarm
from drift_pl.training.callbacks.diversity import DiversityMonitor
from drift_pl.training.callbacks.evaluation import HeldOutEvaluation
from drift_pl.training.callbacks.progress import RunLength, RunProgress, RunStatus
from drift_pl.training.callbacks.ratio import RatioWatch

__all__ = [
    "DiversityAlarm",
    "DiversityMonitor",
    "HeldOutEvaluation",
    "RatioWatch",
    "RunLength",
    "RunProgress",
    "RunStatus",
]
