"""What `plan` counts: against numbers by hand, torch's own counter, and the resident memory of a process."""

import json
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import limit
import pytest
import torch
from card.rows import ROWS
from torch import nn
from torch.utils.checkpoint import checkpoint

from drift_pl import plan as command
from drift_pl.builders.devices import DEVICES, device_of
from drift_pl.builders.footprint import bytes_of, give_shapes, measure, shapes_only
from drift_pl.builders.method import build_update
from drift_pl.builders.planned_scorers import copies_on_a_device, named_networks, scorers_of
from drift_pl.builders.planning import kept_bytes, old_passes, plan_of
from drift_pl.config.batches import derive_batches
from drift_pl.config.loading import parse
from drift_pl.training.updates.forward import ForwardPasses

ROOT = Path(__file__).parents[2]
WIDTH, ROW_COUNT, LAYERS = 64, 32, 4
STEP = 4 * WIDTH * ROW_COUNT
"""Bytes of one layer's output."""


class Tower(nn.Module):
    """Layers of a product and a ReLU, whose weights are frozen."""

    def __init__(self, recomputed: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS))
        self.requires_grad_(False)
        self.recomputed = recomputed

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:

            def step(given: torch.Tensor, layer: nn.Module = layer) -> torch.Tensor:
                return layer(given).relu()

            rows = checkpoint(step, rows, use_reentrant=False) if self.recomputed else step(rows)
        return rows


def tower(recomputed: bool = False) -> Tower:
    with torch.device("meta"):
        network = Tower(recomputed)
    give_shapes(network)
    return network


def test_a_pass_without_gradient_holds_three_layers_outputs() -> None:
    """By hand: a layer's input, its product and the ReLU of it are alive together, and nothing after it.

    Catches in builders/footprint.py: storages that are never forgotten; weights counted as activations.
    """
    with shapes_only(), torch.no_grad():
        network, rows = tower(), torch.empty(ROW_COUNT, WIDTH)
        found = measure(lambda: network(rows), "32-true", network)
    assert found.peak == 3 * STEP
    assert found.kept == STEP
    assert found.flops == LAYERS * 2 * ROW_COUNT * WIDTH**2


@pytest.mark.parametrize(("recomputed", "flops"), [(False, 2), (True, 3)])
def test_a_backward_pass_keeps_what_checkpointing_recomputes(recomputed: bool, flops: int) -> None:
    """By hand: of frozen layers a ReLU's output is kept for the backward pass, or a layer's input alone.

    Both are a layer's width here, so the sums are alike but for what is recomputed; FLOPs say which is which.
    """
    with shapes_only():
        network, rows = tower(recomputed), torch.empty(ROW_COUNT, WIDTH, requires_grad=True)
        found = measure(lambda: network(rows).sum().backward(), "32-true", network)
    assert found.flops == flops * LAYERS * 2 * ROW_COUNT * WIDTH**2
    assert found.kept == STEP  # the gradient of the input
    assert found.peak >= LAYERS * STEP


def test_casts_of_weights_are_kept_for_the_backward_pass() -> None:
    """By hand: under bf16-mixed every float32 weight has a copy of half its size until its backward pass."""
    with shapes_only():
        network, rows = tower(), torch.empty(ROW_COUNT, WIDTH, requires_grad=True)
        cast = measure(lambda: network(rows).sum().backward(), "bf16-mixed", network)
    assert cast.peak >= bytes_of(network) // 2 + LAYERS * STEP // 2


class Normalised(nn.Module):
    """A product and its normalisation, frozen, in bfloat16."""

    def __init__(self, recomputed: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH, bias=False, dtype=torch.bfloat16)
        self.norm = nn.LayerNorm(WIDTH, dtype=torch.bfloat16)
        self.requires_grad_(False)
        self.recomputed = recomputed

    def body(self, rows: torch.Tensor) -> torch.Tensor:
        return self.norm(self.layer(rows))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return checkpoint(self.body, rows, use_reentrant=False) if self.recomputed else self.body(rows)


@pytest.mark.parametrize("recomputed", [False, True])
def test_cuda_normalises_in_float32_under_autocast(recomputed: bool) -> None:
    """ATen's lists: the CPU's leaves layer_norm in bfloat16. By hand: its float32 input and output are alive.

    Also where checkpointing recomputes it, in the backward pass.

    Catches in builders/cuda_casts.py: the casts of the CPU; casts that a backward pass does not see.
    """
    with torch.device("meta"):
        network = Normalised(recomputed)
    with shapes_only():
        give_shapes(network)
        rows, seen = torch.empty(ROW_COUNT, WIDTH, dtype=torch.bfloat16, requires_grad=True), []

        def work() -> None:
            out = network(rows)
            seen.append(out.dtype)
            out.float().sum().backward()

        cast = measure(work, "bf16-mixed", network)
        plain = measure(work, "32-true", network)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            seen.append(network(rows).dtype)  # and afterwards the CPU's own casts again
    assert seen == [torch.float32, torch.bfloat16, torch.bfloat16]
    assert cast.peak >= 2 * STEP
    assert plain.peak < cast.peak


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sd35_medium bf16", "sd35_medium 24 GB recipe, full-size judge", "sd15 bf16"])
def test_the_peak_is_what_a_card_measured(name: str) -> None:
    """Against torch.cuda.max_memory_allocated of an H200, `docs/results/gpu_check.json`: within a tenth.

    It was 18 % low for Stable Diffusion 1.5 while normalisation counted in bfloat16.
    """
    measured = json.loads((ROOT / "docs/results/gpu_check.json").read_text())["rows"][name]
    sizes = ["prompts.per_iteration=1", f"prompts.group_size={measured['images']}"]
    found = plan_of(parse([*ROWS[name].settings, *sizes]).config)
    assert found.peak == pytest.approx(measured["peak_bytes"], rel=0.1)


def test_flops_are_those_of_the_benchmark() -> None:
    """Against `benchmarks/limit.py`, which asks torch's FlopCounterMode, on the meta device.

    Catches in builders/planning.py: the reference's passes left out; decoding counted per step.
    """
    config = parse(["experiment=shapes_div"]).config
    ours, theirs = plan_of(config), limit.work_of(config)
    lpips = ours.images * limit.perceptual(config.evaluation.lpips.args["pretrained"], 32)  # is not counted
    assert "evaluation.lpips" in ours.unknown[0]
    assert ours.flops == pytest.approx(theirs.total - lpips, rel=0.01)


GRADIENT_FREE = ("objective.loss=nft", "sampler.window_size=0")


@pytest.mark.parametrize(
    ("settings", "passes"),
    [
        (["objective.updates=2"], 0.5),
        (["objective.updates=2", "objective.inner_epochs=3"], 1.0),
        (["objective.updates=1"], 0.0),
        (["objective.updates=2", "objective.old_decay_max=0.5"], 1.0),
        (["objective.loss=awm", "objective.clip_range=1", "objective.updates=1"], 0.0),
        (["objective.loss=awm", "objective.clip_range=1", "objective.awm_pull=1", "objective.updates=1"], 1.0),
        (["objective.loss=awm", "objective.clip_range=1", "objective.awm_pull=1", "objective.inner_epochs=2"], 2.0),
    ],
)
def test_passes_of_the_old_policies_are_those_of_the_update(
    settings: list[str], passes: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images of an update's own `velocities` at a level, counted, and by hand.

    Catches in builders/planning.py: passes for each inner epoch; those of a policy that lags behind left out.
    """
    config = parse(["experiment=shapes_flowgrpo", *GRADIENT_FREE, *settings]).config
    assert old_passes(config) == passes
    counted: list[float] = []
    monkeypatch.setattr(ForwardPasses, "passes", lambda *_, **__: counted.append(1) or [])
    monkeypatch.setattr(
        ForwardPasses, "noised_images", lambda *_: SimpleNamespace(context=None, state_NBCHW=torch.zeros(1))
    )
    update: Any = build_update(config)
    lagging = SimpleNamespace(swapped_in=nullcontext) if update.lag else None
    update.loss(SimpleNamespace(old_policy=lagging))
    assert len(counted) / update.updates == passes


@pytest.mark.parametrize(
    ("more", "of_each_step"),
    [
        ([], 0),
        (["objective.ratio=guard"], 1),
        (["objective.loss=flow_dppo"], 1),
        (["incentive.shaping.weight=1", "incentive.shaping.form=per_step"], 1),
    ],
)
def test_what_a_rollout_keeps_besides_states_is_counted(more: list[str], of_each_step: int) -> None:
    """Catches in builders/planning.py: means and predictions of the trained steps left out."""
    config = parse(["experiment=shapes_flowgrpo", *more]).config
    model, steps = plan_of(config).model, derive_batches(config).trained_steps
    plain = kept_bytes(parse(["experiment=shapes_flowgrpo"]).config, model, 4)
    assert kept_bytes(config, model, 4) - plain == of_each_step * 4 * 4 * steps * model.latent


@pytest.mark.parametrize("rule", ["variants", "expansions"])
def test_each_image_may_have_a_text_of_its_own(rule: str) -> None:
    """Catches in builders/planning.py: the texts of `expansions` counted as one for a group."""
    vocabulary = "pkg:drift_pl.builtin/prompts/vocabulary.jsonl"
    source = f"vocabulary={vocabulary}" if rule == "expansions" else "templates=['a photo of {prompt}']"
    given = [f"incentive.prompting.rule={rule}", f"incentive.prompting.{source}"]
    plain = parse(["experiment=shapes_flowgrpo"]).config
    model, size = plan_of(plain).model, plain.prompts.group_size
    more = kept_bytes(parse(["experiment=shapes_flowgrpo", *given]).config, model, 2 * size)
    assert more - kept_bytes(plain, model, 2 * size) == (2 * size - 2) * model.condition


REWARD = "rewards=[{name: pickscore, args: {pretrained: yuvalkirstain/PickScore_v1}%s}]"


def test_a_rewards_own_precision_and_device_are_counted() -> None:
    """CLIP ViT-H/14 has 986,109,441 weights, of which the two projections and the scale stay in float32.

    Catches in builders/planned_scorers.py: a reward's own precision, or its device, left out.
    """
    kept = 1280 * 1024 + 1024 * 1024 + 1
    plain, half, elsewhere = (
        scorers_of(parse(["experiment=shapes_flowgrpo", REWARD % own]).config, 1)[0]
        for own in ("", ", dtype: bfloat16", ", device: cpu")
    )
    positions = plain.bytes - 4 * 986_109_441  # int64 numbers of positions, which are buffers
    assert 0 < positions < 1e4
    assert half.bytes - positions == 2 * (986_109_441 - kept) + 4 * kept
    assert half.name.endswith("PickScore_v1, bfloat16")
    assert half.run.peak < plain.run.peak
    assert (elsewhere.bytes, elsewhere.run.flops, elsewhere.run.peak) == (0, 0, 0)
    assert elsewhere.name.endswith("PickScore_v1, on cpu")


@pytest.mark.parametrize(
    ("device", "devices", "copies"), [(None, 2, 1), ("cuda", 2, 1), ("cuda:1", 2, 2), ("cuda:1", 1, 0), ("cpu", 4, 0)]
)
def test_a_reward_may_be_on_a_card_that_trains(device: str | None, devices: int, copies: int) -> None:
    """Every process has its own copy there."""
    config = parse(["experiment=shapes_flowgrpo", f"trainer.devices={devices}"]).config
    assert copies_on_a_device(device, config) == copies


def test_every_frame_of_a_video_is_scored() -> None:
    """By multiplication: a reward sees the frames of its setting, an encoder all of them.

    Catches in builders/planned_scorers.py: frames of a video left out.
    """
    settings = ["experiment=wan_pickscore_div", "policy.frames=5", "evaluation.measures=[]"]
    seen = {}
    for chosen in ("mean", "first"):
        networks = named_networks(parse([*settings, f"policy.reward_frames={chosen}"]).config)
        seen[chosen] = {each.setting: each.frames for each in networks}
    assert seen["mean"]["rewards"] == 5
    assert seen["first"] == {**seen["mean"], "rewards": 1}


@pytest.mark.slow
def test_published_sizes() -> None:
    """Stable Diffusion 3.5 Medium: its card's 2.2 B weights of the transformer, and its file of 4.94 GB."""
    found = plan_of(parse(["experiment=pickscore_div"]).config)
    assert found.model.parameters == pytest.approx(2.24e9, rel=0.01)
    assert found.model.frozen == pytest.approx(4.94e9, rel=0.01)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["device=much"], "device=much is no memory and no known device: use e.g. 24GB"),
        (["utilisation=2"], "utilisation=2 should be less than or equal to 1; use e.g. utilisation=0.4"),
        (["tflops=fast"], "tflops=fast should be a valid number; use e.g. tflops=165"),
        (["tflops=1e308"], "tflops=1e+308 should be less than 1000000000; use e.g. tflops=165"),
        (["device=-3GB"], "device=-3GB is no memory and no known device: use e.g. 24GB"),
        (["device"], "argument 'device' has no '='"),
        (["--print-config"], "unknown flag '--print-config'"),
        (["out=/"], "/: Is a directory: a folder is where a file is needed: give another path"),
        (["policy.pretrained=who/knows"], "policy.pretrained=who/knows: its configuration is not known here"),
    ],
)
def test_refusals_are_one_line(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["experiment=shapes_flowgrpo", *argv]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {said}")
    assert error.count("\n") == 1


def test_a_device_by_name_and_by_memory() -> None:
    assert device_of("24GB", None) == ("rtx4090", DEVICES["rtx4090"])
    assert device_of("H100", None) == ("h100", DEVICES["h100"])
    assert device_of("16 GB", 100.0)[1] == (16.0, 100.0)


def test_what_does_not_fit_says_what_would(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The built-in model in 700 MB, most of them CUDA's: the keys that are named make it fit."""
    argv = ["experiment=shapes_flowgrpo", "device=0.7GB", "objective.micro_batch=128"]
    assert command.main([*argv, f"out={tmp_path}/plan.json"]) == 0
    said = capsys.readouterr().out
    assert "does not fit" in said
    changed = re.search(r"it fits with: (.*)", said)
    assert changed is not None, said
    assert command.main(argv[:2] + [*argv[2:], *changed[1].split()]) == 0
    assert ": fits" in capsys.readouterr().out


MEASURED = """
import resource, sys
from pathlib import Path
import torch
from drift_pl.policies.loading import LowRank, load_policy
from drift_pl.policies.sd3 import StableDiffusion3Policy

def take(folder, side, images):
    lora = LowRank(8, 8, ("attn.to_q", "attn.to_k", "attn.to_v"))
    policy = load_policy(StableDiffusion3Policy, folder, lora, {"resolution": side, "max_sequence_length": 0})
    optimizer = torch.optim.AdamW([p for _, p in policy.trainable_parameters()])
    condition, negative = policy.encode(["a dog"] * images), policy.encode([""], negative=True)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again: loading is not counted
    for _ in range(2):
        noise = torch.randn(images, *policy.latent_shape)
        prediction = policy.predict(noise, torch.tensor(0.5), condition, negative, 4.5)
        prediction.float().square().mean().backward()
        del prediction
        optimizer.step()

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

take(sys.argv[1], 16, 1)  # the same imports and kernels, next to no memory
before = peak()
if sys.argv[2] != "none":
    take(sys.argv[2], 32, 2)
print(before, peak())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of resident memory from /proc")
def test_the_peak_is_that_of_a_process(tiny_pipeline: Path, tmp_path: Path) -> None:
    """A model of 230 M weights: weights, adapter, gradients, Adam and the update's peak, within 15 %.

    Catches in builders/planning.py: the micro-batch left out. Catches in builders/footprint.py: inputs of modules kept.
    """
    import shutil

    from diffusers import SD3Transformer2DModel

    folder = tmp_path / "large"
    shutil.copytree(tiny_pipeline, folder)
    network = SD3Transformer2DModel(
        **{"sample_size": 16, "patch_size": 2, "in_channels": 4, "out_channels": 4, "num_layers": 11},
        **{"attention_head_dim": 64, "num_attention_heads": 12, "joint_attention_dim": 32},
        **{"caption_projection_dim": 768, "pooled_projection_dim": 32, "pos_embed_max_size": 16},
    )
    network.save_pretrained(folder / "transformer")
    assert sum(parameter.numel() for parameter in network.parameters()) > 200e6
    del network
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tiny_pipeline), str(folder)],
        env=environment, capture_output=True, text=True, check=True, timeout=900,
    )  # fmt: skip
    before, after = map(int, ran.stdout.split())
    settings = [
        *("experiment=shapes_flowgrpo", f"policy.pretrained={folder}", "policy.resolution=32", "rewards=[]"),
        *("policy.lora.rank=8", "policy.lora.targets=[attn.to_q,attn.to_k,attn.to_v]", "policy.guidance_scale=4.5"),
        *("objective.micro_batch=2", "objective.ema_decay=0"),
    ]
    settings[3] = "rewards=[{name: jpeg_compressibility}]"
    found = plan_of(parse(settings).config)
    counted = sum(size for part, size in found.parts.items() if part[:8] in ("denoiser", "autoenco", "text enc"))
    counted += next(size for part, size in found.parts.items() if "trained weights" in part)
    peak = counted + found.phases["update"]
    print(f"counted {peak / 1e9:.3f} GB, measured {(after - before) / 1e9:.3f} GB")  # shown by -s
    assert peak == pytest.approx(after - before, rel=0.15)
