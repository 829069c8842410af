"""Acceptance test of the built-in models: ``python benchmarks/builtin_models/acceptance.py``.

Prints one table and writes it to ``weights/acceptance.json`` and into the model card. The scenes have seeds that no
training stage uses, and all prompts are from the test list.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from acceptance_judges import judge_ranking, lpips_spearman, spearman
from acceptance_samples import load_pipeline, measure_prompts, measure_samples
from diffusers import AutoencoderKL
from torch import Tensor
from training_autoencoder import reconstruct

from drift_pl.builtin import PROMPTS, WEIGHTS
from drift_pl.builtin.reader import AttributeReader
from drift_pl.builtin.world import ATTRIBUTES, Scenes, render, sample_scenes

CARD_GUIDANCE = 3.0
SAMPLING_STEPS = 20
GUIDANCES = (1.0, 2.0, 3.0)
OTHER_SAMPLES = 16
SEED = 90_001
MARKERS = ("<!-- acceptance:begin -->", "<!-- acceptance:end -->")


@dataclass(frozen=True)
class Row:
    """One row of the table: name, value, threshold (None: reported only) and a note."""

    what: str
    value: float
    bar: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """``pass``, ``FAIL`` or nothing."""
        if self.bar is None:
            return ""
        return "pass" if self.value >= self.bar else "FAIL"


def right(reader: AttributeReader, images_B3HW: Tensor, scenes: Scenes) -> float:
    """Share of images that are readable with all attributes read correctly."""
    reading = reader(images_B3HW)
    agree_B = torch.stack([reading.attributes[name] == scenes.attributes[name] for name in ATTRIBUTES]).all(0)
    return (agree_B & reading.readable_B).double().mean().item()


@torch.no_grad()
def reader_rows(weights: Path, count: int = 2000) -> Iterator[Row]:
    """The reader on renders and on the autoencoder's reconstructions of them."""
    reader = AttributeReader()
    autoencoder = AutoencoderKL.from_pretrained(weights / "pipeline" / "vae").eval()
    scenes = sample_scenes(count, torch.Generator().manual_seed(SEED))
    images_B3HW = render(scenes)
    note = f"all five attributes, {count} images"
    yield Row("reader right on renders", right(reader, images_B3HW, scenes), 0.99, note)
    rebuilt_B3HW = torch.cat([reconstruct(autoencoder, part) for part in images_B3HW.split(250)])
    yield Row("reader right on reconstructions", right(reader, rebuilt_B3HW, scenes), 0.97, note)


def sample_rows(weights: Path, images_per_prompt: int, guidance: float, others: tuple[float, ...]) -> Iterator[Row]:
    """Alignment and coverage of samples for the test prompts, compared with those of the data.

    The guidance scales in ``others`` are reported only, from fewer images, to help choose one.
    """
    prompts = (PROMPTS / "test.txt").read_text().splitlines()
    pipeline = load_pipeline(weights)
    for value in dict.fromkeys((guidance, *others)):
        chosen = value == guidance
        count = images_per_prompt if chosen else min(images_per_prompt, OTHER_SAMPLES)
        data = measure_prompts(prompts, count, SEED)
        found = measure_samples(pipeline, prompts, count, value, SAMPLING_STEPS, SEED)
        label = f"samples, guidance {value:g}"
        note = f"{len(prompts)} test prompts x {count} images, {SAMPLING_STEPS} ODE steps"
        on_prompt = f"{note}; readable {found['readable']:.3f}"
        yield Row(f"{label}: readable and on prompt", found["alignment"], 0.85 if chosen else None, on_prompt)
        both = f"{found['coverage']:.3f} / {data['coverage']:.3f}"
        yield Row(f"{label}: coverage / data's", found["coverage"] / data["coverage"], 0.90 if chosen else None, both)


def judge_rows(weights: Path) -> Iterator[Row]:
    """The preference model's ranking and the encoders' rank correlation."""
    ranking = judge_ranking(weights / "preference", SEED)
    yield Row(
        "judge: on-prompt above off-prompt",
        ranking["equal"],
        0.95,
        "one named attribute differs, others equal",
    )
    yield Row("judge: the same, others random", ranking["random"], 0.95, "")
    yield Row("judge: on-prompt above broken image", ranking["broken"], None, "blends, blobs, noise, flat")
    for name in ("shaping_encoder", "evaluation_encoder"):
        yield Row(
            f"{name}: Spearman",
            spearman(weights / name, SEED),
            0.8,
            "distance, number of differing attributes",
        )
    yield Row(
        "lpips: Spearman",
        lpips_spearman(weights / "lpips", SEED),
        None,
        "distance, number of differing attributes",
    )


def as_markdown(rows: list[Row]) -> str:
    """The table for the terminal and the card."""
    lines = ["| figure | value | bar | | note |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        bar = "" if row.bar is None else f"{row.bar:.2f}"
        lines.append(f"| {row.what} | {row.value:.3f} | {bar} | {row.verdict} | {row.note} |")
    return "\n".join(lines)


def write_card(card: Path, table: str) -> None:
    """Replace the text between the markers of the model card, if it has them."""
    text = card.read_text() if card.exists() else ""
    if MARKERS[0] in text and MARKERS[1] in text:
        head, tail = text.split(MARKERS[0])[0], text.split(MARKERS[1])[1]
        card.write_text(f"{head}{MARKERS[0]}\n{table}\n{MARKERS[1]}{tail}")


def conclude(rows: list[Row], weights: Path | None) -> int:
    """Print the table; write it beside the weights and into their card, if these are given; 1 if a bar is missed."""
    table = as_markdown(rows)
    print(table)
    if weights is not None:
        content = [asdict(row) | {"verdict": row.verdict} for row in rows]
        (weights / "acceptance.json").write_text(json.dumps(content, indent=2) + "\n")
        write_card(weights / "README.md", table)
    return int(any(row.verdict == "FAIL" for row in rows))


def main(arguments: list[str] | None = None) -> int:
    """Run the checks; the exit status is 1 if a threshold is missed."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/builtin_models/acceptance.py", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--samples", type=int, default=64, help="images per test prompt (%(default)s)")
    parser.add_argument("--guidance", type=float, default=CARD_GUIDANCE, help="the card's guidance (%(default)s)")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder of the models (%(default)s)")
    parser.add_argument("--only", choices=("reader", "judges", "samples"), help="one part; nothing is written")
    parser.add_argument("--chosen-guidance-only", action="store_true", help="skip the other guidances")
    options = parser.parse_args(arguments)
    if options.samples < 2:
        parser.error(f"--samples must be at least 2, not {options.samples}")
    others = () if options.chosen_guidance_only else GUIDANCES
    rows: list[Row] = []
    if options.only in (None, "reader"):
        rows += reader_rows(options.weights)
    if options.only in (None, "samples"):
        rows += sample_rows(options.weights, options.samples, options.guidance, others)
    if options.only in (None, "judges"):
        rows += judge_rows(options.weights)
    return conclude(rows, options.weights if options.only is None else None)


if __name__ == "__main__":
    raise SystemExit(main())
