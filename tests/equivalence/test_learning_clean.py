"""`incentive.prompting.update=clean`: sampled under varied conditions, learnt under the clean prompt."""

from pathlib import Path
from typing import Any

import pytest
import torch
from runs import TinyWorld, assert_same_training_state, largest_difference
from torch import Tensor

from drift_pl.builders.policy import build_policy
from drift_pl.config.loading import parse
from drift_pl.core.errors import UserError
from drift_pl.policies.sd3 import StableDiffusion3Policy

ONE = ["trainer.iterations=1", "trainer.save_every=1", "evaluation.every=0"]
NFT = ["objective.loss=nft", "policy.guidance_scale=1", "rewards=[{name: 'judges:Brightness'}]", "objective.updates=1"]
OFF = ["incentive.selection.rule=none", "incentive.shaping.weight=0", "objective.micro_batch=16"]
NOISE = ["incentive.prompting.rule=embedding_noise", "incentive.prompting.scale=0.5"]
VARIANTS = ["incentive.prompting.rule=variants", "incentive.prompting.templates=['{prompt} now','not {prompt}']"]
CLEAN = "incentive.prompting.update=clean"


@pytest.fixture(autouse=True)
def judges_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


class Seen:
    """What the network is conditioned on, by noise level."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rollout: dict[float, Tensor] = {}
        self.update: dict[float, Tensor] = {}
        original = StableDiffusion3Policy.predict

        def recording(policy: Any, latents: Tensor, sigma: Tensor, condition: Any, *rest: Any) -> Tensor:
            seen = self.update if torch.is_grad_enabled() else self.rollout
            if len(latents) == 16:  # not the evaluations
                seen[float(sigma)] = condition.tokens_BLE
            return original(policy, latents, sigma, condition, *rest)

        monkeypatch.setattr(StableDiffusion3Policy, "predict", recording)


def encoded(world: TinyWorld, tmp_path: Path) -> dict[str, Tensor]:
    """Of each training prompt, by a policy of its own."""
    policy = build_policy(parse([*world.overrides(), f"run_dir={tmp_path}"]).config)
    prompts = (world.root / "train.txt").read_text().splitlines()
    return {prompt: policy.encode([prompt]).tokens_BLE[0] for prompt in prompts}


@pytest.mark.parametrize("varied", [NOISE, VARIANTS], ids=["noise", "texts"])
def test_the_update_sees_the_clean_prompts_and_the_rollout_the_varied_ones(
    world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, varied: list[str]
) -> None:
    """Catches in sampling/groups.py: the varied conditions learnt; the clean ones sampled.
    Catches in builders/run.py: the setting not passed on.
    """
    clean = list(encoded(world, tmp_path).values())
    seen = Seen(monkeypatch)
    world.fit(tmp_path / "run", *ONE, *NFT, *OFF, *varied, CLEAN)

    def among_clean(row_LE: Tensor) -> bool:
        return any(torch.equal(row_LE, each) for each in clean)

    assert len(seen.update) == 4
    for tokens_BLE in seen.update.values():
        groups = tokens_BLE.unflatten(0, (4, 4))
        assert all(among_clean(row) for row in tokens_BLE)
        assert torch.equal(groups, groups[:, :1].expand_as(groups)), "one prompt in each group"
        assert len(torch.unique(groups[:, 0], dim=0)) == 4, "and each group its own"
    first = seen.rollout[max(seen.rollout)]
    assert sum(not among_clean(row) for row in first) >= 8, "sampled under varied conditions"


def test_without_variation_it_changes_nothing(world: TinyWorld, tmp_path: Path) -> None:
    """Catches in sampling/groups.py: clean conditions encoded in another order."""
    off = [*NFT, *OFF, "incentive.prompting.rule=none", "trainer.iterations=2"]
    assert_same_training_state(world.fit(tmp_path / "a", *off), world.fit(tmp_path / "b", *off, CLEAN))


def test_it_acts_beside_variation_and_resumes_exactly(world: TinyWorld, tmp_path: Path) -> None:
    settings = [*NFT, *OFF, *NOISE]
    whole = world.fit(tmp_path / "whole", *settings, CLEAN, "trainer.iterations=4")
    world.fit(tmp_path / "parts", *settings, CLEAN, "trainer.iterations=2")
    again = world.fit(tmp_path / "parts", *settings, CLEAN, "trainer.iterations=4", "ckpt_path=last")
    assert_same_training_state(again, whole)
    assert largest_difference(whole, world.fit(tmp_path / "varied", *settings, "trainer.iterations=4")) > 1e-4


def test_an_update_that_replays_the_sampled_steps_refuses_it() -> None:
    """Catches in config/schema.py: replayed under a condition that nothing was sampled under."""
    with pytest.raises(UserError, match=r"^incentive\.prompting\.update=clean .*objective\.loss=surrogate .*use obj"):
        parse(["experiment=shapes_flowgrpo", "incentive.prompting={rule: embedding_noise, update: clean}"])
    parse(["experiment=shapes_flowgrpo", CLEAN])  # nothing varies
    parse(["experiment=shapes_div", CLEAN])
