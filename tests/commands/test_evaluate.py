"""`python -m drift_pl.evaluate` on a tiny run, against the run's own held-out evaluation."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from measured import last, means, same
from PIL import Image
from runs import TinyWorld
from scipy import stats

from drift_pl.config.identity import run_identity
from drift_pl.config.loading import build_config
from drift_pl.evaluate import main
from drift_pl.evaluation.evaluator import Evaluator
from drift_pl.evaluation.grids import LABEL_WIDTH
from drift_pl.evaluation.points import means as summarised
from drift_pl.evaluation.record import Evaluation
from drift_pl.evaluation.record_file import read_evaluation
from drift_pl.reports.display import table


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry per point that is sampled; the third one is interrupted."""
    calls: list[int] = []
    inner = Evaluator.run

    def counting(*args: Any, **options: Any) -> Any:
        calls.append(len(calls))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return inner(*args, **options)

    monkeypatch.setattr(Evaluator, "run", counting)
    return calls


def test_base_and_last_point_are_those_of_fit(
    make_run: Callable[..., Path], tmp_path: Path, sampled: list[int]
) -> None:
    """They are in the run's record already, and are what this command measures itself.

    Catches in training/callbacks/evaluation.py: a final point whose digest, iteration or scale is not its checkpoint's,
    so that it is measured twice.
    """
    sampled[:] = [0, 0, 0]
    run = make_run(tmp_path / "run")
    summary, before = json.loads((run / "summary.json").read_text()), read_evaluation(run)
    assert [point.name for point in before.points] == ["base", "tuned"]
    assert [summarised(point) for point in before.points] == [summary["base"], summary["tuned"]]
    fitted = len(sampled)
    assert main([f"ckpt_path={run}"]) == 0
    after = read_evaluation(run)
    assert len(sampled) == fitted + 1, "the checkpoint in between"
    assert [point.name for point in after.points] == ["base", "iteration-000002", "tuned"]
    assert after.points[::2] == before.points
    assert main([f"ckpt_path={last(run)}", f"out={tmp_path / 'own.json'}"]) == 0
    assert len(sampled) == fitted + 3
    own = read_evaluation(tmp_path / "own.json")
    assert (own.protocol, own.training) == (before.protocol, before.training)
    for mine, fits in zip(own.points, before.points, strict=True):
        assert mine.identity() == fits.identity()
        assert (mine.checkpoint, mine.images) == (fits.checkpoint, fits.images)
        assert summarised(mine) == pytest.approx(summarised(fits), abs=1e-6)
        for name, values in mine.per_prompt.items():
            assert values == pytest.approx(fits.per_prompt[name], abs=1e-6), name
    assert not same(summary["tuned"], summary["base"])  # or nothing was compared


def test_points_along_training_are_those_of_fit(
    tiny_run: Path, evaluated_world: TinyWorld, measure: Callable[..., Evaluation], tmp_path: Path
) -> None:
    """The tuning prompts, by their name and as anyone's file."""
    tuning = read_evaluation(tiny_run / "evaluation" / "tuning.json")
    by_name = measure("prompts=tuning")
    (tmp_path / "mine.json").unlink()
    by_file = measure(f"prompts={evaluated_world.root}/tuning.txt")
    assert by_name == by_file
    assert by_name.protocol == tuning.protocol
    assert by_name.protocol["prompts"] == ["any bar", "a blue dot", "a big red dot"]
    points = [tuning.base, *tuning.points[2:]]  # without the point before training, which has no checkpoint
    assert [point.identity() for point in points] == [point.identity() for point in by_name.points]
    for index, point in enumerate(points):
        assert means(by_name, index) == pytest.approx(summarised(point), abs=1e-6)


def test_files_of_other_prompts(
    make_run: Callable[..., Path], evaluated_world: TinyWorld, tmp_path: Path, sampled: list[int]
) -> None:
    """Points of `fit` are reused if the protocol is the same; else these prompts have a separate file."""
    sampled[:] = [0, 0, 0]
    run = make_run(tmp_path / "run")
    before, folder = len(sampled), run / "evaluation"
    assert main([f"ckpt_path={run}", "prompts=tuning"]) == 0
    assert len(sampled) == before
    assert main([f"ckpt_path={last(run)}", "prompts=tuning", "seeds_per_prompt=3"]) == 0
    assert main([f"ckpt_path={last(run)}", f"prompts={evaluated_world.root}/train.txt"]) == 0
    assert len(sampled) == before + 4
    assert sorted(path.name for path in folder.glob("*.json")) == [
        *("prompts-train.json", "prompts-tuning.json", "test.json", "tuning.json")
    ]
    assert read_evaluation(folder / "prompts-tuning.json").protocol["seeds_per_prompt"] == 3


def test_a_file_of_version_0_1_goes_on_in_its_place(
    remade: Callable[..., Path], tmp_path: Path, sampled: list[int]
) -> None:
    sampled[:] = [0, 0, 0]
    folder = remade(tmp_path / "run", lambda content: None)
    assert main([f"ckpt_path={folder}", f"out={folder / 'evaluation.json'}"]) == 0
    before = read_evaluation(folder)
    assert main([f"ckpt_path={folder}", "lora_scale=[1, 0.5]"]) == 0
    assert len(sampled) == 3 + 3
    assert read_evaluation(folder).points[::2] == before.points
    assert not (folder / "evaluation" / "test.json").exists()


def test_header_and_points_say_what_was_done(tiny_run: Path, evaluation: Evaluation) -> None:
    """Four iterations of 4 prompts x 4 images, two optimizer steps each."""
    config = build_config([("experiment", str(tiny_run / "config.yaml"))])
    assert (evaluation.method, evaluation.experiment, evaluation.seed) == ("shapes_drift", "shapes_drift", 0)
    assert f"{evaluation.config_hash}-s0" == run_identity(config)
    assert {**evaluation.training, "prompts_digest": ""} == {
        **{"iterations": 4, "images": 64, "optimiser_steps": 8, "prompts_digest": ""}
    }
    points = evaluation.points
    assert [point.images for point in points] == [0, 32, 64]
    assert [point.weights for point in points] == ["base", "average", "average"]
    assert [point.checkpoint for point in points] == [None, "iteration-000002.ckpt", "iteration-000004.ckpt"]
    assert evaluation.protocol["seeds_per_prompt"] == 2
    assert evaluation.protocol["heldout_judges"] == ["jpeg_compressibility {}"]
    assert evaluation.protocol["measures"] == ["rke", "fid"]


def test_intervals_are_students(evaluation: Evaluation) -> None:
    for point in evaluation.points:
        for name, values in point.per_prompt.items():
            low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
            value = point.values[name]
            assert (value.low, value.high) == pytest.approx((low, high), rel=1e-6, abs=1e-9)
    fid = evaluation.points[2].values["fid"]
    assert (fid.low, fid.high, fid.prompts) == (None, None, 2)


def test_another_run_is_measured_on_the_same_noise_with_its_own_scale_and_power(
    make_run: Callable[..., Path], tmp_path: Path, evaluation: Evaluation
) -> None:
    guided = ("sampler.eval_lora_scale=0.7", "sampler.eval_importance_power=1.5")
    run = make_run(tmp_path / "run", "seed=1", "trainer.iterations=2", *guided)
    assert main([f"ckpt_path={run}", "method=mine"]) == 0
    other = read_evaluation(run)
    assert (other.method, other.seed, other.protocol) == ("mine", 1, evaluation.protocol)
    assert same(means(other, 0), means(evaluation, 0))
    assert other.points[0].per_prompt["vendi"] == pytest.approx(evaluation.points[0].per_prompt["vendi"], abs=1e-6)
    assert (other.points[1].lora_scale, other.points[1].importance_power) == (0.7, 1.5)
    assert same(means(other, 1), json.loads((run / "summary.json").read_text())["tuned"])
    assert not same(means(other, 1), means(evaluation, 1))


def test_an_interrupted_evaluation_goes_on(
    measure: Callable[..., Evaluation], sampled: list[int], evaluation: Evaluation, capsys: pytest.CaptureFixture
) -> None:
    """Base and first checkpoint are kept; then only the second is measured, and then nothing."""
    kept = measure(status=130)
    assert [point.name for point in kept.points] == ["base", "iteration-000002"]
    complete = measure()
    assert len(sampled) == 3 + 1
    assert complete.points[2].values == evaluation.points[2].values  # drift from the base that was kept, too
    measure("method=mine")
    assert len(sampled) == 4
    assert measure().method == "mine"
    capsys.readouterr()
    measure("fresh=true")
    assert len(sampled) == 4 + 3
    out = capsys.readouterr().out
    assert "3/3  iteration 4" in out
    assert table(complete) in out
    assert all(part in out for part in ("jpeg_compressibility", "distance", "all.png"))


def test_other_weights_under_an_old_name_are_measured(
    tiny_run: Path, remade: Callable[..., Path], tmp_path: Path, sampled: list[int]
) -> None:
    def nudge(content: dict[str, Any]) -> None:
        content["average"] = {
            name: value if name == "num_updates" else value * 1.5 for name, value in content["average"].items()
        }

    folder = remade(tmp_path / "run", lambda content: None)
    sampled[:] = [0, 0, 0]
    assert main([f"ckpt_path={folder}", "lora_scale=[0.5, 1]"]) == 0
    before = read_evaluation(folder)
    (
        folder / "evaluation" / "test" / "points" / "base.npz"
    ).unlink()  # drift needs the base's embeddings: it is sampled again
    remade(tmp_path / "run", nudge)
    assert main([f"ckpt_path={folder}"]) == 0
    after = read_evaluation(folder)
    assert len(sampled) == 3 + 3 + 2
    assert [point.name for point in before.points] == ["base", "iteration-000004-scale0.5", "iteration-000004"]
    assert [point.name for point in after.points] == ["base", "iteration-000004"]  # none of the old weights
    assert after.points[0] == before.points[0]
    assert not same(means(after, 1), means(before, 2))


def test_last_is_a_point_only_if_no_other_is_of_its_iteration(
    tiny_run: Path, tmp_path: Path, sampled: list[int]
) -> None:
    """In whatever way the checkpoints are named, each is measured once, in the order of iterations."""
    run = tmp_path / "run"
    shutil.copytree(tiny_run / "checkpoints", run / "checkpoints")
    shutil.copy(tiny_run / "config.yaml", run)
    (run / "checkpoints" / "iteration-000002.ckpt").rename(run / "checkpoints" / "last.ckpt")
    sampled[:] = [0, 0, 0]
    for given in (
        run,
        f"{run}/checkpoints/*.ckpt",
        f"[{last(run)}, {run}/checkpoints/last.ckpt, {last(run)}]",
        f"{run}*",
    ):
        assert main([f"ckpt_path={given}"]) == 0
    points = read_evaluation(run).points
    assert [(point.name, point.iteration) for point in points] == [("base", 0), ("last", 2), ("iteration-000004", 4)]
    shutil.copy(last(run), run / "checkpoints" / "last.ckpt")
    assert main([f"ckpt_path={run}", f"out={tmp_path / 'new.json'}"]) == 0
    assert [point.name for point in read_evaluation(tmp_path / "new.json").points] == ["base", "iteration-000004"]
    assert len(sampled) == 3 + 3 + 2


def test_pictures_show_the_images_of_fit(tiny_run: Path, evaluation: Evaluation) -> None:
    """Tiles of 64 pixels and a gap of 2; on the sheet a row per point, a block of two seeds per prompt."""
    folder = tiny_run / "evaluation" / "test" / "points"
    assert [point.picture for point in evaluation.points] == [
        *("../samples/base.png", "test/points/iteration-000002.png", "test/points/tuned.png")
    ]
    with Image.open(folder / "all.png") as sheet:
        for row, which in ((0, "base"), (2, "tuned")):
            grid_PS3HW = np.load(folder / f"{which}.npz")["grid"]
            with Image.open(folder.parents[1] / str(evaluation.points[row].picture)) as own:
                for prompt in range(2):
                    for seed in range(2):
                        middle = tuple(int(value) for value in grid_PS3HW[prompt, seed, :, 8, 8])
                        left = LABEL_WIDTH + prompt * (2 * 66 + 8) + seed * 66
                        assert sheet.getpixel((left + 33, 28 + row * 66 + 33)) == middle
                        assert own.getpixel((LABEL_WIDTH + seed * 66 + 33, 28 + prompt * 66 + 33)) == middle


def test_the_base_model_is_taken_from_another_file(
    tiny_run: Path, evaluation: Evaluation, sampled: list[int], tmp_path: Path
) -> None:
    """Values, picture and arrays are copied, also if only the base's embeddings are needed.

    Catches in evaluation/base.py: a base model that was taken over measured all the same.
    """
    out, argv = tmp_path / "mine.json", [f"ckpt_path={last(tiny_run)}", f"base={tiny_run}"]
    assert main([*argv, f"out={out}"]) == 0
    mine = read_evaluation(out)
    assert len(sampled) == 1, "the checkpoint alone"
    assert mine.points[0].per_prompt == evaluation.points[0].per_prompt
    assert same(means(mine, 1), means(evaluation, 2))
    for name, source in (("base.png", "samples"), ("base.npz", "evaluation/test/points")):
        assert (tmp_path / "mine" / "points" / name).read_bytes() == (tiny_run / source / name).read_bytes()
    assert mine.points[0].picture == "mine/points/base.png"
    assert mine.points[1].values["fid"] == evaluation.points[2].values["fid"], "it needs the base's embeddings"


@pytest.mark.parametrize(("extra", "samples", "picture"), [("[rke]", 1, None), ("[fid]", 2, "mine/points/base.png")])
def test_a_base_without_pictures_gives_its_values(
    tiny_run: Path, sampled: list[int], tmp_path: Path, extra: str, samples: int, picture: str | None
) -> None:
    """As result files are that were committed without them; measures of drift need its images, and so make them."""
    argv = [f"ckpt_path={last(tiny_run)}", f"evaluation.extra={extra}"]
    assert main([*argv, f"out={tmp_path / 'bare.json'}"]) == 0
    shutil.rmtree(tmp_path / "bare")
    sampled.clear()
    assert main([*argv, f"base={tmp_path / 'bare.json'}", f"out={tmp_path / 'mine.json'}"]) == 0
    bare, mine = (read_evaluation(tmp_path / name) for name in ("bare.json", "mine.json"))
    assert len(sampled) == samples
    assert mine.points[0].picture == picture
    assert same(means(mine, 0), means(bare, 0))
    assert same(means(mine, 1), means(bare, 1))
