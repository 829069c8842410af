"""Files from elsewhere may not name code, packages, tokens or variables; the user's own files just work."""

import sys
from pathlib import Path

import pytest

from drift_pl.config.loading import build_config, parse
from drift_pl.config.options import Options
from drift_pl.config.publishing import with_names
from drift_pl.config.trust import accesses, register
from drift_pl.core.errors import UserError
from drift_pl.evaluate import EvaluateOptions
from drift_pl.export import ExportOptions
from drift_pl.generate import GenerateOptions

TOKEN = "rewards: [{name: http_judge, args: {url: 'https://h/x', token_env: HOME}}]"
STRANGE = [
    ("rewards: [{name: 'os:system', args: {command: 'touch ran'}}]", "rewards.0.name=os:system is code"),
    ("evaluation: {measures: [{name: 'subprocess:run'}]}", "evaluation.measures.0.name=subprocess:run is code"),
    ("policy: {family: 'os:system'}", "policy.family=os:system is code"),
    ("sampler: {kind: 'os:system'}", "sampler.kind=os:system is code"),
    ("objective: {loss: 'os:system'}", "objective.loss=os:system is code"),
    ("trainer: {callbacks: [{name: 'os:system'}]}", "trainer.callbacks.0.name=os:system is code"),
    ("trainer: {logger: ['os:system']}", "trainer.logger.0=os:system is code"),
    ("trainer: {logger: [csv, {name: 'os:system'}]}", "trainer.logger.1.name=os:system is code"),
    (
        "incentive: {method: gardo, shaping: {weight: 0}, args: {categories: {name: 'os:system'}}}",
        "incentive.args.categories.name=os:system",
    ),
    ("rewards: [{name: 'drift_pl.core.registry:create', args: {kind: reward}}]", "registry:create is code"),
    ("rewards: [{name: 'drift_pl.generate:asdict'}]", "drift_pl.generate:asdict is code"),
    ("rewards: [{name: 'drift_pl.builtin.judge:Path'}]", "drift_pl.builtin.judge:Path is code"),
    ("rewards: [{name: '${policy.negative_prompt}'}]\npolicy: {negative_prompt: 'os:system'}", "rewards.0.name=os:sys"),
    ("policy: {pretrained: 'pkg:antigravity/x'}", "policy.pretrained=pkg:antigravity/x reads files of a package"),
    (TOKEN, "rewards.0.args.url=https://h/x is sent the content of HOME"),
    ("policy: {negative_prompt: '${oc.env:HOME}'}", "policy.negative_prompt=${oc.env:HOME} reads an environment"),
    ("policy: {negative_prompt: '${rewards.0.args.x}'}\nrewards: [{name: ocr, args: {x: '${oc.env:HOME}'}}]", "oc.env"),
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder and an empty register."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    return folder


def written(folder: Path, text: str, name: str = "config.yaml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("base: shapes_drift\n" + text + "\n")
    return folder / name


@pytest.mark.parametrize(("text", "message"), STRANGE)
def test_a_file_from_elsewhere_may_not(text: str, message: str, tmp_path: Path, here: Path) -> None:
    """In a run's config, in an experiment from elsewhere, and (code of others) in one of the working folder."""
    for file in (written(tmp_path / "run", text), written(here / "runs" / "theirs", text)):
        with pytest.raises(UserError, match="add trust=true if you know who wrote this file") as caught:
            build_config([("experiment", str(file))], trusted=False)
        assert message in str(caught.value)
        with pytest.raises(UserError, match="trust=true"):
            parse([f"experiment={file}", "--print-config"])
    if "oc.env" not in text:
        with pytest.raises(UserError, match="trust=true"):
            parse([f"experiment={written(here, text, 'mine.yaml')}"])
    assert list(here.glob("ran")) == []


@pytest.mark.parametrize(("text", "message"), STRANGE)
def test_trust_and_a_run_of_ones_own_allow_it(text: str, message: str, tmp_path: Path) -> None:
    file = written(tmp_path / "run", text)
    request = parse([f"experiment={file}", "trust=true"])
    register(with_names(request.tree), tmp_path / "run")
    build_config([("experiment", str(file))], trusted=False)
    other = written(tmp_path / "theirs", text.replace("os:system", "os:popen").replace("HOME", "PATH"))
    if other.read_text() != file.read_text():
        with pytest.raises(UserError, match="trust=true"):
            build_config([("experiment", str(other))], trusted=False)


def test_other_arguments_of_the_same_code_are_asked_for_again(tmp_path: Path) -> None:
    text = "rewards: [{name: 'os:system', args: {command: COMMAND}}]"
    mine, theirs = (written(tmp_path / one, text.replace("COMMAND", one)) for one in ("ls", "rm"))
    register(with_names(parse([f"experiment={mine}", "trust=true"]).tree), tmp_path)
    build_config([("experiment", str(mine))], trusted=False)
    with pytest.raises(UserError, match="trust=true"):
        build_config([("experiment", str(theirs))], trusted=False)


@pytest.mark.parametrize(
    "argument",
    [
        "rewards=[{name: 'os:system', args: {command: ls}}]",
        "rewards.0.name=os:popen",
        "evaluation.rewards=[{name: 'my:Thing'}]",
        "rewards=[{name: http_judge, args: {url: 'https://h/x', token_env: HOME}}]",
        "policy.pretrained=pkg:their_package/x",
        "policy.negative_prompt=${oc.env:HOME}",
    ],
)
def test_the_command_line_is_the_users_own(argument: str, tmp_path: Path) -> None:
    file = written(tmp_path / "run", "rewards: [{name: 'os:system', args: {command: rm}}]")
    parse(["experiment=shapes_drift", argument])
    if argument.startswith("rewards"):
        parse([f"experiment={file}", argument])


def test_a_token_named_on_the_command_line_goes_to_the_files_url(tmp_path: Path) -> None:
    file = written(tmp_path / "run", "rewards: [{name: http_judge, args: {url: 'https://h/x'}}]")
    parse([f"experiment={file}", "rewards.0.args.token_env=HOME"])


@pytest.mark.parametrize("name", ["drift_pl.builtin.judge:AttributeJudge", "drift_pl.scoring.pickscore:PickScore"])
def test_what_the_package_offers_needs_no_trust(name: str, tmp_path: Path) -> None:
    build_config([("experiment", str(written(tmp_path, f"rewards: [{{name: '{name}'}}]")))], trusted=False)
    build_config(
        [("experiment", str(written(tmp_path, "rewards: [{name: 'drift_pl.scoring.ocr:Ocr'}]")))], trusted=False
    )


@pytest.mark.parametrize("place", [".", "experiments"])
def test_ones_own_experiment_and_reward_are_never_asked_about(
    place: str, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The normal user: an experiment file and a reward in the working folder; then evaluate, resume, another seed."""
    (here / "rewards_of_mine.py").write_text("raise RuntimeError('nothing is imported to decide')\n")
    file = written(
        here / place, "rewards: [{name: 'rewards_of_mine:Thing'}]\nseed: ${oc.decode:${oc.env:N}}", "mine.yaml"
    )
    monkeypatch.setenv("N", "3")
    request = parse([f"experiment={file}"])
    assert request.config.seed == 3
    register(with_names(request.tree), here / "runs" / "mine")
    saved = written(here / "runs" / "mine", "rewards: [{name: 'rewards_of_mine:Thing'}]")
    build_config([("experiment", str(saved))], trusted=False)
    parse([f"experiment={file}", "seed=4"])
    moved = written(tmp_path / "elsewhere", "rewards: [{name: 'rewards_of_mine:Thing'}]")
    build_config([("experiment", str(moved))], trusted=False)
    assert (tmp_path / "state" / "drift_pl" / "runs").read_text().count("\n") == 2
    assert "rewards_of_mine" not in sys.modules


def test_code_that_came_with_the_file_is_not_ones_own(here: Path) -> None:
    """A folder that was unpacked into the working folder: its module can be imported as `theirs.code`."""
    file = written(here / "theirs", "rewards: [{name: 'theirs.code:Thing'}]", "experiment.yaml")
    (here / "theirs" / "code.py").write_text("")
    with pytest.raises(UserError, match="trust=true"):
        parse([f"experiment={file}"])


def test_a_run_that_asks_for_nothing_leaves_no_note(tmp_path: Path) -> None:
    register(with_names(parse(["experiment=shapes_div"]).tree), tmp_path / "run")
    assert not (tmp_path / "state").exists()
    assert list(accesses(with_names(parse(["experiment=shapes_div"]).tree))) == []


def test_a_register_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.warns(UserWarning, match="commands on this run will need trust=true"):
        register({"rewards": [{"name": "my:Thing"}]}, tmp_path / "run")


@pytest.mark.parametrize("kind", [EvaluateOptions, GenerateOptions, ExportOptions])
def test_the_commands_ask(kind: type[Options], tmp_path: Path) -> None:
    file = written(tmp_path / "run", STRANGE[0][0])
    values = {"ckpt_path": "run", "out": "out", "prompt": "a"}
    argv = [f"{key}={value}" for key, value in values.items() if key in kind.key_names()]
    argv = [argument.replace("out=out", "out=out.json") if kind is EvaluateOptions else argument for argument in argv]
    with pytest.raises(UserError, match="os:system is code"):
        kind.parse(argv).config(file)
    assert kind.parse([*argv, "trust=true"]).config(file).rewards[0].name == "os:system"


def test_no_file_trusts_itself(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown key 'trust'"):
        parse([f"experiment={written(tmp_path, 'trust: true')}"])
    with pytest.raises(UserError, match="trust=maybe has the wrong type"):
        parse(["trust=maybe"])
