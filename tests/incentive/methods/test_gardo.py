"""GARDO against scipy's distances and ranks, and by hand."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata
from torch import Tensor

from drift_pl.core.errors import UserError
from drift_pl.core.types import Scores, Tasks
from drift_pl.incentive.methods import gardo
from drift_pl.incentive.methods.gardo import Gardo


def nearest(embedding: Tensor) -> np.ndarray:
    """Oracle: scipy's cosine distances, group by group, the diagonal left out."""
    tables = [squareform(pdist(group.double().numpy(), metric="cosine")) for group in embedding]
    return np.stack([np.where(np.eye(len(table)) > 0, np.inf, table).min(1) for table in tables])


def unit(*shape: int, generator: torch.Generator) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)


def gated(method: Gardo, reward: Tensor, **by_reward: Tensor) -> list[int]:
    """The images, numbered through the batch, that keep the divergence."""
    factor = method.divergence(Scores(reward, by_reward, None), (2, 3), 8)
    assert torch.equal(factor[0], factor[1])
    assert set(factor.unique().tolist()) <= {0.0, 1.0}
    return factor[0].flatten().nonzero().flatten().tolist()


def test_positive_advantages_are_multiplied_by_the_distance_to_the_nearest(generator: torch.Generator) -> None:
    """Catches in incentive/methods/gardo.py: mean for nearest; negative advantages multiplied."""
    embedding, advantage = unit(3, 7, 5, generator=generator), torch.randn(3, 7, generator=generator)
    ours = Gardo().advantage(advantage, Scores(torch.rand(3, 7), {}, embedding))
    expected = np.where(advantage > 0, advantage.numpy() * nearest(embedding), advantage)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)  # returned in float32


def test_normalised_distances_have_mean_one_in_every_group(generator: torch.Generator) -> None:
    embedding = unit(3, 7, 5, generator=generator)
    ours = Gardo(normalise=True).advantage(torch.ones(3, 7), Scores(torch.rand(3, 7), {}, embedding))
    expected = nearest(embedding) / nearest(embedding).mean(1, keepdims=True)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_a_group_of_copies_gives_no_nan() -> None:
    """The authors' code divides 0 by 0 here. Raw: no praise for copies; normalised: none is more distinct.

    Catches in incentive/methods/gardo.py: 0 / 0 for a group of copies.
    Catches: GARDO's 0 / 0 for identical images.
    """
    scores = Scores(torch.rand(1, 3), {}, torch.tensor([[[0.6, 0.8]] * 3]))
    advantage = torch.tensor([[1.0, -2.0, 0.5]])
    torch.testing.assert_close(Gardo().advantage(advantage, scores), torch.tensor([[0.0, -2.0, 0.0]]))
    assert torch.equal(Gardo(normalise=True).advantage(advantage, scores), advantage)


@pytest.mark.parametrize("normalise", [False, True])
def test_images_that_are_not_valid_are_nobodys_neighbours(normalise: bool, generator: torch.Generator) -> None:
    """Oracle: scipy on the valid images alone; the others are neither praised nor punished: the mean of those."""
    embedding, reward = unit(1, 6, 4, generator=generator), torch.rand(1, 6, generator=generator)
    embedding[0, 2], reward[0, 4] = torch.nan, torch.nan
    ours = Gardo(normalise=normalise).advantage(torch.full((1, 6), 2.0), Scores(reward, {}, embedding))
    kept = [0, 1, 3, 5]
    expected = nearest(embedding[:, kept])
    expected = 2 * expected / (expected.mean() if normalise else 1)
    np.testing.assert_allclose(ours[:, kept], expected, rtol=1e-5)
    np.testing.assert_allclose(ours[0, [2, 4]], [expected.mean()] * 2, rtol=1e-5)


def test_uncertainty_is_the_win_rate_less_the_mean_of_the_auxiliary_ones(generator: torch.Generator) -> None:
    """Oracle: scipy's average ranks over the whole batch: (rank - 1) / (n - 1), ties half.

    Catches in incentive/methods/gardo.py: sign of the uncertainty (descending ranks); ties; sum for mean; per group.
    """
    main, first, second = (torch.randint(6, (3, 8), generator=generator).float() for _ in range(3))

    def rate(score: Tensor) -> np.ndarray:
        return (rankdata(score.flatten()) - 1).reshape(3, 8) / 23

    method, scores = Gardo(auxiliary=["first", "second"]), Scores(main, {"first": first, "second": second}, None)
    expected = rate(main) - (rate(first) + rate(second)) / 2
    np.testing.assert_allclose(method.uncertainty(scores), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(Gardo().uncertainty(scores), rate(main), rtol=0, atol=1e-6)


def test_the_divergence_holds_what_the_judge_likes_and_the_others_do_not() -> None:
    """Batch of two groups: image 5 is the judge's favourite and the auxiliary's last. Only signs can swap it with 2."""
    main = torch.tensor([[1.0, 2.0, 0.0], [4.0, 3.0, 5.0]])
    auxiliary = torch.tensor([[1.0, 2.0, 5.0], [4.0, 3.0, 0.0]])
    assert gated(Gardo(auxiliary=("other",), gated_share=1 / 6), main, other=auxiliary) == [5]
    # without auxiliary judges: the best of the batch, not of each group
    assert gated(Gardo(gated_share=1 / 3), main) == [3, 5]


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.001, 1), (0.1, 2), (0.33, 7), (0.5, 10), (1.0, 20)])
def test_the_share_is_rounded_to_images_and_never_to_none(share: float, count: int) -> None:
    """Of 20 images; scores fall from image 0."""
    main = -torch.arange(20.0).view(4, 5)
    assert gated(Gardo(gated_share=share), main) == list(range(count))


def test_images_without_a_score_are_not_gated_and_do_not_count() -> None:
    """Ten images of which five have a reward: a fifth of them is one. An auxiliary judge's NaN says nothing."""
    main = torch.tensor([[torch.nan] * 5, [1.0, 2.0, 3.0, 4.0, 5.0]])
    assert gated(Gardo(gated_share=0.2), main) == [9]
    assert Gardo().uncertainty(Scores(main, {}, None))[1].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert gated(Gardo(gated_share=1.0), main) == [5, 6, 7, 8, 9]
    assert gated(Gardo(), torch.full((2, 5), torch.nan)) == []
    other = torch.tensor([[torch.nan] * 5, [1.0, 2.0, 3.0, torch.nan, 5.0]])  # agrees but for image 8: U = 3/4 there
    assert gated(Gardo(auxiliary=["other"], gated_share=0.2), main, other=other) == [8]


@pytest.mark.parametrize("auxiliary", [(), ("other",)])
@pytest.mark.parametrize("tasks", [None, [0, 1, 1, 0]])
def test_processes_gate_the_images_that_one_would(
    auxiliary: tuple[str, ...], tasks: list[int] | None, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four groups on two processes, the even and the odd ones, and an oracle that has all four. Ties are plenty.

    Catches in incentive/methods/gardo.py: each process ranks its own images; ties by the order of processes.
    """
    reward, other = torch.randn(4, 6, generator=generator), torch.randint(3, (4, 6), generator=generator).float()
    reward[2] += 3  # of which most are gated
    reward[1, 1] = torch.nan

    def scores_of(places: list[int]) -> Scores:
        told = None if tasks is None else Tasks(torch.tensor(tasks)[places], torch.ones(2, 2, dtype=torch.bool))
        return Scores(reward[places], {"main": reward[places], "other": other[places]}, None, tasks=told)

    method, parts = Gardo(auxiliary, gated_share=0.3), ([0, 2], [1, 3])
    expected = method.divergence(scores_of([0, 1, 2, 3]), (0, 1), 8)
    assert 0 < expected[0, [0, 2]].sum() != expected[0, [1, 3]].sum()
    monkeypatch.setattr(gardo, "world_size", lambda: 2)
    for rank, places in enumerate(parts):
        everyone = [scores_of(part) for part in parts]
        sent = [torch.stack([each.reward_PG, *(each.by_reward[name] for name in auxiliary)]) for each in everyone]
        received = iter([torch.stack(sent), *([torch.tensor(tasks)[torch.tensor(parts)]] if tasks else [])])
        monkeypatch.setattr(gardo, "gather", lambda own, received=received: next(received))
        monkeypatch.setattr(gardo, "rank_and_world", lambda rank=rank: (rank, 2))
        assert torch.equal(method.divergence(scores_of(places), (0, 1), 8), expected[:, places])


def test_an_unknown_auxiliary_judge_is_named_with_those_that_there_are() -> None:
    message = r"incentive.args.auxiliary=\['beauty'\]: there is no reward 'beauty'; there are taste, realism"
    with pytest.raises(UserError, match=message):
        gated(Gardo(auxiliary=["beauty"]), torch.rand(1, 4), taste=torch.rand(1, 4), realism=torch.rand(1, 4))
