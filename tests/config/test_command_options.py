"""Commands with keys of their own read their lines as `fit` does: the same refusals; some keys go into the config."""

from pathlib import Path

import pytest

from drift_pl.config.loading import config_yaml, parse
from drift_pl.config.options import Options
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError
from drift_pl.evaluate import EvaluateOptions
from drift_pl.export import ExportOptions
from drift_pl.generate import GenerateOptions
from drift_pl.pareto import ParetoOptions
from drift_pl.report import ReportOptions

LINES: dict[type[Options], list[str]] = {
    EvaluateOptions: ["ckpt_path=run"],
    ExportOptions: ["ckpt_path=run", "out=there"],
    GenerateOptions: ["ckpt_path=run", "prompt=a dot"],
    ParetoOptions: ["run"],
    ReportOptions: ["run"],
}
LISTS = {
    EvaluateOptions: "judges=[{name: ocr}, {name: hps}]",
    ExportOptions: "out=[a b]",
    GenerateOptions: "prompt=[a b]",
    ParetoOptions: "diversity=[coverage, vendi]",
    ReportOptions: "out=[a b]",
}


def refusal(kind: type[Options], *argv: str) -> str:
    with pytest.raises(UserError) as caught:
        kind.parse([*LINES[kind], *argv])
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", LINES)
def test_every_command_refuses_alike(kind: type[Options]) -> None:
    keys = [name for name in kind.model_fields if name != "paths"]
    assert refusal(kind, "qqqqqq=1") == "unknown key 'qqqqqq': --help lists all keys"
    assert refusal(kind, f"{keys[-1]}s=1") == f"unknown key '{keys[-1]}s': did you mean '{keys[-1]}'?"
    assert refusal(kind, "--hlep") == "unknown flag '--hlep': did you mean '--help'?"
    assert refusal(kind, f"--{keys[-1]}=1") == f"unknown flag '--{keys[-1]}=1': keys take no dashes, use {keys[-1]}=1"
    assert refusal(kind, "=1").startswith("argument '=1' has no key before '=': use e.g. ")
    key = LISTS[kind].partition("=")[0]
    quoted = f"the shell has split the value of {key}: quote it, '{LISTS[kind]}'"
    assert refusal(kind, *LISTS[kind].split(" ")) == quoted
    assert kind.parse([*LINES[kind], LISTS[kind]])
    if "paths" not in kind.model_fields:
        assert refusal(kind, keys[-1]).startswith(f"argument '{keys[-1]}' has no '=': use e.g. {keys[-1]}=")


def test_a_prompt_that_the_shell_has_split_is_shown_quoted() -> None:
    with pytest.raises(UserError) as caught:
        GenerateOptions.parse(["ckpt_path=run", "prompt=a", "red", "circle", "n=3"])
    assert str(caught.value) == (
        "argument 'red' has no '=': if it belongs to prompt, quote the whole, 'prompt=a red circle'"
    )


def test_texts_are_taken_as_they_stand() -> None:
    """A prompt is no YAML: quotes, brackets and ${} are the prompt's own."""
    for prompt in ('"Open" on a sign', "'tis", "[a] {b}: c", "${x}", "???", "null"):
        assert GenerateOptions.parse(["ckpt_path=run", f"prompt={prompt}"]).prompt == prompt


SIZE = "evaluation.encoder.args.batch_size=1"


def test_keys_that_stand_for_the_configs_go_into_it(tmp_path: Path) -> None:
    """The later of two values counts; null leaves it to the run."""
    file = tmp_path / "config.yaml"
    file.write_text(config_yaml(parse(["sampler.eval_importance_power=0.25"]).config))
    argv = ["ckpt_path=run", "prompt=x", "steps=3", "steps=4", "aig=null", "micro_batch=2", "policy.pretrained=base"]
    config = GenerateOptions.parse(argv).config(file)
    assert (config.sampler.eval_steps, config.sampler.micro_batch, config.policy.pretrained) == (4, 2, "base")
    assert config.sampler.eval_importance_power == 0.25
    argv = ["ckpt_path=[a, b]", "max_prompts=3", "max_prompts=4", "max_prompts=null", SIZE]
    options = EvaluateOptions.parse(argv)
    config = options.config(file)
    assert options.ckpt_path == ["a", "b"]
    assert config.evaluation.max_prompts == parse([]).config.evaluation.max_prompts, "the run's"
    assert config.evaluation.encoder.args["batch_size"] == 1
    with pytest.raises(UserError, match=r"^accelerator=tpu should be 'auto', 'cpu', .*; use e\.g\. accelerator=auto"):
        GenerateOptions.parse(["ckpt_path=run", "prompt=x", "accelerator=tpu"]).config(file)


def test_help_has_the_bounds_and_choices_of_the_configs_keys() -> None:
    for kind in LINES:
        text = " ".join(kind.help(width=100).split())
        for name in kind.model_fields:
            assert name == "paths" or f" {name} (" in text
        for name, key in kind.run_keys.items():
            assert f" {name}" in text
            assert Config.require_key(key)
    text = " ".join(GenerateOptions.help(width=100).split())
    assert "accelerator (one of auto, cpu, gpu, cuda; default: the run's trainer.accelerator)" in text
    assert "steps (int, at least 1, at most 1000; default: the run's sampler.eval_steps)" in text
