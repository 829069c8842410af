"""What the keys of a config may hold: names to choose from, and smallest values."""

from drift_pl.core.registry import TABLES, names

DDPM_FAMILIES = tuple(name for name, entry in TABLES["family"].entries.items() if entry.process == "ddpm")
EXTRA_MEASURES = ("rke", "nearest_distance", "pairwise_ssim", "fid", "kid")

CHOICES: dict[str, tuple[str, ...]] = {
    "policy.family": names("family"),
    "policy.tuning": ("lora", "full"),
    "policy.reference_device": ("device", "cpu"),
    "sampler.kind": ("flow_sde", "dance_sde", "flow_cps", "ddim"),
    "sampler.window_schedule": ("random", "sliding"),
    "incentive.method": ("drift", *names("method")),
    "incentive.selection.rule": ("none", "band", "quantile", "min_variance", "median", "max_variance"),
    "incentive.selection.statistics": ("median", "mean"),
    "incentive.prompting.rule": ("none", "embedding_noise", "variants", "variants_noise"),
    "incentive.prompting.form": ("additive", "cads"),
    "incentive.shaping.potential": ("mean", "nearest", "logdet", "vendi"),
    "incentive.shaping.form": ("terminal", "per_step"),
    "incentive.shaping.gate": ("none", "median", "quantile"),
    "incentive.shaping.normalise": ("raw", "minmax", "centred"),
    "objective.advantage_std": ("group", "global", "kept", "none"),
    "objective.reward_normalisation": ("sum", "per_judge"),
    "objective.kl_form": ("exact", "flow_grpo", "mean"),
    "objective.loss": ("surrogate", "nft"),
    "objective.ratio": ("plain", "guard"),
    "objective.step_weights": ("none", "inverse_length", "std"),
    "trainer.strategy": ("auto", "ddp"),
    "trainer.accelerator": ("auto", "cpu", "gpu", "cuda", "mps"),
    "trainer.precision": ("32-true", "bf16-mixed"),
}

# as above, and null
OPTIONAL_CHOICES: dict[str, tuple[str, ...]] = {
    "policy.dtype": ("float32", "bfloat16", "float16"),
    "policy.quantisation": ("bitsandbytes_4bit", "bitsandbytes_8bit"),
}

LOGGERS = names("logger")

# key -> (smallest allowed value, whether that value itself is allowed)
LOWER_BOUNDS: dict[str, tuple[float, bool]] = {
    "policy.lora.rank": (1, True),
    "policy.lora.alpha": (1, True),
    "policy.max_sequence_length": (0, True),
    "sampler.steps": (2, True),
    "sampler.noise_level": (0, False),
    "sampler.eval_steps": (1, True),
    "sampler.window_stride": (1, True),
    "sampler.window_every": (1, True),
    "sampler.eval_lora_scale": (0, True),
    "incentive.shaping.gamma": (0, True),
    "prompts.per_iteration": (1, True),
    "prompts.group_size": (2, True),
    "incentive.selection.kappa": (0, False),
    "incentive.prompting.scale": (0, True),
    "incentive.shaping.weight": (0, True),
    "incentive.shaping.floor": (0, False),
    "objective.nft_times": (1, True),
    "objective.nft_beta": (0, False),
    "objective.clip_range": (0, False),
    "objective.advantage_clip": (0, False),
    "objective.kl_weight": (0, True),
    "objective.inner_epochs": (1, True),
    "objective.updates": (1, True),
    "objective.micro_batch": (1, True),
    "objective.learning_rate": (0, False),
    "objective.warmup": (0, True),
    "objective.max_grad_norm": (0, False),
    "incentive.selection.keep": (0, True),
    "evaluation.vendi_order": (0, False),
    "trainer.alarm.threshold": (0, True),
    "evaluation.every": (0, True),
    "evaluation.seeds_per_prompt": (2, True),
    "evaluation.seeds_while_training": (2, True),
    "evaluation.max_prompts": (0, True),
    "trainer.iterations": (1, True),
    "trainer.devices": (1, True),
    "trainer.num_nodes": (1, True),
    "trainer.save_every": (1, True),
    "trainer.threads": (0, True),
    "trainer.judge_groups": (0, True),
    "trainer.keep_checkpoints": (-1, True),
    "policy.guidance_scale": (1, True),
    "objective.weight_decay": (0, True),
    "incentive.prompting.anneal_iterations": (0, True),
    "evaluation.grid_prompts": (1, True),
    "evaluation.grid_seeds": (1, True),
}
