"""Rewards in another precision and on a device of their own: what their networks see."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from drift_pl.builders.scoring import build_run_rewards
from drift_pl.config.loading import parse
from drift_pl.core.errors import UserError
from drift_pl.scoring.clip_score import ClipScore
from drift_pl.scoring.placement import Placed, networks_of
from drift_pl.scoring.residence import PARKED, resident
from drift_pl.scoring.rewards import WeightedReward

PROMPTS = ["a red cat", "sky"]


class Watched:
    """A convolution, a normalisation and a head; remembers the dtypes and devices of what they are given."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4)), nn.Linear(4, 1)).eval()
        self.seen: list[tuple[str, torch.dtype, str]] = []
        self.moves: list[str] = []
        for part in self.network.modules():
            if not [*part.children()]:
                part.register_forward_hook(self._note)

    def _note(self, part: nn.Module, given: tuple[Tensor, ...], answer: Tensor) -> None:
        self.seen.append((type(part).__name__, given[0].dtype, given[0].device.type))

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        features, head = self.network
        answer = head(features(images).mean((2, 3))).squeeze(1)
        return torch.ones(len(prompts)) if answer.is_meta else answer

    def to(self, device: torch.device | str) -> "Watched":
        self.moves.append(str(device))
        self.network.to(device)
        return self

    def expect_prompts(self, prompts: Sequence[str]) -> None:
        self.told = prompts


@pytest.fixture
def images(generator: torch.Generator) -> Tensor:
    return torch.rand(2, 3, 8, 8, generator=generator)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_layers_compute_in_the_precision_and_the_head_in_float32(images: Tensor, dtype: str) -> None:
    """Catches in scoring/placement.py: inputs not cast; statistics of a normalisation left as they were; a score
    rounded to eight bits."""
    plain = Watched()(images, PROMPTS)
    watched = Watched()
    placed = WeightedReward("watched", Placed(watched, dtype, None, False))
    scores = placed(images, PROMPTS)
    half = getattr(torch, dtype)
    assert [(name, seen) for name, seen, _ in watched.seen] == [
        ("Conv2d", half),
        ("BatchNorm2d", half),
        ("Linear", torch.float32),
    ]
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, plain, rtol=0.02, atol=0.02)
    assert not torch.equal(scores, plain)


def test_float32_is_what_it_was(images: Tensor) -> None:
    assert torch.equal(Placed(Watched(), "float32", None, False)(images, PROMPTS), Watched()(images, PROMPTS))


def test_a_network_stays_on_its_own_device(images: Tensor) -> None:
    """The meta device stands for another one; the images follow, the scores come back.

    Catches in scoring/placement.py: moved with the others; images left where they were.
    """
    watched = Watched()
    reward = WeightedReward("watched", Placed(watched, None, "meta", False))
    reward.reward.to("cpu")
    assert watched.moves == ["meta"]
    assert reward(images, PROMPTS).tolist() == [1, 1]
    assert {device for _, _, device in watched.seen} == {"meta"}


def test_with_offload_it_waits_in_main_memory(images: Tensor) -> None:
    """Catches in scoring/placement.py: kept on its device between the phases; scored in main memory."""
    watched = Watched()
    placed = Placed(watched, None, "meta", True)
    watched.network = nn.Sequential()  # without weights, which could not come back from the meta device
    placed.to(PARKED)
    with resident([placed], "meta"):
        assert watched.moves == ["cpu", "meta"]
    assert watched.moves == ["cpu", "meta", "cpu"]


def test_what_else_a_reward_has_is_there() -> None:
    watched = Watched()
    placed = Placed(watched, "bfloat16", None, False)
    placed.expect_prompts(PROMPTS)
    assert watched.told == PROMPTS
    assert not getattr(placed, "groupwise", False)


def test_a_published_reward_changes_in_its_last_digits_only(tiny_preference: Path, images: Tensor) -> None:
    """And CLIP's scale, which multiplies every score, not at all."""
    plain, half = ClipScore(str(tiny_preference)), ClipScore(str(tiny_preference))
    placed = Placed(half, "bfloat16", None, False)
    torch.testing.assert_close(placed(images, PROMPTS), plain(images, PROMPTS), rtol=0, atol=1.0)  # of 100
    assert half.model.logit_scale.dtype == torch.float32
    assert half.model.vision_model.embeddings.patch_embedding.weight.dtype == torch.bfloat16
    assert networks_of(half) == [half.model]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("{name: jpeg_compressibility, dtype: bfloat16}", "rewards.0.dtype=bfloat16: this reward holds no network"),
        ("{name: jpeg_compressibility, device: cpu}", "rewards.0.device=cpu: this reward holds no network of torch"),
        (
            "{name: clip_score, args: {pretrained: PRETRAINED}, device: 'cuda:91'}",
            "rewards.0.device=cuda:91: there is no",
        ),
        (
            "{name: clip_score, args: {pretrained: PRETRAINED}, device: nowhere}",
            "rewards.0.device=nowhere: there is no",
        ),
        ("{name: clip_score, args: {pretrained: PRETRAINED}, dtype: int8}", "rewards.0.dtype=int8"),
    ],
)
def test_what_cannot_be_done_is_refused(tiny_preference: Path, entry: str, words: str) -> None:
    """Catches in builders/scoring.py: rewards made without their precision and device."""
    with pytest.raises(UserError) as caught:
        build_run_rewards(parse([f"rewards=[{entry.replace('PRETRAINED', str(tiny_preference))}]"]).config)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_reach_the_reward(tiny_preference: Path) -> None:
    entry = f"{{name: clip_score, args: {{pretrained: {tiny_preference}}}, dtype: float16, device: cpu}}"
    reward: Any = build_run_rewards(parse([f"rewards=[{entry}]"]).config)[0].reward
    assert isinstance(reward, Placed)
    assert reward.model.text_model.embeddings.token_embedding.weight.dtype == torch.float16
