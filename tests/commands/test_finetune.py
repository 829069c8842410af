"""`drift_pl.finetune` and `drift_pl.build`: the package from Python."""

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from runs import TinyWorld, load
from torch import Tensor

import drift_pl
from drift_pl.config.python_values import importable_name
from drift_pl.core.errors import UserError

SOURCE = """
def redness(images, prompts):
    return images[:, 0].mean((1, 2)) - images[:, 1:].mean((1, 2, 3))
"""


def nested() -> Callable[..., Any]:
    def inner(images: Tensor, prompts: list[str]) -> Tensor:
        return images.mean((1, 2, 3))

    return inner


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return TinyWorld.create(tmp_path_factory.mktemp("world"))


@pytest.fixture
def settings(world: TinyWorld) -> dict[str, Any]:
    """The tiny world's, in both forms: by section, and by dotted key."""
    return {**world.call_settings(), "trainer": {"iterations": 1, "save_every": 1}}


@pytest.fixture
def redness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    (tmp_path / "my_redness.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_redness", raising=False)
    from my_redness import redness

    return redness


def test_a_function_is_a_reward_and_is_recorded_by_its_name(
    settings: dict[str, Any], redness: Callable[..., Any], tmp_path: Path
) -> None:
    """Catches in config/python_values.py: the rewards of the experiment are kept."""
    run = drift_pl.finetune("shapes_drift", rewards=[redness], run_dir=tmp_path / "run", **settings)
    assert run.run_dir == tmp_path / "run"
    assert set(run.base) == set(run.tuned) >= {"reward", "reward/redness", "pairwise_distance"}
    assert run.tuned["reward"] == run.tuned["reward/redness"]
    assert "name: my_redness:redness" in (run.run_dir / "config.yaml").read_text()
    assert (run.run_dir / "report.html").is_file()
    assert load(run.run_dir)["state_dict"]


def test_its_module_trains_with_a_plain_trainer(settings: dict[str, Any], redness: Callable[..., Any]) -> None:
    """One epoch is `trainer.save_every` iterations."""
    run = drift_pl.build("shapes_drift", rewards=[{"name": redness, "weight": 2.0}], **settings)
    module, data = run.module, run.datamodule
    start = {name: value.detach().clone() for name, value in module.policy.trainable_parameters()}
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(module, datamodule=data)
    assert data.iteration == 1
    assert any((value != start[name]).any() for name, value in module.policy.trainable_parameters())


@pytest.mark.parametrize(
    ("thing", "says"),
    [
        (lambda images, prompts: images.mean((1, 2, 3)), "a lambda has no name"),
        (nested(), r"inner is defined within a function \(nested.<locals>.inner\)"),
        (functools.partial(torch.mean, dim=0), "is an object without a name"),
    ],
)
def test_what_cannot_be_found_again_is_refused_in_one_line(thing: Callable[..., Any], says: str) -> None:
    with pytest.raises(drift_pl.UserError, match=says) as caught:
        drift_pl.finetune(rewards=[thing])
    assert "\n" not in str(caught.value)
    assert "my_rewards.py" in str(caught.value)


def test_what_is_defined_in_main_or_hidden_by_another_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(module: str) -> Callable[..., Any]:
        def score(images: Tensor, prompts: list[str]) -> Tensor:
            return images.mean((1, 2, 3))

        score.__module__, score.__qualname__ = module, "nested"
        return score

    with pytest.raises(UserError, match="nested is defined in __main__, which other processes cannot import"):
        importable_name(made("__main__"))
    with pytest.raises(UserError, match="is not what was given"):
        importable_name(made(__name__))
    assert importable_name(nested) == f"{__name__}:nested"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"trainer": {"iteration": 2}}, "unknown key 'trainer.iteration': did you mean 'trainer.iterations'?"),
        ({"objective.learning_rate": "fast"}, "objective.learning_rate=fast"),
        ({"rewards": ["pickscor"]}, "pickscor"),
    ],
)
def test_wrong_settings_are_one_line(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(drift_pl.UserError) as caught:
        drift_pl.finetune(**wrong)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, drift_pl; drift_pl.UserError; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
