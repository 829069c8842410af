"""Whether a checkpoint is of a run: its settings are compared key by key, those of version 0.1 by their mark."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from drift_pl.config.checkpoints import refuse_foreign_checkpoint, refuse_other_settings
from drift_pl.config.identity import identity_in_0_1, run_identity, run_settings
from drift_pl.config.loading import config_yaml, parse
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError


def config_of(*overrides: str) -> Config:
    return parse(["experiment=shapes_drift", *overrides]).config


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with nothing but its config."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.yaml").write_text(config_yaml(config_of()))
    return tmp_path


def now(config: Config) -> dict[str, Any]:
    return {"run_identity": run_identity(config), "run_settings": run_settings(config)}


def old(run: Path) -> dict[str, Any]:
    """What a checkpoint of version 0.1 says of its run."""
    return {"run_identity": identity_in_0_1(yaml.safe_load((run / "config.yaml").read_text()))}


def refusal(content: dict[str, Any], run: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        refuse_other_settings(content, run / "checkpoints" / "last.ckpt", config_of(*overrides))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"ckpt_path={run / 'checkpoints' / 'last.ckpt'}")
    return message


@pytest.mark.parametrize("version", ["0.1", "now"])
def test_a_run_is_resumed_under_its_own_settings_only(run: Path, version: str) -> None:
    """Where it lives, how long it is and what it runs on may be other ones."""
    content = old(run) if version == "0.1" else now(config_of())
    same = ["run_dir=elsewhere", "trainer.iterations=999", "trainer.devices=2", "objective.micro_batch=2"]
    refuse_other_settings(content, run / "checkpoints" / "last.ckpt", config_of(*same))
    message = refusal(content, run, "objective.clip_range=0.5", "seed=4")
    assert "other settings: seed is 0 there and 4 now, objective.clip_range is 0.005 there and 0.5 now; " in message
    assert "trainer.iterations may be raised freely" in message
    changes = [f"objective.{name}=0.5" for name in ("kl_weight", "max_grad_norm", "weight_decay", "learning_rate")]
    assert ", and 2 more; " in refusal(content, run, "objective.advantage_clip=1", *changes, "seed=4")


def test_the_mark_alone_tells_nothing(run: Path) -> None:
    """Another format of the hash makes another mark: settings that are the same are the same run."""
    content = now(config_of()) | {"run_identity": "0123abcd-s0"}
    refuse_other_settings(content, run / "checkpoints" / "last.ckpt", config_of())
    refuse_foreign_checkpoint(content, run / "checkpoints" / "last.ckpt", run / "config.yaml")


@pytest.mark.parametrize("version", ["0.1", "now"])
def test_a_checkpoint_must_be_of_the_config_beside_it(run: Path, version: str) -> None:
    content = old(run) if version == "0.1" else now(config_of())
    path = run / "checkpoints" / "last.ckpt"
    refuse_foreign_checkpoint(content, path, run / "config.yaml")
    (run / "config.yaml").write_text(config_yaml(config_of("objective.clip_range=0.5")))
    with pytest.raises(UserError) as caught:
        refuse_foreign_checkpoint(content, path, run / "config.yaml")
    assert "the config.yaml beside it is of another" in str(caught.value)
    assert ("objective.clip_range is 0.005 there and 0.5 in the file" in str(caught.value)) == (version == "now")
    if version == "0.1":
        assert "the config.yaml beside it is of another" in refusal(content, run)


def test_a_mark_of_version_0_1_is_that_of_the_settings_as_they_were_written(run: Path) -> None:
    """A run from before a setting existed is marked without it, though it reads as its default today."""
    written = (run / "config.yaml").read_text()
    assert "  vendi_order: 1.0\n" in written
    (run / "config.yaml").write_text(written.replace("  vendi_order: 1.0\n", ""))
    early = old(run)
    refuse_foreign_checkpoint(early, run / "checkpoints" / "last.ckpt", run / "config.yaml")
    (run / "config.yaml").write_text(written)
    assert early != old(run)


def test_a_run_of_version_0_1_whose_config_was_written_again_is_known(run: Path) -> None:
    """Resumed by this version, its config.yaml has keys that its first checkpoints' mark knows nothing of."""
    first = old(run)
    request = parse(["experiment=shapes_drift", "trainer.iterations=500"])
    (run / "config.yaml").write_text(config_yaml(request.config, request.tree))
    refuse_foreign_checkpoint(first, run / "checkpoints" / "last.ckpt", run / "config.yaml")
    (run / "config.yaml").unlink()
    assert "there is no config.yaml beside it" in refusal(first, run)
