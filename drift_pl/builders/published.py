"""Published configurations, as numbers: what memory and FLOPs are counted from, without a download.

Each entry's comment names where the numbers are public: the repository of the Hugging Face hub whose config.json has
them, or diffusers' script that wrote it. Keys are the library's own; numbers that it has as defaults are left out. A
test compares the numbers of weights with the sizes of the published files.
"""

from dataclasses import dataclass, replace
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
TextEncoder = tuple[str, dict[str, Any]]
"""Class of transformers, and its configuration."""
T5: TextEncoder = ("T5EncoderModel", T5_XXL)
UMT5: TextEncoder = ("UMT5EncoderModel", {**T5_XXL, "vocab_size": 256384})  # google/umt5-xxl
GEMMA: TextEncoder = ("Gemma2Model", {})  # google/gemma-2-2b-it, whose numbers are the library's defaults
QWEN3 = {"num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
QWEN3_4B: TextEncoder = (  # Qwen/Qwen3-4B
    "Qwen3ForCausalLM",
    {**QWEN3, "hidden_size": 2560, "intermediate_size": 9728, "vocab_size": 151936, "tie_word_embeddings": True},
)
QWEN3_8B: TextEncoder = (  # Qwen/Qwen3-8B
    "Qwen3ForCausalLM",
    {**QWEN3, "hidden_size": 4096, "intermediate_size": 12288, "vocab_size": 151936, "tie_word_embeddings": False},
)
QWEN2_5_VL: TextEncoder = (  # Qwen/Qwen2.5-VL-7B-Instruct
    "Qwen2_5_VLForConditionalGeneration",
    {
        "text_config": {
            **{"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28},
            **{"num_key_value_heads": 4, "vocab_size": 152064},
        },
        "vision_config": {
            **{"hidden_size": 1280, "intermediate_size": 3420, "depth": 32, "num_heads": 16, "out_hidden_size": 3584},
        },
    },
)


@dataclass(frozen=True)
class Pipeline:
    """A text-to-image model.

    Attributes:
        denoiser, config: diffusers' class of the network that trains, and its configuration.
        vae: configuration of its AutoencoderKL.
        clip: CLIP text encoders: class, configuration, tokens.
        clip_tokens: tokens that the denoiser sees besides those of `sized`.
        sized: the text encoder that encodes `policy.max_sequence_length` tokens.
        dtype, text_dtype: that the weights of the denoiser and the text encoders are published in.
        distilled: whether it takes no guidance.
    """

    denoiser: str
    config: dict[str, Any]
    vae: dict[str, Any]
    clip: tuple[tuple[str, dict[str, Any], int], ...] = ()
    clip_tokens: int = 0
    sized: TextEncoder | None = None
    dtype: str = "bfloat16"
    text_dtype: str = "bfloat16"
    distilled: bool = False


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
    text_dtype="float32",
)
FLUX_2 = "Flux2Transformer2DModel"
KLEIN_VAE = {"_class_name": "AutoencoderKLFlux2"}
KLEIN_4B = Pipeline(  # diffusers, scripts/convert_flux2_to_diffusers.py (klein-4b, klein-9b)
    FLUX_2,
    {
        **{"num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "joint_attention_dim": 7680},
        "guidance_embeds": False,
    },
    KLEIN_VAE,
    sized=QWEN3_4B,
)
KLEIN_9B = Pipeline(
    FLUX_2,
    {
        **{"num_layers": 8, "num_single_layers": 24, "num_attention_heads": 32, "joint_attention_dim": 12288},
        "guidance_embeds": False,
    },
    KLEIN_VAE,
    sized=QWEN3_8B,
)
Z_IMAGE = Pipeline(  # github.com/Tongyi-MAI/Z-Image, src/config/model.py; the autoencoder is FLUX.1's
    "ZImageTransformer2DModel", {"axes_lens": [1536, 512, 512]}, KL_VAE_16, sized=QWEN3_4B
)
DC_AE_BLOCKS = ["ResBlock"] * 3 + ["EfficientViTBlock"] * 3
SANA_1_5 = Pipeline(  # diffusers, scripts/convert_sana_to_diffusers.py and convert_dcae_to_diffusers.py
    "SanaTransformer2DModel",
    {"qk_norm": "rms_norm_across_heads"},
    {
        **{"_class_name": "AutoencoderDC", "encoder_block_types": DC_AE_BLOCKS, "decoder_block_types": DC_AE_BLOCKS},
        **{"downsample_block_type": "Conv", "upsample_block_type": "interpolate", "scaling_factor": 0.41407},
    },
    sized=GEMMA,
)
WAN = "WanTransformer3DModel"
WAN_VAE = {"_class_name": "AutoencoderKLWan"}
WAN_2_1_SMALL = Pipeline(  # diffusers, scripts/convert_wan_to_diffusers.py, also of the next two
    WAN,
    {"num_layers": 30, "num_attention_heads": 12, "ffn_dim": 8960},
    WAN_VAE,
    sized=UMT5,
    dtype="float32",
    text_dtype="float32",
)
WAN_2_1_LARGE = Pipeline(WAN, {}, WAN_VAE, sized=UMT5, dtype="float32", text_dtype="float32")
WAN_2_2_5B = Pipeline(
    WAN,
    {"num_layers": 30, "num_attention_heads": 24, "ffn_dim": 14336, "in_channels": 48, "out_channels": 48},
    {
        **{"_class_name": "AutoencoderKLWan", "base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "patch_size": 2},
        **{"in_channels": 12, "out_channels": 12, "is_residual": True, "scale_factor_spatial": 16},
        **{"latents_mean": [0.0] * 48, "latents_std": [1.0] * 48},  # their values change no count
    },
    sized=UMT5,
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
        sized=T5,
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
        sized=T5,
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
        sized=T5,
    ),
    "black-forest-labs/FLUX.2-klein-base-4B": KLEIN_4B,
    "black-forest-labs/FLUX.2-klein-4B": replace(KLEIN_4B, distilled=True),
    "black-forest-labs/FLUX.2-klein-base-9B": KLEIN_9B,
    "Qwen/Qwen-Image": Pipeline(  # its transformer/config.json has the library's defaults
        "QwenImageTransformer2DModel", {}, {"_class_name": "AutoencoderKLQwenImage"}, sized=QWEN2_5_VL
    ),
    "Tongyi-MAI/Z-Image": Z_IMAGE,
    "Tongyi-MAI/Z-Image-Turbo": Z_IMAGE,
    "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers": SANA_1_5,
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": WAN_2_1_SMALL,
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": WAN_2_1_LARGE,
    "Wan-AI/Wan2.2-TI2V-5B-Diffusers": WAN_2_2_5B,
    "CompVis/stable-diffusion-v1-4": STABLE_DIFFUSION_1,
    "stable-diffusion-v1-5/stable-diffusion-v1-5": STABLE_DIFFUSION_1,
}
