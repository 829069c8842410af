"""What the command line refuses, and in which words: one line, status 2, nothing written."""

import shlex
from pathlib import Path

import pytest

from drift_pl.config import experiments as experiment_files
from drift_pl.config.command import run_command
from drift_pl.config.loading import Request, parse
from drift_pl.config.schema import Config
from drift_pl.config.section import all_keys
from drift_pl.core.errors import UserError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of experiments, and an empty working folder."""
    experiments, elsewhere = tmp_path / "experiments", tmp_path / "elsewhere"
    experiments.mkdir()
    elsewhere.mkdir()
    (experiments / "shapes_div.yaml").write_text("rewards: [{name: pickscore}, {name: jpeg_compressibility}]\n")
    (experiments / "shapes_flowgrpo.yaml").write_text("base: shapes_div\n")
    monkeypatch.setattr(experiment_files, "experiments_folder", lambda: experiments)
    monkeypatch.chdir(elsewhere)
    return experiments


def config_of(*overrides: str) -> Config:
    return parse(list(overrides)).config


def message_of(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        parse(list(overrides))
    return str(caught.value)


BAD = [
    ("experiment=nope", "experiment=nope: no such experiment; use one of shapes_div, shapes_flowgrpo, or the path"),
    ("experiment=", "experiment=: no such experiment; use one of"),
    ("experiment=../shapes_div", "experiment=../shapes_div: no such experiment; did you mean 'shapes_div'? use one of"),
    (
        "experiment=gone.yaml",
        "experiment=gone.yaml: no such file; use one of shapes_div, shapes_flowgrpo",
    ),
    ("samplr=1", "unknown key 'samplr': did you mean 'sampler'?"),
    ("samplr.steps=1", "unknown key 'samplr.steps': did you mean 'sampler.steps'?"),
    ("sampler.step=1", "unknown key 'sampler.step': did you mean 'sampler.steps'?"),
    ("sampler={stepps: 4}", "unknown key 'sampler.stepps': did you mean 'sampler.steps'?"),
    ("group_size=4", "unknown key 'group_size': did you mean 'prompts.group_size'?"),
    ("rewards.weight=2", "unknown key 'rewards.weight': did you mean 'rewards.0.weight'?"),
    ("rewards.1.weigth=2", "unknown key 'rewards.1.weigth': did you mean 'rewards.1.weight'?"),
    ("seed=!!bool abc", "seed=!!bool abc: not a YAML value (a tag, !!..., does not fit its value: leave it out)"),
    ('seed=!!float ""', 'seed=!!float "": not a YAML value (a tag, !!..., does not fit its value: leave it out)'),
    (
        "seed=!!timestamp abc",
        "seed=!!timestamp abc: not a YAML value (a tag, !!..., does not fit its value: leave it out)",
    ),
    (
        "sampler.micro_batch=99999999999999999999",
        "sampler.micro_batch=99999999999999999999 has too many digits; use e.g",
    ),
    ("seed.deep=2", "unknown key 'seed.deep': did you mean 'seed'?"),
    ("qqqqqq=2", "unknown key 'qqqqqq': --help lists all keys"),
    ("rewards=[{name:jpeg}]", "a mapping needs a blank after its colon, e.g. {name: jpeg_compressibility}"),
    (
        "policy.family=flux2",
        "policy.family=flux2 should be one of sd3, flux, zimage, qwen_image, flux2_klein, sana, wan, sd15, sdxl",
    ),
    (
        "policy.dtype=bf16",
        "policy.dtype=bf16 should be 'float32', 'bfloat16' or 'float16'; use e.g. policy.dtype=float32",
    ),
    ("sampler.kind=flow_sd", "sampler.kind=flow_sd should be one of flow_sde, dance_sde, flow_cps, ddim, their_"),
    ("policy.quantisation=int4", "policy.quantisation=int4 should be 'bitsandbytes_4bit' or"),
    ("policy={family: flux, negative_prompt: bad}", "policy.negative_prompt='bad': policy.family=flux has no branch"),
    (
        "trainer.logger=[qqqq]",
        "trainer.logger.0.name=qqqq should be one of tensorboard, csv, wandb, their_package.module:Thing; "
        "use e.g. trainer.logger.0.name=tensorboard\n",
    ),
    ("trainer.progress=line", "should be 'auto', 'bar', 'lines' or 'none'; use e.g. trainer.progress=lines\n"),
    ("evaluation.extra=rke", "evaluation.extra=rke should be a valid list; use e.g. evaluation.extra=[rke]\n"),
    (
        "incentive.shaping.encoder=dino",
        "incentive.shaping.encoder=dino should be a section of keys; use e.g. incentive.shaping.encoder.name=dino\n",
    ),
    ("policy.resolution=x", "policy.resolution=x should be a valid integer; use e.g. policy.resolution=512\n"),
    ("seed=abc", "seed=abc should be a valid integer; use e.g. seed=0"),
    ("seed=yes", "seed=yes should be a valid integer"),
    ("seed=true", "seed=true should be a valid integer"),
    ("seed=1.5", "seed=1.5 should be a valid integer"),
    ("seed=", "seed=null should be a valid integer"),
    ("seed=[1", "seed=[1: not a YAML value"),
    ("sampler.steps=1e1", "sampler.steps=10.0 should be a valid integer; use e.g. sampler.steps=10"),
    ("sampler.window_size=x", "sampler.window_size=x should be a valid integer; use e.g. sampler.window_size=8"),
    (
        "objective.clip_range=small",
        "objective.clip_range=small should be a valid number; use e.g. objective.clip_range=0.0001",
    ),
    ("objective.clip_range=true", "objective.clip_range=true should be a valid number"),
    (
        "objective.clip_range=nan",
        "objective.clip_range=nan should be a valid number; use e.g. objective.clip_range=0.0001",
    ),
    (
        "objective.clip_range=.inf",
        "objective.clip_range=.inf: not a YAML value (inf is not a finite number); use e.g. objective",
    ),
    ("objective.clip_range=-inf", "objective.clip_range=-inf should be a valid number"),
    ("rewards.0.args.x=.nan", "rewards.0.args.x=.nan: not a YAML value (nan is not a finite number)"),
    (
        "trainer.progress=maybe",
        "trainer.progress=maybe should be 'auto', 'bar', 'lines' or 'none'; use e.g. trainer.progress=auto",
    ),
    ("trainer.progress=2", "trainer.progress=2 should be 'auto', 'bar', 'lines' or 'none'"),
    ("trainer.logger=csv", "trainer.logger=csv should be a valid list; use e.g. trainer.logger=[tensorboard]"),
    (
        "policy.lora.targets=[to_q, 3]",
        "policy.lora.targets.1=3 should be a valid string; use e.g. policy.lora.targets=[to_q,",
    ),
    ("sampler=5", "sampler=5 should be a section of keys; use e.g. sampler.kind=flow_sde"),
    ("rewards=jpeg", "rewards=jpeg should be a valid list; use e.g. rewards=[{name: jpeg_compressibility}]"),
    ("rewards=[jpeg]", "rewards.0=jpeg should be a section of keys; use e.g. rewards=[{name: jpeg_compressibility}]"),
    ("rewards=[{weight: 2}]", "rewards.0.name is missing; use e.g. rewards.0.name=jpeg_compressibility"),
    ("rewards=[]", "rewards is empty"),
    (
        "rewards.2.weight=1",
        "rewards.2: rewards has 2 entries, counted from 0; give it whole, e.g. rewards=[{name: jpeg_compr",
    ),
    ("rewards.-1.weight=1", "rewards.-1: rewards has 2 entries"),
    (
        "evaluation.rewards.0.weight=1",
        "evaluation.rewards.0: evaluation.rewards has 0 entries, counted from 0; give it whole, e.g. evalu",
    ),
    (
        "prompts.group_size=1",
        "prompts.group_size=1 should be greater than or equal to 2; use e.g. prompts.group_size=16",
    ),
    ("prompts.per_iteration=3", "use a multiple of 2, e.g. 2 or 4"),
    (
        "objective.kl_form=other",
        "objective.kl_form=other should be 'exact', 'flow_grpo' or 'mean'; use e.g. objective.kl_form=exact",
    ),
    ("seed=${nope}", "seed: Interpolation key 'nope' not found; use e.g. seed=0"),
    ("shapes_div", "argument 'shapes_div' has no '=': use e.g. experiment=shapes_div"),
    ("seed", "argument 'seed' has no '=': use e.g. seed=0"),
    ("smapler.steps", "argument 'smapler.steps' has no '=': use e.g. sampler.steps=10"),
    ("=3", "argument '=3' has no key before '=': use e.g. experiment=shapes_div"),
    ("--seed=1", "unknown flag '--seed=1': keys take no dashes, use seed=1"),
    ("--print_config", "unknown flag '--print_config': did you mean '--print-config'?"),
    ("--prin-config", "unknown flag '--prin-config': did you mean '--print-config'?"),
    ("seed=[&a [*a]]", "seed=[&a [*a]]: not a YAML value (its aliases stand for too much); use e.g. seed=0"),
    (f"seed={'[' * 2000}", "not a YAML value"),
    (f"seed={'9' * 5000}", "not a YAML value"),
    ("rewards.0.args={a: 1, a: 2}", "not a YAML value (found duplicate key a)"),
    ("rewards.0.args={1: a}", "rewards.0.args.1=1 should be a valid string"),
    ("policy.args={a: 1}", "policy.args is for policy.family=their_package.module:Thing, and sd3 takes the keys of"),
    ("sampler.args={a: 1}", "sampler.args is for sampler.kind=their_package.module:Thing"),
    ("objective.args={a: 1}", "objective.args is for objective.loss=their_package.module:Thing"),
    ("incentive.args={a: 1}", "incentive.args is for a rival method: name one, e.g. incentive.method=gardo"),
    (
        "incentive={method: gardo, shaping: {weight: 1}}",
        "has its own diversity term: set incentive.shaping.weight=0",
    ),
    (
        "evaluation.extra=[mine.module:Thing]",
        "evaluation.extra=[mine.module:Thing] should be a list of rke, nearest_distance",
    ),
    (
        "trainer.logger=[csvv]",
        "trainer.logger.0.name=csvv should be one of tensorboard, csv, wandb, their_package.module:Thing; "
        "use e.g. trainer.logger.0.name=csv\n",
    ),
    (
        "sampler.kind=ddim",
        "sampler.kind=ddim is for policy.family=sd15 or sdxl, and sd3 is a flow model: use e.g. flow_",
    ),
    ("policy.family=sdxl", "sampler.kind=flow_sde is for flow models, and policy.family=sdxl is not one: use d"),
    ("objective.ema_decay=1", "objective.ema_decay=1 should be less than 1; use e.g. objective.ema_decay=0.9"),
    (
        "incentive.prompting.share=2",
        "incentive.prompting.share=2 should be less than or equal to 1; use e.g. incentive.prompting.share=0.5",
    ),
    (
        "incentive.selection.keep=1",
        "incentive.selection.keep=1 does not lie in [2, prompts.group_size=16]: use e.g. 16",
    ),
    ("incentive.selection.low=0.95", "must satisfy 0 <= low < high <= 1, e.g. 0 and 0.9"),
    ("incentive.prompting.low=0.95", "must satisfy 0 <= low < high <= 1, e.g. 0.6 and 0.9"),
    ("sampler.window_size=10", "sampler.window_size=10 does not fit into [0,9): use 1 to 9"),
    ("sampler.window_range=[1]", "sampler.window_range=[1] needs two numbers, e.g. [0,9]"),
    (
        "sampler.eval_importance_power=-1",
        "sampler.eval_importance_power=-1 should be greater than or equal to 0; use e.g. sampler.eval_importance_",
    ),
    (
        "--verbose",
        "unknown flag '--verbose': the flags are --help, -h, --version, --debug, --print-config; keys are",
    ),
]


@pytest.mark.parametrize(("argument", "words"), BAD, ids=[argument for argument, _ in BAD])
def test_bad_argument_is_one_line_status_2_and_writes_nothing(
    argument: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches: a misspelt key ignored.

    Catches in config/fields.py: the first choice in place of the one that was meant; a name in place of a list of
    names; a word in place of a choice.
    """
    assert run_command(lambda argv: _consume(parse(argv)), [argument]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    assert words in output.err
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("rewards=[{name: jpeg}, {name: ocr}]", "the shell has split the value of rewards: quote it, "),
        (
            "policy.negative_prompt=a bad picture",
            "argument 'bad' has no '=': if it belongs to policy.negative_prompt, ",
        ),
        ("seed=1 incentive.shaping.encoder={name: clip}", "the shell has split the value of incentive.shaping.encoder"),
    ],
)
def test_what_the_shell_has_split_is_shown_quoted(words: str, message: str) -> None:
    """Every word is an argument, as without quotes; the message ends with what is to be typed."""
    found = message_of(*words.split(" "))
    assert message in found
    whole = words.removeprefix("seed=1 ")
    assert found.endswith(f", '{whole}'")
    assert shlex.split(found.rpartition(", '")[2].join(["'", ""])) == [whole]


def _consume(request: Request) -> None:
    raise AssertionError(f"{request} was accepted")


# text is taken as it stands, so nothing is of the wrong type there
CHECKED = [name.replace(".N.", ".0.") for name, key in all_keys(Config).items() if not key.is_text]


@pytest.mark.parametrize("key", CHECKED)
def test_every_wrong_type_names_an_argument_that_works(key: str) -> None:
    entries = "[{name: a}]"
    named = ("rewards", "evaluation.rewards", "evaluation.measures", "incentive.shaping.encoders", "trainer.callbacks")
    lists = [f"{name}={entries}" for name in named]
    lists += ["evaluation.measures=[{name: b}]"]  # a measure is no reward
    lists += ["sampler.steps=20", f"incentive.shaping.weight={int(key == 'incentive.shaping.target')}"]
    lists += ["incentive.prompting.rule=expansions", "incentive.prompting.writers=[{name: chat}]"] * ("writers" in key)
    name = {"policy.args": "family", "sampler.args": "kind", "objective.args": "loss"}.get(key)
    if name:
        lists.append(f"{key.removesuffix('args')}{name}=their.module:Thing")
    if key == "incentive.args":
        lists.append("incentive.method=dra")
    example = message_of(*lists, f"{key}=[[[").rpartition("use e.g. ")[2]
    assert example.startswith(f"{key}.") or example.startswith(f"{key}=")
    config_of(*lists, example)


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("seed: [1\nsampler:\n", "bad.yaml: not a YAML file (line 2: "),
        ("seed: 1\nseed: 2\n", "bad.yaml: not a YAML file (line 2: found duplicate key seed)"),
        (BOMB, "its aliases stand for too much)"),
        ("- 1\n", "bad.yaml: an experiment file holds keys, e.g. `seed: 1`, not a list"),
        ("sampler: {stepps: 4}\n", "bad.yaml: unknown key 'sampler.stepps': did you mean 'sampler.steps'?"),
        (
            "sampler: {steps: four}\n",
            "bad.yaml: sampler.steps=four should be a valid integer; use e.g. sampler.steps=10",
        ),
        (
            "policy: {pretrained: 3}\n",
            "bad.yaml: policy.pretrained=3 should be a valid string; use e.g. policy.pretrained=pkg:",
        ),
        ("base: 3\n", "bad.yaml: base=3 is not the name of an experiment"),
        ("base: nope\n", "base=nope: no such experiment"),
        ("base: bad\n", "experiment files are each other's base: bad.yaml -> bad.yaml"),
        ("base: other\n", "experiment files are each other's base: bad.yaml -> other.yaml -> bad.yaml"),
    ],
)
def test_bad_experiment_file_is_named(folder: Path, content: str, words: str) -> None:
    (folder / "bad.yaml").write_text(content)
    (folder / "other.yaml").write_text("base: bad\n")
    message = message_of("experiment=bad")
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["sampler.noise_level=1.2"], "sampler.noise_level=1.2: flow_cps takes an angle in (0, 1], e.g. 0.8"),
        (["sampler.noise_level=0.8", "sampler.noisy_last_step=true"], "flow_cps has no noise in its last step"),
    ],
)
def test_what_flow_cps_cannot_do(overrides: list[str], words: str) -> None:
    """Catches in config/schema_model.py: Flow-CPS with an angle above a right one."""
    assert words in message_of("sampler.kind=flow_cps", *overrides)
    config_of("sampler.kind=flow_sde", *overrides)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["policy.guidance_scale=4.5"], "set policy.guidance_scale=1 (and sampler.eval_guidance_scale=4.5 to evaluate"),
        (["policy.family=sd15", "sampler.kind=ddim"], "is for flow models, and policy.family=sd15 is not one: use"),
        (["incentive.shaping.form=per_step", "incentive.shaping.weight=1"], "per_step needs sampled steps"),
        (["incentive.method=diverse_grpo", "incentive.shaping.weight=0"], "diverse_grpo diverges in early steps only"),
        (
            ["objective.nft_times=0"],
            "objective.nft_times=0 should be greater than or equal to 1; use e.g. objective.nft_times=4",
        ),
        (["objective.nft_beta=0"], "objective.nft_beta=0 should be greater than 0; use e.g. objective.nft_beta=1.0"),
    ],
)
def test_what_nft_cannot_do(overrides: list[str], words: str) -> None:
    plain = ["policy.guidance_scale=1", "objective.loss=nft"]
    assert words in message_of(*plain, *overrides)
    config_of(*plain)
    if not overrides[0].startswith("objective"):
        config_of(*plain, *overrides, "objective.loss=surrogate")


def test_guidance_as_an_input_is_not_a_mixture() -> None:
    """FLUX's network takes the guidance scale as an input: its velocity is its own at any."""
    config_of("policy={family: flux, guidance_scale: 3.5}", "objective.loss=nft")


def test_a_file_that_is_not_text(folder: Path) -> None:
    (folder / "bad.yaml").write_bytes(b"\xff\xfe\x00seed")
    assert "not a YAML file" in message_of("experiment=bad")
