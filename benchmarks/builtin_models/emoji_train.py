"""Train the emoji world's models: `python benchmarks/builtin_models/emoji_train.py [stage ...]`.

Needs the pictures (`emoji_pictures.py`). Stages run in the order below; each resumes from its own state file. All
networks are stored in float16.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from emoji_autoencoder import train_autoencoder
from emoji_denoiser import train_denoiser
from emoji_encoders import train_evaluation_encoder, train_lpips, train_shaping_encoder
from emoji_preference import train_preference
from safetensors.torch import save_file
from training_encoders import LPIPS_RESIZE, build_processor
from training_state import make_readable

from drift_pl.builtin.emoji import PROMPTS, WEIGHTS
from drift_pl.builtin.emoji.captions import prompt_lists

STATE = Path("runs/builtin-training")
DEFAULT_STEPS = {
    "autoencoder": 2400,
    "preference": 3000,
    "shaping_encoder": 1500,
    "evaluation_encoder": 1200,
    "lpips": 500,
    "denoiser": 9000,
}


class Recipe:
    """The training stages, with the folders of their states and exports."""

    def __init__(self, out: Path, state: Path, device: str = "cpu") -> None:
        self.out, self.state, self.device = out, state, device

    def autoencoder(self, steps: int) -> None:
        """Train the autoencoder; it is exported as part of the pipeline."""
        train_autoencoder(self.state, steps, self.device)

    def _trained_autoencoder(self) -> AutoencoderKL:
        if not (self.state / "emoji_autoencoder.pt").exists():
            raise SystemExit(f"run the stage 'autoencoder' first: it has no state in {self.state}")
        return train_autoencoder(self.state, steps=0)

    def denoiser(self, steps: int) -> None:
        """Train the transformer and the text encoders; writes `pipeline/`."""
        pipeline = train_denoiser(self.state, self._trained_autoencoder(), steps, self.device)
        pipeline.to(dtype=torch.float16, silence_dtype_warnings=True).save_pretrained(self.out / "pipeline")

    def preference(self, steps: int) -> None:
        """Train the preference model; writes `preference/`."""
        model, processor = train_preference(self.state, self._trained_autoencoder(), steps, self.device)
        model.half().save_pretrained(self.out / "preference")
        processor.save_pretrained(self.out / "preference")

    def shaping_encoder(self, steps: int) -> None:
        """Train the DINOv2-format encoder; writes `shaping_encoder/`."""
        model = train_shaping_encoder(self.state, self._trained_autoencoder(), steps, self.device)
        model.half().save_pretrained(self.out / "shaping_encoder")
        build_processor().save_pretrained(self.out / "shaping_encoder")

    def evaluation_encoder(self, steps: int) -> None:
        """Train the ConvNeXt-format encoder; writes `evaluation_encoder/`."""
        model = train_evaluation_encoder(self.state, self._trained_autoencoder(), steps, self.device)
        model.half().save_pretrained(self.out / "evaluation_encoder")
        build_processor().save_pretrained(self.out / "evaluation_encoder")

    def lpips(self, steps: int) -> None:
        """Train the SqueezeNet; writes `lpips/`."""
        model = train_lpips(self.state, self._trained_autoencoder(), steps, self.device)
        folder = self.out / "lpips"
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()},
            folder / "model.safetensors",
        )
        config = {"net": "squeeze", "resize": LPIPS_RESIZE}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def write_prompts(folder: Path) -> None:
    """Write `train.txt`, `tuning.txt` and `test.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, prompts in prompt_lists().items():
        (folder / f"{name}.txt").write_text("\n".join(prompts) + "\n")


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run the stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="stage", help=f"of {', '.join(DEFAULT_STEPS)} (default: all)")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder of the exported models (%(default)s)")
    parser.add_argument("--state", type=Path, default=STATE, help="folder of the resumable states (%(default)s)")
    parser.add_argument("--device", default="cpu", help="where the networks train (%(default)s)")
    parser.add_argument("--steps", type=int, help="optimizer steps of each named stage, instead of the default")
    options = parser.parse_args(arguments)
    unknown = [stage for stage in options.stages if stage not in DEFAULT_STEPS]
    if unknown:
        parser.error(f"no stage {unknown[0]!r}: choose from {', '.join(DEFAULT_STEPS)}")
    if options.steps is not None and options.steps < 1:
        parser.error(f"--steps must be at least 1, not {options.steps}")
    recipe = Recipe(options.out, options.state, options.device)
    for stage in options.stages or DEFAULT_STEPS:
        run: Callable[[int], object] = getattr(recipe, stage)
        run(options.steps or DEFAULT_STEPS[stage])
    write_prompts(PROMPTS)
    make_readable(options.out)


if __name__ == "__main__":
    main()
