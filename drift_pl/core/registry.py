"""The registry: every name that a setting may have and the class behind it, as strings that import nothing.

A new family, sampler, update, reward, encoder, measure, method, callback or logger of this package is a file and a line
here. Classes of other packages need no line: use `their_package.module:Thing`, or an entry point of that package.
"""

import difflib
import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, NamedTuple

from drift_pl.core.errors import UserError, named, naming
from drift_pl.core.foreign import described
from drift_pl.core.signatures import check_signature, signature_of


class Entry(NamedTuple):
    """A registered name.

    Attributes:
        target: `module:Thing`, relative to this package.
        about: one line for `--help`.
        process: for families and samplers, `flow` or `ddpm`; only those of the same process work together. For
            updates, the only process whose families they train.
        needs: an optional package, and the extra of this one that installs it.
        pairs: for encoders, whether it gives distances of pairs in place of embeddings.
        frames: for families, whether they make videos.
        replays: for updates, whether it trains on the sampled steps, under the conditions that they were sampled under.
    """

    target: str
    about: str
    process: str = ""
    needs: tuple[str, str] | None = None
    pairs: bool = False
    replays: bool = False
    frames: bool = False


TABLES: dict[str, dict[str, Entry]] = {
    "family": {
        "sd3": Entry("policies.sd3:StableDiffusion3Policy", "Stable Diffusion 3 and 3.5", "flow"),
        "flux": Entry("policies.flux:FluxPolicy", "FLUX.1", "flow"),
        "zimage": Entry("policies.zimage:ZImagePolicy", "Z-Image", "flow"),
        "qwen_image": Entry("policies.qwen_image:QwenImagePolicy", "Qwen-Image", "flow"),
        "flux2_klein": Entry("policies.flux2:Flux2KleinPolicy", "FLUX.2 [klein]", "flow"),
        "sana": Entry("policies.sana:SanaPolicy", "Sana", "flow"),
        "wan": Entry("policies.wan:WanPolicy", "Wan 2.1 text-to-video", "flow", frames=True),
        "sd15": Entry("policies.unet:StableDiffusionPolicy", "Stable Diffusion 1.x and 2.x", "ddpm"),
        "sdxl": Entry("policies.unet:StableDiffusionXLPolicy", "SDXL", "ddpm"),
    },
    "sampler": {
        "flow_sde": Entry("sampling.stochastic:FlowSde", "Flow-GRPO's SDE; published noise level 0.7", "flow"),
        "dance_sde": Entry("sampling.stochastic:DanceSde", "DanceGRPO's SDE; published noise level 0.3", "flow"),
        "flow_cps": Entry("sampling.stochastic:FlowCps", "Flow-CPS; published noise level 0.8", "flow"),
        "ddim": Entry("sampling.stochastic:Ddim", "DDPO: DDIM, noise level = eta; published 1, with 50 steps", "ddpm"),
    },
    "update": {
        "surrogate": Entry("training.updates.clipped:ClippedUpdate", "clipped, on the sampled steps", replays=True),
        "flow_dppo": Entry("training.updates.divergence:FlowDppoUpdate", "masked by the exact KL", replays=True),
        "nft": Entry(
            "training.updates.nft:NftUpdate", "DiffusionNFT, by default its loss on policy; for flows", "flow"
        ),
        "awm": Entry("training.updates.matching:MatchingUpdate", "advantage-weighted matching; for flows", "flow"),
    },
    "reward": {
        "pickscore": Entry("scoring.pickscore:PickScore", "PickScore: human preference, by CLIP"),
        "hps": Entry("scoring.hps:HpsV2", "HPSv2: human preference, by CLIP"),
        "imagereward": Entry("scoring.image_reward:ImageReward", "ImageReward: human preference, by BLIP"),
        "clip_score": Entry("scoring.clip_score:ClipScore", "CLIPScore: text-image similarity"),
        "siglip2": Entry("scoring.siglip2:Siglip2", "SigLIP 2: text-image similarity"),
        "aesthetic": Entry("scoring.aesthetic:Aesthetic", "the LAION aesthetic predictor"),
        "ocr": Entry(
            "scoring.ocr:Ocr",
            "the share of the prompt's quoted text that OCR reads in the image",
            needs=("rapidocr", "ocr"),
        ),
        "jpeg_compressibility": Entry("scoring.compressibility:JpegCompressibility", "small JPEG size"),
        "jpeg_incompressibility": Entry("scoring.compressibility:JpegIncompressibility", "large JPEG size"),
        "vote": Entry("scoring.vote:Vote", "people: a local page on which they rank or click the images of a group"),
        "http_judge": Entry("scoring.http:HttpJudge", "scores from your own HTTP server"),
        "chat_judge": Entry("scoring.http:ChatJudge", "scores from a vision-language model behind a chat endpoint"),
    },
    "encoder": {
        "dino": Entry("scoring.encoders:PooledEncoder", "the pooled output of a transformers vision model"),
        "pooled": Entry("scoring.encoders:PooledEncoder", "an alias of dino"),
        "clip": Entry("scoring.encoders:ClipEncoder", "CLIP's image embedding"),
        "dreamsim": Entry("scoring.dreamsim:DreamSim", "DreamSim's embedding", needs=("dreamsim", "dreamsim")),
        "lpips": Entry("scoring.encoders:LpipsEncoder", "LPIPS: distances of all pairs", pairs=True),
    },
    "measure": {
        "rke": Entry("evaluation.metrics:RkeScore", "RKE: the Vendi score of order 2"),
        "nearest_distance": Entry("evaluation.metrics:MeanNearestDistance", "distance to the nearest other image"),
        "pairwise_ssim": Entry("evaluation.metrics:PairwiseSsim", "1 - SSIM: layout and pixels"),
        "fid": Entry("evaluation.metrics:FrechetDistance", "Frechet distance from the base model"),
        "kid": Entry("evaluation.metrics:KernelDistance", "kernel distance from the base model"),
    },
    "method": {
        "gardo": Entry("incentive.methods.gardo:Gardo", "GARDO"),
        "diverse_grpo": Entry("incentive.methods.diverse_grpo:DiverseGrpo", "DiverseGRPO"),
        "inverse_probability": Entry("incentive.methods.inverse_probability:InverseProbability", "IPS-GRPO"),
        "dra": Entry("incentive.methods.dra:Dra", "DRA"),
        "max_at_k": Entry("incentive.methods.max_at_k:MaxAtK", "Max@K"),
    },
    "categories": {},
    "writer": {
        "chat": Entry("scoring.writer:ChatWriter", "a language model behind a chat endpoint writes expansions"),
    },
    "callback": {
        "diversity_monitor": Entry("training.callbacks.diversity:DiversityMonitor", "diversity of the training groups"),
    },
    "logger": {
        "tensorboard": Entry("training.loggers:tensorboard", "TensorBoard events"),
        "csv": Entry("training.loggers:csv", "metrics.csv"),
        "wandb": Entry("training.loggers:wandb", "Weights & Biases", needs=("wandb", "wandb")),
    },
}
"""Kind -> name -> entry, in the order in which names are listed."""

GROUPS = {
    "family": "drift_pl.families",
    "sampler": "drift_pl.samplers",
    "update": "drift_pl.updates",
    "reward": "drift_pl.rewards",
    "encoder": "drift_pl.encoders",
    "measure": "drift_pl.measures",
    "method": "drift_pl.rivals",
    "categories": "drift_pl.categories",
    "writer": "drift_pl.writers",
    "callback": "drift_pl.callbacks",
}
"""Kind -> entry point group for names from other packages."""


def names(kind: str) -> tuple[str, ...]:
    """This package's names of a kind, in order."""
    return tuple(TABLES[kind])


def target_of(kind: str, name: str) -> str:
    """`module:Thing` of a name: from the table, else the name itself, else an entry point. Imports nothing.

    Raises:
        UserError: unknown name; the message names the setting (see `naming`) and lists the known names.
    """
    table = TABLES[kind]
    if name in table:
        return f"drift_pl.{table[name].target}"
    if ":" in name:
        return name
    offered = {entry.name: entry for entry in entry_points(group=GROUPS[kind])} if kind in GROUPS else {}
    if name in offered:
        return offered[name].value
    known = [*table, *offered]
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else "or name your own, their_package.module:Thing"
    raise UserError(f"{named(repr(name))} is unknown: there are {', '.join(known) or 'none built in'}; {hint}")


def find(kind: str, name: str) -> Any:
    """The class or function of a name, see `target_of`.

    Raises:
        UserError: unknown name, or it cannot be imported.
    """
    return _import(target_of(kind, name))


def create(kind: str, name: str, args: Mapping[str, Any]) -> Any:
    """Calls the class or function of a name with `args`, after checking them against its signature.

    The enclosing setting (see `naming`) is the section with `name` and `args`.

    Raises:
        UserError: unknown name, unknown or missing arguments, or the call fails.
    """
    with naming(".name"):
        thing = find(kind, name)
    check_signature(name, signature_of(thing), args)
    return construct(name, thing, args)


def construct(name: str, thing: Any, args: Mapping[str, Any]) -> Any:
    """`thing(**args)`.

    Raises:
        UserError: it raises an error; the message says which and where.
    """
    try:
        return thing(**args)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        if type(error).__name__ == "OutOfMemoryError":  # by name: this module does not import torch
            raise
        raise UserError(f"{named(repr(name))} cannot be made: {described(error)}") from error


def _import(name: str) -> Any:
    module_name, _, attribute = name.partition(":")
    try:
        thing = getattr(importlib.import_module(module_name), attribute, None)
    except (Exception, SystemExit) as error:  # whatever the module does when it is imported
        missing = isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}.")
        reason = str(error) if missing else described(error)
        raise UserError(f"{named(repr(name))} cannot be imported: {reason}") from error
    if thing is None:
        reason = f"module {module_name!r} has no attribute {attribute!r}"
        raise UserError(f"{named(repr(name))} cannot be imported: {reason}")
    if not callable(thing):
        raise UserError(f"{named(repr(name))} is not a class or a function")
    return thing
