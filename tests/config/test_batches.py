"""Batch arithmetic: numbers of processes that work, and the largest one where another does not."""

import pytest

from drift_pl.config.batches import derive_batches
from drift_pl.config.loading import build_config
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError


def pickscore_div(devices: int, num_nodes: int = 1, **changes: object) -> Config:
    """48 groups of 24 images in two optimizer steps."""
    settings = {"trainer.devices": devices, "trainer.num_nodes": num_nodes, **changes}
    return build_config([("experiment", "pickscore_div"), *((key, str(value)) for key, value in settings.items())])


@pytest.mark.parametrize(
    ("devices", "nodes", "groups", "images"),
    [(1, 1, 48, 1152), (8, 1, 6, 144), (8, 3, 2, 48), (8, 2, 0, 72), (8, 4, 0, 36), (8, 6, 0, 24), (7, 1, 0, 166)],
)
def test_any_number_of_processes_works(devices: int, nodes: int, groups: int, images: int) -> None:
    """Whole groups on divisors of 24; of 576 images on seven processes, one has 83 at most, twice.

    Catches in config/batches.py: images per process rounded down.
    """
    batches = derive_batches(pickscore_div(devices, nodes))
    assert (batches.groups_per_process, batches.images_per_process) == (groups, images)
    assert batches.images_per_update == 576
    said = f"{groups} groups" if groups else "groups split over processes"
    assert f"1152 images per iteration ({said}, {images} images per process)" in batches.describe()


def test_as_many_processes_as_images_of_an_optimizer_step_work_and_no_more() -> None:
    assert derive_batches(pickscore_div(8, 72)).images_per_process == 2
    with pytest.raises(UserError, match=r"are 584 processes for the 576 images of an optimizer .*use at most 576"):
        pickscore_div(8, 73)


def test_updates_share_the_groups() -> None:
    """Catches in config/batches.py: groups that no optimizer step has."""
    changes = {"objective.updates": 5}
    with pytest.raises(UserError, match=r"per_iteration=48 cannot be shared by objective\.updates=5 .*e\.g\. 45 or 50"):
        pickscore_div(1, **changes)
