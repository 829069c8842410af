"""Which rewards score which prompts: lines of prompt lists with the field `reward`."""

import difflib
from collections.abc import Collection, Mapping, Sequence

from drift_pl.config.schema import Config
from drift_pl.config.schema_method import RewardConfig
from drift_pl.core.errors import UserError, naming
from drift_pl.core.prompt_files import DATASET, REWARD, Prompt, read_prompt_file

LISTS = ("train", "tuning", "test")
Choices = Mapping[str, frozenset[str]]
"""Prompt -> names of the rewards that score it; a prompt that is missing is scored by all."""


def reward_names(rewards: Sequence[RewardConfig], taken: Sequence[str] = ()) -> list[str]:
    """Names of rewards in logs and records: the second of a name is NAME#2.

    Args:
        taken: names of further rewards.
    """
    found: list[str] = []
    for reward in rewards:
        name = reward.name.rpartition(":")[2]
        count = 1 + sum(other.partition("#")[0] == name for other in [*taken, *found])
        found.append(name if count == 1 else f"{name}#{count}")
    return found


def prompt_rewards(config: Config, lists: Collection[str] = LISTS) -> Choices:
    """The choices that the run's lists make, or other lists. A dataset's column makes none.

    Args:
        lists: `train`, `tuning`, `test`, or the name of a file.

    Raises:
        UserError: a list cannot be read; it names a reward that the run has not, or only such whose weight is 0; or a
            prompt names different rewards in two places.
    """
    weights = {name: reward.weight for name, reward in zip(reward_names(config.rewards), config.rewards, strict=True)}
    found: dict[str, frozenset[str]] = {}
    for which in lists:
        setting, file = (f"prompts.{which}", getattr(config.prompts, which)) if which in LISTS else ("prompts", which)
        if file.startswith(DATASET):
            continue
        with naming(setting):
            prompts = read_prompt_file(file)
        for prompt in prompts:
            _refuse_unknown(prompt, weights)
            names = frozenset(prompt.rewards) or frozenset(weights)
            if found.setdefault(prompt.text, names) != names:
                raise UserError(
                    f"{prompt.place or setting}: {prompt.text!r} is scored by {', '.join(sorted(names))} here and by "
                    f"{', '.join(sorted(found[prompt.text]))} elsewhere: give it the same '{REWARD}' everywhere, or "
                    "word the two differently"
                )
    return {text: names for text, names in found.items() if len(names) < len(weights)}


def chosen(choices: Choices, prompts: Sequence[str]) -> str:
    """One line per prompt that names rewards, for digests; empty without any."""
    return "".join(f"{text}\t{' '.join(sorted(choices[text]))}\n" for text in prompts if text in choices)


def _refuse_unknown(prompt: Prompt, weights: Mapping[str, float]) -> None:
    for name in prompt.rewards:
        if name not in weights:
            near = difflib.get_close_matches(name, weights, n=1)
            hint = (
                f"did you mean {near[0]!r}?" if near else f"name one of these, or leave out '{REWARD}': all score then"
            )
            raise UserError(
                f"{prompt.place}: {name!r} is none of the run's rewards, which are {', '.join(weights)}; {hint}"
            )
    if prompt.rewards and any(weights.values()) and not any(weights[name] for name in prompt.rewards):
        raise UserError(
            f"{prompt.place}: {', '.join(prompt.rewards)} has weight 0 in rewards, so nothing can be learnt from this "
            "prompt: name a reward with a weight"
        )
