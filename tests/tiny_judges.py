"""Small random-weight files of the judges' published formats, for tests that need a judge and not a good one."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny_models import IMAGE_SIDE, TEXT_TOKENS, tiny_tokenizer
from torch import Tensor, nn
from transformers import BertTokenizer, CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from drift_pl.scoring.hps import CHECKPOINT

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "cat", "sky", "blue", "dog", "##s"]
SIDE, PATCH, WIDTH, BLOCKS = 32, 16, 128, 2  # two heads of 64
HIDDEN, LAYERS, TEXT_HEADS = 32, 2, 4
CONFIG = {
    **{"architectures": ["BertModel"], "attention_probs_dropout_prob": 0.1, "hidden_dropout_prob": 0.1},
    **{"hidden_act": "gelu", "hidden_size": HIDDEN, "intermediate_size": 48, "layer_norm_eps": 1e-12},
    **{"max_position_embeddings": 40, "model_type": "bert", "num_attention_heads": TEXT_HEADS},
    **{"num_hidden_layers": LAYERS, "pad_token_id": 0, "type_vocab_size": 2, "vocab_size": len(WORDS) + 2},
    **{"encoder_width": 768, "add_cross_attention": True, "initializer_range": 0.02},
}


def save_tiny_hps(folder: Path) -> Path:
    """`clip`: a CLIPModel of ViT-H-14's kind, 16 heads, gelu, another width for images than for texts; beside it the
    same weights as an open_clip checkpoint under the published name."""
    tokenizer = tiny_tokenizer()
    text = {
        **{"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3},
        **{"num_attention_heads": 16, "max_position_embeddings": TEXT_TOKENS, "hidden_act": "gelu"},
        **{"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id},
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        **{"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 16},
        **{"image_size": IMAGE_SIDE, "patch_size": 4, "hidden_act": "gelu"},
    }
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24))
        for parameter in model.parameters():  # biases start at zero and norms at one: a swap of two would pass unseen
            parameter.data += 0.3 * torch.randn_like(parameter)
    model.save_pretrained(folder / "clip")
    images = CLIPImageProcessor(
        size={"shortest_edge": IMAGE_SIDE}, crop_size={"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    )
    CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder / "clip")
    torch.save({"epoch": 1, "state_dict": in_open_clip_names(model)}, folder / CHECKPOINT)
    return folder


def in_open_clip_names(model: CLIPModel) -> dict[str, Tensor]:
    """The model's tensors by open_clip's names, the other way round and written without looking at the loader."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    named = {"logit_scale": state["logit_scale"]}
    for ours, tower, projection in (("vision_model", "visual.", "visual.proj"), ("text_model", "", "text_projection")):
        half = projection.split(".")[0] if tower else "text"
        named[projection] = state[f"{'visual' if half == 'visual' else 'text'}_projection.weight"].T.contiguous()
        named[f"{tower}positional_embedding"] = state[f"{ours}.embeddings.position_embedding.weight"]
        layer = 0
        while f"{ours}.encoder.layers.{layer}.mlp.fc1.weight" in state:
            old, new = f"{ours}.encoder.layers.{layer}", f"{tower}transformer.resblocks.{layer}"
            for kind in ("weight", "bias"):
                q, k, v = (state[f"{old}.self_attn.{letter}_proj.{kind}"] for letter in ("q", "k", "v"))
                named[f"{new}.attn.in_proj_{kind}"] = torch.cat([q, k, v])
                named[f"{new}.attn.out_proj.{kind}"] = state[f"{old}.self_attn.out_proj.{kind}"]
                named[f"{new}.ln_1.{kind}"] = state[f"{old}.layer_norm1.{kind}"]
                named[f"{new}.ln_2.{kind}"] = state[f"{old}.layer_norm2.{kind}"]
                named[f"{new}.mlp.c_fc.{kind}"] = state[f"{old}.mlp.fc1.{kind}"]
                named[f"{new}.mlp.c_proj.{kind}"] = state[f"{old}.mlp.fc2.{kind}"]
            layer += 1
    for kind in ("weight", "bias"):
        named[f"visual.ln_pre.{kind}"] = state[f"vision_model.pre_layrnorm.{kind}"]
        named[f"visual.ln_post.{kind}"] = state[f"vision_model.post_layernorm.{kind}"]
        named[f"ln_final.{kind}"] = state[f"text_model.final_layer_norm.{kind}"]
    named["visual.class_embedding"] = state["vision_model.embeddings.class_embedding"]
    named["visual.conv1.weight"] = state["vision_model.embeddings.patch_embedding.weight"]
    named["token_embedding.weight"] = state["text_model.embeddings.token_embedding.weight"]
    assert sum(tensor.numel() for tensor in named.values()) == sum(tensor.numel() for tensor in state.values())
    return named


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published checkpoint, its sizes made small."""
    image, text = "blip.visual_encoder.", "blip.text_encoder."
    shapes: dict[str, tuple[int, ...]] = {
        f"{image}cls_token": (1, 1, WIDTH),
        f"{image}pos_embed": (1, 1 + (SIDE // PATCH) ** 2, WIDTH),
        f"{image}patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        f"{image}patch_embed.proj.bias": (WIDTH,),
        f"{text}embeddings.word_embeddings.weight": (CONFIG["vocab_size"], HIDDEN),
        f"{text}embeddings.position_embeddings.weight": (CONFIG["max_position_embeddings"], HIDDEN),
    }

    def norm(name: str, width: int) -> None:
        shapes.update({f"{name}.weight": (width,), f"{name}.bias": (width,)})

    def linear(name: str, inputs: int, outputs: int) -> None:
        shapes.update({f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)})

    norm(f"{image}norm", WIDTH)
    for number in range(BLOCKS):
        block = f"{image}blocks.{number}."
        norm(f"{block}norm1", WIDTH)
        norm(f"{block}norm2", WIDTH)
        for name, inputs, outputs in (("attn.qkv", 1, 3), ("attn.proj", 1, 1), ("mlp.fc1", 1, 4), ("mlp.fc2", 4, 1)):
            linear(f"{block}{name}", inputs * WIDTH, outputs * WIDTH)
    norm(f"{text}embeddings.LayerNorm", HIDDEN)
    for number in range(LAYERS):
        layer = f"{text}encoder.layer.{number}."
        for attention, keys in (("attention", HIDDEN), ("crossattention", WIDTH)):
            linear(f"{layer}{attention}.self.query", HIDDEN, HIDDEN)
            linear(f"{layer}{attention}.self.key", keys, HIDDEN)
            linear(f"{layer}{attention}.self.value", keys, HIDDEN)
            linear(f"{layer}{attention}.output.dense", HIDDEN, HIDDEN)
            norm(f"{layer}{attention}.output.LayerNorm", HIDDEN)
        linear(f"{layer}intermediate.dense", HIDDEN, CONFIG["intermediate_size"])
        linear(f"{layer}output.dense", CONFIG["intermediate_size"], HIDDEN)
        norm(f"{layer}output.LayerNorm", HIDDEN)
    linear("blip.vision_proj", WIDTH, 256)
    linear("blip.text_proj", HIDDEN, 256)
    sizes = [HIDDEN, 1024, 128, 64, 16, 1]
    for number, inputs, outputs in zip((0, 2, 4, 6, 7), sizes, sizes[1:], strict=False):
        linear(f"mlp.layers.{number}", inputs, outputs)
    return shapes


def image_reward_tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(8)
    tensors = {
        name: torch.randn(shape, generator=generator) * (1.5 * shape[-1] ** -0.5 if len(shape) == 2 else 0.7)
        for name, shape in published_shapes().items()
    }
    tensors["blip.text_encoder.embeddings.position_ids"] = torch.arange(40)[None]
    return tensors


def save_tiny_image_reward(folder: Path) -> Path:
    """The published checkpoint's names; its tokenizer is in `tokenizer`."""
    torch.save(image_reward_tensors(), folder / "ImageReward.pt")
    (folder / "med_config.json").write_text(json.dumps(CONFIG))
    BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)}).save_pretrained(folder / "tokenizer")
    return folder


class PublishedMlp(nn.Module):
    """The published head's shape and names, dropout layers included; only the first width is smaller."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = [width, 1024, 128, 64, 16, 1]
        linears = [nn.Linear(before, after) for before, after in zip(sizes, sizes[1:], strict=False)]
        dropouts = [nn.Dropout(0.2), nn.Dropout(0.2), nn.Dropout(0.1)]
        self.layers = nn.Sequential(
            linears[0], dropouts[0], linears[1], dropouts[1], linears[2], dropouts[2], linears[3], linears[4]
        )


def save_tiny_aesthetic_head(path: Path, width: int) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(6)
        head = PublishedMlp(width)
        for layer in head.layers:  # the usual start is so small that after five layers every image scores the same
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
    assert [name for name in head.state_dict() if "weight" in name] == [f"layers.{n}.weight" for n in (0, 2, 4, 6, 7)]
    if path.suffix == ".safetensors":
        save_file(head.state_dict(), path)
    else:
        torch.save(head.state_dict(), path)
    return path
