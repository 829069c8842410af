"""Train the emoji world's models: `python benchmarks/builtin_models/emoji_train.py [stage ...]`.

Needs the pictures (`emoji_pictures.py`). Stages run in the order below; each resumes from its own state file. All
networks are stored in float16.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from diffusers import AutoencoderKL
from emoji_autoencoder import train_autoencoder
from emoji_denoiser import train_denoiser
from emoji_encoders import train_evaluation_encoder, train_lpips, train_shaping_encoder
from emoji_preference import train_preference
from recipe import Recipe, run_stages, write_prompts
from training_encoders import build_processor

from drift_pl.builtin.emoji import PROMPTS, WEIGHTS
from drift_pl.builtin.emoji.captions import prompt_lists


class PictogramRecipe(Recipe):
    """The training stages of the world of pictograms."""

    default_steps: ClassVar[dict[str, int]] = {
        "autoencoder": 2400,
        "preference": 4000,
        "shaping_encoder": 2500,
        "evaluation_encoder": 2500,
        "lpips": 1200,
        "denoiser": 10500,
    }
    takes_device = True

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
        self.export("preference", model.half(), processor)

    def shaping_encoder(self, steps: int) -> None:
        """Train the DINOv2-format encoder; writes `shaping_encoder/`."""
        model = train_shaping_encoder(self.state, self._trained_autoencoder(), steps, self.device)
        self.export("shaping_encoder", model.half(), build_processor())

    def evaluation_encoder(self, steps: int) -> None:
        """Train the ConvNeXt-format encoder; writes `evaluation_encoder/`."""
        model = train_evaluation_encoder(self.state, self._trained_autoencoder(), steps, self.device)
        self.export("evaluation_encoder", model.half(), build_processor())

    def lpips(self, steps: int) -> None:
        """Train the SqueezeNet; writes `lpips/`."""
        self.export_lpips(train_lpips(self.state, self._trained_autoencoder(), steps, self.device))


def main(arguments: list[str] | None = None) -> None:
    """Run the stages that the command line names, and write the prompts."""
    run_stages(PictogramRecipe, WEIGHTS, __doc__, arguments)
    write_prompts(PROMPTS, prompt_lists())


if __name__ == "__main__":
    main()
