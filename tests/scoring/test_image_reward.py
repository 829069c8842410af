"""ImageReward, against its network written out on tensors with the published names."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_judges import (
    BLOCKS,
    CONFIG,
    LAYERS,
    PATCH,
    SIDE,
    TEXT_HEADS,
    WIDTH,
    WORDS,
    image_reward_tensors,
    save_tiny_image_reward,
)
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor
from transformers import BertTokenizer

from drift_pl.core.errors import UserError
from drift_pl.scoring.image_reward import ImageReward

PROMPTS = ["a red cat", "Sky", "blue dogs " * 30, ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_image_reward(tmp_path_factory.mktemp("image_reward"))


def judge(folder: Path, **options: object) -> ImageReward:
    return ImageReward(str(folder), tokenizer=str(folder / "tokenizer"), **options)


def by_hand(tensors: dict[str, Tensor], pixels: Tensor, tokens: Tensor, lengths: list[int]) -> Tensor:
    """Raw scores of one image and prompt at a time; the padding is left out instead of masked."""

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    def norm(x: Tensor, name: str, eps: float) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], tensors[f"{name}.weight"], tensors[f"{name}.bias"], eps)

    def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        parts = []
        for qh, kh, vh in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1), strict=True):
            parts.append(torch.softmax(qh @ kh.T / qh.shape[-1] ** 0.5, -1) @ vh)
        return torch.cat(parts, -1)

    def see(image: Tensor) -> Tensor:
        start = "blip.visual_encoder."
        patch = (tensors[f"{start}patch_embed.proj.weight"], tensors[f"{start}patch_embed.proj.bias"])
        x = F.conv2d(image[None], *patch, stride=PATCH)[0].flatten(1).T
        x = torch.cat([tensors[f"{start}cls_token"][0], x]) + tensors[f"{start}pos_embed"][0]
        for number in range(BLOCKS):
            block = f"{start}blocks.{number}."
            q, k, v = linear(norm(x, f"{block}norm1", 1e-6), f"{block}attn.qkv").chunk(3, -1)
            x = x + linear(attend(q, k, v, WIDTH // 64), f"{block}attn.proj")
            x = x + linear(F.gelu(linear(norm(x, f"{block}norm2", 1e-6), f"{block}mlp.fc1")), f"{block}mlp.fc2")
        return norm(x, f"{start}norm", 1e-6)

    def read(ids: Tensor, image: Tensor) -> Tensor:
        start = "blip.text_encoder."
        positions = tensors[f"{start}embeddings.position_embeddings.weight"][: len(ids)]
        x = tensors[f"{start}embeddings.word_embeddings.weight"][ids] + positions
        x = norm(x, f"{start}embeddings.LayerNorm", 1e-12)
        for number in range(LAYERS):
            layer = f"{start}encoder.layer.{number}."
            for kind in ("attention", "crossattention"):
                seen = x if kind == "attention" else image
                q, k, v = (
                    linear(x, f"{layer}{kind}.self.query"),
                    *(linear(seen, f"{layer}{kind}.self.{part}") for part in ("key", "value")),
                )
                out = linear(attend(q, k, v, TEXT_HEADS), f"{layer}{kind}.output.dense")
                x = norm(out + x, f"{layer}{kind}.output.LayerNorm", 1e-12)
            inner = F.gelu(linear(x, f"{layer}intermediate.dense"))
            x = norm(linear(inner, f"{layer}output.dense") + x, f"{layer}output.LayerNorm", 1e-12)
        return x[0]

    scores = []
    for image, ids, length in zip(pixels, tokens, lengths, strict=True):
        x = read(ids[:length], see(image))
        for number in (0, 2, 4, 6, 7):
            x = linear(x, f"mlp.layers.{number}")
        scores.append(x[0])
    return torch.stack(scores)


def images(generator: torch.Generator, count: int, height: int = SIDE, width: int = SIDE) -> Tensor:
    return torch.randint(0, 256, (count, 3, height, width), generator=generator).float() / 255


def published_pixels(batch: Tensor) -> Tensor:
    """ImageReward's transform, on PIL images."""
    transform = Compose(
        [
            Resize(SIDE, interpolation=InterpolationMode.BICUBIC),
            CenterCrop(SIDE),
            ToTensor(),
            Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ]
    )
    pictures = [Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()) for image in batch]
    return torch.stack([transform(picture) for picture in pictures])


# [CLS] text [SEP], the third cut at 35; "dogs" is two tokens, and text is lowercased
TOKENS = [[2, 5, 6, 7, 3], [2, 8, 3], [2, *([9, 10, 11] * 11), 3], [2, 3]]


def expected_scores(batch: Tensor) -> Tensor:
    padded = torch.tensor([ids + [0] * (35 - len(ids)) for ids in TOKENS])
    raw = by_hand(image_reward_tensors(), published_pixels(batch), padded, [len(ids) for ids in TOKENS])
    return (raw - 0.16717362830052426) / 1.0333394966054072


def test_a_score_is_the_published_network_written_out(folder: Path, generator: torch.Generator) -> None:
    batch = images(generator, 4)
    expected = expected_scores(batch)
    scores = judge(folder)(batch, PROMPTS)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)
    assert scores.dtype == torch.float32
    assert ((scores[:, None] - scores[None]).abs() + torch.eye(4)).min() > 2e-3  # rows could not be swapped unseen
    assert (scores - judge(folder)(batch.flip(0), PROMPTS)).abs().max() > 0.01  # the image matters


def test_other_sizes_are_resized_and_cropped(folder: Path, generator: torch.Generator) -> None:
    """On smooth pictures; uint8 tensors and PIL images differ by up to two grey levels after resizing."""
    batch = F.interpolate(images(generator, 4, 6, 8), size=(60, 80), mode="bicubic").clamp(0, 1)
    batch = (batch * 255).round() / 255
    scores = judge(folder)(batch, PROMPTS)
    torch.testing.assert_close(scores, expected_scores(batch), rtol=0, atol=0.02)
    assert (scores - judge(folder)(batch[..., :60], PROMPTS)).abs().max() > 0.1  # another crop would be detected


def test_mean_and_deviation_and_normaliser_are_settings(folder: Path, generator: torch.Generator) -> None:
    batch = images(generator, 4)
    raw = judge(folder, mean=0.0, std=1.0)(batch, PROMPTS)
    scores = judge(folder, mean=0.5, std=2.0, normaliser=4.0)(batch, PROMPTS)
    torch.testing.assert_close(scores, (raw - 0.5) / 8, rtol=1e-5, atol=1e-6)


def test_scores_do_not_depend_on_the_batch_or_on_autocast(folder: Path, generator: torch.Generator) -> None:
    batch = images(generator, 4).requires_grad_()
    whole = judge(folder)
    together = whole(batch, PROMPTS)
    torch.testing.assert_close(judge(folder, batch_size=3)(batch, PROMPTS), together, rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(whole(batch, PROMPTS), together)
    assert not together.requires_grad
    assert whole.to("cpu") is whole
    assert not whole.model.training


def test_what_does_not_fit_is_said_in_one_line(folder: Path, tmp_path: Path) -> None:
    tensors = image_reward_tensors()
    wrong = {
        "lacks a block": (
            {name: tensor for name, tensor in tensors.items() if name != "blip.visual_encoder.blocks.1.mlp.fc2.bias"},
            r"encoder\.layers\.1\.mlp\.fc2\.bias is missing",
        ),
        "lacks text": (
            {name: tensor for name, tensor in tensors.items() if "crossattention" not in name},
            "crossattention.* is missing",
        ),
        "unknown": ({**tensors, "blip.visual_encoder.fc.weight": torch.ones(1)}, "not those of an ImageReward model"),
        "no image encoder": ({"mlp.layers.0.weight": torch.ones(1, 4)}, "not those of an ImageReward model"),
    }
    (tmp_path / "med_config.json").write_text(json.dumps(CONFIG))
    for content, message in wrong.values():
        torch.save(content, tmp_path / "ImageReward.pt")
        with pytest.raises(UserError, match=message) as caught:
            ImageReward(str(tmp_path), tokenizer=str(folder / "tokenizer"))
        assert "\n" not in str(caught.value)
    torch.save(tensors, tmp_path / "ImageReward.pt")
    for text in ("{}", "[1]", "no json"):
        (tmp_path / "med_config.json").write_text(text)
        with pytest.raises(UserError, match="not those of an ImageReward model"):
            ImageReward(str(tmp_path), tokenizer=str(folder / "tokenizer"))
    (tmp_path / "med_config.json").unlink()
    with pytest.raises(UserError, match=r"holds no med_config\.json"):
        ImageReward(str(tmp_path), tokenizer=str(folder / "tokenizer"))
    with pytest.raises(UserError, match=r"rewards\.args\.tokenizer=\./nowhere"):
        ImageReward(str(folder), tokenizer="./nowhere")
    BertTokenizer(vocab={word: number for number, word in enumerate([*WORDS, "more"])}).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="has 15 tokens and the text encoder 14"):
        ImageReward(str(folder), tokenizer=str(tmp_path))


def test_prompts_that_are_cut_are_counted_in_one_warning(folder: Path, generator: torch.Generator) -> None:
    """The published length is 35 tokens."""
    reward, long = judge(folder, batch_size=1), "a dot " * 40
    says = "^1 of 2 prompts are longer than ImageReward takes and are cut: 1 at 35"
    with pytest.warns(UserWarning, match=says) as caught:
        reward(images(generator, 3), [long, "a dot", long])
    assert len([warning for warning in caught if "are cut" in str(warning.message)]) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reward(images(generator, 1), [f"{long} again"])
