"""docs/library.md block by block, and its notebook cell by cell, with tiny models in place of the built-in ones."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from doc_commands import ROOT, blocks, written_files
from runs import TinyWorld, load

import drift_pl

PAGE = ROOT / "docs" / "library.md"
NOTEBOOK = ROOT / "docs" / "notebooks" / "library.ipynb"
CELLS: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return TinyWorld.create(tmp_path_factory.mktemp("world"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder whose modules can be imported, and are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("my_rewards", None)
    yield tmp_path
    sys.modules.pop("my_rewards", None)


@pytest.fixture
def shortened(world: TinyWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """`finetune` and `build` take what the reader writes; the tiny world's settings come last, and win."""
    tiny = {**world.call_settings(), "trainer.iterations": 1, "trainer.save_every": 1}

    def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(experiment: str = "shapes_div", rewards: Any = None, **settings: Any) -> Any:
            judge = {"rewards.0.args.pretrained": f"{world.root}/preference"} if rewards is None else {}
            return real(experiment, rewards, **settings, **tiny, **judge)

        return call

    for name in ("finetune", "build"):
        monkeypatch.setattr(drift_pl, name, wrapped(getattr(drift_pl, name)))


def run(sources: list[str], name: str) -> dict[str, Any]:
    """One after the other, as in one session of Python; what they defined."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, source in enumerate(sources, start=1):
        exec(compile(source, f"{name}, {number}", "exec"), names)
    return names


def check(names: dict[str, Any], folder: Path) -> None:
    """What a reader expects to have at the end."""
    result = names["result"]
    assert result.run_dir.resolve().is_relative_to(folder / "runs")
    assert (result.run_dir / "report.html").is_file()
    assert load(result.run_dir)["PromptDataModule"]["iteration"] == 1
    assert "name: my_rewards:redness" in (result.run_dir / "config.yaml").read_text()
    assert result.tuned["reward"] == result.tuned["reward/redness"]
    trainer = names["trainer"]
    assert names["run"].datamodule.iteration == trainer.callback_metrics["iteration"] == trainer.max_epochs


def test_the_blocks_of_the_page_run(shortened: None, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = written_files(PAGE)
    for name, content in files.items():
        (folder / name).write_text(content)
    sources = [block for block in blocks(PAGE) if block + "\n" not in files.values()]
    assert len(sources) == 4
    names = run(sources, PAGE.name)
    check(names, folder)
    assert names["adapter"]
    values = names["diversity"].compute()
    assert 0 < values["pairwise_distance"] < 2
    assert 1 < values["vendi"] < 8
    assert "a lambda has no name, so it cannot be found again" in capsys.readouterr().out


def test_the_trainer_takes_fifteen_lines() -> None:
    (block,) = [block for block in blocks(PAGE) if "L.Trainer(" in block]
    assert len([line for line in block.splitlines() if line]) <= 15


def test_the_cells_of_the_notebook_run(shortened: None, folder: Path) -> None:
    """By hand: alike are distance 0 and Vendi score 1, orthogonal ones 1 and 8; the means are 0.5 and 4.5. A reader
    may run the cell that trains again."""
    sources = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]
    names = run(sources, NOTEBOOK.name)
    check(names, folder)
    again = run([source for source in sources if "finetune(" in source], NOTEBOOK.name)
    assert again["result"] == names["result"]
    assert len(names["rewards"]) == 1
    values = names["diversity"].compute()
    assert values["pairwise_distance"].item() == pytest.approx(0.5, abs=1e-6)
    torch.testing.assert_close(values["vendi"], torch.tensor(4.5), atol=1e-4, rtol=0)


def test_the_notebook_keeps_no_outputs() -> None:
    assert len(CELLS) >= 10
    assert [cell for cell in CELLS if cell.get("outputs") or cell.get("execution_count") is not None] == []
