"""The prompt stream: a pure function of one integer, shared out in whole groups."""

from types import SimpleNamespace

import pytest

from drift_pl.training.datamodule import PromptDataModule, groups_of_rank

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
    assert groups_of_rank(8, 2, 0, 2) == [0, 1, 4, 5]
    assert groups_of_rank(8, 2, 1, 2) == [2, 3, 6, 7]
    whole = module().batch(1)
    parts = [module(rank, 2).batch(1) for rank in range(2)]
    together = {group: prompt for part in parts for group, prompt in zip(part.groups, part.prompts, strict=True)}
    assert together == dict(zip(whole.groups, whole.prompts, strict=True))


@pytest.mark.parametrize("rank", [0, 1])
def test_samples_keep_their_global_number(rank: int) -> None:
    part = module(rank, 2).batch(0)
    assert part.samples == [group * 3 + image for group in part.groups for image in range(3)]
