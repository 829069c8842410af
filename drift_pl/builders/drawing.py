"""How a run's base and tuned models are drawn with and measured: from its config."""

import math
from collections.abc import Mapping

import torch

from drift_pl.builders.scoring import build_encoder, build_judges
from drift_pl.config.schema import Config
from drift_pl.evaluation.drawing import DrawingPlan, Pictures
from drift_pl.functional.diversity import cosine_kernel, mean_pairwise_distance
from drift_pl.scoring.protocol import move
from drift_pl.scoring.rewards import score_images


def plan_of(config: Config, prompt: str, n: int, seed: int) -> DrawingPlan:
    """As the run evaluates, unless its config was told otherwise."""
    sampler, guidance = config.sampler, config.sampler.eval_guidance_scale
    return DrawingPlan(
        prompt=prompt,
        n=n,
        seed=seed,
        steps=sampler.eval_steps,
        guidance_scale=config.policy.guidance_scale if guidance is None else guidance,
        negative_prompt=config.policy.negative_prompt,
        importance_power=sampler.eval_importance_power,
        lora_scale=sampler.eval_lora_scale,
        resolution=config.evaluation.resolution,
        micro_batch=config.objective.micro_batch,
    )


class Measurer:
    """Mean reward and diversity of pictures, by a run's own judges and its evaluation encoder.

    Raises:
        UserError: one of them cannot be loaded.
    """

    def __init__(self, config: Config, device: torch.device) -> None:
        self._judges = build_judges(config.rewards, "rewards")
        self._encoder = build_encoder(config.evaluation.encoder, "evaluation.encoder")
        self._device = device
        for part in (self._encoder, *(judge.reward for judge in self._judges)):
            move(part, device)

    @torch.no_grad()
    def __call__(self, pictures: Pictures, prompt: str) -> dict[str, dict[str, float]]:
        """`reward` (weighted sum of the judges) and, of two images or more, `distance` (pairwise), of both models."""
        measured: dict[str, dict[str, float]] = {"reward": {}, "distance": {}}
        for which, images_N3HW in pictures.items():
            images_N3HW, count = images_N3HW.to(self._device), len(images_N3HW)
            reward_N, _ = score_images(self._judges, images_N3HW, [prompt] * count, count, allow_unscored=True)
            measured["reward"][which] = float(reward_N.nanmean())
            if count > 1:
                kernel_NN = cosine_kernel(self._encoder(images_N3HW))
                measured["distance"][which] = float(mean_pairwise_distance(1 - kernel_NN))
        finite = {name: _finite(values) for name, values in measured.items()}
        return {name: values for name, values in finite.items() if values}


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    """Without those of models whose images no judge could score."""
    return {which: value for which, value in values.items() if math.isfinite(value)}
