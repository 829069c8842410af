"""Batch sizes and step windows that follow from a config."""

from typing import TYPE_CHECKING, NamedTuple

from drift_pl.core.errors import UserError

if TYPE_CHECKING:  # its sections are checked by these functions
    from drift_pl.config.schema import Config, SamplerConfig


class BatchArithmetic(NamedTuple):
    """Numbers that follow from the batch settings.

    Example: 8 prompts of 16 images on 2 processes are 4 groups and 64 images per process; with 2 updates each
    optimizer step takes 2 groups per process, 64 images in all.
    """

    groups_per_process: int
    images_per_process: int
    images_per_iteration: int
    images_per_update: int
    optimizer_steps_per_iteration: int
    trained_steps: int
    noise_levels: int

    def describe(self) -> str:
        trained = f"{self.noise_levels} noise levels" if self.noise_levels else f"{self.trained_steps} trained steps"
        return (
            f"{self.images_per_iteration} images per iteration ({self.groups_per_process} groups, "
            f"{self.images_per_process} images per process), {trained}, "
            f"{self.optimizer_steps_per_iteration} optimizer steps of {self.images_per_update} images"
        )


def derive_batches(config: "Config") -> BatchArithmetic:
    """Batch sizes of a run.

    Raises:
        UserError: the prompts cannot be shared equally between processes or updates.
    """
    world = config.trainer.devices * config.trainer.num_nodes
    per_iteration, updates = config.prompts.per_iteration, config.objective.updates
    share = world * updates
    if per_iteration % share:
        below, above = per_iteration // share * share, (per_iteration // share + 1) * share
        working = f"{above}" if below == 0 else f"{below} or {above}"
        raise UserError(
            f"prompts.per_iteration={per_iteration} cannot be shared by {world} process(es) x "
            f"objective.updates={updates}: use a multiple of {share}, e.g. {working}"
        )
    groups, size = per_iteration // world, config.prompts.group_size
    window = config.sampler.window_size
    return BatchArithmetic(
        groups_per_process=groups,
        images_per_process=groups * size,
        images_per_iteration=per_iteration * size,
        images_per_update=per_iteration * size // updates,
        optimizer_steps_per_iteration=updates * config.objective.inner_epochs,
        trained_steps=stochastic_steps(config.sampler) if window is None else window,
        noise_levels=config.objective.nft_times if config.objective.loss == "nft" else 0,
    )


def sampling_micro_batch(config: "Config") -> int:
    """Images per forward pass where nothing is trained; the default of `objective.micro_batch` if that is measured."""
    return config.sampler.micro_batch or config.objective.micro_batch or 8


def stochastic_steps(sampler: "SamplerConfig") -> int:
    """Number of leading steps of a rollout that may be stochastic."""
    return sampler.steps if sampler.noisy_last_step else sampler.steps - 1


def window_bounds(sampler: "SamplerConfig") -> tuple[int, int]:
    """[first, end) of the steps that the SDE window may cover."""
    return (
        (sampler.window_range[0], sampler.window_range[1]) if sampler.window_range else (0, stochastic_steps(sampler))
    )
