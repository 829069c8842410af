"""Settings become a policy, and what encodes its prompts."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from drift_pl.builders.arguments import arguments
from drift_pl.config.schema import AUTOCAST, Config
from drift_pl.core.errors import UserError, named, naming
from drift_pl.core.files import local_path, probe_folder
from drift_pl.core.registry import construct, find
from drift_pl.policies.loading import LowRank, load_policy
from drift_pl.policies.pipeline import PipelinePolicy
from drift_pl.policies.protocol import Policy
from drift_pl.sampling.prompt_cache import PromptStore
from drift_pl.sampling.prompts import PromptEncoder


def build_policy(config: Config, sharded: bool = False) -> Policy:
    """The policy of a family: a subclass of `PipelinePolicy`, or any other class that follows the protocol `Policy`.

    Its constructor is given the keys of the section `policy` that it names, `policy.args`, and, where it names them,
    `seed` and the adapter's `rank`, `alpha`, `targets` and `warm_start`.

    Args:
        sharded: it will be sharded over processes; until then a `PipelinePolicy` has no weights.

    Raises:
        UserError: something cannot be loaded, or the model does not support a setting.
    """
    policy = _make_policy(config, sharded)
    with policy.at_resolution(config.evaluation.resolution):  # refused here and not at the first evaluation
        return policy


def pipeline_arguments(config: Config, family: type[PipelinePolicy]) -> dict[str, Any]:
    """What the constructor of a family of pipelines is given besides the pipeline and the adapter.

    Raises:
        UserError: it does not take `policy.args`, or requires others.
    """
    constructor: Callable[..., Any] = family  # its first two arguments, pipeline and adapter, are loaded
    others = vars(_adapter(config))
    try:
        inspect.signature(family).bind_partial(None, None)
    except TypeError as error:
        raise UserError(
            f"policy.family={config.policy.family}: its constructor must take a pipeline and an adapter first, as "
            "PipelinePolicy's does"
        ) from error
    return arguments("family", "policy.family", partial(constructor, None, None), config.policy, others)


def _adapter(config: Config) -> LowRank:
    lora = config.policy.lora
    return LowRank(lora.rank, lora.alpha, lora.targets, config.seed, lora.pretrained)


def _make_policy(config: Config, sharded: bool) -> Policy:
    policy, adapter = config.policy, _adapter(config)
    with naming("policy.family"):
        family = find("family", policy.family)
    if not (inspect.isclass(family) and issubclass(family, PipelinePolicy)):
        if policy.storage is not None:
            raise UserError(
                f"policy.storage={policy.storage}: policy.family={policy.family} loads its weights itself: use null"
            )
        given = arguments("family", "policy.family", family, policy, vars(adapter))
        with naming("policy.family"):
            made = construct(policy.family, family, given)
            if not hasattr(made, "at_resolution"):
                raise UserError(f"{named(policy.family)} makes a {type(made).__name__}, which is no policy")
            return made
    return load_policy(
        family,
        policy.pretrained,
        None if policy.tuning == "full" else adapter,
        pipeline_arguments(config, family),
        dtype=policy.dtype,
        autocast=AUTOCAST.get(config.trainer.precision),
        quantisation=policy.quantisation,
        storage=policy.storage,
        reference_device=policy.reference_device,
        gradient_checkpointing=policy.gradient_checkpointing,
        compile=policy.compile,
        sharded=sharded,
    )


def build_prompt_encoder(config: Config, policy: Policy) -> PromptEncoder:
    """Keeps encoded prompts in main memory and, if a folder is given, on disk.

    Raises:
        UserError: the folder cannot be used.
    """
    prompts, store = config.prompts, None
    if prompts.cache_dir is not None:
        with naming("prompts.cache_dir"):
            folder = local_path(prompts.cache_dir)
            probe_folder(folder)
            if not hasattr(policy, "encoder_key"):
                raise UserError(f"policy.family={config.policy.family} has no encoder_key: use prompts.cache_dir=null")
            store = PromptStore(folder, policy.encoder_key())
    return PromptEncoder(policy, int(prompts.cache_gb * 10**9), store)
