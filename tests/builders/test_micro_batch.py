"""The number of images per forward pass: measured once, recorded, reused.

Catches in builders/micro_batch.py: the record is not read; the largest size instead of the smallest that is as fast.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from drift_pl.builders import micro_batch
from drift_pl.builders.micro_batch import RECORD, best_size, measure, read_record, with_micro_batch
from drift_pl.config.loading import build_config
from drift_pl.core.errors import UserError
from drift_pl.policies.sd3 import StableDiffusion3Policy

AUTO = [("objective.micro_batch", "auto"), ("trainer.accelerator", "cpu")]


@pytest.mark.parametrize(
    ("seconds", "size"),
    [
        ({1: 4.0, 2: 2.0, 4: 1.04, 8: 1.0}, 4),
        ({1: 4.0, 2: 2.0, 4: 1.06, 8: 1.0}, 8),
        ({1: 1.0, 2: 1.2}, 1),
        ({1: 3.0, 2: math.inf}, 1),
    ],
)
def test_the_smallest_size_that_is_as_fast_is_taken(seconds: dict[int, float], size: int) -> None:
    """Within 5 % of the fastest."""
    assert best_size(seconds) == size


def test_auto_is_zero_until_it_is_measured_and_the_record_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = build_config(AUTO)
    assert config.objective.micro_batch == 0
    policy: Any = None
    monkeypatch.setattr(micro_batch, "measure", lambda *_: {1: 4.0, 2: 1.0, 4: 1.0})
    assert with_micro_batch(config, policy, tmp_path).objective.micro_batch == 2
    assert json.loads((tmp_path / RECORD).read_text())["seconds_per_image"] == {"1": 4.0, "2": 1.0, "4": 1.0}
    monkeypatch.setattr(micro_batch, "measure", lambda *_: pytest.fail("measured again"))
    assert with_micro_batch(config, policy, tmp_path).objective.micro_batch == 2
    assert with_micro_batch(config, policy, tmp_path).sampler.micro_batch is None


def test_a_run_that_goes_on_elsewhere_keeps_the_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches in builders/micro_batch.py: measured anew, so that sums have another order and the bits differ."""
    monkeypatch.setattr(micro_batch, "measure", lambda *_: pytest.fail("measured again"))
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").touch()
    (tmp_path / "run" / RECORD).write_text('{"micro_batch": 16}')
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    config = build_config(AUTO).model_copy(update={"ckpt_path": str(checkpoint)})
    policy: Any = None
    (tmp_path / "new").mkdir()
    assert with_micro_batch(config, policy, tmp_path / "new").objective.micro_batch == 16
    assert read_record(tmp_path / "new" / RECORD) == 16


def test_another_process_waits_for_the_first_ones_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro_batch, "is_first_launched", lambda _: False)
    monkeypatch.setattr(micro_batch, "measure", lambda *_: pytest.fail("measured by the second process"))
    written: list[float] = []

    def sleep(seconds: float) -> None:
        written.append(seconds)
        if len(written) == 2:
            (tmp_path / RECORD).write_text('{"micro_batch": 16}')

    monkeypatch.setattr(micro_batch.time, "sleep", sleep)
    policy: Any = None
    assert with_micro_batch(build_config(AUTO), policy, tmp_path).objective.micro_batch == 16
    assert len(written) == 2
    monkeypatch.setattr(micro_batch, "WAIT_S", -1.0)
    with pytest.raises(UserError, match="give a number"):
        with_micro_batch(build_config(AUTO), policy, tmp_path / "other")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"micro_batch": 0}', '{"micro_batch": "8"}'])
def test_a_record_that_says_nothing_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / RECORD).write_text(content)
    assert read_record(tmp_path / RECORD) is None
    assert read_record(tmp_path / "missing") is None


def test_text_encoders_come_to_the_device_for_a_trial(
    tiny_policy: StableDiffusion3Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under `policy.offload`. Catches in builders/micro_batch.py: prompts are encoded where the encoders are parked."""
    inside, encode = [], StableDiffusion3Policy.encode

    @contextmanager
    def encoding(self: StableDiffusion3Policy) -> Iterator[None]:
        inside.append(True)
        yield
        inside.pop()

    def encoded(self: StableDiffusion3Policy, *prompts: Any, **options: Any) -> Any:
        assert inside
        return encode(self, *prompts, **options)

    monkeypatch.setattr(StableDiffusion3Policy, "encoding", encoding)
    monkeypatch.setattr(StableDiffusion3Policy, "encode", encoded)
    monkeypatch.setattr(micro_batch, "LARGEST", 1)
    assert list(measure(build_config([("experiment", "shapes_flowgrpo"), *AUTO]), tiny_policy)) == [1]


def test_a_trial_leaves_the_policy_as_it_was(
    tiny_policy: StableDiffusion3Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And stops where memory ends, or where two doublings gain nothing."""
    before = [parameter.detach().clone() for parameter in tiny_policy.network.parameters()]
    config = build_config(
        [("experiment", "shapes_flowgrpo"), *AUTO, ("policy.guidance_scale", "2"), ("prompts.per_iteration", "2")]
    )
    predict, sizes = StableDiffusion3Policy.predict, []

    def limited(self: StableDiffusion3Policy, latents: torch.Tensor, *rest: Any) -> torch.Tensor:
        sizes.append(len(latents))
        if len(latents) > 2:
            raise torch.OutOfMemoryError
        return predict(self, latents, *rest)

    monkeypatch.setattr(StableDiffusion3Policy, "predict", limited)
    state = torch.get_rng_state()
    found = measure(config, tiny_policy)
    assert list(found) == [1, 2]
    assert set(sizes) == {1, 2, 4}
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in tiny_policy.network.parameters())
    assert all(map(torch.equal, before, tiny_policy.network.parameters()))
    monkeypatch.setattr(StableDiffusion3Policy, "predict", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError()))
    with pytest.raises(UserError, match="one image does not fit"):
        measure(config, tiny_policy)
