"""What takes an import to know is refused before any weights are read, and nothing is written."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import diffusers
import pytest
import torch
import transformers
from omegaconf import OmegaConf
from runs import TinyWorld

from drift_pl.builders import checkpoint_weights
from drift_pl.evaluate import main as evaluate
from drift_pl.export import main as export
from drift_pl.fit import main as fit
from drift_pl.generate import main as generate

MAX_AT_K = "incentive={method: max_at_k, selection: {rule: none}, shaping: {weight: 0}"
MODULE = """
import functools

import lightning

from drift_pl.sampling.stochastic import StochasticStep


def made(kind):
    return kind


@made
class Hidden:
    def __init__(self, size: int): ...
    def __call__(self, images, prompts): ...


class Silent:
    pass


class Fails:
    def __init__(self):
        raise RuntimeError("no connection\\nto the moon")

    def __call__(self, images, prompts): ...


class Leaves(Fails):
    def __init__(self):
        raise SystemExit(0)


def makes_a_number(size=3):
    return size


class Loss:
    def __init__(self, size: int): ...


class Step(StochasticStep):
    def __init__(self, size: int): ...


@made
class Callback(lightning.Callback):
    def __init__(self, size: int = 1): ...


def makes_no_callback():
    return 5
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules of a user: one that can be imported, and two that cannot."""
    (tmp_path / "late_judge.py").write_text(MODULE)
    (tmp_path / "raises_judge.py").write_text("class Judge: ...\nraise KeyError('no such table')\n")
    (tmp_path / "leaves_judge.py").write_text("class Judge: ...\nimport sys\nsys.exit(0)\n")
    (tmp_path / "needs_judge.py").write_text("import a_package_that_is_not_there\nclass Judge: ...\n")
    (tmp_path / "one.jsonl").write_text('{"prompt": "a red dot", "paraphrases": ["one dot"]}\n')
    (tmp_path / "words.jsonl").write_text('{"attribute": "mood", "words": ["now"]}\n{"template": "a {mood} dot"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("late_judge", "raises_judge", "leaves_judge", "needs_judge"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return TinyWorld.create(tmp_path_factory.mktemp("world"))


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever reads weights fails the test."""

    def read(*args: object, **kwargs: object) -> None:
        raise AssertionError("weights were read")

    for kind in (transformers.PreTrainedModel, transformers.AutoModel, diffusers.DiffusionPipeline):
        monkeypatch.setattr(kind, "from_pretrained", read)
    monkeypatch.setattr(torch, "load", read)
    monkeypatch.setattr(checkpoint_weights, "read_checkpoint", read)


def refused(main: Callable[[list[str]], int], argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(argv) == 2
    output = capsys.readouterr()
    assert output.out in ("", "importing libraries ...\n")
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    return output.err


NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="there is an accelerator")
LATE = [
    ("rewards=[{name: 'raises_judge:Judge'}]", "rewards.0.name='raises_judge:Judge' cannot be imported: KeyError: 'n"),
    ("rewards=[{name: 'leaves_judge:Judge'}]", "cannot be imported: SystemExit: 0 ("),
    ("rewards=[{name: 'needs_judge:Judge'}]", "cannot be imported: ModuleNotFoundError: No module named 'a_package_t"),
    ("rewards=[{name: 'needs_judge:Judge'}]", "needs_judge.py, line 1); --debug shows all"),
    ("rewards=[{name: 'late_judge:Hidden'}]", "rewards.0.args: missing a required argument: 'size'"),
    ("rewards=[{name: 'late_judge:Hidden', args: {size: x}}]", "rewards.0.args.size=x does not fit"),
    ("rewards=[{name: 'late_judge:Silent'}]", "rewards.0: 'late_judge:Silent' makes objects that cannot be called; a"),
    ("evaluation.encoder={name: 'drift_pl.scoring.pickscore:PickScore'}", "evaluation.encoder: 'drift_pl.scoring.pic"),
    ("evaluation.rewards=[{name: 'drift_pl.scoring.encoders:PooledEncoder'}]", "is called in another way (too many p"),
    ("evaluation.measures=[{name: 'late_judge:Silent'}]", "evaluation.measures.0: 'late_judge:Silent' makes objects "),
    ("trainer.callbacks=[{name: 'late_judge:Silent'}]", "trainer.callbacks.0.name='late_judge:Silent' is no Callback"),
    ("trainer.callbacks=[{name: 'late_judge:Callback', args: {size: x}}]", "trainer.callbacks.0.args.size=x does not"),
    ("trainer.callbacks=[{name: 'late_judge:makes_no_callback'}]", "makes int, which is no Lightning callback"),
    ("incentive={method: 'late_judge:Silent', shaping: {weight: 0}}", "incentive.method='late_judge:Silent' is no Rew"),
    ("sampler.kind=late_judge:Silent", "sampler.kind='late_judge:Silent' is no StochasticStep: name a subclass of it"),
    ("sampler={kind: 'late_judge:Step', args: {size: x}}", "sampler.args.size=x does not fit"),
    ("objective={loss: 'late_judge:Loss', args: {size: x}}", "objective.args.size=x does not fit"),
    ("incentive={method: diverse_grpo, shaping: {weight: 0}, args: {beta: -1}}", "incentive.args.beta=-1: give a"),
    (f"{MAX_AT_K}, args: {{reward_weight: -1}}}}", "args.reward_weight=-1: give"),
    (f"{MAX_AT_K}, args: {{categories: 5}}}}", "categories=5 is no name with"),
    (
        f"{MAX_AT_K}, args: {{categories: {{name: 'late_judge:Nothing'}}}}}}",
        "incentive.args.categories.name='late_judge:Nothing' cannot be imported",
    ),
    ("incentive.prompting={rule: variants}", "incentive.prompting.rule=variants needs texts: give "),
    ("incentive.prompting={rule: variants, templates: [a thing]}", "templates: 'a thing' has no {prompt}"),
    ("incentive.prompting={rule: variants, templates: ['{prompt}']}", "has another text for none of "),
    ("incentive.prompting={rule: expansions, paraphrases: one.jsonl}", "one.jsonl lacks "),
    ("incentive.prompting={rule: expansions, vocabulary: words.jsonl}", "words.jsonl has no template for "),
    (
        "incentive.prompting={rule: expansions, writers: [{name: 'late_judge:Fails'}]}",
        "incentive.prompting.writers.0",
    ),
    ("policy.family=late_judge:Nothing", "policy.family='late_judge:Nothing' cannot be imported"),
    ("policy.text_encoder_device=nowhere", "policy.text_encoder_device=nowhere cannot be used here (Expected one of "),
    ("policy.text_encoder_device=meta", "policy.text_encoder_device=meta cannot be used here (Cannot copy out of meta"),
    pytest.param("policy.text_encoder_device=cuda", "policy.text_encoder_device=cuda cannot be used", marks=NO_CUDA),
    pytest.param("trainer.accelerator=gpu", "trainer.accelerator=gpu trainer.devices=1 trainer.num_n", marks=NO_CUDA),
    pytest.param("trainer.accelerator=cuda", "use e.g. trainer.accelerator=cpu trainer.devices=1", marks=NO_CUDA),
    pytest.param("policy.quantisation=bitsandbytes_4bit", "policy.quantisation=bitsandbytes_4bit needs", marks=NO_CUDA),
]  # fmt: skip


@pytest.mark.usefixtures("modules", "no_weights")
@pytest.mark.parametrize(("argument", "words"), LATE)
def test_fit_refuses_it_before_any_weights_are_read(
    world: TinyWorld, tmp_path: Path, argument: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches in builders/run.py: the policy, or a reward, loaded before the last name is imported, before a method, an
    update or a sampler refuses its arguments, or before texts for the prompts are there.

    Catches in core/registry.py: a module that calls sys.exit ends the command with status 0.
    """
    argv = [*world.overrides(), argument, f"run_dir={tmp_path / 'run'}", "trainer.iterations=1"]
    assert words in refused(fit, argv, capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("modules", "no_weights")
def test_a_reward_that_is_not_there_is_refused_before_any_weights_are_read(
    world: TinyWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """GARDO's, also where the micro-batch is measured on the whole model."""
    gardo = "incentive={method: gardo, shaping: {weight: 0}, args: {auxiliary: [nobody]}}"
    more = [gardo, "objective.kl_weight=0.1", "objective.micro_batch=auto", f"run_dir={tmp_path / 'run'}"]
    assert "there is no reward 'nobody'" in refused(fit, [*world.overrides(), *more], capsys)


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(
    ("argument", "words"),
    [
        (
            "rewards=[{name: 'late_judge:Fails'}]",
            "rewards.0='late_judge:Fails' cannot be made: RuntimeError: no connecti",
        ),
        ("rewards=[{name: 'late_judge:Leaves'}]", "rewards.0='late_judge:Leaves' cannot be made: SystemExit: 0 ("),
        (
            "rewards=[{name: 'late_judge:makes_a_number'}]",
            "rewards.0: 'late_judge:makes_a_number' makes int, which can",
        ),
        ("evaluation.resolution=21", "evaluation.resolution=21 is not a multiple of"),
        ("policy.resolution=21", "policy.resolution=21 is not a multiple of"),
        ("policy.lora.targets=[nothing]", "policy.lora.targets: nothing match no layer"),
        ("incentive={method: dra, shaping: {weight: 0}, args: {categories: 5}}", "incentive.args"),
    ],
)
def test_fit_refuses_it_before_the_run_begins(
    world: TinyWorld, tmp_path: Path, argument: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches in builders/policy.py: a resolution that the first evaluation refuses, when the folder has files."""
    argv = [*world.overrides(), argument, f"run_dir={tmp_path / 'run'}", "trainer.iterations=1"]
    assert words in refused(fit, argv, capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (evaluate, ["ckpt_path={run}"]),
        (generate, ["ckpt_path={run}", "prompt=a dot", "measure=true", "out={out}"]),
        (export, ["ckpt_path={run}", "out={out}"]),
    ],
    ids=["evaluate", "generate", "export"],
)
@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("policy.pretrained", "./none", "policy.pretrained=./none: none does not exist"),
        ("policy.family", "nowhere:Family", "policy.family='nowhere:Family' cannot be imported: No module named"),
        ("evaluation.encoder.name", "nobody", "evaluation.encoder.name='nobody' is unknown"),
        ("evaluation.encoder.args.batch_size", "0", "evaluation.encoder.args.batch_size=0 does not fit"),
        ("rewards.0.args.pretrained", "/none", "rewards.0.args.pretrained=/none: /none does not exist"),
        ("policy.text_encoder_device", "nowhere", "policy.text_encoder_device=nowhere cannot be used here"),
        pytest.param("trainer.accelerator", "gpu", "accelerator=gpu cannot be used here", marks=NO_CUDA),
    ],
)
def test_so_do_the_commands_on_a_run(
    world: TinyWorld,
    tmp_path: Path,
    main: Callable[[list[str]], int],
    arguments: list[str],
    key: str,
    value: str,
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The run's config is found wrong before its checkpoint, an empty file, is read.

    Catches in config/options.py: names that are looked at by `fit` alone.
    """
    if main is export and not key.startswith(("policy.pretrained", "policy.family")):
        pytest.skip("export needs the policy alone, on the CPU")
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.ckpt").touch()
    assert fit([*world.overrides(), "--print-config"]) == 0
    config = OmegaConf.create(capsys.readouterr().out)
    OmegaConf.update(config, key.replace("rewards.0", "rewards[0]"), int(value) if value.isdigit() else value)
    OmegaConf.save(config, run / "config.yaml")
    argv = [argument.format(run=run, out=tmp_path / "out") for argument in arguments]
    assert words in refused(main, [*argv, "trust=true"], capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


@pytest.mark.parametrize("safe", [False, True])
def test_a_console_script_finds_modules_of_the_working_folder(tmp_path: Path, safe: bool) -> None:
    """As `python -m` does, unless Python was told not to (-P).

    Catches in config/command.py: the script's own folder alone on the path.
    """
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "drift-pl-fit"
    script.write_text("import sys\nfrom drift_pl.fit import main\nsys.exit(main())\n")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "judge_of_here.py").write_text("def redness(images, prompts): ...\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    command = [sys.executable, *(["-P"] if safe else []), str(script), "--print-config"]
    done = subprocess.run(
        [*command, "rewards=[{name: 'judge_of_here:redness'}]"],
        capture_output=True,
        text=True,
        cwd=tmp_path / "here",
        env=environment,
        timeout=60,
    )
    assert done.returncode == (2 if safe else 0), done.stderr
    assert ("No module named 'judge_of_here'" in done.stderr) == safe


def test_a_measure_to_stop_by_that_nobody_logs_is_one_line(
    world: TinyWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lightning notices after the first iterations; the run can be resumed without the callback.

    Catches in config/command.py: an error of Lightning's own callbacks taken for a bug.
    """
    stopping = "trainer.callbacks=[{name: 'lightning.pytorch.callbacks:EarlyStopping', args: {monitor: nothing}}]"
    assert fit([*world.overrides(), stopping, f"run_dir={tmp_path / 'run'}", "trainer.iterations=2"]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    said = "error: trainer.callbacks: EarlyStopping's monitor=nothing is not logged in training: use e.g. monitor="
    assert message.startswith(said)
    assert "/" in message.removeprefix(said)


def test_a_logger_that_fails_is_named(world: TinyWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches in builders/callbacks.py: the accelerator blamed for what a logger raises."""
    argv = [
        *world.overrides(),
        "trainer.logger=[{name: 'fractions:Fraction', args: {numerator: x}}]",
        f"run_dir={tmp_path / 'run'}",
    ]
    assert fit(argv) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error: trainer.logger.0='fractions:Fraction' cannot be made: ValueError: ")
