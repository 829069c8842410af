"""Things of a user's own that are wrong: one line that names them, status 2, and no training on something else."""

from pathlib import Path

import pytest
from runs import TinyWorld

from drift_pl.fit import main


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return TinyWorld.create(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            ["incentive.method=faulty:Breaks", "incentive.shaping.weight=0"],
            "code that the settings name failed: RuntimeError: out of paint (",
        ),
        (["objective.loss=faulty:NoUpdate"], "objective.loss='faulty:NoUpdate' has no 'keep': it must follow"),
        (
            ["objective.loss=faulty:WrongLoss"],
            "objective.loss: the loss returned (), not a loss with a gradient for",
        ),
        (["sampler.kind=faulty:NoProcess"], "sampler.kind='faulty:NoProcess' has no `process`: give it process"),
        (["sampler.kind=faulty:NoMean"], "sampler.kind: NoMean.step returned NoneType: return a mean and a standard"),
        (["sampler.kind=faulty:OneMean"], "sampler.kind: OneMean.step: the mean returned ("),
        (
            ["trainer.callbacks=[{name: 'faulty:Deaf'}]"],
            "trainer.callbacks.0.name: Deaf.observe_iteration must take (self, report, scores, images_B3HW, batch)",
        ),
        (["policy.family=faulty:Monolingual"], "policy.family: Monolingual.encode must take (self, prompts, negative)"),
        (["objective.loss=faulty:Impatient"], "objective.loss: Impatient.run must take (self, context): too many"),
        (
            ["incentive.method=faulty:Simple", "incentive.shaping.weight=0"],
            "incentive.method: Simple.reward must take (self, scores)",
        ),
        (["sampler.kind=faulty:NoPair"], "sampler.kind: NoPair.step returned Tensor: return a mean and a standard"),
        (["objective.loss=faulty:Forgetful"], "objective.loss: Forgetful.loss returned NoneType: return a Loss"),
        (["policy.family=faulty:Closed"], "policy.family=faulty:Closed: its constructor must take a pipeline and"),
        (["policy.family=faulty:Gridless"], "policy.family: Gridless.sigmas returned NoneType: return a torch tensor"),
        (["policy.family=faulty:Resting"], "policy.family: Resting.sigmas(4) goes from 0 to 0 in step 3: return"),
        (["policy.family=faulty:OneChannel"], "policy.family=one_channel: the prediction returned ("),
    ],
)
def test_one_line_names_what_is_wrong(
    world: TinyWorld,
    tmp_path: Path,
    settings: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Catches in builders/method.py: an update without the protocol's parts is an attribute error in training.

    Catches in builders/stochastic_steps.py: so is a sampler.
    Catches in training/updates/passes.py: a loss of another shape is broadcast.
    Catches in policies/pipeline.py: so is a prediction, and the run trains on it.
    Catches in builders/early.py: a method that takes other parameters is a traceback in training.
    """
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    argv = [*world.overrides(), *settings, "evaluation.seeds_per_prompt=2", f"run_dir={tmp_path / 'run'}"]
    assert main([*argv, "policy.resolution=16", "trainer.iterations=1", "trainer.progress=none"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith(("warning: ", " "))]
    assert lines[-1].startswith(f"error: {words}"), lines
    assert "Traceback" not in "".join(lines)
