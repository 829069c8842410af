"""A policy from configurations alone, without a folder: networks as the current device mode makes them, no tokenizer.

Under `torch.device("cuda")` they have random weights, which is enough to measure speed and memory; under
`torch.device("meta")` they have shapes only, which is enough to count both (`builders/footprint.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
from diffusers.training_utils import cast_training_params
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from drift_pl.core.errors import UserError
from drift_pl.core.registry import TABLES
from drift_pl.core.types import Condition
from drift_pl.policies.lora import LoraAdapter, attach_lora
from drift_pl.policies.pipeline import PipelinePolicy

CLIP_TOKENS = 77
TEXT_WIDTHS = ("joint_attention_dim", "cap_feat_dim", "caption_channels", "text_dim", "cross_attention_dim")
"""Keys of a denoiser's config, the first that it has: channels of a text token."""
LATENTS = 128
"""Height of the latents of an image without `resolution`, in the pipelines that have it in no config."""


def network_of(kind: str, config: Mapping[str, Any], dtype: torch.dtype, package: Any = diffusers) -> nn.Module:
    """A frozen network of a class of diffusers, or of another package with the same way to make one."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        network: nn.Module = getattr(package, kind).from_config(dict(config))
    finally:
        torch.set_default_dtype(before)
    return nn.Module.to(network, dtype).requires_grad_(False).eval()  # diffusers' own `to` prints a warning


def hollow_policy(
    family: type[PipelinePolicy],
    network: nn.Module,
    vae: nn.Module,
    scheduler: Any,
    lora: tuple[int, int, Sequence[str]] | None,
    clip_tokens: int = CLIP_TOKENS,
    distilled: bool = False,
    **options: Any,
) -> PipelinePolicy:
    """The policy of a family around networks that are there.

    Args:
        lora: rank, alpha and targets of the adapter; None: all weights train.
        clip_tokens: of a prompt by a CLIP text encoder, in the families that have one.
        distilled: the model takes no guidance.
        options: arguments of the family's constructor, see `PipelinePolicy`; a family of one's own may name others.
    """
    if lora is None:
        network.requires_grad_(True)
    else:
        attach_lora(network, *lora, seed=0)
        cast_training_params(network, torch.float32)
    pipeline = SimpleNamespace(vae=vae, scheduler=scheduler, vae_scale_factor=scale_factor(vae))
    pipeline.default_sample_size, pipeline.config = LATENTS, SimpleNamespace(is_distilled=distilled)
    vars(pipeline).update(dict.fromkeys(family.text_parts), **{family.denoiser: network})
    hollow: Any = type(f"Hollow{family.__name__}", (HollowText, family), {"clip_tokens": clip_tokens})
    return hollow(pipeline, LoraAdapter(network), **options)


def own_family(family: type[PipelinePolicy]) -> str:
    """The family of this package that a class is or comes from; empty if it comes from none."""
    stated = (vars(each).get("family") for each in family.__mro__)
    return next((name for name in stated if name in TABLES["family"]), "")


def scale_factor(vae: Any) -> int:
    """Pixels per latent, along a side."""
    config = vae.config
    if "scale_factor_spatial" in config:
        return int(config["scale_factor_spatial"])
    if "temperal_downsample" in config:
        return int(2 ** len(config["temperal_downsample"]))
    blocks = config.get("block_out_channels") or config["encoder_block_out_channels"]
    return int(2 ** (len(blocks) - 1))


class HollowText(PipelinePolicy):
    """Random embeddings, as long and as wide as the text encoders' and a function of the text, in their place.

    Every text is as long as a text may be.
    """

    clip_tokens: int

    def _unguided(self, latents_BCHW: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        with unset_fake_temporarily():  # these numbers are read, which those of a tensor without memory cannot be
            whole_B = torch.full(condition.tokens_BLE.shape[:1], condition.tokens_BLE.shape[1])
        condition = replace(condition, num_tokens_B=whole_B)
        return super()._unguided(latents_BCHW, sigma, condition)  # type: ignore[safe-super]

    def encode(self, prompts: Sequence[str], negative: bool = False) -> Condition:
        config = self.network.config
        family = own_family(type(self))
        length, width, pooled = text_shape(family, config, self.max_sequence_length, self.clip_tokens)
        rows = []
        for prompt in prompts:
            generator = torch.Generator().manual_seed(sum(prompt.encode()) + len(prompt))
            rows.append(torch.randn(length + 1, max(width, pooled), generator=generator))
        rows_BLE = torch.stack(rows)
        pooled_BE = rows_BLE[:, -1, :pooled] if pooled else None
        return self.condition(rows_BLE[:, :-1, :width], pooled_BE)

    def condition(self, tokens_BLE: Tensor, pooled_BE: Tensor | None) -> Condition:
        return Condition(tokens_BLE, pooled_BE, torch.full(tokens_BLE.shape[1:2], tokens_BLE.shape[2]))

    def expect_prompts(self, prompts: Sequence[str]) -> None:
        """Nothing is cut: there is no tokenizer."""

    @property
    def text_device(self) -> torch.device:
        return torch.device("cpu")


def text_shape(family: str, config: Any, max_sequence_length: int, clip_tokens: int) -> tuple[int, int, int]:
    """Tokens of a prompt, channels of a token, and channels of the pooled embedding (0: none).

    Args:
        family: of this package, see `own_family`.

    Raises:
        UserError: the denoiser's config, of somebody's own family, does not say how wide a token is.
    """
    width = next((int(config[key]) for key in TEXT_WIDTHS if config.get(key)), 0)
    if not width:
        raise UserError(
            f"policy.family: its denoiser's configuration has none of {', '.join(TEXT_WIDTHS)}, the channels of a text "
            "token, so that its memory cannot be counted: measure it, fit dry_run=true"
        )
    pooled = int(config.get("pooled_projection_dim") or 0)
    if family == "sdxl":
        pooled = int(config["projection_class_embeddings_input_dim"]) - 6 * int(config["addition_time_embed_dim"])
    fixed = clip_tokens if family in ("sd3", "sd15", "sdxl") else 0
    return fixed + (0 if family in ("sd15", "sdxl") else max_sequence_length), width, pooled
