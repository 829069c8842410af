"""Prompts: reading lists of them, choosing those of an iteration, encoding each text once."""

import warnings
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import nullcontext

import torch

from drift_pl.core.errors import named
from drift_pl.core.prompt_files import read_prompt_file
from drift_pl.core.rng import make_generator
from drift_pl.core.types import Condition
from drift_pl.policies.protocol import Offloadable, Policy
from drift_pl.sampling.prompt_cache import PromptStore

DEFAULT_LIMIT = 4 * 2**30
"""Bytes of encoded prompts in main memory: 1,200 texts of Stable Diffusion 3.5, with T5, in float32."""


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
    """Encodes each text once, separately as prompt and as negative prompt, and keeps the results on the CPU.

    A text is encoded by itself: with others in a batch its last bits would depend on them, and so on what was encoded
    before the run was resumed.

    Args:
        policy: encodes.
        limit: most bytes that are kept in main memory. What was used longest ago is dropped, and read from `store`, or
            encoded again, when it is needed.
        store: keeps everything on disk; None: nothing.
    """

    def __init__(self, policy: Policy, limit: int = DEFAULT_LIMIT, store: PromptStore | None = None) -> None:
        self._policy, self._limit, self._store = policy, limit, store
        self._kept: OrderedDict[tuple[str, str], Condition] = OrderedDict()
        self._size = 0

    def __call__(self, prompts: Sequence[str], device: torch.device | str = "cpu", negative: bool = False) -> Condition:
        """Conditions of `prompts`, one row each, on `device`.

        Args:
            negative: whether they are for the unconditional branch, see `Policy.encode`.
        """
        kind = _kind(getattr(self._policy, "text_device", torch.device(device)), negative)
        texts = dict.fromkeys(prompts)
        known = {text: self._known(text, kind) for text in texts}
        rows = {text: row for text, row in known.items() if row is not None}
        unknown = [text for text in texts if text not in rows]
        if unknown:
            with self._policy.encoding() if isinstance(self._policy, Offloadable) else nullcontext():
                rows |= {text: self._encoded(text, kind, negative) for text in unknown}
        while self._size > self._limit:
            _, dropped = self._kept.popitem(last=False)
            self._size -= dropped.nbytes
        return Condition.concatenate([rows[text] for text in prompts]).to(device)

    def _known(self, text: str, kind: str) -> Condition | None:
        """The condition of one text, on the CPU, from memory or from the disk; None if it has not been encoded."""
        if (text, kind) in self._kept:
            self._kept.move_to_end((text, kind))
            return self._kept[text, kind]
        row = self._store.read(text, kind) if self._store else None
        return None if row is None else self._keep(text, kind, row)

    def _encoded(self, text: str, kind: str, negative: bool) -> Condition:
        row = self._policy.encode([text], negative).to("cpu")
        if self._store:
            self._store.write(text, kind, row)
        return self._keep(text, kind, row)

    def _keep(self, text: str, kind: str, row: Condition) -> Condition:
        self._kept[text, kind] = row
        self._size += row.nbytes
        return row


def _kind(device: torch.device, negative: bool) -> str:
    """What an encoding depends on besides its text; with the text, it is the key of the encoding in memory and on disk.

    The branch, `prompt` or `negative`, and behind it autocast's dtype if autocast is enabled on `device`, since an
    encoding in another precision has other values.
    """
    branch = "negative" if negative else "prompt"
    return f"{branch} {torch.get_autocast_dtype(device.type)}" if torch.is_autocast_enabled(device.type) else branch
