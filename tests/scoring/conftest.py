"""Names the rewards section, which errors of rewards refer to."""

from collections.abc import Iterator

import pytest

from drift_pl.core.errors import naming


@pytest.fixture(autouse=True)
def setting() -> Iterator[None]:
    with naming("rewards"):
        yield
