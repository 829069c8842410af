"""What an accelerator could do at best: the FLOPs of an iteration of every shipped experiment, counted by torch.

    python benchmarks/limit.py [out=FILE] [experiment=NAME] [peak_tflops=989] [float32_tflops=494.5] [images_per_s=2.0]

Counted on the meta device from published configurations (`drift_pl/builders/published.py`): nothing is downloaded,
computed or timed. `peak_tflops` is an accelerator's dense peak in the denoiser's precision and `float32_tflops` the one
at which it decodes and judges; the defaults are NVIDIA's figures for an H100 SXM, bfloat16 and TF32. With the measured
`images_per_s` of one accelerator (`time/images_per_s` of a run, divided by its processes) it prints the share of the
possible.

Upper bounds of the work: every image is trained on (selection and `skip_zero_advantage` leave some out). Prompts count
as encoded already.
"""

import sys
from dataclasses import asdict, dataclass
from typing import Any

from speed.flops import Denoiser, decoding, denoiser, perceptual, text_encoding, vision
from speed.timing import finish, options_of, rounded

from drift_pl.builders.planning import old_passes
from drift_pl.builders.published import PIPELINES
from drift_pl.config.batches import derive_batches
from drift_pl.config.experiments import list_experiments
from drift_pl.config.loading import parse
from drift_pl.config.schema import Config

GOALS = {"pickscore_div": 2.0, "pickscore_div_fast": 9.0}
"""Images/s on one H100 that the package aims at; neither has been measured."""
DENOISER_GOAL = 0.9
"""Share of an iteration's time in the denoiser that it aims at."""


@dataclass(frozen=True)
class Work:
    """FLOPs of one iteration over all its images.

    Attributes:
        rollout, update, reference: passes of the denoiser: sampling; forward and backward (with gradient checkpointing
            a second forward); without the adapter, for the KL term. Of `nft` also the old policy's, in `rollout`.
        decode, score: of latents to images; rewards, shaping encoders and the diversity monitor.
    """

    rollout: float
    update: float
    reference: float
    decode: float
    score: float

    @property
    def denoiser(self) -> float:
        return self.rollout + self.update + self.reference

    @property
    def total(self) -> float:
        return self.denoiser + self.decode + self.score


def denoiser_of(config: Config) -> Denoiser:
    policy = config.policy
    targets = tuple(policy.lora.targets)
    size = (policy.pretrained, policy.resolution, policy.max_sequence_length)
    return denoiser(*size, policy.lora.rank, targets, policy.frames)


def work_of(config: Config) -> Work:
    """Counted from the settings: images x steps x branches of guidance x FLOPs of a pass."""
    policy, objective, batches, network = config.policy, config.objective, derive_batches(config), denoiser_of(config)
    images, steps = batches.images_per_iteration, config.sampler.steps
    branches = 2 if policy.guidance_scale != 1 and policy.family != "flux" else 1  # flux takes it as an input
    trained = images * branches * (batches.noise_levels or batches.trained_steps) * objective.inner_epochs
    old = images * branches * batches.noise_levels * old_passes(config)
    return Work(
        rollout=(images * steps * branches + old) * network.forward,
        update=trained * (network.both + policy.gradient_checkpointing * network.forward),
        reference=trained * network.forward * (objective.kl_weight > 0),
        decode=images * decoding(policy.pretrained, policy.resolution, policy.frames),
        score=images * scoring_of(config),
    )


def scoring_of(config: Config) -> float:
    """Of one image through every network that sees it in an iteration; of a video, each frame that it sees."""
    shaping, evaluation, frames = config.incentive.shaping, config.evaluation, config.policy.frames
    judges = [reward.args["pretrained"] for reward in config.rewards if "pretrained" in reward.args]
    encoders = list(shaping.encoders or [shaping.encoder]) if shaping.weight > 0 else []
    rewarded = frames if config.policy.reward_frames == "mean" else 1
    embedded = [entry.args["pretrained"] for entry in (*encoders, evaluation.encoder)]
    total = rewarded * sum(map(vision, judges)) + frames * sum(map(vision, embedded))
    if config.trainer.monitor_lpips:
        total += frames * perceptual(evaluation.lpips.args["pretrained"], config.policy.resolution or 32)
    return total


def is_counted(name: str) -> bool:
    """Whether the numbers of an experiment's models are known."""
    pretrained = parse([f"experiment={name}"]).config.policy.pretrained
    return pretrained.startswith("pkg:") or pretrained in PIPELINES


def row_of(name: str, peak: float, float32_peak: float) -> dict[str, Any]:
    """The counts of an experiment, and what an accelerator of these peaks, in FLOP/s, does at best."""
    config = parse([f"experiment={name}"]).config
    work, network, images = work_of(config), denoiser_of(config), derive_batches(config).images_per_iteration
    seconds = work.denoiser / peak + (work.decode + work.score) / float32_peak
    text = text_encoding(config.policy.pretrained, config.policy.max_sequence_length)
    return {
        "images": images,
        "flops": {**asdict(work), "total": work.total},
        "denoiser": network._asdict(),
        "text_flops_per_new_prompt": text,
        "denoiser_seconds_at_peak": work.denoiser / peak,
        "seconds_at_peak": seconds,
        "images_per_s_at_peak": images / seconds,
        "denoiser_share_of_time_at_peak": work.denoiser / peak / seconds,
    }


def table(rows: dict[str, dict[str, Any]]) -> list[str]:
    lines = [
        "PFLOP per iteration; seconds and images/s of one accelerator at its peak\n",
        "| experiment | images | rollout | update | reference | decode | score | total | s | images/s | denoiser |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        parts = [f"{value / 1e15:.3g}" for value in row["flops"].values()]
        speed = f"{row['seconds_at_peak']:.3g} | {row['images_per_s_at_peak']:.3g}"
        share = f"{row['denoiser_share_of_time_at_peak']:.0%}"
        lines.append(f"| {name} | {row['images']} | {' | '.join(parts)} | {speed} | {share} |")
    lines += ["", f"Goals on an H100, not measured (denoiser {DENOISER_GOAL:.0%} of the time):"]
    for name, goal in GOALS.items():
        if name in rows:
            share = goal / rows[name]["images_per_s_at_peak"]
            lines.append(f"  {name}: {goal:g} images/s, {share:.0%} of the limit")
    return lines


def main(argv: list[str]) -> int:
    options = options_of(argv, experiment="", peak_tflops=989.0, float32_tflops=494.5, images_per_s=0.0)
    asked = [options["experiment"]] if options["experiment"] else list_experiments()
    names = [name for name in asked if is_counted(name)]
    left_out = [name for name in asked if name not in names]
    peaks = {"peak": options["peak_tflops"] * 1e12, "float32_peak": options["float32_tflops"] * 1e12}
    rows = {name: row_of(name, **peaks) for name in names}
    lines = table(rows)
    for name, row in rows.items():
        if options["images_per_s"]:
            row["share_of_limit"] = options["images_per_s"] / row["images_per_s_at_peak"]
            lines.append(f"{name} at {options['images_per_s']:g} images/s: {row['share_of_limit']:.1%} of the limit")
    if left_out:
        lines.append(f"Not counted (no numbers in builders/published.py): {', '.join(left_out)}")
    result = {"title": "counted FLOPs, not measured", **peaks, "goals": GOALS, "experiments": rows}
    result["left_out"] = left_out
    finish(rounded(result), lines, options["out"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
