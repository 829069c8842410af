"""`python -m drift_pl.export` of families of a user's own: a stock pipeline has the weights, and not the code."""

from collections.abc import Callable
from pathlib import Path

import pytest
from runs import TinyWorld

from drift_pl.config.loading import parse
from drift_pl.export import main
from drift_pl.fit import fit

SAYS = "a stock pipeline does not apply its code, so the images that it draws are not those of the run."


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return TinyWorld.create(tmp_path_factory.mktemp("world"))


@pytest.fixture
def trained(world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """The folder of a run of one iteration."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    def make(*overrides: str) -> Path:
        settings = ["policy.lora.targets=[attn.to_q,attn.to_v]", "policy.resolution=16", "trainer.iterations=1"]
        return fit(parse([*world.overrides(), *settings, f"run_dir={tmp_path / 'run'}", *overrides]).config)

    return make


@pytest.mark.parametrize("form", ["lora", "full"])
def test_the_card_and_the_command_name_the_family_and_its_arguments(
    trained: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    """Catches in reports/model_card.py: stock code as if it drew the run's images.

    Catches in export.py: a folder that is written without a word of it.
    """
    run = trained("policy.family=my_family:Louder", "policy.args={gain: 1.2}")
    capsys.readouterr()
    assert main([f"ckpt_path={run}", f"out={tmp_path / 'out'}", f"format={form}"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"note:    The weights are for the family my_family:Louder ({{gain: 1.2}}): {SAYS}"
    before, code = (tmp_path / "out" / "README.md").read_text().split("## Load it")
    assert f"The weights are for the family `my_family:Louder` (`{{gain: 1.2}}`): {SAYS}" in before
    assert "from_pretrained" in code


def test_a_family_of_this_package_needs_no_note(
    trained: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained()
    capsys.readouterr()
    assert main([f"ckpt_path={run}", f"out={tmp_path / 'out'}"]) == 0
    assert "note:" not in capsys.readouterr().out
    assert "stock" not in (tmp_path / "out" / "README.md").read_text()


def test_a_family_without_a_pipeline_has_nothing_to_export(
    trained: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches in policies/export.py: an AttributeError of this package."""
    run = trained("policy.family=my_family:Dots")
    capsys.readouterr()
    assert main([f"ckpt_path={run}", f"out={tmp_path / 'out'}"]) == 2
    assert "error: policy.family: Dots has no pipeline of diffusers" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
