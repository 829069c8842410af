"""What commands say of prompts: one line with a number for those that are cut, and for those that stand twice.

Catches in builders/run.py: a warning for each iteration in place of one.
Catches in evaluate.py: a warning for each prompt in place of one.
"""

import json
from pathlib import Path

import pytest
from runs import TinyWorld

from drift_pl import evaluate, fit, generate

LONG = "a big dot beside another big dot"
"""26 letters and two marks; the tiny encoders take 16 tokens."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    """Four training prompts, two of them long; four test prompts, one of them long and one a repetition."""
    made = TinyWorld.create(tmp_path_factory.mktemp("world"))
    (made.root / "train.txt").write_text(f"a red dot\n{LONG}\na dot\n{LONG} again\n")
    (made.root / "test.txt").write_text(f"a red bar\n{LONG} there\na dot\na red bar\n")
    return made


def warnings_of(capsys: pytest.CaptureFixture) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning:") and "cut" in line]


def test_each_command_warns_once(world: TinyWorld, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """fit reads 4 training prompts, each also in a variant, and 2 others; evaluate reads 3, generate one."""
    run_dir = tmp_path / "run"
    variants = ["incentive.prompting.rule=variants", "incentive.prompting.templates=['{prompt} or a very big dot']"]
    argv = [*world.overrides(), *variants, f"run_dir={run_dir}", "trainer.iterations=2", "evaluation.every=1"]
    assert fit.main(argv) == 0
    model, reward = warnings_of(capsys)
    assert model.startswith(
        "warning: 7 of 10 prompts are longer than the model takes and are cut: 7 at 16 tokens by te"
    )
    assert reward.startswith("warning: 3 of 6 prompts are longer than PickScore takes and are cut: 3 at 16 tokens;")
    assert evaluate.main([f"ckpt_path={run_dir}", f"out={tmp_path / 'mine.json'}", "fresh=true"]) == 0
    lines = warnings_of(capsys)
    assert [line.partition(" are")[0] for line in lines] == ["warning: 1 of 3 prompts"] * 2
    argv = [f"ckpt_path={run_dir}", f"prompt={LONG}", "n=1", f"out={tmp_path / 'out'}", "measure=true"]
    assert generate.main(argv) == 0
    assert [line.partition(" are")[0] for line in warnings_of(capsys)] == ["warning: 1 of 1 prompts"] * 2
    protocol = json.loads((tmp_path / "mine.json").read_text())["protocol"]
    assert protocol["prompts"] == ["a red bar", f"{LONG} there", "a dot"]
    assert json.loads((run_dir / "summary.json").read_text())["test_prompts"] == 3
