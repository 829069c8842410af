"""Whole runs on tiny models, in process."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tiny_models import save_tiny_encoder, save_tiny_lpips, save_tiny_pipeline, save_tiny_preference

from drift_pl.config.loading import parse
from drift_pl.fit import fit


@dataclass(frozen=True)
class TinyWorld:
    """Paths of everything that a run needs, random weights throughout."""

    root: Path

    @classmethod
    def create(cls, root: Path) -> "TinyWorld":
        save_tiny_pipeline(root / "pipeline")
        save_tiny_preference(root / "preference")
        save_tiny_encoder(root / "shaping")
        save_tiny_encoder(root / "evaluation", seed=5)
        save_tiny_lpips(root / "lpips")
        (root / "train.txt").write_text("a red dot\na blue bar\na big dot\nany dot\n")
        (root / "test.txt").write_text("a red bar\na dot\n")
        return cls(root)

    def paths(self) -> list[str]:
        """shapes_drift (the three levers and nothing else), with the tiny folders in place of its own."""
        root = self.root
        return [
            "experiment=shapes_drift",
            f"policy.pretrained={root}/pipeline",
            f"rewards.0.args.pretrained={root}/preference",
            f"incentive.shaping.encoder.args.pretrained={root}/shaping",
            f"evaluation.encoder.args.pretrained={root}/evaluation",
            f"evaluation.lpips.args.pretrained={root}/lpips",
            f"prompts.train={root}/train.txt",
            f"prompts.tuning={root}/test.txt",
            f"prompts.test={root}/test.txt",
            "evaluation.measures=[]",
        ]

    def overrides(self) -> list[str]:
        """Paths, and sizes that make an iteration take a fraction of a second."""
        sizes = ["prompts.per_iteration=4", "prompts.group_size=4", "objective.micro_batch=4", "objective.updates=2"]
        sampler = ["sampler.steps=4", "sampler.window_size=2", "sampler.window_range=[0,3]", "sampler.eval_steps=2"]
        evaluation = ["evaluation.seeds_per_prompt=2", "evaluation.seeds_while_training=2", "evaluation.grid_seeds=2"]
        trainer = ["trainer.save_every=2", "trainer.progress=false", "trainer.accelerator=cpu", "trainer.logger=[]"]
        return [*self.paths(), *sizes, *sampler, *evaluation, *trainer]

    def call_settings(self) -> dict[str, Any]:
        """The same for `drift_pl.finetune` and `drift_pl.build`, but for the experiment and its rewards."""
        pairs = [entry.split("=", 1) for entry in self.overrides()]
        texts = {key: value for key, value in pairs if key not in ("experiment", "rewards.0.args.pretrained")}
        return {key: json.loads(value) if value[0] in "[0123456789tf" else value for key, value in texts.items()}

    def fit(self, run_dir: Path, *overrides: str) -> dict[str, Any]:
        """Runs `fit` with shapes_drift's levers and a learning rate that shows; returns the last checkpoint."""
        argv = [*self.overrides(), "objective.learning_rate=0.01", "objective.ema_decay=0.5", *overrides]
        fit(parse([*argv, f"run_dir={run_dir}"]).config)
        return load(run_dir)


def load(run_dir: Path) -> dict[str, Any]:
    return load_checkpoint(run_dir / "checkpoints" / "last.ckpt")


def load_checkpoint(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def assert_same_training_state(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Weights, optimiser, average and iteration are equal bit for bit."""
    for part in ("state_dict", "optimizer_states", "average", "PromptDataModule"):
        assert_equal(first[part], second[part], part)


def assert_equal(first: Any, second: Any, where: str) -> None:
    assert type(first) is type(second), where
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_equal(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), where
        for number, pair in enumerate(zip(first, second, strict=True)):
            assert_equal(*pair, f"{where}.{number}")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    else:
        assert first == second, where


def largest_difference(first: dict[str, Any], second: dict[str, Any]) -> float:
    """Largest absolute difference between the weights of two checkpoints."""
    pairs = zip(first["state_dict"].values(), second["state_dict"].values(), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


def gradient_difference(first: dict[str, Any], second: dict[str, Any]) -> float:
    """Norm of the difference of two checkpoints' averaged gradients (Adam's first moments), relative to the first's.

    Where two runs add the same numbers in another order, this is as small as that makes it. Their weights need not be:
    Adam moves one of next to no gradient as far as any other, and in the direction of what is left of rounding.
    """
    ours, theirs = (
        torch.cat([state["exp_avg"].flatten() for state in each["optimizer_states"][0]["state"].values()])
        for each in (first, second)
    )
    return float((ours - theirs).norm() / ours.norm())
