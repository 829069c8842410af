"""Every command of the README and the docs is one that works.

The quick part gives every command its settings as it stands: `fit` by `--print-config`, in a folder with the files that
the pages let the reader write, and a stand-in for each run that they name. The slow part runs, page by page and in the
page's order, all that needs neither network nor accelerator nor several processes, shortened by overrides.
"""

import importlib
import inspect
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from doc_commands import ALL, PAGES, ROOT, Command, written_files

from drift_pl import fit as fit_module
from drift_pl.config.loading import config_yaml, parse
from drift_pl.config.options import Options
from drift_pl.config.sweeping import SweptRun, read_sweep

SHORT = (
    *("prompts.per_iteration=2", "prompts.group_size=4", "objective.updates=1", "objective.micro_batch=8"),
    *("evaluation.max_prompts=1", "evaluation.seeds_per_prompt=8", "evaluation.seeds_while_training=2"),
    *("sampler.eval_steps=8", "trainer.save_every=1", "trainer.accelerator=cpu", "trainer.logger=[]"),
    *("trainer.threads=1", "evaluation.every=0"),
)
NOT_RUN = {"scoring"}
"""Modules that are not commands: a server that never ends."""


def options_of(command: Command) -> type[Options]:
    module = importlib.import_module(f"drift_pl.{command.name}")
    classes = [thing for _, thing in inspect.getmembers(module, inspect.isclass) if issubclass(thing, Options)]
    return next(thing for thing in classes if thing is not Options)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the pages' commands name."""
    folder = tmp_path_factory.mktemp("workshop")
    _furnish(folder)
    settings = config_yaml(parse([]).config)
    for run in sorted({run for command in ALL for run in command.runs}):
        (folder / run / "checkpoints").mkdir(parents=True)
        (folder / run / "config.yaml").write_text(settings)
        (folder / run / "checkpoints" / "last.ckpt").touch()
    return folder


def _furnish(folder: Path) -> None:
    for page in PAGES:
        for name, content in written_files(page).items():
            (folder / name).write_text(content)
    functions = [files["my_rewards.py"] for page in PAGES if "my_rewards.py" in (files := written_files(page))]
    (folder / "my_rewards.py").write_text("\n".join(functions))
    for name in ("my_train.txt", "my_tuning.txt", "my_test.txt"):
        (folder / name).write_text("a red circle\na blue cross\n")
    (folder / "models").mkdir()
    (folder / "models" / "sd35").symlink_to(ROOT / "drift_pl" / "builtin" / "weights" / "pipeline")
    for name in ("docs", "benchmarks", "docker"):
        (folder / name).symlink_to(ROOT / name)


@pytest.fixture
def there(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(workshop)
    monkeypatch.syspath_prepend(str(workshop))
    for name in {path.stem for path in workshop.glob("*.py")} & set(sys.modules):
        monkeypatch.delitem(sys.modules, name)  # another test's module of the same name
    return workshop


def print_config(arguments: Sequence[str]) -> int:
    return fit_module.main([*arguments, *["--print-config"] * ("--print-config" not in arguments)])


def test_there_are_commands_of_each_kind() -> None:
    assert {"fit", "evaluate", "generate", "export", "pareto", "report"} <= {command.name for command in ALL}
    assert len(ALL) > 60


@pytest.mark.parametrize("command", [each for each in ALL if each.name not in NOT_RUN], ids=str)
def test_a_command_is_understood(command: Command, there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches in config/schema_method.py: a key that the docs use is renamed.

    Catches in docs/recipes.md: a rule, an experiment or a key that does not exist.
    """
    if any(word.startswith("--help") for word in command.arguments):
        status = importlib.import_module(f"drift_pl.{command.name}").main([*command.arguments])
    elif command.name == "fit":
        status = print_config(command.arguments)
    elif command.name == "plan":  # settings of fit, besides its own keys
        own = importlib.import_module("drift_pl.plan").PlanOptions.model_fields
        status = print_config([word for word in command.arguments if word.partition("=")[0] not in own])
    elif command.name == "sweep":
        status = max(print_config(run.arguments) for run in planned(command))
    else:
        options_of(command).parse(command.arguments)
        status = 0
    assert status == 0, capsys.readouterr().err


def planned(command: Command) -> tuple[SweptRun, ...]:
    return read_sweep(command.arguments)[1].runs


def shortened(command: Command, extended_to: int) -> list[str]:
    """The arguments of `fit`, with sizes that take seconds; a run that is resumed goes on to `extended_to`."""
    words = [word for word in command.arguments if not word.startswith(("trainer.iterations", "trainer.devices"))]
    if any(word.startswith("ckpt_path=runs/") for word in words):
        return [*words, f"trainer.iterations={extended_to}"]
    return [*words, *SHORT, "trainer.iterations=1"]


def is_run_here(command: Command) -> bool:
    """Neither network, nor accelerator, nor several processes, nor code from elsewhere."""
    if command.name != "fit":  # sweeps have tests of their own, and the study's runs are not kept
        return command.name not in ("sweep", "plan") and "runs/fronts/" not in " ".join(command.arguments)
    config = parse([word for word in command.arguments if word != "--print-config"]).config
    alone = config.trainer.devices * config.trainer.num_nodes == 1 and config.trainer.strategy == "auto"
    local = config.policy.pretrained.startswith("pkg:") and "http" not in " ".join(command.arguments)
    return alone and local and "--print-config" not in command.arguments


@pytest.fixture(scope="module")
def short_runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a run of one iteration; the baseline's for a folder of that name."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        experiment = "shapes_flowgrpo" if "baseline" in name else "shapes_div"
        if experiment not in made:
            made[experiment] = tmp_path_factory.mktemp("short") / experiment
            words = [f"experiment={experiment}", f"run_dir={made[experiment]}"]
            assert fit_module.main([*words, *SHORT, "trainer.iterations=1"]) == 0
        return made[experiment]

    return make


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted({command.page for command in ALL}))
def test_the_commands_of_a_page_run(
    page: str,
    short_runs: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Catches in docs/start.md: `report` of a run that no command of the page makes under that name."""
    _furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    ours = [command for command in ALL if command.page == page and command.name not in NOT_RUN]
    run_here = [command for command in ours if is_run_here(command)]
    made = {word.removeprefix("run_dir=") for command in run_here for word in command.arguments if "run_dir=" in word}
    for run in sorted({run for command in run_here for run in command.runs} - made):
        shutil.copytree(short_runs(run), tmp_path / run)
    for number, command in enumerate(run_here, start=2):
        words = shortened(command, number) if command.name == "fit" else [*command.arguments]
        status = importlib.import_module(f"drift_pl.{command.name}").main(words)
        assert status == 0, f"{command}: {capsys.readouterr().err}"
