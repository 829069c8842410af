"""Encoders, against the models' own outputs and torchmetrics' LPIPS."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchmetrics.functional.image.lpips import _NoTrainLpips
from transformers import AutoImageProcessor, Dinov2Model

from drift_pl.errors import UserError
from drift_pl.scoring.encoders import LpipsEncoder, PooledEncoder


def images(generator: torch.Generator, count: int, side: int) -> torch.Tensor:
    """Images whose values are exact in 8 bits."""
    return torch.randint(0, 256, (count, 3, side, side), generator=generator).float() / 255


@pytest.mark.parametrize("side", [16, 24])
def test_an_embedding_is_the_models_pooled_output_at_unit_length(
    tiny_encoder: Path, side: int, generator: torch.Generator
) -> None:
    """Oracle: Dinov2Model on what its processor makes of PIL images."""
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


def test_all_pairs_from_one_pass_are_torchmetrics_pairs(tiny_lpips: Path, generator: torch.Generator) -> None:
    """Oracle: torchmetrics' network on each pair of images (normalize=True); two of the images are nearly alike."""
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


def test_small_images_are_resized_as_the_folder_says(tiny_lpips: Path, generator: torch.Generator) -> None:
    """Oracle: the same pairs after torch's own antialiased bilinear resize to the 32 pixels of its config."""
    batch = images(generator, 3, 16)
    larger = torch.nn.functional.interpolate(batch, size=(32, 32), mode="bilinear", antialias=True)
    encoder = LpipsEncoder(str(tiny_lpips))
    torch.testing.assert_close(encoder(batch), encoder(larger), rtol=0, atol=1e-6)
    flat_colours = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 16, 16)
    assert encoder(flat_colours)[0, 1] > 1e-3


def test_a_folder_without_a_perceptual_network_is_refused(tiny_lpips: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"evaluation\.lpips\.args\.pretrained=.*does not exist"):
        LpipsEncoder(str(tmp_path / "nowhere"))
    folder = tmp_path / "lpips"
    shutil.copytree(tiny_lpips, folder)
    (folder / "config.json").write_text('{"resize": 32}')
    with pytest.raises(UserError, match=r"evaluation\.lpips\.args\.pretrained=.*cannot be loaded"):
        LpipsEncoder(str(folder))
