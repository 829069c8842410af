"""What the recipes of both built-in worlds share: how models are exported, and the command line of their stages."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from safetensors.torch import save_file
from torch import nn
from training_encoders import LPIPS_RESIZE
from training_state import make_readable

STATE = Path("runs/builtin-training")


class Recipe:
    """The training stages of a world, each a method that takes its number of steps.

    Attributes:
        default_steps: stage -> optimizer steps of the shipped models, in the order of the stages.
        takes_device: whether the networks can train elsewhere than on the CPU.
        out, state: folders of the exports and of the resumable states.
    """

    default_steps: ClassVar[dict[str, int]]
    takes_device: ClassVar[bool] = False

    def __init__(self, out: Path, state: Path, device: str = "cpu") -> None:
        self.out, self.state, self.device = out, state, device

    def export(self, name: str, model: Any, processor: Any) -> None:
        """Write a model of transformers and its processor to a folder."""
        model.save_pretrained(self.out / name)
        processor.save_pretrained(self.out / name)

    def export_lpips(self, model: nn.Module) -> None:
        """Write `lpips/`, in float16 as its size matters."""
        folder = self.out / "lpips"
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
        save_file(tensors, folder / "model.safetensors")
        config = {"net": "squeeze", "resize": LPIPS_RESIZE}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def write_prompts(folder: Path, lists: Mapping[str, Sequence[str]]) -> None:
    """Write `train.txt`, `tuning.txt` and `test.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, prompts in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(prompts) + "\n")


def run_stages(recipe: type[Recipe], weights: Path, description: str | None, arguments: list[str] | None) -> None:
    """Parse the command line and run the stages.

    Args:
        weights: the default folder of the exports.
    """
    default_steps = recipe.default_steps
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="stage", help=f"of {', '.join(default_steps)} (default: all)")
    parser.add_argument("--out", type=Path, default=weights, help="folder of the exported models (%(default)s)")
    parser.add_argument("--state", type=Path, default=STATE, help="folder of the resumable states (%(default)s)")
    parser.add_argument("--steps", type=int, help="optimizer steps of each named stage, instead of the default")
    if recipe.takes_device:
        parser.add_argument("--device", default="cpu", help="where the networks train (%(default)s)")
    options = parser.parse_args(arguments)
    unknown = [stage for stage in options.stages if stage not in default_steps]
    if unknown:
        parser.error(f"no stage {unknown[0]!r}: choose from {', '.join(default_steps)}")
    if options.steps is not None and options.steps < 1:
        parser.error(f"--steps must be at least 1, not {options.steps}")
    made = recipe(options.out, options.state, *([options.device] if recipe.takes_device else []))
    for stage in options.stages or default_steps:
        run: Callable[[int], object] = getattr(made, stage)
        run(options.steps or default_steps[stage])
    make_readable(options.out)
