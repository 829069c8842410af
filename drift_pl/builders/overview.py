"""What a run is, for the table that it begins with: nothing of it shapes the run."""

from pathlib import Path

import torch
from lightning import Trainer

from drift_pl.builders.scoring import prompts_of
from drift_pl.config.batches import derive_batches, world_size
from drift_pl.config.prompt_rewards import prompt_rewards, reward_names
from drift_pl.config.schema import Config
from drift_pl.policies.protocol import Policy


def overview(config: Config, policy: Policy, trainer: Trainer, run_dir: Path) -> dict[str, str]:
    """Row -> text, from settings as they may be shown."""
    rewards, config = _rewards(config), config.published
    rows = {
        "experiment": f"{config.experiment}, seed {config.seed}" + (f", {config.run_name}" if config.run_name else ""),
        "policy": f"{config.policy.family}, {config.policy.pretrained}",
        "trained": _trained(config, policy),
        "batch": f"{config.prompts.per_iteration} prompts x {config.prompts.group_size} = "
        + derive_batches(config).describe(),
        "update": _update(config),
        "levers": levers(config),
        "rewards": rewards,
        "length": _length(config),
        "devices": _devices(config, trainer),
        "run folder": str(run_dir),
    }
    return rows


def _rewards(config: Config) -> str:
    """The rewards with their weights; those that some prompts leave out, with the number of the others."""
    choices, found = prompt_rewards(config, ["train"]), []
    prompts = prompts_of(config, "train") if choices else ()
    for name, reward in zip(reward_names(config.rewards), config.published.rewards, strict=True):
        scored = sum(name in choices.get(prompt, {name}) for prompt in prompts)
        of = "" if scored == len(prompts) else f" ({scored} of {len(prompts)} prompts)"
        found.append(f"{reward.name} x {reward.weight:g}{of}")
    return ", ".join(found)


def levers(config: Config) -> str:
    """The three levers, or the rival method, with what they are set to."""
    incentive, shaping = config.incentive, config.incentive.shaping
    found = [f"method {incentive.method}"] if incentive.method != "drift" else []
    if incentive.selection.rule != "none":
        found.append(f"selection {incentive.selection.rule}")
    if incentive.prompting.rule != "none":
        found.append(f"prompting {incentive.prompting.rule}")
    if shaping.weight:
        names = [encoder.name for encoder in shaping.encoders] or [shaping.encoder.name]
        found.append(f"shaping {shaping.weight:g} ({', '.join(names)})")
    return ", ".join(found) or "none: the base algorithm"


def _trained(config: Config, policy: Policy) -> str:
    trained = sum(parameter.numel() for _, parameter in policy.trainable_parameters())
    total = sum(parameter.numel() for parameter in policy.network.parameters())
    lora = config.policy.lora
    what = f"LoRA of rank {lora.rank}" if config.policy.tuning == "lora" else "all weights"
    return f"{millions(trained)} of {millions(total)} parameters ({trained / max(total, 1):.1%}), {what}"


def millions(number: int) -> str:
    return f"{number:,}" if number < 1e5 else f"{number / 1e6:,.2f} M" if number < 1e9 else f"{number / 1e9:,.2f} B"


def _update(config: Config) -> str:
    objective = config.objective
    kl = f", KL weight {objective.kl_weight:g}" if objective.kl_weight else ""
    return f"{objective.loss}, learning rate {objective.learning_rate:g}{kl}"


def _length(config: Config) -> str:
    iterations, images = config.trainer.iterations, derive_batches(config).images_per_iteration
    return f"{iterations} iterations, {iterations * images:,} images"


def _devices(config: Config, trainer: Trainer) -> str:
    processes, device = world_size(config), trainer.strategy.root_device
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    number = torch.get_num_threads()
    threads = f", {number} thread{'s' if number > 1 else ''}" if device.type == "cpu" else ""
    shared = f", {config.trainer.strategy}" if processes > 1 else ""
    tf32 = f", {tf32_in_words()}" if device.type == "cuda" else ""
    return f"{processes} x {device.type}{name}{shared}, {config.trainer.precision}{tf32}{threads}"


def tf32_in_words() -> str:
    """Where float32 is computed in TF32, as torch has it now."""
    products, convolutions = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    found = [name for name, on in (("products", products), ("convolutions", convolutions)) if on]
    return f"TF32 in {' and '.join(found)}" if found else "no TF32"
