"""Small random-weight folders of the real formats, for tests that need a model and not a good one."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    AutoencoderKLWan,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    PNDMScheduler,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import (
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Dinov2Config,
    Dinov2Model,
    DINOv3ConvNextConfig,
    DINOv3ConvNextModel,
    DINOv3ViTConfig,
    DINOv3ViTImageProcessor,
    DINOv3ViTModel,
    Gemma2Config,
    Gemma2Model,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

IMAGE_SIDE = 16
TEXT_TOKENS = 16


def tiny_tokenizer() -> CLIPTokenizer:
    """Byte alphabet, no merges: every text can be encoded, one token per character."""
    symbols = list(bytes_to_unicode().values())
    words = symbols + [symbol + "</w>" for symbol in symbols] + ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={word: number for number, word in enumerate(words)}, merges=[], model_max_length=TEXT_TOKENS
    )


def _text_config(tokenizer: CLIPTokenizer, hidden: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TEXT_TOKENS,
        projection_dim=hidden,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _autoencoder(**config: Any) -> AutoencoderKL:
    """16x16 images to 8x8 latents of 4 channels."""
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=IMAGE_SIDE,
        **config,
    )


def _flow_autoencoder() -> AutoencoderKL:
    """As flow models have it: no quantisation layers, a shift beside the scale."""
    plain = {"use_quant_conv": False, "use_post_quant_conv": False, "mid_block_add_attention": False}
    return _autoencoder(**plain, scaling_factor=1.5, shift_factor=0.1)


def save_tiny_pipeline(folder: Path, seed: int = 0) -> Path:
    """A Stable-Diffusion-3-format folder without T5: 16x16 images, 8x8 latents of 4 channels."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        out_channels=4,
        pos_embed_max_size=8,
        qk_norm="rms_norm",
    )
    with torch.no_grad():  # diffusers starts the output layer at zero: a velocity of zero tests nothing
        transformer.proj_out.weight.normal_(std=0.2)
    vae = _flow_autoencoder()
    encoders = [CLIPTextModelWithProjection(_text_config(tokenizer, 16)) for _ in range(2)]
    pipeline = StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=vae,
        text_encoder=encoders[0],
        tokenizer=tokenizer,
        text_encoder_2=encoders[1],
        tokenizer_2=tiny_tokenizer(),
        text_encoder_3=None,
        tokenizer_3=None,
    )
    pipeline.save_pretrained(folder)
    return folder


def tiny_pieces() -> T5Tokenizer:
    """One token per letter."""
    pieces = ["\u2581", *"abcdefghijklmnopqrstuvwxyz"]
    return T5Tokenizer(
        vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((piece, -3.0) for piece in pieces)], extra_ids=0
    )


def save_tiny_flux(folder: Path, distilled: bool = True) -> Path:
    """A FLUX.1-format folder: 4 latent channels, packed to 16.

    Args:
        distilled: as [dev] (takes a guidance scale, shifts time by the resolution), not as [schnell] (neither).
    """
    torch.manual_seed(6)
    tokenizer = tiny_tokenizer()
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=16,
        guidance_embeds=distilled,
        axes_dims_rope=(4, 2, 2),
    )
    own = {"base_shift": 0.4, "max_shift": 1.3, "base_image_seq_len": 16, "max_image_seq_len": 512}  # not the defaults
    shift = {"use_dynamic_shifting": True, "shift": 3.0, **own} if distilled else {"shift": 1.0}
    tokenizer_2 = tiny_pieces()
    encoder_2 = T5EncoderModel(
        T5Config(vocab_size=len(tokenizer_2), d_model=32, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    )
    pipeline = FluxPipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(**shift),
        vae=_flow_autoencoder(),
        text_encoder=CLIPTextModel(_text_config(tokenizer, 16)),
        tokenizer=tokenizer,
        text_encoder_2=encoder_2,
        tokenizer_2=tokenizer_2,
    )
    pipeline.save_pretrained(folder)
    return folder


def save_tiny_flux2_klein(folder: Path, distilled: bool = False) -> Path:
    """A FLUX.2-[klein]-format folder: 4 latent channels in patches of 16."""
    torch.manual_seed(10)
    tokenizer = tiny_chat_tokenizer()
    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=24,
        timestep_guidance_channels=16,
        mlp_ratio=2.0,
        axes_dims_rope=(2, 2, 2, 2),
        guidance_embeds=False,
    )
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=28,  # the pipeline reads layers 9, 18 and 27
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        max_position_embeddings=256,
    )
    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=IMAGE_SIDE,
        mid_block_add_attention=False,
    )
    with torch.no_grad():  # 0 and 1 would test nothing
        vae.bn.running_mean.normal_(std=0.3)
        vae.bn.running_var.uniform_(0.5, 2.0)
    pipeline = Flux2KleinPipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
        vae=vae,
        text_encoder=Qwen3ForCausalLM(config),
        tokenizer=tokenizer,
        is_distilled=distilled,
    )
    pipeline.save_pretrained(folder)
    return folder


def save_tiny_sana(folder: Path) -> Path:
    """A Sana-format folder with its own solver of several steps: 16x16 images, 8x8 latents of 4 channels."""
    torch.manual_seed(11)
    tokenizer = tiny_chat_tokenizer()
    transformer = SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=16,
        sample_size=8,
    )
    config = Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=4096,
    )
    vae = AutoencoderDC(
        latent_channels=4,
        attention_head_dim=8,
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), ()),
        decoder_qkv_multiscales=((), ()),
        scaling_factor=0.41407,
    )
    solver = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    pipeline = SanaPipeline(
        transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(**solver),
        vae=vae,
        text_encoder=Gemma2Model(config),
        tokenizer=tokenizer,
    )
    pipeline.save_pretrained(folder)
    return folder


def save_tiny_wan(folder: Path, per_token: bool = False) -> Path:
    """A Wan-2.1-format folder with its own solver: 5 frames of 16x28 to 3 x 8x14 latents of 4 channels.

    Args:
        per_token: as Wan 2.2 5B, whose network is called with the noise level of each token.
    """
    torch.manual_seed(12)
    tokenizer = tiny_pieces()
    transformer = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=16,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
    )
    vae = AutoencoderKLWan(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1],
        num_res_blocks=1,
        temperal_downsample=[True],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[2.0, 0.5, 1.0, 4.0],  # powers of two: the pipeline divides by their inverse
        scale_factor_temporal=2,
        scale_factor_spatial=2,
    )
    config = UMT5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    solver = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    pipeline = WanPipeline(
        transformer=transformer,
        scheduler=UniPCMultistepScheduler(**solver),
        vae=vae,
        text_encoder=UMT5EncoderModel(config),
        tokenizer=tokenizer,
        expand_timesteps=per_token,
    )
    pipeline.save_pretrained(folder)
    return folder


CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Qwen3's chat template, as far as one question of a user goes."""


def tiny_chat_tokenizer() -> Qwen2Tokenizer:
    """Byte alphabet, no merges: one token per byte, 19 more for the template."""
    symbols = list(bytes_to_unicode().values())
    tokenizer = Qwen2Tokenizer(vocab={symbol: number for number, symbol in enumerate(symbols)}, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHAT
    return tokenizer


def save_tiny_zimage(folder: Path, dynamic: bool = True) -> Path:
    """A Z-Image-format folder: 4 latent channels, images of up to 64 pixels, texts of up to 96 tokens.

    Args:
        dynamic: a time shift by the resolution; otherwise by a constant, as the Turbo model has.
    """
    torch.manual_seed(7)
    tokenizer = tiny_chat_tokenizer()
    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=16,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[4, 2, 2],
        axes_lens=[128, 16, 16],
    )
    with torch.no_grad():  # they start at zero, and padding that says nothing tests nothing
        transformer.x_pad_token.normal_()
        transformer.cap_pad_token.normal_()
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=256,
    )
    shift = {"use_dynamic_shifting": True} if dynamic else {"shift": 3.0}
    pipeline = ZImagePipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(**shift),
        vae=_flow_autoencoder(),
        text_encoder=Qwen3Model(config),
        tokenizer=tokenizer,
    )
    pipeline.save_pretrained(folder)
    return folder


SYSTEM_PROMPT = (
    "Describe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships of the "
    "objects and background:"
)


def save_tiny_qwen_image(folder: Path) -> Path:
    """A Qwen-Image-format folder: 4 latent channels, packed to 16.

    The system's part of the template is 34 tokens, as with the published tokenizer: the pipeline drops that many.
    """
    torch.manual_seed(9)
    tokenizer = tiny_chat_tokenizer()
    tokenizer.add_tokens([SYSTEM_PROMPT[:-17]])
    transformer = QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 2, 2),
    )
    layers = {"intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = Qwen2_5_VLConfig(
        text_config={
            **{"vocab_size": len(tokenizer), "hidden_size": 16, "max_position_embeddings": 256, **layers},
            **{"rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e6}},
            **{"bos_token_id": None, "eos_token_id": None, "pad_token_id": None},
        },
        vision_config={
            **{"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16},
            "fullatt_block_indexes": [0],
        },
    )
    vae = AutoencoderKLQwenImage(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.5, 0.8, 1.1, 2.0],
    )
    shift = {"base_shift": 0.5, "max_shift": 0.9, "max_image_seq_len": 8192, "shift_terminal": 0.02}  # as published
    pipeline = QwenImagePipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, **shift),
        vae=vae,
        text_encoder=Qwen2_5_VLForConditionalGeneration(config),
        tokenizer=tokenizer,
    )
    pipeline.save_pretrained(folder)
    return folder


# What the published folders of both say, whichever scheduler they ship.
DDPM_SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def save_tiny_sd15(folder: Path, seed: int = 0, **schedule: Any) -> Path:
    """A Stable-Diffusion-1.5-format folder: 16x16 images, 8x8 latents; `schedule` changes its scheduler."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    pipeline = StableDiffusionPipeline(
        vae=_autoencoder(scaling_factor=0.18215),
        text_encoder=CLIPTextModel(_text_config(tokenizer, 16)),
        tokenizer=tokenizer,
        unet=_tiny_unet(cross_attention_dim=16),
        scheduler=PNDMScheduler(**{**DDPM_SCHEDULE, "skip_prk_steps": True, "set_alpha_to_one": False, **schedule}),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def save_tiny_sdxl(folder: Path, seed: int = 0) -> Path:
    """An SDXL-format folder: 16x16 images, 8x8 latents of 4 channels, two text encoders."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    pipeline = StableDiffusionXLPipeline(
        vae=_autoencoder(scaling_factor=0.13025, force_upcast=True),
        text_encoder=CLIPTextModel(_text_config(tokenizer, 16)),
        text_encoder_2=CLIPTextModelWithProjection(_text_config(tokenizer, 24)),
        tokenizer=tokenizer,
        tokenizer_2=tiny_tokenizer(),
        unet=_tiny_unet(
            cross_attention_dim=16 + 24,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 24,
        ),
        scheduler=EulerDiscreteScheduler(**DDPM_SCHEDULE, timestep_spacing="leading"),
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def _tiny_unet(**config: Any) -> UNet2DConditionModel:
    """Both kinds of block, with and without attention."""
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=4,
        norm_num_groups=4,
        **config,
    )


def save_tiny_preference(folder: Path) -> Path:
    """A CLIPModel folder in PickScore's format."""
    torch.manual_seed(1)
    tokenizer = tiny_tokenizer()
    config = CLIPConfig(
        text_config=_text_config(tokenizer, 16).to_dict(),
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": IMAGE_SIDE,
            "patch_size": 4,
        },
        projection_dim=16,
    )
    CLIPModel(config).save_pretrained(folder)
    processor = CLIPImageProcessor(
        size={"shortest_edge": IMAGE_SIDE}, crop_size={"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    )
    CLIPProcessor(image_processor=processor, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def save_tiny_encoder(folder: Path, seed: int = 2) -> Path:
    """A DINOv2-format folder."""
    torch.manual_seed(seed)
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=IMAGE_SIDE, patch_size=4, mlp_ratio=2
    )
    Dinov2Model(config).save_pretrained(folder)
    BitImageProcessor(
        size={"shortest_edge": IMAGE_SIDE}, crop_size={"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    ).save_pretrained(folder)
    return folder


def save_tiny_lpips(folder: Path) -> Path:
    """A perceptual network in the layout that `LpipsEncoder` loads."""
    import json

    from safetensors.torch import save_file
    from torchmetrics.functional.image.lpips import _NoTrainLpips

    torch.manual_seed(3)
    net = _NoTrainLpips(net="squeeze", pnet_rand=True)
    folder.mkdir(parents=True, exist_ok=True)
    # torchmetrics holds each linear layer under two names: a copy of each, so that both names are in the file
    save_file({name: tensor.clone() for name, tensor in net.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"net": "squeeze", "resize": 32}))
    return folder


def save_tiny_dinov3(folder: Path, kind: str) -> Path:
    """A DINOv3-format folder, with its own image processor: `vit` (with register tokens) or `convnext`."""
    torch.manual_seed(6)
    if kind == "vit":
        config = DINOv3ViTConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_register_tokens=2,
            image_size=IMAGE_SIDE,
            patch_size=4,
        )
        DINOv3ViTModel(config).save_pretrained(folder)
    else:
        config = DINOv3ConvNextConfig(hidden_sizes=[4, 8, 8, 16], depths=[1, 1, 1, 1], image_size=32)
        DINOv3ConvNextModel(config).save_pretrained(folder)
    DINOv3ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder
