"""DiffusionNFT as published, in whole runs, against its algorithm written down from the paper."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from plain_policy import PlainPolicy, drawn_levels, noise_of, shares_of_difference
from runs import TinyWorld, assert_same_training_state
from torch import Tensor

from drift_pl.builders.run import build_run
from drift_pl.config.loading import parse
from drift_pl.training.updates.nft import NftUpdate
from drift_pl.training.updates.protocol import UpdateContext

PUBLISHED = [
    *("objective.loss=nft", "policy.guidance_scale=1", "objective.advantage_std=global", "objective.updates=1"),
    *("objective.noise_levels=sampler", "objective.branch_weight=own", "objective.kl_scale=plain"),
    *("objective.old_decay_max=0.5", "sampler.window_size=0", "sampler.window_range=[]", "sampler.solver=dpm2"),
    *("sampler.steps=5", "objective.nft_times=4", "objective.kl_weight=0.2", "objective.nft_beta=0.5"),
]
OFF = ["incentive.selection.rule=none", "incentive.prompting.rule=none", "incentive.shaping.weight=0"]
JUDGE = ["rewards=[{name: 'judges:Brightness'}]"]
FAST = ["objective.old_decay_rate=0.2", "objective.learning_rate=0.003", "objective.ema_decay=0"]
ITERATIONS = 3


@pytest.fixture(autouse=True)
def judges_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


class Paper(PlainPolicy):
    """Algorithm 1 of arXiv 2509.16117."""

    beta, limit, kl = 0.5, 5.0, 0.2

    def __init__(self, folder: Path, prompts: list[list[str]]) -> None:
        super().__init__(folder, prompts, steps=5)
        self.old = self.copy()

    @torch.no_grad()
    def sample(self, iteration: int) -> Tensor:
        """Images of the old policy, by the ODE."""
        solver = DPMSolverMultistepScheduler(
            algorithm_type="dpmsolver++", solver_order=2, prediction_type="flow_prediction", use_flow_sigmas=True,
            final_sigmas_type="zero", lower_order_final=True,
        )  # fmt: skip
        solver.set_timesteps(5)
        solver.sigmas, solver.timesteps = self.grid, self.grid[:-1] * 1000
        state = noise_of("initial_latents", iteration, (4, 8, 8))
        with self.holding(self.old):
            for sigma, timestep in zip(self.grid[:-1], solver.timesteps, strict=True):
                state = solver.step(self.velocity(state, float(sigma), iteration), timestep, state).prev_sample
        return state

    def losses(self, iteration: int, x_0: Tensor, advantage: Tensor) -> Iterator[Tensor]:
        """Of each level; both branches in clean latents, each over its own error."""
        noise, levels = noise_of("forward_noise", iteration, (4, 4, 8, 8)), drawn_levels(self, iteration)
        r = 0.5 + 0.5 * (advantage / self.limit).clamp(-1, 1)
        for n, t in enumerate(levels):
            x_t = (1 - t) * x_0 + t * noise[:, n]
            with torch.no_grad(), self.holding(self.old):
                old = self.velocity(x_t, t, iteration)
            with self.base():
                reference = self.velocity(x_t, t, iteration)
            v = self.velocity(x_t, t, iteration)
            loss = self.kl * (v - reference).pow(2).mean((1, 2, 3))
            good, bad = (1 - self.beta) * old + self.beta * v, (1 + self.beta) * old - self.beta * v
            for share, branch in ((r, good), (1 - r, bad)):
                error = x_t - t * branch - x_0
                size = error.detach().abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-5)
                loss = loss + share * (error**2 / size).mean((1, 2, 3)) * self.limit / self.beta
            yield loss.mean() / len(levels)

    def iterate(self, iteration: int, x_0: Tensor, advantage: Tensor) -> None:
        """One optimizer step; then the old policy follows."""
        self.step(lambda: self.losses(iteration, x_0, advantage))
        share = min(0.2 * (iteration + 1), 0.5)
        self.old = {name: share * self.old[name] + (1 - share) * w.detach() for name, w in self.weights.items()}


@pytest.mark.parametrize(("mode", "counted"), [("all", lambda a: a), ("binary", torch.sign)])
def test_it_is_the_published_algorithm(
    mode: str,
    counted: Callable[[Tensor], Tensor],
    world: TinyWorld,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three iterations: the images are the old policy's, and the weights follow.

    Catches in training/updates/nft.py: a weighted KL; v_old of the policy of now; advantages whose mode is not applied.
    Meant for, in training/updates/nft.py: the shared weight. Catches in sampling/solver.py: Euler's steps.
    """
    seen: list[Any] = []
    original = NftUpdate.run

    def recording(self: NftUpdate, context: UpdateContext) -> Any:
        seen.append(context.experience)
        return original(self, context)

    monkeypatch.setattr(NftUpdate, "run", recording)
    settings = [*PUBLISHED, *FAST, *OFF, *JUDGE, f"trainer.iterations={ITERATIONS}", f"objective.adv_mode={mode}"]
    data = build_run(parse([*world.overrides(), *settings]).config, tmp_path).datamodule
    paper = Paper(world.root / "pipeline", [list(data.batch(number).prompts) for number in range(ITERATIONS)])
    start, ours = paper.copy(), world.fit(tmp_path / "run", *settings)
    for iteration, experience in enumerate(seen):
        images, advantage = experience.trajectory.final_BCHW, experience.advantage_KB[0]
        torch.testing.assert_close(images, paper.sample(iteration), rtol=0, atol=2e-3)
        assert len(advantage.unique()) > 8
        paper.iterate(iteration, images, counted(advantage))
    assert shares_of_difference(ours["state_dict"], paper.weights, start, "network.") < 0.01
    assert shares_of_difference(ours["old_policy"], paper.old, start) < 0.01


def test_it_is_the_same_after_a_resume(world: TinyWorld, tmp_path: Path) -> None:
    """Bit for bit, with the old policy."""
    settings = [*PUBLISHED, *FAST, *JUDGE]
    whole = world.fit(tmp_path / "whole", *settings, "trainer.iterations=4")
    world.fit(tmp_path / "parts", *settings, "trainer.iterations=2")
    parts = world.fit(tmp_path / "parts", *settings, "trainer.iterations=4", "ckpt_path=last")
    assert_same_training_state(parts, whole)
    assert all(torch.equal(value, parts["old_policy"][name]) for name, value in tensors(whole["old_policy"]).items())


def tensors(values: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}
