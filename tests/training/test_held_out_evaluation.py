"""The evaluation callback: what it writes, and the base model's embeddings that drift is measured from."""

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from drift_pl.evaluation.evaluator import Evaluator
from drift_pl.policies.sd3 import StableDiffusion3Policy
from drift_pl.sampling.prompts import PromptEncoder
from drift_pl.scoring.rewards import Judge
from drift_pl.training.callbacks.evaluation import EvaluationPlan, HeldOutEvaluation

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
            finished=True,
        )

    def callback(self) -> HeldOutEvaluation:
        evaluator = Evaluator([Judge("bright", brightness)], corners, squared_distance, SEEDS, extra=self.extra)
        plan = EvaluationPlan(2, 1.0, "", TUNING, TEST, every=1, test_seeds=SEEDS, tuning_seeds=SEEDS)
        callback = HeldOutEvaluation(evaluator, plan, self.run_dir, facts={})
        callback.on_fit_start(self.trainer(0), self.module)
        return callback

    def trainer(self, iteration: int) -> Any:
        return SimpleNamespace(
            datamodule=SimpleNamespace(iteration=iteration),
            is_global_zero=True,
            world_size=1,
            loggers=[],
            precision_plugin=SimpleNamespace(forward_context=nullcontext),
            strategy=SimpleNamespace(broadcast=lambda answer: answer),
        )

    def batch_end(self, callback: HeldOutEvaluation, iteration: int) -> None:
        metrics = {f"time/{part}_s": 0.0 for part in ("rollout", "judges", "update")}
        outputs = {"metrics": metrics, "images_B3HW": torch.zeros(1, 3, 2, 2)}
        callback.on_train_batch_end(self.trainer(iteration), self.module, outputs, None, 0)

    def read(self, name: str) -> Any:
        return json.loads((self.run_dir / name).read_text())

    def embedding(self, name: str) -> np.ndarray:
        return np.load(self.run_dir / "evaluation" / name)["embedding"]


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

    summary = setting.read("summary.json")
    assert not {"fid", "kid"} & summary["base"].keys()
    assert setting.embedding("base.npz").shape == (len(TEST), SEEDS, 4)
    expected = frechet(setting.embedding("tuned.npz"), setting.embedding("base.npz"))
    assert summary["tuned"]["fid"] == pytest.approx(expected, abs=1e-6)
    assert expected > 1e-4
    assert summary["tuned"]["kid"] != 0
    assert "fid" not in setting.read("evaluation/tuned.json")["per_prompt"][TEST[0]]

    history = setting.read("evaluation/history.json")["history"]
    assert history[0]["fid"] < 1e-9
    with tiny_policy.reference():
        base = callback._evaluate(setting.trainer(1), setting.module, TUNING, SEEDS)
    tuned = callback._evaluate(setting.trainer(1), setting.module, TUNING, SEEDS)
    np.testing.assert_allclose(setting.embedding("base_tuning.npz"), base.embedding_PSD, rtol=0, atol=1e-6)
    assert history[1]["fid"] == pytest.approx(
        frechet(tuned.embedding_PSD.numpy(), base.embedding_PSD.numpy()), abs=1e-6
    )


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
    assert setting.read("evaluation/history.json")["history"][-1]["fid"] > 1e-4


def test_a_base_that_was_not_kept_is_sampled_with_the_adapter_off(
    tiny_policy: StableDiffusion3Policy, tmp_path: Path, tune: Callable[..., None]
) -> None:
    """As when a run that was not evaluated on the way goes on with evaluation."""
    setting = Setting(tiny_policy, tmp_path, ("fid",))
    kept = setting.callback()
    kept.on_train_start(setting.trainer(0), setting.module)
    expected = setting.embedding("base_tuning.npz")
    for file in (tmp_path / "evaluation").glob("base_tuning.*"):
        file.unlink()
    tune(tiny_policy)
    setting.batch_end(setting.callback(), 1)
    np.testing.assert_array_equal(setting.embedding("base_tuning.npz"), expected)
    assert setting.read("evaluation/history.json")["history"][-1]["fid"] > 1e-4


def test_without_measures_of_drift_nothing_is_kept_and_nothing_sampled_twice(
    tiny_policy: StableDiffusion3Policy, tmp_path: Path
) -> None:
    setting = Setting(tiny_policy, tmp_path, ("rke",))
    callback = setting.callback()
    callback.on_train_start(setting.trainer(0), setting.module)
    setting.batch_end(callback, 1)
    callback.on_train_end(setting.trainer(2), setting.module)
    assert setting.sampled == (2 * len(TUNING) + 2 * len(TEST)) * SEEDS
    assert sorted(path.name for path in (tmp_path / "evaluation").iterdir()) == [
        *("base.json", "base.npz", "history.json", "tuned.json", "tuned.npz")
    ]
    assert list(np.load(tmp_path / "evaluation" / "base.npz")) == ["grid"]
    assert 1 <= setting.read("summary.json")["tuned"]["rke"] <= SEEDS


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
    assert not (tmp_path / "evaluation").exists()
