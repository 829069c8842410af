"""The stochastic steps of rollouts: made from settings, and checked against the policy that takes them."""

import warnings
from statistics import median

from torch import Tensor

from drift_pl.builders.arguments import arguments
from drift_pl.config.batches import noise_is_untrained, window_bounds
from drift_pl.config.processes import is_first_launched
from drift_pl.config.schema import Config
from drift_pl.config.updates import replays_steps
from drift_pl.core.answers import of_shape
from drift_pl.core.errors import UserError, named, naming
from drift_pl.core.registry import TABLES, construct, find
from drift_pl.policies.process import Process
from drift_pl.policies.protocol import Policy
from drift_pl.sampling.stochastic import StochasticStep

# A trained step that is more sensitive than this many median steps is warned of: those of the published SDEs and of
# DDIM stay below 25 (up to 50 steps, time shifts up to 6), Flow-CPS's last one is above 50.
MOST_SENSITIVE = 30


def create_stochastic_step(config: Config) -> StochasticStep:
    """The steps that rollouts take with noise.

    Raises:
        UserError: there is no such sampler, or it does not take its arguments.
    """
    kind = config.sampler.kind
    with naming("sampler.kind"):
        sampler = find("sampler", kind)
    given = arguments("sampler", "sampler.kind", sampler, config.sampler, {})
    with naming("sampler.kind"):
        step: StochasticStep = construct(kind, sampler, given)
        if not hasattr(step, "process"):
            raise UserError(f"{named(repr(kind))} has no `process`: give it process = 'flow', or 'ddpm'")
    return step


def build_stochastic_step(config: Config, policy: Policy) -> StochasticStep:
    """The same, checked against the policy that takes them.

    Raises:
        UserError: as there; or it is for another process than the policy's, or has no noise in a step of the window's
            range; or the policy's noise levels are no grid.
    """
    step = create_stochastic_step(config)
    _refuse_other_processes(config, step.process, policy.process.name)
    steps = config.sampler.steps
    what = f"policy.family: {type(policy).__name__}.sigmas"
    sigmas = of_shape(what, policy.sigmas(steps), [steps + 1])
    _refuse_resting_steps(what, sigmas)
    _refuse_noiseless_steps(config, step, sigmas)
    _warn_of_sensitive_steps(config, step, sigmas)
    _warn_of_late_noise(config, policy.process, sigmas)
    return step


def _refuse_other_processes(config: Config, wanted: str, process: str) -> None:
    """For names of this package `Config` refuses them earlier.

    Args:
        wanted: the process of the stochastic steps.
        process: the policy's.
    """
    family = config.policy.family
    if wanted != process:
        fitting = [name for name, entry in TABLES["sampler"].items() if entry.process == process]
        raise UserError(
            f"sampler.kind={config.sampler.kind} is for models of the process {wanted}, and policy.family={family} is "
            f"of the process {process}: use {', '.join(fitting) or 'a sampler'} of that process"
        )
    update = TABLES["update"].get(config.objective.loss)
    if update and update.process not in ("", process):
        loss = f"objective.loss={config.objective.loss}"
        raise UserError(f"{loss} is for flow models, and policy.family={family} is not one: use surrogate")
    if config.sampler.solver != "euler" and process != "flow":
        raise UserError(
            f"sampler.solver={config.sampler.solver} is for flow models, and policy.family={family} is not one: use "
            "euler"
        )


def _refuse_resting_steps(what: str, sigmas: Tensor) -> None:
    """A step to the same noise level has no length, and the second of two at 0 divides by zero.

    Args:
        what: returned the levels.

    Raises:
        UserError: the levels of a family from elsewhere, or of a scheduler with an unusual config, do not fall.
    """
    rests = (~(sigmas.diff() < 0)).nonzero().flatten().tolist()
    if rests:
        step, here = rests[0], f"{sigmas[rests[0]]:g} to {sigmas[rests[0] + 1]:g}"
        raise UserError(
            f"{what}({len(sigmas) - 1}) goes from {here} in step {step}: return noise levels that fall with every "
            "step, e.g. 1, 0.75, 0.5, 0.25, 0 for four"
        )


def _refuse_noiseless_steps(config: Config, step: StochasticStep, sigmas: Tensor) -> None:
    """A step without noise has no density to train with; whether DDIM's last step has noise depends on the model.

    Raises:
        UserError: the window's range has such a step.
    """
    (first, end), kind = window_bounds(config.sampler), config.sampler.kind
    last = config.sampler.steps - 1
    if config.sampler.window_size == 0:
        return
    noiseless = [number for number in range(first, end) if step.spread(sigmas, number) == 0]
    if last in noiseless or (noise_is_untrained(config.sampler) and step.spread(sigmas, last) == 0):
        raise UserError(
            f"sampler.noisy_last_step=true: with this model sampler.kind={kind} has no noise in the last step; "
            "use false"
        )
    if noiseless:
        raise UserError(
            f"sampler.window_range=[{first},{end}]: with this model sampler.kind={kind} has no noise in step "
            f"{noiseless[-1]}, and a step without noise cannot be trained; use e.g. [{noiseless[-1] + 1},{end}]"
        )


def _warn_of_sensitive_steps(config: Config, step: StochasticStep, sigmas: Tensor) -> None:
    """Warns of steps whose log-ratio moves many times as much with the prediction as those of the other steps.

    Flow-CPS's last step before the image has next to no noise: at ten steps of Stable Diffusion 3.5 (shift 3) a change
    of the velocity moves its log-ratio hundreds of times as much as the first step's. The published window is the first
    half. The guarded ratio has no standard deviation in its denominator, and nft has no steps.
    """
    objective, kind, steps = config.objective, config.sampler.kind, config.sampler.steps
    if not replays_steps(config) or objective.ratio != "plain" or not is_first_launched():
        return
    first, end = window_bounds(config.sampler)
    moves = {number: step.sensitivity(sigmas, number) for number in range(first, end)}
    usual, least = median(moves.values()), min(moves.values())
    extreme = [number for number, move in moves.items() if move > MOST_SENSITIVE * usual]
    if not extreme:
        return
    number = extreme[-1]
    half = steps // 2 if first < steps // 2 <= extreme[0] else extreme[0]
    remedies = [f"sampler.window_range=[{first},{half}]"] if half > first else []
    if objective.loss != "flow_dppo":  # whose mask is a KL, and has the same denominator
        remedies.append("objective.ratio=guard")
    remedy = " or ".join(remedies) or "another sampler.kind"
    warnings.warn(
        f"sampler.window_range=[{first},{end}]: sampler.kind={kind} has so little noise in step {number} (std "
        f"{float(step.spread(sigmas, number)):.2g}) that a change of the prediction moves its log-ratio "
        f"{moves[number] / usual:.0f} times as much as the median step's and {moves[number] / least:.0f} times as much "
        f"as the least sensitive one's: it dominates the gradient and the clip; use {remedy}",
        stacklevel=1,
    )


def _warn_of_late_noise(config: Config, process: Process, sigmas: Tensor) -> None:
    """Noise on the prompt acts above `low` only; a shared prefix has the prompt itself, and may reach below it."""
    prompting, sampler = config.incentive.prompting, config.sampler
    first = window_bounds(sampler)[0] if sampler.shared_prefix else 0
    highest = process.time(sigmas[first])
    if prompting.rule == "embedding_noise" and prompting.low >= highest and is_first_launched():
        after = f" after the prefix that sampler.shared_prefix=true shares, from step {first} on" if first else ""
        warnings.warn(
            f"incentive.prompting.rule=embedding_noise has no effect: incentive.prompting.low={prompting.low:g}, and "
            f"the highest noise level{after} is {highest:.2f}; use e.g. incentive.prompting.low={highest / 2:.1g}",
            stacklevel=1,
        )
