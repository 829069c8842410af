"""A pipeline's folder: where it is, which parts it has, and the pipeline that diffusers makes of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.utils import logging as diffusers_logging
from torch import nn

from drift_pl.core.json_files import read_model_index
from drift_pl.core.registry import find, names
from drift_pl.policies.load_options import refuse_two_halves
from drift_pl.policies.pipeline import PipelinePolicy
from drift_pl.policies.stored import StoredNetwork, stored_dtype


def load_pipeline(
    family: type[PipelinePolicy],
    left_out: Sequence[str],
    location: str,
    revision: str | None = None,
    autocast: str | None = None,
    **options: Any,
) -> Any:
    """The pipeline of a folder or hub id, prepared for its family.

    Parts that the folder's index lists as null are passed as None, as diffusers wants it.

    Args:
        left_out: parts that are not loaded, nor downloaded, though they may be there.
        revision: of a hub id.
        autocast: see `refuse_two_halves`.
        options: further arguments of `from_pretrained`. Without a `dtype` the denoiser keeps its files' own, where
            diffusers makes it float32.

    Raises:
        OSError, ValueError: there is none, or it belongs to another family.
        UserError: its weights stay in one half precision, and the run computes in the other.
    """
    diffusers_logging.disable_progress_bar()  # of loading from disk; downloads from the hub keep theirs
    folder = _local_folder(family, left_out, location, revision)
    entries = read_index(family, folder, left_out)
    missing = [part for part in family.optional_parts if entries.get(part, [None, None])[0] is None]
    absent = dict.fromkeys([*missing, *left_out])
    if "dtype" not in options and (dtype := stored_dtype(folder / family.denoiser)) != torch.float32:
        refuse_two_halves(str(folder / family.denoiser), dtype, autocast)
        options["dtype"] = {"default": None, family.denoiser: dtype, "vae": torch.float32}
    level = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity(diffusers_logging.CRITICAL)  # it logs what it then raises
    try:
        pipeline = family.pipeline_class.from_pretrained(str(folder), **absent, **family.load_options, **options)
    finally:
        diffusers_logging.set_verbosity(level)
    pipeline = family.prepare(pipeline)  # first: it says what a model is that has other layers on purpose
    _refuse_missing_weights({name: part for name, part in pipeline.components.items() if name not in options})
    return pipeline


def _local_folder(
    family: type[PipelinePolicy], left_out: Sequence[str], location: str, revision: str | None = None
) -> Path:
    """A folder itself; of a hub id the folder that its files are downloaded to, but for those of parts left out."""
    if Path(location).exists():
        return Path(location)
    pinned = {} if revision is None else {"revision": revision}
    return Path(family.pipeline_class.download(location, **family.load_options, **dict.fromkeys(left_out), **pinned))


def _refuse_missing_weights(parts: Mapping[str, Any]) -> None:
    """Diffusers leaves a weight that is not in the files without memory, and says nothing.

    Args:
        parts: of a pipeline, that were read from its folder.

    Raises:
        ValueError: there is one; the message names the first.
    """
    for part, network in parts.items():
        for name, parameter in network.named_parameters() if isinstance(network, nn.Module) else ():
            if parameter.is_meta:
                raise ValueError(f"{name} of its {part} is not in the files")


def read_index(family: type[PipelinePolicy], folder: Path, left_out: Sequence[str] = ()) -> dict[str, Any]:
    """The parts of a pipeline's folder, which must be there but for those left out.

    Raises:
        OSError, ValueError: it is none, or it belongs to another family.
    """
    entries = read_model_index(folder)
    held, expected = entries.get("_class_name"), family.pipeline_class.__name__
    if held != expected:
        fitting = [name for name in names("family") if find("family", name).pipeline_class.__name__ == held]
        remedy = f": use policy.family={fitting[0]}" if fitting else ""
        raise ValueError(f"it holds a {held}, and policy.family={family.family} needs a {expected}{remedy}")
    for part, entry in entries.items():
        listed = isinstance(entry, list) and entry and entry[0] is not None
        if listed and part not in (*family.load_options, *left_out) and not (folder / part).is_dir():
            raise OSError(f"its folder {part} is missing")
    return entries


def find_denoiser(
    family: type[PipelinePolicy],
    left_out: Sequence[str],
    dtype: torch.dtype | None,
    location: str,
    revision: str | None = None,
) -> tuple[StoredNetwork, nn.Module]:
    """The denoiser of a folder, or of a hub id, whose files are downloaded: where it is stored, and without weights.

    Raises:
        OSError, ValueError: there is none, or it cannot be read by rows.
    """
    folder = _local_folder(family, left_out, location, revision)
    kind = getattr(diffusers, read_index(family, folder, left_out)[family.denoiser][1])
    part = folder / family.denoiser
    stored = StoredNetwork(part, kind, dtype or stored_dtype(part))
    network = stored.skeleton()
    stored.refuse_others(network)
    return stored, network
