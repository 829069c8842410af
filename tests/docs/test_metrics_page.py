"""docs/metrics.md explains exactly the keys that a run logs."""

import csv
import re
from pathlib import Path

from drift_pl.config.loading import parse
from drift_pl.fit import fit

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
SIZES = [
    *("prompts.per_iteration=2", "prompts.group_size=4", "objective.updates=1", "objective.micro_batch=8"),
    *(
        "sampler.steps=6",
        "sampler.eval_steps=2",
        "evaluation.seeds_per_prompt=2",
        "evaluation.seeds_while_training=2",
        "evaluation.max_prompts=1",
    ),
    *(
        "evaluation.seeds_while_training=2",
        "evaluation.every=1",
        "trainer.iterations=1",
        "trainer.save_every=1",
        "trainer.accelerator=cpu",
    ),
    "evaluation.extra=[rke,nearest_distance,pairwise_ssim,fid,kid]",
    *("trainer.logger=[csv]", "objective.kl_weight=0.1", "evaluation.rewards=[{name: jpeg_compressibility}]"),
]

QUICK = ["evaluation.extra=[]", "evaluation.every=0", "evaluation.max_prompts=1", "trainer.monitor_lpips=false"]


def logged_keys(run_dir: Path, *overrides: str) -> set[str]:
    fit(parse([*SIZES, *overrides, f"run_dir={run_dir}"]).config)
    with (run_dir / "csv" / "metrics.csv").open() as file:
        return set(next(csv.reader(file))) - {"step", "epoch"}


def test_page_and_runs_name_the_same_keys(tmp_path: Path) -> None:
    logged = logged_keys(tmp_path / "surrogate", "objective.loss=surrogate")
    logged |= logged_keys(tmp_path / "dppo", "objective.loss=flow_dppo", *QUICK)
    logged |= logged_keys(tmp_path / "awm", "objective.loss=awm", "objective.awm_pull=1", *QUICK)
    nft = ["objective.loss=nft", "trainer.precision=16-mixed", "incentive.shaping.target=0.95"]
    logged |= logged_keys(tmp_path / "nft", *nft)
    logged = {re.sub("(reward/)pickscore|(heldout/)jpeg_compressibility", r"\1\2NAME", key) for key in logged}
    logged = {re.sub("^final/.*", "final/NAME", key) for key in logged}
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    documented = {key for row in rows for key in re.findall("`([^`]+)`", row.split("|")[1])}
    assert logged == documented
