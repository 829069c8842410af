"""Flow-GRPO as one would write it in a script: diffusers, peft and the formulas, without Lightning.

None of this package's rollout, replay, advantage, loss or update code is used; what both have in common are the weight
files, the reward, and the random numbers (`core/rng.py`), so that gradients can be compared bit by bit. `Habits` adds
what published scripts do differently.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline
from peft import LoraConfig
from torch import Tensor, nn

from drift_pl.config.schema import Config
from drift_pl.core.locate import locate
from drift_pl.core.rng import normal_per_sample, sample_generators


@dataclass(frozen=True)
class Habits:
    """How the loop works.

    Attributes:
        micro_batch: images per forward pass.
        guidance_scale: 1 for none; else both branches in one batch.
        window: number of trained steps, or 0 for all but the last.
        encode_per_batch: the prompts of every batch are encoded again; otherwise each text once per run.
        judge_batch: images per call of the reward; 0 for all.
    """

    micro_batch: int
    guidance_scale: float = 1.0
    window: int = 3
    encode_per_batch: bool = False
    judge_batch: int = 0


@dataclass
class Rollout:
    """What an iteration keeps: states [T + 1] of [B, C, H, W], log-densities by trained step, text of each image."""

    states: list[Tensor]
    log_probs: dict[int, Tensor]
    text: tuple[Tensor, Tensor]


class PlainLoop:
    """The script: its network, optimizer and average, and one iteration as a method.

    Args:
        config: settings of the run it is compared with; read here, in one place, into plain numbers.
        reward: (images, prompts) -> one number per image.
        adapter: initial weights by parameter name.
    """

    def __init__(self, config: Config, reward: Any, adapter: dict[str, Tensor], habits: Habits) -> None:
        self.habits, self.reward = habits, reward
        folder = locate(config.policy.pretrained)
        self.pipe = StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None)
        self.network: nn.Module = self.pipe.transformer.requires_grad_(False).eval()
        lora = config.policy.lora
        self.network.add_adapter(LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets)))
        self.trained = {name: p for name, p in self.network.named_parameters() if p.requires_grad}
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(adapter[name])
        self.average = [parameter.detach().clone() for parameter in self.trained.values()]
        objective, sampler = config.objective, config.sampler
        self.optimizer = torch.optim.AdamW(
            self.trained.values(), lr=objective.learning_rate, weight_decay=objective.weight_decay
        )
        self.decay, self.steps_taken = objective.ema_decay, 0
        self.clip_range, self.advantage_clip = objective.clip_range, objective.advantage_clip
        self.updates, self.max_norm = objective.updates, objective.max_grad_norm
        self.noise_level, self.num_steps = sampler.noise_level, sampler.steps
        self.group_size = config.prompts.group_size
        self.pipe.scheduler.set_timesteps(self.num_steps)
        self.sigmas = self.pipe.scheduler.sigmas
        self.side = self.pipe.transformer.config.sample_size
        self.texts: dict[str, tuple[Tensor, Tensor]] = {}
        self.least_std: float | None = None
        self.gradients: list[list[Tensor]] | None = None

    def iterate(self, prompts: Sequence[str], key: tuple[int, int], samples: Sequence[int], start: int) -> None:
        """One iteration.

        Args:
            prompts: one per group.
            key, samples: of the random numbers, see `sample_generators`.
            start: first trained step.
        """
        length = self.habits.window or self.num_steps - 1
        window = range(start, start + length) if self.habits.window else range(length)
        per_image = [prompt for prompt in prompts for _ in range(self.group_size)]
        rollout = self.sample(per_image, window, key, samples)
        images = self.decode(rollout.states[-1])
        size = self.habits.judge_batch or len(images)
        starts = range(0, len(images), size)
        reward = torch.cat([self.reward(images[at : at + size], per_image[at : at + size]) for at in starts])
        advantage = self.advantages(reward.view(len(prompts), self.group_size)).flatten()
        self.update(rollout, advantage, window)

    @torch.no_grad()
    def sample(self, prompts: Sequence[str], window: range, key: tuple[int, int], samples: Sequence[int]) -> Rollout:
        shape = (self.network.config.in_channels, self.side, self.side)
        x_all = normal_per_sample(sample_generators("initial_latents", *key, samples=samples), shape)
        generators = sample_generators("step_noise", *key, samples=samples)
        parts = []
        for at in range(0, len(samples), self.habits.micro_batch):
            rows = slice(at, at + self.habits.micro_batch)
            text, x = self.encode(prompts[rows]), x_all[rows]
            states, log_probs = [x], []
            for step in range(self.num_steps):
                velocity = self.velocity(x, step, text)
                if step in window:
                    mean, std = self.stochastic_step(x, velocity, step)
                    x = mean + std * torch.stack([torch.randn(shape, generator=g) for g in generators[rows]])
                    log_probs.append(log_density(x, mean, std))
                else:
                    x = x + (self.sigmas[step + 1] - self.sigmas[step]) * velocity
                states.append(x)
            parts.append((states, log_probs, text))
        all_states, all_log_probs, texts = zip(*parts, strict=True)
        return Rollout(
            [torch.cat(same) for same in zip(*all_states, strict=True)],
            dict(zip(window, (torch.cat(same) for same in zip(*all_log_probs, strict=True)), strict=True)),
            (torch.cat([tokens for tokens, _ in texts]), torch.cat([pooled for _, pooled in texts])),
        )

    def update(self, rollout: Rollout, advantage: Tensor, window: range) -> None:
        """PPO's clipped objective (arXiv 2505.05470, eq. 5), one pass over the images in `updates` optimizer steps."""
        for rows in torch.arange(len(advantage)).chunk(self.updates):
            scale = 1 / (len(rows) * len(window))
            for part in rows.split(self.habits.micro_batch):
                text = (rollout.text[0][part], rollout.text[1][part])
                for step in window:
                    x, x_next = rollout.states[step][part], rollout.states[step + 1][part]
                    mean, std = self.stochastic_step(x, self.velocity(x, step, text), step)
                    ratio = (log_density(x_next, mean, std) - rollout.log_probs[step][part]).exp()
                    clipped = ratio.clamp(1 - self.clip_range, 1 + self.clip_range)
                    loss = torch.maximum(-advantage[part] * ratio, -advantage[part] * clipped)
                    (loss.sum() * scale).backward()
            self.step()

    def step(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.trained.values(), self.max_norm)
        if self.gradients is not None:
            self.gradients.append([parameter.grad.clone() for parameter in self.trained.values()])
        self.optimizer.step()
        self.optimizer.zero_grad()
        decay = min((1 + self.steps_taken) / (10 + self.steps_taken), self.decay)
        self.steps_taken += 1
        with torch.no_grad():
            torch._foreach_lerp_(self.average, list(self.trained.values()), 1 - decay)

    def velocity(self, x: Tensor, step: int, text: tuple[Tensor, Tensor]) -> Tensor:
        """The network's velocity, with classifier-free guidance where the scale is not 1."""
        tokens, pooled = text
        scale, time = self.habits.guidance_scale, self.sigmas[step] * 1000
        if scale != 1:
            empty_tokens, empty_pooled = self.encode([""] * len(x))
            tokens, pooled = torch.cat([empty_tokens, tokens]), torch.cat([empty_pooled, pooled])
            x = torch.cat([x, x])
        inputs = {"hidden_states": x, "timestep": time.expand(len(x)), "pooled_projections": pooled}
        velocity = self.network(**inputs, encoder_hidden_states=tokens, return_dict=False)[0]
        if scale == 1:
            return velocity
        empty, prompted = velocity.chunk(2)
        return empty + scale * (prompted - empty)

    def stochastic_step(self, x: Tensor, v: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the reverse SDE's step (arXiv 2505.05470, eq. 9 and 12)."""
        sigma, length = self.sigmas[step], self.sigmas[step] - self.sigmas[step + 1]
        diffusion = self.noise_level * (sigma / (1 - (self.sigmas[1] if sigma >= 1 else sigma))).sqrt()
        drift = diffusion.square() / (2 * sigma)
        return x * (1 - drift * length) - v * ((1 + drift * (1 - sigma)) * length), diffusion * length.sqrt()

    def advantages(self, reward_PG: Tensor) -> Tensor:
        """Relative to the group, [P, G], divided by at least 1 % of the first iteration's median spread."""
        centred = reward_PG - reward_PG.mean(1, keepdim=True)
        std = centred.square().mean(1, keepdim=True).sqrt()
        if self.least_std is None:
            self.least_std = 0.01 * float(std.double().quantile(0.5))
        return (centred / std.clamp(min=self.least_std)).clamp(-self.advantage_clip, self.advantage_clip)

    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Text tokens and pooled embedding of each prompt."""
        if self.habits.encode_per_batch:
            return self.encode_now(prompts)
        for text in prompts:
            if text not in self.texts:
                self.texts[text] = self.encode_now([text])
        rows = [self.texts[prompt] for prompt in prompts]
        return torch.cat([tokens for tokens, _ in rows]), torch.cat([pooled for _, pooled in rows])

    @torch.no_grad()
    def encode_now(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        tokens, _, pooled, _ = self.pipe.encode_prompt(
            list(prompts), None, None, do_classifier_free_guidance=False, max_sequence_length=0
        )
        return tokens, pooled

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Images in [0, 1], in the batches of the rollout."""
        config, parts = self.pipe.vae.config, latents.split(self.habits.micro_batch)
        shift = config.shift_factor or 0.0
        images = [self.pipe.vae.decode(part / config.scaling_factor + shift, return_dict=False)[0] for part in parts]
        return (torch.cat(images) / 2 + 0.5).clamp(0, 1)


def log_density(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Of a Gaussian, averaged over the latent elements, [B]."""
    square = (x - mean).square() / (2 * std.square())
    return (-square - std.log() - 0.5 * math.log(2 * math.pi)).flatten(1).mean(1)
