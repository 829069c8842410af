"""Which keys `plan` names, against what fits by decree."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace

import pytest

from drift_pl.builders import remedies as module
from drift_pl.builders.devices import Device
from drift_pl.builders.remedies import advice, remedies
from drift_pl.config.loading import parse
from drift_pl.config.schema import Config

EXPERIMENT = "experiment=sd35_large_pickscore_div"
CARD = Device(24, 165)
FSDP = ["trainer.strategy=fsdp", "trainer.devices=2", "trainer.precision=bf16-mixed", "policy.dtype=bfloat16"]
Fits = Callable[[Config], bool]


def found(monkeypatch: pytest.MonkeyPatch, fits: Fits, *settings: str) -> dict[str, str] | None:
    def change(values: Mapping[str, str]) -> Config:
        return parse([EXPERIMENT, *settings, *(f"{key}={value}" for key, value in values.items())]).config

    monkeypatch.setattr(module, "plan_of", lambda config: SimpleNamespace(fits=lambda device: fits(config)))
    return remedies(change({}), CARD, change)


def stored(config: Config) -> bool:
    return config.policy.storage == "fp8"


def quantised(config: Config) -> bool:
    return config.policy.quantisation is not None


@pytest.mark.parametrize(
    ("fits", "settings", "expected"),
    [
        (lambda c: c.policy.offload, [], {"policy.offload": "true"}),
        (stored, [], {"policy.storage": "fp8"}),
        (lambda c: c.objective.optimizer == "adamw8bit", [], {"objective.optimizer": "adamw8bit"}),
        (quantised, [], {"policy.quantisation": "bitsandbytes_4bit"}),
        (
            lambda c: c.policy.offload and quantised(c),
            [],
            {"policy.offload": "true", "policy.quantisation": "bitsandbytes_4bit"},
        ),
        (quantised, ["policy.storage=fp8"], {"policy.quantisation": "bitsandbytes_4bit", "policy.storage": "null"}),
        (lambda c: c.objective.optimizer == "adamw8bit", ["policy.tuning=full"], {"objective.optimizer": "adamw8bit"}),
        (stored, FSDP, None),
        (quantised, FSDP, None),
        (lambda c: c.objective.optimizer == "adamw8bit", FSDP, None),
        (lambda c: False, [], None),
    ],
    ids=["offload", "fp8", "8-bit", "4-bit", "two", "fp8 already", "full", "fsdp", "fsdp 4-bit", "fsdp 8-bit", "never"],
)
def test_the_keys_are_those_that_are_needed(
    fits: Fits, settings: list[str], expected: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches in builders/remedies.py: keys that something later made superfluous; two kinds of storage at once; fp8
    of sharded weights.
    """
    assert found(monkeypatch, fits, *settings) == expected


def test_the_advice_is_a_command_line() -> None:
    assert advice({"policy.offload": "true", "prompts.group_size": "8"}).endswith(
        "it fits with: policy.offload=true prompts.group_size=8"
    )
    assert "smaller policy.resolution" in advice(None)
