"""What tells runs apart: the hash that names their folders, and the settings that a resumed run must share."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from drift_pl.config import identity
from drift_pl.config.experiments import list_experiments
from drift_pl.config.identity import (
    FORMAT,
    config_hash,
    default_run_dir,
    differences,
    identity_in_0_1,
    run_identity,
    run_settings,
)
from drift_pl.config.loading import build_config, parse
from drift_pl.config.schema import RENAMED, Config
from drift_pl.config.section import all_keys
from drift_pl.core.errors import UserError

ROOT = Path(__file__).parents[2]
DEFAULTS = {2: "8a3d0d7d4210"}
"""Number of the hash's format -> digest of the defaults that it was made for."""


def config_of(*overrides: str) -> Config:
    return parse(["experiment=shapes_drift", *overrides]).config


def test_another_default_is_another_format() -> None:
    """The hash counts what differs from the defaults, so it means something else where one of them changes.

    A new key whose default changes nothing: put the new digest under the same number. Another default of a key that
    was there: raise `FORMAT`, and put the digest under the new number.
    """
    shaping = [key for key in all_keys(Config).values() if key.about.shapes_results and not key.is_section]
    text = json.dumps({key.name: key.default for key in shaping}, sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:12] == DEFAULTS[FORMAT]


def test_hash_tells_results_apart_and_nothing_else() -> None:
    base = config_of()
    same = ["seed=9", "trainer.iterations=999", "run_dir=x", "ckpt_path=auto", "trainer.progress=no"]
    same += ["trainer.devices=2", "trainer.threads=1", "trainer.logger=[csv]", "objective.micro_batch=2"]
    same += ["trainer.keep_checkpoints=-1", "evaluation.every=5", "policy.compile=true", "rewards.0.weight=1.0"]
    assert config_hash(config_of(*same)) == config_hash(base)
    changes = ["prompts.group_size=8", "rewards.0.weight=3", "rewards.0.args.pretrained=b", "sampler.steps=9"]
    changes += ["incentive.shaping.weight=0.4", "evaluation.seeds_per_prompt=8", "policy.lora.rank=4"]
    changes += ["policy.tuning=full", "policy.dtype=bfloat16", "incentive.shaping.encoder.name=clip"]
    for change in changes:
        assert config_hash(config_of(change)) != config_hash(base), change
    one, other = (config_of(f"rewards.0.args={order}") for order in ("{a: 1, b: 2}", "{b: 2, a: 1}"))
    assert config_hash(one) == config_hash(other)
    off = ["incentive.selection.rule=none", "incentive.prompting.rule=none", "incentive.shaping.weight=0"]
    assert config_hash(config_of(*off)) == config_hash(parse(["experiment=shapes_flowgrpo"]).config)


def test_a_new_key_at_its_default_leaves_hashes_and_runs_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of("sampler.steps=9")
    before = config_hash(config)
    shaping = identity._shaping
    monkeypatch.setattr(
        identity, "_shaping", lambda config: {k: v for k, v in shaping(config).items() if k != "sampler.kind"}
    )
    assert config_hash(config) == before
    older = run_settings(config)
    monkeypatch.undo()
    assert differences(older, run_settings(config)) == ""
    assert differences(older, run_settings(config_of("sampler.steps=9", "sampler.kind=dance_sde")))


def test_hash_is_the_same_in_every_process() -> None:
    code = (
        "from drift_pl.config.identity import config_hash; from drift_pl.config.schema import Config; import sys;"
        "print(config_hash(Config())); assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"},
    )
    assert done.stdout.strip() == config_hash(Config()), done.stderr


def test_default_run_dir() -> None:
    config = build_config([("seed", "4")])
    assert default_run_dir(config) == Path(f"runs/shapes_div-{config_hash(config)}-s4")


def test_the_folder_that_the_docs_name_is_that_of_shapes_div() -> None:
    folder = str(default_run_dir(build_config([("experiment", "shapes_div")])))
    for file in ("docs/sharing.md", "docs/evaluation.md", "drift_pl/export.py", "drift_pl/generate.py"):
        assert folder in (ROOT / file).read_text(), file
        assert (ROOT / file).read_text().count("runs/shapes_div-") == (ROOT / file).read_text().count(folder), file


def test_settings_are_plain_and_name_every_entry_of_a_list() -> None:
    settings = run_settings(config_of("seed=3", "rewards.0.weight=2"))
    assert json.loads(json.dumps(settings)) == settings
    assert (settings["seed"], settings["rewards.0.weight"], settings["sampler.steps"]) == (3, 2.0, 6)
    assert not settings.keys() & {"run_dir", "trainer.iterations", "trainer.devices", "objective.micro_batch"}


def test_differences_are_named_with_both_values() -> None:
    ours = run_settings(config_of())
    theirs = run_settings(config_of("objective.clip_range=0.5", "seed=1", "rewards.0.args={a: 1}"))
    words = differences(theirs, ours)
    assert "seed is 1 there and 0 now" in words
    assert "objective.clip_range is 0.5 there and 0.005 now" in words
    assert "rewards.0.args is {pretrained: pkg:drift_pl.builtin/weights/preference, a: 1} there and {" in words
    assert differences(ours, ours) == ""
    more = run_settings(config_of(*(f"objective.{name}=0.5" for name in LEARNING), "seed=1"))
    assert differences(more, ours).endswith(f", and {len(LEARNING) - 3} more")
    two = run_settings(config_of("rewards=[{name: pickscore}, {name: jpeg_compressibility}]"))
    assert "rewards.1.name is not there there and" not in differences(ours, two)
    assert "rewards.1.name is missing there and jpeg_compressibility now" in differences(ours, two)


LEARNING = ("clip_range", "advantage_clip", "kl_weight", "learning_rate", "weight_decay", "max_grad_norm")


def test_a_renamed_key_of_an_earlier_version_is_the_same_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = run_settings(config_of())
    older = {("sampler.stages" if key == "sampler.steps" else key): value for key, value in ours.items()}
    assert "sampler.steps" in differences(older, ours | {"sampler.steps": 7})
    monkeypatch.setitem(RENAMED, "sampler.stages", "sampler.steps")
    assert differences(older, ours) == ""
    assert differences(older, ours | {"sampler.steps": 7}) == "sampler.steps is 6 there and 7 now"


@pytest.mark.parametrize("experiment", ["benchmarks/fronts/plain.yaml"])
def test_the_mark_of_version_0_1_is_made_again(experiment: str) -> None:
    """The hash of that experiment, as 0.1 made it, also before it had `policy.tuning` and other later keys."""
    settings = build_config([("experiment", str(ROOT / experiment))]).model_dump()
    assert identity_in_0_1(settings) == "fee41df6-s0"
    early = {name: dict(value) if isinstance(value, dict) else value for name, value in settings.items()}
    for name in ("tuning", "dtype", "quantisation", "args"):
        del early["policy"][name]
    assert identity_in_0_1(early) == "fee41df6-s0"
    changed: dict[str, Any] = early | {"sampler": early["sampler"] | {"steps": 3}}
    assert identity_in_0_1(changed) != "fee41df6-s0"


def test_no_two_experiments_share_a_folder() -> None:
    hashes = [config_hash(build_config([("experiment", name)])) for name in list_experiments()]
    assert len(set(hashes)) == len(hashes)


def test_a_name_of_ones_own_stands_in_the_folders_and_changes_nothing_else() -> None:
    """Catches in config/identity.py: folders of other names for runs that have none."""
    plain, named = (build_config([("experiment", "shapes_div"), *more]) for more in ([], [("run_name", "short-kl")]))
    assert run_identity(plain) == run_identity(named)
    assert default_run_dir(named) == Path(f"runs/shapes_div-short-kl-{run_identity(plain)}")
    assert default_run_dir(plain) == Path(f"runs/shapes_div-{run_identity(plain)}")


@pytest.mark.parametrize("name", ["a/b", "", "a b", "../x", "x" * 65])
def test_a_name_is_part_of_a_folders_name(name: str) -> None:
    with pytest.raises(UserError, match=r"^run_name=.* e\.g\. run_name=short-kl$"):
        Config.checked({"run_name": name})
