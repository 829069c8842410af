"""Simulated studies of two methods whose points, and so gains, are known: what intervals must cover."""

from dataclasses import dataclass

import numpy as np

from drift_pl.functional.fronts import Array

BASE = np.array([20.0, 0.6])
# What the baseline changes in all: noise and effects are shares of it.
CHANGE = np.array([1.0, 0.4])


@dataclass(frozen=True)
class Study:
    """Two methods whose points are known, seen through runs, prompts and images.

    `seed`, `prompt` and `both` are standard deviations of the factor by which all of a run's, a prompt's, or a run's on
    one prompt, changes of reward and diversity are multiplied; `checkpoint` and `image` of what is added, in units of
    the baseline's whole change, to each checkpoint of a run, and to each prompt of it.
    """

    shape: str = "bow"
    seed: float = 0.02
    shared_seed: float = 0.0
    prompt: float = 0.1
    both: float = 0.05
    checkpoint: float = 0.01
    image: float = 0.05
    noisier_method: float = 1.0
    gain: bool = True
    skewed: bool = False
    missing: float = 0.0
    seeds: int = 5
    prompts: int = 32
    checkpoints: int = 11

    def points(self, method: int) -> Array:
        """The population's points, [K, 2]: 1.2 times the reward for 0.75 times the diversity is the gain."""
        done = np.linspace(0, 1, self.checkpoints)
        reward, loss = {
            "line": (done, done),
            "bow": ((1 - np.exp(-3 * done)) / (1 - np.exp(-3)), done),
            "cliff": (done, done**3),
            "hook": (np.sin(0.7 * np.pi * done), done),
        }[self.shape]
        more, less = (1.2, 0.75) if method and self.gain else (1.0, 1.0)
        return BASE + CHANGE * np.stack([more * reward, -less * loss], -1)

    def draw(self, numbers: np.random.Generator) -> list[Array]:
        """Measurements of the baseline and of the method, [S, K, P, 2]. Every effect has mean 0."""
        seeds, checkpoints, prompts = self.seeds, self.checkpoints, self.prompts

        def effect(*shape: int) -> Array:
            return numbers.exponential(size=shape) - 1 if self.skewed else numbers.normal(size=shape)

        level_P2 = effect(prompts, 2) * [0.3, 0.15]
        base_P2 = BASE + self.image * CHANGE * numbers.normal(size=(prompts, 2))
        shared_S2 = self.shared_seed * effect(seeds, 1, 2)
        measured = []
        for method in (0, 1):
            factor_SP2 = 1 + shared_S2 + self.seed * effect(seeds, 1, 2) + self.prompt * effect(1, prompts, 2)
            factor_SP2 = factor_SP2 + self.both * effect(seeds, prompts, 2)
            values = BASE + (self.points(method) - BASE)[:, None] * factor_SP2[:, None]
            scale = CHANGE * (self.noisier_method if method else 1)
            values += scale * self.checkpoint * numbers.normal(size=(seeds, checkpoints, 1, 2))
            values += scale * self.image * numbers.normal(size=values.shape)
            values[:, 0] = base_P2
            # prompts differ in their rewards, and in how diverse anything can be on them
            values = np.stack([values[..., 0] + level_P2[:, 0], values[..., 1] * (1 + level_P2[:, 1])], -1)
            values[numbers.random(values.shape) < self.missing] = np.nan
            measured.append(values)
        return measured


STUDIES = {
    "seeds differ": Study(seed=0.15),
    "seeds differ, straight front": Study("line", seed=0.15),
    "seeds differ, diversity falls late": Study("cliff", seed=0.15),
    "seeds differ, in both methods alike": Study(shared_seed=0.2, seed=0.05),
    "prompts differ": Study(prompt=0.6),
    "prompts differ, diversity falls late": Study("cliff", prompt=0.6),
    "prompts differ, eight of them": Study(prompt=0.3, seed=0.05, prompts=8),
    "both differ": Study(seed=0.12, prompt=0.5),
    "both differ, skewed effects": Study(seed=0.12, prompt=0.5, skewed=True),
    "both differ, three seeds": Study(seed=0.12, prompt=0.5, seeds=3),
    "both differ, a tenth of the values missing": Study(seed=0.12, prompt=0.5, missing=0.1),
    "both differ, no gain": Study(seed=0.1, prompt=0.3, gain=False),
    "seeds differ prompt by prompt": Study(seed=0.0, prompt=0.0, both=0.7, checkpoint=0.0),
    "noisy images": Study(image=0.5),
    "noisy images, reward falls again": Study("hook", image=0.5),
    "noisy checkpoints": Study(checkpoint=0.1),
    "noisy checkpoints, reward falls again": Study("hook", checkpoint=0.1, seed=0.05),
    "method three times as noisy": Study(image=0.2, checkpoint=0.02, noisier_method=3.0),
}
