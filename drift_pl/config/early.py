"""Cheap mistakes, found before torch is imported: modules and arguments, files, packages, servers' addresses.

Nothing that the settings name is imported for it: modules are searched for, and their text is read.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from drift_pl.config.checkpoints import find_checkpoints
from drift_pl.config.own_run import CONFIG
from drift_pl.config.prompt_rewards import LISTS, prompt_rewards
from drift_pl.config.schema import Config
from drift_pl.core.checkpoint_files import FOLDER
from drift_pl.core.errors import UserError, named, naming
from drift_pl.core.files import local_path, probe_folder
from drift_pl.core.json_files import read_model_index
from drift_pl.core.locate import locate, refuse_missing_extra
from drift_pl.core.modules import refuse_missing_thing
from drift_pl.core.prompt_files import DATASET, dataset_parts, read_metadata, read_prompt_file
from drift_pl.core.registry import TABLES, target_of
from drift_pl.core.servers import check_url, read_token
from drift_pl.core.signatures import CALLED_WITH, check_function, check_signature, without_folder
from drift_pl.core.sources import is_written_function, written_signature

FILES = ("pretrained", "processor", "head", "tokenizer")
"""Arguments of this package's rewards and encoders that may name a file or folder."""


class Thing(NamedTuple):
    """Something that a setting names.

    Attributes:
        kind: of the registry.
        setting: the section with its name and arguments, e.g. `rewards.0`; without arguments, the key of its name.
        args: None for what gets the keys of its section.
    """

    kind: str
    setting: str
    name: str
    args: Mapping[str, Any] | None

    @property
    def key(self) -> str:
        """The key of its name."""
        return self.setting if self.args is None or self.kind == "method" else f"{self.setting}.name"


def refuse_missing(
    config: Config, only: Sequence[str] = ("",), further: Sequence[Thing] = (), runs: bool = True
) -> None:
    """Looks for everything on this machine that a config names.

    Args:
        only: beginnings of the settings that are looked at.
        further: what a command names besides.
        runs: whether it is to run here, and needs optional packages and tokens, too.

    Raises:
        UserError: something is missing, or is not given the arguments that it takes.
    """
    beginnings = tuple(only)
    for thing in [*(each for each in things(config) if each.setting.startswith(beginnings)), *further]:
        _refuse_thing(thing, runs)
    if "policy.pretrained".startswith(beginnings):
        _refuse_pipeline(config)
    for key, name in (
        ("policy.lora.pretrained", config.policy.lora.pretrained),
        ("incentive.prompting.paraphrases", config.incentive.prompting.paraphrases),
        ("incentive.prompting.vocabulary", config.incentive.prompting.vocabulary),
    ):
        if name is not None and key.startswith(beginnings):
            with naming(key):
                _refuse_run(name, Path(locate(name)))
    looked_at = [which for which in LISTS if f"prompts.{which}".startswith(beginnings)]
    for which in looked_at:
        with naming(f"prompts.{which}"):
            _refuse_list(getattr(config.prompts, which), runs)
    prompt_rewards(config, looked_at)
    if config.prompts.cache_dir is not None and runs and "prompts.cache_dir".startswith(beginnings):
        with naming("prompts.cache_dir"):
            probe_folder(local_path(config.prompts.cache_dir))
    given = config.ckpt_path if "ckpt_path".startswith(beginnings) else None
    if given not in (None, "last", "auto") and not local_path(given).exists():
        find_checkpoints([given])  # says what there is


def _refuse_run(name: str, location: Path) -> None:
    """A run is no adapter yet.

    Raises:
        UserError: the folder of a run stands where its export is needed.
    """
    if (location / CONFIG).is_file() and (location / FOLDER).is_dir():
        raise UserError(
            f"{named(name)} is the folder of a run: export it, python -m drift_pl.export ckpt_path={name} out=my-lora, "
            f"and give {named('my-lora')}"
        )


def things(config: Config) -> Iterator[Thing]:
    """Everything that a config names and that a run makes."""
    evaluation, incentive, shaping = config.evaluation, config.incentive, config.incentive.shaping
    yield Thing("family", "policy.family", config.policy.family, None)
    yield Thing("sampler", "sampler.kind", config.sampler.kind, None)
    yield Thing("update", "objective.loss", config.objective.loss, None)
    for kind, setting, entries in (
        ("reward", "rewards", config.rewards),
        ("reward", "evaluation.rewards", evaluation.rewards),
        ("measure", "evaluation.measures", evaluation.measures),
        ("encoder", "incentive.shaping.encoders", shaping.encoders if shaping.weight else []),
        ("writer", "incentive.prompting.writers", config.incentive.prompting.writers),
        ("callback", "trainer.callbacks", config.trainer.callbacks),
        ("logger", "trainer.logger", config.trainer.logger),
    ):
        for number, entry in enumerate(entries):
            yield Thing(kind, f"{setting}.{number}", entry.name, entry.args)
    yield Thing("encoder", "evaluation.encoder", evaluation.encoder.name, evaluation.encoder.args)
    yield Thing("encoder", "evaluation.lpips", evaluation.lpips.name, evaluation.lpips.args)
    if shaping.weight and not shaping.encoders:
        yield Thing("encoder", "incentive.shaping.encoder", shaping.encoder.name, shaping.encoder.args)
    if incentive.method != "drift":
        args = {key: value for key, value in incentive.args.items() if key != "categories"}
        yield Thing("method", "incentive.method", incentive.method, args)


def _refuse_thing(thing: Thing, runs: bool) -> None:
    with naming(thing.key):
        target = target_of(thing.kind, thing.name)
        refuse_missing_thing(target)
    if thing.args is None:
        return
    with naming("incentive" if thing.kind == "method" else thing.setting):
        _refuse_arguments(thing, target)
        if thing.name in TABLES[thing.kind]:
            _refuse_own(thing, thing.args, runs)
        elif isinstance(thing.args.get("pretrained"), str):
            with naming(".args.pretrained"):
                _refuse_path(thing.args["pretrained"])


def _refuse_arguments(thing: Thing, target: str) -> None:
    signature, first = written_signature(target), CALLED_WITH.get(thing.kind)
    if signature and thing.kind == "logger":
        signature = without_folder(signature)
    if signature and first and is_written_function(target):
        check_function(thing.kind, thing.name, signature, thing.args or {})
    else:
        check_signature(thing.name, signature, thing.args or {})


def _refuse_own(thing: Thing, args: Mapping[str, Any], runs: bool) -> None:
    """What is known of this package's own rewards and encoders."""
    needs = TABLES[thing.kind][thing.name].needs
    if needs and runs:
        refuse_missing_extra(*needs)
    section = f"{'rewards' if thing.kind == 'reward' else thing.setting.rpartition('.')[0]}.args"
    for key, value in args.items():
        with naming(f".args.{key}"):
            if key in FILES and isinstance(value, str):
                locate(value)
            elif key == "metadata" and value:
                read_metadata([value] if isinstance(value, str) else value)
            elif key == "url":
                check_url(value, section)
            elif key == "token_env" and runs:
                read_token(value, section)


def _refuse_path(name: str) -> None:
    """Of somebody else's thing: what can be nothing but a path."""
    if name.startswith(("pkg:", "./", "../", "/", "~")):
        locate(name)


def _refuse_list(name: str, runs: bool) -> None:
    if not name.startswith(DATASET):
        read_prompt_file(name)
        return
    dataset_parts(name)
    if runs:
        refuse_missing_extra("datasets", "datasets", name)


def _refuse_pipeline(config: Config) -> None:
    """A folder of a model must be one of diffusers' pipelines.

    Raises:
        UserError: it is not.
    """
    name = config.policy.pretrained
    with naming("policy.pretrained"):
        folder = Path(locate(name))
        if not folder.exists() or config.policy.family not in TABLES["family"]:
            return
        try:
            read_model_index(folder)
        except ValueError as error:
            raise UserError(f"{named(name)}: cannot be loaded: {error}") from error
