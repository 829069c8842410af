"""`drift_pl.finetune` and `drift_pl.build`: the package from Python."""

import functools
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from runs import TinyWorld, load
from torch import Tensor

import drift_pl
from drift_pl.config.python_values import call_arguments, importable_name
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


class Watch(L.Callback):
    """A callback, whose instances no run can record."""


ANY = "give a text, a number, True, False or None, or a list or mapping of these"
WATCH = 'of type Watch, which a run cannot record: give its class and the arguments of that, {"name": Watch, "args": {'


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"trainer.callbacks": [Watch()]}, f"trainer.callbacks.0 is {WATCH}"),
        ({"trainer": {"callbacks": [{"name": Watch()}]}}, f"trainer.callbacks.0.name is {WATCH}"),
        ({"incentive.shaping": {"encoder": Watch()}}, f"incentive.shaping.encoder is {WATCH}"),
        ({"rewards": [Watch()]}, f"rewards.0 is {WATCH}"),
        ({"rewards": [{"name": "pickscore", "args": {"a": [1, {"b": Watch()}]}}]}, f"rewards.0.args.a.1.b is .*{ANY}"),
        ({"trainer.callbacks": Watch()}, "trainer.callbacks is of type Watch, .*: use e.g. trainer.callbacks=[{name: "),
        ({"rewards": nested}, "rewards is of type function, and should be a list: give e.g. rewards=[nested]"),
        ({"rewards": "pickscore"}, "rewards is of type str, and should be a list: give e.g. rewards=['pickscore']"),
        ({"rewards": {"name": "pickscore"}}, 'rewards is of type dict, and should be a list: give e.g. rewards=[{"nam'),
        ({"rewards": {"pickscore", "hps"}}, "rewards is of type set, and should be a list: give e.g. rewards=["),
        ({"rewards": 5}, "rewards is of type int, and should be a list: give e.g. rewards=["),
        (
            {"rewards": [torch.nn.Sequential(torch.nn.ReLU())]},
            "rewards.0.name is an object without a name (of",
        ),
        ({"rewards": [nested()]}, "rewards.0.name: inner is defined within a function"),
        ({"tags": {"a"}}, "tags is of type set, which a run cannot record: it has no order: give a list, e.g. sort"),
        ({"tags": (tag for tag in "ab")}, "tags is of type generator, .*: give a list, e.g. list(...)"),
        (
            {"sampler.window_range": np.array([0, 3])},
            "sampler.window_range is of type ndarray, .*: give a list, e.g",
        ),
        ({"objective.learning_rate": 1j}, "objective.learning_rate is of type complex, .*: use e.g. objective.learnin"),
        ({"run_name": b"x"}, "run_name is of type bytes, .*: use e.g. run_name=short-kl"),
        ({"objective.learning_rate": float("nan")}, "objective.learning_rate=NaN should be a valid number; use e.g. "),
    ],
)
def test_values_that_no_run_can_record_are_one_line(wrong: dict[str, Any], says: str) -> None:
    """Catches in config/python_values.py: errors of `json` and of Python; a text taken for a list of its letters."""
    with pytest.raises(drift_pl.UserError) as caught:
        drift_pl.finetune(**wrong)
    assert re.match(re.escape(says).replace(r"\.\*", ".*"), str(caught.value)), caught.value
    assert "\n" not in str(caught.value)


def test_numbers_of_other_libraries_and_paths_are_taken() -> None:
    """Wherever they stand; a generator of rewards is a list of them.

    Catches in config/python_values.py: paths within mappings; a number of numpy's.
    """
    args = {"pretrained": Path("/models/clip"), "sizes": [np.int64(2)]}
    rewards = [{"name": nested, "weight": np.float32(2), "args": args}]
    settings = {"trainer": {"iterations": torch.tensor(3)}, "dry_run": np.bool_(True), "tags": ("a", Path("b"))}
    name = f'"name": "{__name__}:nested"'
    assert call_arguments("shapes_div", iter(rewards), settings) == [
        "experiment=shapes_div",
        f'rewards=[{{{name}, "weight": 2.0, "args": {{"pretrained": "/models/clip", "sizes": [2]}}}}]',
        "trainer.iterations=3",
        "dry_run=true",
        'tags=["a", "b"]',
    ]


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, drift_pl; drift_pl.UserError; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
