"""Calls the rewards: once per iteration when all images are sampled, or in parts while the next are sampled."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from drift_pl.scoring.rewards import WeightedReward, call_rewards

Answer = TypeVar("Answer")


class RewardCalls:
    """The calls of one iteration: images in order, optionally in a thread beside the sampling.

    The calls are the same with and without the thread, in the same order, so scores are bitwise identical.

    Args:
        rewards: the rewards.
        prompts: B prompts, one per image.
        group_size: images per prompt, if the images are whole groups.
        groups_per_call: a call has this number times `group_size` images; 0: all. A network's output for an image may
            differ in its last bits with the other images of the call.
        thread: call the rewards in a thread, while the next groups are sampled. Affects speed only.
        seen: what rewards are shown of the images of these rows of B; None: the images.
    """

    def __init__(
        self,
        rewards: Sequence[WeightedReward],
        prompts: Sequence[str],
        group_size: int,
        groups_per_call: int = 0,
        thread: bool = False,
        seen: Callable[[Tensor, slice], Tensor] | None = None,
    ) -> None:
        self._rewards, self._prompts, self._group_size, self._seen = rewards, tuple(prompts), group_size, seen
        total, size = len(prompts), groups_per_call * group_size or len(prompts)
        self._turns = [slice(first, min(first + size, total)) for first in range(0, total, size)]
        self._worker = ThreadPoolExecutor(1, "rewards") if thread else None
        self._begun: list[Future[dict[str, Tensor]]] = []
        self._waiting: list[Tensor] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._worker is not None:  # after an error: calls that have not begun are dropped
            self._worker.shutdown(wait=False, cancel_futures=True)

    def take(self, images_B3HW: Tensor) -> None:
        """Receives the next images; complete calls go to the thread. Without one, nothing happens before `scores`.

        Raises:
            UserError: a reward has failed in the meantime.
        """
        if self._worker is None:
            return
        for answer in self._begun:
            if answer.done():
                answer.result()
        rest_B3HW = torch.cat([*self._waiting, images_B3HW])
        for rows in self._turns[len(self._begun) :]:
            count = rows.stop - rows.start
            if len(rest_B3HW) < count:
                break
            call = in_this_state(self._call, rest_B3HW.device)
            self._begun.append(self._worker.submit(call, rest_B3HW[:count], rows))
            rest_B3HW = rest_B3HW[count:]
        self._waiting = [rest_B3HW]

    def scores(self, images_B3HW: Tensor) -> dict[str, Tensor]:
        """Raw values of all images by reward name, float32 [B].

        Raises:
            UserError: a reward fails, does not return one number per image, or gets no whole groups.
        """
        counts = [rows.stop - rows.start for rows in self._turns]
        parts = [answer.result() for answer in self._begun]
        turns = list(zip(images_B3HW.split(counts), self._turns, strict=True))[len(parts) :]
        parts += [self._call(part_B3HW, rows) for part_B3HW, rows in turns]
        return {reward.name: torch.cat([part[reward.name] for part in parts]) for reward in self._rewards}

    def _call(self, images_B3HW: Tensor, rows: slice) -> dict[str, Tensor]:
        if self._seen is not None:
            images_B3HW = self._seen(images_B3HW, rows)
        return call_rewards(self._rewards, images_B3HW, self._prompts[rows], self._group_size)


def in_this_state(call: Callable[..., Answer], device: torch.device) -> Callable[..., Answer]:
    """`call` for another thread, with this thread's torch state: gradients, autocast, current accelerator.

    All three are per thread: a reward that leaves its precision to autocast would give other values in a new thread.
    """
    kind, grad = device.type, torch.is_grad_enabled()
    autocast = {"dtype": torch.get_autocast_dtype(kind), "enabled": torch.is_autocast_enabled(kind)}

    def called(*args: Any) -> Answer:
        with ExitStack() as state:
            state.enter_context(torch.set_grad_enabled(grad))
            # without a cache, like Lightning: casts of weights must not outlive an optimizer step
            state.enter_context(torch.autocast(kind, **autocast, cache_enabled=False))
            if kind == "cuda":
                state.enter_context(torch.cuda.device(device))
            return call(*args)

    return called
