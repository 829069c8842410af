"""Commands with keys of their own read their lines as `fit` does: the same refusals; some keys go into the config."""

from pathlib import Path

import pytest

from drift_pl.config.evaluate_keys import EvaluateOptions
from drift_pl.config.fields import about_of, all_keys, find_key
from drift_pl.config.help import options_help
from drift_pl.config.loading import config_yaml, parse
from drift_pl.config.options import Options
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError
from drift_pl.export import ExportOptions
from drift_pl.generate import GenerateOptions
from drift_pl.pareto import ParetoOptions

LINES: dict[type[Options], list[str]] = {
    EvaluateOptions: ["ckpt_path=run"],
    ExportOptions: ["ckpt_path=run", "out=there"],
    GenerateOptions: ["ckpt_path=run", "prompt=a dot"],
    ParetoOptions: ["run"],
}
LISTS = {
    EvaluateOptions: "judges=[{name: ocr}, {name: hps}]",
    ExportOptions: "out=[a b]",
    GenerateOptions: "prompt=[a b]",
    ParetoOptions: "diversity=[coverage, vendi]",
}


def refusal(kind: type[Options], *argv: str) -> str:
    with pytest.raises(UserError) as caught:
        kind.parse([*LINES[kind], *argv])
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", LINES)
def test_every_command_refuses_alike(kind: type[Options]) -> None:
    keys = kind.own_keys()
    assert refusal(kind, "qqqqqq=1").startswith(f"unknown key 'qqqqqq': the keys are {', '.join(keys)}")
    assert refusal(kind, f"{keys[-1]}s=1") == f"unknown key '{keys[-1]}s': did you mean '{keys[-1]}'?"
    assert refusal(kind, "--hlep") == "unknown flag '--hlep': did you mean '--help'?"
    assert refusal(kind, f"--{keys[-1]}=1") == f"unknown flag '--{keys[-1]}=1': keys take no dashes, use {keys[-1]}=1"
    assert refusal(kind, "=1").startswith("argument '=1' has no key before '=': use e.g. ")
    key = LISTS[kind].partition("=")[0]
    quoted = f"the shell has split the value of {key}: quote it, '{LISTS[kind]}'"
    assert refusal(kind, *LISTS[kind].split(" ")) == quoted
    assert kind.parse([*LINES[kind], LISTS[kind]])
    if kind is not ParetoOptions:  # there it is a path
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


def test_keys_that_stand_for_the_configs_go_into_it(tmp_path: Path) -> None:
    """The later of two values counts; null leaves it to the run."""
    file = tmp_path / "config.yaml"
    file.write_text(config_yaml(parse(["sampler.eval_importance_power=0.25"]).config))
    argv = ["ckpt_path=run", "prompt=x", "steps=3", "steps=4", "aig=null", "micro_batch=2", "policy.pretrained=base"]
    config = GenerateOptions.parse(argv).config(file)
    assert (config.sampler.eval_steps, config.objective.micro_batch, config.policy.pretrained) == (4, 2, "base")
    assert config.sampler.eval_importance_power == 0.25
    (tmp_path / "mine.txt").write_text("a dot\n")
    argv = ["ckpt_path=[a, b]", f"prompts={tmp_path / 'mine.txt'}", "max_prompts=3", "evaluation.encoder.args.size=1"]
    options = EvaluateOptions.parse(argv)
    config = options.config(file)
    assert options.ckpt_path == ["a", "b"]
    assert (config.prompts.test, config.evaluation.max_prompts) == (f"{tmp_path / 'mine.txt'}", 3)
    assert config.evaluation.encoder.args["size"] == 1
    with pytest.raises(UserError, match=r"^accelerator='tpu' is unknown: use one of auto, cpu"):
        GenerateOptions.parse(["ckpt_path=run", "prompt=x", "accelerator=tpu"])


def test_help_has_the_bounds_and_choices_of_the_configs_keys() -> None:
    for kind in LINES:
        text = " ".join(options_help(kind, width=100).split())
        for key in all_keys(kind):
            if key.name in kind.own_keys():
                assert f" {key.name} " in text
                assert " ".join(str(key.field.description).split()) in text
            reads = about_of(key.field).reads
            assert not reads or find_key(Config, reads), f"{key.name} reads as {reads}, which is no key"
    text = " ".join(options_help(GenerateOptions, width=100).split())
    assert "(one of auto, cpu, gpu, cuda, mps; default: null)" in text
    assert "deterministic steps; null: the run's sampler.eval_steps (at least 1; default: null)" in text
