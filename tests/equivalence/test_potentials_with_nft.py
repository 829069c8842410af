"""Every potential acts through the update by the forward process: its bonus alone moves the policy."""

from pathlib import Path

import pytest
import recorder
from runs import TinyWorld

from drift_pl.incentive.potentials import POTENTIALS

ALIKE = ["objective.loss=nft", "policy.guidance_scale=1", "rewards=[{name: 'judges:Constant'}]", "evaluation.every=0"]
SETTINGS = [*ALIKE, "incentive.selection.rule=none", "incentive.prompting.rule=none", "trainer.iterations=1"]
SETTINGS += ["trainer.callbacks=[{name: 'recorder:Recorder'}]", "trainer.save_every=1"]


def iteration(world: TinyWorld, folder: Path, *overrides: str) -> dict[str, float]:
    recorder.ROWS.clear()
    world.fit(folder, *SETTINGS, *overrides)
    return recorder.ROWS[0]


@pytest.fixture(autouse=True)
def modules_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.mark.parametrize("potential", POTENTIALS)
def test_the_bonus_alone_has_a_gradient(world: TinyWorld, tmp_path: Path, potential: str) -> None:
    """All rewards are equal, so that every advantage is the centred bonus, clipped to 5."""
    options = [f"incentive.shaping.potential={potential}", "incentive.shaping.weight=4"]
    row = iteration(world, tmp_path / "on", *options)
    assert row["policy/grad_norm"] > 0
    spread = row["shaping/bonus_group_std"]
    assert spread == pytest.approx(4 * row["shaping/potential_group_std"], rel=1e-4)
    assert 0 < row["policy/advantage_magnitude"] <= spread * 1.0001, "the mean deviation is at most the standard one"
    if potential == "mean":
        huge = iteration(world, tmp_path / "huge", options[0], "incentive.shaping.weight=1e9")
        assert huge["policy/advantage_magnitude"] == pytest.approx(5), "clipped, and no more than a sign"
        off = iteration(world, tmp_path / "off", "incentive.shaping.weight=0")
        assert off["policy/grad_norm"] == 0
