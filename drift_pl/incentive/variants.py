"""Prompt variants: a rule of lever 2 that rewrites a prompt as text, per image (DRIFT, arXiv 2601.12401).

Embedding noise moves a prompt in directions that match no text; a variant is another text for the same image. Texts are
few, so each is encoded once. Rewards see the clean prompt, and evaluation never varies it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from drift_pl.core.errors import UserError
from drift_pl.core.rng import make_generator
from drift_pl.core.types import Condition
from drift_pl.incentive.prompting import EmbeddingNoise, PromptingRule, VariedCondition

PLACE = "{prompt}"


@dataclass(frozen=True)
class TextVariants(PromptingRule):
    """Each image gets a text drawn uniformly from its prompt's candidates.

    Attributes:
        templates: texts with the placeholder `{prompt}`, such as "a photograph of {prompt}"; used for every prompt.
        paraphrases: prompt -> alternative texts for that prompt (see `paraphrases.read_paraphrases`).
        share: probability in [0, 1] that an image draws a candidate; otherwise it keeps the prompt. As the prompt
            itself is one of its n candidates, an image keeps it with probability 1 - share + share / n.
        noise: additional noise on the embedding of the drawn text, or None.

    Raises:
        UserError: a template lacks the placeholder.
    """

    templates: Sequence[str] = ()
    paraphrases: Mapping[str, Sequence[str]] = field(default_factory=dict)
    share: float = 1.0
    noise: EmbeddingNoise | None = None

    def __post_init__(self) -> None:
        for template in self.templates:
            if PLACE not in template:
                raise UserError(
                    f"incentive.prompting.templates: {template!r} has no {PLACE}; "
                    f"write where the prompt goes, e.g. 'a photograph of {PLACE}'"
                )

    def candidates(self, prompt: str) -> tuple[str, ...]:
        """The distinct texts that may replace a prompt, itself first."""
        filled = [template.replace(PLACE, prompt) for template in self.templates]
        return tuple(dict.fromkeys([prompt, *filled, *self.paraphrases.get(prompt, ())]))

    def rewrite(self, prompts_B: Sequence[str], seed: int, iteration: int, samples: Sequence[int]) -> list[str]:
        return [
            self._draw(prompt, make_generator("text_variant", seed, iteration, sample))
            for prompt, sample in zip(prompts_B, samples, strict=True)
        ]

    def _draw(self, prompt: str, generator: torch.Generator) -> str:
        candidates = self.candidates(prompt)
        drawn = candidates[int(torch.randint(len(candidates), (), generator=generator))]
        return drawn if float(torch.rand((), generator=generator)) < self.share else prompt

    def __call__(
        self,
        condition: Condition,
        seed: int,
        iteration: int,
        samples: Sequence[int],
        row_B: Sequence[int] | None = None,
    ) -> VariedCondition:
        rule = self.noise or PromptingRule()
        return rule(condition, seed, iteration, samples, row_B)
