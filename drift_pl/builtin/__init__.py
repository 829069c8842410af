"""The built-in world: rendered scenes, their captions, an attribute reader, and the small models trained on them."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the shipped models, one subfolder each (see ``weights/README.md``)."""

PROMPTS = Path(__file__).parent / "prompts"
"""Folder with ``train.txt``, ``tuning.txt`` and ``test.txt``, one prompt per line."""

LOOSE = Path(__file__).parent / "loose"
"""The pipeline of ``weights/`` with a transformer that ignores its prompt half of the time (``loose/README.md``)."""
