"""`policy.offload`: which parts are on the accelerator in each phase, recorded where parts are moved.

The accelerator is a name that the recorders keep: no part of a CPU test really leaves main memory.
"""

from pathlib import Path

import pytest
import torch
from runs import TinyWorld
from tiny_policies import load_tiny
from torch import Tensor

from drift_pl.builders import hardware
from drift_pl.builders.run import build_run
from drift_pl.config.loading import parse
from drift_pl.core.errors import UserError
from drift_pl.fit import main
from drift_pl.sampling.prompts import PromptEncoder
from drift_pl.scoring.residence import PARKED, resident

CARD = torch.device("cpu", 0)  # is not equal to torch.device("cpu"), where parts are parked
LORA = ("attn.to_q",)


class Recorder:
    """A network that knows where it is and was called."""

    def __init__(self, begin: object = None) -> None:
        self.place, self.called_on = begin, list[object]()

    def to(self, device: object) -> "Recorder":
        self.place = torch.device(device) if isinstance(device, str) else device
        return self

    def __call__(self, images_B3HW: Tensor) -> Tensor:
        self.called_on.append(self.place)
        return torch.ones(len(images_B3HW), 2) / 2**0.5


def test_parts_are_there_within_and_parked_afterwards() -> None:
    """Also after an error. Catches in scoring/residence.py: parts that stay after an error; moved without offload."""
    part, still = Recorder(), Recorder(CARD)

    def fail() -> None:
        with resident([part], CARD):
            assert part.place == CARD
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert part.place == PARKED
    with resident([still], PARKED, offload=False):
        assert still.place == CARD
    assert still.place == CARD


def test_autoencoder_and_text_encoders_come_when_they_are_needed(
    tiny_pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Encoding: the text encoders alone. Decoding: the autoencoder, until the phase ends. Both parked otherwise.

    Catches in policies/frozen_parts.py: `to` moves them all the same; `rest` forgets the autoencoder; text encoders
    stay, or stay after an error.
    """
    policy = load_tiny("sd3", tiny_pipeline, targets=LORA)
    policy._offload = True
    places = {"vae": PARKED, "text_encoder": PARKED, "text_encoder_2": PARKED}
    for name in places:
        part = getattr(policy.pipeline, name)

        def to(device: object, name: str = name, part: object = part) -> object:
            places[name] = torch.device(device) if isinstance(device, str) else device
            return part

        monkeypatch.setattr(part, "to", to)
    policy.to(CARD)
    assert set(places.values()) == {PARKED}
    seen: list[dict[str, object]] = []
    encode, decode = policy.pipeline.encode_prompt, policy.pipeline.vae.decode
    monkeypatch.setattr(policy.pipeline, "encode_prompt", lambda **k: (seen.append(dict(places)), encode(**k))[1])
    monkeypatch.setattr(policy.pipeline.vae, "decode", lambda *a, **k: (seen.append(dict(places)), decode(*a, **k))[1])
    PromptEncoder(policy)(["a dog"])
    policy.decode(torch.zeros(1, *policy.latent_shape, device=CARD))
    text = {"text_encoder": CARD, "text_encoder_2": CARD}
    assert seen[0] == {"vae": PARKED, **text}
    assert seen[1]["text_encoder"] == seen[1]["text_encoder_2"] == PARKED
    assert places["vae"].type == "cpu"
    places["vae"] = CARD
    policy.rest()
    assert set(places.values()) == {PARKED}
    monkeypatch.setattr(policy.pipeline, "encode_prompt", None)
    with pytest.raises(TypeError, match="not callable"):
        PromptEncoder(policy)(["a cat"])
    assert set(places.values()) == {PARKED}


def test_an_iteration_scores_with_networks_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewards and encoders: on the device while they score, and parked in rollout, update and afterwards.

    Catches in training/scoring.py: networks moved when the run begins; not moved before they are called.
    """
    world = TinyWorld.create(tmp_path)
    monkeypatch.setattr(hardware, "refuse_offload", lambda *_: None)
    config = parse([*world.overrides(), "policy.offload=true", f"run_dir={tmp_path}/run"]).config
    run = build_run(config, tmp_path / "run")
    score = run.module.score
    assert score.offload
    encoder = Recorder()
    object.__setattr__(score, "encoder", encoder)
    score.to(CARD)
    assert encoder.place == PARKED
    run.datamodule.setup("fit")
    batch = next(iter(run.datamodule.train_dataloader()))
    _, trajectory = run.module.sample(batch, torch.device("cpu"))
    assert encoder.place == PARKED
    moved: list[object] = []
    monkeypatch.setattr(encoder, "to", lambda device: moved.append(device))
    with score.calls(batch) as calls:
        score(trajectory, batch, calls)
    assert len(encoder.called_on) == 1
    assert moved == [trajectory.images_B3HW.device, PARKED]


def test_results_are_those_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = TinyWorld.create(tmp_path)
    monkeypatch.setattr(hardware, "refuse_offload", lambda *_: None)
    plain = world.fit(tmp_path / "plain", "trainer.iterations=1")
    moved = world.fit(tmp_path / "moved", "trainer.iterations=1", "policy.offload=true")
    assert all(torch.equal(moved["state_dict"][name], value) for name, value in plain["state_dict"].items())


def test_it_is_refused_without_an_accelerator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["experiment=shapes_flowgrpo", "trainer.accelerator=cpu", "policy.offload=true", f"run_dir={tmp_path}/run"]
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert "error: policy.offload=true needs an accelerator, and this run computes on the cpu" in said
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


def test_it_is_refused_with_rewards_in_a_thread() -> None:
    with pytest.raises(UserError, match="use trainer.judge_thread=false"):
        parse(
            ["experiment=shapes_flowgrpo", "policy.offload=true", "trainer.judge_thread=true", "trainer.judge_groups=1"]
        )
