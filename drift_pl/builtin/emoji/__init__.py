"""The second built-in world: pictograms of five makers' styles, so that the modes of a prompt are known and countable.

`things.py` names what is drawn, `captions.py` speaks of it, `reader.py` tells what an image shows and in which style.
The models trained on these pictures are in `weights/`, with their licences; `benchmarks/builtin_models/` makes them.
"""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the shipped models and of the pictures that the reader compares with (see `weights/README.md`)."""

PROMPTS = Path(__file__).parent / "prompts"
"""Folder with `train.txt`, `tuning.txt` and `test.txt`, one prompt per line."""
