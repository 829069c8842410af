"""Held-out evaluation before, during and after training, and the run's summary."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from drift_pl.core.files import write_json
from drift_pl.evaluation.evaluator import Evaluated, Evaluator
from drift_pl.evaluation.grids import labelled_grid, save_image
from drift_pl.policies.protocol import Policy
from drift_pl.sampling.prompts import PromptEncoder
from drift_pl.sampling.rollout import Sampler


@dataclass(frozen=True)
class EvaluationPlan:
    """When and on what to evaluate.

    Attributes:
        steps, guidance_scale, negative_prompt: of the deterministic sampler.
        importance_power: of annealed importance guidance, see `Sampler`; None for none.
        lora_scale: factor of the adapter's output.
        resolution: height and width of the images in pixels; None for the policy's own.
        tuning_prompts: looked at every so many iterations while a run goes on.
        test_prompts: looked at before and after training only; what summary.json reports.
        every: iterations between looks at the tuning prompts; 0 for never.
        test_seeds, tuning_seeds: images per prompt.
    """

    steps: int
    guidance_scale: float
    negative_prompt: str
    tuning_prompts: Sequence[str]
    test_prompts: Sequence[str]
    every: int
    test_seeds: int
    tuning_seeds: int
    importance_power: float | None = None
    lora_scale: float = 1.0
    resolution: int | None = None


def evaluate_policy(
    evaluator: Evaluator,
    plan: EvaluationPlan,
    policy: Policy,
    encode: PromptEncoder,
    prompts: Sequence[str],
    seeds: int,
    device: torch.device,
    context: AbstractContextManager[Any],
    reference: Tensor | None = None,
) -> Evaluated:
    """The policy as it is now, sampled and measured as `plan` says: the one definition of held-out evaluation.

    Args:
        seeds: images per prompt.
        context: of the precision.
        reference: the base model's embeddings, for measures of drift.
    """
    negative = encode([plan.negative_prompt], device, negative=True)
    with context, policy.at_resolution(plan.resolution):  # the noise levels of some models depend on the resolution
        sigmas = policy.sigmas(plan.steps)
        sampler = Sampler(sigmas, plan.guidance_scale, negative, importance_power=plan.importance_power)
        return evaluator.run(policy, encode, sampler, prompts, seeds, device, reference)


class HeldOutEvaluation(L.Callback):
    """Writes summary.json (base against tuned on test prompts), `eval/` metrics and image grids.

    Args:
        evaluator: measures a policy on prompts.
        plan: when and on what.
        run_dir: the run's folder.
        facts: what else summary.json says (encoder, config hash, ...).
    """

    def __init__(self, evaluator: Evaluator, plan: EvaluationPlan, run_dir: Path, facts: dict[str, Any]) -> None:
        self._evaluator, self._plan, self._run_dir = evaluator, plan, run_dir
        self._facts = facts
        self._seconds = 0.0
        self._images = 0

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self._seconds, "images": self._images}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._seconds, self._images = state_dict["seconds"], state_dict["images"]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._evaluator.to(pl_module.device)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The base model on the test prompts, unless an earlier part of this run has done it."""
        if self._plan.every and trainer.datamodule.iteration == 0:
            self._look_at_tuning_prompts(trainer, pl_module)
        if self._base_file.exists():
            return
        with pl_module.policy.reference():
            base = self._evaluate(trainer, pl_module, self._plan.test_prompts, self._plan.test_seeds)
        if trainer.is_global_zero:
            self._write_evaluated(base, self._base_file)
            save_image(labelled_grid(["base"], [base.grid_PS3HW], self._shown(base)), self._samples / "base.png")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        metrics = outputs["metrics"]
        self._seconds += sum(metrics[f"time/{part}_s"] for part in ("rollout", "judges", "update"))
        self._images += len(outputs["images_B3HW"]) * trainer.world_size
        done = trainer.datamodule.iteration
        if self._plan.every and done % self._plan.every == 0:
            self._look_at_tuning_prompts(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not pl_module.finished:
            return
        reference = self._embeddings(trainer, self._base_file)
        with pl_module.evaluated_weights(), pl_module.policy.adapter_scale(self._plan.lora_scale):
            tuned = self._evaluate(trainer, pl_module, self._plan.test_prompts, self._plan.test_seeds, reference)
        if trainer.is_global_zero:
            self._write_summary(trainer, pl_module, tuned)

    @property
    def _base_file(self) -> Path:
        return self._run_dir / "evaluation" / "base.json"

    @property
    def _samples(self) -> Path:
        return self._run_dir / "samples"

    def _shown(self, evaluated: Evaluated) -> tuple[str, ...]:
        return evaluated.prompts[: len(evaluated.grid_PS3HW)]

    def _evaluate(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        prompts: Sequence[str],
        seeds: int,
        reference: Tensor | None = None,
    ) -> Evaluated:
        context = trainer.precision_plugin.forward_context()
        policy, encode, device = pl_module.policy, pl_module.encode_prompts, pl_module.device
        return evaluate_policy(self._evaluator, self._plan, policy, encode, prompts, seeds, device, context, reference)

    def _embeddings(self, trainer: L.Trainer, path: Path) -> Tensor | None:
        """The base model's embeddings, for the one process that reports; None unless drift is measured."""
        if not (self._evaluator.measures_drift and trainer.is_global_zero):
            return None
        return torch.from_numpy(np.load(path.with_suffix(".npz"))["embedding"])

    def _tuning_reference(self, trainer: L.Trainer, pl_module: L.LightningModule) -> Tensor | None:
        """The same on the tuning prompts; the base model is sampled unless an earlier part of the run has done it."""
        if not self._evaluator.measures_drift:
            return None
        path = self._base_file.with_name("base_tuning.json")
        if not trainer.strategy.broadcast(path.exists()):  # all processes sample or none does
            with pl_module.policy.reference():
                base = self._evaluate(trainer, pl_module, self._plan.tuning_prompts, self._plan.tuning_seeds)
            if trainer.is_global_zero:
                self._write_evaluated(base, path)
        return self._embeddings(trainer, path)

    def _look_at_tuning_prompts(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        done, plan = trainer.datamodule.iteration, self._plan
        reference = self._tuning_reference(trainer, pl_module)
        with pl_module.evaluated_weights(), pl_module.policy.adapter_scale(plan.lora_scale):
            seen = self._evaluate(trainer, pl_module, plan.tuning_prompts, plan.tuning_seeds, reference)
        if not trainer.is_global_zero:
            return
        means = seen.means()
        self._append_to_history(done, means)
        grid = labelled_grid([f"iteration {done}"], [seen.grid_PS3HW], self._shown(seen))
        save_image(grid, self._samples / f"iteration-{done:06d}.png")
        values = {f"eval/{name}": value for name, value in means.items()}
        # Iteration i is logged at step i - 1, as Lightning does; the base model shares the first point's place.
        for logger in trainer.loggers:
            logger.log_metrics(values, step=max(done - 1, 0))
            if hasattr(logger.experiment, "add_image"):
                logger.experiment.add_image("samples", np.asarray(grid), max(done - 1, 0), dataformats="HWC")

    def _write_evaluated(self, evaluated: Evaluated, path: Path) -> None:
        """Values as JSON; beside them images of the grid, and embeddings if drift is measured, to compare runs by."""
        path.parent.mkdir(parents=True, exist_ok=True)
        file, grid = path.with_suffix(".npz"), _bytes(evaluated.grid_PS3HW)
        if evaluated.embedding_PSD is None:
            np.savez_compressed(file, grid=grid)
        else:
            np.savez_compressed(file, grid=grid, embedding=evaluated.embedding_PSD.numpy())
        write_json(path, {"values": evaluated.means(), "per_prompt": per_prompt(evaluated)})

    def _append_to_history(self, done: int, values: dict[str, float]) -> None:
        """Keeps evaluation/history.json, one entry per look; a resumed run drops those it is going to repeat."""
        path = self._run_dir / "evaluation" / "history.json"
        earlier = json.loads(path.read_text())["history"] if path.exists() else []
        entries = [entry for entry in earlier if entry["iteration"] < done]
        write_json(path, {"history": [*entries, {"iteration": done, **values}]})

    def _write_summary(self, trainer: L.Trainer, pl_module: L.LightningModule, tuned: Evaluated) -> None:
        base = json.loads(self._base_file.read_text())
        self._write_evaluated(tuned, self._run_dir / "evaluation" / "tuned.json")
        summary = {
            "base": base["values"],
            "tuned": tuned.means(),
            **self._facts,
            "images_per_prompt": self._plan.test_seeds,
            "tuned_is_ema": pl_module.average is not None,
            "iterations": trainer.datamodule.iteration,
            "images": self._images,
            "seconds": round(self._seconds, 1),
        }
        write_json(self._run_dir / "summary.json", summary)
        base_grid = torch.from_numpy(np.load(self._base_file.with_suffix(".npz"))["grid"]).float() / 255
        sheet = labelled_grid(["base", "fine-tuned"], [base_grid, tuned.grid_PS3HW], self._shown(tuned))
        save_image(sheet, self._samples / "base_and_tuned.png")


def per_prompt(evaluated: Evaluated) -> dict[str, dict[str, float | None]]:
    """Prompt -> name -> value; null where a prompt has none."""
    return {
        prompt: {name: _number(value_P[row]) for name, value_P in evaluated.values.items()}
        for row, prompt in enumerate(evaluated.prompts)
    }


def _number(value: Tensor) -> float | None:
    return float(value) if value.isfinite() else None


def _bytes(images: Tensor) -> np.ndarray:
    return (images.clamp(0, 1) * 255).round().byte().numpy()
