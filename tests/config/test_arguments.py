"""The command line: what it accepts, how it reads it, and what `--help` says."""

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from drift_pl.config import experiments as experiment_files
from drift_pl.config.command import run_command
from drift_pl.config.fields import inner_type
from drift_pl.config.fit_help import fit_help
from drift_pl.config.identity import default_run_dir
from drift_pl.config.loading import config_yaml, parse
from drift_pl.config.schema import RENAMED, Config, get_value
from drift_pl.config.section import all_keys
from drift_pl.config.yaml_text import format_value
from drift_pl.core.errors import UserError

DIV = """# All three levers.
# A second line.
rewards:
  - {name: pickscore, weight: 2, args: {pretrained: judge}}
  - {name: jpeg_compressibility}
incentive:
  selection: {rule: band, kappa: 1.5}
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
        ("trainer.progress=no", "none"),
        ("trainer.progress=On", "auto"),
        ("trainer.progress=0", "none"),
        ("trainer.progress=lines", "lines"),
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
    assert config.rewards[0].model_dump() == {
        "name": "jpeg_compressibility",
        "args": {"quality": 70},
        "weight": 0.5,
        "dtype": None,
        "device": None,
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
    assert (request.print_config, request.config.seed) == (True, 1)


@pytest.mark.parametrize("width", [60, 80, 140])
def test_help_lists_every_experiment_and_key_and_fits(width: int) -> None:
    text = fit_help(["--help", "all"], width)
    shown = config_of()
    assert "shapes_div       All three levers." in text
    assert "shapes_flowgrpo  No lever." in text
    flat = " ".join(text.split())
    for key in all_keys(Config).values():
        assert key.name in text
        assert key.field.description, f"{key.name} has no meaning"
        if key.is_section:
            continue
        start = flat.index(f" {key.name} (")
        entry = flat[start : start + 700]
        for part in (key.field.description, key.type_name, *key.choices, *key.bounds):
            assert " ".join(part.split()) in entry, key.name
        if key.field.is_required():
            assert "required)" in entry
        elif ".N" in key.name and key.default != "":
            assert f"default: {format_value(key.default)}" in entry
        elif key.element in (None, str) and get_value(shown, key.name) not in ("", None):
            assert f"default: {format_value(get_value(shown, key.name))}" in entry
        if only := key.about.only:
            joint = " " if only[1] in ("above 0", "given") else "="
            assert f"only with {only[0]}{joint}{' or '.join(only[1:])}" in entry
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


def test_interpolations_are_resolved_for_the_run_and_kept_in_what_is_printed() -> None:
    request = parse(["seed=${prompts.group_size}", "prompts.group_size=5"])
    assert request.config.seed == 5
    text = config_yaml(request.config, request.tree)
    assert "seed: ${prompts.group_size}" in text
    Path("saved.yaml").write_text(text)
    assert config_of("experiment=saved.yaml", "prompts.group_size=6").seed == 6


def test_a_key_without_effect_is_named_with_what_gives_it_one() -> None:
    """Set in an argument, or in an experiment's own file; what its base says is for the base's choices."""
    ignored = parse(["objective.nft_times=3", "incentive.selection={kappa: 1, low: 0.1}", "seed=3"]).ignored
    assert ignored == (
        "objective.nft_times (only with objective.loss=nft or awm)",
        "incentive.selection.low (only with incentive.selection.rule=quantile)",
    )
    shaping = "incentive.shaping"
    assert parse([f"{shaping}.weight=0", f"{shaping}.gate=median", f"{shaping}.target_gain=2"]).ignored == (
        "incentive.shaping.gate (only with incentive.shaping.weight above 0)",
        "incentive.shaping.target_gain (only with incentive.shaping.target above 0)",
    )
    assert parse([f"{shaping}.weight=5", f"{shaping}.target=0.9", f"{shaping}.target_gain=2"]).ignored == ()
    assert parse(["incentive.prompting.named=2"]).ignored == (
        "incentive.prompting.named (only with incentive.prompting.vocabulary given)",
    )
    assert parse(["objective.nft_times=3", "objective.loss=nft", "policy.guidance_scale=1"]).ignored == ()
    Path("base.yaml").write_text("base: shapes_div\nincentive: {selection: {kappa: 3}}\n")
    Path("mine.yaml").write_text("base: base.yaml\nincentive: {selection: {rule: none}}\n")
    assert parse(["experiment=mine.yaml"]).ignored == ()
    Path("mine.yaml").write_text("base: base.yaml\nincentive: {selection: {rule: none, kappa: 2}}\n")
    assert parse(["experiment=mine.yaml"]).ignored == (), "the default again, in place of the base's 3"
    Path("mine.yaml").write_text("base: base.yaml\nincentive: {selection: {rule: none, kappa: 3}}\n")
    assert parse(["experiment=mine.yaml"]).ignored == (
        "incentive.selection.kappa (only with incentive.selection.rule=band)",
    )
    Path("mine.yaml").write_text("base: shapes_flowgrpo\nincentive: {selection: {kappa: 3}}\n")
    assert len(parse(["experiment=mine.yaml"]).ignored) == 1, "what its base chose does not take it"
    assert parse(["incentive.selection.rule=none"]).ignored == (), "switched off by an argument"
    request = parse(["experiment=mine.yaml"])
    Path("saved.yaml").write_text(config_yaml(request.config, request.tree))
    assert parse(["experiment=saved.yaml"]).ignored == (), "a saved config holds every key"


def test_what_settings_wait_for_is_a_choice_of_another() -> None:
    waiting = [(name, key.about.only) for name, key in all_keys(Config).items() if key.about.only]
    assert len(waiting) > 20
    for name, (other, *values) in waiting:
        key = Config.require_key(other)
        if values == ["above 0"]:
            assert (inner_type(key.kind), key.default) == (float, 0.0), name
            assert key.bounds[0] == "at least 0", name
            continue
        if values == ["given"]:
            assert key.optional, name
            continue
        choices = {"true", "false"} if inner_type(key.kind) is bool else set(key.choices)
        assert set(values) < choices, name


def test_what_a_thing_from_elsewhere_takes_is_not_known_before_it_is_built() -> None:
    request = parse(["objective.loss=mine.module:Loss", "objective.args={a: 1}", "objective.nft_times=3"])
    assert request.ignored == ()
    assert (request.config.objective.loss, request.config.objective.args) == ("mine.module:Loss", {"a": 1})
    config_of("sampler.kind=mine.module:Kind", "policy.family=sd15", "sampler.args={a: 1}")
    config_of("policy.family=mine.module:Family", "policy.args={a: 1}", "sampler.kind=ddim")
    config_of("incentive.method=mine.module:Method", "incentive.args={a: 1}", "incentive.shaping.weight=0")


def test_a_name_that_another_package_offers_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    offered = {"drift_pl.updates": [EntryPoint("theirs", "their.module:Loss", "drift_pl.updates")]}
    monkeypatch.setattr(
        "drift_pl.config.fields.entry_points",
        lambda group, name: [entry for entry in offered.get(group, []) if entry.name == name],
    )
    assert config_of("objective.loss=theirs", "objective.args={a: 1}").objective.loss == "theirs"


def test_a_renamed_key_is_read_by_its_old_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RENAMED, "sampler.stages", "sampler.steps")
    Path("old.yaml").write_text("base: shapes_div\nsampler: {stages: 7}\n")
    assert config_of("experiment=old.yaml").sampler.steps == 7
    assert config_of("sampler.stages=6").sampler.steps == 6


def test_experiments_are_found_in_the_source_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    found = experiment_files.experiments_folder()
    assert found.name == "experiments"
    assert found.parent in Path(experiment_files.__file__).parents
