"""From the command line to a `Config`: experiment file, dotted overrides, checks. No torch, so it is fast.

`experiment=NAME` is read first wherever it stands; then the overrides apply from left to right. Sections and
`args` merge; lists are replaced whole; giving a named thing (a reward, an encoder) another `name` drops the
`args` of the old one.
"""

import difflib
import hashlib
import json
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from drift_pl.config.checks import derive_batches, get_value, validate
from drift_pl.config.experiment_files import load_experiment
from drift_pl.config.keys import find_non_finite, format_value, resolve_type, working_example
from drift_pl.config.literals import coerce, parse_override
from drift_pl.config.schema import Config, NamedConfig
from drift_pl.core.errors import UserError

FLAGS = ("--help", "-h", "--print-config", "--debug")
OVERRIDES_LOOK = "overrides look like KEY=VALUE, e.g. seed=1"

UNHASHED = (
    # where a run lives, how it began, how long it is
    *("experiment", "run_dir", "ckpt_path", "seed", "trainer.iterations"),
    *("trainer.alarm.threshold", "trainer.alarm.stop"),
    # what is shown and kept of it
    *("trainer.progress", "trainer.monitor_lpips", "trainer.logger", "trainer.save_every", "trainer.keep_checkpoints"),
    *("trainer.keep_boundary",),
    *("evaluation.every", "evaluation.grid_prompts", "evaluation.grid_seeds"),
    # what it runs on: results are the same up to the order of float sums
    *("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.threads"),
    *("trainer.judge_groups", "trainer.judge_thread"),
    *("objective.micro_batch", "policy.compile", "policy.gradient_checkpointing"),
    *("policy.reference_device", "policy.text_encoder_device"),
)
"""Keys that do not tell one set of results from another; every other key goes into `config_hash`."""

YOUNGER = (
    *("policy.tuning", "policy.dtype", "policy.quantisation"),
    *("objective.loss", "objective.nft_times", "objective.nft_beta"),
)
"""Keys that came after the first release: at their default they are left out of `config_hash`, so that earlier runs
keep theirs and can be resumed and compared. A new key whose default changes nothing is added here."""


@dataclass(frozen=True)
class Request:
    """What a command line asks for. With `help` the config is the bare defaults, unchecked."""

    config: Config
    print_config: bool = False
    help: bool = False
    debug: bool = False


def parse(argv: list[str]) -> Request:
    """Read a command line (without the program's name).

    Raises:
        UserError: one line that names the argument and a value that would work.
    """
    if "--help" in argv or "-h" in argv:
        return Request(Config(), help=True)
    flags = [argument for argument in argv if argument.startswith("-")]
    for flag in flags:
        if flag not in FLAGS:
            raise UserError(_unknown_flag_message(flag))
    overrides = [_split(argument) for argument in argv if not argument.startswith("-")]
    return Request(config=build_config(overrides), print_config="--print-config" in flags, debug="--debug" in flags)


def build_config(overrides: list[tuple[str, str]]) -> Config:
    """The checked `Config` of (key, text) pairs, `experiment` among them or not.

    Raises:
        UserError: see `parse`.
    """
    experiment = Config().experiment
    for key, text in overrides:
        experiment = str(parse_override(key, text)) if key == "experiment" else experiment
    tree = OmegaConf.structured(Config)
    _assign(tree, "experiment", experiment)
    for file_name, difference in load_experiment(experiment):
        try:
            for key, value in difference.items():
                _assign(tree, key, coerce(key, value))
        except UserError as error:
            raise UserError(f"{file_name}: {error}") from error
    for key, text in overrides:
        if key != "experiment":
            _assign(tree, key, parse_override(key, text))
    config = _to_config(tree)
    validate(config)
    return config


def _split(argument: str) -> tuple[str, str]:
    key, equals, text = argument.partition("=")
    if not equals:
        try:
            remedy = f"use e.g. {working_example(argument, resolve_type(argument))}"
        except UserError as error:
            remedy = f"{OVERRIDES_LOOK} ({error})"
        raise UserError(f"argument {argument!r} has no '=': {remedy}")
    if not key:
        raise UserError(f"argument {argument!r} has no key before '=': {OVERRIDES_LOOK}")
    return key, text


def _unknown_flag_message(flag: str) -> str:
    name, _, text = flag.lstrip("-").partition("=")
    key = name.replace("-", "_")
    close = difflib.get_close_matches(flag, FLAGS, n=1, cutoff=0.75)
    if close:
        return f"unknown flag {flag!r}: did you mean {close[0]!r}?"
    try:
        resolve_type(key)
    except UserError:
        return f"unknown flag {flag!r}: the flags are {', '.join(FLAGS)}; {OVERRIDES_LOOK}"
    return f"unknown flag {flag!r}: keys take no dashes, use {key}={text or 'VALUE'}"


def _assign(tree: DictConfig, key: str, value: Any) -> None:
    """Set a key to a value of its type; a section merges."""
    kind = resolve_type(key)
    parent = _find_parent(tree, key.split("."))
    if key.endswith(".name") and _is_named(parent) and parent.name != value:
        parent.args = {}
    if is_dataclass(kind) and isinstance(value, dict):
        for name, entry in value.items():
            _assign(tree, f"{key}.{name}", entry)
        return
    try:
        OmegaConf.update(tree, key, value)
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{key}={format_value(value)}: {reason}; use e.g. {working_example(key, kind)}") from error


def _find_parent(tree: DictConfig, parts: list[str]) -> Any:
    """The node that holds the last part; None where `args` do not reach down to it yet."""
    node: Any = tree
    for depth, part in enumerate(parts):
        if isinstance(node, ListConfig):
            _check_index(node, ".".join(parts[:depth]), part)
        if depth < len(parts) - 1:
            node = node[int(part)] if isinstance(node, ListConfig) else node.get(part)
            if not isinstance(node, (DictConfig, ListConfig)):
                return None
    return node


def _is_named(node: Any) -> bool:
    kind = OmegaConf.get_type(node)
    return isinstance(kind, type) and issubclass(kind, NamedConfig)


def _check_index(entries: ListConfig, key: str, index: str) -> None:
    example = working_example(key, resolve_type(key))
    if not entries:
        raise UserError(f"{key}.{index}: the list {key} is empty; give it whole, e.g. {example}")
    if not index.isdigit() or int(index) >= len(entries):
        last = len(entries) - 1
        known = f"{key}.0" if last == 0 else f"{key}.0 to {key}.{last}"
        raise UserError(f"{key}.{index}: index out of range; there is {known}; or give it whole, e.g. {example}")


def _to_config(tree: DictConfig) -> Config:
    try:
        plain: Any = OmegaConf.to_container(tree, resolve=True)
        config: Any = OmegaConf.to_object(tree)
    except OmegaConfBaseException as error:
        where = f"{error.full_key}: " if error.full_key else ""
        raise UserError(f"{where}{str(error).splitlines()[0]}") from error
    bad = find_non_finite(plain)
    if bad:
        key, number = bad
        example = working_example(key, resolve_type(key))
        raise UserError(f"{key}={number} is not a finite number: use e.g. {example}")
    for key, entries in _named_lists(config):
        for index, entry in enumerate(entries):
            if not entry.name:
                raise UserError(f"{key}.{index} has no name: use e.g. {key}=[{{name: jpeg_compressibility}}]")
    return config


def _named_lists(section: Any, prefix: str = "") -> list[tuple[str, list[NamedConfig]]]:
    found: list[tuple[str, list[NamedConfig]]] = []
    for entry in fields(section):
        value = getattr(section, entry.name)
        if is_dataclass(value):
            found += _named_lists(value, f"{prefix}{entry.name}.")
        elif isinstance(value, list) and value and isinstance(value[0], NamedConfig):
            found.append((prefix + entry.name, value))
    return found


def config_yaml(config: Config) -> str:
    """The whole config as an experiment file that gives it back, under two comment lines."""
    header = f"# run folder: {config.run_dir or default_run_dir(config)}\n# {derive_batches(config).describe()}\n"
    return header + OmegaConf.to_yaml(OmegaConf.structured(config))


def config_hash(config: Config) -> str:
    """Eight hex digits over everything that shapes results: all keys but `UNHASHED`, and `YOUNGER` ones if given.

    Runs that differ in their seed, their length or the machine alone share it, and so do experiments of
    different names that say the same.
    """
    return settings_hash(asdict(config))


def settings_hash(settings: dict[str, Any]) -> str:
    """`config_hash` of settings as a file holds them, in nested dictionaries; it changes them."""
    default = Config()
    for key in (*UNHASHED, *YOUNGER):
        *sections, name = key.split(".")
        node = settings
        for part in sections:
            node = node.get(part) or {}
        if name in node and (key in UNHASHED or node[name] == get_value(default, key)):
            del node[name]
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def default_run_dir(config: Config) -> Path:
    """runs/EXPERIMENT-HASH-sSEED; an experiment given as a path counts by its file's name."""
    return Path("runs") / f"{Path(config.experiment).stem}-{config_hash(config)}-s{config.seed}"
