"""Settings: from files and command lines to a checked `Config`. No torch."""

from drift_pl.config.schema import Config

__all__ = ["Config"]
