"""What the hub refuses, and what a device cannot do: one line that says what to accept, to lower or to give."""

from pathlib import Path

import httpx2
import pytest
import torch
from httpx2 import Request, Response
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from drift_pl.builders.hardware import accelerator_for, device_type, refuse_precision
from drift_pl.config.command import run_command
from drift_pl.core.errors import UserError, naming
from drift_pl.core.locate import load_pretrained


def hub_error(kind: type[Exception], status: int) -> Exception:
    """As huggingface_hub raises it."""
    request = Request("GET", "https://huggingface.co/org/model/resolve/main/config.json")
    return kind("refused", response=Response(status, request=request))


def refused_by_the_hub(error: Exception, wrapped: bool) -> UserError:
    """transformers and diffusers raise an OSError from the hub's error."""

    def loader(location: str) -> None:
        try:
            raise error
        except Exception as caught:
            if wrapped:
                raise OSError("You are trying to access something") from caught
            raise

    with naming("policy.pretrained"), pytest.raises(UserError) as refusal:
        load_pretrained(loader, "org/model")
    return refusal.value


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_gated_model_says_what_to_accept_and_which_key_takes_a_folder(wrapped: bool) -> None:
    message = str(refused_by_the_hub(hub_error(GatedRepoError, 403), wrapped))
    assert message.startswith("policy.pretrained=org/model: this model is gated: accept its terms at")
    assert "https://huggingface.co/org/model and log in" in message
    assert message.endswith("policy.pretrained=/path/to/folder")


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_missing_model_is_told_from_a_gated_one(wrapped: bool) -> None:
    message = str(refused_by_the_hub(hub_error(RepositoryNotFoundError, 404), wrapped))
    assert "neither a folder nor a model on the hub" in message
    assert "gated" not in message
    assert "policy.pretrained=/path/to/folder" in message


def test_another_error_of_the_hub_is_quoted() -> None:
    """Catches in core/locate.py: an error of the connection is called a damaged file."""
    for error in (OSError("no route to host"), httpx2.ConnectError("no route to host")):
        message = str(refused_by_the_hub(error, wrapped=False))
        assert "no such folder, and it could not be fetched from the hub (no route to host)" in message


def test_a_folder_that_cannot_be_loaded_is_not_called_missing(tmp_path: Path) -> None:
    def loader(location: str) -> None:
        raise ValueError("half a file")

    with pytest.raises(UserError, match="cannot be loaded: half a file"):
        load_pretrained(loader, str(tmp_path))


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("while_loading", [True, False])
def test_no_room_on_the_accelerator_names_three_keys(
    while_loading: bool, debug: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(location: str) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    def main(argv: list[str]) -> None:
        load_pretrained(full, "org/model") if while_loading else full("")

    assert run_command(main, ["--debug"] if debug else []) == 2
    captured = capsys.readouterr().err
    message = captured.splitlines()[-1]
    assert message.startswith("error: out of memory on the accelerator: lower objective.micro_batch")
    assert {"policy.resolution", "policy.max_sequence_length"} <= set(message.replace(";", "").split())
    assert ("Traceback" in captured) == debug


def test_other_faults_keep_their_traceback() -> None:
    def main(argv: list[str]) -> None:
        raise RuntimeError("a fault of ours")

    with pytest.raises(RuntimeError, match="a fault of ours"):
        run_command(main, [])


@pytest.mark.parametrize("accelerator", ["auto", "gpu"])
def test_bfloat16_on_a_device_without_it_is_refused(accelerator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Old Card")
    with pytest.raises(UserError, match=r"bf16-mixed: Old Card has no bfloat16; use trainer\.precision=32-true"):
        refuse_precision(accelerator, "bf16-mixed")
    refuse_precision(accelerator, "32-true")
    refuse_precision("cpu", "bf16-mixed")


@pytest.mark.parametrize(("cuda", "mps"), [(False, True), (True, False), (False, False)])
def test_a_mac_computes_on_its_cpu(cuda: bool, mps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """MPS has no float64, which Lightning, asked for `auto`, does not know.

    Catches in builders/hardware.py: a Mac's run fails in its first statistics.
    """
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert accelerator_for("auto") == ("cpu" if mps else "auto")
    assert accelerator_for("gpu") == ("cuda" if mps else "gpu")  # refused there, as anywhere without one
    assert [accelerator_for(name) for name in ("cpu", "cuda")] == ["cpu", "cuda"]
    assert device_type("auto") == device_type("gpu") == ("cuda" if cuda else "cpu")
