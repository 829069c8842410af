"""A checkpoint whose inside is spoilt is one line in every command that reads one; it is read once.

Catches in training/checkpoint_faults.py: a part that is not looked at.
Catches in builders/checkpoint_weights.py: weights that are read again, and may be of another iteration than the digest.
"""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from drift_pl import evaluate, export, generate
from drift_pl.builders import checkpoint_weights
from drift_pl.core.errors import UserError
from drift_pl.evaluation.bench import Bench
from drift_pl.evaluation.record import Evaluation
from drift_pl.evaluation.record_file import read_evaluation
from drift_pl.training.callbacks import DiversityAlarm
from drift_pl.training.checkpointing import read_checkpoint

Content = dict[str, Any]


def rename_first(content: Content) -> None:
    state = content["state_dict"]
    name = next(name for name in state if name.startswith("network."))
    state[f"{name}.renamed"] = state.pop(name)


def spoil_weights(value: float, part: str) -> Callable[[Content], None]:
    def spoil(content: Content) -> None:
        next(tensor for tensor in content[part].values() if getattr(tensor, "ndim", 0) > 1)[0, 0] = value

    return spoil


def put(*path: Any, value: Any) -> Callable[[Content], None]:
    def spoil(content: Content) -> None:
        node: Any = content
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value

    return spoil


def moment(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Content], None]:
    def spoil(content: Content) -> None:
        state = next(iter(content["optimizer_states"][0]["state"].values()))
        state[name] = change(state[name])

    return spoil


def cut(part: str) -> Callable[[Content], None]:
    def spoil(content: Content) -> None:
        name = next(name for name in content[part] if "lora_A" in name)
        content[part][name] = content[part][name][:1].clone()

    return spoil


def spoil_files(name: str, value: Any) -> Callable[[Content], None]:
    def spoil(content: Content) -> None:
        next(state for key, state in content["callbacks"].items() if key.startswith("ModelCheckpoint"))[name] = value

    return spoil


SPOILT: dict[str, tuple[Callable[[Content], Any], str]] = {
    "no state_dict": (lambda content: content.pop("state_dict"), "state_dict is missing"),
    "empty state_dict": (put("state_dict", value={}), "state_dict is empty"),
    "state_dict without weights": (
        lambda content: content.update(state_dict={"base_group_std": torch.tensor(1.0)}),
        "state_dict is empty",
    ),
    "text as weights": (put("state_dict", "network.x", value="text"), "network.x in its state_dict is not a floating"),
    "integers as weights": (put("state_dict", "network.x", value=torch.tensor([1])), "is not a floating-point"),
    "NaN weights": (spoil_weights(float("nan"), "state_dict"), "in its state_dict is not finite"),
    "infinite average": (spoil_weights(float("inf"), "average"), "in its average is not finite"),
    "empty average": (put("average", value={"num_updates": 3}), "average is empty"),
    "average without its count": (lambda content: content["average"].pop("num_updates"), "how often it was updated"),
    "average forgotten": (lambda content: content.pop("average"), "average is missing"),
    "no optimizer": (put("optimizer_states", value=[]), "are not those of one optimizer"),
    "empty optimizer": (put("optimizer_states", 0, "state", value={}), "have 0 entries in place of 30"),
    "optimizer as text": (put("optimizer_states", value=["x"]), "is damaged"),
    "no eps": (
        lambda content: content["optimizer_states"][0]["param_groups"][0].pop("eps"),
        "the eps in its optimizer",
    ),
    "betas of another optimizer": (
        put("optimizer_states", 0, "param_groups", 0, "betas", value=(0.9,)),
        "the betas in its optimizer_states is (0.9,)",
    ),
    "a learning rate as text": (put("optimizer_states", 0, "param_groups", 0, "lr", value="1"), "the lr in its optimi"),
    "a negative rate": (put("optimizer_states", 0, "param_groups", 0, "lr", value=-1.0), "the lr in its optimizer_sta"),
    "a huge rate": (put("optimizer_states", 0, "param_groups", 0, "lr", value=1e30), "the lr in its optimizer_states"),
    "betas beyond 1": (
        put("optimizer_states", 0, "param_groups", 0, "betas", value=(5, 9)),
        "the betas in its optimizer_states is (5, 9)",
    ),
    "negative squares": (moment("exp_avg_sq", lambda value: -value - 1), "the exp_avg_sq of a parameter in its"),
    "a negative count of steps": (moment("step", lambda value: value - 99), "the step of a parameter in its"),
    "a negative epoch": (put("epoch", value=-5), "epoch is -5"),
    "more iterations than there are": (put("PromptDataModule", "iteration", value=10**30), "iteration is 1000"),
    "another count than the loops'": (
        put("PromptDataModule", "iteration", value=1),
        "its loops say 4 iterations, and its iteration is 1",
    ),
    "NaN moments": (moment("exp_avg", lambda value: value * float("nan")), "optimizer_states are not finite"),
    "iteration as text": (put("PromptDataModule", "iteration", value="4"), "iteration is '4'"),
    "no iteration": (put("PromptDataModule", value={}), "iteration is None"),
    "negative iteration": (put("PromptDataModule", "iteration", value=-1), "iteration is -1"),
    "identity as a number": (put("run_identity", value=3), "run_identity is int"),
    "settings as text": (put("run_settings", value="x"), "run_settings are no dictionary"),
    "no loops": (lambda content: content.pop("loops"), "loops is missing"),
    "no count of iterations": (
        put("loops", "fit_loop", "epoch_loop.batch_progress", "total", "ready", value=None),
        "loops do not say how far the run was",
    ),
    "steps as a tensor": (put("global_step", value=torch.zeros(2)), "global_step is Tensor"),
    "a path as a number": (spoil_files("last_model_path", 3), "ModelCheckpoint has a path that is no text"),
    "a score as text": (spoil_files("best_k_models", {"a": "x"}), "ModelCheckpoint has a score that is no number"),
    "numbers as names": (lambda content: content["state_dict"].update({3: torch.ones(1)}), "a name in its state_dict"),
    "seconds as a tensor": (
        put("callbacks", "HeldOutEvaluation", "seconds", value=torch.zeros(2)),
        "the seconds of its",
    ),
    "NaN seconds": (put("callbacks", "HeldOutEvaluation", "seconds", value=float("nan")), "the seconds of its"),
    "no count of images": (
        lambda content: content["callbacks"]["HeldOutEvaluation"].pop("images"),
        "the images of its HeldOutEvaluation is missing",
    ),
    "counts as text": (put("callbacks", "HeldOutEvaluation", value="x"), "the seconds of its HeldOutEvaluation"),
    "words of the alarm": (put("callbacks", "DiversityAlarm", "recent", value=["x"]), "the recent of its Diversity"),
    "settings by number": (put("run_settings", 3, value=1), "run_settings are no dictionary of names"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_spoilt_is_named(remade: Callable[..., Path], tmp_path: Path, name: str) -> None:
    spoil, says = SPOILT[name]
    path = remade(tmp_path / "run", spoil) / "checkpoints" / "iteration-000004.ckpt"
    with pytest.raises(UserError, match=r"^ckpt_path=.* is damaged: ") as caught:
        read_checkpoint(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_is_noticed(tiny_run: Path, tmp_path: Path) -> None:
    """Catches in training/checkpointing.py: torch reads what a disk has spoilt, and a finite number is no fault."""
    path = Path(shutil.copy(tiny_run / "checkpoints" / "iteration-000004.ckpt", tmp_path))
    assert read_checkpoint(path)
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    data = bytearray(path.read_bytes())
    data[largest.header_offset + 1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"is not a checkpoint, or it is damaged; give e\.g\. RUN"):
        read_checkpoint(path)


def test_another_checkpoint_is_named_if_there_is_one(remade: Callable[..., Path], tmp_path: Path) -> None:
    run = remade(tmp_path / "run", put("state_dict", value={}))
    path = run / "checkpoints" / "iteration-000004.ckpt"
    with pytest.raises(UserError, match="there is no other beside it$"):
        read_checkpoint(path)
    shutil.copy(path, path.with_name("last.ckpt"))
    with pytest.raises(UserError, match=r"give another one, e\.g\. ckpt_path=.*last\.ckpt$"):
        read_checkpoint(path)


@pytest.mark.parametrize("name", ["empty state_dict", "NaN weights", "empty optimizer", "infinite average"])
def test_every_command_refuses_it(
    remade: Callable[..., Path],
    make_run: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    name: str,
) -> None:
    """One line, status 2, nothing written."""
    run = remade(tmp_path / "run", SPOILT[name][0], "last.ckpt")
    before = sorted(tmp_path.rglob("*"))
    path, out = f"ckpt_path={run}", f"out={tmp_path / 'out'}"
    assert evaluate.main([path, f"out={tmp_path / 'mine.json'}"]) == 2
    assert generate.main([path, "prompt=a red dot", "n=2", out]) == 2
    assert export.main([path, out]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 3
    assert all(SPOILT[name][1] in line and line.startswith("error: ckpt_path=") for line in lines)
    with pytest.raises(UserError, match=SPOILT[name][1]):
        make_run(run, "trainer.iterations=6", "ckpt_path=last")
    assert sorted(tmp_path.rglob("*")) == before


OTHER_RUNS: dict[str, tuple[Callable[[Content], Any], str]] = {
    "a renamed weight": (rename_first, r"in its state_dict is not there, and .* x .* in this run"),
    "no spread of the base": (lambda content: content["state_dict"].pop("base_group_std"), "base_group_std in its"),
    "one weight too many": (put("state_dict", "network.more", value=torch.ones(2)), "not there in this run"),
    "a weight of another shape": (cut("state_dict"), "in its state_dict is .*, and .* in this run"),
    "no average": (put("average", value=None), "in its average is not there, and .* in this run"),
    "an average of another shape": (cut("average"), "in its average is .*, and .* in this run"),
    "moments of another shape": (moment("exp_avg", lambda value: value[:1]), "not those of the trained parameters"),
    "another number of parameters": (
        lambda content: content["optimizer_states"][0]["param_groups"][0]["params"].pop(),
        "not those of the trained parameters",
    ),
    "loops that Lightning cannot read": (put("loops", "fit_loop", value=5), "its loops do not say how far the run was"),
    "a callback's state that it cannot read": (
        put("callbacks", "DiversityAlarm", value={"start": 5}),
        "the start of its DiversityAlarm is 5",
    ),
    "no version": (put("pytorch-lightning_version", value="x"), "it cannot be restored"),
}


@pytest.mark.parametrize("name", OTHER_RUNS)
def test_a_resume_takes_nothing_in_silence(
    remade: Callable[..., Path], make_run: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    """What the checkpoint lacks would go on with fresh values.

    Catches in fit.py: config.yaml is that of a resume that could not be.
    """
    spoil, says = OTHER_RUNS[name]
    run = remade(tmp_path / "run", spoil, "last.ckpt")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.suffix in (".ckpt", ".yaml", ".json")}
    with pytest.raises(UserError, match=f"last.ckpt is damaged: .*{says}"):
        make_run(run, "trainer.iterations=6", "ckpt_path=last")
    assert {path: path.read_bytes() for path in before} == before


def test_a_callback_that_cannot_be_restored_costs_no_checkpoint(
    remade: Callable[..., Path], make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights and counts are in their places then, and the optimizer is not.

    Catches in training/checkpointing.py: fresh weights saved over last.ckpt while it is being restored.
    """

    def fails(*args: object) -> None:
        raise ZeroDivisionError("no such room")

    run = remade(tmp_path / "run", lambda content: None, "last.ckpt")
    before = (run / "checkpoints" / "last.ckpt").read_bytes()
    monkeypatch.setattr(DiversityAlarm, "on_load_checkpoint", fails)
    with pytest.raises(UserError, match="cannot take up its state: ZeroDivisionError: no such room"):
        make_run(run, "trainer.iterations=6", "ckpt_path=last")
    assert (run / "checkpoints" / "last.ckpt").read_bytes() == before


def test_a_run_without_any_gradient_may_be_resumed(
    remade: Callable[..., Path], make_run: Callable[..., Path], tmp_path: Path
) -> None:
    """As long as all rewards are alike the optimizer has no state, and says so."""

    def without_state(content: Content) -> None:
        content["optimizer_states"][0]["state"], content["optimizer_entries"] = {}, 0

    make_run(remade(tmp_path / "run", without_state, "last.ckpt"), "trainer.iterations=5", "ckpt_path=last")


@pytest.fixture
def other_weights(tiny_run: Path) -> Callable[[Path], None]:
    """Replaces a checkpoint by an earlier one of its run, as a run that goes on does by a later one."""

    def replace(path: Path) -> None:
        shutil.copy(tiny_run / "checkpoints" / "iteration-000002.ckpt", path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    return replace


@pytest.mark.parametrize("gone", [False, True])
def test_evaluate_gives_a_checkpoint_its_own_values(
    remade: Callable[..., Path],
    evaluation: Evaluation,
    other_weights: Callable[[Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gone: bool,
) -> None:
    """last.ckpt is replaced, or the folder removed, while the base model is measured."""
    path = remade(tmp_path / "run", lambda content: None, "last.ckpt") / "checkpoints" / "last.ckpt"
    original = Bench.base

    def base(*args: Any) -> Any:
        path.unlink() if gone else other_weights(path)
        return original(*args)

    monkeypatch.setattr(Bench, "base", base)
    assert evaluate.main([f"ckpt_path={path}", f"out={tmp_path / 'mine.json'}"]) == 0
    expected = evaluation.tuned
    point = read_evaluation(tmp_path / "mine.json").points[-1]
    assert (point.iteration, point.digest, point.per_prompt) == (4, expected.digest, expected.per_prompt)


def test_evaluate_notices_another_files_change(
    remade: Callable[..., Path],
    other_weights: Callable[[Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """Numbered checkpoints are read again when their turn comes: their digest must be the same."""
    path = remade(tmp_path / "run", lambda content: None) / "checkpoints" / "iteration-000004.ckpt"
    original = Bench.base

    def base(*args: Any) -> Any:
        other_weights(path)
        return original(*args)

    monkeypatch.setattr(Bench, "base", base)
    assert evaluate.main([f"ckpt_path={path}", f"out={tmp_path / 'mine.json'}"]) == 2
    assert "holds other weights than when this command began" in capsys.readouterr().err.splitlines()[-1]
    assert [point.name for point in read_evaluation(tmp_path / "mine.json").points] == ["base"]


def test_one_checkpoint_is_read_once(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """By generate and export, whose digest and pictures then are of the same weights."""
    paths: list[Path] = []

    def counted(path: Path) -> Content:
        paths.append(path)
        return read_checkpoint(path)

    monkeypatch.setattr(checkpoint_weights, "read_checkpoint", counted)
    assert generate.main([f"ckpt_path={tiny_run}", "prompt=a red dot", "n=1", f"out={tmp_path / 'pictures'}"]) == 0
    assert export.main([f"ckpt_path={tiny_run}", f"out={tmp_path / 'lora'}"]) == 0
    assert paths == [tiny_run / "checkpoints" / "last.ckpt"] * 2
