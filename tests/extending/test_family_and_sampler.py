"""A family and a sampler of a user's own modules: two iterations by `fit`, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import TinyWorld, load

from drift_pl.builders.policy import build_policy
from drift_pl.builders.stochastic_steps import build_stochastic_step
from drift_pl.config.loading import parse
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError
from drift_pl.fit import fit

LOUDER = ["policy.family=my_family:Louder", "policy.args={gain: 1.2}"]
FADING = ["sampler.kind=my_sampler:Fading", "sampler.args={power: 0.5}"]
ADAPTER = "policy.lora.targets=[attn.to_q,attn.to_v]"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return TinyWorld.create(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def modules_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture
def settings(world: TinyWorld, tmp_path: Path) -> Callable[..., Config]:
    def read(*overrides: str) -> Config:
        argv = [*world.overrides(), ADAPTER, "policy.resolution=16", "objective.learning_rate=0.01"]
        return parse([*argv, "trainer.iterations=2", f"run_dir={tmp_path / 'run'}", *overrides]).config

    return read


@pytest.mark.parametrize(
    "overrides",
    [LOUDER, FADING, [*LOUDER, *FADING], ["policy.family=my_family:Dots", "policy.args={width: 5}"]],
    ids=["a family of pipelines", "a sampler", "both", "a family without diffusers"],
)
def test_fit_trains_what_another_module_defines(settings: Callable[..., Config], overrides: list[str]) -> None:
    """Two iterations; the weights move, and the first ratio of each iteration is exactly 1."""
    config = settings(*overrides, "trainer.logger=[csv]")
    start = {name: value.detach().clone() for name, value in build_policy(config).trainable_parameters()}
    run = fit(config)
    trained = load(run)["state_dict"]
    assert any((trained[f"network.{name}"] != value).any() for name, value in start.items())
    header, *rows = (run / "csv" / "metrics.csv").read_text().splitlines()
    column = header.split(",").index("policy/ratio_deviation_first")
    assert [float(row.split(",")[column]) for row in rows if row.split(",")[column]] == [0.0, 0.0]


def test_each_gets_what_its_constructor_names(settings: Callable[..., Config]) -> None:
    """Keys of the section by their names, and the section's args; no key that it does not name."""
    config = settings(*LOUDER, *FADING, "sampler.noise_level=0.3")
    policy = build_policy(config)
    step: Any = build_stochastic_step(config, policy)
    assert (step.noise_level, step.power) == (0.3, 0.5)
    assert (policy.gain, policy.latent_shape) == (1.2, (4, 8, 8))
    dots = build_policy(settings("policy.family=my_family:Dots", "seed=3", "policy.resolution=4"))
    assert dots.latent_shape == (3, 4, 4)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (
            ["policy.family=my_family:Dots", "sampler.kind=ddim"],
            "sampler.kind=ddim is for models of the process ddpm, and policy.family=my_family:Dots is of the process "
            "flow: use flow_sde, dance_sde, flow_cps of that process",
        ),
        (["policy.family=my_family:Louder"], "policy.args: missing a required argument: 'gain' for 'my_family:Louder'"),
        (["policy.family=my_family:Louder", "policy.args={gian: 2}"], "policy.args: "),
        (["policy.family=my_family:Nothing"], "policy.family='my_family:Nothing' cannot be imported: "),
        (["sampler.kind=my_sampler:Nothing"], "sampler.kind='my_sampler:Nothing' cannot be imported: "),
        ([*FADING[:1], "sampler.args={size: 2}"], "sampler.args: got an unexpected keyword argument 'size' for 'my_s"),
        (
            ["sampler.kind=my_sampler:Silent"],
            "sampler.window_range=[0,3]: with this model sampler.kind=my_sampler:Silent has no noise in step 0, and a "
            "step without noise cannot be trained; use e.g. [1,3]",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    settings: Callable[..., Config], overrides: list[str], says: str
) -> None:
    config = settings(*overrides)
    with pytest.raises(UserError) as caught:
        build_stochastic_step(config, build_policy(config))
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_a_loss_for_flows_is_refused_for_a_family_of_another_process(
    settings: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    import my_family

    from drift_pl.policies.process import DdpmProcess

    monkeypatch.setattr(my_family.Dots, "process", DdpmProcess())
    config = settings(
        "policy.family=my_family:Dots", "sampler.kind=ddim", "objective.loss=nft", "policy.guidance_scale=1"
    )
    with pytest.raises(UserError, match=r"^objective\.loss=nft is for flow models, and policy\.family=my_family:Dots"):
        build_stochastic_step(config, build_policy(config))
