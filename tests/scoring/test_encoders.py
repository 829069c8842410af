"""Encoders, against the models' own outputs and torchmetrics' LPIPS.

Catches in scoring/encoders.py: combined: w for its root; not divided by the sum; only the first part moves.
"""

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import cdist
from tiny_models import save_tiny_dinov3
from torchmetrics.functional.image.lpips import _normalize_tensor, _NoTrainLpips
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
from torchvision.models import squeezenet1_1
from transformers import (
    AutoImageProcessor,
    CLIPModel,
    CLIPProcessor,
    Dinov2Model,
    DINOv3ConvNextModel,
    DINOv3ViTImageProcessor,
    DINOv3ViTModel,
)

from drift_pl.core.errors import UserError, naming
from drift_pl.scoring.encoders import ClipEncoder, CombinedEncoder, LpipsEncoder, PooledEncoder


@pytest.fixture(autouse=True)
def setting() -> Iterator[None]:
    with naming("encoder"):
        yield


def images(generator: torch.Generator, count: int, side: int) -> torch.Tensor:
    """Images whose values are exact in 8 bits."""
    return torch.randint(0, 256, (count, 3, side, side), generator=generator).float() / 255


@pytest.mark.parametrize("side", [16, 24])
def test_an_embedding_is_the_models_pooled_output_at_unit_length(
    tiny_encoder: Path, side: int, generator: torch.Generator
) -> None:
    """Oracle: Dinov2Model on what its processor makes of PIL images.

    Catches in scoring/encoders.py: images go to the encoder as floats, and are divided by 255 again; embeddings not of
    unit length.
    """
    batch = images(generator, 5, side)
    model = Dinov2Model.from_pretrained(tiny_encoder).eval()
    processor = AutoImageProcessor.from_pretrained(tiny_encoder)
    pictures = [Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()) for image in batch]
    with torch.no_grad():
        pooled = model(processor(pictures, return_tensors="pt")["pixel_values"]).pooler_output
    embedding = PooledEncoder(str(tiny_encoder))(batch)
    torch.testing.assert_close(embedding, pooled / pooled.norm(dim=1, keepdim=True), rtol=0, atol=1e-6)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(5))
    assert (embedding[0] - embedding[1]).abs().max() > 1e-3
    assert embedding.dtype == torch.float32


@pytest.mark.parametrize("kind", ["vit", "convnext"])
def test_a_dinov3_folder_loads_as_its_own_model(kind: str, tmp_path: Path, generator: torch.Generator) -> None:
    """Oracle: the model's own class, on what its own processor makes of PIL images, resized (24) or not (32).

    Catches in scoring/encoders.py: mean over tokens in place of DINOv3's pooled output.
    """
    with torch.random.fork_rng(devices=[]):
        folder = save_tiny_dinov3(tmp_path / kind, kind)
    model = {"vit": DINOv3ViTModel, "convnext": DINOv3ConvNextModel}[kind].from_pretrained(folder).eval()
    processor = DINOv3ViTImageProcessor.from_pretrained(folder)
    for side in (32, 24):
        batch = images(generator, 4, side)
        pictures = [Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()) for image in batch]
        with torch.no_grad():
            pooled = model(processor(pictures, return_tensors="pt")["pixel_values"]).pooler_output
        embedding = PooledEncoder(str(folder), batch_size=3)(batch)
        expected = pooled / pooled.norm(dim=1, keepdim=True)
        torch.testing.assert_close(embedding, expected, rtol=0, atol=1e-6)
    assert embedding.shape == (4, 16)
    assert (embedding[0] - embedding[1]).abs().max() > 1e-3


def test_embeddings_do_not_depend_on_the_batch_or_on_autocast(tiny_encoder: Path, generator: torch.Generator) -> None:
    batch = images(generator, 5, 16).requires_grad_()
    together = PooledEncoder(str(tiny_encoder))(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        in_parts = PooledEncoder(str(tiny_encoder), batch_size=2)(batch)
    torch.testing.assert_close(in_parts, together, rtol=0, atol=1e-6)
    assert not together.requires_grad


def test_a_missing_encoder_is_named_with_its_key() -> None:
    with pytest.raises(UserError, match=r"^encoder\.args\.pretrained=\./nowhere"):
        PooledEncoder("./nowhere")


def test_a_clip_embedding_is_the_image_half_of_the_model(tiny_preference: Path, generator: torch.Generator) -> None:
    """Oracle: CLIPModel's projection of its vision tower, on what its processor makes of PIL images.

    Catches in scoring/encoders.py: CLIP features before their projection.
    """
    batch = images(generator, 3, 20)
    model = CLIPModel.from_pretrained(tiny_preference).eval()
    processor = CLIPProcessor.from_pretrained(tiny_preference)
    pictures = [Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()) for image in batch]
    pixels = processor.image_processor(pictures, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        projected = model.visual_projection(model.vision_model(pixels).pooler_output)
    embedding = ClipEncoder(str(tiny_preference), batch_size=2)(batch)
    torch.testing.assert_close(embedding, projected / projected.norm(dim=1, keepdim=True), rtol=0, atol=1e-6)
    with pytest.raises(UserError, match=r"^encoder\.args\.processor=\./nowhere"):
        ClipEncoder(str(tiny_preference), processor="./nowhere")


class Colours:
    """An encoder whose embedding is a slice of the mean colour, with its own device."""

    def __init__(self, channels: slice) -> None:
        self.channels, self.device = channels, "cpu"

    def __call__(self, images_B3HW: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(images_B3HW.mean((2, 3))[:, self.channels] - 0.5, dim=-1)

    def to(self, device: str) -> "Colours":
        self.device = device
        return self


@pytest.mark.parametrize("weights", [(1.0, 3.0), (0.2, 0.01), (5, 5)])
def test_a_combined_kernel_is_the_weighted_mean_of_the_kernels(
    weights: tuple[float, float], tiny_encoder: Path, generator: torch.Generator
) -> None:
    """Oracle: scipy's cosine distances of each encoder's embeddings. Only ratios of weights matter."""
    batch = images(generator, 5, 16)
    parts = [PooledEncoder(str(tiny_encoder)), Colours(slice(0, 2))]
    combined = CombinedEncoder(list(zip(parts, weights, strict=True)))(batch)
    tables = [cdist(vectors, vectors, metric="cosine") for vectors in (part(batch).double() for part in parts)]
    expected = 1 - np.average(tables, axis=0, weights=weights)
    torch.testing.assert_close(combined.double() @ combined.double().T, torch.tensor(expected), rtol=0, atol=1e-6)
    assert np.abs(tables[0] - tables[1]).max() > 1e-2
    torch.testing.assert_close(combined.norm(dim=1), torch.ones(5))
    assert combined.shape[1] == parts[0](batch).shape[1] + 2
    assert combined.dtype == torch.float32
    tenfold = CombinedEncoder([(part, 10 * weight) for part, weight in zip(parts, weights, strict=True)])(batch)
    torch.testing.assert_close(tenfold, combined)


def test_one_encoder_combined_is_itself_and_an_unseen_image_stays_unseen(generator: torch.Generator) -> None:
    batch = images(generator, 3, 8)
    alone = CombinedEncoder([(Colours(slice(0, 2)), 0.3)])(batch)
    torch.testing.assert_close(alone, Colours(slice(0, 2))(batch))
    batch[1, 2] = 0.5

    def half_blind(images_B3HW: torch.Tensor) -> torch.Tensor:
        """NaN for the second image."""
        return Colours(slice(1, 3))(images_B3HW).masked_fill(torch.arange(3)[:, None] == 1, math.nan)

    both = CombinedEncoder([(Colours(slice(0, 2)), 1.0), (half_blind, 1.0)])(batch)
    assert both.isfinite().all(1).tolist() == [True, False, True]


def test_parts_of_any_length_and_precision_count_by_their_weight(generator: torch.Generator) -> None:
    """An encoder that does not normalize does not outweigh the others."""

    class Long(Colours):
        def __call__(self, images_B3HW: torch.Tensor) -> torch.Tensor:
            return 50 * super().__call__(images_B3HW).double()

    batch = images(generator, 3, 8)
    short, long = (CombinedEncoder([(kind(slice(0, 3)), 1.0), (Colours(slice(0, 2)), 2.0)]) for kind in (Colours, Long))
    torch.testing.assert_close(long(batch), short(batch))


def test_all_parts_move_to_the_device_and_a_function_has_nothing_to_move() -> None:
    parts = [Colours(slice(0, 1)), Colours(slice(1, 3))]
    combined = CombinedEncoder([(part, 1.0) for part in (*parts, lambda images_B3HW: images_B3HW.flatten(1))])
    assert combined.to("meta") is combined
    assert [part.device for part in parts] == ["meta", "meta"]


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf])
def test_weights_of_encoders_must_be_positive(weight: float) -> None:
    with pytest.raises(UserError, match=rf"^incentive\.shaping\.encoders\.1\.weight={weight}: .*positive"):
        CombinedEncoder([(Colours(slice(0, 1)), 1.0), (Colours(slice(1, 3)), weight)])
    with pytest.raises(UserError, match=r"^incentive\.shaping\.encoders is empty"):
        CombinedEncoder([])


def test_all_pairs_from_one_pass_are_torchmetrics_pairs(tiny_lpips: Path, generator: torch.Generator) -> None:
    """Oracle: torchmetrics' network on each pair of images (normalize=True); two of the images are nearly alike.

    Catches in scoring/encoders.py: LPIPS on [0, 1] instead of [-1, 1]; LPIPS summed over positions instead of averaged.
    """
    batch = images(generator, 5, 32)
    batch[4] = (batch[3] + 1e-3).clamp(0, 1)
    encoder = LpipsEncoder(str(tiny_lpips), batch_size=2)
    with torch.random.fork_rng(devices=[]):
        net = _NoTrainLpips(net="squeeze", pnet_rand=True)
    net.load_state_dict(encoder.net.state_dict())
    net.eval()
    ours = encoder(batch)
    assert ours.shape == (5, 5)
    first, second = torch.triu_indices(5, 5, offset=1)
    with torch.no_grad():
        theirs = net(batch[first], batch[second], normalize=True).flatten().double()
    torch.testing.assert_close(ours[first, second], theirs, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours, ours.T)
    assert ours[0, 1] > 1e-3
    assert 0 <= ours[3, 4] < ours[0, 1] / 10
    assert torch.equal(ours.diagonal(), torch.zeros(5).double())


@pytest.mark.parametrize("apart", [0.3, 1e-3])
def test_the_mean_over_pairs_is_torchmetrics_pair_by_pair(
    tiny_lpips: Path, apart: float, generator: torch.Generator
) -> None:
    """Oracles: torchmetrics' network on each pair, and our network and features in float64.

    Catches in scoring/encoders.py: the mean distance without the layers' weights; of the last batch alone.
    """
    batch = (images(generator, 1, 32) + apart * (images(generator, 7, 32) - 0.5)).clamp(0, 1)
    encoder = LpipsEncoder(str(tiny_lpips), batch_size=3)
    first, second = torch.triu_indices(7, 7, offset=1)
    with torch.no_grad():
        theirs = encoder.net(batch[first], batch[second], normalize=True).double().mean()
        ours = encoder.mean_distance(batch)
        assert ours.dtype == torch.float64
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
        encoder.net.double()
        maps = [_normalize_tensor(out) for out in encoder.net.net(encoder.net.scaling_layer(batch.double() * 2 - 1))]
        exact = scale = 0
        for unit, linear in zip(maps, encoder.net.lins, strict=True):
            weight = linear.model[-1].weight.flatten()
            exact += ((unit[first] - unit[second]).square().mean((0, 2, 3)) * weight).sum()
            scale += (unit.square().mean((0, 2, 3)) * weight).sum()
    assert (ours - exact).abs() <= 1e-6 * (exact + (exact * scale).sqrt())


def test_torchmetrics_own_network_is_loaded_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generator: torch.Generator
) -> None:
    """Oracle: the public metric, with its own linear layers; the backbone is placed in torch's cache."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        backbone = squeezenet1_1()
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(backbone.state_dict(), tmp_path / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    batch = images(generator, 3, 40)
    ours = LpipsEncoder("squeeze")(batch)
    metric = LearnedPerceptualImagePatchSimilarity("squeeze", normalize=True)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        theirs = metric(batch[one : one + 1], batch[other : other + 1]).double()
        torch.testing.assert_close(ours[one, other], theirs, rtol=0, atol=1e-6)
    assert ours[0, 1] > 1e-3


def test_small_images_are_resized_as_the_folder_says(tiny_lpips: Path, generator: torch.Generator) -> None:
    """Oracle: the same pairs after torch's own antialiased bilinear resize to the 32 pixels of its config."""
    batch = images(generator, 3, 16)
    larger = torch.nn.functional.interpolate(batch, size=(32, 32), mode="bilinear", antialias=True)
    encoder = LpipsEncoder(str(tiny_lpips))
    torch.testing.assert_close(encoder(batch), encoder(larger), rtol=0, atol=1e-6)
    flat_colours = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 16, 16)
    assert encoder(flat_colours)[0, 1] > 1e-3


def test_a_folder_without_a_perceptual_network_is_refused(tiny_lpips: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"encoder\.args\.pretrained=.*does not exist"):
        LpipsEncoder(str(tmp_path / "nowhere"))
    folder = tmp_path / "lpips"
    shutil.copytree(tiny_lpips, folder)
    (folder / "config.json").write_text('{"resize": 32}')
    with pytest.raises(UserError, match=r"encoder\.args\.pretrained=.*cannot be loaded"):
        LpipsEncoder(str(folder))
