"""Rewards, encoders and distances of images on the frames of videos: closed forms of frames of one colour."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from drift_pl.scoring.frames import (
    SHOWN,
    FrameDistance,
    FrameEncoder,
    FrameReward,
    FrameVariety,
    few_frames,
    frame_of,
    random_frames,
)
from drift_pl.scoring.rewards import WeightedReward
from drift_pl.training.reward_calls import RewardCalls

FRAMES = 7


@pytest.fixture
def videos(generator: torch.Generator) -> Tensor:
    """[B, F, 3, H, W], not square."""
    return torch.rand(4, FRAMES, 3, 2, 3, generator=generator)


def side_by_side(videos_BF3HW: Tensor) -> Tensor:
    """Oracle: one frame after the other."""
    return torch.cat(list(videos_BF3HW.unbind(1)), dim=-1)


def of_colours(colours: list[list[int]]) -> Tensor:
    """Videos of 2 x 2 frames, each red (0), green (1) or blue (2)."""
    frames_BF3 = torch.eye(3)[torch.tensor(colours)]
    return side_by_side(frames_BF3[..., None, None].expand(-1, -1, -1, 2, 2))


def colour(images_B3HW: Tensor) -> Tensor:
    """An encoder: the unit vector of the mean colour."""
    return normalize(images_B3HW.mean((-1, -2)), dim=-1)


def brightness(images: Tensor, prompts: list[str]) -> Tensor:
    return images.mean((-1, -2, -3))


def test_frames_are_found_again(videos: Tensor) -> None:
    """Catches in scoring/frames.py: rows of the picture taken for frames."""
    pictures = side_by_side(videos)
    for number in range(FRAMES):
        assert torch.equal(frame_of(pictures, number, FRAMES), videos[:, number])
    assert torch.equal(few_frames(pictures, FRAMES), side_by_side(videos[:, [0, 2, 3, 4, 6]]))
    assert torch.equal(few_frames(pictures, 1), pictures)
    assert few_frames(pictures, FRAMES).shape[-1] == SHOWN * 3


def test_a_reward_is_the_mean_over_frames_or_the_firsts(videos: Tensor) -> None:
    """Catches in scoring/frames.py: one frame left out; the last for the first."""
    pictures, prompts = side_by_side(videos), ["a"] * len(videos)
    torch.testing.assert_close(FrameReward(brightness, FRAMES)(pictures, prompts), videos.flatten(1).mean(1))
    first = FrameReward(brightness, FRAMES, first=True)(pictures, prompts)
    assert torch.equal(first, brightness(videos[:, 0], prompts))


def test_a_reward_of_groups_stays_one_and_a_frame_that_cannot_be_scored_is_known(videos: Tensor) -> None:
    """Catches in scoring/frames.py: other attributes of a reward not kept."""

    class Rank:
        groupwise = True
        seen: list[tuple[int, ...]] = []

        def __call__(self, images_PG3HW: Tensor, prompts: list[str]) -> Tensor:
            self.seen.append(tuple(images_PG3HW.shape))
            return brightness(images_PG3HW, prompts).argsort(1).argsort(1).float()

    reward = WeightedReward("rank", FrameReward(Rank(), FRAMES))
    score_B = reward(side_by_side(videos), ["a", "a", "b", "b"], 2)
    brighter = (videos[::2].mean((2, 3, 4)) > videos[1::2].mean((2, 3, 4))).float().mean(1)
    torch.testing.assert_close(score_B[::2], brighter)
    assert set(Rank.seen) == {(2, 2, 3, 2, 3)}

    def fails_on_white(images: Tensor, prompts: list[str]) -> Tensor:
        return torch.where(brightness(images, prompts) == 1, torch.nan, 1.0)

    videos[1, 3] = 1.0
    assert FrameReward(fails_on_white, FRAMES)(side_by_side(videos), ["a"] * 4).isnan().tolist() == [0, 1, 0, 0]


def test_the_random_frame_is_the_videos_own(videos: Tensor) -> None:
    """Whatever it is scored beside, in whatever order, in a thread or not.

    Catches in scoring/frames.py: one frame for all videos; the same in every iteration.
    Catches in training/reward_calls.py: the rows of another part.
    """
    pictures = side_by_side(videos)
    whole = random_frames(pictures, FRAMES, (3, 0), range(4))
    for row, sample in enumerate(range(4)):
        assert torch.equal(random_frames(pictures[row:][:1], FRAMES, (3, 0), [sample])[0], whole[row])
        assert any(torch.equal(whole[row], frame) for frame in videos[row])
    ramp = side_by_side(torch.arange(FRAMES)[:, None, None, None].expand(64, -1, 3, 1, 1).float())
    drawn = random_frames(ramp, FRAMES, (3, 0), range(64))[:, 0, 0, 0]
    assert set(drawn.tolist()) == set(range(FRAMES))
    assert not torch.equal(drawn, random_frames(ramp, FRAMES, (3, 1), range(64))[:, 0, 0, 0])

    def seen(images: Tensor, rows: slice) -> Tensor:
        return random_frames(images, FRAMES, (3, 0), list(range(4))[rows])

    for groups_per_call, thread in ((0, False), (1, False), (1, True)):
        calls = RewardCalls([WeightedReward("b", brightness)], ["a"] * 4, 2, groups_per_call, thread, seen)
        with calls:
            calls.take(pictures)
            assert torch.equal(calls.scores(pictures)["b"], brightness(whole, []))


def test_a_video_is_embedded_by_the_mean_of_its_frames() -> None:
    """Catches in scoring/frames.py: an embedding that is not of unit length."""
    pictures = of_colours([[0, 0, 0, 1], [2, 2, 2, 2]])
    expected = torch.tensor([[3.0, 1.0, 0.0], [0.0, 0.0, 10.0**0.5]]) / 10**0.5
    torch.testing.assert_close(FrameEncoder(colour, 4)(pictures), expected)


@pytest.mark.parametrize(
    ("colours", "between", "within"),
    [
        ([[0, 0, 0], [1, 1, 1]], 1, 0),  # two videos, each without any motion
        ([[0, 1, 2], [0, 1, 2]], 0, 1),  # the same video twice
        ([[0, 1, 2], [1, 2, 0]], 1, 1),  # alike by their mean embedding, different at every time
        ([[0, 0, 1, 1], [0, 0, 2, 2]], 1 / 2, 2 / 3),  # four of the six pairs of frames differ
    ],
)
def test_variety_within_a_video_is_told_apart_from_that_between_videos(
    colours: list[list[int]], between: float, within: float
) -> None:
    """Catches in scoring/frames.py: the axes of frames and videos exchanged."""
    pictures = of_colours(colours)
    found = FrameVariety(FrameEncoder(colour, len(colours[0])))(pictures[None], ["a"])
    expected = {"frame_pairwise_distance": torch.tensor([between]), "time_pairwise_distance": torch.tensor([within])}
    torch.testing.assert_close(found, expected, check_dtype=False, rtol=0, atol=1e-6)


def test_a_perceptual_distance_compares_frames_of_the_same_time(videos: Tensor) -> None:
    """Catches in scoring/frames.py: the first frame alone."""

    def squared(images: Tensor) -> Tensor:
        return (images[:, None] - images[None]).square().flatten(2).mean(2)

    distance = FrameDistance(squared, FRAMES)
    expected = (videos[:, None] - videos[None]).square().flatten(2).mean(2)
    torch.testing.assert_close(distance(side_by_side(videos)), expected)
    pairs = torch.triu_indices(4, 4, 1)
    torch.testing.assert_close(distance.mean_distance(side_by_side(videos)), expected[*pairs].mean())
