"""Builds objects from settings and checkpoints; nothing else reads a `Config` to construct anything."""
