"""Settings that the module takes, without the config they come from."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class JudgingPlan:
    """How judges are called.

    Attributes:
        groups: that they are given at once; 0: all of an iteration. What a network says of an image may differ in its
            last bits with the images beside it.
        thread: call them in a thread, while the next groups are sampled. Nothing depends on it but time.
    """

    groups: int = 0
    thread: bool = False


@dataclass(frozen=True)
class OptimizerPlan:
    """AdamW and its warm-up (in iterations)."""

    learning_rate: float
    weight_decay: float
    warmup: int


@dataclass(frozen=True)
class Shared:
    """What all processes know before the update, from one exchange.

    Attributes:
        batch_std: standard deviation of the iteration's rewards.
        median_group_std: median over groups of the rewards' standard deviation.
        counts_U: images that count in each optimiser step.
    """

    batch_std: Tensor
    median_group_std: float
    counts_U: Tensor
