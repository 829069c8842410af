"""The room of a world of protocol 2: what perfect methods could do, and the model before it was loosened.

    python benchmarks/fronts/room_of_world.py b        # docs/results/benchmark/room-b.json

As `room.py`, on the test prompts and with the diversity of worlds b and c: images of the base model, reweighted as a
perfect KL would, or a perfect KL with shaping. `page` prints what of it each method keeps. For world b also the values
of the model that it was loosened from, measured as the base model of the tables is.
"""

import argparse
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benchmark import PLAN, RESULTS
from benchmark_room import room_file
from optima import Samples, explore, front_of
from plan import Tier, read_plan
from room import AttributeEncoder, sample_base, score
from torch import Tensor

from drift_pl.builders.bench import build_bench
from drift_pl.builders.quiet import quieten
from drift_pl.builders.run import build_policy
from drift_pl.builders.scoring import build_encoder, build_rewards, build_shaping_encoder, prompts_of
from drift_pl.builtin.emoji.reader import PictogramMeasure
from drift_pl.builtin.reader import AttributeMeasure
from drift_pl.config.command import run_command
from drift_pl.config.loading import parse
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError
from drift_pl.core.files import write_json
from drift_pl.evaluation.sampling import Model


@dataclass(frozen=True)
class World:
    """
    Attributes:
        levers: the method whose shaping encoders are explored.
        reader: has `counts`, which images are on prompt.
        before: the model that the base was made from; empty if there is none.
        known: encoders of what the world's images are of, by name.
    """

    levers: str
    reader: Callable[[], Any]
    before: str = ""
    known: tuple[tuple[str, Callable[[], Any]], ...] = ()


WORLDS = {
    "b": World(
        "drift_plus_nft",
        AttributeMeasure,
        "policy.pretrained=pkg:drift_pl.builtin/weights/pipeline",
        (("attributes", AttributeEncoder),),
    ),
    "c": World("expand_nft_0.3", PictogramMeasure),
}
SEEDS = 16
"""Images per prompt of the plan's evaluations."""
DIVERSITY = "valid_pairwise_distance"
"""Of these worlds."""


def tier_of(world: str) -> Tier:
    """The first tier of a world on test prompts.

    Raises:
        UserError: it is none of these worlds.
    """
    if world not in WORLDS:
        raise UserError(f"the room of world {world!r} is not known: use {' or '.join(WORLDS)}")
    return next(tier for tier in read_plan(PLAN).values() if tier.world == world and tier.on_test_prompts)


def config_of(tier: Tier, method: str, further: tuple[str, ...] = ()) -> Config:
    """The settings of a method's first run."""
    job = next(job for job in tier.jobs if job.method == method)
    return parse([*job.overrides, *further]).config


def before(tier: Tier) -> dict[str, float]:
    """Means of the model before it was loosened, on the tables' prompts from the tables' noise; empty without one."""
    if not WORLDS[tier.world].before:
        return {}
    config = config_of(tier, tier.baseline, (WORLDS[tier.world].before, "evaluation.grid_prompts=1"))
    bench = build_bench(config, build_rewards(config.rewards, "rewards"))
    model = Model.on(build_policy(config), torch.device("cpu"), nullcontext)
    return bench.base(model, prompts_of(config, "test"), SEEDS).means()


def explored(tier: Tier, images_per_prompt: int) -> dict[str, Any]:
    """The base model and its optima."""
    world = WORLDS[tier.world]
    config = config_of(tier, tier.baseline)
    reward_config = config_of(tier, tier.baseline)  # sampling leaves no measures in the first
    prompts, images_PN3HW = sample_base(config, images_per_prompt)
    encoders = {
        "levers": build_shaping_encoder(config_of(tier, world.levers)),
        **{name: make() for name, make in world.known},
        "evaluation": build_encoder(config.evaluation.encoder, "evaluation.encoder"),
    }
    with torch.inference_mode():
        embeddings = {name: _embedded(encoder, images_PN3HW) for name, encoder in encoders.items()}
        reader = world.reader()
        on_prompt_PN = torch.stack([reader.counts(*each) for each in zip(images_PN3HW, prompts, strict=True)])
        reward_PN = score(reward_config, prompts, images_PN3HW)
        room = explore(Samples(reward_PN, embeddings["evaluation"], on_prompt_PN), embeddings)
    return {"prompts": len(prompts), "images_per_prompt": images_per_prompt, **with_fronts(room)}


def with_fronts(room: dict[str, Any]) -> dict[str, Any]:
    """The fronts of the world's diversity, as pairs of reward and diversity, in place of all optima.

    `on_prompt_of_kl` are pairs of reward and on-prompt share, of a perfect KL from the base model on.
    """
    kinds = room.pop("kinds")
    shares = sorted((point["reward"], point["alignment"]) for point in (room["base"], *kinds["kl"]))
    fronts = {name: front_of(points, room["base"], DIVERSITY) for name, points in kinds.items()}
    pairs = {name: [*zip(front.reward_N, front.diversity_N, strict=True)] for name, front in fronts.items()}
    return {**room, "diversity": DIVERSITY, "fronts": pairs, "on_prompt_of_kl": shares}


def _embedded(encoder: Any, images_PN3HW: Tensor) -> Tensor:
    return torch.stack([encoder(images_N3HW).float() for images_N3HW in images_PN3HW])


def _main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", nargs="?", default="b")
    parser.add_argument("--images", type=int, default=128, help="per prompt; at least 32")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--debug", action="store_true")
    options = parser.parse_args(argv)
    tier = tier_of(options.world)
    if options.images < 32:
        raise UserError(f"--images {options.images}: optima are found on half of them: give at least 32")
    quieten()
    found = {"before": before(tier), **explored(tier, options.images)}
    path = room_file(options.results, options.world)
    write_json(path, found)
    print(path)


if __name__ == "__main__":
    sys.exit(run_command(_main))
