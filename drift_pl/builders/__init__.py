"""The one place where settings and checkpoints become objects."""
