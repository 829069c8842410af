"""Prompts: reading lists of them, choosing those of an iteration, encoding each text once."""

from collections.abc import Sequence

import torch

from drift_pl.errors import UserError
from drift_pl.locate import read_text
from drift_pl.policies.protocol import Policy
from drift_pl.rng import make_generator
from drift_pl.types import Condition


def read_prompts(name: str, key: str) -> tuple[str, ...]:
    """Prompts of a UTF-8 text file, one per line; empty lines and lines that start with `#` are skipped.

    Args:
        name: a path, or pkg:PACKAGE/FILE.
        key: the config key it was given for, to be named in errors.

    Raises:
        UserError: there is no such file, it is not text, or it holds no prompt.
    """
    text = read_text(name, key, "a text file with one prompt per line")
    lines = [line.strip() for line in text.splitlines()]
    prompts = tuple(line for line in lines if line and not line.startswith("#"))
    if not prompts:
        raise UserError(f"{key}={name} holds no prompt: write one per line, e.g. 'a red circle'")
    return prompts


def prompts_of_iteration(num_prompts: int, per_iteration: int, iteration: int, seed: int) -> list[int]:
    """Indices of an iteration's prompts: a walk through one fresh permutation of the list after another.

    A pure function, so that resuming needs one integer. Every prompt is seen equally often.
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
    """Encodes each text once and keeps the result on the CPU."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._by_text: dict[str, Condition] = {}

    def __call__(self, prompts: Sequence[str], device: torch.device | str = "cpu") -> Condition:
        """Conditions of `prompts`, one row each, on `device`."""
        new = [text for text in dict.fromkeys(prompts) if text not in self._by_text]
        if new:
            encoded = self._policy.encode(new).to("cpu")
            self._by_text.update({text: encoded[row : row + 1] for row, text in enumerate(new)})
        return Condition.concatenate([self._by_text[text] for text in prompts]).to(device)
