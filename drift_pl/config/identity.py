"""The identity of a run: the settings that shape its results, and a short hash of them that names its folder."""

import copy
import functools
import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from drift_pl.config.paths import same_file_names, with_absolute_paths
from drift_pl.config.schema import RENAMED, Config
from drift_pl.config.section import all_keys, flat, pattern_of
from drift_pl.config.yaml_text import format_value

FORMAT = 2
"""Of `config_hash`: another number where a default of a setting that shapes results changes."""
SHOWN = 4
"""Most differences that a message names."""
SINCE_0_1 = (
    *("policy.tuning", "policy.dtype", "policy.quantisation", "policy.storage", "policy.args", "sampler.args"),
    *("objective.loss", "objective.nft_times", "objective.nft_beta", "objective.args"),
    *("incentive.prompting.update", "incentive.prompting.vocabulary", "incentive.prompting.writers"),
    *("incentive.shaping.target", "incentive.shaping.target_gain"),
    *("incentive.shaping.target_low", "incentive.shaping.target_high"),
    *("incentive.prompting.texts", "incentive.prompting.named", "sampler.train_last_step", "objective.ema_every"),
    *("objective.noise_levels", "objective.branch_weight", "objective.kl_scale", "objective.adv_mode"),
    *("sampler.window_every_last", "sampler.window_decay", "sampler.window_decay_from"),
    *("sampler.noisy_steps", "sampler.solver", "objective.optimizer", "trainer.tf32"),
    *("objective.kl_limit", "objective.awm_weighting", "objective.awm_power", "objective.awm_pull"),
    *("policy.frames", "policy.reward_frames"),
    *("objective.old_decay_max", "objective.old_decay_rate", "objective.old_decay_after"),
)
"""Keys that hashes of version 0.1 left out at their defaults, or did not know."""


def run_settings(config: Config) -> dict[str, Any]:
    """Dotted key -> plain value of the seed and all settings that shape results; entries of lists by their number.

    Local files have absolute names.
    """
    return with_absolute_paths({"seed": config.seed, **_shaping(config)})


def _shaping(config: Config) -> dict[str, Any]:
    settings = flat(config.published, {list})  # the arguments of a thing are one value
    return {key: copy.deepcopy(value) for key, value in settings.items() if pattern_of(key) in _defaults()}


@functools.cache
def _defaults() -> dict[str, Any]:
    """Key, with N for the numbers of entries -> default, of all settings that shape results but the seed."""
    keys = all_keys(Config).items()
    return {name: key.default for name, key in keys if key.about.shapes_results and not key.is_section}


def config_hash(config: Config) -> str:
    """Eight hex digits over all settings that shape results and differ from their defaults.

    Runs that differ only in seed, length or hardware share it, and so do experiments of different names with the same
    settings. It names folders; `differences` decides whether a checkpoint belongs to a config.
    """
    settings = _shaping(config).items()
    return _digest([FORMAT, {key: value for key, value in settings if value != _defaults()[pattern_of(key)]}])


def run_identity(config: Config) -> str:
    """The mark of a run's checkpoints, evaluations and folder: HASH-sSEED."""
    return f"{config_hash(config)}-s{config.seed}"


def hash_of(identity: str) -> str:
    """HASH of a `run_identity`."""
    return identity.rpartition("-s")[0]


def default_run_dir(config: Config) -> Path:
    """runs/EXPERIMENT[-RUN_NAME]-HASH-sSEED; an experiment given as a path counts by its file's name."""
    return Path("runs") / "-".join(filter(None, [Path(config.experiment).stem, config.run_name, run_identity(config)]))


def differences(
    theirs: Mapping[str, Any], ours: Mapping[str, Any], now: str = "now", same: Collection[str] = ()
) -> str:
    """The settings that differ, in words; empty if there are none.

    Args:
        theirs: `run_settings` of a run, maybe of an earlier version: a key that it lacks has its default.
        ours: those of the other.
        now: the name of `ours` in the message.
        same: settings that are equal whatever their values, because they name files of the same content.
    """
    theirs = {RENAMED.get(key, key): value for key, value in theirs.items()}
    different = []
    for key in dict.fromkeys([*ours, *theirs]):
        own_default = key not in theirs and ours[key] == _defaults().get(pattern_of(key))
        if own_default or key in same:
            continue
        if key not in ours or key not in theirs or not same_file_names(theirs[key], ours[key]):
            there, here = (format_value(side[key]) if key in side else "missing" for side in (theirs, ours))
            different.append(f"{key} is {there} there and {here} {now}")
    more = f", and {len(different) - SHOWN} more" if len(different) > SHOWN else ""
    return ", ".join(different[:SHOWN]) + more


def identity_in_0_1(settings: dict[str, Any]) -> str:
    """`run_identity` as version 0.1 made it.

    Args:
        settings: nested, as in config.yaml.
    """
    settings = copy.deepcopy(settings)
    seed = settings.get("seed")
    for key in all_keys(Config).values():
        *sections, name = key.name.split(".")
        node: Any = settings
        for part in sections:
            node = node.get(part, {}) if isinstance(node, dict) else {}
        late = key.name in SINCE_0_1 and isinstance(node, dict) and node.get(name) == key.default
        if not key.is_section and isinstance(node, dict) and (late or not key.about.shapes_results):
            node.pop(name, None)
    for entry in [*(settings.get("rewards") or []), *((settings.get("evaluation") or {}).get("rewards") or [])]:
        if isinstance(entry, dict):
            entry.pop("device", None)
            if entry.get("dtype") is None:
                entry.pop("dtype", None)
    return f"{_digest(settings)}-s{seed}"


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
