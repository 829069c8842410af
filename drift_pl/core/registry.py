"""Every name that a setting may hold and what it stands for. Strings alone: reading them imports neither torch nor us.

A new family, sampler, update, reward, encoder, measure, method, callback or logger of this package is a file and a line
here. One of another package needs no line: `their_package.module:Thing`, or an entry point of that package.
"""

import difflib
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, NamedTuple

from drift_pl.core.errors import UserError, named, naming


class Entry(NamedTuple):
    """What a name stands for.

    Attributes:
        target: `module:Thing`, below this package.
        about: one line for `--help`.
        process: of families and samplers, `flow` or `ddpm`: those of one process go together.
    """

    target: str
    about: str
    process: str = ""


@dataclass(frozen=True)
class Table:
    """The names of one kind.

    Attributes:
        entries: name -> entry, in the order in which they are listed.
        group: entry point group under which other packages offer names; empty for none.
    """

    entries: Mapping[str, Entry]
    group: str = ""


TABLES: dict[str, Table] = {
    "family": Table(
        {
            "sd3": Entry("policies.sd3:StableDiffusion3Policy", "Stable Diffusion 3 and 3.5", "flow"),
            "flux": Entry("policies.flux:FluxPolicy", "FLUX.1", "flow"),
            "zimage": Entry("policies.zimage:ZImagePolicy", "Z-Image", "flow"),
            "sd15": Entry("policies.unet:StableDiffusionPolicy", "Stable Diffusion 1.x and 2.x", "ddpm"),
            "sdxl": Entry("policies.unet:StableDiffusionXLPolicy", "SDXL", "ddpm"),
        },
        "drift_pl.families",
    ),
    "sampler": Table(
        {
            "flow_sde": Entry("sampling.rollout:Sampler", "Flow-GRPO", "flow"),
            "dance_sde": Entry("sampling.rollout:Sampler", "DanceGRPO", "flow"),
            "flow_cps": Entry("sampling.rollout:Sampler", "Flow-CPS", "flow"),
            "ddim": Entry("sampling.rollout:Sampler", "DDIM with eta, as in DDPO", "ddpm"),
        },
        "drift_pl.samplers",
    ),
    "update": Table(
        {
            "surrogate": Entry("training.updates.clipped:ClippedUpdate", "clipped surrogate of the sampled steps"),
            "nft": Entry("training.updates.forward:ForwardUpdate", "DiffusionNFT, by the images noised anew"),
        },
        "drift_pl.updates",
    ),
    "reward": Table(
        {
            "pickscore": Entry("scoring.pickscore:PickScore", "PickScore: human preference, by CLIP"),
            "hps": Entry("scoring.hps:HpsV2", "HPSv2: human preference, by CLIP"),
            "imagereward": Entry("scoring.image_reward:ImageReward", "ImageReward: human preference, by BLIP"),
            "clip_score": Entry("scoring.clip_score:ClipScore", "CLIPScore: text-image similarity"),
            "aesthetic": Entry("scoring.aesthetic:Aesthetic", "the LAION aesthetic predictor"),
            "ocr": Entry("scoring.ocr:Ocr", "the share of the prompt's quoted text that is read in the image"),
            "jpeg_compressibility": Entry("scoring.compressibility:JpegCompressibility", "a small JPEG file"),
            "jpeg_incompressibility": Entry("scoring.compressibility:JpegIncompressibility", "a large JPEG file"),
            "http_judge": Entry("scoring.http:HttpJudge", "scores of a server of your own"),
            "chat_judge": Entry("scoring.http:ChatJudge", "scores of a vision-language model behind a chat endpoint"),
        },
        "drift_pl.rewards",
    ),
    "encoder": Table(
        {
            "dino": Entry("scoring.encoders:PooledEncoder", "the pooled output of a transformers vision model"),
            "pooled": Entry("scoring.encoders:PooledEncoder", "the same, by another name"),
            "clip": Entry("scoring.encoders:ClipEncoder", "CLIP's image embedding"),
            "dreamsim": Entry("scoring.dreamsim:DreamSim", "DreamSim's embedding"),
            "lpips": Entry("scoring.encoders:LpipsEncoder", "LPIPS: distances of all pairs"),
        },
        "drift_pl.encoders",
    ),
    "measure": Table(
        {
            "rke": Entry("evaluation.metrics:RkeScore", "Renyi kernel entropy score"),
            "nearest_distance": Entry("evaluation.metrics:MeanNearestDistance", "distance to the nearest other image"),
            "pairwise_ssim": Entry("evaluation.metrics:PairwiseSsim", "structural similarity of pairs"),
            "fid": Entry("evaluation.metrics:FrechetDistance", "Frechet distance from the base model's images"),
            "kid": Entry("evaluation.metrics:KernelDistance", "kernel distance from the base model's images"),
        },
        "drift_pl.measures",
    ),
    "method": Table(
        {
            "gardo": Entry("incentive.methods.gardo:Gardo", "GARDO"),
            "diverse_grpo": Entry("incentive.methods.diverse_grpo:DiverseGrpo", "DiverseGRPO"),
            "inverse_probability": Entry(
                "incentive.methods.inverse_probability:InverseProbability", "inverse-probability scaling"
            ),
            "dra": Entry("incentive.methods.dra:Dra", "DRA"),
            "max_at_k": Entry("incentive.methods.max_at_k:MaxAtK", "Max@K"),
        },
        "drift_pl.rivals",
    ),
    "categories": Table({}, "drift_pl.categories"),
    "callback": Table(
        {
            "diversity_monitor": Entry(
                "training.callbacks.diversity:DiversityMonitor", "diversity of the training groups"
            ),
        },
        "drift_pl.callbacks",
    ),
    "logger": Table(
        {
            "tensorboard": Entry("training.loggers:tensorboard", "TensorBoard events"),
            "csv": Entry("training.loggers:csv", "metrics.csv"),
        }
    ),
}


def names(kind: str) -> tuple[str, ...]:
    """This package's names of a kind, in order."""
    return tuple(TABLES[kind].entries)


def find(kind: str, name: str) -> Any:
    """The class or function of a name: of the table, then `package.module:Thing`, then other packages' entry points.

    Raises:
        UserError: there is none; the message names the setting (see `naming`) and lists those that there are.
    """
    table = TABLES[kind]
    if name in table.entries:
        return _import(f"drift_pl.{table.entries[name].target}")
    if ":" in name:
        return _import(name)
    offered = {entry.name: entry for entry in entry_points(group=table.group)} if table.group else {}
    if name in offered:
        return offered[name].load()
    known = [*table.entries, *offered]
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else "or name your own, their_package.module:Thing"
    raise UserError(f"{named(repr(name))} is unknown: there are {', '.join(known) or 'none built in'}; {hint}")


def create(kind: str, name: str, args: Mapping[str, Any]) -> Any:
    """Calls the thing of a name with `args`, checked against its signature first.

    The setting around it (see `naming`) is the section that holds `name` and `args`.

    Raises:
        UserError: unknown name, or arguments that the thing does not take or lacks.
    """
    with naming(".name"):
        thing = find(kind, name)
    check_arguments(name, thing, args)
    return thing(**args)


def check_arguments(name: str, thing: Any, args: Mapping[str, Any]) -> None:
    """Refuses arguments that a callable does not take, and missing ones.

    Raises:
        UserError: one line that names the argument and those that exist.
    """
    try:
        signature = inspect.signature(thing)
    except ValueError:  # some built-in classes have none; calling them will tell
        return
    try:
        signature.bind(**args)
    except TypeError as error:
        takes = ", ".join(str(parameter) for parameter in signature.parameters.values()) or "none"
        with naming(".args"):
            raise UserError(f"{named()}: {error} for {name!r}; its arguments are: {takes}") from error


def _import(name: str) -> Any:
    module_name, _, attribute = name.partition(":")
    try:
        thing = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{named(repr(name))} cannot be imported: {error}") from error
    if not callable(thing):
        raise UserError(f"{named(repr(name))} is not a class or a function")
    return thing
