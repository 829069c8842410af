"""The plan of a run: typed dataclasses, one per section, each field with its default and meaning. Imports no torch.

An experiment file is a small difference to these defaults. `config.arguments` reads files and overrides into a
`Config`; `config.checks` refuses what cannot be run; only `builders` turns a `Config` into objects.
"""

from dataclasses import dataclass, field
from typing import Any


def option(default: Any, meaning: str) -> Any:
    """A field with its default and the sentence that `--help` prints."""
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata={"doc": meaning})
    return field(default=default, metadata={"doc": meaning})


def section(kind: type, meaning: str) -> Any:
    return field(default_factory=kind, metadata={"doc": meaning})


@dataclass
class NamedConfig:
    name: str = option("", "a registered name, or `their_package.module:Thing`")
    args: dict[str, Any] = option({}, "keyword arguments of its constructor")


@dataclass
class RewardConfig(NamedConfig):
    weight: float = option(1.0, "its factor in the weighted sum of rewards")


@dataclass
class EncoderConfig(NamedConfig):
    weight: float = option(1.0, "its share in the similarity of two images")


@dataclass
class LoraConfig:
    rank: int = option(32, "rank of the low-rank update")
    alpha: int = option(64, "its scale: the update is multiplied by alpha / rank")
    pretrained: str | None = option(None, "warm start: a LoRA in diffusers' format, a .safetensors file or its folder")
    targets: list[str] = option(
        ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"],
        "names of the linear layers that are adapted",
    )


@dataclass
class PolicyConfig:
    pretrained: str = option("pkg:drift_pl.builtin/weights/pipeline", "hub id, local folder, or pkg:PACKAGE/FOLDER")
    tuning: str = option("lora", "what trains: lora (an adapter), full (all weights; policy.lora is ignored)")
    reference_device: str = option("device", "full: where the frozen reference lives, device (accelerator) or cpu")
    family: str = option("sd3", "pipeline family of `pretrained`: sd3, flux, zimage")
    lora: LoraConfig = section(LoraConfig, "the trained adapter")
    guidance_scale: float = option(
        4.5, "guidance in rollouts and training; 1 switches it off (flux: the scale that the network is told)"
    )
    negative_prompt: str = option("", "prompt of the unconditional branch (flux has none)")
    resolution: int | None = option(None, "image height and width in pixels; null: the model's own")
    max_sequence_length: int = option(256, "text tokens per prompt (sd3, flux: T5's); 0 leaves T5's out in sd3")
    compile: bool = option(False, "torch.compile the transformer's blocks (pays off in long runs on an accelerator)")
    gradient_checkpointing: bool = option(False, "recompute activations in the backward pass to save memory")
    text_encoder_device: str | None = option(
        None, "where text encoders compute: null (with the model), or cpu, which saves their memory; texts are kept"
    )
    dtype: str | None = option(None, "frozen weights: float32, bfloat16, float16; null: as stored or float32")
    quantisation: str | None = option(
        None, "frozen weights of the denoiser: bitsandbytes_4bit, bitsandbytes_8bit; null: not quantised"
    )


@dataclass
class SamplerConfig:
    kind: str = option(
        "flow_sde",
        "stochastic steps: flow_sde (Flow-GRPO), dance_sde (DanceGRPO), flow_cps (Flow-CPS); for the families sd15 and "
        "sdxl ddim (DDPO: eta is noise_level, published with 1 and 50 steps)",
    )
    steps: int = option(10, "denoising steps of a rollout")
    noise_level: float = option(
        0.7,
        "a: scale of the noise that a stochastic step injects; published: flow_sde 0.7, dance_sde 0.3, flow_cps 0.8, "
        "ddim 1",
    )
    window_size: int | None = option(None, "SDE steps that are sampled with noise and trained; null: all but the last")
    window_range: list[int] = option([], "[first, end): where the window may start and end; []: anywhere possible")
    window_schedule: str = option("random", "where the window starts: random (each iteration anew), sliding (MixGRPO)")
    window_stride: int = option(1, "sliding: steps by which the window moves")
    window_every: int = option(25, "sliding: iterations between two moves")
    shared_prefix: bool = option(False, "one ODE prefix per group up to the window, then a branch per image")
    noisy_last_step: bool = option(False, "also put noise into the last step (its noise goes straight into the image)")
    eval_steps: int = option(40, "ODE steps in evaluation")
    eval_guidance_scale: float | None = option(None, "guidance in evaluation; null: policy.guidance_scale")
    eval_importance_power: float | None = option(None, "evaluate with annealed importance guidance of this power")
    eval_lora_scale: float = option(
        1.0, "evaluate with what was learnt (the adapter's output, or full: the weights' change) times this"
    )


@dataclass
class PromptsConfig:
    train: str = option(
        "pkg:drift_pl.builtin/prompts/train.txt",
        "training prompts: a text file with one per line, JSON lines (.jsonl), or hf:OWNER/NAME[/CONFIG]:SPLIT:COLUMN",
    )
    tuning: str = option("pkg:drift_pl.builtin/prompts/tuning.txt", "prompts for evaluations during training")
    test: str = option("pkg:drift_pl.builtin/prompts/test.txt", "held-out prompts for summary.json")
    per_iteration: int = option(8, "prompts (groups) per iteration, over all processes")
    group_size: int = option(16, "images per prompt and iteration")


@dataclass
class SelectionConfig:
    rule: str = option(
        "none", "which images of a group are trained on: band, quantile, min_variance, median, max_variance, none"
    )
    kappa: float = option(2.0, "band: half-width in spreads of the group's rewards")
    statistics: str = option("median", "band: median (with 1.4826 x median absolute deviation) or mean (with std)")
    low: float = option(0.0, "quantile: lowest kept quantile of the group's rewards; 0 drops the top tail only")
    high: float = option(0.9, "quantile: highest kept quantile")
    keep: int = option(0, "min_variance, median, max_variance: images kept of each group; 0: three quarters of it")


@dataclass
class PromptingConfig:
    rule: str = option("none", "how each image's condition varies: embedding_noise, variants, variants_noise, none")
    scale: float = option(0.1, "embedding_noise: s, in standard deviations of the prompt's own tokens")
    low: float = option(0.6, "embedding_noise: tau1, noise level (1 noise .. 0 image) up to which nothing is added")
    high: float = option(0.9, "embedding_noise: tau2, noise level from which the full noise is added")
    form: str = option("additive", "embedding_noise: additive (the prompt stays), cads (it fades as the noise sets in)")
    rescale: float = option(0.0, "share psi of a rescaling to the prompt's own mean and spread, in [0, 1]; CADS has 1")
    pooled: bool = option(False, "embedding_noise: vary the pooled embedding as well")
    templates: list[str] = option([], "variants: texts with {prompt}, e.g. 'a photo of {prompt}'")
    paraphrases: str | None = option(None, "variants: JSON lines of {prompt, paraphrases}")
    share: float = option(1.0, "variants: probability that an image's prompt is rewritten")
    anneal_iterations: int = option(0, "iterations over which the scale falls linearly to zero; 0: never falls")


@dataclass
class ShapingConfig:
    weight: float = option(0.0, "alpha: weight of the diversity potential in the advantage; 0 switches it off")
    gamma: float = option(1.0, "discount of potential-based shaping; the bonus is scaled by gamma^T")
    potential: str = option("mean", "d_i: mean or nearest distance to the others, logdet or vendi: leave-one-out gain")
    normalise: str = option(
        "raw", "raw: absolute distance; minmax: relative to the group's range; centred: less the mean of who passes"
    )
    form: str = option("terminal", "terminal: one bonus per image; per_step: potentials of the predicted clean images")
    gate: str = option("none", "who gets the bonus: none (all), median, quantile (reward at or above the group's)")
    gate_quantile: float = option(0.5, "quantile: the gate, in [0, 1)")
    floor: float = option(0.05, "minmax: smallest spread that is stretched to [0, 1]")
    encoder: NamedConfig = field(
        default_factory=lambda: NamedConfig("dino", {"pretrained": "pkg:drift_pl.builtin/weights/shaping_encoder"}),
        metadata={"doc": "frozen encoder of the images; never the one that evaluates"},
    )
    encoders: list[EncoderConfig] = option([], "several encoders with weights, in place of `encoder`")


@dataclass
class IncentiveConfig:
    method: str = option("drift", "drift: the three levers below; or a rival method, under which shaping stays off")
    args: dict[str, Any] = option({}, "keyword arguments of a rival method")
    selection: SelectionConfig = section(SelectionConfig, "lever 1: a reward-concentrated subset of each group")
    prompting: PromptingConfig = section(PromptingConfig, "lever 2: stochastic variation of the condition")
    shaping: ShapingConfig = section(ShapingConfig, "lever 3: potential-based shaping with intra-group diversity")


@dataclass
class ObjectiveConfig:
    loss: str = option(
        "surrogate",
        "surrogate: clipped, of the sampled steps; nft: of the images noised anew (DiffusionNFT), for flows",
    )
    nft_times: int = option(4, "nft: noise levels that each image is noised to")
    nft_beta: float = option(1.0, "nft: how far later steps are held to the policy that sampled")
    clip_range: float = option(1e-4, "clip of the ratio; log-densities are means over latents, so it is small")
    advantage_clip: float = option(5.0, "largest magnitude of an advantage")
    advantage_std: str = option("group", "what a centred reward is divided by: group, global, kept, none")
    kl_weight: float = option(0.0, "beta: weight of the divergence from the reference model")
    reward_normalisation: str = option("sum", "several judges: sum, or per_judge (each by its own group spread: GDPO)")
    kl_form: str = option(
        "exact", "surrogate: exact, Gaussian KL of a step; flow_grpo: times the step length; mean: without std"
    )
    ratio: str = option("plain", "plain, or guard: GRPO-Guard's ratio, centred and scaled alike at every step")
    step_weights: str = option("none", "weight of a step's loss: none, inverse_length (GRPO-Guard), std")
    skip_zero_advantage: bool = option(True, "leave images of zero advantage out of the update's forward passes")
    inner_epochs: int = option(1, "passes over an iteration's images")
    updates: int = option(2, "optimiser steps per pass; each takes an equal share of the groups")
    micro_batch: int = option(8, "images per forward pass, in rollouts and training alike")
    learning_rate: float = option(3e-4, "AdamW learning rate")
    weight_decay: float = option(1e-4, "AdamW weight decay")
    warmup: int = option(0, "iterations over which the learning rate rises linearly")
    max_grad_norm: float = option(1.0, "gradients are clipped to this norm")
    ema_decay: float = option(0.0, "decay of the weight average that is evaluated and exported; 0: no average")


@dataclass
class EvaluationConfig:
    every: int = option(0, "iterations between evaluations on the tuning prompts; 0: only before and after training")
    seeds_per_prompt: int = option(16, "images per prompt, before and after training")
    seeds_while_training: int = option(16, "images per prompt of the evaluations during training")
    max_prompts: int = option(0, "evaluate the first so many prompts of a file; 0: all")
    resolution: int | None = option(None, "image height and width in evaluation; null: policy.resolution")
    vendi_order: float = option(1.0, "order q of the Vendi score")
    extra: list[str] = option([], "further measures: rke, nearest_distance, pairwise_ssim, fid, kid")
    grid_prompts: int = option(4, "prompts shown in image grids")
    grid_seeds: int = option(8, "images per prompt in image grids")
    encoder: NamedConfig = field(
        default_factory=lambda: NamedConfig(
            "pooled", {"pretrained": "pkg:drift_pl.builtin/weights/evaluation_encoder"}
        ),
        metadata={"doc": "encoder of the diversity measures; another than the one that shapes"},
    )
    lpips: NamedConfig = field(
        default_factory=lambda: NamedConfig("lpips", {"pretrained": "pkg:drift_pl.builtin/weights/lpips"}),
        metadata={"doc": "perceptual network of pairwise_lpips"},
    )
    rewards: list[RewardConfig] = option([], "held-out judges: evaluated, never trained on")
    measures: list[NamedConfig] = option([], "further measures of evaluation images")


@dataclass
class AlarmConfig:
    threshold: float = option(0.5, "warn when the training groups' diversity falls below this share of the first's")
    stop: bool = option(False, "end the run there")


@dataclass
class TrainerConfig:
    iterations: int = option(200, "length of the run; may be raised later to extend it")
    accelerator: str = option("auto", "Lightning accelerator: auto, cpu, gpu")
    devices: int = option(1, "processes per node")
    num_nodes: int = option(1, "nodes")
    strategy: str = option("auto", "auto (one process, or DDP on several), ddp")
    precision: str = option("32-true", "Lightning precision: 32-true, bf16-mixed")
    threads: int = option(0, "CPU threads per process; 0: as torch chooses")
    judge_groups: int = option(0, "groups that judges are given in one call; 0: all of an iteration")
    judge_thread: bool = option(
        False, "judge the groups that are ready in a thread while the next are sampled; needs judge_groups"
    )
    save_every: int = option(10, "iterations between checkpoints (the length of a Lightning epoch)")
    keep_checkpoints: int = option(2, "numbered checkpoints kept beside last.ckpt; -1: all")
    keep_boundary: bool = option(
        True, "copy the trained state to main memory before each iteration: a broken run is saved from it"
    )
    logger: list[str] = option(["tensorboard"], "where metrics go: tensorboard, csv; []: nowhere")
    progress: bool = option(True, "show the progress bar")
    monitor_lpips: bool = option(True, "measure pairwise LPIPS of the training groups too, the dearest of the measures")
    alarm: AlarmConfig = section(AlarmConfig, "the floor under diversity")
    callbacks: list[NamedConfig] = option([], "further Lightning callbacks")


@dataclass
class Config:
    experiment: str = option("shapes_div", "name of a file in experiments/, or the path of a .yaml file")
    seed: int = option(0, "seed of everything that training draws")
    run_dir: str | None = option(None, "folder of the run; null: runs/EXPERIMENT-HASH-sSEED")
    ckpt_path: str | None = option(None, "resume from: last (error if none), auto (or start), or a file")
    policy: PolicyConfig = section(PolicyConfig, "the model that is fine-tuned")
    sampler: SamplerConfig = section(SamplerConfig, "how rollouts and evaluation sample")
    prompts: PromptsConfig = section(PromptsConfig, "prompts, and how many images of each")
    rewards: list[RewardConfig] = option([], "the judges that are trained on")
    incentive: IncentiveConfig = section(IncentiveConfig, "DRIFT's three levers")
    objective: ObjectiveConfig = section(ObjectiveConfig, "the base algorithm's loss and optimiser")
    evaluation: EvaluationConfig = section(EvaluationConfig, "held-out evaluation")
    trainer: TrainerConfig = section(TrainerConfig, "length, hardware, logging")
