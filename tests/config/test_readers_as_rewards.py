"""What measures a run is not what it is trained on."""

import pytest

from drift_pl.config.loading import parse
from drift_pl.core.errors import UserError

PICTOGRAMS, SHAPES = "drift_pl.builtin.emoji.reader:PictogramMeasure", "drift_pl.builtin.reader:AttributeMeasure"


@pytest.mark.parametrize("name", [PICTOGRAMS, SHAPES])
@pytest.mark.parametrize("experiment", ["shapes_div", "emoji_div"])
def test_a_reader_is_no_reward(experiment: str, name: str) -> None:
    """Of this world or of the other.

    Catches in config/schema.py: only the run's own measures are looked at.
    """
    with pytest.raises(UserError, match=rf"^rewards\.0\.name={name} measures .*use e\.g\. rewards="):
        parse([f"experiment={experiment}", f"rewards=[{{name: '{name}'}}]"])


def test_no_measure_of_a_run_is_its_reward() -> None:
    """Catches in config/schema.py: only the readers of this package are looked at."""
    measured = "evaluation.measures=[{name: 'their_package:Thing'}]"
    with pytest.raises(UserError, match=r"^rewards\.1\.name=their_package:Thing measures"):
        parse(["rewards=[{name: jpeg_compressibility}, {name: 'their_package:Thing'}]", measured])
    assert parse(["rewards=[{name: 'their_package:Thing'}]"]).config is not None
