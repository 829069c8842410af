"""The loose model: its recipe, and what its folder shares with the model that it was trained from."""

import hashlib
import random
import re
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from loose_train import exchange, link_shared, train_loose

from drift_pl.builtin import LOOSE, WEIGHTS
from drift_pl.core.shared_parts import SHARED_PARTS

OWN = {"transformer", "README.md", SHARED_PARTS}


def test_half_of_the_captions_go_to_other_images() -> None:
    """None is lost, and each exchanged one is another image's.

    Catches in benchmarks/builtin_models/loose_train.py: captions drawn again, which keeps some.
    """
    prompts = [str(i) for i in range(2000)]
    exchanged = exchange(prompts, random.Random(0))
    assert sorted(exchanged) == sorted(prompts)
    assert 0.46 < sum(one != other for one, other in zip(prompts, exchanged, strict=True)) / 2000 < 0.54
    assert exchange(["a"], random.Random(0)) == ["a"], "one alone has nobody to exchange with"


def test_the_changelogs_tag_is_that_of_the_weights() -> None:
    tags = re.findall(
        r"`builtin-world-2` \(`([0-9a-f]{16})`\)", (Path(__file__).parents[2] / "CHANGELOG.md").read_text()
    )
    weights = (LOOSE / "transformer" / "diffusion_pytorch_model.safetensors").read_bytes()
    assert tags == [hashlib.sha256(weights).hexdigest()[:16]], "every figure made with it is void"


def test_all_but_the_transformer_are_links_within_the_package(tmp_path: Path) -> None:
    """No file is kept twice, and the links work wherever the package lies."""
    for part in LOOSE.iterdir():
        if part.name not in OWN:
            assert part.is_symlink(), part
            assert not part.readlink().is_absolute()
            assert part.resolve() == WEIGHTS / "pipeline" / part.name
    own = sum(path.stat().st_size for path in (LOOSE / "transformer").iterdir())
    assert 1e7 < own < 1.3e7
    (tmp_path / "loose").mkdir()
    link_shared(tmp_path / "loose", WEIGHTS / "pipeline")
    names = {path.name for path in LOOSE.iterdir()} - OWN
    assert {path.name for path in (tmp_path / "loose").iterdir()} == names | {SHARED_PARTS}
    kept, made = (folder.joinpath(SHARED_PARTS).read_text().split("\n")[1:] for folder in (LOOSE, tmp_path / "loose"))
    assert kept == made == [*sorted(names), ""]
    link_shared(tmp_path / "loose", WEIGHTS / "pipeline")  # again, over what is there


@pytest.mark.slow
def test_a_finished_stage_is_not_trained_again_and_moves_the_transformer_alone(tmp_path: Path) -> None:
    first, again = (train_loose(tmp_path, 1, batch=8, scenes=500) for _ in range(2))
    assert all(map(torch.equal, first.transformer.parameters(), again.transformer.parameters()))
    shipped = StableDiffusion3Pipeline.from_pretrained(WEIGHTS / "pipeline", text_encoder_3=None, tokenizer_3=None)
    for part, moved in {"transformer": True, "text_encoder": False, "text_encoder_2": False, "vae": False}.items():
        parameters = (getattr(pipeline, part).parameters() for pipeline in (shipped, first))
        assert all(map(torch.equal, *parameters)) != moved, part
