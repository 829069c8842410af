"""What tells runs of one experiment apart: those with different settings are no seeds of one thing. No torch."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drift_pl.config.identity import run_settings
from drift_pl.config.inputs import kept_mark
from drift_pl.config.section import value_text
from drift_pl.core.servers import without_queries

if TYPE_CHECKING:  # which imports this
    from drift_pl.reports.finished_run import FinishedRun

SHOWN, LONGEST = 4, 48
"""Settings that a name holds at most, and characters of a value."""
Settings = dict[str, Any]


def variants(runs: Sequence["FinishedRun"]) -> list[str]:
    """For each run what tells it from others of its experiment, e.g. `objective.kl_weight=0.1`; empty if nothing does.

    Runs of one experiment with one variant are seeds of one thing. A run's name counts only where a seed would else
    come twice: it is often given to every seed.
    """
    found = [""] * len(runs)
    for experiment in dict.fromkeys(run.experiment for run in runs):
        places = [place for place, run in enumerate(runs) if run.experiment == experiment]
        for place, variant in zip(places, _of_one_experiment([runs[place] for place in places]), strict=True):
            found[place] = variant
    return found


def named(experiment: str, variant: str) -> str:
    """E.g. `shapes_div (objective.kl_weight=0.1)`."""
    return f"{experiment} ({variant})" if variant else experiment


def _of_one_experiment(runs: Sequence["FinishedRun"]) -> list[str]:
    settings = _settings(runs)
    for places in _alike(settings):
        if len({runs[place].summary["seed"] for place in places}) < len(places):
            for place in places:
                config = runs[place].config
                settings[place] |= {"run_name": config.run_name} if config else {}
    groups = _alike(settings)
    names = _names([settings[places[0]] for places in groups], [runs[places[0]].folder for places in groups])
    found = {place: name for places, name in zip(groups, names, strict=True) for place in places}
    return [found[place] for place in range(len(runs))]


def _settings(runs: Sequence["FinishedRun"]) -> list[Settings]:
    """Dotted key -> value of all settings that shape results but the seed; of runs by what all of them have.

    Where a config.yaml cannot be read it is the hash in the summaries, and nothing where one has none.
    """
    configs = [run.config for run in runs if run.config]
    if len(configs) < len(runs):
        hashes = [run.summary.get("config_hash") for run in runs]
        return [{} if None in hashes else {"config_hash": each} for each in hashes]
    marks = [kept_mark(run.folder) for run in runs]
    inputs = [mark.inputs if mark else {} for mark in marks]
    found = []
    for config, digests in zip(configs, inputs, strict=True):
        settings = {key: value for key, value in run_settings(config).items() if key != "seed"}
        # a file counts by its content, wherever it lies
        known = [key for key in settings if all(key in each for each in inputs)]
        found.append(settings | {key: f"{Path(str(settings[key])).name} ({digests[key]})" for key in known})
    return found


def _alike(settings: Sequence[Settings]) -> list[list[int]]:
    """Places of equal settings, in the order of the first of each."""
    groups: dict[str, list[int]] = {}
    for place, each in enumerate(settings):
        groups.setdefault(_key(each), []).append(place)
    return list(groups.values())


def _names(settings: Sequence[Settings], folders: Sequence[Path]) -> list[str]:
    """A name for each of different settings, by the keys that differ; with a folder where these are too many."""
    keys = dict.fromkeys(key for each in settings for key in each)
    differing = [key for key in keys if len({_key(each.get(key)) for each in settings}) > 1]
    more = [f"and {len(differing) - SHOWN} more"] if len(differing) > SHOWN else []
    names = [", ".join([*_shown(each, differing[:SHOWN]), *more]) for each in settings]
    if len(set(names)) < len(names):
        names = [", ".join(filter(None, [name, str(folder)])) for name, folder in zip(names, folders, strict=True)]
    return names


def _shown(settings: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    texts = {key: without_queries(value_text(settings[key])) for key in keys if key in settings}
    return [f"{key}={text if len(text) <= LONGEST else text[: LONGEST - 3] + '...'}" for key, text in texts.items()]


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
