"""Which strategy a run gets, and what cannot be sharded: one line each, before a model is loaded."""

from datetime import timedelta
from pathlib import Path

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from tiny_policies import load_tiny

from drift_pl.builders.strategy import build_strategy, is_sharding, refuse_unsharded
from drift_pl.config.loading import parse
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError
from drift_pl.training.sharded_strategy import ShardedStrategy


def config_of(*arguments: str) -> Config:
    return parse([*arguments]).config


def test_strategies() -> None:
    assert build_strategy(config_of()) == "auto"
    assert isinstance(build_strategy(config_of("trainer.devices=2")), DDPStrategy)
    assert isinstance(build_strategy(config_of("trainer.strategy=ddp")), DDPStrategy)
    settings = ["trainer.strategy=fsdp", "trainer.devices=2", "trainer.num_nodes=2", "trainer.timeout_s=600"]
    sharded = build_strategy(config_of(*settings))
    assert isinstance(sharded, ShardedStrategy)
    assert sharded._data_parallel_size == 4
    assert sharded._timeout == timedelta(minutes=10)


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
        (["trainer.accelerator=mps"], r"^trainer\.strategy=fsdp does not work on mps: use trainer\.accelerator=cpu"),
    ],
)
def test_what_cannot_be_sharded_is_refused(arguments: list[str], message: str) -> None:
    assert not is_sharding(config_of(*arguments))
    with pytest.raises(UserError, match=message):
        is_sharding(config_of("trainer.strategy=fsdp", "trainer.devices=2", *arguments))


def test_an_accelerator_that_is_chosen_by_itself_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="does not work on mps"):
        is_sharding(config_of("trainer.strategy=fsdp", "trainer.devices=2"))
    assert is_sharding(config_of("trainer.strategy=fsdp", "trainer.devices=2", "trainer.accelerator=cpu"))


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
