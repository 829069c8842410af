"""Shared by all training stages: atomic, resumable state; seeded generators; schedules; file permissions."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class Stage:
    """One training run over named modules with AdamW, resumable from one file.

    Batches are a function of (seed, step), so an interrupted and an uninterrupted run see the same data, on any device:
    generators are on the CPU, and `compute_loss` moves what it draws.
    """

    def __init__(
        self,
        path: Path,
        modules: dict[str, nn.Module],
        learning_rate: float,
        steps: int,
        ema_decay: float = 0.0,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        for module in modules.values():
            module.to(device)
        self.path, self.modules, self.steps, self.seed = path, modules, steps, seed
        self.peak, self.ema_decay, self.step = learning_rate, ema_decay, 0
        self.parameters = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
        on_card = torch.device(device).type == "cuda"
        rate = torch.tensor(learning_rate, device=device) if on_card else learning_rate
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=rate, betas=(0.9, 0.98), weight_decay=1e-3, capturable=on_card
        )
        self.decay = torch.zeros((), device=device)
        self.ema = [p.detach().clone() for p in self.parameters]
        if path.exists():
            self._load(torch.load(path, weights_only=True, map_location=device))

    def _load(self, state: dict[str, Any]) -> None:
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema, self.step = state["ema"], state["step"]

    def save(self) -> None:
        """Write the state beside its target and rename, so that a kill never leaves a partial file."""
        state = {
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema,
            "step": self.step,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_suffix(".tmp")
        with scratch.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(self.path)

    def generator(self) -> torch.Generator:
        """The CPU generator of the current step."""
        return torch.Generator().manual_seed(self.seed * 10_000_019 + self.step)

    def update(self, loss: Tensor, max_norm: float = 1.0) -> None:
        """Backward, clip, step with warm-up (5 %) and linear decay to 2 %, and the moving average."""
        self.set_rates()
        self.optimizer.zero_grad(set_to_none=True)
        self.descend(loss, max_norm)
        self.step += 1

    def set_rates(self) -> None:
        """The learning rate and the average's weight of the current step, as tensors where steps are replayed."""
        warm_up, done = max(1, self.steps // 20), self.step + 1
        rate = self.peak * min(done / warm_up, max(0.02, 1.0 - self.step / self.steps))
        self.decay.fill_(min(self.ema_decay, done / (done + 10.0)) if self.ema_decay else 0.0)
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def descend(self, loss: Tensor, max_norm: float = 1.0) -> None:
        """Backward, clip, optimizer step and moving average: nothing here waits for the device."""
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, max_norm)
        self.optimizer.step()
        share = 1.0 - self.decay
        for average, parameter in zip(self.ema, self.parameters, strict=True):
            average.lerp_(parameter.detach(), share)

    def run(
        self,
        compute_loss: Callable[[torch.Generator], tuple[Tensor, str]],
        log_every: int = 100,
        save_every: int = 100,
    ) -> None:
        """Train to the last step; ``compute_loss(generator)`` returns the loss and a log line."""
        torch.manual_seed(self.seed + self.step)
        while self.step < self.steps:
            loss, line = compute_loss(self.generator())
            self.update(loss)
            if self.is_due(log_every):
                print(f"{self.path.stem} {self.step}/{self.steps} {line}", flush=True)
            if self.is_due(save_every):
                self.save()

    def is_due(self, every: int) -> bool:
        """Whether something that is done every so many steps, and after the last, is done now."""
        return self.step % every == 0 or self.step == self.steps

    def use_ema(self) -> None:
        """Copy the moving average into the modules (for export: the state file keeps both)."""
        with torch.no_grad():
            for parameter, average in zip(self.parameters, self.ema, strict=True):
                parameter.copy_(average)


def make_readable(folder: Path) -> None:
    """Give every file mode 0644: diffusers and transformers write safetensors as 0600, unreadable in an image."""
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
