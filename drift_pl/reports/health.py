"""A run's health in words: what its figures say about how it went, and what to try. No torch.

The bounds are rules of thumb, named here and nowhere else; docs/metrics.md explains the keys.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from drift_pl.config.run_folder import HELD_OUT
from drift_pl.config.updates import step_limit
from drift_pl.evaluation.record import Value, summarise
from drift_pl.reports.closing import DIVERSITY, percent
from drift_pl.reports.facts import RunFacts
from drift_pl.reports.recorded import relative_change
from drift_pl.reports.series import last_part

State = Literal["fine", "look", "problem", "unknown"]

COLLAPSED, FALLING = 0.5, 0.8
"""Share of the base model's diversity that is left."""
RATIO_SHARE = 0.1
"""Of the limit, as in the warning of `training/callbacks/ratio.py`."""
DEAD = 0.5
"""Share of groups in which all rewards are equal."""
FAINT = 0.05
"""Spread of the bonus within a group, in units of the advantage, whose own spread is about 1."""
CLIPPED = 0.5
DRIFTED = 0.2
"""Relative change of the latents' size."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        said: what was found.
        advice: what to try, if anything.
    """

    state: State
    about: str
    said: str
    advice: str = ""


def findings(facts: RunFacts) -> list[Finding]:
    """Problems first, then what deserves a look, what is not known, and what is fine."""
    order = ("problem", "look", "unknown", "fine")
    found = [finding for check in CHECKS for finding in check(facts)]
    return sorted(found, key=lambda finding: order.index(finding.state))


def _difference(facts: RunFacts, name: str) -> Value | None:
    """Tuned minus base, paired by prompt; None without values per prompt."""
    base = facts.record.base if facts.record else None
    if facts.record is None or base is None or name not in base.per_prompt:
        return None
    pairs = zip(base.per_prompt[name], facts.record.tuned.per_prompt.get(name, []), strict=False)
    return summarise([None if one is None or other is None else other - one for one, other in pairs])


def _change(facts: RunFacts, name: str) -> float | None:
    return relative_change(facts.value("base", name), facts.value("tuned", name))


def _rises(difference: Value | None) -> bool | None:
    """Whether the interval lies above 0 (True) or below (False); None if it holds 0, or there is none."""
    if difference is None or difference.low is None or difference.high is None:
        return None
    return True if difference.low > 0 else False if difference.high < 0 else None


def _reward(facts: RunFacts) -> Iterator[Finding]:
    change, rises = percent(_change(facts, "reward")), _rises(_difference(facts, "reward"))
    if rises:
        yield Finding("fine", "Reward", f"It rose on the test prompts: {change}.")
    elif rises is False:
        advice = "Lower objective.learning_rate, or stop at an earlier checkpoint: see the front."
        yield Finding("problem", "Reward", f"It fell on the test prompts: {change}.", advice)
    else:
        said = f"It changed by {change} on the test prompts, no more than they differ among themselves."
        advice = (
            "Train longer, raise prompts.group_size, or raise objective.learning_rate; look for equal rewards below."
        )
        yield Finding("look", "Reward", said, advice)


def _collapse(facts: RunFacts) -> Iterator[Finding]:
    base, tuned = facts.value("base", DIVERSITY), facts.value("tuned", DIVERSITY)
    if not base or tuned is None:
        return
    left = tuned / base
    said = f"{left:.0%} of the base model's {DIVERSITY} is left."
    if facts.recorded and facts.recorded.base.get(DIVERSITY):
        plain = facts.recorded.tuned[DIVERSITY] / facts.recorded.base[DIVERSITY]
        said += f" {facts.recorded.name[0].upper()}{facts.recorded.name[1:]} keeps {plain:.0%} (recorded)."
    advice = "Raise incentive.shaping.weight or objective.kl_weight, take an earlier checkpoint, or weaken the adapter "
    advice += "after training: evaluate with lora_scale=[0.5, 0.75]."
    state: State = "problem" if left < COLLAPSED else "look" if left < FALLING else "fine"
    yield Finding(state, "Collapse", said, "" if state == "fine" else advice)


def _hacking(facts: RunFacts) -> Iterator[Finding]:
    """The reward rises, and what was not trained on falls."""
    names = [name for name in facts.summary["tuned"] if name.startswith(HELD_OUT)]
    names += ["alignment"] if "alignment" in facts.summary["tuned"] else []
    if not names:
        said = "No reward was held out, so nothing here could show that the images please the reward alone."
        yield Finding(
            "unknown", "Reward hacking", said, "Give evaluation.rewards=[{name: ...}], another kind of reward."
        )
    for name in names:
        label, change = name.removeprefix(HELD_OUT), percent(_change(facts, name))
        reward = _change(facts, "reward")
        if _rises(_difference(facts, name)) is not False:
            yield Finding("fine", "Reward hacking", f"{label}, which was not trained on, did not fall ({change}).")
        elif reward is not None and reward <= 0:
            said = f"{label}, which was not trained on, fell ({change}), and the reward did not rise "
            said += f"({percent(reward)}): the images became worse."
            yield Finding(
                "look", "Reward hacking", said, "Lower objective.learning_rate, or take an earlier checkpoint."
            )
        else:
            said = f"{label}, which was not trained on, fell ({change}) while the reward changed by "
            said += f"{percent(reward)}: a sign that the reward is being exploited."
            advice = (
                "Look at the pictures; raise objective.kl_weight, add this reward to the trained ones, or stop earlier."
            )
            yield Finding("problem", "Reward hacking", said, advice)


def _latents(facts: RunFacts) -> Iterator[Finding]:
    values = [value for _, value in facts.series.get("policy/latent_rms", [])]
    last = last_part(facts.series, "policy/latent_rms")
    drift = relative_change(values[0], last) if values else None
    if drift is not None and abs(drift) > DRIFTED:
        said = (
            f"The size of the final latents changed by {drift:+.0%}: the policy may please by contrast or brightness."
        )
        yield Finding("look", "Reward hacking", said, "Look at the pictures, and raise objective.kl_weight.")


def _ratio(facts: RunFacts) -> Iterator[Finding]:
    if facts.settings is None:
        return
    measure, limit, setting = step_limit(facts.settings)
    noise = max((value for _, value in facts.series.get(measure, [])), default=None)
    if noise is None:
        return
    bound = RATIO_SHARE * limit
    if noise > bound:
        said = f"Before the first step {measure} is up to {noise:.1e}; a tenth of {setting} is {bound:.1e}."
        advice = (
            "Set sampler.micro_batch=null and policy.compile=false, or compute in a more precise trainer.precision."
        )
        yield Finding("look", "Ratio noise", said, advice)
    else:
        said = f"at most {noise:.1e}" if noise else "exactly 0"
        said = f"Rollout and update compute alike: before the first step {measure} is {said}."
        yield Finding("fine", "Ratio noise", said)


def _groups(facts: RunFacts) -> Iterator[Finding]:
    equal = last_part(facts.series, "reward/zero_std_groups")
    empty = last_part(facts.series, "selection/empty_groups", share=1.0)
    advice = "Raise prompts.group_size, or take harder prompts, or a reward with finer steps or in units of about 1."
    if equal is not None:
        said = f"In {equal:.0%} of the last quarter's groups all rewards were equal up to rounding (2e-6): no signal."
        yield Finding("look" if equal > DEAD else "fine", "Dead groups", said, advice if equal > DEAD else "")
    if empty:
        said = f"{empty:.1%} of the groups kept fewer than two images and gave no update."
        yield Finding("look", "Dead groups", said, "Widen incentive.selection.kappa, or look for rewards that are NaN.")


def _unscored(facts: RunFacts) -> Iterator[Finding]:
    share = last_part(facts.series, "reward/unscored_fraction", share=1.0)
    if share:
        said = f"{share:.2%} of the images had no finite reward, or were not finite themselves."
        yield Finding("problem", "Unscored images", said, "Look at the reward's code; lower objective.learning_rate.")


def _bonus(facts: RunFacts) -> Iterator[Finding]:
    if facts.settings is None:
        return
    spread = last_part(facts.series, "shaping/bonus_group_std", share=1.0)
    if not facts.settings.incentive.shaping.weight:
        yield Finding("fine", "Diversity bonus", "The shaping lever is off.")
    elif spread is not None and spread < FAINT:
        said = f"Within a group the bonus differs by {spread:.3f} where advantages differ by about 1: it does nothing."
        advice = "Raise incentive.shaping.weight, or give an encoder that tells the images apart."
        yield Finding("look", "Diversity bonus", said, advice)
    elif spread is not None:
        said = f"Within a group the bonus differs by {spread:.2f}, beside advantages that differ by about 1: it acts."
        yield Finding("fine", "Diversity bonus", said)


def _steps(facts: RunFacts) -> Iterator[Finding]:
    sides = [last_part(facts.series, f"policy/clipped_{side}") for side in ("high", "low")]
    clipped = sum(value or 0.0 for value in sides)
    if clipped > CLIPPED:
        said = f"{clipped:.0%} of the transitions of the last quarter were clipped: steps are too large."
        yield Finding("look", "Step size", said, "Lower objective.learning_rate or objective.updates.")


def _logged(facts: RunFacts) -> Iterator[Finding]:
    if not facts.series:
        said = "No metrics of the iterations are there, so groups, ratios and the bonus cannot be judged."
        yield Finding("unknown", "Metrics", said, "Train with trainer.logger=[tensorboard] or [csv].")


Check = Callable[[RunFacts], Iterator[Finding]]
CHECKS: tuple[Check, ...] = (
    *(_reward, _collapse, _hacking, _latents, _ratio, _groups, _unscored, _bonus, _steps, _logged),
)
