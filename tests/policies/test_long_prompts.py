"""Prompts beyond a text encoder's length: one warning with their number, in every family and in rewards.

Catches in core/text_length.py: a text that is not counted; a second warning.
Catches in policies/pipeline.py: a text encoder that is left out.
Catches in policies/zimage.py: the chat template left out of the count.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from tiny_policies import load_tiny

from drift_pl.core.text_length import CutTexts, TextLimit
from drift_pl.scoring.clip_score import ClipScore
from drift_pl.scoring.pickscore import PickScore

SHORT, LONG, LONGER = "a dot", "a dot " * 8, "a red dot " * 30
SAVE: dict[str, Callable[[Path], Path]] = {
    "sd3": tiny_models.save_tiny_pipeline,
    "flux": tiny_models.save_tiny_flux,
    "zimage": tiny_models.save_tiny_zimage,
    "sd15": tiny_models.save_tiny_sd15,
    "sdxl": tiny_models.save_tiny_sdxl,
}


def warned(call: Callable[[], Any]) -> list[str]:
    """Messages on long prompts."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(warning.message) for warning in caught if "longer than" in str(warning.message)]


@pytest.mark.parametrize(
    ("family", "options", "says"),
    [
        ("sd15", {}, "2 at 16 tokens;"),
        ("sdxl", {}, "2 at 16 tokens by text_encoder, 2 at 16 tokens by text_encoder_2;"),
        ("sd3", {}, "2 at 16 tokens by text_encoder, 2 at 16 tokens by text_encoder_2;"),
        ("flux", {"max_sequence_length": 100}, "2 at 16 tokens by text_encoder, 1 at 100 tokens by text_encoder_2;"),
        ("zimage", {"resolution": 32}, "1 at 80 tokens;"),
    ],
)
def test_every_family_warns_once(tmp_path: Path, family: str, options: dict[str, Any], says: str) -> None:
    """Three prompts of 4, 32 and 210 letters without blanks; Z-Image's tokenizer has one token per byte."""
    policy = load_tiny(family, SAVE[family](tmp_path / "model"), **options)
    assert warned(lambda: policy.encode([SHORT, "a bar"])) == []
    messages = warned(lambda: policy.encode([SHORT, LONG, LONGER, LONG]))
    number = 1 if family == "zimage" else 2
    assert len(messages) == 1
    assert messages[0].startswith(f"{number} of 2 prompts are longer than the model takes and are cut: {says}")
    assert messages[0].endswith(f"the longest begins {LONGER[:40]!r}")
    assert warned(lambda: policy.encode([LONG, LONGER + "!"])) == []


def test_prompts_that_are_announced_are_counted_together(tmp_path: Path) -> None:
    policy = load_tiny("sd15", SAVE["sd15"](tmp_path / "model"))
    messages = warned(lambda: policy.expect_prompts([SHORT, LONG, LONGER]))
    assert [message.partition(" are")[0] for message in messages] == ["2 of 3 prompts"]
    assert warned(lambda: [policy.encode([text]) for text in (SHORT, LONG, LONGER)]) == []


@pytest.mark.parametrize("reward", [PickScore, ClipScore])
def test_a_reward_warns_once(tiny_preference: Path, reward: type, generator: Any) -> None:
    import torch

    made = reward(str(tiny_preference))
    images = torch.rand(2, 3, 16, 16, generator=generator)
    messages = warned(lambda: made(images, [SHORT, LONGER]))
    assert [message.partition(";")[0] for message in messages] == [
        f"1 of 2 prompts are longer than {reward.__name__} takes and are cut: 1 at 16 tokens"
    ]
    assert warned(lambda: made(images, [LONGER, LONG])) == []


def test_a_text_of_exactly_the_length_is_not_cut() -> None:
    """14 letters and two marks are 16 tokens."""
    limits = {"text": TextLimit(16, tiny_models.tiny_tokenizer())}
    assert warned(lambda: CutTexts("it").look(["a" * 14], limits)) == []
    assert len(warned(lambda: CutTexts("it").look(["a" * 15], limits))) == 1


def test_z_images_chat_template_counts(tmp_path: Path) -> None:
    """Of 80 tokens the template takes 19: a prompt of 61 letters is read whole, one of 62 is not."""
    policy = load_tiny("zimage", SAVE["zimage"](tmp_path / "model"), resolution=32)
    assert warned(lambda: policy.encode(["a" * 61])) == []
    assert len(warned(lambda: policy.encode(["a" * 62]))) == 1
