"""Arguments of the rival methods that cannot act beside the other settings: one line that names both."""

import pytest

from drift_pl.config.dry_run import dry_settings
from drift_pl.config.loading import parse
from drift_pl.core.errors import UserError

PLAIN = ["experiment=shapes_flowgrpo", "prompts.group_size=16"]
DIVERSE, GARDO = "incentive.method=diverse_grpo", "incentive.method=gardo"
KL = "objective.kl_weight=0.1"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([GARDO, "incentive.args={auxiliary: [one]}"], r"auxiliary=\['one'\] says where the divergence acts, and obj"),
        ([GARDO, "incentive.args={gated_share: 0.5}"], "args.gated_share=0.5 says .* use e.g. objective.kl_weight=0.1"),
        ([DIVERSE, "incentive.args={early_steps: 2}"], "args.early_steps=2 says where the divergence acts, and object"),
        (
            [DIVERSE, "incentive.args={clusters: 16}"],
            "clusters=16 makes every image of prompts.group_size=16 a cluster",
        ),
        (["incentive.method=inverse_probability", "incentive.args={clusters: 20}"], "clusters=20 .* use e.g. 4"),
        ([DIVERSE, KL, "incentive.args={early_steps: 0}"], "diverges in the first 0 of .*early_steps: 1"),
        ([DIVERSE, KL, "sampler.steps=9", "sampler.window_range=[3,8]"], r"first 3 of sampler.steps=9.*range=\[0,8\]"),
    ],
)
def test_what_cannot_act_is_refused(given: list[str], says: str) -> None:
    """Catches in config/methods.py: an argument of a divergence that has no weight; every image its own cluster."""
    with pytest.raises(UserError, match=says):
        parse([*PLAIN, *given])


@pytest.mark.parametrize(
    "given",
    [
        [GARDO, "incentive.args={auxiliary: [one], gated_share: 0.5}", KL],
        [DIVERSE, "incentive.args={clusters: 15, beta: 1.0}"],
        [DIVERSE, KL, "sampler.steps=9", "sampler.window_range=[2,8]"],
        ["incentive.method=inverse_probability", "incentive.args={clusters: 8}"],
    ],
)
def test_what_acts_is_taken_and_a_dry_run_keeps_it(given: list[str]) -> None:
    """Catches in config/dry_run.py: a group of eight images for a method of fifteen clusters."""
    config = parse([*PLAIN, *given]).config
    parse([*PLAIN, *given, *(f"{key}={value}" for key, value in dry_settings(config))])
