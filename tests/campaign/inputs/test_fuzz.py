"""Fuzzes: whatever is typed or stands in a file, a command ends with status 0, or with one line and status 2.

The short form has the same examples every time. The long form: `DRIFT_FUZZ_SECONDS=120 python -m pytest -s -m "slow or
not slow" tests/campaign/inputs/test_fuzz.py`, seconds for each target.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from campaign.inputs.fuzzing import NESTED, ODD, Trial, apply, changes, fuzz, mutated
from campaign.inputs.stage import Stage
from hypothesis import strategies as st

from drift_pl import evaluate, export, generate, pareto, report
from drift_pl.config.options import Options
from drift_pl.config.schema import Config
from drift_pl.config.section import all_keys
from drift_pl.core.errors import UserError
from drift_pl.core.prompt_files import read_prompt_file
from drift_pl.core.texts import has_lone_surrogate, stripped

OPTIONS: dict[str, type[Options]] = {
    "evaluate": evaluate.EvaluateOptions,
    "generate": generate.GenerateOptions,
    "export": export.ExportOptions,
    "pareto": pareto.ParetoOptions,
    "report": report.ReportOptions,
}
LINES = {
    "fit": ("fit", ["run_dir=new", "--print-config"]),
    "evaluate": ("evaluate ckpt_path=RUN max_prompts=1", ["out=mine.json", "ckpt_path=RUN/nowhere.ckpt"]),
    "generate": ("generate ckpt_path=RUN", ["out=new", "ckpt_path=RUN/nowhere.ckpt", "n=1"]),
    "export": ("export ckpt_path=RUN", ["out=new", "ckpt_path=RUN/nowhere.ckpt"]),
    "pareto": ("pareto RUN/nowhere", ["out=new"]),
    "report": ("report RUN/nowhere", ["out=new"]),
}
"""Command -> what stands before and after the drawn arguments, so that nothing outside the folder is written and no
model is loaded."""
SIGNS = st.text(st.sampled_from("[]{}:,'\"$!&*%@`#\\|>?-+=~. \n\t0123456789eEnaoif_x\u2028\x85é😀"), max_size=12)
VALUES = st.one_of(SIGNS, st.text(max_size=12), ODD.map(str), NESTED.map(lambda value: json.dumps(value, default=str)))


@pytest.fixture
def trial(stage: Stage, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Trial:
    """Without pictures, which take a second and see the same numbers."""
    monkeypatch.setattr("drift_pl.reports.figure.draw", lambda *_: None)
    monkeypatch.setattr("drift_pl.reports.curves.draw", lambda *_: None)
    return Trial(stage, tmp_path / "here", capfd)


def arguments_of(command: str) -> st.SearchStrategy[list[str]]:
    """Arguments with keys of a command, keys nearly so, and anything."""
    keys = [*all_keys(Config)] if command == "fit" else OPTIONS[command].key_names()
    key = st.sampled_from([key.replace(".N", ".0") for key in keys])  # of run_dir and out the last one counts
    near = st.tuples(key, st.integers(0, 30), SIGNS).map(lambda p: p[0][: p[1]] + p[2] + p[0][p[1] + 1 :])
    pair = st.tuples(st.one_of(key, key, near), VALUES).map("=".join)
    flag = st.text(max_size=6).map(lambda text: f"--{text}").filter(lambda text: text not in ("--help",))
    return st.lists(st.one_of(pair, pair, pair, flag, VALUES), min_size=1, max_size=4)


@pytest.mark.parametrize("command", LINES)
def test_command_lines(command: str, trial: Trial) -> None:
    before, after = LINES[command]
    after = [argument.replace("RUN", str(trial.stage.run)) for argument in after]

    def body(drawn: list[str]) -> None:
        if not {"-h", "--help", "--debug"} & {*drawn}:
            trial(before, [*drawn, *after])

    fuzz(12, body, arguments_of(command))


def settings_trees() -> st.SearchStrategy[Any]:
    """The settings of a file: some sections with keys of theirs, and odd values."""
    keys = [key.replace(".N", ".0").split(".") for key in all_keys(Config)]
    pairs = st.lists(st.tuples(st.sampled_from(keys), NESTED), max_size=4)

    def tree(drawn: list[tuple[list[str], Any]]) -> dict[str, Any]:
        root: dict[str, Any] = {"base": "shapes_drift"}
        for (*above, last), value in drawn:
            node = root
            for part in above:
                node[part] = node[part] if isinstance(node.get(part), dict) else {}
                node = node[part]
            node[last] = value
        return root

    return pairs.map(tree)


def as_yaml(tree: Any) -> bytes:
    return yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass")


def test_experiment_files(trial: Trial) -> None:
    own = (trial.stage.run / "config.yaml").read_bytes()
    content = st.one_of(
        st.binary(max_size=40),
        SIGNS.map(lambda text: f"seed: {text}".encode()),
        st.lists(SIGNS, max_size=6).map(lambda lines: "\n".join(lines).encode()),
        settings_trees().map(as_yaml),
        mutated(own),
    )
    line = "resume experiment=mine.yaml run_dir=new --print-config"
    fuzz(25, lambda data: trial(line, files={"mine.yaml": data}), content)


@pytest.mark.parametrize(
    ("command", "examples"), [("export ckpt_path=run out=new", 3), ("resume ckpt_path=run --print-config", 10)]
)
def test_config_of_a_run(command: str, examples: int, trial: Trial) -> None:
    own = yaml.safe_load((trial.stage.run / "config.yaml").read_text(encoding="utf-8"))
    mutations = changes(own).map(lambda wanted: as_yaml(apply(yaml.safe_load(yaml.safe_dump(own)), wanted)))
    content = st.one_of(mutations, mutated(as_yaml(own)))
    fuzz(examples, lambda data: trial(command, files={"run/config.yaml": data}), content)


def prompt_lists() -> st.SearchStrategy[tuple[str, bytes]]:
    """The name and the content of a file."""
    name = st.sampled_from(["a.txt", "a", "a.jsonl", "A.NDJSON", "a.json", "a.csv", "a.txt.gz"])
    entry = st.one_of(NESTED, st.dictionaries(st.sampled_from(["prompt", "tag", "paraphrases"]), NESTED, max_size=3))
    lines = st.lists(st.one_of(st.text(), entry.map(lambda value: json.dumps(value))), max_size=4)
    text = st.tuples(lines, st.sampled_from(["\n", "\r\n", "\r", "\u2028", "\n\n"])).map(lambda p: p[1].join(p[0]))
    encoded = st.tuples(text, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-7"]))
    return st.tuples(name, st.binary(max_size=40) | encoded.map(lambda p: p[0].encode(p[1], "surrogatepass")))


def test_prompt_files(tmp_path: Path) -> None:
    """What is read has no blank prompt and no half character."""

    def body(drawn: tuple[str, bytes]) -> None:
        path = tmp_path / drawn[0]
        path.write_bytes(drawn[1])
        try:
            prompts = read_prompt_file(str(path))
        except UserError:
            return
        assert prompts
        assert all(prompt.text == stripped(prompt.text) != "" for prompt in prompts)
        assert not any(has_lone_surrogate(prompt.text) for prompt in prompts)

    fuzz(100, body, prompt_lists())


RECORD, TUNING, SUMMARY = "run/evaluation/test.json", "run/evaluation/tuning.json", "run/summary.json"


@pytest.mark.parametrize(
    ("name", "command"),
    [(RECORD, "pareto run out=new"), (RECORD, "report run out=new"), (TUNING, "report run out=new")]
    + [(SUMMARY, "report run out=new")]
    + [pytest.param("run/run.json", "resume ckpt_path=run", marks=pytest.mark.slow)],
)
def test_records(name: str, command: str, trial: Trial) -> None:
    own = (trial.stage.run.parent / name).read_bytes()
    mutations = changes(json.loads(own)).map(lambda wanted: json.dumps(apply(json.loads(own), wanted)).encode())
    content = st.one_of(mutations, mutations, mutated(own), NESTED.map(lambda value: json.dumps(value).encode()))
    fuzz(10, lambda data: trial(command, files={name: data}), content)


LAST = "run/checkpoints/last.ckpt"
ONLY_LAST = {f"run/checkpoints/iteration-00000{number}.ckpt": None for number in (1, 2)}


def checkpoints(stage: Stage) -> st.SearchStrategy[Any]:
    """Functions that spoil a checkpoint's inside."""
    import torch

    own = torch.load(stage.run / "checkpoints" / "last.ckpt", weights_only=True)
    tensors = st.sampled_from([torch.zeros(2), torch.tensor(float("nan")), torch.ones(1, dtype=torch.int64)])
    one = st.tuples(st.sampled_from(_shallow(own)), st.sampled_from(["put", "drop", "rename"]), NESTED | tensors)

    def spoil(wanted: list[Any]) -> Any:
        def write(path: Path) -> None:
            torch.save(apply(torch.load(path, weights_only=True), wanted), path)

        return write

    return st.lists(one, min_size=1, max_size=2).map(spoil)


def _shallow(content: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Places in a checkpoint; of long dictionaries the first entries, which are like the others."""
    found: list[tuple[Any, ...]] = []

    def walk(node: Any, above: tuple[Any, ...]) -> None:
        keys = list(node)[:4] if isinstance(node, dict) else range(min(len(node), 2)) if isinstance(node, list) else []
        keys = list(node) if not above and isinstance(node, dict) else keys
        for key in keys:
            found.append((*above, key))
            walk(node[key], (*above, key))

    walk(content, ())
    return found


@pytest.mark.parametrize(
    ("command", "examples"),
    [
        ("export ckpt_path=run out=new", 3),
        pytest.param("resume ckpt_path=run trainer.iterations=3", 40, marks=pytest.mark.slow),
        pytest.param("evaluate ckpt_path=run out=mine.json max_prompts=1", 40, marks=pytest.mark.slow),
    ],
)
def test_insides_of_checkpoints(command: str, examples: int, trial: Trial) -> None:
    fuzz(examples, lambda spoil: trial(command, files={**ONLY_LAST, LAST: spoil}), checkpoints(trial.stage))


def test_bytes_of_checkpoints(trial: Trial) -> None:
    own = (trial.stage.run / "checkpoints" / "last.ckpt").read_bytes()
    fuzz(3, lambda data: trial("export ckpt_path=run out=new", files={**ONLY_LAST, LAST: data}), mutated(own))
