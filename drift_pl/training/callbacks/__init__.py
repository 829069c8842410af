"""What watches a run without taking part in it."""

from drift_pl.training.callbacks.alarm import DiversityAlarm
from drift_pl.training.callbacks.diversity import DiversityMonitor
from drift_pl.training.callbacks.evaluation import HeldOutEvaluation
from drift_pl.training.callbacks.progress import RunLength, RunProgress

CALLBACKS = {"diversity_monitor": DiversityMonitor}

__all__ = ["CALLBACKS", "DiversityAlarm", "DiversityMonitor", "HeldOutEvaluation", "RunLength", "RunProgress"]
