"""The commands take a run folder that an earlier commit wrote: they go on with it, measure it, export and compare it.

What is right is tested elsewhere, against oracles. Here it is what the earlier commit did: whoever has runs keeps them.
"""

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from drift_pl.evaluate import main as evaluate
from drift_pl.export import main as export
from drift_pl.fit import main as fit
from drift_pl.pareto import main as pareto
from drift_pl.report import main as report

OLD_RUN = Path(__file__).parents[1] / "old_run"

# AdamW divides a gradient by its own size: a weight with next to no gradient moves by up to a whole step of 0.01, into
# the direction of what is left of rounding, which differs between processors. Here the moments come from the
# checkpoint, with four steps' gradients in them, so that no weight's step hangs on rounding alone. Seen with other
# instruction sets, micro-batches and two threads: 5e-6 at most. Ten times that is still 1/200 of one step.
TOLERANCE = 5e-5


@pytest.fixture(scope="module")
def overrides() -> list[str]:
    """What the user typed, from the run's README."""
    (command,) = re.findall(r"`python -m drift_pl\.fit ([^`]+)`", (OLD_RUN / "README.md").read_text())
    return shlex.split(command)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy: the commands write into it."""
    return shutil.copytree(OLD_RUN, tmp_path / "run", ignore=shutil.ignore_patterns("README.md", "expected*"))


def weights_of(run_dir: Path) -> dict[str, Tensor]:
    """Trained weights and their average, and how many updates it has seen, of a run's last checkpoint."""
    content = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)
    parts = ("state_dict", "average")
    return {f"{part}.{name}": torch.as_tensor(value) for part in parts for name, value in content[part].items()}


def points_of(file: Path) -> list[dict[str, Any]]:
    return json.loads(file.read_text())["points"]


def test_what_is_compared_moves_far_more_than_the_tolerance() -> None:
    before, after = weights_of(OLD_RUN), load_file(OLD_RUN / "expected.safetensors")
    assert before.keys() == after.keys()
    assert int(before["average.num_updates"]) < int(after["average.num_updates"])
    moved = torch.cat([(after[name] - before[name]).abs().flatten() for name in before if "lora" in name])
    assert len(moved) == 2 * 5120
    assert float(moved.median()) > 100 * TOLERANCE
    assert float((moved > 10 * TOLERANCE).double().mean()) > 0.95


@pytest.mark.parametrize("settings", ["as they were typed", "from config.yaml"])
def test_the_run_goes_on_as_the_old_code_would_have(settings: str, overrides: list[str], run: Path) -> None:
    """Catches in training/module.py: an old run goes on at another learning rate (2 %).
    Catches in incentive/prompting.py: an old run goes on with other random numbers.
    Catches in config/identity.py: a new key makes an old run another one.
    """
    start = overrides if settings == "as they were typed" else [f"experiment={run / 'config.yaml'}"]
    assert fit([*start, f"run_dir={run}", "ckpt_path=last", "trainer.iterations=4"]) == 0
    expected = load_file(OLD_RUN / "expected.safetensors")
    torch.testing.assert_close(weights_of(run), expected, rtol=0, atol=TOLERANCE)
    assert json.loads((run / "summary.json").read_text())["iterations"] == 4


def test_its_evaluation_is_kept_and_measured_again_it_is_the_same(run: Path, tmp_path: Path) -> None:
    """Values are means of float32 numbers in [0, 20]: another processor changes them in the sixth digit.

    Catches in evaluation/evaluator.py: an old run's base model is measured on other noise.
    Catches in evaluation/record.py: an old evaluation.json is of another protocol.
    """
    before = (run / "evaluation.json").read_bytes()
    assert evaluate([f"ckpt_path={run}"]) == 0
    assert points_of(run / "evaluation.json") == json.loads(before)["points"]
    assert evaluate([f"ckpt_path={run}", f"out={tmp_path / 'again.json'}"]) == 0
    points = points_of(tmp_path / "again.json")
    assert [point["name"] for point in points] == ["base", "iteration-000001", "iteration-000002"]
    for old, new in zip(json.loads(before)["points"], points, strict=True):
        assert old.get("digest") == new.get("digest")
        assert new["values"].keys() == old["values"].keys()
        for name, value in old["values"].items():
            assert new["values"][name]["mean"] == pytest.approx(value["mean"], abs=1e-4), (old["name"], name)


def test_its_weights_are_exported_as_they_were_averaged(run: Path, tmp_path: Path) -> None:
    """The table of measures on the card comes from the old evaluation.json."""
    assert export([f"ckpt_path={run}", f"out={tmp_path / 'lora'}"]) == 0
    exported = load_file(tmp_path / "lora" / "pytorch_lora_weights.safetensors")
    average = {name: value for name, value in weights_of(OLD_RUN).items() if re.match(r"average\..*lora", name)}
    names = {name: name.replace("average.", "transformer.").replace(".default.", ".") for name in average}
    assert exported.keys() == set(names.values())
    assert all(torch.equal(value, exported[names[name]]) for name, value in average.items())
    assert "0.8768" in (tmp_path / "lora" / "README.md").read_text()


def test_it_is_compared_with_another_method_and_other_runs(run: Path, tmp_path: Path) -> None:
    content = json.loads((run / "evaluation.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps(content | {"method": "other"}))
    assert pareto([str(run), str(tmp_path / "other.json"), "baseline=other", f"out={tmp_path / 'pareto'}"]) == 0
    methods = json.loads((tmp_path / "pareto" / "pareto.json").read_text())["methods"]
    assert {method["name"] for method in methods} == {"shapes_drift", "other"}
    assert report([str(run), f"out={tmp_path / 'report'}"]) == 0
    assert "| `shapes_drift` | 1 | 0.877 |" in (tmp_path / "report" / "report.md").read_text()
