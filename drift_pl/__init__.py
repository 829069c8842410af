"""drift_pl: reward fine-tuning of diffusion and flow models that keeps their diversity (DRIFT, arXiv 2601.12401).

From Python: `finetune` is the command `fit` as a call, `build` gives its parts, `drift_pl.metrics` measures diversity.
Nothing is imported before it is used: a command reads its arguments first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from drift_pl.builders.run import Run
    from drift_pl.config.python_values import Reward
    from drift_pl.core.errors import UserError

__all__ = ["Finetuned", "UserError", "__version__", "build", "finetune"]


@dataclass(frozen=True)
class Finetuned:
    """A run that is finished.

    Attributes:
        run_dir: its folder: checkpoints, `report.html` and the rest; `evaluate`, `generate` and `export` take it.
        base, tuned: measure -> mean on the test prompts, before and after; None where there is no value.
    """

    run_dir: Path
    base: dict[str, float | None]
    tuned: dict[str, float | None]


def finetune(experiment: str = "shapes_div", rewards: "Sequence[Reward] | None" = None, **settings: Any) -> Finetuned:
    """Fine-tunes a model, as `python -m drift_pl.fit` does, and returns when the run is finished.

    Functions and classes are recorded as `module:name`, so that a checkpoint can be evaluated wherever the module is.

    Args:
        experiment: the name of an experiment, or the path of a .yaml file.
        rewards: those that are trained on: names, functions or classes of a module, or
            `{"name": ..., "args": ..., "weight": ...}`; None: the experiment's.
        settings: by section, `trainer={"iterations": 20}`, or by dotted key, `**{"trainer.iterations": 20}`.

    Raises:
        UserError: something cannot be used, a lambda for instance; nothing has been written then. One line.
    """
    from drift_pl.config.loading import parse
    from drift_pl.config.python_values import call_arguments
    from drift_pl.config.run_folder import SUMMARY
    from drift_pl.core.json_files import read_json
    from drift_pl.fit import fit

    arguments = call_arguments(experiment, rewards, settings)
    request = parse(arguments)
    run_dir = fit(request.config, request.tree, arguments)
    summary = read_json(run_dir / SUMMARY)
    return Finetuned(run_dir, summary["base"], summary["tuned"])


def build(experiment: str = "shapes_div", rewards: "Sequence[Reward] | None" = None, **settings: Any) -> "Run":
    """The parts of a run: `module`, the LightningModule; `datamodule`; and the `trainer` of `fit` with its callbacks.

    Another `lightning.Trainer` trains the module as well. An epoch is `trainer.save_every` iterations; what `fit`'s
    callbacks do (held-out evaluation, alarm, checkpoints that resume exactly) is then up to you. Arguments: `finetune`.

    Raises:
        UserError: something cannot be used.
    """
    from drift_pl.builders.run import build_run
    from drift_pl.config.loading import parse
    from drift_pl.config.python_values import call_arguments
    from drift_pl.config.run_folder import run_path

    config = parse(call_arguments(experiment, rewards, settings)).config
    return build_run(config, run_path(config))


def __getattr__(name: str) -> Any:
    if name == "UserError":
        from drift_pl.core.errors import UserError

        return UserError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
