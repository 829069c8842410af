"""AWM (`objective.loss=awm`) in whole runs, against its loss written down from paper and code."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from plain_policy import PlainPolicy, drawn_levels, noise_of, shares_of_difference
from runs import TinyWorld, assert_same_training_state
from torch import Tensor

from drift_pl.builders.run import build_run
from drift_pl.config.loading import parse
from drift_pl.training.updates.matching import MatchingUpdate
from drift_pl.training.updates.protocol import UpdateContext

AWM = [
    *("objective.loss=awm", "policy.guidance_scale=1", "objective.clip_range=1", "objective.advantage_std=global"),
    *("objective.noise_levels=sampler", "objective.nft_times=4", "sampler.steps=5", "sampler.window_size=0"),
    *("sampler.window_range=[]", "objective.kl_weight=0.2", "objective.awm_pull=0.5", "objective.old_decay_max=0.3"),
    *("objective.old_decay_rate=0.1", "objective.learning_rate=0.003", "objective.ema_decay=0"),
    *("rewards=[{name: 'judges:Brightness'}]",),
]
OFF = ["incentive.selection.rule=none", "incentive.prompting.rule=none", "incentive.shaping.weight=0"]


@pytest.fixture(autouse=True)
def judges_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


class Paper(PlainPolicy):
    """Algorithm 1 of arXiv 2509.25050 with its code's weights: ghuber of power 1/4, and a pull to a lagging copy."""

    def __init__(self, folder: Path, prompts: list[list[str]]) -> None:
        super().__init__(folder, prompts, steps=5)
        self.lagging = self.copy()

    def log_prob(self, v: Tensor, target: Tensor, t: float) -> Tensor:
        error = (v - target).double().pow(2).mean((1, 2, 3))
        return -4 * t * ((error + 1e-10) ** 0.25 - 1e-10**0.25)

    def losses(self, iteration: int, x_0: Tensor, advantage: Tensor, old: Any, rows: slice) -> Iterator[Tensor]:
        noise, levels = noise_of("forward_noise", iteration, (4, 4, 8, 8))[rows], drawn_levels(self, iteration)
        for n, t in enumerate(levels):
            x_t, target = (1 - t) * x_0[rows] + t * noise[:, n], noise[:, n] - x_0[rows]
            found = {}
            for name, weights in (("old", old), ("lagging", self.lagging)):
                with torch.no_grad(), self.holding(weights):
                    found[name] = self.velocity(x_t, t, iteration, rows)
            with self.base():
                reference = self.velocity(x_t, t, iteration, rows)
            v = self.velocity(x_t, t, iteration, rows)
            ratio = (self.log_prob(v, target, t) - self.log_prob(found["old"], target, t)).exp()
            a = (advantage[rows] / 5).clamp(-1, 1)
            loss = torch.maximum(-a * ratio, -a * ratio.clamp(0, 2))
            loss = loss + 0.2 * (v - reference).pow(2).mean((1, 2, 3))
            loss = loss + 0.5 * (v - found["lagging"]).pow(2).mean((1, 2, 3))
            yield loss.mean() / len(levels)

    def iterate(self, iteration: int, x_0: Tensor, advantage: Tensor) -> None:
        """Two optimizer steps, each of half of the images; then the lagging copy follows."""
        old = self.copy()
        for rows in (slice(0, 8), slice(8, 16)):
            self.step(lambda rows=rows: self.losses(iteration, x_0, advantage, old, rows))
        share = min(0.1 * 2 * (iteration + 1), 0.3)
        self.lagging = {name: share * self.lagging[name] + (1 - share) * w.detach() for name, w in self.weights.items()}


def test_it_is_advantage_weighted_matching(world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two iterations of two optimizer steps.

    For, in training/updates/matching.py: a ratio to the policy of now; the lagging policy in its place; advantages
    that are not divided. Meant for, in training/module.py: images of the lagging policy.
    """
    seen: list[Any] = []
    original = MatchingUpdate.run

    def recording(self: MatchingUpdate, context: UpdateContext) -> Any:
        seen.append(context.experience)
        return original(self, context)

    monkeypatch.setattr(MatchingUpdate, "run", recording)
    settings = [*AWM, *OFF, "trainer.iterations=2"]
    data = build_run(parse([*world.overrides(), *settings]).config, tmp_path).datamodule
    paper = Paper(world.root / "pipeline", [list(data.batch(number).prompts) for number in range(2)])
    start, ours = paper.copy(), world.fit(tmp_path / "run", *settings)
    for iteration, experience in enumerate(seen):
        paper.iterate(iteration, experience.trajectory.final_BCHW, experience.advantage_KB[0])
    assert shares_of_difference(ours["state_dict"], paper.weights, start, "network.") < 0.01
    assert shares_of_difference(ours["old_policy"], paper.lagging, start) < 0.01


def test_it_is_the_same_after_a_resume(world: TinyWorld, tmp_path: Path) -> None:
    whole = world.fit(tmp_path / "whole", *AWM, "trainer.iterations=3")
    world.fit(tmp_path / "parts", *AWM, "trainer.iterations=2")
    parts = world.fit(tmp_path / "parts", *AWM, "trainer.iterations=3", "ckpt_path=last")
    assert_same_training_state(parts, whole)
