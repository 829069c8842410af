"""DiffusionNFT as published, in whole runs, against its algorithm written down from the paper."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusion3Pipeline
from peft import LoraConfig
from runs import TinyWorld, assert_same_training_state
from torch import Tensor

from drift_pl.builders.run import build_run
from drift_pl.config.loading import parse
from drift_pl.core.rng import make_generator
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


class Paper:
    """Algorithm 1 of arXiv 2509.16117 on a pipeline of diffusers, with an adapter of peft.

    It shares the streams of random numbers with the package, and nothing else.
    """

    beta, limit, kl, steps = 0.5, 5.0, 0.2, 5

    def __init__(self, folder: Path, prompts: list[list[str]]) -> None:
        pipe = StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None)
        self.net, lora = pipe.transformer.requires_grad_(False), parse([]).config.policy.lora
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net.add_adapter(
                LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=lora.targets,
                           init_lora_weights="gaussian")
            )  # fmt: skip
        self.weights = {name: weight for name, weight in self.net.named_parameters() if weight.requires_grad}
        self.old = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self.optimizer = torch.optim.AdamW(self.weights.values(), lr=0.003, weight_decay=1e-4)
        pipe.scheduler.set_timesteps(self.steps)
        self.grid, self.prompts = pipe.scheduler.sigmas, []
        for texts in prompts:
            with torch.no_grad():
                tokens, _, pooled, _ = pipe.encode_prompt(texts, None, None, max_sequence_length=0)
            self.prompts.append((tokens.repeat_interleave(4, 0), pooled.repeat_interleave(4, 0)))

    def velocity(self, state: Tensor, t: float, iteration: int) -> Tensor:
        tokens, pooled = self.prompts[iteration]
        return self.net(state, tokens, pooled, torch.full((len(state),), 1000 * t), return_dict=False)[0]

    @torch.no_grad()
    def by_old(self, state: Tensor, t: float, iteration: int) -> Tensor:
        now = {name: weight.detach().clone() for name, weight in self.weights.items()}
        for name, weight in self.weights.items():
            weight.copy_(self.old[name])
        found = self.velocity(state, t, iteration)
        for name, weight in self.weights.items():
            weight.copy_(now[name])
        return found

    def sample(self, iteration: int) -> Tensor:
        """Images of the old policy, by the ODE."""
        generators = [make_generator("initial_latents", 0, iteration, b) for b in range(16)]
        state = torch.stack([torch.randn(4, 8, 8, generator=generator) for generator in generators])
        solver = DPMSolverMultistepScheduler(
            algorithm_type="dpmsolver++", solver_order=2, prediction_type="flow_prediction", use_flow_sigmas=True,
            final_sigmas_type="zero", lower_order_final=True,
        )  # fmt: skip
        solver.set_timesteps(self.steps)
        solver.sigmas, solver.timesteps = self.grid, self.grid[:-1] * 1000
        for sigma, timestep in zip(self.grid[:-1], solver.timesteps, strict=True):
            state = solver.step(self.by_old(state, float(sigma), iteration), timestep, state).prev_sample
        return state

    def update(self, iteration: int, x_0: Tensor, advantage: Tensor) -> None:
        """All levels of the grid but one; one optimizer step; then the old policy follows."""
        left_out = (
            self.steps - 1 - int(torch.randint(self.steps, (), generator=make_generator("forward_times", 0, iteration)))
        )
        noises = [
            torch.randn(4, 4, 8, 8, generator=make_generator("forward_noise", 0, iteration, b)) for b in range(16)
        ]
        noise = torch.stack(noises)
        self.optimizer.zero_grad()
        r = 0.5 + 0.5 * (advantage / self.limit).clamp(-1, 1)
        for n, level in enumerate(level for level in range(self.steps) if level != left_out):
            t, e = float(self.grid[level]), noise[:, n]
            x_t = (1 - t) * x_0 + t * e
            old = self.by_old(x_t, t, iteration)
            self.net.disable_adapters()
            with torch.no_grad():
                reference = self.velocity(x_t, t, iteration)
            self.net.enable_adapters()
            v = self.velocity(x_t, t, iteration)
            branches = {+1: (1 - self.beta) * old + self.beta * v, -1: (1 + self.beta) * old - self.beta * v}
            loss = self.kl * (v - reference).pow(2).mean((1, 2, 3))
            for sign, branch in branches.items():
                error = x_t - t * branch - x_0
                size = error.detach().abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-5)
                share = r if sign > 0 else 1 - r
                loss = loss + share * (error**2 / size).mean((1, 2, 3)) * self.limit / self.beta
            (loss.mean() / (self.steps - 1)).backward()
        torch.nn.utils.clip_grad_norm_(self.weights.values(), 1.0)
        self.optimizer.step()
        share = min(0.2 * (iteration + 1), 0.5)
        self.old = {name: share * self.old[name] + (1 - share) * w.detach() for name, w in self.weights.items()}


def test_it_is_the_published_algorithm(world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three iterations: the images are the old policy's, and the weights follow.

    Catches in training/updates/nft.py: the shared weight; a weighted KL; v_old of the policy of now.
    Catches in training/module.py: images of the policy of now. Catches in sampling/solver.py: Euler's steps.
    """
    seen: list[Any] = []
    original = NftUpdate.run

    def recording(self: NftUpdate, context: UpdateContext) -> Any:
        seen.append(context.experience)
        return original(self, context)

    monkeypatch.setattr(NftUpdate, "run", recording)
    settings = [*PUBLISHED, *FAST, *OFF, *JUDGE, f"trainer.iterations={ITERATIONS}"]
    data = build_run(parse([*world.overrides(), *settings]).config, tmp_path).datamodule
    paper = Paper(world.root / "pipeline", [list(data.batch(number).prompts) for number in range(ITERATIONS)])
    start = {name: weight.detach().clone() for name, weight in paper.weights.items()}
    ours = world.fit(tmp_path / "run", *settings)
    for iteration, experience in enumerate(seen):
        images, advantage = experience.trajectory.final_BCHW, experience.advantage_KB[0]
        torch.testing.assert_close(images, paper.sample(iteration), rtol=0, atol=2e-3)
        assert len(advantage.unique()) > 8
        paper.update(iteration, images, advantage)
    for part, theirs in (("state_dict", paper.weights), ("old_policy", paper.old)):
        prefix = "network." if part == "state_dict" else ""
        pairs = [(ours[part][f"{prefix}{name}"], value.detach(), start[name]) for name, value in theirs.items()]
        moved = torch.cat([(value - first).flatten() for _, value, first in pairs])
        apart = torch.cat([(mine - value).flatten() for mine, value, _ in pairs])
        assert apart.norm() < 0.01 * moved.norm(), part


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
