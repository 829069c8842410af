"""What an update cannot do beside the other settings, and levers that cannot act under it. No torch.

What an update learns from says on what the levers act. Under one that replays the sampled steps (`Entry.replays`) they
act on each trained step: selection and shaping through its advantage, prompting through the condition that the step was
sampled under. Under one that trains on the final images they act on the image as a whole.
"""

from typing import TYPE_CHECKING, NamedTuple

from drift_pl.core.errors import UserError
from drift_pl.core.registry import TABLES

if TYPE_CHECKING:  # its check calls this module
    from drift_pl.config.schema import Config

LOST_SIZES = {
    "binary": "keeps their signs only",
    "one_only": "keeps their signs only",
    "negative_only": "drops those",
}
"""Advantage modes of DiffusionNFT -> what each does with the sizes of positive advantages."""


def refuse_unfit_update(config: "Config") -> None:
    """Checks that the update, the levers and the sampler fit together, as far as this is known of the update.

    Raises:
        UserError: the update cannot do what another setting asks of it, or a lever cannot act under it.
    """
    _refuse_pairs(config)
    if config.objective.loss not in TABLES["update"]:
        return  # of an update from elsewhere nothing is known
    if replays_steps(config):
        _refuse_under_replay(config)
    else:
        _refuse_under_images(config)


class StepLimit(NamedTuple):
    """What an update holds its steps back by.

    Attributes:
        measure: the metric of how far the policy is from it before it has changed, 0 without rounding.
        value: the limit of that.
        setting: the key that sets it.
    """

    measure: str
    value: float
    setting: str


def step_limit(config: "Config") -> StepLimit:
    """The mask's divergence, or else the clip range of the ratio."""
    objective = config.objective
    if objective.loss == "flow_dppo":
        return StepLimit("policy/kl_old_first", objective.kl_limit, "objective.kl_limit")
    return StepLimit("policy/ratio_deviation_first", objective.clip_range, "objective.clip_range")


def replays_steps(config: "Config") -> bool:
    """Whether the update is known to train on the sampled steps."""
    entry = TABLES["update"].get(config.objective.loss)
    return entry is not None and entry.replays


def learns_from_images(config: "Config") -> bool:
    """Whether the update is known to train on the final images alone."""
    return config.objective.loss in TABLES["update"] and not replays_steps(config)


def _refuse_pairs(config: "Config") -> None:
    """Of two images each is as far from the other, so that a bonus for distance is zero once it is centred."""
    if config.incentive.shaping.weight > 0 and config.prompts.group_size < 3:
        raise UserError(
            f"incentive.shaping.weight={config.incentive.shaping.weight} cannot act with prompts.group_size="
            f"{config.prompts.group_size}: two images are equally far from each other; use prompts.group_size=3 or "
            "more, or incentive.shaping.weight=0"
        )


def _refuse_under_replay(config: "Config") -> None:
    """A replayed step must have been sampled with noise, and under the condition that it is learnt under."""
    loss, prompting = f"objective.loss={config.objective.loss}", config.incentive.prompting
    if prompting.update == "clean" and prompting.rule != "none":
        raise UserError(
            f"incentive.prompting.update=clean needs an update that trains on the images alone, and {loss} replays the "
            "sampled steps: use objective.loss=nft, or incentive.prompting.update=varied"
        )
    if config.sampler.window_size == 0:
        raise UserError(
            f"sampler.window_size=0 leaves no step to train, and {loss} trains on sampled steps: use "
            "sampler.window_size=1 or more, or objective.loss=nft"
        )
    family = TABLES["family"].get(config.policy.family)
    if config.objective.step_weights == "inverse_length" and family and family.process != "flow":
        raise UserError(
            f"objective.step_weights=inverse_length is for flow models, whose means move with the prediction in "
            f"proportion to the step's length, and policy.family={config.policy.family} is not one: use none or std"
        )


def _refuse_under_images(config: "Config") -> None:
    """The final images of a flow, without its steps."""
    loss, incentive = f"objective.loss={config.objective.loss}", config.incentive
    family, guidance = config.policy.family, config.policy.guidance_scale
    if family in TABLES["family"] and TABLES["family"][family].process != "flow":
        raise UserError(f"{loss} is for flow models, and policy.family={family} is not one: use surrogate")
    if guidance != 1 and family != "flux":  # flux: guidance is an input, so the velocity is the network's own
        raise UserError(
            f"{loss} trains the model's own velocity, and policy.guidance_scale={guidance} mixes two: set "
            f"policy.guidance_scale=1 (and sampler.eval_guidance_scale={guidance} to evaluate with it)"
        )
    if incentive.shaping.form == "per_step" and incentive.shaping.weight > 0:
        raise UserError(f"incentive.shaping.form=per_step needs sampled steps, and {loss} has none: use terminal")
    if incentive.method == "diverse_grpo":
        raise UserError(
            f"incentive.method=diverse_grpo diverges in early steps only, and {loss} has no steps: use "
            "objective.loss=surrogate"
        )
    _refuse_levels(config)
    _refuse_lost_sizes(config)
    if config.objective.loss == "awm" and config.objective.old_decay_max > 0 and config.objective.awm_pull == 0:
        raise UserError(
            f"objective.old_decay_max={config.objective.old_decay_max}: with objective.loss=awm an old policy only "
            "pulls: use e.g. objective.awm_pull=1, or objective.old_decay_max=0"
        )


def _refuse_levels(config: "Config") -> None:
    objective, steps = config.objective, config.sampler.steps
    if objective.noise_levels == "sampler" and objective.nft_times > steps:
        raise UserError(
            f"objective.nft_times={objective.nft_times} is more than the sampler.steps={steps} noise levels of "
            f"objective.noise_levels=sampler: use e.g. {steps - 1}"
        )


def _refuse_lost_sizes(config: "Config") -> None:
    """Modes that keep an advantage's sign alone lose what a lever adds to its size."""
    if loses_sizes(config) and config.objective.kl_weight == 0:
        mode = config.objective.adv_mode
        raise UserError(
            f"incentive.method=gardo multiplies positive advantages, and objective.adv_mode={mode} "
            f"{LOST_SIZES[mode]}: use objective.adv_mode=all"
        )


def loses_sizes(config: "Config") -> bool:
    """Whether a method's factor on positive advantages is lost."""
    objective = config.objective
    return objective.loss == "nft" and objective.adv_mode in LOST_SIZES and config.incentive.method == "gardo"
