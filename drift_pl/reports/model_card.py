"""The model card of exported weights: a README.md with a Hugging Face metadata block, filled from the run. No torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from drift_pl import __version__
from drift_pl.config.batches import derive_batches
from drift_pl.config.schema import Config, has_effect
from drift_pl.config.updates import learns_from_images, replays_steps
from drift_pl.config.yaml_text import format_value
from drift_pl.core.locate import split_revision
from drift_pl.core.registry import TABLES
from drift_pl.core.servers import without_queries
from drift_pl.reports.card_facts import Base, Weights
from drift_pl.reports.markdown import code, plain, row

if TYPE_CHECKING:
    from drift_pl.policies.export import PipelineFacts

TAGS = ("reinforcement-learning", "diversity", "drift_pl")


@dataclass(frozen=True)
class Export:
    """What was exported.

    Attributes:
        folder: its name.
        form: `lora` or `full`.
        evaluation: table in Markdown.
    """

    folder: str
    form: str
    weights: Weights
    base: Base
    pipeline: "PipelineFacts"
    evaluation: str


def model_card(config: Config, config_hash: str, export: Export) -> str:
    """The text of README.md."""
    license = export.base.license()
    levers = "\n".join(f"- {name}: {text}" for name, text in describe_levers(config).items())
    sections = [
        f"---\n{_metadata(export, license)}---",
        f"# {plain(export.folder)}",
        " ".join(filter(None, [_summary(export), family_note(config, code)])),
        f"## Load it\n\n```python\n{_example(config, export)}\n```",
        f"## Training\n\n{_training(config, config_hash, export)}",
        f"### Levers\n\n{levers}",
        f"## Evaluation\n\n{export.evaluation}",
        f"## License\n\n{_license(export.base, license)}",
    ]
    return "\n\n".join(sections) + "\n"


def family_note(config: Config, shown: Callable[[str], str] = without_queries) -> str:
    """What a stock pipeline leaves out of the weights of a family from elsewhere; empty for this package's families.

    Args:
        shown: how names and arguments are written.
    """
    policy = config.policy
    if policy.family in TABLES["family"]:
        return ""
    family = f"the family {shown(policy.family)}{_arguments(policy.args, shown)}"
    return (
        f"The weights are for {family}: a stock pipeline does not apply its code, so the images that it draws are not "
        "those of the run."
    )


def _metadata(export: Export, license: dict[str, str]) -> str:
    lora = export.form == "lora"
    content: dict[str, Any] = {}
    if export.base.hub_id:
        content = {"base_model": export.base.hub_id, "base_model_relation": "adapter" if lora else "finetune"}
    task = "text-to-video" if "num_frames" in export.pipeline.call_arguments else "text-to-image"
    content |= {"library_name": "diffusers", "pipeline_tag": task, **license}
    content["tags"] = [*(["lora"] if lora else []), task, *TAGS]
    missing = "" if export.base.hub_id else "# base_model: ORGANISATION/MODEL  (the run read it from a folder)\n"
    return missing + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)


def _summary(export: Export) -> str:
    what = "A LoRA for" if export.form == "lora" else "Fine-tuned from"
    which = "the average (EMA) of the weights" if export.weights.label == "average" else "the weights themselves"
    return (
        f"{what} {export.base.address}, fine-tuned on rewards with drift_pl {__version__}: {which} after "
        f"{export.weights.iteration} iterations."
    )


def _example(config: Config, export: Export) -> str:
    """A few lines of diffusers, and an import if the base is in a package."""
    pipeline, lora = export.pipeline, export.form == "lora"
    imports, base = [f"from diffusers import {pipeline.class_name}"], repr(export.base.name)
    if not lora:
        base = repr(f"./{export.folder}")
    elif export.base.name.startswith("pkg:"):
        package, _, inside = export.base.name.removeprefix("pkg:").partition("/")
        imports.append("from importlib import resources")
        base = f"resources.files({package!r}) / {inside!r}"
    elif export.base.hub_id:
        name, pinned = split_revision(export.base.name)
        base = ", ".join([repr(name), *(f"{key}={value!r}" for key, value in pinned.items())])
    absent = "".join(f", {part}=None" for part in pipeline.absent)
    lines = [*imports, "", f"pipeline = {pipeline.class_name}.from_pretrained({base}{absent})"]
    if lora:
        lines.append(f"pipeline.load_lora_weights({f'./{export.folder}'!r})  # this folder, or its id on the hub")
    if lora and pipeline.process == "ddpm":  # a full export contains its scheduler
        lines[0] = f"from diffusers import DDIMScheduler, {pipeline.class_name}"
        lines.append("pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)")
    own_guidance = config.sampler.eval_guidance_scale
    guidance = config.policy.guidance_scale if own_guidance is None else own_guidance
    unasked = None if pipeline.guidance_argument == "guidance_scale" else ""
    arguments = {
        "num_inference_steps": config.sampler.eval_steps,
        pipeline.guidance_argument: guidance + pipeline.guidance_offset,
        "negative_prompt": without_queries(config.policy.negative_prompt) or unasked,
        "max_sequence_length": config.policy.max_sequence_length,
    }
    used = {name: value for name, value in arguments.items() if name in pipeline.call_arguments and value is not None}
    given = "".join(f", {name}={value!r}" for name, value in used.items())
    if "num_frames" in pipeline.call_arguments:
        lines.insert(len(imports), "from diffusers.utils import export_to_video")
        lines.append(f"video = pipeline('a prompt', num_frames={config.policy.frames}{given}).frames[0]")
        return "\n".join([*lines, "export_to_video(video, 'video.mp4', fps=16)"])
    lines.append(f"image = pipeline('a prompt'{given}).images[0]")
    return "\n".join([*lines, "image.save('image.png')"])


def _training(config: Config, config_hash: str, export: Export) -> str:
    batches, policy, objective = derive_batches(config), config.policy, config.objective
    images = export.weights.iteration * batches.images_per_iteration
    sampler = config.sampler
    trained = f"{batches.trained_steps} of them {'trained' if replays_steps(config) else 'kept for the update'}"
    if learns_from_images(config):
        trained = "none of them trained"
    sampled = f"{sampler.kind}, {sampler.steps} steps, {trained}, noise level {sampler.noise_level:g}"
    if sampler.window_size == 0 and sampler.noisy_steps == "trained" and not sampler.noisy_last_step:
        sampled = f"without noise ({sampler.solver}), {sampler.steps} steps, {trained}"
    rewards = [f"{code(reward.name)} x {reward.weight:g}{_arguments(reward.args)}" for reward in config.rewards]
    targets = ", ".join(policy.lora.targets)
    begun = "" if policy.lora.pretrained is None else f", started from {code(policy.lora.pretrained)}"
    facts = {
        "base model": export.base.address,
        "rewards": "; ".join(rewards),
        "iterations": f"{export.weights.iteration} of {config.trainer.iterations}",
        "images": f"{images:,} ({config.prompts.per_iteration} prompts x {config.prompts.group_size} an iteration)",
        "trained": f"a LoRA of rank {policy.lora.rank}, alpha {policy.lora.alpha}{begun}: {plain(targets)}"
        if policy.tuning == "lora"
        else "all weights of the denoiser",
        "sampling": f"{sampled}, guidance {policy.guidance_scale:g}",
        "objective": f"{_update(config)}, learning rate {objective.learning_rate:g}, EMA decay {objective.ema_decay:g}",
        "run": f"experiment {code(config.experiment)}, seed {config.seed}, settings {config_hash}",
    }
    rows = [row([name, text]) for name, text in facts.items()]
    return "\n".join(["| | |", "|---|---|", *rows])


def _update(config: Config) -> str:
    """The update and what acts under it; of one from elsewhere nothing but its name and its arguments is known."""
    objective, name = config.objective, code(config.objective.loss)
    if objective.loss not in TABLES["update"]:
        return f"{name}{_arguments(objective.args)}"
    forms = {
        "surrogate": f"{name}, clip range {objective.clip_range:g}",
        "flow_dppo": f"{name}, KL limit {objective.kl_limit:g}",
        "nft": f"{name}{'' if objective.old_decay_max else ' on policy'}, at {objective.nft_times} noise levels",
        "awm": f"{name}, clip range {objective.clip_range:g}, at {objective.nft_times} noise levels",
    }
    return f"{forms.get(objective.loss, name)}, KL weight {objective.kl_weight:g}"


def describe_levers(config: Config) -> dict[str, str]:
    """Lever -> its settings, or `off`; a rival method that replaces them has its own line."""
    incentive, shaping = config.incentive, config.incentive.shaping
    levers = {}
    if incentive.method != "drift":
        levers["method"] = (
            f"{code(incentive.method)} {code(format_value(incentive.args)) if incentive.args else ''}".strip()
        )
    unused = "encoder" if shaping.encoders else "encoders"
    for name, off in (("selection", "rule"), ("prompting", "rule"), ("shaping", "weight")):
        values = getattr(incentive, name).model_dump()
        shown = [
            code(f"{key}={format_value(value)}")
            for key, value in values.items()
            if has_effect(config, f"incentive.{name}.{key}") and value not in (None, []) and key != unused
        ]
        levers[name] = "off" if values[off] in ("none", 0) else ", ".join(shown)
    return levers


def _arguments(args: Mapping[str, Any], shown: Callable[[str], str] = code) -> str:
    return f" ({shown(format_value(args))})" if args else ""


def _license(base: Base, license: dict[str, str]) -> str:
    name = license.get("license_name") or license.get("license")
    return (
        f"That of the base model: see {base.address}."
        if name is None
        else f"That of the base model, {base.address}: {name}."
    )
