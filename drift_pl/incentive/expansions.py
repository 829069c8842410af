"""Prompt expansions: a rule of lever 2 that gives each image of a group a text that names what the prompt leaves open.

A prompt that leaves something open is drawn in few ways by a model that has collapsed, and a text that names it shows
the others. Learnt under the clean prompt (`GroupSampling.learn_clean`), the breadth of the texts becomes the breadth of
the prompt. Texts come from a vocabulary, a file, or a language model. Rewards see the clean prompt.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from drift_pl.core.errors import UserError, named
from drift_pl.core.rng import make_generator
from drift_pl.incentive.variants import TextVariants


@dataclass(frozen=True)
class Expansions(TextVariants):
    """Each image of a group gets another of its prompt's texts, until all have been used.

    Attributes:
        paraphrases: prompt -> its texts; a prompt that leaves nothing open has none, or itself.
        group_size: G > 0; sample i of an iteration is image i mod G of its group.
        share: probability in [0, 1] that an image gets a text; otherwise it keeps the prompt.
        noise: see `TextVariants`.
    """

    group_size: int = 1

    def rewrite(self, prompts_B: Sequence[str], seed: int, iteration: int, samples: Sequence[int]) -> list[str]:
        return [self._text(prompt, seed, iteration, sample) for prompt, sample in zip(prompts_B, samples, strict=True)]

    def _text(self, prompt: str, seed: int, iteration: int, sample: int) -> str:
        texts = self.paraphrases.get(prompt) or (prompt,)
        group, image = divmod(sample, self.group_size)
        turn, place = divmod(image, len(texts))
        order = torch.randperm(len(texts), generator=make_generator("text_expansion", seed, iteration, group, turn))
        share = torch.rand((), generator=make_generator("text_expansion_share", seed, iteration, sample))
        return texts[int(order[place])] if float(share) < self.share else prompt


class TextsOnDemand(Mapping[str, tuple[str, ...]]):
    """Prompt -> its texts, made when they are first asked for: a long list of prompts is trained on little by little.

    Args:
        prompts: the keys.
        make: prompt -> its texts.
    """

    def __init__(self, prompts: Iterable[str], make: Callable[[str], tuple[str, ...]]) -> None:
        self._made: dict[str, tuple[str, ...] | None] = dict.fromkeys(prompts)
        self._make = make

    def __getitem__(self, prompt: str) -> tuple[str, ...]:
        texts = self._made[prompt]
        if texts is None:
            texts = self._made[prompt] = self._make(prompt)
        return texts

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


def refuse_missing(texts: Mapping[str, Sequence[str]], prompts: Sequence[str]) -> None:
    """A file of expansions must have texts for every prompt that is trained on.

    Raises:
        UserError: it lacks some; the message has the enclosing setting's name and a line that is missing.
    """
    missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in texts]
    if missing:
        line = json.dumps({"prompt": missing[0], "paraphrases": ["ONE TEXT", "ANOTHER"]}, ensure_ascii=False)
        raise UserError(
            f"{named()} lacks {len(missing)} of {len(set(prompts))} prompts of prompts.train: add lines like {line}, "
            "or use incentive.prompting.rule=variants, which leaves such prompts as they are"
        )
