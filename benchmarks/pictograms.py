"""The picture of the pictogram world: the base model and fine-tuned ones, on the first test prompts.

    python benchmarks/pictograms.py RUN [RUN ...] [out=docs/results/pictograms.png] [seed=0]

Rows are the first eight prompts of the test list and columns the first images of a seed, the same noise for all
models: nothing is chosen. Beside each row stands its number of styles over 64 images (exp of the entropy among images
that the reader finds readable and on prompt), and above each panel the model's reward in its run's closing table. A
table of styles is printed, and written beside the picture as JSON.
"""

import json
import sys
from pathlib import Path

import matplotlib
import torch
from PIL import Image
from torch import Tensor

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from drift_pl.builders.bench import build_sampling
from drift_pl.builders.checkpoint_weights import load_tuned
from drift_pl.builders.hardware import choose_device
from drift_pl.builders.quiet import quieten
from drift_pl.builtin.emoji import PROMPTS
from drift_pl.builtin.emoji.reader import PictogramMeasure
from drift_pl.config.batches import sampling_micro_batch
from drift_pl.config.checkpoints import CONFIG, find_checkpoint
from drift_pl.evaluation.drawing import draw
from drift_pl.evaluation.sampling import Model
from drift_pl.generate import GenerateOptions
from drift_pl.reports.summaries import read_summary

SHOWN_PROMPTS, SHOWN_IMAGES, IMAGES = 8, 8, 64
TITLES = {
    "base": "base model",
    "emoji_flowgrpo": "Flow-GRPO",
    "emoji_nft": "DiffusionNFT's loss",
    "emoji_drift": "our reading of DRIFT",
    "emoji_div": "DRIFT (emoji_div)",
}


def sample(run: str, prompts: list[str], seed: int) -> tuple[str, Tensor, Tensor]:
    """A run's experiment, and images of its base model and of its tuned one: float32 [P, 64, 3, H, W] each."""
    run_dir, path = find_checkpoint(run)
    options = GenerateOptions.read([f"ckpt_path={run}", f"prompt={prompts[0]}"])
    assert options is not None
    config = options.config(run_dir / CONFIG)
    model = Model.on(load_tuned(config, run_dir, path, options.weights).policy, *choose_device(config))
    plan, micro_batch = build_sampling(config), sampling_micro_batch(config)
    found = [draw(model, plan, prompt, IMAGES, seed, micro_batch) for prompt in prompts]
    images = (torch.stack([each[name] for each in found]) for name in ("base", "tuned"))
    return str(config.experiment), *images


def show(
    images: dict[str, Tensor], styles: dict[str, list[float]], rewards: dict[str, float], prompts: list[str], out: Path
) -> None:
    """One panel per model, two or three beside each other, a row per prompt."""
    beside = 3 if len(images) % 3 == 0 else 2
    lines = -(-len(images) // beside)
    figure, panels = plt.subplots(lines, beside, figsize=(5.2 * beside, 4.7 * lines), squeeze=False)
    for panel in panels.flat[len(images) :]:
        panel.set_axis_off()
    for panel, (name, images_PN3HW) in zip(panels.flat, images.items(), strict=False):
        rows = torch.cat([torch.cat(list(row[:SHOWN_IMAGES]), 2) for row in images_PN3HW], 1)
        side = images_PN3HW.shape[-1]
        panel.imshow(rows.permute(1, 2, 0).clamp(0, 1), interpolation="nearest")
        panel.set_title(f"{TITLES.get(name, name)}: reward {rewards[name]:.3f}", fontsize=15)
        panel.set_xticks([])
        places = [side * (number + 0.5) for number in range(len(prompts))]
        panel.set_yticks(places, prompts if panel in panels[:, 0] else [""] * len(prompts), fontsize=12)
        panel.tick_params(length=0)
        for spine in panel.spines.values():
            spine.set_visible(False)
        for place, value in zip(places, styles[name], strict=True):
            panel.text(1.02 * rows.shape[2], place, f"{value:.1f}", fontsize=12, va="center")
        panel.text(1.02 * rows.shape[2], -0.3 * side, "styles", fontsize=10, va="center", color="0.35")
    figure.tight_layout()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)
    Image.open(out).convert("RGB").quantize(256).save(out, optimize=True)  # a third of the size


def main(argv: list[str]) -> int:
    """Reads the runs, draws, measures, writes."""
    given = dict(item.split("=", 1) for item in argv if "=" in item)
    runs = [item for item in argv if "=" not in item]
    if not runs or not set(given) <= {"out", "seed"}:
        print("error: give run folders, and if you like out=FILE.png and seed=0", file=sys.stderr)
        return 2
    quieten()
    prompts = (PROMPTS / "test.txt").read_text().splitlines()[:SHOWN_PROMPTS]
    seed, out = int(given.get("seed", 0)), Path(given.get("out", "docs/results/pictograms.png"))
    images: dict[str, Tensor] = {}
    rewards: dict[str, float] = {}
    for run in runs:
        name, base, tuned = sample(run, prompts, seed)
        images |= {"base": base, name: tuned}
        summary = read_summary(Path(run))
        rewards |= {"base": summary["base"]["reward"], name: summary["tuned"]["reward"]}
    measure = PictogramMeasure()
    measured = {name: measure(part, prompts) for name, part in images.items()}
    styles = {name: [round(value, 3) for value in found["styles"].tolist()] for name, found in measured.items()}
    for number, prompt in enumerate(prompts):
        print(f"{prompt:<14}" + "  ".join(f"{name} {values[number]:.2f}" for name, values in styles.items()))
    print(f"{'mean':<14}" + "  ".join(f"{name} {sum(values) / len(values):.2f}" for name, values in styles.items()))
    show(images, styles, rewards, prompts, out)
    record = {"prompts": prompts, "seed": seed, "images": IMAGES, "styles": styles}
    record["alignment"] = {name: found["alignment"].tolist() for name, found in measured.items()}
    out.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    print(out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
