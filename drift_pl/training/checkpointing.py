"""Atomic checkpoints, and a copy of the state at the start of each iteration that a failed run saves."""

import hashlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from drift_pl.core.errors import UserError
from drift_pl.core.files import replacing
from drift_pl.policies.sharding import settle, whole
from drift_pl.training.callback_state import without_unreadable
from drift_pl.training.checkpoint_content import check_content


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, syncs and renames, so that a file is either the old one or the new one.

    Lightning writes to the system's temporary folder; if that is another file system, the final move is a copy, which
    a kill can cut short.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        checkpoint |= {"callbacks": without_unreadable(checkpoint["callbacks"])} if "callbacks" in checkpoint else {}
        with replacing(Path(path)) as temporary, temporary.open("wb") as file:  # torch hides a full disk behind a path
            torch.save(checkpoint, file)


def read_checkpoint(path: Path, mapped: bool = False) -> dict[str, Any]:
    """A checkpoint's content, without running any code from it.

    Args:
        mapped: tensors are read when they are looked at; for a file that nobody replaces meanwhile.

    Raises:
        UserError: there is no such file, it is not a checkpoint of this package, or its inside is spoilt.
    """
    if not path.is_file():
        raise UserError(f"ckpt_path={path}: no such file; give one that is there, e.g. RUN/checkpoints/last.ckpt")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        with zipfile.ZipFile(path) as archive:  # torch does not compare checksums
            spoilt = archive.testzip()
        if spoilt:
            raise ValueError(f"{spoilt} has another checksum")
    except Exception as error:
        raise UserError(
            f"ckpt_path={path} is not a checkpoint, or it is damaged; give e.g. RUN/checkpoints/last.ckpt"
        ) from error
    if not isinstance(content, dict) or not {"PromptDataModule", "run_identity"} <= content.keys():
        raise UserError(f"ckpt_path={path} is not a checkpoint of drift_pl; give e.g. RUN/checkpoints/last.ckpt")
    check_content(content, path)
    return content


def checkpoint_iteration(content: dict[str, Any]) -> int:
    """Number of completed iterations when a checkpoint was written."""
    return content["PromptDataModule"]["iteration"]


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """Twelve hex digits that identify named weights, in a checkpoint or in a network.

    If they are sharded, all processes call it together.
    """
    content = hashlib.sha256()
    for name in sorted(weights):
        value = whole(weights[name].detach()).cpu().contiguous()
        content.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        content.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return content.hexdigest()[:12]


def key_by_position(optimizer_state: dict[str, Any], positions: Sequence[int]) -> None:
    """Renames an optimizer's parameter ids, in place, to positions among all of the module's parameters.

    Ids count the trained parameters only; a sharded strategy reads them as positions among all parameters, and would
    silently give the moments of one layer to another. Loading in one process goes by order and accepts either.
    """
    by_id = dict(enumerate(positions))
    optimizer_state["state"] = {by_id[key]: value for key, value in optimizer_state["state"].items()}
    for group in optimizer_state["param_groups"]:
        group["params"] = [by_id[key] for key in group["params"]]


class RunIdentity(L.Callback):
    """Writes into each checkpoint which run it belongs to.

    Args:
        identity: identifies the run; a resumed run keeps its first one.
        settings: dotted key -> plain value of every setting that affects results.
        inputs: setting -> digest of the local file that it names.
        check: raises an error if the run's folder is gone or another's; nothing is written to it then.
    """

    def __init__(
        self,
        identity: str,
        settings: dict[str, Any],
        inputs: Mapping[str, str],
        check: Callable[[], None] | None = None,
    ) -> None:
        self._marks = {"run_identity": identity, "run_settings": settings, "run_inputs": dict(inputs)}
        self.check = check or (lambda: None)

    def on_train_batch_start(self, *args: Any, **kwargs: Any) -> None:
        self.check()

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self.check()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.check()

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self.check()
        checkpoint |= self._marks


def saves_alone(strategy: Strategy) -> bool:
    """Whether the first process holds the whole state, and can save it without the others."""
    return not isinstance(strategy, ModelParallelStrategy)


class BoundaryCheckpoint(L.Callback):
    """Copies the trainable state at the start of each iteration; a run that fails inside one saves the copy.

    It saves nothing that a checkpoint holds already, and nothing before the first iteration is complete: a run of
    which nothing was trained leaves its folder free. The copy is in main memory. It is small with an adapter; with full
    fine-tuning it is three or four times the network, in float32.

    Args:
        path: the file that the copy is saved to, last.ckpt.
        keep: False makes no copies; a run that fails inside an iteration then saves nothing and is resumed from its
            last checkpoint.
    """

    def __init__(self, path: Path, keep: bool = True) -> None:
        self._path, self._keep = path, keep
        self._boundary: dict[str, Any] | None = None
        self._started = self._within = False
        self._saved = 0

    def saved(self) -> int:
        """Iterations that last.ckpt holds."""
        return self._saved

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._path.is_file():  # else the checkpoint is in another folder, and a resumed run would not find it
            self._saved = checkpoint_iteration(checkpoint)

    def has_saved(self, iteration: int) -> None:
        """Told by what writes last.ckpt, once it is there: a hook of saving would come before, and for other files."""
        self._saved = iteration

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._started = True  # whatever is resumed is in its place; before, a save would put fresh weights over it

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._within = True
        if not self._keep or (trainer.world_size > 1 and not saves_alone(trainer.strategy)):
            return
        trainable = {name: parameter for name, parameter in pl_module.named_parameters() if parameter.requires_grad}
        state = {
            "weights": trainable,
            "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizers],
            "module": pl_module.boundary_state(),
            # what is counted after the update, while callbacks may still break the iteration
            "data": trainer.datamodule.state_dict(),
            "callbacks": [callback.state_dict() for callback in trainer.callbacks],
            "loop": trainer.fit_loop.state_dict(),
        }
        self._boundary = apply_to_collection(state, Tensor, lambda value: value.detach().to("cpu", copy=True))

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self._boundary = None  # the iteration is complete: the live state is a boundary itself
        self._within = False

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if not (trainer.training and self._started) or (self._within and self._boundary is None):
            return
        together = trainer.world_size == 1 or getattr(exception, "together", False)
        if not together and not (trainer.is_global_zero and saves_alone(trainer.strategy)):
            return
        settle(pl_module.network)
        if self._boundary is not None:
            self._restore(trainer, pl_module, self._boundary)
        if trainer.datamodule.iteration == self._saved:
            return
        if together:
            trainer.save_checkpoint(self._path)
        else:  # the others are elsewhere, or gone: without Lightning's barrier
            trainer.strategy.save_checkpoint(trainer._checkpoint_connector.dump_checkpoint(False), self._path)
        self.has_saved(trainer.datamodule.iteration)

    @torch.no_grad()
    def _restore(self, trainer: L.Trainer, pl_module: L.LightningModule, boundary: dict[str, Any]) -> None:
        weights: dict[str, Tensor] = boundary["weights"]
        for name, parameter in pl_module.named_parameters():
            if name in weights:
                parameter.copy_(weights[name])
        for optimizer, state in zip(trainer.optimizers, boundary["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        pl_module.load_boundary_state(boundary["module"])
        trainer.datamodule.load_state_dict(boundary["data"])
        for callback, state in zip(trainer.callbacks, boundary["callbacks"], strict=True):
            if state and not isinstance(callback, Timer):  # a timer would count the time until now twice
                callback.load_state_dict(state)
        trainer.should_stop = False
        trainer.fit_loop.load_state_dict(boundary["loop"])
        progress = trainer.fit_loop.epoch_loop.batch_progress
        for counts in (progress.total, progress.current):
            counts.ready = counts.completed  # Lightning counts a batch before it tells callbacks
