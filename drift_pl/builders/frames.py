"""Videos: rewards, encoders and measures of images are called on their frames."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from drift_pl.config.schema import Config
from drift_pl.scoring.frames import FrameDistance, FrameEncoder, FrameReward, FrameVariety, few_frames
from drift_pl.scoring.rewards import WeightedReward

if TYPE_CHECKING:
    from drift_pl.evaluation.evaluator import Evaluator


def training_rewards(config: Config, rewards: Sequence[WeightedReward]) -> Sequence[WeightedReward]:
    """Of a random frame they are themselves: which one, `GroupScoring` draws."""
    if config.policy.reward_frames == "random":
        return rewards
    return evaluation_rewards(config, rewards)


def evaluation_rewards(config: Config, rewards: Sequence[WeightedReward]) -> Sequence[WeightedReward]:
    """Nothing is drawn in an evaluation: of a random frame they take the mean over all."""
    frames, first = config.policy.frames, config.policy.reward_frames == "first"
    if frames == 1:
        return rewards
    return [replace(each, reward=FrameReward(each.reward, frames, first)) for each in rewards]


def random_reward_frames(config: Config) -> int:
    """Frames of a video of which training's rewards see a random one; 0: they see the video."""
    policy = config.policy
    return policy.frames if policy.frames > 1 and policy.reward_frames == "random" else 0


def frame_encoder(config: Config, encoder: Any) -> Any:
    """An encoder of the frames; None and encoders of images as they are."""
    return encoder if encoder is None or config.policy.frames == 1 else FrameEncoder(encoder, config.policy.frames)


def on_frames(config: Config, evaluator: "Evaluator") -> "Evaluator":
    """The evaluator of images, for videos."""
    frames = config.policy.frames
    if frames == 1:
        return evaluator
    encoder = FrameEncoder(evaluator.encoder, frames)
    return replace(
        evaluator,
        rewards=evaluation_rewards(config, evaluator.rewards),
        heldout_rewards=evaluation_rewards(config, evaluator.heldout_rewards),
        encoder=encoder,
        lpips=None if evaluator.lpips is None else FrameDistance(evaluator.lpips, frames),
        measures=[*evaluator.measures, FrameVariety(encoder)],
        pictured=partial(few_frames, frames=frames),
    )
