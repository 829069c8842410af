"""Arguments and levers that cannot act beside the other settings: one line that names both."""

import pytest

from drift_pl.config.dry_run import dry_settings
from drift_pl.config.loading import parse
from drift_pl.core.errors import UserError

PLAIN = ["experiment=shapes_flowgrpo", "prompts.group_size=16"]
DIVERSE, GARDO = "incentive.method=diverse_grpo", "incentive.method=gardo"
KL = "objective.kl_weight=0.1"
TEN = ("sampler.steps=10", "sampler.window_range=[0,9]")


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


DIV = ["experiment=shapes_div", "prompts.group_size=16"]
NFT = ["objective.loss=nft", "policy.guidance_scale=1"]


@pytest.mark.parametrize(
    ("given", "idle", "acts"),
    [
        (["incentive.selection.rule=quantile", "incentive.selection.low=0"], "incentive.selection.high=1", ""),
        (["incentive.selection.rule=median"], "incentive.selection.keep=16", "incentive.selection.keep=15"),
        (["incentive.prompting.rule=embedding_noise"], "incentive.prompting.scale=0", "incentive.prompting.form=cads"),
        (
            ["incentive.prompting.rule=variants", "incentive.prompting.templates=['a {prompt}']"],
            "incentive.prompting.share=0",
            "incentive.prompting.rule=variants_noise",
        ),
        ([], "incentive.shaping.gamma=0", "incentive.shaping.gamma=0.9"),
        (["incentive.shaping.gate=quantile"], "incentive.shaping.gate_quantile=1", "incentive.shaping.normalise=raw"),
        (
            ["incentive.shaping.gate=median", "incentive.selection.rule=none"],
            "prompts.group_size=4",
            "prompts.group_size=5",
        ),
        (["sampler.window_schedule=sliding"], "sampler.window_size=null", "sampler.window_size=1"),
        (
            ["sampler.window_schedule=exp_decay", "sampler.window_size=1"],
            "sampler.window_decay_from=13",
            "sampler.window_decay_from=1",
        ),
        # of ten steps a window of four starts at 0, 2 and 4
        (
            ["sampler.window_schedule=exp_decay", *TEN, "sampler.window_size=4", "sampler.window_stride=2"],
            "sampler.window_decay_from=4",
            "sampler.window_decay_from=3",
        ),
        (
            ["sampler.window_schedule=exp_decay", *TEN, "sampler.window_size=4", "sampler.window_decay_from=2"],
            "sampler.window_every=1",
            "sampler.window_every=2",
        ),
        (
            ["sampler.window_schedule=linear_decay", *TEN, "sampler.window_size=4", "sampler.window_every=8"],
            "sampler.window_every_last=8",
            "sampler.window_every_last=7",
        ),
        (
            ["objective.loss=awm", "objective.updates=1", "policy.guidance_scale=1"],
            "objective.awm_pull=1",
            "objective.old_decay_max=0.3",
        ),
        # four iterations of two steps: the last one samples after six
        (
            [*NFT, "objective.old_decay_max=0.5", "objective.updates=2", "trainer.iterations=4"],
            "objective.old_decay_after=6",
            "objective.old_decay_after=5",
        ),
    ],
)
def test_levers_that_change_nothing_are_named(given: list[str], idle: str, acts: str) -> None:
    """And no longer once the last setting lets them act.

    Catches in config/idle.py: a lever that is on and does nothing without a word, or is named although it acts.
    """
    (warned,) = parse([*DIV, *given, idle]).ignored
    assert "(" in warned
    if acts:
        assert (
            parse(
                [*DIV, *given, idle, acts] if idle.split("=")[0] != acts.split("=")[0] else [*DIV, *given, acts]
            ).ignored
            == ()
        )


@pytest.mark.parametrize(
    "key", ["objective.old_decay_rate=0.0075", "objective.old_decay_after=75", "objective.awm_power=0.5"]
)
def test_schedules_of_what_is_off_are_named(key: str) -> None:
    """Catches in config/schema_method.py: the schedule of an old policy that there is not, taken without a word."""
    assert parse([*DIV, *NFT, key]).ignored[0].startswith(key.partition("=")[0])


def test_gardo_needs_the_advantages_that_it_multiplies() -> None:
    """Catches in config/updates.py: GARDO of positive advantages under an update that drops those."""
    with pytest.raises(UserError, match="multiplies positive advantages, and objective.adv_mode=negative_only drops"):
        parse([*PLAIN, *NFT, GARDO, "objective.adv_mode=negative_only"])


@pytest.mark.parametrize(("mode", "idle"), [("binary", True), ("negative_only", True), ("positive_only", False)])
def test_gardo_with_a_kl_to_gate_is_warned_of(mode: str, idle: bool) -> None:
    """Catches in config/idle.py: half of the method lost without a word."""
    ignored = parse([*PLAIN, *NFT, GARDO, KL, f"objective.adv_mode={mode}"]).ignored
    assert any(line.startswith("incentive.method=gardo's factor of positive") for line in ignored) == idle
