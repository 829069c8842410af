"""Every shipped experiment is a test case: it is read, and runs two iterations here with paths and sizes overridden."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from drift_pl.arguments import build_config, parse
from drift_pl.build_incentive import build_prompting, build_selection, build_shaping
from drift_pl.config_checks import derive_batches
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
PATHS = {
    "pickscore_div": [
        f"policy.pretrained={BUILTIN}/pipeline",
        f"rewards.0.args.pretrained={BUILTIN}/preference",
        f"incentive.shaping.encoder.args.pretrained={BUILTIN}/shaping_encoder",
        f"evaluation.encoder.args.pretrained={BUILTIN}/evaluation_encoder",
        f"evaluation.lpips.args.pretrained={BUILTIN}/lpips",
        "policy.resolution=32",
    ]
}
SD15_PATHS = [
    f"evaluation.encoder.args.pretrained={BUILTIN}/evaluation_encoder",
    f"evaluation.lpips.args.pretrained={BUILTIN}/lpips",
    f"incentive.shaping.encoder.args.pretrained={BUILTIN}/shaping_encoder",
    "policy.resolution=32",
]


def paths(name: str, tiny_unets: dict[str, Path], tmp_path: Path) -> list[str]:
    """Overrides that put small folders of the same formats in place of an experiment's own."""
    if not name.startswith("sd15"):
        return PATHS.get(name, [])
    own = [*SD15_PATHS, f"policy.pretrained={tiny_unets['sd15']}"]
    if "aesthetic" in name:
        head = {"layers.0.weight": torch.linspace(-1, 1, 64)[None], "layers.0.bias": torch.full((1,), 5.0)}
        save_file(head, tmp_path / "head.safetensors")
        own += [f"rewards.0.args.pretrained={BUILTIN}/preference", f"rewards.0.args.head={tmp_path}/head.safetensors"]
    return own


@pytest.mark.parametrize("name", list_experiments())
def test_experiment_runs(name: str, tiny_unets: dict[str, Path], tmp_path: Path) -> None:
    argv = [f"experiment={name}", *SIZES, *paths(name, tiny_unets, tmp_path), f"run_dir={tmp_path / 'run'}"]
    run_dir = fit(parse(argv).config)
    summary = json.loads((run_dir / "summary.json").read_text())
    assert summary["iterations"] == 2
    assert summary["images"] == 2 * 4 * 4
    assert {"reward", "pairwise_distance", "pairwise_lpips", "vendi"} <= summary["base"].keys()
    assert summary["base"].keys() == summary["tuned"].keys()
    assert (run_dir / "samples" / "base_and_tuned.png").exists()


@pytest.mark.parametrize(
    "names",
    [
        ("shapes_div", "shapes_flowgrpo"),
        ("sd15_ddpo_aesthetic_div", "sd15_ddpo_aesthetic"),
        ("sd15_ddpo_compressibility_div", "sd15_ddpo_compressibility"),
    ],
)
def test_the_pair_differs_in_the_levers_only(names: tuple[str, str]) -> None:
    drift, plain = (build_config([("experiment", name)]) for name in names)
    assert drift.incentive != plain.incentive
    plain.incentive, plain.experiment = drift.incentive, drift.experiment
    assert drift == plain


@pytest.mark.parametrize("name", ["shapes_flowgrpo", "sd15_ddpo_aesthetic", "sd15_ddpo_compressibility"])
def test_plain_twin_has_every_lever_off(name: str) -> None:
    incentive = build_config([("experiment", name)]).incentive
    assert (incentive.selection.rule, incentive.prompting.rule, incentive.shaping.weight) == ("none", "none", 0.0)


def test_the_levers_of_shapes_div_are_their_rules_own_defaults() -> None:
    """A config default that differs from its rule's would change published results when a key is added."""
    config = build_config([("experiment", "shapes_div")])
    assert build_selection(config) == Band(2.0, "mean")
    assert build_prompting(config) == EmbeddingNoise(0.1)
    assert build_shaping(config) == DiversityShaping(6.0)


@pytest.mark.parametrize(
    "name", ["shapes_div", "pickscore_div", "sd15_ddpo_aesthetic_div", "sd15_ddpo_compressibility_div"]
)
def test_drift_experiments_have_every_lever_on_and_judge_by_another_encoder(name: str) -> None:
    config = build_config([("experiment", name)])
    incentive = config.incentive
    assert incentive.selection.rule != "none"
    assert incentive.prompting.rule != "none"
    assert incentive.shaping.weight > 0
    assert incentive.shaping.encoder.args["pretrained"] != config.evaluation.encoder.args["pretrained"]


def test_ddpos_published_settings_are_in_its_experiments() -> None:
    """https://github.com/kvablack/ddpo-pytorch, config/base.py and config/dgx.py."""
    aesthetic, small = (
        build_config([("experiment", f"sd15_ddpo_{name}")]) for name in ("aesthetic", "compressibility")
    )
    for config, updates, iterations in ((aesthetic, 2, 200), (small, 4, 100)):
        sampler, objective, batches = config.sampler, config.objective, derive_batches(config)
        assert (sampler.kind, sampler.steps, sampler.noise_level, batches.trained_steps) == ("ddim", 50, 1.0, 50)
        assert (config.policy.guidance_scale, batches.images_per_iteration) == (5.0, 256)
        assert (objective.clip_range, objective.advantage_clip, objective.learning_rate) == (1e-4, 5.0, 3e-4)
        assert (objective.kl_weight, objective.ema_decay, objective.weight_decay) == (0.0, 0.0, 1e-4)
        assert (batches.optimizer_steps_per_iteration, config.trainer.iterations) == (updates, iterations)
