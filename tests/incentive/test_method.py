"""The method: the levers put together, and what another method changes."""

import pytest
import torch
from torch import Tensor

from drift_pl.core.errors import UserError
from drift_pl.core.types import Scores, Trajectory
from drift_pl.functional.advantage import AdvantageRule
from drift_pl.incentive.method import Method
from drift_pl.incentive.methods.gardo import Gardo
from drift_pl.incentive.methods.gdpo import Gdpo
from drift_pl.incentive.methods.protocol import RewardMethod
from drift_pl.incentive.selection import Band
from drift_pl.incentive.shaping import DiversityShaping

SPREAD = (torch.tensor(2.0), 50.0)
"""Of the batch, and of the base model's groups."""


def trajectory_of(steps: tuple[int, ...], num_steps: int) -> Trajectory:
    nothing = torch.empty(0)
    return Trajectory(nothing, nothing, steps, num_steps, nothing, nothing)


class Turned(RewardMethod):
    """Trains away from what the judges reward."""

    def reward(self, scores: Scores) -> Tensor:
        return -2 * scores.reward_PG


def scores_of(generator: torch.Generator, steps: int = 0) -> Scores:
    """Two groups of six images, and predictions at `steps` steps."""
    embedding = torch.nn.functional.normalize(torch.randn(1 + steps, 2, 6, 8, generator=generator), dim=-1)
    reward = torch.rand(2, 6, generator=generator)
    return Scores(reward, {"first": reward}, embedding[0], embedding[1:] if steps else None)


def test_rewards_are_selected_and_centred_by_hand() -> None:
    """Of 1, 2, 3 and 100 the band keeps three; their mean is 2, and the floor is 1 % of 50 or the batch's spread 2."""
    scores = Scores(torch.tensor([[1.0, 2.0, 3.0, 100.0]]), {}, None)
    for rule, divisor in (("global", 2.0), ("none", 1.0)):
        method = Method(Band(2.0), None, AdvantageRule(rule))
        reward = method.effective_reward(scores)
        kept = method.selection(reward)
        assert kept.tolist() == [[True, True, True, False]]
        assert method.bonus(scores, trajectory_of((0,), 4)) is None
        advantage = method.advantage(scores, reward, kept, None, *SPREAD)
        torch.testing.assert_close(advantage, torch.tensor([[-1.0, 0.0, 1.0, 0.0]]) / divisor)
    flat = Scores(torch.tensor([[0.1, -0.1]]), {}, None)
    method = Method(advantage_rule=AdvantageRule("group"))
    advantage = method.advantage(flat, flat.reward_PG, torch.ones(1, 2, dtype=torch.bool), None, *SPREAD)
    torch.testing.assert_close(advantage, torch.tensor([[0.2, -0.2]]))  # 0.1 by the floor of 0.5, not by its own 0.1


@pytest.mark.parametrize("form", ["terminal", "per_step"])
def test_the_bonus_is_the_shapings_own_in_either_form(form: str, generator: torch.Generator) -> None:
    """Also where predictions are there for another reason, and with a weight that a target has adjusted.

    The gate looks at the rewards that the bonus is added to.

    Catches in incentive/method.py: the configured weight in one of the two forms; a gate on the judges' sum, which one
    judge of a large scale decides alone.
    """
    scores, shaping = scores_of(generator, steps=2), DiversityShaping(3.0, gamma=0.9, gate="median", form=form)
    method = Method(shaping=shaping, reward_method=Turned())
    bonus = method.bonus(scores, trajectory_of((1, 2), 5))
    inputs = (scores.embedding_PGD, scores.predicted_embedding_KPGD, scores.valid_PG)
    terminal = shaping(inputs[0], inputs[2], 5, -scores.reward_PG)
    stepwise = shaping.stepwise(*inputs, (1, 2), 5, -scores.reward_PG)
    assert torch.equal(bonus, terminal if form == "terminal" else stepwise)
    adjusted = method.bonus(scores, trajectory_of((1, 2), 5), weight=12.0)
    torch.testing.assert_close(adjusted, 4 * bonus)
    assert method.keep == ({"predictions"} if form == "per_step" else frozenset())


def test_another_method_changes_rewards_advantages_and_the_divergence(generator: torch.Generator) -> None:
    scores, gardo = scores_of(generator), Gardo(gated_share=0.5)
    assert torch.equal(Method(reward_method=Turned()).effective_reward(scores), -2 * scores.reward_PG)
    plain, other = Method(), Method(reward_method=gardo)
    kept = torch.ones(2, 6, dtype=torch.bool)
    before = plain.advantage(scores, scores.reward_PG, kept, None, *SPREAD)
    after = other.advantage(scores, scores.reward_PG, kept, None, *SPREAD)
    assert torch.equal(after, gardo.advantage(before, scores))
    assert not torch.equal(after, before)
    assert plain.divergence(scores, trajectory_of((0, 1), 4)) is None
    assert torch.equal(other.divergence(scores, trajectory_of((0, 1), 4)), gardo.divergence(scores, (0, 1), 4))


def all_parts(method: Method, scores: Scores) -> None:
    reward = method.effective_reward(scores)
    method.advantage(scores, reward, torch.ones(2, 6, dtype=torch.bool), None, *SPREAD)
    method.divergence(scores, trajectory_of((0, 1), 4))


@pytest.mark.parametrize("part", ["reward", "advantage", "divergence"])
@pytest.mark.parametrize("answer", [(1.0,), [1.0], torch.zeros(12), torch.zeros(1, 1)])
def test_what_a_method_returns_is_looked_at(part: str, answer: object, generator: torch.Generator) -> None:
    """Catches in incentive/method.py: a wrong shape is told by an index error elsewhere, or is broadcast."""
    wrong = type("Wrong", (RewardMethod,), {part: lambda *_: answer})()
    method, scores = Method(reward_method=wrong), scores_of(generator)
    with pytest.raises(UserError, match=rf"^incentive\.method: Wrong\.{part} returned .*: return a torch tensor of"):
        all_parts(method, scores)


def test_a_method_that_scores_no_image_is_refused(generator: torch.Generator) -> None:
    """Where no reward could score one either, the rewards are told of."""
    method = Method(reward_method=type("Lost", (RewardMethod,), {"reward": lambda _, s: s.reward_PG * torch.nan})())
    with pytest.raises(UserError, match=r"^incentive\.method: Lost\.reward gives none of 12 images a finite reward"):
        method.effective_reward(scores_of(generator))
    assert method.effective_reward(Scores(torch.full((1, 2), torch.nan), {}, None)).isnan().all()


def test_gdpo_gives_every_reward_the_same_say(generator: torch.Generator) -> None:
    """Two rewards whose units differ by a million: each is centred and of spread 1, and weights are shares."""
    first, second = torch.rand(2, 3, 8, generator=generator).double()
    scores = Scores(first.float(), {"first": first.float(), "second": 1e6 * second.float()}, None)
    ours = Gdpo({"first": 1.0, "second": 0.5}).reward(scores)

    def standard(value: Tensor) -> Tensor:
        return (value - value.mean(1, keepdim=True)) / value.std(1, correction=0, keepdim=True)

    torch.testing.assert_close(ours, (standard(first) + 0.5 * standard(second)).float(), rtol=0, atol=1e-5)


def test_the_logged_potential_is_the_diversity_before_gate_centring_and_weight(generator: torch.Generator) -> None:
    """Oracle: one minus the mean cosine to the other scored images, written down.

    Catches in incentive/method.py: the potential of images that pass the gate; a zero for an unscored image.
    """
    scores = scores_of(generator)
    scores.reward_PG[0, 2] = torch.nan
    shaping = DiversityShaping(7.0, gamma=0.5, gate="quantile", gate_quantile=0.5, normalise="centred")
    method = Method(shaping=shaping)
    potential, bonus = method.potential(scores), method.bonus(scores, trajectory_of((0,), 3))
    assert potential is not None
    assert bonus is not None
    for group, embedding in enumerate(scores.embedding_PGD):
        scored = [image for image in range(6) if scores.reward_PG[group, image].isfinite()]
        for image in range(6):
            others = [float(embedding[image] @ embedding[other]) for other in scored if other != image]
            expected = 1 - sum(others) / len(others) if image in scored else torch.nan
            assert float(potential[group, image]) == pytest.approx(expected, rel=1e-5, nan_ok=True)
    assert float(bonus.mean()) == pytest.approx(0, abs=1e-6), "which says nothing of the group"
    assert Method().potential(scores) is None
