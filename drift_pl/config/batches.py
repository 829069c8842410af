"""Batch sizes and step windows that follow from a config."""

from typing import TYPE_CHECKING, NamedTuple

from drift_pl.config.updates import learns_from_images
from drift_pl.core.errors import UserError

if TYPE_CHECKING:  # its sections are checked by these functions
    from drift_pl.config.schema import Config, SamplerConfig


class BatchArithmetic(NamedTuple):
    """Numbers that follow from the batch settings.

    Example: 8 prompts of 16 images on 2 processes are 4 groups and 64 images per process; with 2 updates each
    optimizer step takes 2 groups per process, 64 images in all. On 16 processes each takes 4 images of a group in each
    step, 8 in all: groups are split over processes, and `groups_per_process` is 0.
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
        groups = f"{self.groups_per_process} groups" if self.groups_per_process else "groups split over processes"
        return (
            f"{self.images_per_iteration} images per iteration ({groups}, "
            f"{self.images_per_process} images per process), {trained}, "
            f"{self.optimizer_steps_per_iteration} optimizer steps of {self.images_per_update} images"
        )


def derive_batches(config: "Config") -> BatchArithmetic:
    """Batch sizes of a run.

    Raises:
        UserError: the prompts cannot be shared equally between updates, or there are more processes than images of an
            optimizer step.
    """
    per_iteration, updates, size = config.prompts.per_iteration, config.objective.updates, config.prompts.group_size
    if per_iteration % updates:
        below, above = per_iteration // updates * updates, (per_iteration // updates + 1) * updates
        working = f"{above}" if below == 0 else f"{below} or {above}"
        raise UserError(
            f"prompts.per_iteration={per_iteration} cannot be shared by objective.updates={updates} optimizer steps: "
            f"use a multiple of {updates}, e.g. {working}"
        )
    world, images = world_size(config), per_iteration * size // updates
    if world > images:
        raise UserError(
            f"trainer.devices={config.trainer.devices} x trainer.num_nodes={config.trainer.num_nodes} are {world} "
            f"processes for the {images} images of an optimizer step (prompts.per_iteration={per_iteration} x "
            f"prompts.group_size={size} / objective.updates={updates}): use at most {images} processes"
        )
    whole = most_processes_of_whole_groups(config) == world
    return BatchArithmetic(
        groups_per_process=per_iteration // world if whole else 0,
        images_per_process=updates * -(-images // world),
        images_per_iteration=per_iteration * size,
        images_per_update=images,
        optimizer_steps_per_iteration=updates * config.objective.inner_epochs,
        trained_steps=window_width(config.sampler),
        noise_levels=config.objective.nft_times if learns_from_images(config) else 0,
    )


def world_size(config: "Config") -> int:
    return config.trainer.devices * config.trainer.num_nodes


def most_processes_of_whole_groups(config: "Config") -> int:
    """The largest number of processes, at most the run's, with which no group is split over processes."""
    groups = config.prompts.per_iteration // config.objective.updates
    return max(number for number in range(1, world_size(config) + 1) if groups % number == 0)


def sampling_micro_batch(config: "Config") -> int:
    """Images per forward pass where nothing is trained; the default of `objective.micro_batch` if that is measured."""
    return config.sampler.micro_batch or config.objective.micro_batch or 8


def stochastic_steps(sampler: "SamplerConfig") -> int:
    """Number of leading steps of a rollout that may be stochastic and trained."""
    return sampler.steps if sampler.noisy_last_step and sampler.train_last_step else sampler.steps - 1


def noise_is_untrained(sampler: "SamplerConfig") -> bool:
    """Whether the last step of a rollout has noise and is not trained."""
    return sampler.noisy_last_step and not sampler.train_last_step


def noisy_steps(sampler: "SamplerConfig") -> range:
    """Steps of a rollout that have noise whether they are trained or not."""
    last = sampler.steps - 1
    if sampler.noisy_steps == "all":
        return range(sampler.steps if sampler.noisy_last_step else last)
    return range(last, sampler.steps) if noise_is_untrained(sampler) else range(0)


def window_bounds(sampler: "SamplerConfig") -> tuple[int, int]:
    """[first, end) of the steps that the SDE window may cover."""
    return (
        (sampler.window_range[0], sampler.window_range[1]) if sampler.window_range else (0, stochastic_steps(sampler))
    )


def window_width(sampler: "SamplerConfig") -> int:
    """Steps of the SDE window; without a size it is the whole range."""
    first, end = window_bounds(sampler)
    return end - first if sampler.window_size is None else sampler.window_size


def shortest_stay(sampler: "SamplerConfig") -> int:
    """Iterations that a window of `linear_decay` stays at the end of its range; by default a quarter of the first."""
    return sampler.window_every_last or max(1, sampler.window_every // 4)


def images_selected(keep: int, size: int) -> int:
    """Images of a group that a rule with `incentive.selection.keep` trains on; 0: three quarters."""
    return keep or -(-3 * size // 4)
