"""The command line: what it accepts, how it reads it, what `--help` says, and what identifies a run."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from drift_pl.config import experiment_files as experiment_files
from drift_pl.config.arguments import (
    UNHASHED,
    build_config,
    config_hash,
    config_yaml,
    default_run_dir,
    parse,
)
from drift_pl.config.checks import get_value
from drift_pl.config.command import run_command
from drift_pl.config.help_text import help_text
from drift_pl.config.keys import all_keys, format_value
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError

DIV = """# All three levers.
# A second line.
rewards:
  - {name: pickscore, weight: 2, args: {pretrained: judge}}
  - {name: jpeg_compressibility}
incentive:
  selection: {rule: band}
  shaping: {weight: 0.5}
sampler:
"""
FLOWGRPO = """# No lever.
base: shapes_div
incentive: {selection: {rule: none}, shaping: {weight: 0}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two experiments, and a working folder that is not the repository's root."""
    experiments, elsewhere = tmp_path / "experiments", tmp_path / "elsewhere"
    experiments.mkdir()
    elsewhere.mkdir()
    (experiments / "shapes_div.yaml").write_text(DIV)
    (experiments / "shapes_flowgrpo.yaml").write_text(FLOWGRPO)
    monkeypatch.setattr(experiment_files, "experiments_folder", lambda: experiments)
    monkeypatch.chdir(elsewhere)
    return experiments


def config_of(*overrides: str) -> Config:
    return parse(list(overrides)).config


def test_no_argument_is_the_default_experiment() -> None:
    config = config_of()
    assert (config.experiment, config.incentive.selection.rule) == ("shapes_div", "band")
    assert [reward.name for reward in config.rewards] == ["pickscore", "jpeg_compressibility"]
    assert (config.rewards[0].weight, config.rewards[1].weight) == (2.0, 1.0)
    assert config.sampler == Config().sampler, "an empty section of a file is no difference"


def test_base_file_comes_first_and_overrides_last_wherever_experiment_stands() -> None:
    config = config_of("incentive.shaping.weight=0.25", "experiment=shapes_flowgrpo", "seed=1", "seed=2")
    assert config.experiment == "shapes_flowgrpo"
    assert config.incentive.selection.rule == "none"
    assert config.incentive.shaping.weight == 0.25
    assert config.rewards == config_of().rewards
    assert config.seed == 2


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("objective.learning_rate=1e-5", 1e-5),
        ("objective.learning_rate=1", 1.0),
        ("trainer.iterations=1_000", 1000),
        ("seed=010", 10),
        ("trainer.progress=no", False),
        ("trainer.progress=On", True),
        ("trainer.progress=0", False),
        ("sampler.window_size=3", 3),
        ("sampler.window_size=null", None),
        ("sampler.window_range=[1, 4]", [1, 4]),
        ("policy.lora.targets=[to_q,to_out.0]", ["to_q", "to_out.0"]),
        ("policy.pretrained=1e3", "1e3"),
        ("policy.pretrained=/models/a=b: c", "/models/a=b: c"),
        ("policy.negative_prompt=no", "no"),
        ("policy.negative_prompt=", ""),
        ('policy.negative_prompt="quoted: text"', "quoted: text"),
        ("run_dir=", None),
        ("ckpt_path=last", "last"),
        ("trainer.logger=[]", []),
        ("seed=${prompts.group_size}", 16),
    ],
)
def test_override_is_read_in_the_type_of_its_key(override: str, value: Any) -> None:
    found = get_value(config_of(override), override.partition("=")[0])
    assert found == value
    assert type(found) is type(value)


def test_lists_count_from_zero_and_are_replaced_whole() -> None:
    config = config_of("rewards.0.weight=3", "rewards.1.args.quality=70", "rewards.1.args.deep.er=[1, 2]")
    assert [reward.weight for reward in config.rewards] == [3.0, 1.0]
    assert config.rewards[1].args == {"quality": 70, "deep": {"er": [1, 2]}}
    config = config_of("rewards=[{name: jpeg_compressibility, args: {quality: 70}}]", "rewards.0.weight=0.5")
    assert len(config.rewards) == 1
    assert dataclasses.asdict(config.rewards[0]) == {
        "name": "jpeg_compressibility",
        "args": {"quality": 70},
        "weight": 0.5,
    }


def test_untyped_values_are_yaml_1_2() -> None:
    """In YAML 1.1 these are False, 8, 90 and the text "1e-4"."""
    args = config_of("rewards.0.args={a: no, b: 010, c: 1:30, d: 1e-4}").rewards[0].args
    assert args == {"pretrained": "judge", "a": "no", "b": 10, "c": "1:30", "d": 1e-4}


def test_sections_merge_in_overrides() -> None:
    config = config_of("incentive.shaping={gamma: 0.9}")
    assert (config.incentive.shaping.gamma, config.incentive.shaping.weight) == (0.9, 0.5)


def test_another_name_drops_the_arguments_of_the_old_one() -> None:
    encoder = "incentive.shaping.encoder"
    assert config_of(f"{encoder}.name=dino").incentive.shaping.encoder.args != {}
    assert config_of(f"{encoder}.name=clip").incentive.shaping.encoder.args == {}
    given = config_of(f"{encoder}={{args: {{size: 3}}, name: clip}}").incentive.shaping.encoder
    assert given.args == {"size": 3}
    kept = config_of(f"{encoder}.args.size=3").incentive.shaping.encoder
    assert kept.args == {**Config().incentive.shaping.encoder.args, "size": 3}
    assert config_of("rewards.0.name=other").rewards[0].args == {}


def test_experiment_by_path_takes_relative_bases(folder: Path) -> None:
    Path("mine.yaml").write_text("base: shapes_flowgrpo\nseed: 7\n")
    Path("theirs.yaml").write_text("base: mine.yaml\nprompts.group_size: 4\n")
    config = config_of("experiment=theirs.yaml")
    assert (config.seed, config.prompts.group_size, config.incentive.selection.rule) == (7, 4, "none")
    assert default_run_dir(config).name.startswith("theirs-")


def test_printed_config_gives_the_same_config_back() -> None:
    first = config_of("seed=3", "policy.negative_prompt=no", "policy.pretrained=1e3", "objective.learning_rate=1e-5")
    Path("saved.yaml").write_text(config_yaml(first))
    assert config_of("experiment=saved.yaml") == first


def test_flags() -> None:
    request = parse(["--print-config", "seed=1", "--debug"])
    assert (request.print_config, request.debug, request.help, request.config.seed) == (True, True, False, 1)
    assert parse(["nonsense", "-h"]).help, "who asks for help gets it, whatever else is wrong"


@pytest.mark.parametrize("width", [60, 80, 140])
def test_help_lists_every_experiment_and_key_and_fits(width: int) -> None:
    text = help_text(width=width)
    assert "shapes_div       All three levers." in text
    assert "shapes_flowgrpo  No lever." in text
    flat = " ".join(text.split())
    for key in all_keys():
        assert key.name in text
        assert key.meaning, f"{key.name} has no meaning"
        assert key.is_section or " ".join(key.meaning.split()) in flat
        if not key.is_section and key.default != "":
            assert f"(default: {format_value(key.default)})" in flat
    assert [line for line in text.splitlines() if len(line) > max(width, 77)] == []


def test_run_command_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(error: BaseException) -> Any:
        def main(argv: list[str]) -> None:
            raise error

        return main

    assert run_command(lambda argv: None, []) == 0
    assert run_command(fail(UserError("two\nlines")), []) == 2
    assert capsys.readouterr().err == "error: two lines\n"
    assert run_command(fail(UserError("traced")), ["--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err
    assert run_command(fail(KeyboardInterrupt()), []) == 130
    with pytest.raises(ZeroDivisionError):
        run_command(fail(ZeroDivisionError()), [])


def test_hash_tells_results_apart_and_nothing_else() -> None:
    base = config_of()
    same = ["seed=9", "trainer.iterations=999", "run_dir=x", "ckpt_path=auto", "trainer.progress=no"]
    same += ["trainer.devices=2", "trainer.threads=1", "trainer.logger=[csv]", "objective.micro_batch=2"]
    same += ["trainer.keep_checkpoints=-1", "evaluation.every=5", "policy.compile=true"]
    assert config_hash(config_of(*same, "rewards.0.weight=2.0")) == config_hash(base)
    changes = ["prompts.group_size=8", "rewards.0.weight=3", "rewards.0.args.pretrained=b", "sampler.steps=9"]
    changes += ["incentive.shaping.weight=0.4", "evaluation.seeds_per_prompt=8", "policy.lora.rank=4"]
    for change in changes:
        assert config_hash(config_of(change)) != config_hash(base), change
    one, other = (config_of(f"rewards.1.args={order}") for order in ("{a: 1, b: 2}", "{b: 2, a: 1}"))
    assert config_hash(one) == config_hash(other)
    flat = ["incentive.selection.rule=none", "incentive.shaping.weight=0"]
    assert config_hash(config_of(*flat)) == config_hash(config_of("experiment=shapes_flowgrpo"))
    names = {key.name for key in all_keys()}
    assert set(UNHASHED) <= names


def test_a_younger_key_at_its_default_leaves_the_hash_of_earlier_runs() -> None:
    """The hash of an earlier version, made before these keys existed, and any other value changes it."""
    experiment = f"experiment={Path(__file__).parents[2] / 'benchmarks' / 'fronts' / 'plain.yaml'}"
    assert config_hash(config_of(experiment)) == "fee41df6"
    for change in ("policy.tuning=full", "policy.dtype=bfloat16", "policy.quantisation=bitsandbytes_4bit"):
        assert config_hash(config_of(experiment, change)) != "fee41df6"


def test_hash_is_the_same_in_every_process() -> None:
    code = (
        "from drift_pl.config.arguments import config_hash; from drift_pl.config.schema import Config; import sys;"
        "print(config_hash(Config())); assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(experiment_files.__file__).parents[2]), "PYTHONHASHSEED": "7"},
    )
    assert done.stdout.strip() == config_hash(Config()), done.stderr


def test_default_run_dir() -> None:
    config = build_config([("seed", "4")])
    assert default_run_dir(config) == Path(f"runs/shapes_div-{config_hash(config)}-s4")


def test_experiments_are_found_in_the_source_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    found = experiment_files.experiments_folder()
    assert found.name == "experiments"
    assert found.parent in Path(experiment_files.__file__).parents
