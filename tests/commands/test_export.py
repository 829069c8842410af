"""`python -m drift_pl.export`: stock diffusers draws from the written files what the run's policy draws."""

import json
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusion3Pipeline, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image, ImageChops
from runs import TinyWorld
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from drift_pl.builders.policy import build_policy
from drift_pl.config.loading import build_config
from drift_pl.export import main
from drift_pl.fit import main as fit
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.policies import export as export_weights
from drift_pl.policies.lora import attach_lora, trainable_parameters
from drift_pl.sampling.rollout import Sampler, sample_ode

PROMPTS = ["a red bar", "any dot"]
STEPS, GUIDANCE = 3, 2.0
NONE = {"text_encoder_3": None, "tokenizer_3": None}
LORA = "pytorch_lora_weights.safetensors"


def moved(weights: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """An adapter's weights far from those of the base, as long training would leave them."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: value + 0.3 * torch.randn(value.shape, generator=generator) if "lora_B" in name else value
        for name, value in weights.items()
    }


@pytest.fixture(scope="module")
def run(remade: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run (rank 8, alpha 16) whose weights, and their average, are far from the base and from one another."""

    def move(content: dict[str, Any]) -> None:
        content["average"] = moved(content["average"], 1)
        content["state_dict"] = moved(content["state_dict"], 2)

    return remade(tmp_path_factory.mktemp("moved") / "run", move)


@pytest.fixture(scope="module")
def exported(run: Path) -> Callable[..., Path]:
    """A folder written by the command, once for each way of asking."""

    def call(*argv: str) -> Path:
        out = run.parent / ("-".join(argv).replace("=", "_") or "plain")
        if not out.exists():
            assert main([f"ckpt_path={run}", f"out={out}", *argv]) == 0
        return out

    return call


def noise() -> Tensor:
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))


def drawn_by_the_run(run: Path, which: str) -> Tensor:
    """Images [2, 3, H, W] of the run's own policy, its weights taken from the checkpoint by hand."""
    config = build_config([("experiment", str(run / "config.yaml"))])
    content = torch.load(run / "checkpoints" / "iteration-000004.ckpt", weights_only=True)
    policy = build_policy(config)
    with torch.no_grad():
        for name, parameter in policy.trainable_parameters():
            live = content["state_dict"][f"network.{name}"]
            parameter.copy_(content["average"][name] if which == "average" else live)
    sampler = Sampler(policy.sigmas(STEPS), GUIDANCE, policy.encode(["bad"], negative=True))
    return policy.decode(sample_ode(policy, sampler, noise(), VariedCondition(policy.encode(PROMPTS))))


def drawn_by_diffusers(folder: Path, lora: Path | None = None) -> Tensor:
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder, **NONE)
    if lora is not None:
        pipeline.load_lora_weights(lora)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        prompt=PROMPTS,
        negative_prompt=["bad"] * 2,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        max_sequence_length=0,
        latents=noise(),
        output_type="pt",
    ).images


def distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


@pytest.mark.parametrize("weights", ["average", "live"])
def test_diffusers_draws_from_the_lora_what_the_run_draws(
    run: Path, exported: Callable[..., Path], evaluated_world: TinyWorld, weights: str
) -> None:
    """float32 sums in another order, pixels in [0, 1]: 1e-5."""
    base, lora = evaluated_world.root / "pipeline", exported(f"weights={weights}")
    ours, theirs = drawn_by_the_run(run, weights), drawn_by_diffusers(base, lora)
    assert distance(ours, theirs) < 1e-5
    other = drawn_by_the_run(run, "live" if weights == "average" else "average")
    assert distance(theirs, other) > 1e-2
    assert distance(theirs, drawn_by_diffusers(base)) > 1e-2


def test_an_alpha_that_was_lost_would_show(
    exported: Callable[..., Path], run: Path, evaluated_world: TinyWorld
) -> None:
    """Without the header diffusers takes alpha = rank, and draws other images."""
    lora = exported("weights=average")
    with safe_open(lora / LORA, framework="pt") as file:
        header = json.loads(file.metadata()["lora_adapter_metadata"])
    assert (header["transformer.r"], header["transformer.lora_alpha"]) == (8, 16)
    assert header["transformer.target_modules"] == sorted(header["transformer.target_modules"])
    bare = lora.parent / "bare"
    bare.mkdir()
    save_file(load_file(lora / LORA), bare / LORA)
    theirs = drawn_by_diffusers(evaluated_world.root / "pipeline", bare)
    assert distance(theirs, drawn_by_the_run(run, "average")) > 1e-2


def test_the_full_pipeline_draws_what_the_run_draws(
    run: Path, exported: Callable[..., Path], evaluated_world: TinyWorld
) -> None:
    full = exported("format=full")
    assert distance(drawn_by_diffusers(full), drawn_by_the_run(run, "average")) < 1e-5
    part = "transformer/diffusion_pytorch_model.safetensors"
    assert load_file(full / part).keys() == load_file(evaluated_world.root / "pipeline" / part).keys()
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o644 for file in full.rglob("*") if file.is_file())


def test_a_pipeline_of_a_half_precision_run_is_whole_and_in_float32(
    evaluated_world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its card's example runs as written.

    Catches in drift_pl/export.py: merged into weights of the run's own precision, beside a float32 autoencoder.
    """
    half = ["policy.dtype=bfloat16", "trainer.precision=bf16-mixed", "trainer.iterations=1", "evaluation.every=0"]
    assert fit([*evaluated_world.overrides(), *half, f"run_dir={tmp_path / 'run'}", "trainer.progress=none"]) == 0
    assert main([f"ckpt_path={tmp_path / 'run'}", f"out={tmp_path / 'full'}", "format=full"]) == 0
    files = list((tmp_path / "full").rglob("*.safetensors"))
    assert {value.dtype for file in files for value in load_file(file).values()} == {torch.float32}
    monkeypatch.chdir(tmp_path)
    exec(re.findall(r"```python\n(.*?)```", (tmp_path / "full" / "README.md").read_text(), re.DOTALL)[0], {})
    assert Path("image.png").is_file()


def test_a_default_export_is_the_average_as_a_lora(exported: Callable[..., Path]) -> None:
    plain, average = exported(), exported("weights=average")
    assert sorted(file.name for file in plain.iterdir()) == ["README.md", LORA]
    ours, theirs = load_file(plain / LORA), load_file(average / LORA)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert stat.S_IMODE((plain / LORA).stat().st_mode) == 0o644


def test_the_examples_of_the_cards_run_and_draw_the_same(
    exported: Callable[..., Path], evaluated_world: TinyWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    images = {}
    for out in (exported(), exported("format=full")):
        monkeypatch.chdir(out.parent)
        code = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)[0]
        assert code.count("\n") <= 7
        torch.manual_seed(3)
        exec(code, {})
        with Image.open("image.png") as image:
            images[out.name] = image.convert("RGB")
    lora, full = images.values()
    assert max(high for _, high in ImageChops.difference(lora, full).getextrema()) <= 1
    assert all(high - low > 10 for low, high in lora.getextrema())


def test_any_trained_part_of_any_pipeline_is_written_under_its_own_name(tmp_path: Path) -> None:
    """A UNet, as Stable Diffusion 1.5 has: nothing but the pipeline itself says what its weights are called."""

    def pipeline() -> StableDiffusionPipeline:
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 8),
            layers_per_block=1,
            norm_num_groups=4,
            cross_attention_dim=8,
            attention_head_dim=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        )
        others = dict.fromkeys(("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
        return StableDiffusionPipeline(
            unet=unet,
            scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
            requires_safety_checker=False,
            **others,
        )

    ours, theirs = pipeline(), pipeline()
    attach_lora(ours.unet, 4, 12, ["to_q", "to_v"], 0)
    with torch.no_grad():
        for _, parameter in trainable_parameters(ours.unet):
            parameter.add_(0.2)
    parameters = lambda: trainable_parameters(ours.unet)  # noqa: E731
    policy = SimpleNamespace(pipeline=ours, network=ours.unet, trainable_parameters=parameters)
    export_weights.save_lora(policy, tmp_path)
    assert all(name.startswith("unet.") for name in load_file(tmp_path / LORA))
    inputs = (torch.randn(1, 4, 8, 8), 10, torch.randn(1, 3, 8))
    with torch.no_grad():
        before = theirs.unet(*inputs).sample
        theirs.load_lora_weights(tmp_path)
        assert distance(theirs.unet(*inputs).sample, ours.unet(*inputs).sample) < 1e-6
        assert distance(theirs.unet(*inputs).sample, before) > 1e-3
    ours.unet.unload_lora()
    with pytest.raises(ValueError, match="use format=full"):
        export_weights.save_lora(policy, tmp_path)
    calls: list[Path] = []
    policy.save_adapter = calls.append
    export_weights.save_lora(policy, tmp_path)
    assert calls == [tmp_path]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture, tiny_run: Path, tmp_path: Path) -> Callable[..., str]:
    """Runs the command and returns its one line; nothing may have been written."""

    def call(*argv: str, ckpt_path: object = tiny_run, out: object = tmp_path / "out") -> str:
        before = sorted(tmp_path.rglob("*"))
        assert main([f"ckpt_path={ckpt_path}", f"out={out}", *argv]) == 2
        assert sorted(tmp_path.rglob("*")) == before
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        return lines[0]

    return call


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("wieghts=live", ["unknown key 'wieghts'", "did you mean 'weights'"]),
        ("pretrained=x", ["unknown key 'pretrained'", "did you mean 'policy.pretrained'"]),
        ("objective.learning_rate=1", ["is a setting of the run", "cannot be changed"]),
        ("qqqqqq=1", ["unknown key 'qqqqqq'", "--help lists all keys"]),
        ("--weights=live", ["unknown flag", "weights=live"]),
        ("--verbose", ["unknown flag '--verbose'", "--debug"]),
        ("runs/mine", ["has no '='", "ckpt_path=runs/mine"]),
        ("ckpt_path=", ["ckpt_path= is empty", "ckpt_path=runs/"]),
        ("weights=ema", ["weights=ema should be 'average' or 'live'"]),
        ("format=pickle", ["format=pickle should be 'lora' or 'full'"]),
        ("policy.pretrained=/no/such", ["policy.pretrained=/no/such", "does not exist"]),
    ],
)
def test_bad_argument(refused: Callable[..., str], argument: str, parts: list[str]) -> None:
    line = refused(argument)
    assert all(part in line for part in parts), line


def test_runs_and_checkpoints_that_are_not_there(
    refused: Callable[..., str], tiny_run: Path, remade: Callable[..., Path], tmp_path: Path
) -> None:
    assert "no such file or folder" in refused(ckpt_path="/no/such/run")
    assert "did you mean" in refused(ckpt_path=f"{tiny_run}n")
    line = refused(ckpt_path=f"{tiny_run}/checkpoints/*.ckpt")
    assert "matches 3 checkpoints (iteration-000002.ckpt" in line

    def halve(content: dict[str, Any]) -> None:
        content["average"] = {
            name: value[:4].clone() if "lora_A" in name else value for name, value in content["average"].items()
        }

    line = refused(ckpt_path=remade(tmp_path / "halved", halve))
    assert all(part in line for part in ("4 x 16", "8 x 16", "policy.lora.rank=8")), line

    def other_run(content: dict[str, Any]) -> None:
        content["run_identity"] = "0123abcd-s0"
        content["run_settings"]["sampler.steps"] = 5

    line = refused(ckpt_path=remade(tmp_path / "other", other_run))
    assert "is of the run 0123abcd-s0" in line
    assert main(["out=there"]) == 2
    assert main([f"ckpt_path={tiny_run}"]) == 2


def test_a_folder_that_is_taken_is_left_alone(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    assert f"is not empty: give a new folder, e.g. out={tmp_path}/full-2" in refused(out=tmp_path / "full")
    assert "is not a folder" in refused(out=tmp_path / "full" / "mine.txt")
    assert "Not a directory: a file is where a folder is needed" in refused(
        out=tmp_path / "full" / "mine.txt" / "below"
    )


def test_an_empty_folder_is_filled_also_through_a_link(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    assert main([f"ckpt_path={tiny_run}", f"out={tmp_path / 'link'}"]) == 0
    assert (tmp_path / "empty" / LORA).is_file()
    assert (tmp_path / "link").is_symlink()


def test_a_full_disk_leaves_nothing(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fill(policy: Any, folder: Path) -> None:
        (folder / LORA).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_weights, "save_lora", fill)
    assert f"out={tmp_path / 'out'} cannot be written (No space left on device)" in refused()


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture) -> None:
    assert main(["ckpt_path=/no/such/run", "out=there", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["export", "generate"])
def test_help_names_every_key_and_waits_for_nothing(module: str) -> None:
    program = f"import sys; from drift_pl.{module} import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    text, _, modules = done.stdout.rpartition("\n\n")
    assert {"torch", "lightning", "transformers", "diffusers"}.isdisjoint(modules.split())
    assert all(f"  {name} " in text for name in ("ckpt_path", "out", "weights", "policy.pretrained"))
    assert "ckpt_path=..." in text.splitlines()[0]
