"""`drift-pl COMMAND`: one door to all commands, one kind of help, and no torch before there is work to do.

Catches in __main__.py: a command without a row; an unknown word that is taken for a run.
Catches in config/help_topics.py: a kind whose names are not listed; a section without its nested keys.
Catches in config/fit_help.py: defaults of the class beside the name of another experiment.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from test_layers import DOORS

from drift_pl import __version__
from drift_pl.__main__ import COMMANDS, main
from drift_pl.config.help_topics import KINDS
from drift_pl.core.registry import TABLES
from drift_pl.core.sources import written_summary

ROOT = Path(__file__).parents[2]


def test_every_door_is_a_command(capsys: pytest.CaptureFixture) -> None:
    assert set(COMMANDS) == DOORS
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in COMMANDS)
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == listed


@pytest.mark.parametrize("asked", ["help", "--help", "-h"])
def test_help_of_a_word_is_that_of_its_command(asked: str, capsys: pytest.CaptureFixture) -> None:
    """Of what is no command, it is that of `fit`.

    Catches in __main__.py: words after `help` that are dropped.
    """
    assert help_of(asked, "runs", capsys=capsys) == help_of("runs", "--help", capsys=capsys)
    assert help_of(asked, "rewards", capsys=capsys) == help_of("fit", "--help", "rewards", capsys=capsys)


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["evalute"], "unknown command 'evalute': did you mean 'evaluate'?"),
        (["FIT"], "did you mean 'fit'?"),
        (["qqqqqq"], "the commands are fit, "),
        (["experiment=shapes_div", "fit"], "the command comes first, e.g. drift-pl fit experiment=shapes_div"),
        (["--smoke"], "the command comes first"),
        (["fit", "seed=x"], "seed=x should be a valid integer"),
        (["help", "smapler"], "did you mean 'sampler'?"),
        (["fit", "--help", "smapler"], "did you mean 'sampler'?"),
        (["evaluate", "--help", "rewardz"], "did you mean 'rewards'?"),
        (["fit", "--help", "experiment=nope"], "experiment=nope: no such experiment"),
    ],
)
def test_what_is_no_command_is_one_line(argv: list[str], part: str, capsys: pytest.CaptureFixture) -> None:
    assert main(argv) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert part in lines[0]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_version_and_help_import_no_torch(command: str) -> None:
    program = f"""
import sys
from drift_pl.__main__ import main
words = {command!r}.split()
main([*words, '--version'])
main([*words, '--help'])
print(*sys.modules)"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    version, usage, *_ = done.stdout.splitlines()
    assert version == f"drift_pl {__version__}"
    assert usage.startswith("usage: ")
    assert {"torch", "lightning", "numpy", "matplotlib"}.isdisjoint(done.stdout.splitlines()[-1].split())


def help_of(*argv: str, capsys: pytest.CaptureFixture) -> str:
    assert main([*argv]) == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", ["fit", "evaluate"])
@pytest.mark.parametrize("word", KINDS)
def test_help_lists_what_is_registered(command: str, word: str, capsys: pytest.CaptureFixture) -> None:
    text = help_of(command, "--help", word, capsys=capsys)
    for name, entry in TABLES[KINDS[word]].items():
        assert f"{name} {entry.about}" in text


def test_help_of_a_section_has_its_keys_and_no_others(capsys: pytest.CaptureFixture) -> None:
    text = help_of("fit", "--help", "incentive.shaping", capsys=capsys)
    assert "incentive.shaping.weight (" in text
    assert "incentive.shaping.encoder.args (" in text
    assert "incentive.selection" not in text.split("keys of")[1]
    assert "objective." not in text.split("keys of")[1]


def test_defaults_are_those_of_the_named_experiment(capsys: pytest.CaptureFixture) -> None:
    """shapes_div evaluates with 20 steps, pickscore_div with 40 (their files)."""
    assert "sampler.eval_steps (int, at least 1, at most 1000; default: 20)" in help_of(
        "fit", "--help", "sampler", capsys=capsys
    )
    text = help_of("fit", "experiment=pickscore_div", "--help", "sampler.eval_steps", capsys=capsys)
    assert "defaults: those of experiment=pickscore_div" in text
    assert "default: 40)" in text


def test_a_things_own_docstring_is_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "offered_thing.py").write_text('raise SystemExit\nclass Taste:\n    """Likes red.\n\n    More."""\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    assert written_summary("offered_thing:Taste") == "Likes red."
    assert written_summary("offered_thing:Nothing") == ""


def test_the_package_runs_as_a_module() -> None:
    """The console script and `python -m drift_pl` are the same function; a missing command ends with status 2."""
    done = subprocess.run([sys.executable, "-m", "drift_pl", "rums"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown command 'rums'")
    assert "drift-pl = drift_pl.__main__:main" in (ROOT / "setup.cfg").read_text()
