"""Draws the figures of docs/concepts.md with the package's own functions.

    python docs/make/concept_figures.py [FOLDER]       # docs/figures by default; a test draws them again

Each figure calls the code that a run calls, on made-up numbers or on the study's committed results.
"""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from drift_pl.functional.diversity import cosine_kernel, mean_pairwise_distance, vendi_score
from drift_pl.functional.fronts import Front, diversity_gain_at, pareto_front, reward_gain_at
from drift_pl.incentive.potentials import POTENTIALS
from drift_pl.incentive.prompting import noise_gate
from drift_pl.incentive.selection import Band, KeepAll, MaxVariance, MinVariance, NearMedian, Quantile
from drift_pl.reports.figure import COLOURS, STYLE

DOCS = Path(__file__).parents[1]
RESULTS = DOCS / "results" / "fronts" / "F" / "pareto.json"
LOOK = STYLE | {"font.size": 10, "axes.labelsize": 10, "axes.titlesize": 10, "legend.fontsize": 9}
BLUE, RED, GREEN = COLOURS[:3]
PALE = "#C9C9C9"
REWARDS = (0.1, 3.0, 3.3, 3.5, 3.6, 3.8, 3.9, 4.0, 4.1, 4.2, 4.3, 4.5, 4.6, 4.9, 5.2, 7.4)
"""A made-up group of 16 images: one that failed, one that scores far above the others."""


def selection() -> Figure:
    """Lever 1: which of a group's rewards each rule keeps."""
    rules = {
        "none": KeepAll(),
        "band, kappa 2": Band(2.0),
        "quantile 0 to 0.9": Quantile(0.0, 0.9),
        "min_variance, keep 12": MinVariance(12),
        "median, keep 12": NearMedian(12),
        "max_variance, keep 12": MaxVariance(12),
    }
    reward_PG = torch.tensor([REWARDS])
    figure = Figure(figsize=(6.8, 2.9), layout="constrained")
    panel = figure.subplots()
    for row, rule in enumerate(rules.values()):
        kept_G = rule(reward_PG)[0].numpy()
        rewards_G = np.array(REWARDS)
        panel.scatter(rewards_G[~kept_G], np.full((~kept_G).sum(), row), s=45, facecolors="white", edgecolors="0.55")
        panel.scatter(rewards_G[kept_G], np.full(kept_G.sum(), row), s=45, color=BLUE)
    panel.set_yticks(range(len(rules)), list(rules))
    panel.invert_yaxis()
    panel.set(xlabel="reward of an image", title="filled: trained on; hollow: left out", ylim=(len(rules) - 0.5, -0.5))
    return figure


def prompting() -> Figure:
    """Lever 2: when during denoising the condition varies, and what that does to a prompt's tokens."""
    figure = Figure(figsize=(6.8, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    sigma_N = np.linspace(1, 0, 201)
    left.plot(sigma_N, [math.sqrt(1 - noise_gate(sigma, 0.6, 0.9)) for sigma in sigma_N], color=BLUE)
    left.set(xlabel="noise level (1: noise, 0: image)", ylabel="share of the scale s", title="when: low 0.6, high 0.9")
    left.invert_xaxis()
    draw = torch.Generator().manual_seed(0)
    prompts_32 = torch.tensor([[-3.0, 0.0], [0.0, 1.5], [3.0, -0.5]])
    for scale, colour in ((0.3, RED), (0.1, BLUE)):
        noise_3N2 = scale * torch.randn(3, 80, 2, generator=draw)
        cloud_N2 = (prompts_32[:, None] + noise_3N2).flatten(0, 1)
        right.scatter(*cloud_N2.T.numpy(), s=5, color=colour, linewidths=0, label=f"scale {scale}")
    right.scatter(*prompts_32.T.numpy(), s=70, marker="*", color="black", label="prompts", zorder=3)
    right.set(title="what: each image its own point", xticks=[], yticks=[], ylim=(-2.2, 4.1))
    right.legend(frameon=False, loc="upper left", ncols=3, columnspacing=0.8, handletextpad=0.2)
    return figure


def shaping() -> Figure:
    """Lever 3: what each potential pays the images of one group."""
    degrees_G = torch.tensor([0.0, 10.0, 20.0, 30.0, 40.0, 100.0, 180.0, 190.0])
    points_G2 = torch.stack([torch.deg2rad(degrees_G).cos(), torch.deg2rad(degrees_G).sin()], dim=-1)
    figure = Figure(figsize=(6.8, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.9))
    left.add_patch(matplotlib.patches.Circle((0, 0), 1, fill=False, color=PALE))
    left.scatter(*points_G2.T.numpy(), s=45, color=BLUE, zorder=3)
    for number, (x, y) in enumerate(points_G2.tolist(), start=1):
        left.annotate(str(number), (1.2 * x, 1.2 * y), ha="center", va="center", fontsize=8)
    left.set(title="a group's embeddings", xlim=(-1.4, 1.4), ylim=(-1.4, 1.4), aspect="equal", xticks=[], yticks=[])
    left.axis("off")
    width, valid_PG = 0.2, torch.ones(1, len(degrees_G), dtype=torch.bool)
    for column, (name, potential) in enumerate(POTENTIALS.items()):
        values_G = potential(points_G2[None], valid_PG)[0].numpy()
        place_G = np.arange(1, len(values_G) + 1) + (column - 1.5) * width
        right.bar(place_G, values_G, width, color=COLOURS[column], label=name)
    right.axhline(0, color="0.3", linewidth=0.6)
    right.set(xlabel="image", ylabel="d, before centring", title="what the bonus pays", xticks=range(1, 9))
    right.legend(frameon=False, ncols=2)
    return figure


def front() -> Figure:
    """Two fronts of the study, and the gains at the end of one of them."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    names = {results["baseline"]: ("plain Flow-GRPO", "black"), "drift_nft": ("shapes_div", RED)}
    points = {method["name"]: [point["mean"] for point in method["points"]] for method in results["methods"]}
    figure = Figure(figsize=(6.8, 3.2), layout="constrained")
    panel = figure.subplots()
    fronts = {}
    for name, (label, colour) in names.items():
        xy_2N = np.array([(point["reward"], point["pairwise_distance"]) for point in points[name]]).T
        fronts[name] = pareto_front(*xy_2N)
        panel.plot(*xy_2N, "o", color=colour, markersize=4, alpha=0.5)
        panel.plot(fronts[name].reward_N, fronts[name].diversity_N, color=colour, label=label)
    _draw_gains(panel, fronts[results["baseline"]], fronts["drift_nft"], results["base"]["reward"])
    base = (results["base"]["reward"], results["base"]["pairwise_distance"])
    panel.annotate("base model", base, (8, 6), textcoords="offset points")
    panel.plot(*base, "*", color="black", markersize=13)
    panel.set(xlabel="reward on held-out prompts", ylabel="mean pairwise distance")
    panel.legend(frameon=False, loc="lower left")
    return figure


def _draw_gains(panel: Axes, baseline: Front, method: Front, base_reward: float) -> None:
    """Arrows from two points of the baseline's front: up at equal reward, right at equal diversity."""
    look = {"arrowstyle": "->", "color": BLUE, "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}
    reward, below = float(baseline.reward_N[-2]), float(baseline.diversity_N[-2])
    left, diversity = float(baseline.reward_N[1]), float(baseline.diversity_N[1])
    more_diversity = diversity_gain_at(baseline, method, reward).gain
    more_reward = reward_gain_at(baseline, method, diversity, base_reward).gain
    assert more_diversity is not None
    assert more_reward is not None
    top, end = below * (1 + more_diversity), base_reward + (left - base_reward) * (1 + more_reward)
    panel.annotate("", (reward, top), (reward, below), arrowprops=look)
    panel.annotate("", (end, diversity), (left, diversity), arrowprops=look)
    text = {"textcoords": "offset points", "color": BLUE, "ha": "right"}
    panel.annotate(f"at equal reward:\n{more_diversity:+.0%} diversity", (reward, below), (-14, -4), **text)
    panel.annotate(f"at equal diversity:\n{more_reward:+.0%} reward", (left, diversity), (-8, -32), **text)


def measures() -> Figure:
    """What mean pairwise distance and the Vendi score say of 16 images in 1 to 16 equal clusters."""
    clusters_N = (1, 2, 4, 8, 16)
    kernels = [_clustered(count) for count in clusters_N]
    distance_N = [float(mean_pairwise_distance(1 - kernel)) for kernel in kernels]
    vendi_N = [float(vendi_score(kernel)) for kernel in kernels]
    figure = Figure(figsize=(6.8, 2.7), layout="constrained")
    left, right = figure.subplots(1, 2)
    for panel, values_N, colour, title in (
        (left, distance_N, BLUE, "mean pairwise distance"),
        (right, vendi_N, RED, "Vendi score"),
    ):
        panel.bar(range(len(clusters_N)), values_N, color=colour)
        for place, value in enumerate(values_N):
            panel.annotate(f"{value:.2g}", (place, value), (0, 2), textcoords="offset points", ha="center")
        panel.set(xlabel="different images among 16", title=title, ylim=(0, 1.15 * max(values_N)))
        panel.set_xticks(range(len(clusters_N)), map(str, clusters_N))
    return figure


def _clustered(clusters: int, images: int = 16) -> Tensor:
    """Kernel of images in equal clusters of copies, at right angles to each other, [images, images]."""
    directions = torch.eye(clusters).repeat_interleave(images // clusters, dim=0)
    return cosine_kernel(directions)


FIGURES: dict[str, Callable[[], Figure]] = {
    "selection": selection,
    "prompting": prompting,
    "shaping": shaping,
    "front": front,
    "measures": measures,
}


def draw(folder: Path) -> list[Path]:
    """Writes every figure as SVG; the same bytes each time."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with matplotlib.rc_context(LOOK):
        for name, make in FIGURES.items():
            paths.append(folder / f"{name}.svg")
            make().savefig(paths[-1], metadata={"Date": None})
    return paths


if __name__ == "__main__":
    print(*draw(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "figures"), sep="\n")
