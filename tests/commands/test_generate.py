"""`python -m drift_pl.generate`: base and fine-tuned model on one noise, against diffusers and against each other."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from PIL import Image
from runs import TinyWorld

from drift_pl.builders.bench import build_sampling
from drift_pl.builders.run import build_policy
from drift_pl.builders.scoring import build_encoder, build_rewards
from drift_pl.config.loading import build_config
from drift_pl.core.rng import make_generator
from drift_pl.evaluation.drawing import draw, save_pictures
from drift_pl.evaluation.grids import LABEL_WIDTH
from drift_pl.evaluation.points import trained_point
from drift_pl.evaluation.sampling import Model
from drift_pl.export import main as export
from drift_pl.generate import main

PROMPT = "a red dot"


@pytest.fixture(scope="module")
def run(remade: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose weights are far from the base's, and those of its average elsewhere."""

    def move(content: dict[str, Any]) -> None:
        for part, seed in (("average", 1), ("state_dict", 2)):
            generator = torch.Generator().manual_seed(seed)
            for name, value in content[part].items():
                if "lora_B" in name:
                    value.add_(0.3 * torch.randn(value.shape, generator=generator))

    return remade(tmp_path_factory.mktemp("moved") / "run", move)


@pytest.fixture(scope="module")
def pictures(run: Path) -> Callable[..., dict[str, np.ndarray]]:
    """Runs the command, n=2 by default, and returns the pixels of `base` and `tuned`, [N, H, W, 3]."""
    made: dict[tuple[str, ...], dict[str, np.ndarray]] = {}

    def call(*argv: str) -> dict[str, np.ndarray]:
        if argv not in made:
            out = run.parent / f"pictures{len(made)}"
            assert main([f"ckpt_path={run}", f"prompt={PROMPT}", "n=2", f"out={out}", *argv]) == 0
            made[argv] = read(out)
        return made[argv]

    return call


def read(out: Path) -> dict[str, np.ndarray]:
    return {
        which: np.stack([np.asarray(Image.open(file)) for file in sorted(out.glob(f"{which}-*.png"))])
        for which in ("base", "tuned")
    }


def differ(one: np.ndarray, other: np.ndarray) -> int:
    """Largest difference, in grey levels of 255."""
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def test_both_are_what_diffusers_draws_from_the_same_noise(
    run: Path, evaluated_world: TinyWorld, pictures: Callable[..., dict[str, np.ndarray]], tmp_path: Path
) -> None:
    """The noise of image k is a function of seed and k; the tuned model is the exported LoRA in a stock pipeline."""
    assert export([f"ckpt_path={run}", f"out={tmp_path / 'lora'}"]) == 0
    noise = torch.stack([torch.randn(4, 8, 8, generator=make_generator("generated_latents", 5, k)) for k in (0, 1)])
    pipeline = StableDiffusion3Pipeline.from_pretrained(
        evaluated_world.root / "pipeline", text_encoder_3=None, tokenizer_3=None
    )
    pipeline.set_progress_bar_config(disable=True)
    ours = pictures("seed=5", "steps=3", "guidance_scale=2")
    for which in ("base", "tuned"):
        if which == "tuned":
            pipeline.load_lora_weights(tmp_path / "lora")
        theirs = pipeline(
            prompt=[PROMPT] * 2,
            num_inference_steps=3,
            guidance_scale=2.0,
            max_sequence_length=0,
            latents=noise,
            output_type="np",
        ).images
        assert differ(ours[which], (theirs * 255).round()) <= 1  # a value on the edge may be rounded either way
    assert differ(ours["base"], ours["tuned"]) > 5
    assert differ(ours["base"][0], ours["base"][1]) > 5


def test_an_adapter_that_counts_nothing_is_the_base(pictures: Callable[..., dict[str, np.ndarray]]) -> None:
    plain, nothing, half = pictures(), pictures("lora_scale=0"), pictures("lora_scale=0.5")
    assert np.array_equal(nothing["tuned"], nothing["base"])
    assert np.array_equal(nothing["base"], plain["base"])
    assert differ(half["tuned"], plain["tuned"]) > 2
    assert differ(half["tuned"], plain["base"]) > 2


def test_importance_guidance_goes_from_the_tuned_model_to_the_base(
    pictures: Callable[..., dict[str, np.ndarray]],
) -> None:
    """Power 0 is the tuned model; a huge power leaves everything before the finished image to the base."""
    powers = ((), ("aig=0",), ("aig=1e9",), ("aig=0.3",))
    plain, first, last, between = (pictures("steps=4", *power) for power in powers)
    assert np.array_equal(first["tuned"], plain["tuned"])
    assert differ(last["tuned"], plain["base"]) <= 1
    assert all(np.array_equal(some["base"], plain["base"]) for some in (first, last, between))
    assert differ(between["tuned"], plain["tuned"]) > 2
    assert differ(between["tuned"], plain["base"]) > 2


def test_images_do_not_depend_on_their_number(pictures: Callable[..., dict[str, np.ndarray]]) -> None:
    two, three, other = pictures(), pictures("n=3", "micro_batch=2"), pictures("seed=1")
    for which in ("base", "tuned"):
        assert len(three[which]) == 3
        assert differ(three[which][:2], two[which]) <= 1
        assert differ(other[which], two[which]) > 2


def test_the_average_is_drawn_unless_live_weights_are_requested(
    pictures: Callable[..., dict[str, np.ndarray]],
) -> None:
    plain, average, live = pictures(), pictures("weights=average"), pictures("weights=live")
    assert np.array_equal(plain["tuned"], average["tuned"])
    assert differ(live["tuned"], average["tuned"]) > 2
    assert np.array_equal(live["base"], average["base"])


def test_files_and_grid(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Three images in two columns, the base's block first, tiles of 64 pixels, a gap of 2, white where no image is.

    Catches in evaluation/sampling.py: images that are not counted; passes counted in place of images.
    """
    out = tmp_path / "new" / "pictures"
    assert main([f"ckpt_path={run}", f"prompt={PROMPT}", "n=3", f"out={out}", "aig=0.5"]) == 0
    numbered = [f"{which}-{number:02}.png" for which in ("base", "tuned") for number in range(3)]
    assert sorted(file.name for file in out.iterdir()) == sorted([*numbered, "base_and_tuned.png", "settings.json"])
    images = read(out)
    with Image.open(out / "base_and_tuned.png") as grid:
        for block, which in enumerate(("base", "tuned")):
            left = LABEL_WIDTH + block * (2 * 66 + 8)
            for number in range(3):
                place = (left + number % 2 * 66 + 33, 28 + number // 2 * 66 + 33)
                assert grid.getpixel(place) == tuple(images[which][number, 8, 8])
            assert grid.getpixel((left + 66 + 33, 28 + 66 + 33)) == (255, 255, 255)
    settings = json.loads((out / "settings.json").read_text())
    assert (settings["prompt"], settings["n"], settings["seed"], settings["steps"]) == (PROMPT, 3, 0, 2)
    assert (settings["importance_power"], settings["weights"]) == (0.5, "average")
    printed = capsys.readouterr().out
    assert all(part in printed for part in (str(out / "base-00.png"), "tuned-02.png", str(out / "base_and_tuned.png")))
    assert "reward" not in printed
    shown = ["importing libraries ...", "loading ", "drawing (6 images)", "drawing 6/6 images  ", "writing ..."]
    assert [line for line in printed.splitlines() if line.startswith(tuple(shown))] == [
        next(line for line in printed.splitlines() if line.startswith(stage)) for stage in shown
    ]


def test_large_images_are_shrunk_on_the_grid_alone(tmp_path: Path) -> None:
    images = torch.rand(2, 3, 512, 512)
    save_pictures({"base": images, "tuned": images}, tmp_path / "out", "tuned", "a", {})
    assert read(tmp_path / "out")["base"].shape == (2, 512, 512, 3)
    with Image.open(tmp_path / "out" / "base_and_tuned.png") as grid:
        assert grid.size == (LABEL_WIDTH + 2 * (2 * 258 + 8), 28 + 258)


def test_without_a_folder_each_call_takes_a_new_one_in_the_runs(run: Path) -> None:
    for name in ("ein-schönes-bild-s0", "ein-schönes-bild-s0-2"):
        assert (
            main([f"ckpt_path={run / 'checkpoints' / 'iteration-000004.ckpt'}", "prompt=Ein schönes Bild!", "n=1"]) == 0
        )
        assert (run / "generated" / name / "tuned-00.png").is_file()
    assert main([f"ckpt_path={run}", "prompt=???", "n=1"]) == 0
    assert (run / "generated" / "prompt-s0" / "tuned-00.png").is_file()


def test_measures_are_those_of_reward_and_encoder_on_the_written_images(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Images are written in 8 bits, and rewards and encoders see them in 8 bits as well."""
    out = tmp_path / "out"
    assert main([f"ckpt_path={run}", f"prompt={PROMPT}", "n=3", f"out={out}", "measure=true"]) == 0
    config = build_config([("experiment", str(run / "config.yaml"))])
    reward, encoder = build_rewards(config.rewards, "rewards")[0], build_encoder(config.evaluation.encoder, "e")
    measured = json.loads((out / "settings.json").read_text())["measured"]
    for which, pixels in read(out).items():
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        assert measured["reward"][which] == pytest.approx(float(reward(images, [PROMPT] * 3).mean()), abs=1e-5)
        unit = encoder(images).double()
        pairs = [1 - float(unit[i] @ unit[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
        assert measured["distance"][which] == pytest.approx(np.mean(pairs), abs=1e-6)
    printed = capsys.readouterr().out
    assert f"reward   base {measured['reward']['base']:.4f}  tuned {measured['reward']['tuned']:.4f}" in printed
    assert main([f"ckpt_path={run}", f"prompt={PROMPT}", "n=1", f"out={tmp_path / 'one'}", "measure=true"]) == 0
    assert "distance" not in capsys.readouterr().out  # one image has no distance


def test_the_run_says_what_the_command_line_leaves_open(
    run: Path, tmp_path: Path, pictures: Callable[..., dict[str, np.ndarray]], remade: Callable[..., Path]
) -> None:
    """Guidance, steps, scale and power of a run's own evaluation."""
    config = build_config([("experiment", str(run / "config.yaml"))])
    plan = build_sampling(config)
    assert (plan.steps, plan.guidance_scale, plan.importance_power, plan.lora_scale) == (2, 1.0, None, 1.0)
    given = [("sampler.eval_guidance_scale", "3"), ("sampler.eval_lora_scale", "0.5"), ("evaluation.resolution", "8")]
    plan = build_sampling(build_config([("experiment", str(run / "config.yaml")), *given]))
    assert (plan.guidance_scale, plan.lora_scale, plan.resolution) == (3.0, 0.5, 8)
    model = Model.on(build_policy(config), torch.device("cpu"), torch.no_grad)
    drawn = draw(model, plan, PROMPT, 2, 0, micro_batch=4)
    assert drawn["base"].shape == (2, 3, 8, 8)
    point = trained_point("last.ckpt", "", 7, 0, "live", plan)
    assert point.title(with_weights=True) == "iteration 7, LoRA scale 0.5, live weights"


@pytest.fixture
def refused(capsys: pytest.CaptureFixture, run: Path, tmp_path: Path) -> Callable[..., str]:
    """Runs the command and returns its one line; nothing may have been written."""

    def call(*argv: str, ckpt_path: object = run) -> str:
        before = [*run.rglob("*"), *tmp_path.rglob("*")]
        assert main([f"ckpt_path={ckpt_path}", f"prompt={PROMPT}", "n=1", f"out={tmp_path / 'out'}", *argv]) == 2
        assert [*run.rglob("*"), *tmp_path.rglob("*")] == before
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        return lines[0]

    return call


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("prompt=", ["prompt= is empty", "prompt=a red circle"]),
        ("prompt=  ", ["prompt= is empty"]),
        ("n=0", ["n=0 should be greater than or equal to 1", "e.g. n=16"]),
        ("n=many", ["n=many should be a valid integer"]),
        ("n=1.5", ["n=1.5 should be a valid integer"]),
        ("seed=x", ["seed=x should be a valid integer", "seed=1"]),
        ("promt=a", ["unknown key 'promt'", "did you mean 'prompt'"]),
        ("sampler.eval_steps=3", ["unknown key", "did you mean 'steps'"]),
        ("importance_power=1", ["unknown key", "did you mean 'aig'"]),
        ("objective.kl_weight=3", ["is a setting of the run"]),
        ("--n=3", ["unknown flag", "use n=3"]),
        ("steps=0", ["error: steps=0 should be greater than or equal to 1"]),
        ("steps=few", ["error: steps=few should be a valid integer"]),
        ("aig=-1", ["error: aig=-1 should be greater than or equal to 0"]),
        ("lora_scale=nan", ["error: lora_scale=nan should be a valid number"]),
        ("guidance_scale=strong", ["error: guidance_scale=strong should be a valid number"]),
        ("micro_batch=0", ["error: micro_batch=0 should be greater"]),
        ("accelerator=tpu", ["error: accelerator=tpu should be 'auto', 'cpu'"]),
        ("measure=maybe", ["measure=maybe should be a valid boolean", "measure=true"]),
        ("weights=ema", ["weights=ema should be 'average' or 'live'"]),
        ("policy.pretrained=/no/such", ["policy.pretrained=/no/such", "does not exist"]),
        ("ckpt_path=/no/such/run", ["no such file or folder"]),
    ],
)
def test_bad_argument(refused: Callable[..., str], argument: str, parts: list[str]) -> None:
    line = refused(argument)
    assert all(part in line for part in parts), line


def test_a_reward_model_that_is_missing(refused: Callable[..., str], run: Path, evaluated_world: TinyWorld) -> None:
    preference, away = evaluated_world.root / "preference", evaluated_world.root / "away"
    preference.rename(away)
    try:
        assert f"rewards.0.args.pretrained={preference}" in refused("measure=true")
    finally:
        away.rename(preference)


def test_a_folder_that_is_taken(refused: Callable[..., str], run: Path) -> None:
    assert "is not empty: give a new folder" in refused(f"out={run}")
    assert main([f"ckpt_path={run}"]) == 2
