"""SigLIP 2 against the logits of transformers' own model, on a folder with random weights."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_models import IMAGE_SIDE, TEXT_TOKENS, tiny_tokenizer
from torch import Tensor
from transformers import (
    AutoModel,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
)

from drift_pl.core.errors import UserError
from drift_pl.core.registry import find
from drift_pl.scoring.siglip2 import Siglip2

PROMPTS = ["a red cat", "sky", "a red cat", "blue"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In the format of `google/siglip2-base-patch16-224`."""
    folder = tmp_path_factory.mktemp("siglip")
    torch.manual_seed(4)
    tokenizer = tiny_tokenizer()
    text = {
        **{"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2},
        **{"num_attention_heads": 2, "max_position_embeddings": TEXT_TOKENS, "projection_size": 16},
        **{"pad_token_id": tokenizer.pad_token_id, "bos_token_id": 1, "eos_token_id": 2},
    }
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = SiglipConfig(text_config=text, vision_config={**vision, "patch_size": 4, "image_size": IMAGE_SIDE})
    model = SiglipModel(config)
    with torch.no_grad():
        for parameter in model.parameters():  # away from the zeros of their initialisation
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    size = {"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    SiglipProcessor(SiglipImageProcessor(size=size), tokenizer).save_pretrained(folder)
    return folder


def logits(folder: Path, images: Tensor) -> Tensor:
    """Of the pairs, by the model and the processor of transformers, on PIL images."""
    model, processor = AutoModel.from_pretrained(folder).eval(), Siglip2(str(folder)).processor
    pictures = [Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()) for image in images]
    inputs = processor(
        text=PROMPTS,
        images=pictures,
        padding="max_length",
        max_length=TEXT_TOKENS,
        truncation=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        return model(**inputs).logits_per_image.diagonal()


def test_a_score_is_the_logit_of_transformers(folder: Path, generator: torch.Generator) -> None:
    """Catches in scoring/siglip2.py: the bias left out; the normaliser ignored. Catches in scoring/pickscore.py: texts
    padded to the longest of them, whose last token is pooled."""
    images = torch.randint(0, 256, (4, 3, 24, 16), generator=generator).float() / 255
    expected = logits(folder, images)
    assert expected.unique().numel() == 4
    scores = Siglip2(str(folder))(images, PROMPTS)
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-5)
    assert scores.dtype == torch.float32
    judge = Siglip2(str(folder), normaliser=4.0, batch_size=3)
    alone = torch.cat([judge(images[row : row + 1], PROMPTS[row : row + 1]) for row in (3, 2, 1, 0)]).flip(0)
    torch.testing.assert_close(alone, expected / 4, rtol=0, atol=1e-5)


def test_it_is_a_reward_by_name_and_refuses_another_family(tiny_preference: Path) -> None:
    assert find("reward", "siglip2") is Siglip2
    with pytest.raises(
        UserError, match=r"rewards\.args\.pretrained=.* is a CLIPModel, and no SiglipModel: give e\.g\. google/"
    ):
        Siglip2(str(tiny_preference))


def test_a_naflex_variant_is_refused_by_name(tmp_path: Path) -> None:
    """Its network takes patches of images of any shape, with their number.

    Catches in scoring/siglip2.py: a class of another network taken; a message without a model that works.
    """
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": 32, "max_position_embeddings": 8, "projection_size": 16}
    config = Siglip2Config(text_config=text, vision_config={**small, "patch_size": 4, "num_patches": 16})
    Siglip2Model(config).save_pretrained(tmp_path)
    with pytest.raises(UserError) as refused:
        Siglip2(str(tmp_path))
    said = str(refused.value)
    assert "is a Siglip2Model (a NaFlex variant), and no SiglipModel: give e.g. google/siglip2-base-patch16-224" in said
    assert "\n" not in said
