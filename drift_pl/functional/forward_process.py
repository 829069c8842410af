"""Policy updates on the forward process of a flow: DiffusionNFT (arXiv 2509.16117).

A flow noises a clean latent x_0 to x_t = (1 - t) x_0 + t e; its velocity is e - x_0. The policy is updated on
noised versions of its own samples, without likelihoods and without the trajectories that produced them.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def stratified_times(number: int, generator: torch.Generator) -> list[float]:
    """Noise levels in (0, 1), ascending: one in each of `number` equal strata, at the same random offset in each.

    The offset, in units of a stratum, is drawn uniformly from [0, 1) and then clamped to [0.05, 0.95], so that 0.05 and
    0.95 have a probability of 5 % each. All levels lie in [0.05 / number, 1 - 0.05 / number].
    """
    place = float(torch.rand((), generator=generator, dtype=torch.float64))
    # away from 0: an image without noise does not determine its velocity, and its weight would vanish
    return [(part + min(max(place, 0.05), 0.95)) / number for part in range(number)]


def grid_levels(number: int, sigmas: Tensor, generator: torch.Generator) -> list[float]:
    """`number` of the T noise levels of a sampler's grid, falling, each with the same probability.

    DiffusionNFT trains at the levels of its rollouts, T - 1 of them, one left out at random. Systematic sampling with
    one random integer does that, and spreads fewer levels over the whole grid.

    Args:
        number: from 1 to T.
        sigmas: noise levels of the grid, [T + 1], from noise to image; the last one, the image's, is not drawn.

    Raises:
        ValueError: the grid has fewer levels.
    """
    steps = len(sigmas) - 1
    if not 1 <= number <= steps:
        raise ValueError(f"{number} noise levels cannot be drawn from a grid of {steps}")
    place = int(torch.randint(steps, (), generator=generator))
    return [float(sigmas[(part * steps + place) // number]) for part in range(number)]


def noised(clean_BCHW: Tensor, noise_BCHW: Tensor, time: float) -> tuple[Tensor, Tensor]:
    """The state x_t = (1 - t) x_0 + t e and its velocity e - x_0, each [B, C, H, W]; t from 0 (image) to 1 (noise)."""
    return (1 - time) * clean_BCHW + time * noise_BCHW, noise_BCHW - clean_BCHW


def nft_loss(
    velocity_BCHW: Tensor,
    old_velocity_BCHW: Tensor,
    target_BCHW: Tensor,
    advantage_B: Tensor,
    advantage_limit: float,
    beta: float,
    own_time: float | None = None,
) -> Tensor:
    """DiffusionNFT's loss (arXiv 2509.16117, eq. 5), in units of the advantage:

        r |v_old + beta (v - v_old) - u|^2 + (1 - r) |v_old - beta (v - v_old) - u|^2,     r = 1/2 + A / (2 A_max),

    with u the velocity of the noised image and |.|^2 a mean over latent elements, scaled by A_max / beta. Good images
    (r > 1/2) attract the policy, bad ones repel it. Expanded, it equals up to a constant

        2 A <v - v_old, v_old - u> + beta A_max |v - v_old|^2.

    So the gradient at v = v_old is that of A |v - u|^2 for any beta, and beta keeps later steps close to the sampling
    policy. The minimizer over all functions of x_t is v_old - E[A (v_old - u)] / (beta A_max): the velocity
    of the images reweighted by 1 + A / (beta A_max), to first order.

    Args:
        velocity_BCHW: v, with gradient.
        old_velocity_BCHW: v_old, of the sampling policy, without gradient.
        target_BCHW: u = e - x_0.
        advantage_B: A; clipped to [-A_max, A_max].
        advantage_limit: A_max > 0.
        beta: > 0.
        own_time: the noise level t; each branch is then weighed by its own current error (`error_weight`), as in
            DiffusionNFT's code, and the expansion above holds at v = v_old only. None: no weights.

    Returns:
        float32 [B].
    """
    good_B = 0.5 + 0.5 * (advantage_B / advantage_limit).clamp(-1, 1)
    change_BCHW = beta * (velocity_BCHW - old_velocity_BCHW)
    error_BCHW = old_velocity_BCHW - target_BCHW
    positive_B = (error_BCHW + change_BCHW).square().flatten(1).mean(1)
    negative_B = (error_BCHW - change_BCHW).square().flatten(1).mean(1)
    if own_time is not None:
        positive_B = positive_B * error_weight(error_BCHW + change_BCHW, own_time)
        negative_B = negative_B * error_weight(error_BCHW - change_BCHW, own_time)
    return (good_B * positive_B + (1 - good_B) * negative_B) * (advantage_limit / beta)


# Smallest mean absolute error of the clean latents that is divided by, as in DiffusionNFT's code.
LEAST_CLEAN_ERROR = 1e-5


def error_weight(error_BCHW: Tensor, time: float) -> Tensor:
    """Weight of a squared velocity error e: t / max(mean|e|, 1e-5 / t), 0 at t = 0; float32 [B], without gradient.

    As in DiffusionNFT (arXiv 2509.16117, section 3.3): the squared error of the clean latents, which is t^2 times
    that of the velocity, over their mean absolute error, so that all noise levels count equally without a schedule.
    That error, t mean|e|, counts as 1e-5 at least: a perfect prediction has a finite weight.
    """
    error_B = error_BCHW.detach().abs().flatten(1).mean(1)
    return time / error_B.clamp(min=LEAST_CLEAN_ERROR / time if time else torch.inf)


def matching_log_prob(velocity_BCHW: Tensor, target_BCHW: Tensor, time: float, form: str, power: float) -> Tensor:
    """A flow-matching loss in the place of a log-density, float32 [B] (AWM, arXiv 2509.25050).

    With e = mean|v - u|^2 over latent elements: `uniform` -e, `t` -t e, `t2` -t^2 e, `huber` -t (sqrt(e + c) -
    sqrt(c)), `ghuber` -t ((e + c)^p - c^p) / p with p = `power` and c = 1e-10. These are the forms of its code, whose
    recipes take ghuber with p = 0.25.

    Raises:
        ValueError: unknown form.
    """
    error_B, small = (velocity_BCHW - target_BCHW).square().flatten(1).mean(1), 1e-10
    if form in ("uniform", "t", "t2"):
        return -error_B * time ** ("uniform", "t", "t2").index(form)
    if form == "huber":
        return -time * ((error_B + small).sqrt() - small**0.5)
    if form == "ghuber":
        return -time / power * ((error_B + small) ** power - small**power)
    raise ValueError(f"unknown weighting {form!r}: use uniform, t, t2, huber or ghuber")


ADVANTAGE_MODES: dict[str, Callable[[Tensor], Tensor]] = {
    "all": lambda advantage_B: advantage_B,
    "positive_only": lambda advantage_B: advantage_B.clamp(min=0),
    "negative_only": lambda advantage_B: advantage_B.clamp(max=0),
    "one_only": lambda advantage_B: (advantage_B > 0).to(advantage_B.dtype),
    "binary": lambda advantage_B: advantage_B.sign(),
}
"""DiffusionNFT's `adv_mode` -> what becomes of an advantage before it is divided by A_max."""
