"""Weights published as a single file: found in a folder or on the hub, read as tensors only."""

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from drift_pl.core.errors import UserError, named
from drift_pl.core.locate import first_line, load_pretrained, locate


def find_file(name: str, filename: str, revision: str | None = None) -> Path:
    """Path of a file, downloaded from the hub if necessary.

    Args:
        name: the file itself, a folder (or pkg:PACKAGE/FOLDER) that contains `filename`, or a hub id.
        filename: its name in a folder or on the hub.
        revision: branch, tag or commit on the hub; None for its main branch.

    Raises:
        UserError: there is no such file.
    """
    path = Path(locate(name))
    if path.is_file():
        return path
    if path.is_dir():
        if not (path / filename).is_file():
            raise UserError(f"{named(name)}: {path} holds no {filename}; give a folder that does, or the file itself")
        return path / filename
    return Path(load_pretrained(partial(hf_hub_download, filename=filename, revision=revision), name))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a .pt or .pth file by torch's weights-only loader.

    Tensors may also be under the key `state_dict`. Half-precision tensors become float32.

    Args:
        path: the file.

    Raises:
        UserError: the file is damaged, or is not a dictionary of tensors.
    """
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{named()}: {path} is damaged or holds more than tensors, so it is not opened; "
            "give a .safetensors file, or a .pt file of a state dict"
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        raise UserError(f"{named()}: {path} cannot be read as weights: {first_line(error)}") from error
    tensors = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise UserError(f"{named()}: {path} is not a dictionary of tensors; give the file of a state dict")
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def whole(model: Any) -> Callable[..., Any]:
    """`from_pretrained` of a transformers class, which draws weights that are not in the files at random.

    Raises (when called):
        ValueError: there are such weights; the message names the first.
    """

    def load(location: str, **options: Any) -> Any:
        loaded, report = model.from_pretrained(location, output_loading_info=True, **options)
        missing = sorted(report["missing_keys"])
        if missing:
            more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ValueError(f"its files lack the weight {missing[0]}{more}")
        return loaded

    return load


def load_exactly(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Strict `load_state_dict` that reports mismatches in one line.

    Raises:
        UserError: a tensor is missing, unknown or of another shape.
    """
    own = module.state_dict()
    faults = [f"{name} is missing" for name in own if name not in tensors]
    faults += [f"{name} is unknown" for name in tensors if name not in own]
    faults += [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    if faults:
        more = f", and {len(faults) - 1} more mismatches" if len(faults) > 1 else ""
        raise UserError(f"{named()}: these are not the weights of a {type(module).__name__}: {faults[0]}{more}")
    module.load_state_dict(tensors)
