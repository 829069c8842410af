"""The stage of the campaign of inputs, made once."""

import pytest
from campaign.inputs.stage import Stage


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage.create(tmp_path_factory.mktemp("stage"))
