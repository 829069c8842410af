"""benchmarks/gpu_check.py, on a CPU: what it does without an accelerator, with rows that fail, and a row of its own."""

import json
from pathlib import Path

import gpu_check
import pytest
import torch
from card import rows
from card.checks import check_other_batches
from card.measure import share_of_peak
from limit import Work

from drift_pl.config.loading import parse

SCRIPT = """
import json, sys, time
name = json.loads(sys.argv[2])["name"]
if name == "hangs":
    time.sleep(60)
if name == "fails":
    sys.exit("error: out of memory")
print("result: " + json.dumps({"images_per_s": {"iteration": 1.0, "rollout": 2.0, "update": 2.0}, "peak_bytes": 0,
                               "denoiser_share": 0.5}))
"""


@pytest.fixture
def fake_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three rows, of which the first hangs and the second fails; the file that is written."""
    script = tmp_path / "row.py"
    script.write_text(SCRIPT)
    monkeypatch.setattr(gpu_check, "__file__", str(script))
    three = {"hangs": rows.Row((), limit_s=2), "fails": rows.Row(()), "works": rows.Row(())}
    monkeypatch.setattr(gpu_check, "ROWS", three)
    return tmp_path / "out.json"


def test_rows_that_hang_or_fail_leave_the_others(fake_rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches in benchmarks/gpu_check.py: a failed row ends the check; a row without a limit."""
    assert gpu_check.main(["--tiny", f"out={fake_rows}"]) == 1
    record = json.loads(fake_rows.read_text())
    assert record["rows"]["hangs"]["error"] == "ended after 2 s"
    assert record["rows"]["fails"]["error"] == "error: out of memory"
    assert record["rows"]["works"]["images_per_s"]["iteration"] == 1.0
    assert "1.00 images/s" in capsys.readouterr().out
    assert gpu_check.main(["--tiny", f"out={fake_rows}", "only=hangs", "limit_s=1"]) == 1
    assert json.loads(fake_rows.read_text())["rows"]["hangs"]["error"] == "ended after 1 s"


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what it does without a CUDA device")
@pytest.mark.parametrize("argv", [[], ["only"], ["fast=1"]])
def test_refusals_are_one_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(argv) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1


def test_it_says_how_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches in benchmarks/gpu_check.py: `--help` taken for an unknown option."""
    assert gpu_check.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert "[--quick] [--tiny] [out=gpu_check.json] [only=TEXT] [limit_s=SECONDS]" in said


@pytest.mark.slow
@pytest.mark.parametrize("tf32", [True, False])
def test_the_check_of_other_batches_on_a_cpu(tmp_path: Path, tf32: bool) -> None:
    """A CPU has no TF32, and the same sums in batches of 8 as of 4."""
    found = check_other_batches(tmp_path, "trainer.accelerator=cpu", tf32)
    assert found == {"ok": True, "largest_deviation": 0.0, "iterations": 2}


@pytest.mark.parametrize("name", [name for name in rows.ROWS if "fp16" not in name])
def test_rows_are_settings_of_shipped_experiments(name: str) -> None:
    assert parse([*rows.ROWS[name].settings, "prompts.per_iteration=2", "prompts.group_size=8"]).config.policy.lora.rank


def test_share_counts_the_images_that_were_trained() -> None:
    """By hand: rollout 2, update and reference 3 + 1 for half of the images, decoding 1, scores 1, in TFLOP.

    Catches in benchmarks/card/measure.py: update counted for images that selection left out.
    """
    work = Work(2e12, 3e12, 1e12, 1e12, 1e12)
    found = share_of_peak(work, {"selection/kept_fraction": 0.5}, seconds=3.0, denoiser_s=2.0)
    assert found["tflops"] == {"denoiser": 2.0, "iteration": 2.0}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sd35_medium bf16", "sd15 bf16"])
def test_a_row_on_a_cpu(name: str) -> None:
    """Networks of next to no size: every part of the result is there, and the ratio is 1 before the update."""
    found = gpu_check.row(name, quick=True, tiny=True, limit_s=300, left_s=300)
    assert found["images"] == gpu_check.TINY_IMAGES
    assert found["images_per_s"]["iteration"] == pytest.approx(found["images"] / sum(found["seconds"].values()))
    assert 0 < found["denoiser_share"] < 1
    assert found["metrics"]["policy/ratio_deviation_first"] == 0.0
