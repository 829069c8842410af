"""Notices of libraries that nobody can act on stay away, whichever is imported first."""

import logging

import pytest
from diffusers.utils import logging as diffusers_logging

from drift_pl.builders.quiet import quieten


def test_diffusers_is_quiet_when_it_is_imported_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its import does with its logger is done again here.

    Catches in builders/quiet.py: a level that the import of diffusers sets back, so that a prompt which is too long is
    told of for every image.
    """
    monkeypatch.delenv("DIFFUSERS_VERBOSITY", raising=False)
    with monkeypatch.context() as patched:
        patched.setattr(logging.getLogger("diffusers"), "level", logging.WARNING)
        quieten()
        diffusers_logging._reset_library_root_logger()
        diffusers_logging._configure_library_root_logger()
        assert not logging.getLogger("diffusers.pipelines").isEnabledFor(logging.WARNING)
