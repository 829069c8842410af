"""What the example server makes of a scorer's numbers and errors, as `http_judge` sees it."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from drift_pl.core.errors import UserError
from drift_pl.scoring import example_server
from drift_pl.scoring.geneval_server import Examiner
from drift_pl.scoring.http import HttpJudge


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., HttpJudge]]:
    """Makes a judge that asks a server with a given scorer, and must not have to ask twice."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    servers = []

    def start(scores: Callable[..., Any]) -> HttpJudge:
        servers.append(example_server.serve("127.0.0.1", 0, scores=scores))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return HttpJudge(f"http://127.0.0.1:{servers[-1].server_address[1]}/score", attempts=1, deadline_s=20.0)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    "scores",
    [
        [np.float32(0.5), None],
        np.array([0.5, np.nan], dtype=np.float32),
        torch.tensor([0.5, torch.nan], dtype=torch.bfloat16),
        [torch.tensor([0.5]), None],
        (each for each in (0.5, None)),
    ],
    ids=["numpy", "array", "tensor", "tensors", "generator"],
)
def test_scores_may_be_any_numbers(judge: Callable[..., HttpJudge], scores: Any) -> None:
    """Catches in scoring/example_server.py: scores that JSON does not know drop the connection."""
    found = judge(lambda *asked: scores)(torch.zeros(2, 3, 2, 2), ["a", "b"])
    assert found.nan_to_num(-1).tolist() == [0.5, -1]


class Odd(Exception):
    """An error of somebody's own."""


@pytest.mark.parametrize(
    ("error", "said", "traced"),
    [
        (RuntimeError("CUDA error: device-side assert\n  Compile with TORCH_USE_CUDA_DSA"), "assert", True),
        (Odd(), '"Odd"', True),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero", True),
        (ValueError("no count\n"), "ValueError: no count", False),
    ],
)
def test_an_error_of_the_scorer_reaches_the_run(
    judge: Callable[..., HttpJudge],
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    said: str,
    traced: bool,
) -> None:
    """Catches in scoring/example_server.py: an error that drops the connection, for which the run blames a missing
    server; one that the run sends again, without its message; one whose place nobody learns; several lines."""

    def scores(*asked: Any) -> list[float]:
        raise error

    with pytest.raises(UserError) as caught:
        judge(scores)(torch.zeros(2, 3, 2, 2), ["a", "b"])
    assert "answered with status 400" in str(caught.value)
    assert said in str(caught.value)
    assert "Compile with" not in str(caught.value)
    assert ("Traceback" in capsys.readouterr().err) is traced


@pytest.mark.parametrize("scores", [["high", 1.0], [np.zeros(2), 1.0], None, [10**400, 1]])
def test_what_is_no_number_is_said(judge: Callable[..., HttpJudge], scores: Any) -> None:
    with pytest.raises(UserError, match='answered with status 400 and \'{"error": "(Value|Type|Overflow)Error: '):
        judge(lambda *asked: scores)(torch.zeros(2, 3, 2, 2), ["a", "b"])


def test_the_geneval_server_answers_for_a_detector_that_fails(judge: Callable[..., HttpJudge], tmp_path: Any) -> None:
    """Catches in scoring/example_server.py: an error that only servers with models have drops the connection."""

    def detect(images: list[Image.Image], threshold: float) -> list[Any]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    asking = judge(Examiner(detect, detect))
    asking.metadata = {"a dog": {"include": [{"class": "dog", "count": 1}]}}
    with pytest.raises(UserError, match='status 400 and .*"error": "OutOfMemoryError: CUDA out of memory"'):
        asking(torch.zeros(1, 3, 2, 2), ["a dog"])
