"""DDPM-trained UNets: Stable Diffusion 1.x and 2.x, and SDXL. They predict noise and are sampled by DDIM."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from torch import Tensor, nn

from drift_pl.core.errors import UserError
from drift_pl.core.types import Condition
from drift_pl.functional.ddim import PREDICTIONS, predicted_noise
from drift_pl.policies.inputs import checked_side, same_for_all
from drift_pl.policies.pipeline import PipelinePolicy
from drift_pl.policies.process import DdpmProcess, Process


class StableDiffusionPolicy(PipelinePolicy):
    """Stable Diffusion 1.x and 2.x (arXiv 2112.10752). See `PipelinePolicy` for its arguments.

    `predict` returns the noise, whatever the network was trained to predict. DDPO (arXiv 2305.13301) was published with
    eta 1 (`sampler.kind=ddim`, `sampler.noise_level`), 50 steps and guidance 5.

    The folder's scheduler, of whatever class, becomes a DDIMScheduler without clipping, with its betas and timesteps
    (spacing, offset, last alpha_bar); a full export contains that one.
    The text encoder's length is fixed, so `max_sequence_length` has no effect. The safety checker is not loaded.
    """

    family = "sd15"
    pipeline_class = StableDiffusionPipeline
    process: Process = DdpmProcess()
    denoiser = "unet"
    load_options = {
        **dict.fromkeys(("safety_checker", "feature_extractor", "image_encoder")),
        "requires_safety_checker": False,
    }

    def encode(self, prompts: Sequence[str], negative: bool = False) -> Condition:
        self.expect_prompts(prompts)
        with torch.no_grad():
            tokens_BLE, _ = self.pipeline.encode_prompt(
                list(prompts),
                device=self.text_device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=False,
            )
        return Condition(tokens_BLE, None, _all_channels(tokens_BLE))

    def sigmas(self, num_steps: int) -> Tensor:
        """sqrt(1 - alpha_bar) of the model's own timesteps, then of the end of its scheduler: float64 [T + 1].

        diffusers steps from a timestep t to t - 1000 // T, which is not the next timestep if the timesteps are spaced
        unevenly (`linspace`, or `trailing` with T that does not divide 1000). Here every step ends at the noise level
        that the next one starts from.

        Raises:
            UserError: the model has fewer timesteps, or its first state contains no signal.
        """
        scheduler = copy.deepcopy(self.pipeline.scheduler)
        total, offset = scheduler.config.num_train_timesteps, scheduler.config.steps_offset
        if num_steps > total - offset:
            raise UserError(
                f"{num_steps} steps (sampler.steps or sampler.eval_steps) are more than this model's "
                f"{total - offset} timesteps: use e.g. 50"
            )
        scheduler.set_timesteps(num_steps)
        last = 1 - torch.as_tensor(scheduler.final_alpha_cumprod).double()
        sigmas = torch.cat([self._noise_levels()[scheduler.timesteps], last.sqrt()[None]])
        if sigmas[0] == 1:
            raise UserError(
                "policy.pretrained: its scheduler starts at alpha_bar = 0, where a noise prediction says nothing of "
                "the image: set timestep_spacing to leading in its scheduler_config.json"
            )
        return sigmas

    def timestep(self, sigma: Tensor) -> int:
        """The network's timestep of one of `sigmas`.

        Raises:
            ValueError: no timestep has exactly this noise level.
        """
        found = (self._noise_levels() == sigma.cpu()).nonzero()
        if len(found) != 1:
            raise ValueError(f"sigma={float(sigma)} ({sigma.dtype}) is not a noise level of this model's timesteps")
        return int(found)

    def _noise_levels(self) -> Tensor:
        """Of all timesteps, float64 [1000], rising."""
        return (1 - self.pipeline.scheduler.alphas_cumprod.double()).sqrt()

    def _unguided(self, latents_BCHW: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        dtype = self.dtype
        output_BCHW = self.network(
            latents_BCHW.to(dtype),
            timestep=same_for_all(self.timestep(sigma), latents_BCHW),
            encoder_hidden_states=condition.tokens_BLE.to(dtype),
            added_cond_kwargs=self._added_conditions(latents_BCHW, condition),
            return_dict=False,
        )[0]
        return predicted_noise(output_BCHW, latents_BCHW, sigma, self.pipeline.scheduler.config.prediction_type)

    def _added_conditions(self, latents_BCHW: Tensor, condition: Condition) -> dict[str, Tensor] | None:
        """Inputs of the network besides timestep and text tokens."""
        return None

    def blocks(self) -> Iterator[nn.Module]:
        unet = self.network
        yield from (*unet.down_blocks, *([] if unet.mid_block is None else [unet.mid_block]), *unet.up_blocks)

    def _latent_shape(self, resolution: int | None) -> tuple[int, ...]:
        config, factor = self.network.config, self.pipeline.vae_scale_factor
        size = config.sample_size if isinstance(config.sample_size, int) else config.sample_size[0]
        side = checked_side(resolution or size * factor, factor) // factor
        return config.in_channels, side, side

    @classmethod
    def prepare(cls, pipeline: Any) -> Any:
        """Turns the scheduler into DDIM's."""
        scheduler = pipeline.scheduler
        if "beta_start" not in scheduler.config:
            raise ValueError(
                f"its scheduler is a {type(scheduler).__name__}, and policy.family={cls.family} needs one with betas"
            )
        if scheduler.config.get("prediction_type", "epsilon") not in PREDICTIONS:
            raise ValueError(
                f"its scheduler's prediction_type is {scheduler.config.prediction_type}, and none of "
                f"{', '.join(PREDICTIONS)}"
            )
        if pipeline.unet.config.time_cond_proj_dim is not None:
            raise ValueError("it is a latent-consistency model, which DDIM does not sample; use the model it came from")
        pipeline.scheduler = DDIMScheduler.from_config(scheduler.config, clip_sample=False, thresholding=False)
        return pipeline

    @classmethod
    def read_lora(cls, location: str, **pinned: str) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
        """Weights and config; diffusers converts the formats of other trainers, which have an alpha per layer."""
        weights, alphas, metadata = cls.pipeline_class.lora_state_dict(
            location, use_safetensors=True, return_lora_metadata=True, **pinned
        )
        values = {float(alpha) for alpha in (alphas or {}).values()}
        if len(values) > 1:
            raise ValueError(f"its layers have different alphas: {', '.join(map(str, sorted(values)[:4]))}")
        return weights, {f"{cls.denoiser}.lora_alpha": values.pop()} if values else metadata


class StableDiffusionXLPolicy(StableDiffusionPolicy):
    """SDXL (arXiv 2307.01952): two text encoders, a pooled embedding, and the size of the image as conditions.

    The size conditions say that the image was neither larger nor cropped: original and target size are the resolution,
    the pipeline's defaults. An empty negative prompt is encoded as zeros if the folder's config says
    `force_zeros_for_empty_prompt`, as in a pipeline call without a negative prompt.
    """

    family = "sdxl"
    pipeline_class = StableDiffusionXLPipeline
    text_parts = ("text_encoder", "text_encoder_2")
    load_options = {**dict.fromkeys(("feature_extractor", "image_encoder")), "add_watermarker": False}

    def encode(self, prompts: Sequence[str], negative: bool = False) -> Condition:
        self.expect_prompts(prompts)
        with torch.no_grad():
            tokens_BLE, _, pooled_BE, _ = self.pipeline.encode_prompt(
                list(prompts),
                device=self.text_device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=False,
            )
        if negative and self.pipeline.config.force_zeros_for_empty_prompt:
            written_B = torch.tensor([bool(prompt) for prompt in prompts], device=tokens_BLE.device)
            tokens_BLE, pooled_BE = tokens_BLE * written_B[:, None, None], pooled_BE * written_B[:, None]
        return Condition(tokens_BLE, pooled_BE, _all_channels(tokens_BLE))

    def _added_conditions(self, latents_BCHW: Tensor, condition: Condition) -> dict[str, Tensor]:
        """The pooled embedding; original height and width, crop's top and left, target height and width in pixels."""
        assert condition.pooled_BE is not None
        height, width = (side * self.pipeline.vae_scale_factor for side in latents_BCHW.shape[-2:])
        columns = [same_for_all(side, latents_BCHW) for side in (height, width, 0, 0, height, width)]
        return {
            "text_embeds": condition.pooled_BE.to(self.dtype),
            "time_ids": torch.stack(columns, dim=1).to(self.dtype),
        }


def _all_channels(tokens_BLE: Tensor) -> Tensor:
    """The text encoders write every channel of every token."""
    return torch.full((tokens_BLE.shape[1],), tokens_BLE.shape[2], device=tokens_BLE.device)
