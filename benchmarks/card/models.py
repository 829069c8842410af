"""Policies of full size with random weights, made on the device: no folder, no download, no tokenizer.

Speed and memory of a denoiser and an autoencoder do not depend on their weights. Text encoders run once per prompt and,
in the experiments, on the CPU; in their place stands a function from a text to random embeddings of the same shape.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor, nn
from torch.nn.functional import interpolate

from drift_pl.builders import published as architectures
from drift_pl.builders.planned_source import vae_class
from drift_pl.builders.published import CLIPS, PIPELINES, VISION_SIDE, Pipeline
from drift_pl.config.schema import Config
from drift_pl.core.registry import find
from drift_pl.policies.hollow import hollow_policy, network_of
from drift_pl.policies.pipeline import PipelinePolicy

SD3, UNET = "SD3Transformer2DModel", "UNet2DConditionModel"
SMALLEST = {
    SD3: {
        **{"num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 2, "caption_projection_dim": 16},
        **{"dual_attention_layers": (0,), "joint_attention_dim": 32, "pooled_projection_dim": 16},
    },
    UNET: {
        **{"block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1, "cross_attention_dim": 32},
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 2,
    },
}
"""Denoiser -> what makes it small, for a trial of the script on a CPU."""
SMALLEST_VAE = {"block_out_channels": [8, 8, 8, 8], "layers_per_block": 1, "norm_num_groups": 4}
SMALLEST_CLIP = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def shrink() -> None:
    """Makes the published configurations tiny, for this process."""
    for name, pipeline in PIPELINES.items():
        if pipeline.denoiser in SMALLEST:
            small = {**pipeline.config, **SMALLEST[pipeline.denoiser]}
            PIPELINES[name] = replace(pipeline, config=small, vae={**pipeline.vae, **SMALLEST_VAE})
    for config in CLIPS.values():
        for part in ("vision_config", "text_config"):
            config[part] = {**config[part], **SMALLEST_CLIP}
    architectures.T5_XXL["d_model"] = SMALLEST[SD3]["joint_attention_dim"]


def random_policy(config: Config, device: torch.device, seed: int = 0) -> PipelinePolicy:
    """The policy of a config, as `build_policy` would make it from a published folder.

    Raises:
        KeyError: `policy.pretrained` has no entry in `drift_pl/builders/published.py`.
    """
    policy, published = config.policy, PIPELINES[config.policy.pretrained]
    lora, family = (policy.lora.rank, policy.lora.alpha, policy.lora.targets), find("family", policy.family)
    torch.manual_seed(seed)
    with device:
        network = network_of(published.denoiser, published.config, getattr(torch, policy.dtype or published.dtype))
        vae = network_of(vae_class(published), published.vae, torch.float32)
    wake(network)
    scheduler = scheduler_of(published)
    resolution, tokens = policy.resolution, policy.max_sequence_length
    built = hollow_policy(family, network, vae, scheduler, lora, resolution=resolution, max_sequence_length=tokens)
    if policy.gradient_checkpointing:
        built.network.enable_gradient_checkpointing()  # type: ignore[operator]
    if policy.compile:
        for block in built.blocks():
            block.compile()
    return built


def wake(network: nn.Module) -> None:
    """Fills the output layer, which starts at zero: with a prediction of zero no reward depends on the adapter."""
    for name in ("proj_out", "conv_out"):
        layer = getattr(network, name, None)
        if layer is not None:
            nn.init.normal_(layer.weight, std=0.02)


def scheduler_of(published: Pipeline) -> Any:
    """Of the published folders: a time shift of 3; scaled linear betas."""
    if published.denoiser != UNET:
        return diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return diffusers.DDIMScheduler(**betas, clip_sample=False, set_alpha_to_one=False, steps_offset=1)


class RandomJudge:
    """Image network of a published CLIP at full size with random weights; the score is a fixed direction's.

    Args:
        pretrained: a key of `builders.published.CLIPS`.
        batch_size: images per forward pass.
    """

    def __init__(self, pretrained: str, batch_size: int = 32) -> None:
        self.pretrained, self.batch_size = pretrained, batch_size
        self.model: Any = None

    def to(self, device: torch.device | str) -> "RandomJudge":
        if self.model is None:
            with torch.device(device), torch.random.fork_rng():
                torch.manual_seed(1)
                self.model = transformers.CLIPModel(transformers.CLIPConfig(**CLIPS[self.pretrained]))
            self.model.requires_grad_(False).eval()
        self.model.to(device)
        return self

    @torch.no_grad()
    def __call__(self, images_B3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        scores = []
        with torch.autocast(images_B3HW.device.type, enabled=False):
            for part_B3HW in images_B3HW.float().split(self.batch_size):
                small_B3HW = interpolate(part_B3HW, VISION_SIDE, mode="bicubic", antialias=True)
                found = self.model.get_image_features(pixel_values=small_B3HW)
                scores.append(getattr(found, "pooler_output", found)[:, 0])
        return torch.cat(scores)
