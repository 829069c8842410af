"""The likelihood ratio before the first update, and log-densities, in every precision and model family.

    python benchmarks/precision.py [out=docs/results/precision.json]

Small random-weight folders with a non-zero adapter, on the CPU. A ratio should be 1 before anything is learnt. It is,
bit for bit, where steps are replayed in the micro-batches that they were sampled in; in others, sums are added in
another order, and a half precision rounds them to other numbers. The last column is what a precision does to a
log-density itself: that of the same transitions, sampled in float32, against float32's. A family that is NaN in a
precision, which a run refuses, has no row of it.
"""

import sys
import tempfile
import warnings
from contextlib import AbstractContextManager, nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import torch
from parity import FOLDERS, PROMPTS, ROOT, sampler_of
from speed.timing import finish, options_of
from torch import Tensor, nn

sys.path.insert(0, str(ROOT / "tests"))

from tiny_policies import load_tiny  # noqa: E402

from drift_pl.builders.quiet import quieten  # noqa: E402
from drift_pl.config.schema import NO_FLOAT16  # noqa: E402
from drift_pl.core.rng import sample_generators  # noqa: E402
from drift_pl.core.types import Trajectory  # noqa: E402
from drift_pl.incentive.prompting import VariedCondition  # noqa: E402
from drift_pl.policies.pipeline import PipelinePolicy  # noqa: E402
from drift_pl.sampling.rollout import replay, rollout  # noqa: E402
from drift_pl.training.precision import autocast_context  # noqa: E402

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
WINDOW, GUIDANCE = (0, 1, 2), 3.0


def computing(precision: str) -> AbstractContextManager[Any]:
    """The context of `trainer.precision`, as a run has it on a CPU."""
    if precision == "16-mixed":  # a run's own: Lightning's would be bfloat16 on a CPU
        return autocast_context(precision, "cpu")
    return torch.autocast("cpu", torch.bfloat16, cache_enabled=False) if precision == "bf16-mixed" else nullcontext()


def tuned_policy(family: str, folder: Path) -> PipelinePolicy:
    policy: PipelinePolicy = load_tiny(family, folder, resolution=16)
    generator = torch.Generator().manual_seed(1)
    for _, parameter in policy.trainable_parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return policy


def sampled(policy: PipelinePolicy, precision: str) -> tuple[Trajectory, VariedCondition]:
    """A rollout of all prompts in one micro-batch, and its condition."""
    generator = torch.Generator().manual_seed(0)
    noise_BCHW = torch.randn(len(PROMPTS), *policy.latent_shape, generator=generator)
    streams = sample_generators("precision", samples=range(len(PROMPTS)))
    with computing(precision):
        condition = VariedCondition(policy.encode(PROMPTS))
        return rollout(policy, sampler_of(policy, GUIDANCE), condition, WINDOW, noise_BCHW, streams), condition


def densities(
    policy: PipelinePolicy, precision: str, trajectory: Trajectory, condition: VariedCondition, micro_batch: int
) -> Tensor:
    """Log-densities [K, B] of a rollout's steps, replayed in micro-batches."""
    found_KB = torch.empty(len(WINDOW), len(PROMPTS))
    with computing(precision):
        sampler = sampler_of(policy, GUIDANCE)
        for rows, k in product(torch.arange(len(PROMPTS)).split(micro_batch), range(len(WINDOW))):
            step = replay(policy, sampler, trajectory, k, rows, condition[rows], with_reference=False)
            found_KB[k, rows] = step.log_prob_B.detach()
    return found_KB


def seen_dtype(policy: PipelinePolicy, precision: str) -> str:
    """Of what the first adapted layer computes."""
    found: list[str] = []
    layer = next(module for name, module in policy.network.named_modules() if name.endswith("base_layer"))
    assert isinstance(layer, nn.Module)
    hook = layer.register_forward_hook(lambda module, given, out: found.append(str(out.dtype).removeprefix("torch.")))
    sampled(policy, precision)
    hook.remove()
    (dtype,) = set(found)
    return dtype


def rows_of(family: str, folder: Path) -> list[dict[str, Any]]:
    """A row per precision."""
    policy = tuned_policy(family, folder)
    exact, clean = sampled(policy, "32-true")
    rows = []
    for precision in [name for name in PRECISIONS if name != "16-mixed" or family not in NO_FLOAT16]:
        trajectory, condition = sampled(policy, precision)
        same, other = (densities(policy, precision, trajectory, condition, size) for size in (len(PROMPTS), 1))
        error = densities(policy, precision, exact, clean, len(PROMPTS)) - exact.log_prob_KB
        rows.append({
            "family": family,
            "precision": precision,
            "dtype": seen_dtype(policy, precision),
            "ratio": float(((same - trajectory.log_prob_KB).exp() - 1).abs().max()),
            "ratio_other_micro_batch": float(((other - trajectory.log_prob_KB).exp() - 1).abs().max()),
            "log_density": float(error.abs().max()),
        })  # fmt: skip
    return rows


def table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| family | precision | ratio - 1 | ratio - 1, other micro-batches | log-density, against float32 |",
        "|---|---|---|---|---|",
    ]
    measures = ("ratio", "ratio_other_micro_batch", "log_density")
    for row in rows:
        lines.append(
            f"| {row['family']} | {row['precision']} | {' | '.join(f'{row[name]:.1e}' for name in measures)} |"
        )
    return lines


def main(argv: list[str]) -> int:
    options = options_of(argv, out="")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for family, save in FOLDERS.items():
            rows += rows_of(family, save(Path(temporary) / family))
    finish({"title": "largest deviations, small folders on a CPU", "rows": rows}, table(rows), options["out"])
    return 0


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message="unknown to the model's tokenizer")
    quieten()
    sys.exit(main(sys.argv[1:]))
