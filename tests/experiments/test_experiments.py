"""Every shipped experiment is a test case: it is read, and runs two iterations here with paths and sizes overridden."""

import json
import re
from pathlib import Path

import diffusers
import pytest
from accelerate import init_empty_weights
from plan import read_plan
from tiny_judges import save_tiny_aesthetic_head, save_tiny_hps, save_tiny_image_reward

from drift_pl.builders.method import build_prompting, build_selection, build_shaping
from drift_pl.builders.published import PIPELINES
from drift_pl.config.batches import derive_batches, noise_is_untrained, window_bounds
from drift_pl.config.experiments import list_experiments
from drift_pl.config.loading import build_config, parse
from drift_pl.fit import fit
from drift_pl.incentive.prompting import EmbeddingNoise
from drift_pl.incentive.selection import Band
from drift_pl.incentive.shaping import DiversityShaping
from drift_pl.policies.lora import attach_lora, trainable_parameters
from drift_pl.sampling.prompts import read_prompts

SIZES = [
    *("prompts.per_iteration=2", "prompts.group_size=4", "objective.updates=2", "objective.micro_batch=8"),
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
    f"incentive.shaping.encoder.args.pretrained={BUILTIN}/shaping_encoder",
    f"evaluation.encoder.args.pretrained={BUILTIN}/evaluation_encoder",
    f"evaluation.lpips.args.pretrained={BUILTIN}/lpips",
    "policy.resolution=32",
]
SD3 = [f"policy.pretrained={BUILTIN}/pipeline", "policy.max_sequence_length=0", *JUDGES]  # it has no T5
SD3 += ["policy.dtype=null"]  # float16 is slow on a CPU
PICKSCORE = [f"rewards.0.args.pretrained={BUILTIN}/preference"]
HELD_OUT_PICKSCORE = [f"evaluation.rewards.0.args.pretrained={BUILTIN}/preference"]
SD15 = ["policy.pretrained={sd15}", *JUDGES]
AESTHETIC = [f"rewards.0.args.pretrained={BUILTIN}/preference", "rewards.0.args.head={aesthetic}"]
FURTHER = ("zimage", "qwen_image", "flux2_klein", "sana", "wan")
PATHS = {
    "sd35_large_pickscore_div": [*SD3, *PICKSCORE],
    "pickscore_nft": [*SD3, *PICKSCORE, "objective.nft_times=5"],
    "pickscore_nft_div": [*SD3, *PICKSCORE, "objective.nft_times=5"],
    **{
        f"{family}_pickscore_div": [
            *(f"policy.pretrained={{{family}}}", "policy.max_sequence_length=40", *JUDGES, *PICKSCORE),
            *("evaluation.resolution=null", "policy.dtype=float32"),
            *(("policy.frames=5",) if family == "wan" else ()),
        ]
        for family in FURTHER
    },
    "pickscore_div": [*SD3, *PICKSCORE],
    "flux_pickscore_div": ["policy.pretrained={flux}", "policy.max_sequence_length=16", *JUDGES, *PICKSCORE],
    "sd15_ddpo_aesthetic": [*SD15, *AESTHETIC],
    "sd15_ddpo_aesthetic_div": [*SD15, *AESTHETIC],
    "sd15_ddpo_compressibility": SD15,
    "sd15_ddpo_compressibility_div": SD15,
    "pickscore_flowgrpo": [*SD3, *PICKSCORE],
    "pickscore_div_fast": [*SD3, *PICKSCORE],
    "pickscore_div_24gb": [*SD3, *PICKSCORE],
    "pickscore_flowgrpo_24gb": [*SD3, *PICKSCORE],
    "hps_div": [*SD3, "rewards.0.args.pretrained={hps}", "rewards.0.args.processor={hps}/clip", *HELD_OUT_PICKSCORE],
    "imagereward_div": [
        *SD3,
        "rewards.0.args.pretrained={image_reward}",
        "rewards.0.args.tokenizer={image_reward}/tokenizer",
        *HELD_OUT_PICKSCORE,
    ],
    "multi_reward_div": [
        *SD3,
        *PICKSCORE,
        "rewards.1.args.pretrained={hps}",
        "rewards.1.args.processor={hps}/clip",
        f"rewards.2.args.pretrained={BUILTIN}/preference",
        f"evaluation.rewards.0.args.pretrained={BUILTIN}/preference",
        "evaluation.rewards.0.args.head={aesthetic}",
    ],
}
"""Where an experiment's models are here; in braces: folders that a test makes."""


@pytest.fixture(scope="module")
def folders(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_flux: Path,
    tiny_unets: dict[str, Path],
    request: pytest.FixtureRequest,
) -> dict[str, Path]:
    """Small files of the published formats."""
    root = tmp_path_factory.mktemp("published")
    for name in ("hps", "image_reward"):
        (root / name).mkdir()
    return {
        "flux": tiny_flux,
        **{family: request.getfixturevalue(f"tiny_{family}") for family in FURTHER},
        "sd15": tiny_unets["sd15"],
        "hps": save_tiny_hps(root / "hps"),
        "image_reward": save_tiny_image_reward(root / "image_reward"),
        "aesthetic": save_tiny_aesthetic_head(root / "head.pth", width=64),
    }


@pytest.mark.parametrize("name", list_experiments())
def test_experiment_runs(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    paths = [entry.format_map(folders) for entry in PATHS.get(name, [])]
    argv = [f"experiment={name}", *SIZES, *paths, f"run_dir={tmp_path / 'run'}"]
    run_dir = fit(parse(argv).config)
    summary = json.loads((run_dir / "summary.json").read_text())
    assert summary["iterations"] == 2
    assert summary["images"] == 2 * 2 * 4
    assert {"reward", "pairwise_distance", "pairwise_lpips", "vendi"} <= summary["base"].keys()
    assert summary["base"].keys() == summary["tuned"].keys()
    assert (run_dir / "samples" / "base_and_tuned.png").exists()


@pytest.mark.parametrize("name", list_experiments())
def test_no_shipped_experiment_sets_what_has_no_effect(name: str) -> None:
    assert parse([f"experiment={name}"]).ignored == ()


@pytest.mark.parametrize(
    "names",
    [
        ("shapes_drift", "shapes_flowgrpo"),
        ("pickscore_nft_div", "pickscore_nft"),
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


def test_shapes_div_is_the_studys_best_recipe() -> None:
    """Of its runs, the levers, the update and the KL; the study's sampler and length are shorter."""
    (studied,) = (job for job in read_plan()["F"].jobs if (job.method, job.seed) == ("drift_nft", 100))
    config, expected = build_config([("experiment", "shapes_div")]), parse([*studied.overrides]).config
    assert config.incentive == expected.incentive
    expected.objective.clip_range = config.objective.clip_range  # this update has no clip
    assert config.objective == expected.objective


def test_the_levers_of_shapes_drift_are_their_rules_own_defaults() -> None:
    """A config default that differs from its rule's would change published results when a key is added."""
    config = build_config([("experiment", "shapes_drift")])
    assert config.objective.kl_weight == 0
    assert build_selection(config) == Band(2.0, "mean")
    assert build_prompting(config) == EmbeddingNoise(0.1)
    assert build_shaping(config) == DiversityShaping(6.0)


@pytest.mark.parametrize(
    "name",
    [
        "shapes_div",
        "shapes_drift",
        "pickscore_div",
        "flux_pickscore_div",
        "sd35_large_pickscore_div",
        *(f"{family}_pickscore_div" for family in FURTHER),
        "sd15_ddpo_aesthetic_div",
        "sd15_ddpo_compressibility_div",
    ],
)
def test_drift_experiments_have_every_lever_on_and_judge_by_another_encoder(name: str) -> None:
    """Catches: diversity measured by the encoder that was trained on."""
    config = build_config([("experiment", name)])
    incentive = config.incentive
    assert incentive.selection.rule != "none"
    assert incentive.prompting.rule != "none"
    assert incentive.shaping.weight > 0
    assert incentive.shaping.encoder.args["pretrained"] != config.evaluation.encoder.args["pretrained"]


def test_stable_diffusion_3_5_takes_flow_grpos_published_settings() -> None:
    """https://github.com/yifan123/flow_grpo, config/grpo.py (pickscore_sd3) and scripts/train_sd3.py."""
    for name in ("pickscore_div", "pickscore_flowgrpo"):
        config = build_config([("experiment", name)])
        objective, lora = config.objective, config.policy.lora
        assert (config.sampler.steps, config.sampler.eval_steps, config.sampler.noise_level) == (10, 40, 0.7)
        assert (config.policy.guidance_scale, config.policy.max_sequence_length) == (4.5, 128)
        assert (config.prompts.per_iteration, config.prompts.group_size, objective.updates) == (48, 24, 2)
        assert (objective.clip_range, objective.kl_weight, objective.kl_form) == (1e-4, 0.01, "flow_grpo")
        assert (objective.learning_rate, objective.advantage_std) == (3e-4, "global")
        assert (objective.ema_decay, objective.ema_every) == (0.9, 8)
        assert (lora.rank, lora.alpha, config.trainer.precision) == (32, 64, "16-mixed")


@pytest.mark.parametrize(
    ("name", "layers", "millions"), [("pickscore_div", 191, 18.8), ("flux_pickscore_div", 342, 179.3)]
)
def test_the_adapted_layers_are_as_many_as_published(name: str, layers: int, millions: float) -> None:
    """Oracle: peft's own count for the published lists of layers. `to_q` would match `attn2.to_q` as well (243)."""
    config = build_config([("experiment", name)])
    pipeline, lora = PIPELINES[config.policy.pretrained], config.policy.lora
    with init_empty_weights():
        network = getattr(diffusers, pipeline.denoiser)(**pipeline.config)
        attach_lora(network, lora.rank, lora.alpha, lora.targets, seed=0)
    trained = dict(trainable_parameters(network))
    assert len(trained) == 2 * layers
    assert sum(parameter.numel() for parameter in trained.values()) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize("name", [name for name in list_experiments() if not name.startswith(("shapes", "emoji"))])
def test_an_experiment_says_how_often_a_prompt_is_seen(name: str) -> None:
    """The line of its head, against prompts x iterations / length of the list."""
    config = build_config([("experiment", name)])
    said = re.search(r"^# Prompts:   each of the ([\d,]+) is seen about (\d+) times", read_text(name), re.MULTILINE)
    assert said is not None
    number = len(read_prompts(config.prompts.train))
    assert int(said[1].replace(",", "")) == number
    assert int(said[2]) == round(config.prompts.per_iteration * config.trainer.iterations / number)


def read_text(name: str) -> str:
    return (Path(__file__).parents[2] / "experiments" / f"{name}.yaml").read_text()


def test_flux_takes_the_published_settings_and_pickscore_divs_levers() -> None:
    """Flow-GRPO's FLUX configuration: 6 and 28 steps, guidance 3.5, a = 0.9, beta 0; in scripts/train_flux.py rank 64,
    alpha 128, texts of 128 tokens, noise in all six steps, the first five trained."""
    flux, base = (build_config([("experiment", name)]) for name in ("flux_pickscore_div", "pickscore_div"))
    assert (flux.sampler.steps, flux.sampler.eval_steps, flux.sampler.noise_level) == (6, 28, 0.9)
    assert (flux.policy.family, flux.policy.guidance_scale, flux.objective.kl_weight) == ("flux", 3.5, 0.0)
    assert (flux.incentive, flux.prompts, flux.rewards) == (base.incentive, base.prompts, base.rewards)
    assert (flux.policy.lora.rank, flux.policy.lora.alpha, flux.policy.max_sequence_length) == (64, 128, 128)
    assert (noise_is_untrained(flux.sampler), window_bounds(flux.sampler)) == (True, (0, 5))


def test_diffusion_nfts_published_settings_are_in_its_experiment() -> None:
    """https://github.com/NVlabs/DiffusionNFT, config/nft.py (sd3_pickscore), scripts/train_nft_sd3.py."""
    config = build_config([("experiment", "pickscore_nft")])
    sampler, objective, plain = config.sampler, config.objective, build_config([("experiment", "pickscore_flowgrpo")])
    assert (sampler.steps, sampler.solver, sampler.window_size, config.policy.guidance_scale) == (10, "dpm2", 0, 1.0)
    assert (objective.loss, objective.updates, objective.nft_times, objective.nft_beta) == ("nft", 1, 9, 1.0)
    assert (objective.noise_levels, objective.branch_weight, objective.kl_scale) == ("sampler", "own", "plain")
    assert (objective.kl_weight, objective.old_decay_max, objective.old_decay_rate) == (1e-4, 0.5, 0.001)
    assert (objective.advantage_std, objective.learning_rate, objective.ema_decay) == ("global", 3e-4, 0.9)
    assert (objective.ema_every, config.policy.lora, config.prompts) == (1, plain.policy.lora, plain.prompts)


def test_qwen_image_and_klein_take_the_published_settings() -> None:
    """Flow-GRPO's config/grpo.py and scripts/train_qwenimage.py; Flow-Factory's example, and its issue 108."""
    qwen, klein = (build_config([("experiment", f"{name}_pickscore_div")]) for name in ("qwen_image", "flux2_klein"))
    sampler, objective = qwen.sampler, qwen.objective
    assert (sampler.steps, sampler.eval_steps, sampler.noise_level) == (10, 50, 1.2)
    assert (sampler.window_size, window_bounds(sampler), qwen.policy.guidance_scale) == (2, (0, 5), 4.0)
    assert (qwen.prompts.per_iteration, qwen.prompts.group_size) == (32, 16)
    assert (objective.kl_weight, objective.ema_decay, objective.clip_range) == (0.0, 0.0, 1e-4)
    assert (qwen.policy.lora.rank, qwen.policy.lora.alpha, len(qwen.policy.lora.targets)) == (64, 128, 12)
    assert (klein.sampler.steps, klein.sampler.window_size, window_bounds(klein.sampler)) == (8, 1, (1, 4))
    assert (klein.policy.guidance_scale, klein.objective.clip_range) == (4.0, 1e-5)


def test_wan_takes_flow_grpos_published_settings() -> None:
    """https://github.com/yifan123/flow_grpo, config/grpo.py (general_ocr_wan2_1) and scripts/train_wan2_1.py."""
    config = build_config([("experiment", "wan_pickscore_div")])
    policy, sampler, objective = config.policy, config.sampler, config.objective
    assert (policy.resolution, policy.frames, policy.guidance_scale, policy.max_sequence_length) == (240, 33, 4.5, 512)
    assert (sampler.steps, sampler.eval_steps, config.prompts.group_size) == (20, 50, 12)
    assert (objective.clip_range, objective.kl_weight, objective.learning_rate) == (1e-3, 0.004, 1e-4)
    assert (objective.advantage_std, objective.ema_decay, objective.ema_every) == ("group", 0.9, 8)
    assert (policy.lora.rank, policy.lora.alpha, len(policy.lora.targets)) == (32, 64, 4)


def test_ddpos_published_settings_are_in_its_experiments() -> None:
    """https://github.com/kvablack/ddpo-pytorch, config/base.py and config/dgx.py."""
    aesthetic, small = (
        build_config([("experiment", f"sd15_ddpo_{name}")]) for name in ("aesthetic", "compressibility")
    )
    for config, updates, iterations in ((aesthetic, 2, 200), (small, 4, 100)):
        sampler, objective, batches = config.sampler, config.objective, derive_batches(config)
        assert (sampler.kind, sampler.steps, sampler.noise_level, batches.trained_steps) == ("ddim", 50, 1.0, 50)
        assert (config.policy.guidance_scale, batches.images_per_iteration) == (5.0, 256)
        assert config.policy.pretrained == "CompVis/stable-diffusion-v1-4"
        assert (objective.clip_range, objective.advantage_clip, objective.learning_rate) == (1e-4, 5.0, 3e-4)
        assert (objective.kl_weight, objective.ema_decay, objective.weight_decay) == (0.0, 0.0, 1e-4)
        assert (batches.optimizer_steps_per_iteration, config.trainer.iterations) == (updates, iterations)
