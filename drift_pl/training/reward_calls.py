"""Calls the judges: on an iteration's images when all are there, or group by group while the next are sampled."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from drift_pl.scoring.rewards import WeightedReward, call_rewards

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class RewardCallPlan:
    """How judges are called.

    Attributes:
        groups: given to them at once; 0: all of an iteration. What a network says of an image may differ in its last
            bits with the images beside it.
        thread: call them in a thread, while the next groups are sampled. Affects speed only.
    """

    groups: int = 0
    thread: bool = False


class RewardCalls:
    """One iteration's judging: whole groups, in order, a few at a time; in one thread beside the sampling if asked.

    Judges are called with the same images in the same order either way, so scores are bitwise identical with and
    without the thread.

    Args:
        judges: the rewards.
        prompts: P prompts, one per group.
        group_size: images per prompt.
        plan: how many groups at once, and where.
    """

    def __init__(
        self, judges: Sequence[WeightedReward], prompts: Sequence[str], group_size: int, plan: RewardCallPlan
    ) -> None:
        self._judges, self._group_size = judges, group_size
        at_once = plan.groups or len(prompts)
        self._turns = [tuple(prompts[first : first + at_once]) for first in range(0, len(prompts), at_once)]
        self._worker = ThreadPoolExecutor(1, "judges") if plan.thread else None
        self._begun: list[Future[dict[str, Tensor]]] = []
        self._waiting: list[Tensor] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._worker is not None:  # after an error: what has not begun never does
            self._worker.shutdown(wait=False, cancel_futures=True)

    def take(self, images_B3HW: Tensor) -> None:
        """The next images; groups that are complete go to the thread. Without one, nothing happens before `scores`.

        Raises:
            UserError: a judge has failed meanwhile.
        """
        if self._worker is None:
            return
        for answer in self._begun:
            if answer.done():
                answer.result()
        rest_B3HW = torch.cat([*self._waiting, images_B3HW])
        for prompts in self._turns[len(self._begun) :]:
            count = len(prompts) * self._group_size
            if len(rest_B3HW) < count:
                break
            self._begun.append(
                self._worker.submit(in_this_state(self._ask, rest_B3HW.device), rest_B3HW[:count], prompts)
            )
            rest_B3HW = rest_B3HW[count:]
        self._waiting = [rest_B3HW]

    def scores(self, images_B3HW: Tensor) -> dict[str, Tensor]:
        """Each judge's raw scores by name, float32 [B], of all images.

        Raises:
            UserError: a judge fails, returns something else than a number per image, or lacks its groups.
        """
        counts = [len(prompts) * self._group_size for prompts in self._turns]
        parts = [answer.result() for answer in self._begun]
        turns = list(zip(images_B3HW.split(counts), self._turns, strict=True))[len(parts) :]
        parts += [self._ask(part_B3HW, prompts) for part_B3HW, prompts in turns]
        return {judge.name: torch.cat([part[judge.name] for part in parts]) for judge in self._judges}

    def _ask(self, images_B3HW: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
        repeated = [prompt for prompt in prompts for _ in range(self._group_size)]
        return call_rewards(self._judges, images_B3HW, repeated, self._group_size)


def in_this_state(call: Callable[..., Answer], device: torch.device) -> Callable[..., Answer]:
    """`call` with torch's state of this thread, to be called in another: gradients, autocast, current accelerator.

    All three belong to a thread. A judge that leaves its precision to autocast would answer otherwise in a new one.
    """
    kind, grad = device.type, torch.is_grad_enabled()
    autocast = {"dtype": torch.get_autocast_dtype(kind), "enabled": torch.is_autocast_enabled(kind)}

    def called(*args: Any) -> Answer:
        with ExitStack() as state:
            state.enter_context(torch.set_grad_enabled(grad))
            # without a cache, as Lightning has it: casts of weights must not outlive an optimiser step
            state.enter_context(torch.autocast(kind, **autocast, cache_enabled=False))
            if kind == "cuda":
                state.enter_context(torch.cuda.device(device))
            return call(*args)

    return called
