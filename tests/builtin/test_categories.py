"""Categories of the built-in world, on images of known content."""

from collections import Counter

import pytest
import torch

from drift_pl.builtin.categories import CATEGORIES, AttributeCategories
from drift_pl.builtin.world import ATTRIBUTES, render, sample_scenes

CATEGORISE = AttributeCategories()
SCENE = {"shape": "circle", "colour": "red", "size": "small", "place": "left", "background": "dark"}


def image_of(scene: dict[str, str], count: int = 1) -> torch.Tensor:
    return render(sample_scenes(count, torch.Generator().manual_seed(5), fixed=scene))


def shown(row_C: torch.Tensor) -> dict[str, str]:
    """Attribute -> value of the categories that score 1; every attribute at most once."""
    ones = [CATEGORIES[index] for index in row_C.nonzero().flatten().tolist()]
    assert all(times == 1 for times in Counter(name for name, _ in ones).values())
    return {name: ATTRIBUTES[name][index] for name, index in ones}


def test_there_is_a_category_for_every_value_of_every_attribute() -> None:
    assert [ATTRIBUTES[name][index] for name, index in CATEGORIES] == [
        *("circle", "triangle", "cross"),
        *("red", "yellow", "green", "cyan", "blue", "purple"),
        *("small", "large"),
        *("left", "centre", "right"),
        *("dark", "grey", "light"),
    ]


@pytest.mark.parametrize(
    ("prompt", "open_names"),
    [
        ("a circle", ["colour", "size", "place", "background"]),
        ("something red on a dark background", ["shape", "size", "place"]),
        ("a picture of an object", list(ATTRIBUTES)),
        ("a tiny red disc on the left on a black background", []),
    ],
)
def test_an_image_scores_for_what_its_prompt_leaves_open(prompt: str, open_names: list[str]) -> None:
    scores = CATEGORISE(image_of(SCENE), [prompt])
    assert scores.dtype == torch.float32
    assert scores.shape == (1, 17)
    assert set(scores.unique().tolist()) <= {0.0, 1.0}
    assert shown(scores[0]) == {name: SCENE[name] for name in open_names}


def test_off_prompt_and_unreadable_images_score_nothing() -> None:
    images = torch.cat([image_of(SCENE), torch.rand(1, 3, 32, 32), torch.full((1, 3, 32, 32), 0.5)])
    assert not CATEGORISE(images, ["a triangle", "a circle", "something"]).any()
    # one of two named attributes is wrong
    assert not CATEGORISE(image_of(SCENE), ["a blue circle"]).any()


def test_every_image_is_held_to_its_own_prompt() -> None:
    other = {"shape": "cross", "colour": "cyan", "size": "large", "place": "right", "background": "light"}
    images = torch.cat([image_of(SCENE), image_of(other), image_of(SCENE), image_of(other)])
    scores = CATEGORISE(images, ["a circle", "a circle", "something", "something cyan"])
    assert shown(scores[0]) == {name: SCENE[name] for name in ATTRIBUTES if name != "shape"}
    assert shown(scores[1]) == {}
    assert shown(scores[2]) == SCENE
    assert shown(scores[3]) == {name: other[name] for name in ATTRIBUTES if name != "colour"}


def test_the_best_per_category_counts_the_values_that_a_group_shows() -> None:
    """Oracle: the number of different values of the open attributes in the scenes themselves."""
    scenes = sample_scenes(24, torch.Generator().manual_seed(9), fixed={"size": "large"})
    best_C = CATEGORISE(render(scenes), ["something large"] * 24).amax(0)
    assert best_C.sum() == sum(scenes.attributes[name].unique().numel() for name in ATTRIBUTES if name != "size")


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="2 images for 1 prompts"):
        CATEGORISE(image_of(SCENE, 2), ["a circle"])
    with pytest.raises(ValueError, match="64"):
        CATEGORISE(torch.zeros(1, 3, 64, 64), ["a circle"])
    assert CATEGORISE(torch.zeros(0, 3, 32, 32), []).shape == (0, 17)
