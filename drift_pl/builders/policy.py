"""Settings become a policy, and the stochastic steps that it is trained on."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from drift_pl.config.batches import window_bounds
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError, naming
from drift_pl.core.registry import TABLES, check_arguments, find
from drift_pl.policies.loading import LowRank, load_policy
from drift_pl.policies.pipeline import PipelinePolicy
from drift_pl.policies.protocol import Policy
from drift_pl.sampling.stochastic import StochasticStep


def build_policy(config: Config) -> Policy:
    """The policy of a family: a subclass of `PipelinePolicy`, or any other class after the protocol `Policy`.

    Its constructor is given those keys of the section `policy` that it names, and `policy.args`. A class of the second
    form may also name `seed` and the adapter's `rank`, `alpha`, `targets` and `warm_start`.

    Raises:
        UserError: something cannot be loaded, or the model does not have or cannot do what is asked for.
    """
    policy, lora = config.policy, config.policy.lora
    adapter = LowRank(lora.rank, lora.alpha, lora.targets, config.seed, lora.pretrained)
    with naming("policy.family"):
        family = find("family", policy.family)
    if not (inspect.isclass(family) and issubclass(family, PipelinePolicy)):
        return family(**_arguments("policy", policy.family, family, policy, vars(adapter)))
    constructor: Callable[..., Any] = family  # its first two arguments, pipeline and adapter, are loaded
    return load_policy(
        family,
        policy.pretrained,
        None if policy.tuning == "full" else adapter,
        _arguments("policy", policy.family, partial(constructor, None, None), policy),
        dtype=policy.dtype,
        quantisation=policy.quantisation,
        reference_device=policy.reference_device,
        gradient_checkpointing=policy.gradient_checkpointing,
        compile=policy.compile,
    )


def build_stochastic_step(config: Config, policy: Policy) -> StochasticStep:
    """The steps that rollouts take with noise, checked against the policy that takes them.

    Raises:
        UserError: there is no such sampler, it is made for another process than the policy's, or it has no noise in a
            step that the window may cover.
    """
    kind = config.sampler.kind
    with naming("sampler.kind"):
        sampler = find("sampler", kind)
    step: StochasticStep = sampler(**_arguments("sampler", kind, sampler, config.sampler))
    _refuse_other_processes(config, step.process, policy.process.name)
    _refuse_noiseless_steps(config, step, policy)
    return step


def _refuse_other_processes(config: Config, wanted: str, process: str) -> None:
    """Names of this package are refused earlier, with the settings.

    Args:
        wanted: the process that the stochastic steps are made for.
        process: the policy's.
    """
    family = config.policy.family
    if wanted != process:
        fitting = [name for name, entry in TABLES["sampler"].items() if entry.process == process]
        raise UserError(
            f"sampler.kind={config.sampler.kind} is for models of the process {wanted}, and policy.family={family} is "
            f"of the process {process}: use {', '.join(fitting) or 'a sampler'} of that process"
        )
    if config.objective.loss == "nft" and process != "flow":
        raise UserError(f"objective.loss=nft is for flow models, and policy.family={family} is none: use surrogate")


def _refuse_noiseless_steps(config: Config, step: StochasticStep, policy: Policy) -> None:
    """A step without noise has no density to train by; where DDIM's last step ends is a matter of the model.

    Raises:
        UserError: the window may cover such a step.
    """
    (first, end), kind = window_bounds(config.sampler), config.sampler.kind
    sigmas = policy.sigmas(config.sampler.steps)
    noiseless = [number for number in range(first, end) if step.spread(sigmas, number) == 0]
    if config.sampler.steps - 1 in noiseless:
        raise UserError(
            f"sampler.noisy_last_step=true: with this model sampler.kind={kind} has no noise in the last step; "
            "use false"
        )
    if noiseless:
        raise UserError(
            f"sampler.window_range=[{first},{end}]: with this model sampler.kind={kind} has no noise in step "
            f"{noiseless[-1]}, and a step without noise cannot be trained; use e.g. [{noiseless[-1] + 1},{end}]"
        )


def _arguments(
    setting: str, name: str, thing: Callable[..., Any], section: Any, others: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What to construct `thing` with: those keys of a section that its signature names, and the section's `args`.

    Args:
        setting: name of the section.
        name: of `thing`.
        others: what it may name besides.

    Raises:
        UserError: it does not take these arguments, or needs others.
    """
    plain = {key: value for key, value in vars(section).items() if isinstance(value, str | int | float | list | None)}
    taken = inspect.signature(thing).parameters
    given = {key: value for key, value in {**plain, **(others or {})}.items() if key in taken}
    given |= getattr(section, "args", {})
    with naming(setting):
        check_arguments(name, thing, given)
    return given
