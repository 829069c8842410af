"""Held-out evaluation before, during and after training, and the run's summary."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities.exceptions import SIGTERMException

from drift_pl.core.checkpoint_files import stem_of
from drift_pl.core.errors import UserError
from drift_pl.core.files import write_json
from drift_pl.core.progress import Display
from drift_pl.evaluation.bench import Bench
from drift_pl.evaluation.evaluated import Evaluated
from drift_pl.evaluation.grids import labelled_grid, save_image
from drift_pl.evaluation.partial import PartialPoint
from drift_pl.evaluation.points import BASE, grid_of, keep, means, read_array, trained_point
from drift_pl.evaluation.record import TUNED, Evaluation, Point
from drift_pl.evaluation.record_file import read_evaluation
from drift_pl.evaluation.sampling import Model
from drift_pl.training.callbacks.progress import RunLength
from drift_pl.training.checkpointing import RunIdentity, weights_digest
from drift_pl.training.logged import log_final, log_picture
from drift_pl.training.reporting import STAGES


class HeldOutEvaluation(L.Callback):
    """Measures the base model and the final weights on test prompts, and the run's progress on tuning prompts.

    Writes the two records, `summary.json` (base against tuned), `eval/` metrics and image grids.

    Args:
        bench: measures a model.
        test, tuning: the run's records on test and tuning prompts, without points; their protocols name the prompts.
        every: iterations between evaluations on the tuning prompts; 0 for none.
        run_dir: the run's folder.
        facts: further entries of summary.json (encoder, config hash, ...).
        display: shows how many prompts are done.
    """

    def __init__(
        self,
        bench: Bench,
        test: Evaluation,
        tuning: Evaluation,
        every: int,
        run_dir: Path,
        facts: dict[str, Any],
        display: Display | None = None,
    ) -> None:
        self._display = display or Display()
        self.bench = replace(bench, evaluator=replace(bench.evaluator, after_prompt=self._display.advance))
        self._test, self._tuning, self._every = test, tuning, every
        self._run_dir, self._facts = run_dir, facts
        self._seconds = 0.0
        self._images = 0

    @property
    def prompts(self) -> list[str]:
        """What is measured in the run."""
        looks = self._tuning.protocol["prompts"] if self._every else []
        return [*looks, *self._test.protocol["prompts"]]

    @property
    def test_prompts(self) -> list[str]:
        return list(self._test.protocol["prompts"])

    def measures(self) -> list[str]:
        """Names of what the base model was measured by; known from when training starts."""
        return [*self._test.base.values] if self._test.base else []

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self._seconds, "images": self._images}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._seconds, self._images = state_dict["seconds"], state_dict["images"]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.bench.evaluator.to(pl_module.device)
        if trainer.is_global_zero:
            self._test, self._tuning = _continued(self._test), _continued(self._tuning)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The base model on the test prompts, unless an earlier part of this run has measured it."""
        if self._every and trainer.datamodule.iteration == 0:
            self._look_at_tuning_prompts(trainer, pl_module)
        self._test = self._with_base(self._test, trainer, pl_module, self._samples / "base.png")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        metrics = outputs["metrics"]
        self._seconds += sum(metrics[f"time/{part}_s"] for part in STAGES)
        self._images += trainer.datamodule.per_iteration * trainer.datamodule.group_size
        if self._every and trainer.datamodule.iteration % self._every == 0:
            self._look_at_tuning_prompts(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        seen, point = self._measure(self._test, trainer, pl_module, TUNED)
        if not trainer.is_global_zero:
            return
        self._test = keep(self._test, point, seen)
        PartialPoint.of(self._test, point).remove()
        base = read_array(self._test, BASE.name, "grid")
        if base is not None:
            grids, prompts = [base.float() / 255, seen.grid_PS3HW], seen.prompts[: len(base)]
            picture = labelled_grid(["base", "fine-tuned"], grids, prompts)
            save_image(picture, self._samples / "base_and_tuned.png")
            log_picture(trainer.loggers, "base_and_tuned", picture, trainer.datamodule.iteration)
        log_final(trainer.loggers, seen.means(), trainer.datamodule.iteration)
        self._write_summary(trainer, pl_module)  # last: a run that has it is complete

    @property
    def _samples(self) -> Path:
        return self._run_dir / "samples"

    def _with_base(
        self, record: Evaluation, trainer: L.Trainer, pl_module: L.LightningModule, picture: Path | None = None
    ) -> Evaluation:
        """The record with the base model's point; the first process's files decide whether all processes sample."""
        compared = "embedding" if self.bench.evaluator.drift else "grid"
        there = record.base is not None and read_array(record, BASE.name, compared) is not None
        partial = PartialPoint.of(record, BASE, _check_of(trainer))
        if trainer.strategy.broadcast(there):
            if trainer.is_global_zero:
                partial.remove()  # a process that was killed while it did so has left some
            return record
        with self._measuring("base model", record, trainer):
            seen = self.bench.base(_model(trainer, pl_module), *_asked(record), partial)
        if not trainer.is_global_zero:
            return record
        record = keep(record, BASE, seen, picture)
        partial.remove()
        if picture is not None:
            self._display.note(f"first pictures: {picture}")
        return record

    def _measuring(self, what: str, record: Evaluation, trainer: L.Trainer) -> AbstractContextManager[object]:
        """Shows this process's part of the prompts."""
        prompts, images = _asked(record)
        part = -(-len(prompts) // trainer.world_size)
        return self._display.stage(f"measuring the {what}, {images} images each:", part, f"{record.path.stem} prompts")

    def _look_at_tuning_prompts(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.bench.evaluator.drift:
            self._tuning = self._with_base(self._tuning, trainer, pl_module)
        seen, point = self._measure(self._tuning, trainer, pl_module)
        if not trainer.is_global_zero:
            return
        _refuse_gone_folder(trainer)
        done = point.iteration
        # a resumed run drops the points that it will measure again
        earlier = tuple(one for one in self._tuning.points if one.weights == "base" or one.iteration < done)
        picture = self._samples / f"{stem_of(done)}.png"
        self._tuning = keep(replace(self._tuning, points=earlier), point, seen, picture, arrays=False)
        values = {f"eval/{name}": value for name, value in seen.means().items()}
        # Iteration i is logged at step i - 1, as Lightning does; the base model shares the first point's place.
        for logger in trainer.loggers:
            logger.log_metrics(values, step=max(done - 1, 0))
        log_picture(trainer.loggers, "samples", grid_of(seen, point.title()), max(done - 1, 0))

    def _measure(
        self, record: Evaluation, trainer: L.Trainer, pl_module: L.LightningModule, name: str = ""
    ) -> tuple[Evaluated, Point]:
        """Measures the current weights, and makes the point that identifies them.

        Args:
            name: of the point; if it is given, each prompt is kept as soon as it is done.
        """
        reference = None
        if self.bench.evaluator.drift and record.points:
            reference = read_array(record, BASE.name, "embedding")
        done, training = trainer.datamodule.iteration, record.training
        with pl_module.evaluated_weights():
            point = trained_point(
                f"{stem_of(done)}.ckpt",
                weights_digest(dict(pl_module.policy.trainable_parameters())),
                done,
                done * training["images"] // training["iterations"],
                "live" if pl_module.average is None else "average",
                self.bench.sampling,
            )
            point = replace(point, name=name or point.name)
            partial = PartialPoint.of(record, point, _check_of(trainer)) if name else None
            what = "tuned model" if name else f"model after iteration {done}" if done else "base model"
            with self._measuring(what, record, trainer):
                return self.bench.tuned(_model(trainer, pl_module), *_asked(record), reference, partial), point

    def _write_summary(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        summary = {
            "base": means(self._test.base or BASE),
            "tuned": means(self._test.tuned),
            **self._facts,
            "images_per_prompt": self._test.protocol["seeds_per_prompt"],
            "tuned_is_ema": pl_module.average is not None,
            "iterations": trainer.datamodule.iteration,
            "images": self._images,
            "seconds": round(self._seconds, 1),
        }
        why = next(one for one in trainer.callbacks if isinstance(one, RunLength)).why_stopped(trainer)
        if why is not None:
            summary["stopped"] = why
        write_json(self._run_dir / "summary.json", summary)


def _model(trainer: L.Trainer, pl_module: L.LightningModule) -> Model:
    context = trainer.precision_plugin.forward_context
    return Model(pl_module.policy, pl_module.encode_prompts, pl_module.device, context)


def _asked(record: Evaluation) -> tuple[list[str], int]:
    """Prompts, and images per prompt."""
    return record.protocol["prompts"], record.protocol["seeds_per_prompt"]


def _continued(record: Evaluation) -> Evaluation:
    """With the points of its file, unless they are from another run or protocol."""
    try:
        earlier = read_evaluation(record.path)
    except UserError:  # missing or unreadable: everything is measured again
        return record
    if earlier.difference(record):
        return record
    return replace(record, method=earlier.method, points=earlier.points, known=earlier.known)


def _refuse_gone_folder(trainer: L.Trainer) -> None:
    for callback in trainer.callbacks:
        if isinstance(callback, RunIdentity):
            callback.check()


def _check_of(trainer: L.Trainer) -> Callable[[], None] | None:
    """What is called before each prompt of an evaluation is kept, and may end the evaluation early.

    It raises on SIGTERM, for which Lightning looks within an iteration only, and when the run's folder is gone, which
    keeping the prompt would make again. None for several processes: if one of them ended, the others would wait for it.
    """
    if trainer.world_size > 1:
        return None

    def check() -> None:
        _refuse_gone_folder(trainer)
        if trainer.received_sigterm:
            raise SIGTERMException

    return check
