"""A pipeline of diffusers with an adapter of peft, for updates that are written down again from their papers.

It shares the streams of random numbers with the package, and nothing else.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import StableDiffusion3Pipeline
from peft import LoraConfig
from torch import Tensor

from drift_pl.config.loading import parse
from drift_pl.core.rng import make_generator

Weights = dict[str, Tensor]


class PlainPolicy:
    """A network, its adapter's weights and an optimizer; prompts of each iteration, four images of each.

    Args:
        steps: of the grid of noise levels.
    """

    def __init__(self, folder: Path, prompts: list[list[str]], steps: int) -> None:
        pipe = StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None)
        self.net, lora = pipe.transformer.requires_grad_(False), parse([]).config.policy.lora
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net.add_adapter(
                LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=lora.targets,
                           init_lora_weights="gaussian")
            )  # fmt: skip
        self.weights = {name: weight for name, weight in self.net.named_parameters() if weight.requires_grad}
        self.optimizer = torch.optim.AdamW(self.weights.values(), lr=0.003, weight_decay=1e-4)
        pipe.scheduler.set_timesteps(steps)
        self.grid, self.prompts = pipe.scheduler.sigmas, []
        for texts in prompts:
            with torch.no_grad():
                tokens, _, pooled, _ = pipe.encode_prompt(texts, None, None, max_sequence_length=0)
            self.prompts.append((tokens.repeat_interleave(4, 0), pooled.repeat_interleave(4, 0)))

    def velocity(self, state: Tensor, t: float, iteration: int, rows: slice = slice(None)) -> Tensor:
        tokens, pooled = (part[rows] for part in self.prompts[iteration])
        return self.net(state, tokens, pooled, torch.full((len(state),), 1000 * t), return_dict=False)[0]

    def copy(self) -> Weights:
        return {name: weight.detach().clone() for name, weight in self.weights.items()}

    @contextmanager
    def holding(self, weights: Weights) -> Iterator[None]:
        now = self.copy()
        self._write(weights)
        yield
        self._write(now)

    @contextmanager
    def base(self) -> Iterator[None]:
        self.net.disable_adapters()
        with torch.no_grad():
            yield
        self.net.enable_adapters()

    def step(self, loss: Callable[[], Iterator[Tensor]]) -> None:
        """An optimizer step on the sum of losses, each of which is followed by its backward pass."""
        self.optimizer.zero_grad()
        for part in loss():
            part.backward()
        torch.nn.utils.clip_grad_norm_(self.weights.values(), 1.0)
        self.optimizer.step()

    @torch.no_grad()
    def _write(self, weights: Weights) -> None:
        for name, weight in self.weights.items():
            weight.copy_(weights[name])


def noise_of(purpose: str, iteration: int, shape: tuple[int, ...]) -> Tensor:
    """Sixteen images' noise, each from its own stream."""
    return torch.stack([torch.randn(shape, generator=make_generator(purpose, 0, iteration, b)) for b in range(16)])


def drawn_levels(policy: PlainPolicy, iteration: int) -> list[float]:
    """All levels of the grid but one, which is drawn for the iteration."""
    steps = len(policy.grid) - 1
    place = int(torch.randint(steps, (), generator=make_generator("forward_times", 0, iteration)))
    return [float(policy.grid[level]) for level in range(steps) if level != steps - 1 - place]


def shares_of_difference(ours: dict[str, Tensor], theirs: Weights, start: Weights, prefix: str = "") -> float:
    """Norm of the difference relative to how far the weights have moved."""
    apart = torch.cat([(ours[f"{prefix}{name}"] - value.detach()).flatten() for name, value in theirs.items()])
    moved = torch.cat([(value.detach() - start[name]).flatten() for name, value in theirs.items()])
    return float(apart.norm() / moved.norm())
