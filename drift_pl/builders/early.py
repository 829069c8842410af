"""What is checked before any weights are loaded: imports, arguments against signatures, and what has no weights."""

import inspect
from collections.abc import Sequence

import lightning as L

from drift_pl.builders.method import build_method, build_update, categories_of
from drift_pl.builders.scoring import check_scorer
from drift_pl.builders.stochastic_steps import create_stochastic_step
from drift_pl.config.early import Thing, things
from drift_pl.config.schema import Config, NamedConfig
from drift_pl.core.errors import UserError, named, naming
from drift_pl.core.registry import find
from drift_pl.core.signatures import CALLED_WITH, check_overrides, check_signature, signature_of, without_folder
from drift_pl.incentive.methods.protocol import RewardMethod
from drift_pl.policies.load_options import loading_options
from drift_pl.policies.protocol import Policy
from drift_pl.sampling.stochastic import StochasticStep
from drift_pl.scoring.calls import switches_kept
from drift_pl.training.reporting import Observer
from drift_pl.training.updates.protocol import Update

BASES: dict[str, type] = {"callback": L.Callback, "method": RewardMethod, "sampler": StochasticStep}
"""Kind -> what its classes inherit from."""
MODELS: dict[str, Sequence[type]] = {"callback": (L.Callback, Observer), "family": (Policy,), "update": (Update,)}
"""Kind -> whose methods its classes replace, besides those of this package that they inherit from."""


def refuse_unfit(config: Config, only: Sequence[str] = ("",), further: Sequence[NamedConfig] = ()) -> None:
    """Imports everything that a config names, and makes none of it.

    Args:
        only: beginnings of the settings that are looked at.
        further: rewards besides the config's, of the setting `judges`.

    Raises:
        UserError: something is not there, cannot be imported, or does not take its arguments.
    """
    loading_options(config.policy.dtype, config.policy.quantisation, "")  # which refuses what cannot be done here
    for thing in things(config):
        if thing.setting.startswith(tuple(only)):
            with switches_kept():
                _import(thing)
    for number, judge in enumerate(further):
        check_scorer("reward", judge, f"judges.{number}")


def refuse_arguments(config: Config) -> None:
    """Makes once what a run makes without any weights: its method, its update and its stochastic steps.

    Raises:
        UserError: one of them does not take its arguments, or cannot be made of them.
    """
    build_update(config)
    create_stochastic_step(config)
    if build_method(config).reward_method.needs_categories:
        check_scorer("categories", categories_of(config), "incentive.args.categories")


def _import(thing: Thing) -> None:
    if thing.kind in CALLED_WITH:
        check_scorer(thing.kind, NamedConfig(name=thing.name, args=dict(thing.args or {})), thing.setting)
        return
    with naming(thing.key):
        found, base = find(thing.kind, thing.name), BASES.get(thing.kind)
        if base and inspect.isclass(found) and not issubclass(found, base):
            raise UserError(f"{named(repr(thing.name))} is no {base.__name__}: name a subclass of it")
        if inspect.isclass(found):
            inherited = [each for each in found.__mro__[1:] if each.__module__.startswith("drift_pl.")]
            for model in (*MODELS.get(thing.kind, ()), *inherited):
                check_overrides(found, model)
    if thing.args is None:
        return
    with naming("incentive" if thing.kind == "method" else thing.setting):
        signature = signature_of(found)
        if signature and thing.kind == "logger":
            signature = without_folder(signature)
        check_signature(thing.name, signature, thing.args)
