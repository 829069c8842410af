"""A user's own reward, from the first run to the model card; and the same folder on another machine."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import TinyWorld

from drift_pl import evaluate, export, fit, generate

REWARD = """
from pathlib import Path

class Brightness:
    def __init__(self, scale: float = 1.0) -> None:
        Path("imported").touch()
        self.scale = scale

    def __call__(self, images_B3HW, prompts):
        return self.scale * images_B3HW.mean((1, 2, 3))
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with the user's module in it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "my_rewards_of_this_test.py").write_text(REWARD)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    sys.modules.pop("my_rewards_of_this_test", None)


def test_own_reward_is_never_asked_about_and_a_strangers_always(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = TinyWorld.create(tmp_path / "world")
    argv = [entry for entry in world.overrides() if not entry.startswith(("experiment=", "rewards"))]
    (work / "mine.yaml").write_text(
        "base: shapes_drift\nrewards: [{name: 'my_rewards_of_this_test:Brightness', args: {scale: 2.0}}]\n"
    )
    argv += ["experiment=mine.yaml", "run_dir=runs/mine"]
    assert fit.main([*argv, "trainer.iterations=2"]) == 0
    assert fit.main([*argv, "trainer.iterations=4", "ckpt_path=last"]) == 0
    assert evaluate.main(["ckpt_path=runs/mine"]) == 0
    assert generate.main(["ckpt_path=runs/mine", "prompt=a", "n=2", "measure=true"]) == 0
    assert export.main(["ckpt_path=runs/mine", "out=out"]) == 0

    (work / "imported").unlink()
    capsys.readouterr()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another_machine"))
    before = sorted(work.rglob("*"))
    for main, more in (
        (evaluate.main, ["fresh=true"]),
        (generate.main, ["prompt=a", "measure=true"]),
        (export.main, ["out=out2"]),
        (fit.main, []),
    ):
        given = ["experiment=runs/mine/config.yaml"] if main is fit.main else ["ckpt_path=runs/mine"]
        assert main([*given, *more]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert "my_rewards_of_this_test:Brightness is code" in lines[0]
    assert sorted(work.rglob("*")) == before
    assert evaluate.main(["ckpt_path=runs/mine", "fresh=true", "trust=true"]) == 0
    assert (work / "imported").exists()
