"""benchmarks/iteration.py: the plain loop is an independent transcription of an iteration; contenders take turns.

The runs here are small; their figures are not looked at.
"""

import pytest
from iteration import against_plain_loop
from speed.plain_loop import Habits
from speed.timing import in_turn, options_of, ratio, rounded

SMALL = ("prompts.per_iteration=2", "prompts.group_size=4", "objective.micro_batch=4", "objective.learning_rate=0.01")


@pytest.mark.parametrize(
    ("overrides", "habits"),
    [
        ((), Habits(4)),
        (
            ("policy.guidance_scale=4.5", "sampler.window_size=null", "sampler.window_range=[]"),
            Habits(4, guidance_scale=4.5, window=0),
        ),
    ],
    ids=["window", "guided, all steps"],
)
def test_an_iteration_is_the_plain_loop_bit_for_bit(overrides: tuple[str, ...], habits: Habits) -> None:
    """Gradients of every optimizer step, and weights, against a script of diffusers, peft and formulas.

    Catches in functional/losses.py: a clip on one side only.
    Catches in training/updates/passes.py: gradients that are averaged over one pass fewer.
    """
    result = against_plain_loop(1, (*SMALL, *overrides), habits)
    assert result["optimizer_steps_compared"] == 4
    assert result["gradient_difference"] == 0
    assert result["weight_difference"] == 0
    assert result["training_step"]["median"] > 0


def test_contenders_take_turns_and_the_order_alternates() -> None:
    """Catches in benchmarks/speed/timing.py: a warm-up round that counts."""
    calls: list[str] = []

    def contender(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    seconds = in_turn({"a": lambda: contender("a"), "b": lambda: contender("b")}, repeats=2, warm_up=1)
    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert seconds == {"a": [4.0, 5.0], "b": [3.0, 6.0]}


def test_ratios_are_of_the_same_round() -> None:
    """By hand: 2/1, 3/6 and 8/2; the ratio of the medians would be 1.5."""
    assert ratio([2.0, 3.0, 8.0], [1.0, 6.0, 2.0]) == {"median": 2.0, "smallest": 0.5, "largest": 4.0, "repeats": 3}


def test_options_have_the_type_of_their_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert options_of(["pairs=3", "out=a.json"], pairs=15) == {"out": "a.json", "repeats": 5, "pairs": 3}
    with pytest.raises(SystemExit):
        options_of(["pair=3"], pairs=15)
    assert "'pair=3' is no option here" in capsys.readouterr().err


def test_results_keep_four_digits() -> None:
    assert rounded({"a": [1.23456, 2], "b": "x"}) == {"a": [1.235, 2], "b": "x"}
