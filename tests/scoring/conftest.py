"""Where rewards stand in a config, so that their errors name it."""

from collections.abc import Iterator

import pytest

from drift_pl.core.errors import naming


@pytest.fixture(autouse=True)
def setting() -> Iterator[None]:
    with naming("rewards"):
        yield
