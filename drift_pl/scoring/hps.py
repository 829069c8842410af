"""HPSv2 and HPSv2.1: human preference for an image given its prompt (arXiv 2306.09341)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from torch import Tensor
from torch.nn.functional import normalize, pad
from torchvision.transforms.v2.functional import InterpolationMode, resize
from transformers import CLIPConfig, CLIPModel, CLIPProcessor

from drift_pl.core.errors import UserError, named, naming
from drift_pl.core.locate import load_pretrained, locate, split_revision
from drift_pl.core.signatures import Count, Positive
from drift_pl.scoring.pickscore import ClipReward
from drift_pl.scoring.pixels import to_bytes
from drift_pl.scoring.weight_files import find_file, load_exactly, read_tensors, whole

HPS = "xswu/HPSv2"
CHECKPOINT = "HPS_v2.1_compressed.pt"
# The checkpoint holds weights only; tokenizer and image normalization are those of the model it was fine-tuned from.
HPS_PROCESSOR = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
# ViT-H-14 has 16 attention heads in both towers (head widths 80 and 64), which tensor shapes do not determine.
HEADS = 16

WHOLE = {
    "logit_scale": "logit_scale",
    "text_projection": "text_projection.weight",
    "visual.proj": "visual_projection.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
}
NORMS = {
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "ln_final": "text_model.final_layer_norm",
}
TOWERS = {
    "visual.transformer.resblocks.": "vision_model.encoder.layers.",
    "transformer.resblocks.": "text_model.encoder.layers.",
}
BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
PROJECTIONS = ("visual.proj", "text_projection")


class HpsV2(ClipReward):
    """cos(image, text) / normaliser, in float32: what the package hpsv2 returns, HPSv2.1 by default.

    Images are preprocessed as in hpsv2: the longer side is resized to the model's (bicubic, antialiased), the shorter
    one padded with black, so that nothing is cropped. (A CLIP processor would crop.)

    Args:
        pretrained: `xswu/HPSv2`, or an open_clip checkpoint of a ViT-H-14 (a file, or a folder that contains
            `checkpoint`), or a CLIPModel by hub id, folder or pkg:PACKAGE/FOLDER. Version 2.0 is also
            published as a CLIPModel, adams-story/HPSv2-hf, without a processor: give
            processor=openai/clip-vit-base-patch32.
        revision: branch, tag or commit of `pretrained` on the hub.
        processor: a CLIPProcessor; None for that of ViT-H-14 with an open_clip checkpoint, else the CLIPModel's own.
        checkpoint: name of the open_clip checkpoint in the folder or on the hub; `HPS_v2_compressed.pt` is
            version 2.0, whose scores cannot be compared with those of 2.1. None treats a folder or hub id other than
            `xswu/HPSv2` as a CLIPModel.
        normaliser: divisor of the cosine: 1 in hpsv2, DanceGRPO and DiffusionNFT (scores near 0.25 to 0.33).
        batch_size: images per forward pass.

    Raises:
        UserError: `pretrained` or `processor` cannot be loaded.
    """

    def __init__(
        self,
        pretrained: str = HPS,
        revision: str | None = None,
        processor: str | None = None,
        checkpoint: str | None = None,
        normaliser: Positive = 1.0,
        batch_size: Count = 64,
    ) -> None:
        if split_revision(pretrained)[0] == HPS:
            checkpoint = checkpoint or CHECKPOINT
        with naming(".args.pretrained"):
            if checkpoint or Path(locate(pretrained)).is_file():
                path = find_file(pretrained, checkpoint or CHECKPOINT, revision)
                self.model = clip_from_open_clip(read_tensors(path))
                processor = processor or HPS_PROCESSOR
            else:
                self.model = load_pretrained(partial(whole(CLIPModel), revision=revision), pretrained)
        with naming(".args.processor"):
            self.processor = load_pretrained(CLIPProcessor.from_pretrained, processor or pretrained)
        self._begin(batch_size)
        self.normaliser = normaliser

    def __call__(self, images_B3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        return self.cosine(images_B3HW, prompts) / self.normaliser

    def _image_features(self, images_B3HW: Tensor) -> Tensor:
        images = letterbox(to_bytes(images_B3HW).float() / 255, self.model.config.vision_config.image_size)
        processor = self.processor.image_processor
        mean, std = (images.new_tensor(part)[:, None, None] for part in (processor.image_mean, processor.image_std))
        features = self.model.get_image_features(((images - mean) / std).to(self.model.device))
        return normalize(features.pooler_output, dim=-1)


def letterbox(images_B3HW: Tensor, side: int) -> Tensor:
    """Images in [0, 1] of any shape as `side` x `side`: the longer side resized, the shorter one padded with black."""
    height, width = images_B3HW.shape[-2:]
    scale = side / max(height, width)
    if scale != 1:
        size = [round(height * scale), round(width * scale)]
        images_B3HW = resize(images_B3HW, size, InterpolationMode.BICUBIC, antialias=True)
    rows, columns = side - images_B3HW.shape[-2], side - images_B3HW.shape[-1]
    return pad(images_B3HW, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))


def clip_from_open_clip(tensors: dict[str, Tensor]) -> CLIPModel:
    """A CLIPModel with the weights of an open_clip ViT-H-14, or of a smaller one with 16 heads in each tower.

    Args:
        tensors: under open_clip's names.

    Raises:
        UserError: the tensors are not those of such a model.
    """
    try:
        model = CLIPModel(_config(tensors))
        converted = _rename(tensors)
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(
            f"{named()}: these are not the weights of an open_clip ViT-H-14 ({type(error).__name__}: {error}); "
            f"give {CHECKPOINT}, or the folder of a CLIPModel"
        ) from error
    load_exactly(model, converted)
    return model


def _rename(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under transformers' names: fused attention inputs are split, projections are transposed."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        tower = next((tower for tower in TOWERS if name.startswith(tower)), None)
        if name in WHOLE:
            renamed[WHOLE[name]] = tensor.T if name in PROJECTIONS else tensor
        elif tower:
            layer, _, part = name.removeprefix(tower).partition(".")
            start = f"{TOWERS[tower]}{layer}."
            if part.startswith("attn.in_proj_"):
                kind = part.removeprefix("attn.in_proj_")
                for letter, third in zip("qkv", tensor.chunk(3), strict=True):
                    renamed[f"{start}self_attn.{letter}_proj.{kind}"] = third
            else:
                stem, _, kind = part.rpartition(".")
                renamed[f"{start}{BLOCK[stem]}.{kind}"] = tensor
        else:
            stem, _, kind = name.rpartition(".")
            renamed[f"{NORMS[stem]}.{kind}"] = tensor
    return renamed


def _config(tensors: dict[str, Tensor]) -> CLIPConfig:
    """The model configuration, inferred from tensor shapes."""

    def tower(start: str) -> dict[str, int | str]:
        layers = {name.removeprefix(start).split(".")[0] for name in tensors if name.startswith(start)}
        hidden = tensors[f"{start}0.mlp.c_fc.weight"]
        return {
            "hidden_size": hidden.shape[1],
            "intermediate_size": hidden.shape[0],
            "num_hidden_layers": len(layers),
            "num_attention_heads": HEADS,
            "hidden_act": "gelu",  # OpenAI's CLIP, transformers' default, uses quick_gelu
        }

    patch = tensors["visual.conv1.weight"].shape[-1]
    grid = round((tensors["visual.positional_embedding"].shape[0] - 1) ** 0.5)
    words = tensors["token_embedding.weight"].shape[0]
    text = {
        "vocab_size": words,
        "max_position_embeddings": tensors["positional_embedding"].shape[0],
        # open_clip pools the text at the highest token id, which is the end token, the last of the vocabulary
        "bos_token_id": words - 2,
        "eos_token_id": words - 1,
        "pad_token_id": words - 1,
    }
    embedding = tensors["text_projection"].shape[1]
    return CLIPConfig(
        text_config={**tower("transformer.resblocks."), **text, "projection_dim": embedding},
        vision_config={
            **tower("visual.transformer.resblocks."),
            "image_size": grid * patch,
            "patch_size": patch,
            "projection_dim": embedding,
        },
        projection_dim=embedding,
    )
