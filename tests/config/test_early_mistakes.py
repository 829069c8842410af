"""Mistakes in names, arguments and files are found before torch is imported, by `--print-config` as well."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from drift_pl.config.early import refuse_missing, things
from drift_pl.config.loading import parse
from drift_pl.core.errors import UserError
from drift_pl.core.registry import TABLES, names

MODULE = """
raise RuntimeError("it was imported")


class Judge:
    def __init__(self, size: int, words: list[str] = []): ...
    def __call__(self, images, prompts): ...


def sharpness(images, prompts, power: float = 1.0): ...
"""
MISTAKES = [
    ("rewards=[{name: 'nowhere:Judge'}]", "rewards.0.name='nowhere:Judge' cannot be imported: No module named 'nowher"),
    ("rewards=[{name: 'broken_judge:Judge'}]", "broken_judge:Judge' cannot be imported: SyntaxError: "),
    ("rewards=[{name: 'early_judge:Jugde'}]", "early_judge.py has no 'Jugde'"),
    ("rewards=[{name: 'early_judge:Judge'}]", "rewards.0.args: missing a required argument: 'size'"),
    ("rewards=[{name: 'early_judge:Judge', args: {size: x}}]", "rewards.0.args.size=x does not fit: 'early_judge:Judg"),
    ("rewards=[{name: 'early_judge:sharpness', args: {power: x}}]", "rewards.0.args.power=x does not fit"),
    ("rewards=[{name: pickscore, args: {pretrained: 5}}]", "rewards.0.args.pretrained=5 does not fit: 'pickscore' tak"),
    ("rewards=[{name: pickscore, args: {processor: ./none}}]", "rewards.0.args.processor=./none: none does not exist"),
    ("rewards=[{name: http_judge}]", "rewards.0.args: missing a required argument: 'url' for 'http_judge'"),
    ("rewards=[{name: http_judge, args: {url: 5}}]", "rewards.0.args.url=5 does not fit: 'http_judge' takes url: str"),
    ("rewards=[{name: http_judge, args: {url: 'http://[::1'}}]", "rewards.args.url is not a url; give one such as htt"),
    ("rewards=[{name: http_judge, args: {url: 'http://a/b', concurrency: 1.5}}]", "rewards.0.args.concurrency=1.5 doe"),
    ("rewards=[{name: http_judge, args: {url: 'http://a/b', concurrency: 0}}]", "concurrency=0 does not fit"),
    ("rewards=[{name: http_judge, args: {url: 'http://a/b', timeout_s: x}}]", "rewards.0.args.timeout_s=x does not fi"),
    ("rewards=[{name: http_judge, args: {url: 'http://a/b', first_wait_s: x}}]", "rewards.0.args.first_wait_s=x does "),
    ("rewards=[{name: http_judge, args: {url: 'http://a/b', metadata: [no.jsonl]}}]", "rewards.0.args.metadata"),
    ("rewards=[{name: chat_judge, args: {url: 'http://a/v1'}}]", "missing a required argument: 'model'"),
    ("evaluation.rewards=[{name: clip_score, args: {normaliser: 0}}]", "evaluation.rewards.0.args.normaliser=0 does n"),
    ("evaluation.rewards=[{name: clip_scor}]", "evaluation.rewards.0.name='clip_scor' is unknown: there are pickscore"),
    ("evaluation.encoder.args.pretrained=./none", "evaluation.encoder.args.pretrained=./none: none does not exist"),
    ("evaluation.encoder.args.batch_size=0", "evaluation.encoder.args.batch_size=0 does not fit: 'pooled' takes"),
    ("evaluation.encoder.args.size=1", "evaluation.encoder.args: got an unexpected keyword argument 'size' for 'poole"),
    ("evaluation.encoder={name: nobody}", "evaluation.encoder.name='nobody' is unknown"),
    ("evaluation.encoder={name: lpips}", "evaluation.encoder.name=lpips gives distances of pairs, and this setting ta"),
    ("evaluation.lpips={name: dino}", "evaluation.lpips.name=dino embeds images, and this setting takes distances of"),
    ("evaluation.lpips.args.pretrained=pkg:nowhere/x", "evaluation.lpips.args.pretrained=pkg:nowhere/x: there is no"),
    ("evaluation.measures=[{name: 'early_judge:Judge'}]", "evaluation.measures.0.args: missing a required argument"),
    ("evaluation.vendi_order=1000", "evaluation.vendi_order=1000 should be less than or equal to 100"),
    ("evaluation.seeds_per_prompt=1000000000", "evaluation.seeds_per_prompt=1000000000 should be less than or equal"),
    ("incentive.shaping={encoders: [], encoder: {name: clip, args: {pretrained: pkg:math/x}}}", "=pkg:math/x: there i"),
    ("incentive.shaping.encoders=[{name: clip, args: {pretrained: null}}]", "incentive.shaping.encoders.0.args.pretra"),
    ("incentive.shaping.encoders=[{name: clip, weight: 0}]", "incentive.shaping.encoders.0.weight=0.0 must be"),
    ("incentive.shaping.encoders=[{name: lpips}]", "incentive.shaping.encoders.0.name=lpips gives distances of pairs"),
    ("policy.pretrained=./none", "policy.pretrained=./none: none does not exist; give a folder that does, or a hub id"),
    ("policy.pretrained=pkg:", "policy.pretrained=pkg:: there is no installed package ''"),
    ("policy.pretrained=pkg:../x", "policy.pretrained=pkg:../x: there is no installed package '..'"),
    ("policy.pretrained=plain", "policy.pretrained=plain: cannot be loaded: model_index.json is missing"),
    ("policy.pretrained=spoilt", "policy.pretrained=spoilt: cannot be loaded: model_index.json is damaged"),
    ("policy.lora.pretrained=./none", "policy.lora.pretrained=./none: none does not exist"),
    ("policy.lora.pretrained=trained", "policy.lora.pretrained=trained is the folder of a run: export it, python -m d"),
    ("policy.family=nowhere.families:Mine", "policy.family='nowhere.families:Mine' cannot be imported: No module name"),
    ("sampler.kind=nowhere:Step", "sampler.kind='nowhere:Step' cannot be imported"),
    ("objective.loss=nowhere:Update", "objective.loss='nowhere:Update' cannot be imported"),
    ("trainer.logger=['nowhere:log']", "trainer.logger.0.name='nowhere:log' cannot be imported"),
    ("trainer.callbacks=[{name: 'lightning.pytorch.callbacks:EarlyStopping'}]", "missing a required argument: 'monito"),
    ("trainer.callbacks=[{name: nobody}]", "trainer.callbacks.0.name='nobody' is unknown: there are diversity_monitor"),
    ("prompts.train=./none.txt", "prompts.train=./none.txt: none.txt does not exist; give a text file with one prompt"),
    ("prompts.test=empty.txt", "prompts.test=empty.txt holds no prompt"),
    ("incentive.prompting={rule: variants, paraphrases: ./none.jsonl}", "incentive.prompting.paraphrases=./none.jsonl"),
    ("incentive.prompting={rule: expansions, vocabulary: ./no.jsonl}", "incentive.prompting.vocabulary=./no.jsonl"),
    (
        "incentive.prompting.writers=[{name: chat, args: {url: nowhere, model: m}}]",
        "incentive.prompting.writers.args.url is not a url",
    ),
    ("incentive={method: gardo, args: {gated_share: x}, shaping: {weight: 0}}", "incentive.args.gated_share=x does no"),
    ("ckpt_path=./none", "ckpt_path=./none: no such file or folder"),
]  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with two modules that cannot be imported, two folders and an empty list."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "early_judge.py").write_text(MODULE)
    (tmp_path / "broken_judge.py").write_text("def f(:\n")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "plain").mkdir()
    (tmp_path / "spoilt").mkdir()
    (tmp_path / "trained" / "checkpoints").mkdir(parents=True)
    (tmp_path / "trained" / "config.yaml").touch()
    (tmp_path / "spoilt" / "model_index.json").write_text("[]")
    return tmp_path


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("argument", "words"), MISTAKES, ids=[argument for argument, _ in MISTAKES])
def test_a_mistake_is_one_line(argument: str, words: str) -> None:
    """Catches in config/early.py: a setting that is not looked at; a thing's name read as its arguments' key."""
    with pytest.raises(UserError) as caught:
        refuse_missing(parse([argument]).config, runs=False)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


PROGRAM = """
import contextlib, io, json, sys
from drift_pl.fit import main

for argument in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["--print-config", argument])
    loaded = sorted({"torch", "numpy", "transformers", "early_judge"} & {*sys.modules})
    print(json.dumps([argument, status, out.getvalue(), err.getvalue(), loaded]))
"""


def test_print_config_finds_them_all_without_torch_and_without_an_import(here: Path) -> None:
    """In one process of its own: what the first of them imported, the last would show.

    Catches in fit.py: checks after the config is printed. Catches in config/early.py: an import for a signature.
    """
    given = json.dumps([argument for argument, _ in MISTAKES])
    environment = os.environ | {"PYTHONPATH": f"{here}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, input=given, capture_output=True, text=True, cwd=here, env=environment, timeout=120)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == [argument for argument, _ in MISTAKES], done.stderr
    for argument, status, out, err, loaded in lines:
        assert (status, out, loaded) == (2, "", []), argument
        assert err.startswith("error: "), argument
        assert err.count("\n") == 1, argument
    assert sorted(path.name for path in here.iterdir()) == sorted(
        ["early_judge.py", "broken_judge.py", "empty.txt", "plain", "spoilt", "trained"]
    )


def test_what_only_a_run_needs_does_not_hinder_print_config(monkeypatch: pytest.MonkeyPatch) -> None:
    """Optional packages and tokens are those of the machine that trains."""
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    monkeypatch.delenv("NO_SUCH_TOKEN", raising=False)
    for argument, words in (
        ("rewards=[{name: ocr}]", "rewards.0 needs the package rapidocr: pip install 'drift-pl[ocr]'"),
        (
            "rewards=[{name: http_judge, args: {url: 'http://a/b', token_env: NO_SUCH_TOKEN}}]",
            "NO_SUCH_TOKEN: this env",
        ),
    ):
        config = parse([argument]).config
        refuse_missing(config, runs=False)
        with pytest.raises(UserError) as caught:
            refuse_missing(config)
        assert words in str(caught.value)


def test_a_command_asks_for_what_it_needs_only() -> None:
    config = parse(["prompts.train=./none.txt", "rewards=[{name: 'nowhere:Judge'}]"]).config
    refuse_missing(config, ["policy.pretrained", "policy.family"])
    for beginning in ("rewards", "prompts"):
        with pytest.raises(UserError):
            refuse_missing(config, [beginning])


def test_everything_that_has_a_name_is_looked_at() -> None:
    """Catches in config/early.py: a kind of the registry that is looked at by nobody."""
    named = [
        *("policy.family=flux", "incentive.shaping.weight=0", "incentive={method: dra, args: {}}"),
        *(
            "incentive.prompting.writers=[{name: chat}]",
            "evaluation.measures=[{name: kid}]",
            "trainer.callbacks=[{name: diversity_monitor}]",
        ),
    ]
    assert {thing.kind for thing in things(parse(named).config)} == TABLES.keys() - {"categories"}


@pytest.mark.parametrize("name", names("reward"))
def test_every_reward_of_this_package_has_arguments_that_are_known_early(name: str) -> None:
    args = (
        {"nothing": 1} | ({"url": "http://a/b"} if "judge" in name else {}) | ({"model": "m"} if "chat" in name else {})
    )
    with pytest.raises(UserError, match=r"rewards\.0\.args: got an unexpected keyword argument 'nothing'"):
        refuse_missing(parse([f"rewards=[{json.dumps({'name': name, 'args': args})}]"]).config, ["rewards"], runs=False)
