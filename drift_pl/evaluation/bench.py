"""Held-out evaluation of a model: how it is sampled, and how its images are measured."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from drift_pl.evaluation.evaluated import Evaluated
from drift_pl.evaluation.evaluator import Evaluator
from drift_pl.evaluation.partial import PartialPoint
from drift_pl.evaluation.sampling import Model, SamplingPlan


@dataclass(frozen=True)
class Bench:
    """Samples a model and measures its images: the one definition of held-out evaluation."""

    evaluator: Evaluator
    sampling: SamplingPlan

    def base(
        self, model: Model, prompts: Sequence[str], seeds_per_prompt: int, partial: PartialPoint | None = None
    ) -> Evaluated:
        """Measures the base model; see `Evaluator.run`."""
        with model.sampler(self.sampling, base=True) as sampler:
            return self.evaluator.run(model, sampler, prompts, seeds_per_prompt, partial=partial)

    def tuned(
        self,
        model: Model,
        prompts: Sequence[str],
        seeds_per_prompt: int,
        reference: Tensor | None = None,
        partial: PartialPoint | None = None,
    ) -> Evaluated:
        """Measures the weights that the model holds now; see `Evaluator.run`.

        Args:
            reference: the base model's embeddings of the same prompts, for metrics of drift.
        """
        with model.sampler(self.sampling) as sampler:
            return self.evaluator.run(model, sampler, prompts, seeds_per_prompt, reference, partial)
