"""benchmarks/limit.py: FLOPs of a network against a count by hand, of an experiment against multiplication."""

from typing import Any

import limit
import pytest
import torch
from speed import flops
from speed.network_inputs import Size
from torch import nn

from drift_pl.config.loading import parse

BUILTIN = "pkg:drift_pl.builtin/weights/pipeline"
TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


def by_hand(network: nn.Module, inputs: dict[str, Any], tokens: int, width: int, blocks: int) -> float:
    """2 x inputs per output of a linear layer, 2 x kernel per one of a convolution, 4 x tokens^2 x width per block."""
    total = [4.0 * tokens**2 * width * blocks]

    def linear(module: nn.Linear, given: Any, out: torch.Tensor) -> None:
        total[0] += 2 * module.in_features * out.numel()

    def convolution(module: nn.Conv2d, given: Any, out: torch.Tensor) -> None:
        total[0] += 2 * module.weight[0].numel() * out.numel()

    for module in network.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(linear)
        elif isinstance(module, nn.Conv2d):
            module.register_forward_hook(convolution)
    network(**inputs)
    return total[0]


def test_a_forward_pass_is_counted_as_by_hand() -> None:
    """The built-in denoiser: 16 image and 16 text tokens of width 128 in five blocks."""
    import diffusers

    pipeline = flops.pipeline_of(BUILTIN)
    with flops.META:
        network = diffusers.SD3Transformer2DModel.from_config(pipeline.config)
    inputs = flops.inputs_of(network, Size(8, 8), pipeline.clip_tokens)
    counted = flops.count(lambda: network(**inputs))
    tokens = 16 + pipeline.clip_tokens
    assert counted == by_hand(network, inputs, tokens, 128, 5)


def test_the_backward_pass_of_an_adapter_is_less_than_two_forward_passes() -> None:
    """Gradients go through the base to the activations, one forward's worth, and to weights of the adapter alone."""
    counted = flops.denoiser(BUILTIN, None, 0, 8, TARGETS)
    assert 1.8 < counted.both / counted.forward < 2.3
    assert counted.trained == 5 * 4 * 2 * 8 * 128


@pytest.fixture
def round_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A denoiser of 1 FLOP forward and 3 with its backward; decoding 10, any network that judges 100."""
    monkeypatch.setattr(limit, "denoiser", lambda *_: flops.Denoiser(1.0, 3.0, 1, 1))
    monkeypatch.setattr(limit, "decoding", lambda *_: 10.0)
    monkeypatch.setattr(limit, "vision", lambda *_: 100.0)
    monkeypatch.setattr(limit, "perceptual", lambda *_: 1000.0)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # 1,152 images, ten steps, nine trained, two branches; reward, shaping and evaluation encoder, LPIPS
        (["experiment=pickscore_div"], limit.Work(23040, 62208, 20736, 11520, 1152 * 1300)),
        (["experiment=pickscore_div", "policy.guidance_scale=1"], limit.Work(11520, 31104, 10368, 11520, 1152 * 1300)),
        (["experiment=pickscore_div", "objective.kl_weight=0"], limit.Work(23040, 62208, 0, 11520, 1152 * 1300)),
        # a window of three of five steps, no guidance, no KL
        (["experiment=pickscore_div_fast"], limit.Work(11520, 10368, 0, 11520, 1152 * 1300)),
        # guidance is an input; gradient checkpointing: five trained steps of 3 + 1
        (["experiment=flux_pickscore_div"], limit.Work(6912, 23040, 0, 11520, 1152 * 1300)),
        # nft: four noise levels; half of the images, those of the second step, need the old policy's velocity;
        # two shaping encoders
        (["experiment=shapes_div"], limit.Work(768 + 256, 1536, 512, 1280, 128 * 1400)),
        # 192 videos of 33 frames, 20 steps, the last of which is not trained; four networks see every frame
        (["experiment=wan_pickscore_div"], limit.Work(7680, 29184, 7296, 1920, 192 * 33 * 1300)),
        # no shaping; a reward without a network
        (["experiment=sd15_ddpo_compressibility"], limit.Work(25600, 76800, 0, 2560, 256 * 1100)),
    ],
    ids=["pickscore_div", "no guidance", "no KL", "window", "flux", "nft", "videos", "no network judges"],
)
@pytest.mark.usefixtures("round_numbers")
def test_an_iteration_is_counted_by_multiplication(settings: list[str], expected: limit.Work) -> None:
    """Catches in benchmarks/limit.py: one branch where guidance takes two."""
    assert limit.work_of(parse(settings).config) == expected


@pytest.mark.usefixtures("round_numbers")
def test_a_measured_speed_is_read_as_a_share(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """105,984 FLOP in the denoiser, 1,509,120 elsewhere: 100 s each at these peaks, so 5.76 images/s at best."""
    monkeypatch.setattr(limit, "text_encoding", lambda *_: 0.0)
    argv = ["experiment=pickscore_div", "peak_tflops=1.05984e-9", "float32_tflops=1.50912e-8", "images_per_s=2.88"]
    assert limit.main(argv) == 0
    out = capsys.readouterr().out
    assert "pickscore_div at 2.88 images/s: 50.0% of the limit" in out
    assert "50%" in out


@pytest.mark.slow
def test_published_architectures_have_the_counted_work() -> None:
    """Against a count of another program: 2.26 TFLOP forward, 4.82 with the backward, 2.5 to decode; 202 PFLOP."""
    work, network = limit.work_of(parse(["experiment=pickscore_div"]).config), None
    network = limit.denoiser_of(parse(["experiment=pickscore_div"]).config)
    assert network.forward == pytest.approx(2.26e12, rel=2e-3)
    assert network.both == pytest.approx(4.82e12, rel=2e-3)
    assert flops.decoding("stabilityai/stable-diffusion-3.5-medium", 512) == pytest.approx(2.5e12, rel=1e-2)
    assert work.total == pytest.approx(202e15, rel=2e-3)
