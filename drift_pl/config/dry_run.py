"""`dry_run=true`: one tiny iteration of everything that a run would do, in a folder of its own."""

from drift_pl.config.batches import world_size
from drift_pl.config.identity import default_run_dir
from drift_pl.config.methods import clusters_given
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError

IMAGES, EVAL_STEPS = 4, 4
SMALLEST_OF_METHODS = 8
"""Images of a group with a method other than drift: some of them take the best of several."""


def dry_settings(config: Config) -> list[tuple[str, str]]:
    """The settings that make a run tiny: one iteration, one prompt per process, a few images of the full size.

    Sampling steps, levers, rewards, resolution, devices and loggers are those of the run.

    Raises:
        UserError: it is to resume a run.
    """
    if config.ckpt_path not in (None, "auto"):
        raise UserError(f"dry_run=true begins a run of its own: leave ckpt_path={config.ckpt_path} out")
    fewest = IMAGES if config.incentive.method == "drift" else max(SMALLEST_OF_METHODS, clusters_given(config) + 1)
    size = min(config.prompts.group_size, fewest)
    numbers = {
        "prompts.per_iteration": world_size(config),
        "prompts.group_size": size,
        "incentive.selection.keep": min(config.incentive.selection.keep, size),
        "objective.updates": 1,
        "sampler.eval_steps": min(config.sampler.eval_steps, EVAL_STEPS),
        **{f"evaluation.{key}": 2 for key in ("seeds_per_prompt", "seeds_while_training", "grid_seeds")},
        **{f"evaluation.{key}": 1 for key in ("max_prompts", "every", "grid_prompts")},
        **{f"trainer.{key}": 1 for key in ("iterations", "save_every", "keep_checkpoints")},
    }
    pairs = [(key, str(value)) for key, value in numbers.items()]
    return [*pairs, ("run_dir", f"{config.run_dir or default_run_dir(config)}-dry"), ("ckpt_path", "null")]
