"""The evaluation callback: what it writes, and the base model's embeddings that drift is measured from.

Catches in training/callbacks/evaluation.py: base sampled with the adapter on; wrong reference file; each process
decides alone; a base of another protocol or run taken over; looks that a resumed run repeats kept.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from made_up_evaluations import PROTOCOL, TRAINING
from PIL import Image
from scipy.linalg import sqrtm
from torch import Tensor

from drift_pl.core.registry import create
from drift_pl.evaluation.bench import Bench
from drift_pl.evaluation.evaluator import Evaluator
from drift_pl.evaluation.points import means, read_array
from drift_pl.evaluation.record import Evaluation
from drift_pl.evaluation.record_file import read_evaluation
from drift_pl.evaluation.sampling import SamplingPlan
from drift_pl.policies.sd3 import StableDiffusion3Policy
from drift_pl.sampling.prompts import PromptEncoder
from drift_pl.scoring.rewards import WeightedReward
from drift_pl.training.callbacks.evaluation import HeldOutEvaluation, _model
from drift_pl.training.callbacks.progress import RunLength

TUNING, TEST = ("a red cat", "sky"), ("a dog", "two dog", "sea")
SEEDS = 5


def brightness(images: Tensor, prompts: Sequence[str]) -> Tensor:
    return images.mean((1, 2, 3))


def corners(images: Tensor) -> Tensor:
    """An encoder of four channels, so that the covariances of a few images have full rank."""
    return torch.nn.functional.normalize(images[:, 0, ::10, ::10].flatten(1) + 0.1, dim=1)


def squared_distance(images: Tensor) -> Tensor:
    flat = images.flatten(1).double()
    return (flat[:, None] - flat[None]).square().mean(-1)


class Setting:
    """A trainer and a module as far as the callback looks at them, and the number of images sampled so far."""

    def __init__(self, policy: StableDiffusion3Policy, run_dir: Path, extra: Sequence[str]) -> None:
        self.policy, self.run_dir, self.extra = policy, run_dir, extra
        self.sampled = 0
        decode = policy.decode

        def counting(latents: Tensor) -> Tensor:
            self.sampled += len(latents)
            return decode(latents)

        policy.decode = counting  # type: ignore[method-assign]
        self.module = SimpleNamespace(
            device=torch.device("cpu"),
            policy=policy,
            encode_prompts=PromptEncoder(policy),
            evaluated_weights=nullcontext,
            average=None,
        )

    def callback(self) -> HeldOutEvaluation:
        metrics = {name: create("measure", name, {}) for name in self.extra}
        evaluator = Evaluator([WeightedReward("bright", brightness)], corners, squared_distance, SEEDS, metrics=metrics)
        bench = Bench(evaluator, SamplingPlan(2, 1.0, ""))
        test, tuning = self.header("test", TEST), self.header("tuning", TUNING)
        callback = HeldOutEvaluation(bench, test, tuning, 1, self.run_dir, facts={})
        callback.on_fit_start(self.trainer(0), self.module)
        return callback

    def header(self, name: str, prompts: Sequence[str], **changes: Any) -> Evaluation:
        path = self.run_dir / "evaluation" / f"{name}.json"
        protocol = PROTOCOL | {"prompts": list(prompts), "seeds_per_prompt": SEEDS} | changes
        return Evaluation(path, "plain", "plain", 0, "0123abcd", TRAINING, protocol)

    def trainer(self, iteration: int) -> Any:
        return SimpleNamespace(
            datamodule=SimpleNamespace(iteration=iteration, per_iteration=1, group_size=1),
            is_global_zero=True,
            world_size=1,
            loggers=[],
            should_stop=True,
            callbacks=[RunLength(iteration)],
            precision_plugin=SimpleNamespace(forward_context=nullcontext),
            strategy=SimpleNamespace(broadcast=lambda answer: answer),
            received_sigterm=False,
        )

    def batch_end(self, callback: HeldOutEvaluation, iteration: int) -> None:
        metrics = {f"time/{part}_s": 0.0 for part in ("rollout", "judges", "update")}
        outputs = {"metrics": metrics, "images_B3HW": torch.zeros(1, 3, 2, 2)}
        callback.on_train_batch_end(self.trainer(iteration), self.module, outputs, None, 0)

    def summary(self) -> Any:
        return json.loads((self.run_dir / "summary.json").read_text())

    def record(self, name: str) -> Evaluation:
        return read_evaluation(self.run_dir / "evaluation" / f"{name}.json")

    def embedding(self, name: str, point: str) -> np.ndarray:
        return read_array(self.record(name), point, "embedding").numpy()


def frechet(first_PSD: np.ndarray, second_PSD: np.ndarray) -> float:
    """The definition of FID, by scipy's matrix root."""
    rows = [embedding.reshape(-1, embedding.shape[-1]).astype(float) for embedding in (first_PSD, second_PSD)]
    covariances = [np.cov(part, rowvar=False) for part in rows]
    shift = rows[0].mean(0) - rows[1].mean(0)
    return float(shift @ shift + np.trace(sum(covariances) - 2 * sqrtm(covariances[0] @ covariances[1]).real))


def test_drift_is_measured_from_the_base_on_the_same_prompts(
    tiny_policy: StableDiffusion3Policy, tmp_path: Path, tune: Callable[..., None]
) -> None:
    """On the tuning prompts along the run, on the test prompts at its end; zero before the first update."""
    setting = Setting(tiny_policy, tmp_path, ("fid", "kid"))
    callback = setting.callback()
    callback.on_train_start(setting.trainer(0), setting.module)
    tune(tiny_policy)
    setting.batch_end(callback, 1)
    callback.on_train_end(setting.trainer(2), setting.module)

    summary = setting.summary()
    assert not {"fid", "kid"} & summary["base"].keys()
    assert setting.embedding("test", "base").shape == (len(TEST), SEEDS, 4)
    expected = frechet(setting.embedding("test", "tuned"), setting.embedding("test", "base"))
    assert summary["tuned"]["fid"] == pytest.approx(expected, abs=1e-6)
    assert expected > 1e-4
    assert summary["tuned"]["kid"] != 0
    assert "fid" not in setting.record("test").tuned.per_prompt

    looks = setting.record("tuning").points[1:]
    assert looks[0].values["fid"].mean < 1e-9
    model = _model(setting.trainer(1), setting.module)
    base, tuned = callback.bench.base(model, TUNING, SEEDS), callback.bench.tuned(model, TUNING, SEEDS)
    np.testing.assert_allclose(setting.embedding("tuning", "base"), base.embedding_PSD, rtol=0, atol=1e-6)
    assert looks[1].values["fid"].mean == pytest.approx(
        frechet(tuned.embedding_PSD.numpy(), base.embedding_PSD.numpy()), abs=1e-6
    )


def test_the_summary_is_that_of_the_records_points(
    tiny_policy: StableDiffusion3Policy, tmp_path: Path, tune: Callable[..., None]
) -> None:
    """Oracle: means by hand of what the record holds per prompt; the point is that of the weights."""
    setting = Setting(tiny_policy, tmp_path, ("fid",))
    callback = setting.callback()
    callback.on_train_start(setting.trainer(0), setting.module)
    _, before = callback._measure(callback._test, setting.trainer(0), setting.module)
    tune(tiny_policy)
    callback.on_train_end(setting.trainer(5), setting.module)
    summary, record = setting.summary(), setting.record("test")
    assert [point.name for point in record.points] == ["base", "tuned"]
    for which, point in (("base", record.base), ("tuned", record.tuned)):
        assert list(summary[which]) == list(point.values)
        for name, values in point.per_prompt.items():
            assert summary[which][name] == pytest.approx(sum(values) / len(TEST), rel=1e-12)
        assert means(point) == summary[which]
    tuned = record.tuned
    assert (tuned.iteration, tuned.images, tuned.weights, tuned.checkpoint) == (
        5,
        5 * 64,
        "live",
        "iteration-000005.ckpt",
    )
    assert tuned.digest is not None
    assert before.digest != tuned.digest
    with (
        Image.open(tmp_path / "samples" / "base.png") as picture,
        Image.open(record.path.parent / record.base.picture) as same,
    ):
        assert picture.tobytes() == same.tobytes()


def test_a_file_of_another_protocol_or_run_is_measured_anew(
    tiny_policy: StableDiffusion3Policy, tmp_path: Path
) -> None:
    """And so is a folder of version 0.1, and one whose file cannot be read; equal ones are taken over."""
    setting = Setting(tiny_policy, tmp_path, ())
    test = tmp_path / "evaluation" / "test.json"
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "base.json").write_text("{}")

    def sampled_at_start() -> int:
        before, callback = setting.sampled, setting.callback()
        callback.on_train_start(setting.trainer(1), setting.module)
        return (setting.sampled - before) // SEEDS

    assert sampled_at_start() == len(TEST)
    assert sampled_at_start() == 0
    content = test.read_text()
    for old, new in (('"steps": 20', '"steps": 21'), ('"seed": 0', '"seed": 1'), ("{", "")):
        test.write_text(content.replace(old, new, 1))
        assert sampled_at_start() == len(TEST), old
        assert json.loads(test.read_text()) == json.loads(content)
    test.write_text(content.replace('"method": "plain"', '"method": "mine"'))
    assert sampled_at_start() == 0


def test_a_resumed_run_drops_the_looks_that_it_repeats(tiny_policy: StableDiffusion3Policy, tmp_path: Path) -> None:
    setting = Setting(tiny_policy, tmp_path, ())
    callback = setting.callback()
    for iteration in (1, 2, 3):
        setting.batch_end(callback, iteration)
    setting.batch_end(setting.callback(), 2)
    points = setting.record("tuning").points
    assert [(point.name, point.iteration) for point in points] == [("iteration-000001", 1), ("iteration-000002", 2)]
    assert points[1].picture == "../samples/iteration-000002.png"


def test_a_resumed_run_measures_from_the_base_that_was_kept(
    tiny_policy: StableDiffusion3Policy, tmp_path: Path, tune: Callable[..., None]
) -> None:
    setting = Setting(tiny_policy, tmp_path, ("fid",))
    setting.callback().on_train_start(setting.trainer(0), setting.module)
    tune(tiny_policy)
    resumed, before = setting.callback(), setting.sampled
    resumed.on_train_start(setting.trainer(1), setting.module)
    assert setting.sampled == before
    setting.batch_end(resumed, 2)
    assert setting.sampled == before + len(TUNING) * SEEDS  # the base is not sampled again
    assert setting.record("tuning").points[-1].values["fid"].mean > 1e-4


def test_a_base_that_was_not_kept_is_sampled_with_the_adapter_off(
    tiny_policy: StableDiffusion3Policy, tmp_path: Path, tune: Callable[..., None]
) -> None:
    """As when a run that was not evaluated on the way goes on with evaluation."""
    setting = Setting(tiny_policy, tmp_path, ("fid",))
    kept = setting.callback()
    kept.on_train_start(setting.trainer(0), setting.module)
    expected = setting.embedding("tuning", "base")
    (setting.record("tuning").folder / "base.npz").unlink()
    tune(tiny_policy)
    setting.batch_end(setting.callback(), 1)
    np.testing.assert_array_equal(setting.embedding("tuning", "base"), expected)
    assert setting.record("tuning").points[-1].values["fid"].mean > 1e-4


def test_without_measures_of_drift_nothing_is_kept_and_nothing_sampled_twice(
    tiny_policy: StableDiffusion3Policy, tmp_path: Path
) -> None:
    setting = Setting(tiny_policy, tmp_path, ("rke",))
    callback = setting.callback()
    callback.on_train_start(setting.trainer(0), setting.module)
    setting.batch_end(callback, 1)
    callback.on_train_end(setting.trainer(2), setting.module)
    assert setting.sampled == (2 * len(TUNING) + 2 * len(TEST)) * SEEDS
    files = [path.relative_to(tmp_path / "evaluation").as_posix() for path in (tmp_path / "evaluation").rglob("*.*")]
    assert sorted(files) == [
        *("test.json", "test/points/base.npz", "test/points/tuned.npz", "test/points/tuned.png", "tuning.json")
    ]
    assert list(np.load(tmp_path / "evaluation" / "test" / "points" / "base.npz")) == ["grid"]
    assert 1 <= setting.summary()["tuned"]["rke"] <= SEEDS


def test_processes_that_do_not_report_need_no_embeddings_but_sample_along(
    tiny_policy: StableDiffusion3Policy, tmp_path: Path
) -> None:
    """The first process decides whether the base is sampled: another's disk may lack the file."""
    setting = Setting(tiny_policy, tmp_path, ("fid",))
    trainer = setting.trainer(1)
    trainer.is_global_zero = False
    callback = setting.callback()
    for kept, images in ((True, 1), (False, 2)):
        trainer.strategy = SimpleNamespace(broadcast=lambda answer, kept=kept: kept)
        before = setting.sampled
        callback._look_at_tuning_prompts(trainer, setting.module)
        assert setting.sampled == before + images * len(TUNING) * SEEDS
    assert not list(tmp_path.rglob("*.json"))
