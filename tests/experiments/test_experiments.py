"""Every shipped experiment is a test case: it is read, and runs two iterations here with paths and sizes overridden."""

import json
from pathlib import Path

import pytest

from drift_pl.arguments import build_config, parse
from drift_pl.build_incentive import build_prompting, build_selection, build_shaping
from drift_pl.experiment_files import list_experiments
from drift_pl.fit import fit
from drift_pl.incentive import Band, DiversityShaping, EmbeddingNoise

SIZES = [
    *("prompts.per_iteration=4", "prompts.group_size=4", "objective.updates=2", "objective.micro_batch=8"),
    *(
        "sampler.steps=6",
        "sampler.eval_steps=2",
        "evaluation.seeds_per_prompt=2",
        "evaluation.seeds_while_training=2",
        "evaluation.max_prompts=2",
    ),
    *(
        "evaluation.seeds_while_training=2",
        "evaluation.every=1",
        "trainer.iterations=2",
        "trainer.save_every=2",
        "trainer.accelerator=cpu",
    ),
    *("trainer.precision=32-true", "trainer.logger=[csv]"),
]
BUILTIN = "pkg:drift_pl.builtin/weights"
JUDGES = [
    f"rewards.0.args.pretrained={BUILTIN}/preference",
    f"incentive.shaping.encoder.args.pretrained={BUILTIN}/shaping_encoder",
    f"evaluation.encoder.args.pretrained={BUILTIN}/evaluation_encoder",
    f"evaluation.lpips.args.pretrained={BUILTIN}/lpips",
    "policy.resolution=32",
]
PATHS = {
    "pickscore_div": [f"policy.pretrained={BUILTIN}/pipeline", *JUDGES],
    "flux_pickscore_div": ["policy.max_sequence_length=16", *JUDGES],
}
TINY = {"flux_pickscore_div": "tiny_flux"}
"""Experiments of families that the built-in world has no model of, and fixtures of a folder of theirs."""


@pytest.mark.parametrize("name", list_experiments())
def test_experiment_runs(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    argv = [f"experiment={name}", *SIZES, *PATHS.get(name, []), f"run_dir={tmp_path / 'run'}"]
    if name in TINY:
        argv.append(f"policy.pretrained={request.getfixturevalue(TINY[name])}")
    run_dir = fit(parse(argv).config)
    summary = json.loads((run_dir / "summary.json").read_text())
    assert summary["iterations"] == 2
    assert summary["images"] == 2 * 4 * 4
    assert {"reward", "pairwise_distance", "pairwise_lpips", "vendi"} <= summary["base"].keys()
    assert summary["base"].keys() == summary["tuned"].keys()
    assert (run_dir / "samples" / "base_and_tuned.png").exists()


def test_the_pair_differs_in_the_levers_only() -> None:
    drift, plain = (build_config([("experiment", name)]) for name in ("shapes_div", "shapes_flowgrpo"))
    assert drift.incentive != plain.incentive
    plain.incentive, plain.experiment = drift.incentive, drift.experiment
    assert drift == plain


def test_plain_twin_has_every_lever_off() -> None:
    incentive = build_config([("experiment", "shapes_flowgrpo")]).incentive
    assert (incentive.selection.rule, incentive.prompting.rule, incentive.shaping.weight) == ("none", "none", 0.0)


def test_the_levers_of_shapes_div_are_their_rules_own_defaults() -> None:
    """A config default that differs from its rule's would change published results when a key is added."""
    config = build_config([("experiment", "shapes_div")])
    assert build_selection(config) == Band(2.0, "mean")
    assert build_prompting(config) == EmbeddingNoise(0.1)
    assert build_shaping(config) == DiversityShaping(6.0)


@pytest.mark.parametrize("name", ["shapes_div", "pickscore_div", "flux_pickscore_div"])
def test_drift_experiments_have_every_lever_on_and_judge_by_another_encoder(name: str) -> None:
    config = build_config([("experiment", name)])
    incentive = config.incentive
    assert incentive.selection.rule != "none"
    assert incentive.prompting.rule != "none"
    assert incentive.shaping.weight > 0
    assert incentive.shaping.encoder.args["pretrained"] != config.evaluation.encoder.args["pretrained"]


def test_flux_takes_the_published_settings_and_pickscore_divs_levers() -> None:
    """Flow-GRPO's FLUX configuration: 6 and 28 steps, guidance 3.5, a = 0.9, beta 0."""
    flux, base = (build_config([("experiment", name)]) for name in ("flux_pickscore_div", "pickscore_div"))
    assert (flux.sampler.steps, flux.sampler.eval_steps, flux.sampler.noise_level) == (6, 28, 0.9)
    assert (flux.policy.family, flux.policy.guidance_scale, flux.objective.kl_weight) == ("flux", 3.5, 0.0)
    assert (flux.incentive, flux.prompts, flux.rewards) == (base.incentive, base.prompts, base.rewards)
    assert flux.policy.lora == base.policy.lora
