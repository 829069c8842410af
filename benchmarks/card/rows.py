"""What `gpu_check.py` measures: one row per configuration of a shipped experiment, most informative first."""

from dataclasses import dataclass

PIXELS = ("policy.resolution=512",)
CHEAP_REWARD = "rewards=[{name: jpeg_incompressibility, args: {kilobytes_per_point: 100.0}}]"
FULL_JUDGE = 'rewards=[{name: "card.models:RandomJudge", args: {pretrained: yuvalkirstain/PickScore_v1}}]'
BUILT_IN = "pkg:drift_pl.builtin/weights"
SMALL_ENCODERS = (
    f'evaluation.encoder={{name: pooled, args: {{pretrained: "{BUILT_IN}/evaluation_encoder"}}}}',
    f'evaluation.lpips={{name: lpips, args: {{pretrained: "{BUILT_IN}/lpips"}}}}',
)
SHAPING_ENCODER = f'incentive.shaping.encoder={{name: dino, args: {{pretrained: "{BUILT_IN}/shaping_encoder"}}}}'
SHAPING = (*SMALL_ENCODERS, SHAPING_ENCODER)
ONE_STEP = ("objective.updates=1",)
SD3 = ("experiment=pickscore_div", *PIXELS, *ONE_STEP, *SHAPING)
SD15 = ("experiment=sd15_ddpo_compressibility", *PIXELS, *ONE_STEP, *SMALL_ENCODERS)
SD3_FAST = ("experiment=pickscore_div_fast", *PIXELS, *ONE_STEP, *SHAPING)
SMALL_CARD = ("experiment=pickscore_div_24gb", *PIXELS, *ONE_STEP, *SHAPING, FULL_JUDGE)
HALF = ("policy.dtype=bfloat16", "trainer.precision=bf16-mixed")
FP16 = ("policy.dtype=float16", "trainer.precision=16-mixed")
FULL_FLOAT = ("policy.dtype=float32", "trainer.precision=bf16-mixed")
CHECKPOINTING, COMPILED = ("policy.gradient_checkpointing=true",), ("policy.compile=true",)


@dataclass(frozen=True)
class Row:
    """A configuration.

    Attributes:
        settings: an experiment and what differs from it, as on the command line of `fit`.
        quick: also in the form for a few minutes.
        images: of an iteration, in groups of 8.
        limit_s: seconds after which it is ended.
    """

    settings: tuple[str, ...]
    quick: bool = False
    images: int = 16
    limit_s: int = 240


ROWS: dict[str, Row] = {
    "sd35_medium bf16": Row((*SD3, *HALF, CHEAP_REWARD), quick=True),
    "sd35_medium 24 GB recipe, full-size judge": Row((*SMALL_CARD, *HALF), quick=True),
    "sd15 bf16": Row((*SD15, *HALF), quick=True),
    "sd35_medium fp16": Row((*SD3, *FP16, CHEAP_REWARD), quick=True),
    "sd35_medium bf16 checkpointing": Row((*SD3, *HALF, *CHECKPOINTING, CHEAP_REWARD), quick=True),
    "sd35_medium bf16 compiled": Row((*SD3, *HALF, *COMPILED, CHEAP_REWARD), quick=True, limit_s=420),
    "sd15 fp16": Row((*SD15, *FP16)),
    "sd35_medium float32 weights, bf16 passes": Row((*SD3, *FULL_FLOAT, CHEAP_REWARD)),
    "sd35_medium float32": Row((*SD3, *FULL_FLOAT, "trainer.precision=32-true", CHEAP_REWARD)),
    "sd35_medium fast recipe": Row((*SD3_FAST, *HALF, CHEAP_REWARD)),
    "sd35_medium bf16 checkpointing compiled": Row((*SD3, *HALF, *CHECKPOINTING, *COMPILED, CHEAP_REWARD), limit_s=420),
    "sd15 bf16 checkpointing": Row((*SD15, *HALF, *CHECKPOINTING)),
    "sd15 bf16 compiled": Row((*SD15, *HALF, *COMPILED), limit_s=420),
}
