"""Published configurations, as numbers: what memory and FLOPs are counted from, without a download.

Each entry's comment names the repository of the Hugging Face hub whose config.json has the numbers; keys are the
library's own. Numbers that the library has as defaults are left out.
"""

from dataclasses import dataclass
from typing import Any

# yuvalkirstain/PickScore_v1, laion/CLIP-ViT-H-14-laion2B-s32B-b79K; xswu/HPSv2 is the same network
VIT_H_14: dict[str, Any] = {
    "vision_config": {
        **{"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16},
        **{"patch_size": 14, "image_size": 224, "projection_dim": 1024},
    },
    "text_config": {
        **{"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
        "projection_dim": 1024,
    },
    "projection_dim": 1024,
}
VIT_L_14: dict[str, Any] = {  # openai/clip-vit-large-patch14
    "vision_config": {
        **{"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
        **{"patch_size": 14, "image_size": 224, "projection_dim": 768},
    },
    "text_config": {
        **{"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
        "projection_dim": 768,
    },
    "projection_dim": 768,
}
CLIPS: dict[str, dict[str, Any]] = {
    "yuvalkirstain/PickScore_v1": VIT_H_14,
    "xswu/HPSv2": VIT_H_14,
    "openai/clip-vit-large-patch14": VIT_L_14,
}
VISION: dict[str, tuple[str, dict[str, Any]]] = {
    "facebook/dinov2-base": (
        "Dinov2Model",
        {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "patch_size": 14, "image_size": 518},
    ),
    "facebook/convnextv2-base-22k-224": (
        "ConvNextV2Model",
        {"depths": [3, 3, 27, 3], "hidden_sizes": [128, 256, 512, 1024]},
    ),
    # THUDM/ImageReward: BLIP's ViT-L/16; its text encoder, 35 tokens of a BERT, is 3 % of it and left out
    "THUDM/ImageReward": (
        "BlipVisionModel",
        {
            **{"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
            **{"patch_size": 16, "image_size": 224},
        },
    ),
}
VISION_SIDE = 224
"""Pixels that the processors of these networks make of an image."""

CLIP_L: tuple[str, dict[str, Any], int] = ("CLIPTextModel", {**VIT_L_14["text_config"]}, 77)
CLIP_BIG_G = (  # text_encoder_2 of Stable Diffusion 3 and 3.5
    "CLIPTextModelWithProjection",
    {
        **{"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20},
        "projection_dim": 1280,
    },
    77,
)
T5_XXL = {  # google/t5-v1_1-xxl, text_encoder_3 of Stable Diffusion 3 and 3.5, text_encoder_2 of FLUX.1
    **{"d_model": 4096, "d_ff": 10240, "d_kv": 64, "num_heads": 64, "num_layers": 24},
    **{"feed_forward_proj": "gated-gelu", "vocab_size": 32128},
}


@dataclass(frozen=True)
class Pipeline:
    """A text-to-image model.

    Attributes:
        denoiser, config: diffusers' class of the network that trains, and its configuration.
        vae: configuration of its AutoencoderKL.
        clip: CLIP text encoders: class, configuration, tokens.
        clip_tokens: tokens that the denoiser sees besides T5's.
        has_t5: whether T5 encodes `policy.max_sequence_length` tokens.
        dtype: that the denoiser's weights are published in.
    """

    denoiser: str
    config: dict[str, Any]
    vae: dict[str, Any]
    clip: tuple[tuple[str, dict[str, Any], int], ...] = ()
    clip_tokens: int = 0
    has_t5: bool = False
    dtype: str = "bfloat16"


KL_VAE = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
}
KL_VAE_16 = {**KL_VAE, "latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}
STABLE_DIFFUSION_1 = Pipeline(
    "UNet2DConditionModel",
    {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
    {**KL_VAE, "latent_channels": 4},
    (CLIP_L,),
    clip_tokens=77,
    dtype="float32",
)

PIPELINES: dict[str, Pipeline] = {
    "stabilityai/stable-diffusion-3.5-medium": Pipeline(
        "SD3Transformer2DModel",
        {
            **{"sample_size": 128, "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 24},
            **{"attention_head_dim": 64, "num_attention_heads": 24, "joint_attention_dim": 4096},
            **{"caption_projection_dim": 1536, "pooled_projection_dim": 2048, "pos_embed_max_size": 384},
            **{"qk_norm": "rms_norm", "dual_attention_layers": tuple(range(13))},
        },
        KL_VAE_16,
        (CLIP_L, CLIP_BIG_G),
        clip_tokens=77,
        has_t5=True,
    ),
    "stabilityai/stable-diffusion-3.5-large": Pipeline(
        "SD3Transformer2DModel",
        {
            **{"sample_size": 128, "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 38},
            **{"attention_head_dim": 64, "num_attention_heads": 38, "joint_attention_dim": 4096},
            **{"caption_projection_dim": 2432, "pooled_projection_dim": 2048, "pos_embed_max_size": 192},
            "qk_norm": "rms_norm",
        },
        KL_VAE_16,
        (CLIP_L, CLIP_BIG_G),
        clip_tokens=77,
        has_t5=True,
    ),
    "black-forest-labs/FLUX.1-dev": Pipeline(
        "FluxTransformer2DModel",
        {
            **{"in_channels": 64, "num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128},
            **{"num_attention_heads": 24, "joint_attention_dim": 4096, "pooled_projection_dim": 768},
            "guidance_embeds": True,
        },
        KL_VAE_16,
        (CLIP_L,),
        has_t5=True,
    ),
    "CompVis/stable-diffusion-v1-4": STABLE_DIFFUSION_1,
    "stable-diffusion-v1-5/stable-diffusion-v1-5": STABLE_DIFFUSION_1,
}
