"""Train the built-in models: ``python benchmarks/builtin_models/train.py [stage ...]``.

Stages run in the order below; each resumes from its own state file, so a killed run loses at most 100 steps and a
finished stage is only exported again. ``--steps`` extends or shortens the stages named.
"""

from __future__ import annotations

from typing import ClassVar

from diffusers import AutoencoderKL
from recipe import Recipe, run_stages, write_prompts
from training_autoencoder import refine_decoder, train_autoencoder
from training_denoiser import train_denoiser
from training_encoders import build_processor, train_evaluation_encoder, train_lpips, train_shaping_encoder
from training_preference import train_preference

from drift_pl.builtin import PROMPTS, WEIGHTS
from drift_pl.builtin.captions import prompt_lists


class ShapesRecipe(Recipe):
    """The training stages of the world of shapes."""

    default_steps: ClassVar[dict[str, int]] = {
        "autoencoder": 1900,
        "decoder": 1300,
        "preference": 1500,
        "shaping_encoder": 600,
        "evaluation_encoder": 500,
        "lpips": 300,
        "denoiser": 18000,
    }

    def autoencoder(self, steps: int) -> AutoencoderKL:
        """Train (or load) the autoencoder; it is exported as part of the pipeline."""
        return train_autoencoder(self.state, steps)

    def _trained_autoencoder(self) -> AutoencoderKL:
        if not (self.state / "autoencoder.pt").exists():
            raise SystemExit("run the stage 'autoencoder' first: it has no state in " + str(self.state))
        return refine_decoder(self.state, train_autoencoder(self.state, steps=0), steps=0)

    def decoder(self, steps: int) -> None:
        """Train the decoder alone, with the encoder, and so the latents, frozen; writes ``pipeline/vae/``."""
        autoencoder = refine_decoder(self.state, train_autoencoder(self.state, steps=0), steps)
        autoencoder.save_pretrained(self.out / "pipeline" / "vae")

    def denoiser(self, steps: int) -> None:
        """Train the transformer and the text encoders; writes ``pipeline/``."""
        pipeline = train_denoiser(self.state, self._trained_autoencoder(), steps)
        pipeline.save_pretrained(self.out / "pipeline")

    def preference(self, steps: int) -> None:
        """Train the preference model; writes ``preference/``."""
        model, processor = train_preference(self.state, self._trained_autoencoder(), steps)
        self.export("preference", model, processor)

    def shaping_encoder(self, steps: int) -> None:
        """Train the DINOv2-format encoder; writes ``shaping_encoder/``."""
        model = train_shaping_encoder(self.state, self._trained_autoencoder(), steps)
        self.export("shaping_encoder", model, build_processor())

    def evaluation_encoder(self, steps: int) -> None:
        """Train the ConvNeXt-format encoder; writes ``evaluation_encoder/``."""
        model = train_evaluation_encoder(self.state, self._trained_autoencoder(), steps)
        self.export("evaluation_encoder", model, build_processor())

    def lpips(self, steps: int) -> None:
        """Train the SqueezeNet; writes ``lpips/`` in float16, as it is the only model whose size matters."""
        self.export_lpips(train_lpips(self.state, self._trained_autoencoder(), steps))


def main(arguments: list[str] | None = None) -> None:
    """Run the stages that the command line names, and write the prompts."""
    run_stages(ShapesRecipe, WEIGHTS, __doc__, arguments)
    write_prompts(PROMPTS, prompt_lists())


if __name__ == "__main__":
    main()
