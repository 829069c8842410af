"""What the file system refuses, through the commands: one line, status 2, nothing left, the last checkpoint whole."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from core.test_files import files_of_at_most
from runs import TinyWorld, load

from drift_pl import evaluate, export, fit, generate, pareto, report

COMMANDS: dict[str, Callable[[list[str]], int]] = {
    **{"fit": fit.main, "evaluate": evaluate.main, "generate": generate.main, "export": export.main},
    **{"pareto": pareto.main, "report": report.main},
}
LONG = "x" * 300


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return TinyWorld.create(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def run_dir(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    world.fit(folder, "trainer.iterations=2")
    return folder


@pytest.mark.parametrize(
    "line",
    [
        *(
            "fit run_dir=FILE",
            "fit run_dir=FILE/below",
            f"fit run_dir={LONG}",
            "fit run_dir=LOOP/a",
            "fit run_dir=/proc/x",
        ),
        *("fit run_dir=~nobody_here/a", "fit ckpt_path=~nobody_here/a", f"fit ckpt_path={LONG}", "fit run_dir=\ud800"),
        *(
            f"fit experiment={LONG}.yaml",
            f"fit experiment={LONG}",
            f"fit prompts.train={LONG}",
            "fit prompts.test=LOOP",
        ),
        *(f"fit policy.pretrained=./{LONG}", "fit prompts.train=~nobody_here/a", 'fit run_dir="a\\0b"'),
        *('fit rewards=[{name:\u00a0"\\ud800"}]', f"evaluate ckpt_path={LONG}", "evaluate ckpt_path=~nobody_here/a"),
        *("evaluate ckpt_path=RUN out=FILE/a.json", "evaluate ckpt_path=RUN out=/proc/a.json"),
        *(f"evaluate ckpt_path=RUN out={LONG}.json", f"evaluate ckpt_path=RUN base={LONG}"),
        *(f"evaluate ckpt_path=RUN prompts={LONG}", "evaluate ckpt_path=RUN out=~nobody_here/a.json"),
        *("generate ckpt_path=RUN prompt=a out=FILE", "generate ckpt_path=RUN prompt=a out=/proc/a"),
        *(f"generate ckpt_path=RUN prompt=a out={LONG}", "generate ckpt_path=RUN prompt=a out=FILE/a"),
        *("export ckpt_path=RUN out=FILE", "export ckpt_path=RUN out=/proc/a", f"export ckpt_path=RUN out={LONG}"),
        *(
            "pareto RUN out=FILE",
            "pareto RUN out=/proc/a",
            f"pareto {LONG}",
            "pareto ~nobody_here/a",
            "pareto RUN/\ud800",
        ),
        *("report RUN out=FILE", "report RUN out=/proc/a", f"report {LONG}", "report RUN outt=a", "report RUN --x"),
    ],
)
def test_one_line_and_nothing_written(
    line: str,
    world: TinyWorld,
    run_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The file system is asked before a model is loaded.

    Catches in config/command.py: no `except OSError`.
    Catches in export.py: an `out` that is tried when the model is loaded.
    Catches in generate.py: an `out` that is tried when the model is loaded.
    Catches in evaluate.py: an `out` that is tried when the model is loaded.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("")
    (tmp_path / "LOOP").symlink_to(tmp_path / "LOOP")
    before = sorted([*tmp_path.rglob("*"), *run_dir.rglob("*")])
    command, *argv = line.replace("RUN", str(run_dir)).split(" ")
    loaded: list[object] = []
    monkeypatch.setattr("drift_pl.policies.loading.load_pipeline", lambda *args, **options: loaded.append(args))
    given = [*world.overrides(), "trainer.iterations=1"] if command == "fit" else []
    assert COMMANDS[command]([*given, *argv]) == 2
    assert not loaded
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert len(lines[0]) < 700
    assert sorted([*tmp_path.rglob("*"), *run_dir.rglob("*")]) == before


def test_a_full_disk_keeps_the_last_checkpoint(
    world: TinyWorld, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Catches in training/checkpointing.py: torch.save to a path, whose error hides the disk's."""
    argv = [*world.overrides(), "objective.learning_rate=0.01", "objective.ema_decay=0.5", f"run_dir={tmp_path}/run"]
    assert fit.main([*argv, "trainer.iterations=2"]) == 0
    capsys.readouterr()
    before = (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes()
    again = [*argv, "trainer.iterations=4", "ckpt_path=last"]
    with files_of_at_most(len(before) // 2):
        assert fit.main(again) == 2
    error = [text for text in capsys.readouterr().err.strip().splitlines() if not text.startswith("warning:")]
    assert len(error) == 1
    assert error[0].startswith(f"error: {tmp_path}/run/checkpoints/")
    assert "File too large: make room and run it again" in error[0]
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes() == before
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".tmp"]
    assert fit.main(again) == 0
    assert load(tmp_path / "run")["PromptDataModule"]["iteration"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1"])
def test_text_is_utf8_whatever_the_locale(locale: str, tmp_path: Path) -> None:
    """An experiment, a path and what is printed, in letters that the locale does not have."""
    folder = tmp_path / "дом"
    folder.mkdir()
    (folder / "опыт.yaml").write_text("base: shapes_div\nseed: 7\npolicy: {negative_prompt: плохо}\n", encoding="utf-8")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONUTF8"))}
    environment = {**plain, "LC_ALL": locale, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "drift_pl.fit", "--print-config", f"experiment={folder}/опыт.yaml"]
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert "negative_prompt: плохо" in done.stdout.decode("utf-8")
    command = [sys.executable, "-m", "drift_pl.fit", "experiment=дома.yaml"]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.stderr.decode("utf-8").startswith("error: experiment=дома.yaml: no such experiment")
