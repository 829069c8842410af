"""The prompt stream: a pure function of one integer, shared out in whole groups where that is possible."""

from types import SimpleNamespace

import pytest

from drift_pl.training.datamodule import PromptDataModule, samples_of_rank

PROMPTS = tuple(f"prompt {number}" for number in range(6))


def module(rank: int = 0, world: int = 1, updates: int = 2) -> PromptDataModule:
    source = PromptDataModule(PROMPTS, per_iteration=4, group_size=3, updates=updates, seed=3, iterations_per_epoch=5)
    source.trainer = SimpleNamespace(global_rank=rank, world_size=world)
    return source


def test_one_integer_is_the_whole_state() -> None:
    source, other = module(), module()
    batches = list(source.train_dataloader())
    assert [batch.iteration for batch in batches] == [0, 1, 2, 3, 4]
    source.iteration = 3
    assert source.state_dict() == {"iteration": 3}
    other.load_state_dict(source.state_dict())
    assert list(other.train_dataloader()) == batches[3:]


def test_every_prompt_is_seen_equally_often() -> None:
    """Three iterations of four prompts are two rounds through six."""
    source = module()
    seen = [prompt for iteration in range(3) for prompt in source.batch(iteration).prompts]
    assert {seen.count(prompt) for prompt in PROMPTS} == {2}


def test_ranks_share_each_step_out_and_lose_nothing() -> None:
    assert samples_of_rank(8, 2, 2, 0, 2) == [0, 1, 2, 3, 8, 9, 10, 11]
    whole = module().batch(1)
    parts = [module(rank, 2).batch(1) for rank in range(2)]
    assert [part.groups for part in parts] == [(0, 2), (1, 3)]
    together = {group: prompt for part in parts for group, prompt in zip(part.groups, part.prompts, strict=True)}
    assert together == dict(zip(whole.groups, whole.prompts, strict=True))


@pytest.mark.parametrize("rank", [0, 1])
def test_samples_keep_their_global_number(rank: int) -> None:
    part = module(rank, 2).batch(0)
    assert part.samples == [group * 3 + image for group in part.groups for image in range(3)]


@pytest.mark.parametrize("world", [1, 2, 3, 5, 7, 16, 24, 32, 48, 100, 144, 576])
def test_any_number_of_processes_has_equal_parts_of_every_step(world: int) -> None:
    """pickscore_div: 48 groups of 24 images in two optimizer steps.

    Catches in training/datamodule.py: images lost by rounding down; a step's images on one process only.
    """
    shares = [samples_of_rank(48, 24, 2, rank, world) for rank in range(world)]
    assert sorted(image for share in shares for image in share) == list(range(1152))
    for share in shares:
        first, second = share[: len(share) // 2], share[len(share) // 2 :]
        assert [image + 576 for image in first] == second
        assert first == list(range(first[0], first[0] + len(first)))
        assert len(first) in (576 // world, -(-576 // world))


def test_split_groups_are_everybodys_and_their_images_are_not() -> None:
    """Four groups of three images in two steps on four processes: 1, 2, 1 and 2 images of each step."""
    parts, whole = [module(rank, 4).batch(1) for rank in range(4)], module().batch(1)
    assert whole.split is None
    assert [part.samples for part in parts] == [[0, 6], [1, 2, 7, 8], [3, 9], [4, 5, 10, 11]]
    for part in parts:
        assert (part.prompts, part.groups) == (whole.prompts, whole.groups)
        assert (part.split.most_images, part.split.most_groups) == (4, 2)
        assert part.repeated_prompts == [whole.repeated_prompts[image] for image in part.samples]
    assert parts[1].parts == [(0, slice(0, 2)), (2, slice(2, 4))]
    assert module(0, 5).batch(1).samples == [0, 6]
    assert module(4, 5).batch(1).samples == [4, 5, 10, 11]
