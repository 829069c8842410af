"""Upper bounds for any method: the base model's own images, optimally reweighted.

    python benchmarks/fronts/room.py A B           # docs/results/fronts/TIER/room.json and room.png
    python benchmarks/fronts/room.py A B --draw    # only the figure, from room.json, with the runs trained since

Fine-tuning with a KL to the base model reweights images that the base model already generates, and the optimum is known
in closed form (`tilting`). So 256 images per test prompt give, without any training, the front of a perfect KL; of a
perfect KL and diversity term with each shaping encoder, with one that knows the true attributes, and with the
evaluation encoder itself; and the point reached by dropping the images that miss the prompt.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from optima import Samples, explore, front_of, gains_over_kl
from plan import PLAN, Tier, read_plan
from torch import Tensor
from torch.nn.functional import one_hot

from drift_pl.builders.bench import build_bench
from drift_pl.builders.quiet import quieten
from drift_pl.builders.run import build_policy
from drift_pl.builders.scoring import build_encoder, build_rewards, build_shaping_encoder, prompts_of
from drift_pl.builtin.reader import AttributeMeasure, AttributeReader
from drift_pl.builtin.world import ATTRIBUTES
from drift_pl.config.command import run_command
from drift_pl.config.loading import parse
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError
from drift_pl.evaluation.sampling import Model
from drift_pl.functional.fronts import NoOverlap
from drift_pl.reports.figure import save_png
from drift_pl.scoring.rewards import score_images

ROOT = Path(__file__).parents[2]
IMAGES_PER_PROMPT = 256
LABELS = {
    "kl": "a perfect KL",
    "drift": "and shaping, drift's encoder",
    "drift_plus": "and shaping, drift_plus's encoders",
    "attributes": "and shaping, the true attributes",
    "evaluation": "and shaping, the evaluation encoder",
}
COLOURS = {
    "kl": "#d55e00",
    "drift": "#56b4e9",
    "drift_plus": "#0072b2",
    "attributes": "#009e73",
    "evaluation": "#999999",
}


class AttributeEncoder:
    """The attributes that the attribute reader sees, one-hot: one number per value of an attribute, 1 or 0."""

    def __init__(self) -> None:
        self._reader = AttributeReader()

    def __call__(self, images_B3HW: Tensor) -> Tensor:
        read = self._reader(images_B3HW).attributes
        return torch.cat([one_hot(read[name], len(values)) for name, values in ATTRIBUTES.items()], -1)


def config_of(tier: Tier, method: str) -> Config:
    """The configuration of a method's first run."""
    job = next(job for job in tier.jobs if job.method == method)
    return parse([*job.overrides, "prompts.test=pkg:drift_pl.builtin/prompts/test.txt"]).config


def sample_base(config: Config, images_per_prompt: int) -> tuple[Sequence[str], Tensor]:
    """Test prompts and images of the base model, [P, N, 3, H, W], from the noise of evaluations."""
    prompts = prompts_of(config, "test")
    config.evaluation.grid_seeds, config.evaluation.grid_prompts = images_per_prompt, len(prompts)
    config.evaluation.measures = []
    bench = build_bench(config, build_rewards(config.rewards, "rewards"))
    base = bench.base(Model.on(build_policy(config), torch.device("cpu"), nullcontext), prompts, images_per_prompt)
    return base.prompts, base.grid_PS3HW


def score(config: Config, prompts: Sequence[str], images_PN3HW: Tensor) -> Tensor:
    """Weighted sum of the rewards, [P, N]."""
    rewards = build_rewards(config.rewards, "rewards")
    num_images = images_PN3HW.shape[1]
    rows = [
        score_images(rewards, images_N3HW, [prompt] * num_images, num_images)[0]
        for prompt, images_N3HW in zip(prompts, images_PN3HW, strict=True)
    ]
    return torch.stack(rows).double()


def measured_points(tier: Tier, results: Path) -> dict[str, list[tuple[float, float]]]:
    """Method -> (reward, distance) of its points, averaged over seeds; empty if the tier has not been compared."""
    path = results / tier.name / "pareto.json"
    if not path.is_file():
        return {}
    methods = json.loads(path.read_text())["methods"]
    return {
        method["name"]: [(point["mean"]["reward"], point["mean"]["pairwise_distance"]) for point in method["points"]]
        for method in methods
    }


def draw(room: dict[str, Any], measured: dict[str, list[tuple[float, float]]], path: Path) -> None:
    """Draws the optima as lines and trained runs as points."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.0), layout="constrained")
    axes = figure.subplots()
    base = room["base"]
    for name, points in room["kinds"].items():
        front = front_of(points, base)
        dashes = "--" if name == "evaluation" else "-"
        axes.plot(front.reward_N, front.diversity_N, dashes, color=COLOURS[name], label=LABELS[name], linewidth=1.6)
    markers = "osD^vPX<>"
    for marker, (name, pairs) in zip(markers, measured.items(), strict=False):
        axes.plot(*zip(*pairs, strict=True), marker, label=f"trained: {name}", markersize=4, color="0.25", alpha=0.75)
    axes.plot(base["reward"], base["pairwise_distance"], "*", color="black", markersize=11, label="base model")
    if fitting := room.get("on_prompt"):
        label = "its images that fit the prompt"
        axes.plot(fitting["reward"], fitting["pairwise_distance"], "*", color="#cc3377", markersize=11, label=label)
    axes.set(xlabel="reward", ylabel="pairwise distance (evaluation encoder)")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside right upper", fontsize=7, frameon=False)
    save_png(figure, path, dpi=200)


def sample(tiers: Sequence[Tier], results: Path, images_per_prompt: int) -> None:
    """Samples the base model once and writes room.json for each tier's reward."""
    quieten()
    config = config_of(tiers[0], tiers[0].baseline)
    prompts, images_PN3HW = sample_base(config, images_per_prompt)
    print(f"{len(prompts)} prompts x {images_per_prompt} images of the base model", flush=True)
    encoders = {
        "drift": build_shaping_encoder(config_of(tiers[0], "drift")),
        "drift_plus": build_shaping_encoder(config_of(tiers[0], "drift_plus")),
        "attributes": AttributeEncoder(),
        "evaluation": build_encoder(config.evaluation.encoder, "evaluation.encoder"),
    }
    with torch.inference_mode():
        embeddings = {
            name: torch.stack([encoder(images_N3HW).float() for images_N3HW in images_PN3HW])
            for name, encoder in encoders.items()
        }
        reader = AttributeMeasure()
        on_prompt_PN = torch.stack(
            [reader.counts(images_N3HW, prompt) for images_N3HW, prompt in zip(images_PN3HW, prompts, strict=True)]
        )
        for tier in tiers:
            reward_PN = score(config_of(tier, tier.baseline), prompts, images_PN3HW)
            room = explore(Samples(reward_PN, embeddings["evaluation"], on_prompt_PN), embeddings)
            write(results / tier.name, {"prompts": len(prompts), "images_per_prompt": images_per_prompt, **room})


def write(folder: Path, room: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "room.json").write_text(json.dumps(room, indent=1) + "\n")


def conclude(tier: Tier, results: Path) -> None:
    """Gains and figure from the points of room.json.

    Raises:
        UserError: it does not exist, or two of its fronts have no rewards in common.
    """
    path = results / tier.name / "room.json"
    if not path.is_file():
        raise UserError(f"{path} does not exist: without --draw this command makes it")
    room = json.loads(path.read_text())
    try:
        room["gain_over_kl"] = gains_over_kl(room)
    except NoOverlap as error:
        raise UserError(f"{path}: {error}; more images would help: --images 512") from error
    write(path.parent, room)
    draw(room, measured_points(tier, results), path.with_suffix(".png"))
    for name in ("base", "on_prompt"):
        if point := room.get(name):
            print(f"{tier.name}  {name:36} " + ", ".join(f"{key} {value:.4f}" for key, value in point.items()))
    for name, gain in room["gain_over_kl"].items():
        span = f"rewards {gain['from_reward']:.4f} to {gain['to_reward']:.4f}"
        print(f"{tier.name}  {LABELS[name]:36} {gain['value']:+.1%} over a perfect KL, {span}")


def _main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiers", nargs="*", default=["A", "B"], help="names of the tiers whose rewards are used")
    parser.add_argument("--images", type=int, default=IMAGES_PER_PROMPT, help="per prompt")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "results" / "fronts")
    parser.add_argument("--draw", action="store_true", help="only draw, from room.json")
    parser.add_argument("--debug", action="store_true")
    options = parser.parse_args(argv)
    plan = read_plan(PLAN)
    unknown = [name for name in options.tiers if name not in plan]
    if unknown:
        raise UserError(f"no tier {unknown[0]!r}: there are {', '.join(plan)}")
    tiers = [plan[name] for name in options.tiers]
    if not options.draw:
        sample(tiers, options.results, options.images)
    for tier in tiers:
        conclude(tier, options.results)


if __name__ == "__main__":
    sys.exit(run_command(_main))
