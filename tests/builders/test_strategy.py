"""Which strategy a run gets, and what cannot be sharded: one line each, before a model is loaded."""

from datetime import timedelta
from pathlib import Path

import pytest
from lightning.pytorch.strategies import DDPStrategy
from tiny_policies import load_tiny

from drift_pl.builders.strategy import build_strategy, is_sharding, longest_wait, refuse_unsharded
from drift_pl.config.loading import parse
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError
from drift_pl.core.processes import Patience
from drift_pl.policies.qwen_image import QwenImagePolicy
from drift_pl.policies.sd3 import StableDiffusion3Policy
from drift_pl.scoring.http import HttpJudge
from drift_pl.scoring.rewards import WeightedReward
from drift_pl.scoring.vote import Vote
from drift_pl.training.sharded_strategy import ShardedStrategy


def config_of(*arguments: str) -> Config:
    return parse([*arguments]).config


PATIENCE = Patience("trainer.timeout_s", 600.0)


def test_strategies() -> None:
    """Catches in builders/strategy.py: a family whose network leaves trained weights unused fails in DDP."""
    assert build_strategy(config_of(), StableDiffusion3Policy, PATIENCE) == "auto"
    for settings in ("trainer.devices=2", "trainer.strategy=ddp"):
        for family in (StableDiffusion3Policy, QwenImagePolicy):
            strategy = build_strategy(config_of(settings), family, PATIENCE)
            assert isinstance(strategy, DDPStrategy)
            assert strategy._ddp_kwargs["find_unused_parameters"] == (family is QwenImagePolicy)
    settings = ["trainer.strategy=fsdp", "trainer.devices=2", "trainer.num_nodes=2"]
    sharded = build_strategy(config_of(*settings), StableDiffusion3Policy, PATIENCE)
    assert isinstance(sharded, ShardedStrategy)
    assert sharded._data_parallel_size == 4
    assert sharded._timeout == timedelta(minutes=10)


def test_processes_wait_for_as_long_as_a_reward_may_take() -> None:
    """People vote for a day, on each process's page by itself.

    Catches in builders/strategy.py: collectives give up after ten minutes while people vote.
    """
    plain, server = WeightedReward("plain", lambda *_: None), WeightedReward("http", HttpJudge("http://127.0.0.1:1"))
    votes = WeightedReward("votes", Vote(deadline_s=7200))
    assert longest_wait(config_of(), [plain, server]) == ("trainer.timeout_s", 600)
    wait = longest_wait(config_of(), [plain, votes])
    assert str(wait) == "rewards.1.args.deadline_s=7200"
    assert build_strategy(config_of("trainer.devices=2"), StableDiffusion3Policy, wait)._timeout == timedelta(hours=2)
    assert longest_wait(config_of("trainer.timeout_s=9000"), [votes]) == ("trainer.timeout_s", 9000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["policy.quantisation=bitsandbytes_4bit"],
            r"cannot shard the weights of policy\.quantisation=bits.*use train",
        ),
        (["policy.storage=fp8"], r"cannot shard the weights of policy\.storage=fp8: use policy\.storage=null"),
        (["objective.optimizer=adamw8bit"], r"cannot shard the moments of objective\.optimizer=adamw8bit: use obj"),
        (["policy.compile=true"], r"^policy\.compile=true does not work with trainer\.strategy=fsdp: use policy"),
    ],
)
def test_what_cannot_be_sharded_is_refused(arguments: list[str], message: str) -> None:
    assert not is_sharding(config_of(*arguments))
    with pytest.raises(UserError, match=message):
        is_sharding(config_of("trainer.strategy=fsdp", "trainer.devices=2", *arguments))


def test_one_process_is_warned(recwarn: pytest.WarningsRecorder) -> None:
    assert is_sharding(config_of("trainer.strategy=fsdp", "trainer.devices=2"))
    assert not recwarn.list
    assert is_sharding(config_of("trainer.strategy=fsdp"))
    assert "shards over one process, which gains nothing" in str(recwarn.pop().message)


def test_a_reference_in_main_memory_has_no_effect(recwarn: pytest.WarningsRecorder) -> None:
    settings = ["trainer.strategy=fsdp", "trainer.devices=2", "policy.tuning=full", "policy.reference_device=cpu"]
    assert is_sharding(config_of(*settings))
    assert "policy.reference_device=cpu has no effect" in str(recwarn.pop().message)


class Foreign:
    """A policy of another package that has no method for it."""


def test_a_policy_that_cannot_be_sharded_is_refused(tiny_pipeline: Path) -> None:
    config = config_of("trainer.strategy=fsdp", "trainer.devices=2")
    refuse_unsharded(config, load_tiny("sd3", tiny_pipeline))
    with pytest.raises(UserError, match=r"policy\.family=sd3 has no method shard\(mesh\).*use trainer\.strategy=ddp$"):
        refuse_unsharded(config, Foreign())
    refuse_unsharded(config_of("trainer.devices=2"), Foreign())
