"""What loggers get besides metrics, read as TensorBoard reads it; nothing that a service or a page is not to have.

Catches in training/logged.py: hyper-parameters without metrics, or with names that no scalar has; final values at a
step that an extended run keeps.
Catches in core/servers.py: an address with its query or its user.
Catches in builders/logged_settings.py: a prompt that a page takes for HTML.
Catches in builders/callbacks.py: a logger of another package that is not given the run's folder.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from runs import TinyWorld
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams import backend_context
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from drift_pl.builders.logged_settings import FIRST, logged_settings
from drift_pl.config.loading import build_config, parse
from drift_pl.config.schema import Config
from drift_pl.core.servers import without_queries
from drift_pl.fit import main
from drift_pl.reports.run_list import read_listed_run
from drift_pl.training.logged import log_picture
from drift_pl.training.loggers import wandb

SECRET = "hunter2"
PROMPT = f"a <img src=x onerror=alert(1)> [dot](http://me:{SECRET}@host/x?key={SECRET}) `b`"
LOGGERS = "trainer.logger=[tensorboard,csv,{name: 'lightning.pytorch.loggers:CSVLogger', args: {name: mine}}]"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two iterations whose test prompt and negative prompt hold an address with a key."""
    root = tmp_path_factory.mktemp("logged")
    world = TinyWorld.create(root)
    (root / "test.txt").write_text(f"{PROMPT}\na dot\n")
    argv = [
        "trainer.iterations=2",
        "run_name=mine",
        "tags=['<b>x']",
        f"policy.negative_prompt=see http://h/?k={SECRET}",
    ]
    assert main([*world.overrides(), *argv, LOGGERS, f"run_dir={root / 'run'}"]) == 0
    return root / "run"


def plugin_data(run_dir: Path, plugin: str) -> Iterator[Any]:
    """Summaries of a plugin, in the order of the files."""
    for file in sorted((run_dir / "tensorboard").glob("events*")):
        for event in EventFileLoader(str(file)).Load():
            yield from (one for one in event.summary.value if one.metadata.plugin_data.plugin_name == plugin)


def test_hyper_parameters_stand_beside_the_final_values(run_dir: Path) -> None:
    """As HPARAMS reads them: the settings of the config, and metrics whose values are those of summary.json."""
    found = [HParamsPluginData.FromString(one.metadata.plugin_data.content) for one in plugin_data(run_dir, "hparams")]
    (experiment,) = (one.experiment for one in found if one.HasField("experiment"))
    (start,) = (one.session_start_info for one in found if one.HasField("session_start_info"))
    named = {info.display_name: start.hparams[info.name] for info in experiment.hparam_infos}
    assert named.keys() == logged_settings(build_config([("experiment", str(run_dir / "config.yaml"))])).keys()
    assert len(start.hparams) == len(named)
    assert named["sampler.steps"].number_value == 4
    assert named["seed"].number_value == 0
    assert named["rewards.0.name"].string_value == "pickscore"
    assert named["run_name"].string_value == "mine"
    assert named["sampler.noisy_last_step"].WhichOneof("kind") == "bool_value"
    tags = {info.name.tag for info in experiment.metric_infos}
    events = EventAccumulator(str(run_dir / "tensorboard")).Reload()
    tuned = json.loads((run_dir / "summary.json").read_text())["tuned"]
    assert tags == {f"final/{name}" for name in tuned}
    for name, value in tuned.items():
        (event,) = events.Scalars(f"final/{name}")
        assert (event.step, event.value) == (2, pytest.approx(value, rel=1e-6))


def test_the_columns_begin_with_what_runs_are_compared_by(run_dir: Path) -> None:
    """In TensorBoard's own order; its page shows the first five.

    Catches in training/logged.py: names without their place; places that depend on what else a run has set.
    """
    found = [HParamsPluginData.FromString(one.metadata.plugin_data.content) for one in plugin_data(run_dir, "hparams")]
    (experiment,) = (one.experiment for one in found if one.HasField("experiment"))
    backend_context._sort_and_reduce_to_hparams_limit(experiment)
    shown = [info.display_name for info in experiment.hparam_infos]
    compared = [key for key in FIRST if key in shown]
    assert shown[: len(compared)] == compared
    assert shown[:5] == [*("experiment", "seed", "incentive.shaping.weight"), "objective.loss", "objective.kl_weight"]
    places = [int(info.name.partition(" ")[0]) for info in experiment.hparam_infos[: len(compared)]]
    assert places == [FIRST.index(key) for key in compared], "the same in runs with other rewards"
    assert all(Config.find_key(key) for key in FIRST)


def test_reward_and_diversity_have_one_chart(run_dir: Path) -> None:
    from tensorboard.plugins.custom_scalar import layout_pb2

    (value,) = plugin_data(run_dir, "custom_scalars")
    layout = layout_pb2.Layout.FromString(value.tensor.string_val[0])
    tags = [set(chart.multiline.tag) for category in layout.category for chart in category.chart]
    assert {"reward/mean", "diversity/pairwise_distance"} in tags
    logged = EventAccumulator(str(run_dir / "tensorboard")).Reload().Tags()["scalars"]
    assert tags[0] <= {*logged}


def test_prompts_are_text_and_addresses_keep_their_keys_to_themselves(run_dir: Path) -> None:
    (value,) = plugin_data(run_dir, "text")
    text = value.tensor.string_val[0].decode()
    assert "&lt;img src=x onerror=alert(1)>" in text
    assert "&lt;b>x" in text
    assert r"\[dot\]" in text
    assert "http://host/x?..." in text
    for file in [*(run_dir / "tensorboard").rglob("*"), *(run_dir / "csv").rglob("*"), *(run_dir / "mine").rglob("*")]:
        assert file.is_dir() or SECRET.encode() not in file.read_bytes(), file


def test_neither_report_nor_overrides_show_a_key(run_dir: Path) -> None:
    """The negative prompt is an override, and the test prompt stands beside pictures and in a table.

    Catches in reports/run_page.py: names of a table's rows as they are.
    Catches in reports/gallery.py: prompts as they are.
    Catches in config/overrides.py: arguments kept as they were typed; lines of an earlier version shown as they are.
    """
    report = (run_dir / "report.html").read_text()
    assert report.count("http://host/x?...") > 2
    kept = run_dir / "overrides.yaml"
    assert "policy.negative_prompt=see http://h/?..." in kept.read_text()
    assert SECRET not in report + kept.read_text()
    kept.write_text(f"- policy.negative_prompt=http://h/?{SECRET}\n")
    assert read_listed_run(run_dir).differs == ["policy.negative_prompt=http://h/?..."]


def test_another_packages_logger_logs_into_the_run(run_dir: Path) -> None:
    rows = (run_dir / "mine" / "version_0" / "metrics.csv").read_text().splitlines()
    assert {"reward/mean", "final/reward"} <= set(rows[0].split(","))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://host/a?key=1&b=2", "http://host/a?..."),
        ("see https://me:pw@host/a#frag there", "see https://host/a?... there"),
        ("[{url: 'http://h?x=1', n: 2}]", "[{url: 'http://h?...', n: 2}]"),
        ("what? a dot", "what? a dot"),
        ("http://host/a", "http://host/a"),
    ],
)
def test_addresses_end_at_the_question_mark(text: str, shown: str) -> None:
    assert without_queries(text) == shown


def test_an_environment_variable_stays_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE", f"http://host/?key={SECRET}")
    rewards = "rewards=[{name: http_judge, args: {url: '${oc.env:JUDGE}'}}]"
    settings = logged_settings(parse([rewards]).config)
    assert settings["rewards.0.args.url"] == "${oc.env:JUDGE}"
    assert SECRET not in str(settings)


def test_a_missing_package_is_one_line_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main(["trainer.logger=[wandb]", f"run_dir={tmp_path / 'run'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: trainer.logger.0")
    assert "drift-pl[wandb]" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("logger", "part"),
    [
        (
            "{name: csv, args: {flush: 1}}",
            "trainer.logger.0.args: got an unexpected keyword argument 'flush' for 'csv'",
        ),
        ("{name: 'lightning.pytorch.loggers:CSVLogger', args: {nmae: x}}", "unexpected keyword argument 'nmae'"),
        ("csvv", "trainer.logger.0.name=csvv should be one of tensorboard, csv, wandb"),
        ("csvv", "use e.g. trainer.logger.0.name=csv"),
        ("mlflow", "use e.g. trainer.logger.0.name=tensorboard"),
        ("{args: {}}", "trainer.logger.0.name is missing"),
    ],
)
def test_wrong_loggers_are_one_line(logger: str, part: str, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    assert main([f"trainer.logger=[{logger}]", f"run_dir={tmp_path / 'run'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert part in line


def test_a_name_and_a_mapping_are_the_same() -> None:
    short, long = (parse([f"trainer.logger={text}"]).config for text in ("[csv]", "[{name: csv}]"))
    assert short == long


@pytest.mark.slow
def test_weights_and_biases_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same run there when it goes on; neither the command line nor what is printed is sent.

    Catches in training/loggers.py: another id at each start; the command line, or what is printed, in the run there.
    """
    pytest.importorskip("wandb")
    monkeypatch.setattr(sys, "argv", ["drift-pl", f"key={SECRET}"])
    logger = wandb(tmp_path, offline=True)
    logger.log_hyperparams({"seed": 0})
    logger.log_metrics({"final/reward": 1.0}, step=1)
    log_picture([logger], "samples", Image.new("RGB", (2, 2)), 1)
    print(f"printed {SECRET}")
    assert logger.experiment.id == json.loads((tmp_path / "wandb.json").read_text())["id"]
    logger.experiment.finish()
    written = {file.name: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert any(name.endswith(".wandb") and b"final/reward" in content for name, content in written.items())
    assert any(name.startswith("samples_") for name in written)
    assert [name for name, content in written.items() if SECRET.encode() in content] == []
    assert wandb(tmp_path, offline=True).version == logger.version
