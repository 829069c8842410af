"""Prompts: reading lists of them, choosing those of an iteration, encoding each text once."""

import warnings
from collections.abc import Sequence

import torch

from drift_pl.core.errors import named
from drift_pl.core.prompt_files import read_prompt_file
from drift_pl.core.rng import make_generator
from drift_pl.core.types import Condition
from drift_pl.policies.protocol import Policy


def read_prompts(name: str) -> tuple[str, ...]:
    """The texts of `read_prompt_file`.

    Raises:
        UserError: it cannot be read, or it contains no prompt.
    """
    return tuple(prompt.text for prompt in read_prompt_file(name))


def distinct(name: str) -> tuple[str, ...]:
    """The texts of `read_prompt_file` that are measured: each once, because a repeated one would weigh double.

    Raises:
        UserError: it cannot be read, or it holds no prompt.
    """
    prompts = read_prompts(name)
    texts = tuple(dict.fromkeys(prompts))
    if len(texts) < len(prompts):
        more = len(prompts) - len(texts)
        warnings.warn(
            f"{named(name)}: {more} of {len(prompts)} prompts repeat another; each is measured once", stacklevel=1
        )
    return texts


def prompts_of_iteration(num_prompts: int, per_iteration: int, iteration: int, seed: int) -> list[int]:
    """Indices of an iteration's prompts: the next ones of a sequence of random permutations of the list.

    A pure function, so that resuming needs one integer. Every prompt is used equally often.
    """
    first = iteration * per_iteration
    rounds: dict[int, list[int]] = {}
    indices = []
    for position in range(first, first + per_iteration):
        turn, place = divmod(position, num_prompts)
        if turn not in rounds:
            generator = make_generator("prompt_order", seed, turn)
            rounds[turn] = torch.randperm(num_prompts, generator=generator).tolist()
        indices.append(rounds[turn][place])
    return indices


class PromptEncoder:
    """Encodes each text once, separately as prompt and as negative prompt, and caches the results on the CPU."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._kept: dict[tuple[str, bool], Condition] = {}

    def __call__(self, prompts: Sequence[str], device: torch.device | str = "cpu", negative: bool = False) -> Condition:
        """Conditions of `prompts`, one row each, on `device`.

        Args:
            negative: whether they are for the unconditional branch, see `Policy.encode`.
        """
        new = [text for text in dict.fromkeys(prompts) if (text, negative) not in self._kept]
        if new:
            encoded = self._policy.encode(new, negative).to("cpu")
            self._kept.update({(text, negative): encoded[row : row + 1] for row, text in enumerate(new)})
        return Condition.concatenate([self._kept[text, negative] for text in prompts]).to(device)
