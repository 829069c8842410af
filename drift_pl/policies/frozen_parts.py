"""The frozen parts of a pipeline, its autoencoder and its text encoders, and the devices that they are on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import torch


class FrozenParts:
    """Part of a `PipelinePolicy`, whose pipeline it reads.

    Args:
        text_encoder_device: device of the text encoders, e.g. `cpu`; None to move them with the rest.
        offload: the autoencoder is in main memory until it is needed and after `rest`, text encoders but for the time
            in which they encode; see `encoding`.

    Attributes:
        text_parts: the pipeline's names of its text encoders.
    """

    pipeline: Any
    text_parts: ClassVar[tuple[str, ...]] = ("text_encoder",)

    def __init__(self, text_encoder_device: str | None, offload: bool) -> None:
        for part in (self.pipeline.vae, *self._text_encoders()):
            part.requires_grad_(False).eval()
        self._text_encoder_device, self._offload = text_encoder_device, offload
        self._home = torch.device("cpu")

    def to(self, device: torch.device | str) -> Self:
        self._home = torch.device(device)
        if self._offload:
            return self.rest()
        self.pipeline.vae.to(device)
        for part in self._text_encoders():
            part.to(device if self._text_encoder_device is None else self._text_encoder_device)
        return self

    def rest(self) -> Self:
        """The end of a phase that decodes or encodes: with `offload` the autoencoder and text encoders leave."""
        if self._offload:
            for part in (self.pipeline.vae, *self._text_encoders()):
                part.to("cpu")
        return self

    @contextmanager
    def encoding(self) -> Iterator[None]:
        """Within it the text encoders are where they encode."""
        if self._offload and self._text_encoder_device is None:
            for part in self._text_encoders():
                part.to(self._home)
        try:
            yield
        finally:
            if self._offload:
                for part in self._text_encoders():
                    part.to("cpu")

    @property
    def text_device(self) -> torch.device:
        """Where prompts are encoded."""
        if self._offload and self._text_encoder_device is None:
            return self._home
        return next(self._text_encoders()[0].parameters()).device

    def _text_encoders(self) -> list[Any]:
        """Those that the folder has."""
        parts = (getattr(self.pipeline, name) for name in self.text_parts)
        return [part for part in parts if part is not None]
