"""Levers and schedules that are on and cannot change a run, because of how other settings stand. No torch."""

import math
from typing import TYPE_CHECKING

from drift_pl.config.batches import images_selected, noisy_steps, window_bounds, window_width
from drift_pl.config.updates import LOST_SIZES, loses_sizes

if TYPE_CHECKING:  # its check calls this module
    from drift_pl.config.schema import Config, IncentiveConfig, ObjectiveConfig, SamplerConfig


def idle_levers(config: "Config") -> tuple[str, ...]:
    """Each with what would let it act, for a warning: such a run is valid, and is the run without the lever."""
    incentive = config.incentive
    found = [
        _idle_selection(incentive, config.prompts.group_size),
        _idle_prompting(incentive),
        _idle_shaping(incentive, config.prompts.group_size),
        _idle_factor(config),
        _idle_pull(config.objective),
        _idle_lag(config.objective, config.trainer.iterations),
        _idle_mask(config.objective),
        "" if config.dry_run else _idle_average(config.objective, config.trainer.iterations),
        _idle_schedule(config.sampler),
        _idle_solver(config.sampler),
        _idle_noise(config.sampler),
    ]
    return tuple(each for each in found if each)


def _idle_selection(incentive: "IncentiveConfig", size: int) -> str:
    selection = incentive.selection
    name = f"incentive.selection.rule={selection.rule}"
    if selection.rule == "quantile" and (selection.low, selection.high) == (0, 1):
        return f"{name} (only with incentive.selection.low above 0 or high below 1)"
    keeps_some = selection.rule in ("min_variance", "median", "max_variance")
    if keeps_some and images_selected(selection.keep, size) == size:
        return f"{name} (only with incentive.selection.keep below prompts.group_size={size})"
    return ""


def _idle_prompting(incentive: "IncentiveConfig") -> str:
    prompting = incentive.prompting
    noisy, texts = prompting.rule.endswith("_noise"), prompting.rule.startswith(("variants", "expansions"))
    name = f"incentive.prompting.rule={prompting.rule}"
    if texts and prompting.share == 0 and not (noisy and prompting.scale > 0):
        return f"{name} (only with incentive.prompting.share above 0)"
    if noisy and not texts and prompting.scale == 0 and prompting.form == "additive":
        return f"{name} (only with incentive.prompting.scale above 0)"
    return ""


def _idle_shaping(incentive: "IncentiveConfig", size: int) -> str:
    """Two images are equally far from each other, so a bonus for distance among fewer than three is centred away."""
    shaping = incentive.shaping
    name = f"incentive.shaping.weight={shaping.weight:g}"
    if shaping.weight == 0:
        return ""
    if shaping.form == "terminal" and shaping.gamma == 0:
        return f"{name} (only with incentive.shaping.gamma above 0)"
    quantile = {"median": 0.5, "quantile": shaping.gate_quantile}.get(shaping.gate, 0.0)
    passing = size - math.ceil(round(quantile * (size - 1), 9))
    if shaping.normalise in ("centred", "residual") and passing < 3:
        return f"{name} (its gate={shaping.gate} lets {passing} of {size} images pass, and a bonus needs three)"
    return ""


def _idle_factor(config: "Config") -> str:
    """Of its two parts the gate of the KL still acts."""
    if loses_sizes(config):
        mode = config.objective.adv_mode
        return (
            "incentive.method=gardo's factor of positive advantages (only with objective.adv_mode=all or "
            f"positive_only: {mode} {LOST_SIZES[mode]})"
        )
    return ""


def _idle_pull(objective: "ObjectiveConfig") -> str:
    """The gradient of the distance from the policy itself is zero."""
    one_step = objective.updates * objective.inner_epochs == 1
    if objective.loss == "awm" and objective.awm_pull > 0 and objective.old_decay_max == 0 and one_step:
        return f"objective.awm_pull={objective.awm_pull:g} (only with objective.old_decay_max above 0)"
    return ""


def _idle_lag(objective: "ObjectiveConfig", iterations: int) -> str:
    """An old policy that begins to lag after the last iteration has sampled is the policy itself."""
    before_last = (iterations - 1) * objective.updates * objective.inner_epochs
    if objective.old_decay_max > 0 and 0 < before_last <= objective.old_decay_after:
        return (
            f"objective.old_decay_max={objective.old_decay_max:g} (only with objective.old_decay_after below "
            f"{before_last}, the optimizer steps before the last iteration)"
        )
    return ""


def _idle_mask(objective: "ObjectiveConfig") -> str:
    """In the only optimizer step of an iteration no image has left the policy that sampled it."""
    if objective.loss == "flow_dppo" and objective.updates * objective.inner_epochs == 1:
        return f"objective.kl_limit={objective.kl_limit:g} (only with objective.updates or inner_epochs above 1)"
    return ""


def _idle_average(objective: "ObjectiveConfig", iterations: int) -> str:
    """Evaluation and export read an average that is still the untrained model."""
    steps = iterations * objective.updates * objective.inner_epochs
    if objective.ema_decay > 0 and 0 < steps < objective.ema_every:
        return f"training (evaluated only with objective.ema_every up to the run's {steps} optimizer steps)"
    return ""


def _idle_solver(sampler: "SamplerConfig") -> str:
    """A step of second order needs a step without noise before it."""
    if sampler.solver == "dpm2" and max(window_width(sampler), len(noisy_steps(sampler))) >= sampler.steps - 1:
        return f"sampler.solver={sampler.solver} (only with two or more steps without noise)"
    return ""


def _idle_noise(sampler: "SamplerConfig") -> str:
    if sampler.noisy_steps == "all" and window_width(sampler) == len(noisy_steps(sampler)):
        return "sampler.noisy_steps=all (only with sampler.window_size below the steps that have noise)"
    return ""


def _idle_schedule(sampler: "SamplerConfig") -> str:
    """A window as wide as its range has nowhere to go; one whose stays do not become shorter there moves evenly."""
    (first, end), width = window_bounds(sampler), window_width(sampler)
    name = f"sampler.window_schedule={sampler.window_schedule}"
    if sampler.window_schedule == "random":
        return ""
    if width in (0, end - first):
        room = f"sampler.window_size from 1 to {end - first - 1}"
        return f"{name} (only with {room})" if end - first > 1 else f"{name} (its range has one step)"
    last = first + (end - width - first) // sampler.window_stride * sampler.window_stride
    if sampler.window_schedule == "linear_decay" and sampler.window_every_last == sampler.window_every:
        return f"{name} (only with sampler.window_every_last below window_every={sampler.window_every})"
    if sampler.window_schedule == "exp_decay" and sampler.window_decay_from >= last:
        return f"{name} (only with sampler.window_decay_from below {last}, where the window starts last)"
    if sampler.window_schedule.endswith("_decay") and sampler.window_every == 1:
        return f"{name} (only with sampler.window_every above 1)"
    return ""
