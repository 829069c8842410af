"""What the names of rewards, encoders and measures become: functions, classes and factories of a user's module.

Catches in builders/scoring.py: a function called as a factory; `groupwise` lost by its arguments; defaults ignored.
"""

from pathlib import Path

import pytest
import torch

from drift_pl.builders.scoring import (
    build_encoder,
    build_rewards,
    build_shaping_encoder,
    create_scorer,
    refuse_split_groups,
)
from drift_pl.config.loading import build_config, parse
from drift_pl.config.schema import Config, EncoderConfig, NamedConfig, RewardConfig
from drift_pl.core.errors import UserError
from drift_pl.core.registry import names
from drift_pl.incentive.potentials import POTENTIALS
from drift_pl.scoring.encoders import CombinedEncoder
from drift_pl.scoring.rewards import WeightedReward, score_images

MODULE = """
import torch


def redness(images, prompts):
    return images[:, 0].mean((1, 2))


def channel(images_B3HW, prompts_B, number, factor=1.0):
    return factor * images_B3HW[:, number].mean((1, 2))


def rank(images_PG3HW, prompts, sign=1.0):
    return sign * images_PG3HW.mean((2, 3, 4)).argsort(1).argsort(1).float()


rank.groupwise = True


class Channel:
    def __init__(self, number):
        self.number = number

    def __call__(self, images, prompts):
        return images[:, self.number].mean((1, 2))


def make_channel(number):
    return Channel(number)


def from_folders(images_folder, prompts_file):
    return Channel(0)


def of_sizes(images=3, prompts=2):
    return Channel(images - prompts)


def other_names(x, texts):
    return x.mean((1, 2, 3))


def corners(images_B3HW, size=1):
    return torch.nn.functional.normalize(images_B3HW[:, :, :size, :size].flatten(1), dim=1)


def flatness(images_PS3HW, prompts):
    return {"flatness": -images_PS3HW.flatten(1).std(1)}
"""


@pytest.fixture
def my_rewards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_rewards.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "my_rewards", raising=False)


IMAGES = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
PROMPTS = ["a", "a", "b", "b"]


@pytest.mark.usefixtures("my_rewards")
@pytest.mark.parametrize(
    ("name", "args", "number", "factor"),
    [
        ("redness", {}, 0, 1.0),  # a function that is the judge
        ("channel", {"number": 2, "factor": 3.0}, 2, 3.0),  # the same, with arguments that each call gets
        ("Channel", {"number": 1}, 1, 1.0),  # a class
        ("make_channel", {"number": 1}, 1, 1.0),  # a factory
        # factories whose parameters only sound like images and prompts
        ("from_folders", {"images_folder": "here", "prompts_file": "there"}, 0, 1.0),
        ("of_sizes", {}, 1, 1.0),
    ],
)
def test_a_reward_may_be_a_function_a_class_or_a_factory(name: str, args: dict, number: int, factor: float) -> None:
    judges = build_rewards([RewardConfig(name=f"my_rewards:{name}", args=args, weight=2.0)], "rewards")
    assert judges[0].name == name
    total, by_reward = score_images(judges, IMAGES, PROMPTS)
    expected = factor * IMAGES[:, number].mean((1, 2))
    torch.testing.assert_close(by_reward[name], expected)
    torch.testing.assert_close(total, 2 * expected)


@pytest.mark.usefixtures("my_rewards")
@pytest.mark.parametrize("args", [{}, {"sign": -1.0}])
def test_a_function_stays_groupwise_with_arguments(args: dict) -> None:
    judges = build_rewards([RewardConfig(name="my_rewards:rank", args=args)], "rewards")
    total, _ = score_images(judges, IMAGES, PROMPTS, group_size=2)
    second = (IMAGES[1::2].mean((1, 2, 3)) > IMAGES[::2].mean((1, 2, 3))).float()
    expected = torch.stack([1 - second, second], dim=1).flatten() * args.get("sign", 1.0)
    assert torch.equal(total, expected)


@pytest.mark.usefixtures("my_rewards")
def test_the_config_of_a_run_may_name_them() -> None:
    rewards = "rewards=[{name: 'my_rewards:redness'}, {name: 'my_rewards:Channel', args: {number: 0}, weight: 3}]"
    judges = build_rewards(parse([rewards]).config.rewards, "rewards")
    assert [(judge.name, judge.weight) for judge in judges] == [("redness", 1.0), ("Channel", 3.0)]
    total, _ = score_images(judges, IMAGES, PROMPTS)
    torch.testing.assert_close(total, 4 * IMAGES[:, 0].mean((1, 2)))


@pytest.mark.usefixtures("my_rewards")
@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        ("channel", {}, "rewards.0.args: missing a required argument: 'number' for 'my_rewards:channel'"),
        ("channel", {"numbr": 1}, "its arguments are: number, factor=1.0"),
        ("redness", {"images": 1}, "its arguments are: none"),
        ("other_names", {}, "; a function that is a reward itself has first parameters called images, prompts"),
        ("Channel", {}, "missing a required argument: 'number'"),
    ],
)
def test_wrong_arguments_of_a_function_are_explained(name: str, args: dict, says: str) -> None:
    with pytest.raises(UserError) as caught:
        build_rewards([RewardConfig(name=f"my_rewards:{name}", args=args)], "rewards")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("my_rewards")
def test_encoders_and_measures_may_be_functions_too() -> None:
    encoder = build_encoder(NamedConfig(name="my_rewards:corners", args={"size": 2}), "evaluation.encoder")
    torch.testing.assert_close(encoder(IMAGES), torch.nn.functional.normalize(IMAGES[:, :, :2, :2].flatten(1), dim=1))
    measure = create_scorer("measure", NamedConfig(name="my_rewards:flatness"), "evaluation.measures.0")
    assert measure(IMAGES[None], ["a"])["flatness"].tolist() == pytest.approx([-float(IMAGES.std())])


@pytest.mark.usefixtures("my_rewards")
def test_several_shaping_encoders_are_one() -> None:
    """The kernel is the weighted mean of the encoders' kernels; none named: the single one."""
    config = Config()
    config.incentive.shaping.encoder = NamedConfig(name="my_rewards:corners", args={"size": 1})
    alone = build_shaping_encoder(config)(IMAGES)
    config.incentive.shaping.encoders = [
        EncoderConfig(name="my_rewards:corners", args={"size": 1}, weight=3.0),
        EncoderConfig(name="my_rewards:corners", args={"size": 5}),
    ]
    combined = build_shaping_encoder(config)
    assert isinstance(combined, CombinedEncoder)
    other = build_encoder(NamedConfig(name="my_rewards:corners", args={"size": 5}), "encoder")(IMAGES)
    expected = (3 * alone @ alone.T + other @ other.T) / 4
    embedding = combined(IMAGES)
    torch.testing.assert_close(embedding @ embedding.T, expected)


def test_the_names_that_a_config_may_hold_are_those_that_there_are() -> None:
    """The config imports no torch, so it lists names that other modules define."""
    for key, there_are in (("evaluation.extra", names("measure")), ("incentive.shaping.potential", POTENTIALS)):
        assert set(Config.require_key(key).choices) == set(there_are)


def together(images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    return images.mean((-1, -2, -3))


together.groupwise = True  # type: ignore[attr-defined]


@pytest.mark.parametrize(("devices", "works"), [(1, True), (2, True), (3, False), (4, True), (6, False)])
def test_a_reward_of_whole_groups_is_not_given_parts_of_them(devices: int, works: bool) -> None:
    """Four groups in an optimizer step; a reward of single images goes with any number.

    Catches in builders/scoring.py: a groupwise reward sees a part of a group as if it were all of it.
    """
    settings = [("experiment", "shapes_drift"), ("prompts.per_iteration", "8"), ("objective.updates", "2")]
    config = build_config([*settings, ("trainer.devices", str(devices))])
    one, whole = WeightedReward("one", lambda images, prompts: images), WeightedReward("whole", together)
    refuse_split_groups(config, [one])
    if works:
        refuse_split_groups(config, [one, whole])
        return
    most = "use 2 of them" if devices == 3 else "use 4 of them"
    with pytest.raises(
        UserError, match=rf"^rewards\.1: 'whole' scores whole groups, which {devices} .*{most}.*multiple"
    ):
        refuse_split_groups(config, [one, whole])
