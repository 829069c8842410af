"""Rewards, encoders, measures, callbacks and loggers of the user's, urls, and what files ask for without trust."""

from campaign.inputs.rows import Row, row, with_files

MODULE = "mine.py"
REWARD = "fit 'rewards=[{name: \"mine:thing\"}]'"


def reward(code: str, *says: str, begins: bool = True, line: str = REWARD) -> Row:
    """A reward of the working folder; one that fails when it is called does so when the base model is measured."""
    return with_files({MODULE: code}, line, *says, begins=begins)


def answer(expression: str, *says: str) -> Row:
    """A reward whose answer cannot be used."""
    code = f"import torch\n\ndef thing(images, prompts):\n    n = len(images)\n    return {expression}\n"
    return reward(code, "'thing'", *says)


FINE = "\n\ndef thing(images, prompts):\n    return [0.0] * len(images)\n"
CALL = "\n    def __call__(self, images, prompts):\n        return [0.0] * len(images)\n"

UNKNOWN = [
    row("fit rewards.0.name=picscore", "rewards.0.name", "did you mean 'pickscore'?"),
    row("fit rewards.0.name=''", "rewards.0.name"),
    row("fit rewards.0.name=nobody", "rewards.0.name", "jpeg_compressibility"),
    row("fit rewards.0.name=no_such_module:Thing", "rewards.0.name", "no_such_module"),
    row("fit rewards.0.name=no.such.module:Thing", "rewards.0.name"),
    row("fit rewards.0.name=os:no_such_thing", "rewards.0.name"),
    row("fit rewards.0.name=os:sep", "rewards.0.name", "is not a class or a function"),
    row("fit rewards.0.name=:Thing", "rewards.0.name"),
    row("fit rewards.0.name=os:", "rewards.0.name"),
    row("fit rewards.0.name=.:Thing", "rewards.0.name"),
    row("fit rewards.0.name=a:b:c", "rewards.0.name"),
    row("fit 'rewards.0.name=my module:Thing'", "rewards.0.name"),
    row("fit 'rewards=[{name: jpeg_compressibility, args: {qualty: 3}}]'", "rewards.0.args", "quality"),
    row("fit 'rewards=[{name: jpeg_compressibility, args: {quality: high}}]'", "quality"),
    row("fit 'rewards=[{name: jpeg_compressibility, args: {quality: 0}}]'", "quality"),
    row("fit 'rewards=[{name: ocr}]'", "rewards.0", "drift-pl[ocr]"),
    row("fit 'evaluation.rewards=[{name: nobody}]'", "evaluation.rewards.0.name"),
    row("fit 'evaluation.measures=[{name: nobody}]'", "evaluation.measures.0.name"),
    row("fit evaluation.encoder.name=nobody", "evaluation.encoder.name"),
    row("fit evaluation.lpips.name=nobody", "evaluation.lpips.name"),
    row("fit incentive.shaping.encoder.name=nobody", "incentive.shaping.encoder.name", "dino"),
    row("fit 'incentive.shaping.encoders=[{name: nobody}]'", "incentive.shaping.encoder"),
    row("fit 'incentive.shaping.encoders=[{name: dino, args: {pretrained: WORLD/shaping}, weight: 0}]'", "weight"),
    row("fit objective.loss=nobody:Thing", "objective.loss", "nobody"),
    row("fit sampler.kind=nobody:Thing", "sampler.kind", "nobody"),
    row("fit policy.family=os:getcwd", "policy.family=os:getcwd makes a str, which is no policy", warned=1),
    row("fit 'trainer.callbacks=[{name: nobody}]'", "trainer.callbacks.0.name", "diversity_monitor"),
    row("fit 'trainer.callbacks=[{name: \"os:getcwd\"}]'", "trainer.callbacks.0"),
    row("fit 'trainer.callbacks=[{name: \"os:sep\"}]'", "trainer.callbacks.0"),
    row("fit 'trainer.logger=[\"nobody:Thing\"]'", "trainer.logger"),
    row("fit 'trainer.logger=[wandbb]'", "trainer.logger.0.name=wandbb should be one of tensorboard, csv, wandb"),
    row("evaluate ckpt_path=RUN out=mine.json 'judges=[{name: \"nobody:Thing\"}]'", "judges.0.name"),
    row("evaluate ckpt_path=RUN out=mine.json evaluation.encoder.name=nobody", "evaluation.encoder.name"),
]

MODULES = [
    reward("def thing(images, prompts)\n", "rewards.0.name", begins=False),
    reward(
        "raise RuntimeError('broken')\n" + FINE,
        "rewards.0.name",
        "broken",
        begins=False,
    ),
    reward(
        "import no_such_package\n" + FINE,
        "rewards.0.name",
        "no_such_package",
        begins=False,
    ),
    reward("1 / 0\n", "rewards.0.name", begins=False),
    reward("import sys\nsys.exit(0)\n", "rewards.0.name", begins=False),
    reward("", "rewards.0.name", "thing", begins=False),
    reward("thing = 5\n", "rewards.0.name", "is not a class or a function", begins=False),
    reward("thing = None\n", "rewards.0.name", begins=False),
    reward("def thing():\n    pass\n", "rewards.0", begins=False),
    reward("def thing(pictures, texts):\n    pass\n", "rewards.0", begins=False),
    reward("class thing:\n    pass\n", "rewards.0", begins=False),
    reward("class thing:\n    def __init__(self, size):\n        pass\n", "rewards.0", "size", begins=False),
    reward(
        "class thing:\n    def __init__(self):\n        raise ValueError('broken')\n" + CALL,
        "rewards.0",
        "broken",
        begins=False,
    ),
    reward("class thing:\n    def __init__(self):\n        self.x\n", "rewards.0", begins=False),
    reward("class thing:\n    def __call__(self):\n        pass\n", "rewards.0", begins=False),
    with_files({"mine/__init__.py": ""}, REWARD, "rewards.0.name", "thing"),
    with_files({MODULE: b"\xff\xfe\x00"}, REWARD, "rewards.0.name"),
    with_files({"mine.txt": ""}, REWARD, "rewards.0.name", "mine"),
    reward("def thing(images, prompts):\n    raise ValueError('broken')\n", "'thing' failed: ValueError: broken"),
    reward("def thing(images, prompts):\n    return images.cuda().mean((1, 2, 3))\n", "'thing' failed: "),
    reward("def thing(images, prompts):\n    return thing(images, prompts)\n", "'thing' failed: RecursionError"),
    reward("def thing(images, prompts):\n    raise ValueError('a\\nb\\nc')\n", "'thing' failed: ValueError"),
    reward("def thing(images, prompts):\n    assert False\n", "'thing' failed: AssertionError"),
    reward("def thing(images, prompts):\n    raise StopIteration\n", "'thing' failed: StopIteration"),
    reward("def thing(images, prompts):\n    return open('nowhere')\n", "'thing' failed: FileNotFoundError"),
]

ANSWERS = [
    answer("None", "returned NoneType, not one number for each of"),
    answer("'text'", "returned str, not one number for each of"),
    answer("0.5", "returned ()"),
    answer("torch.zeros(n + 1)", "not one number for each of"),
    answer("torch.zeros(n, 1)", "not one number for each of"),
    answer("torch.zeros(0)", "not one number for each of"),
    answer("torch.zeros(1)", "not one number for each of"),
    answer("torch.zeros(n).to_sparse()", "returned a sparse one"),
    answer("torch.zeros(n, device='meta')", "returned a tensor without data"),
    answer("torch.zeros(n, dtype=torch.complex64)", "returned complex numbers"),
    answer("[None] * n", "returned list"),
    answer("['a'] * n", "returned list"),
    answer("[[1.0]] * n", "not one number for each of"),
    answer("{'score': torch.zeros(n)}", "returned dict"),
    answer("(torch.zeros(n), {})", "returned tuple"),
    answer("(x for x in range(n))", "returned generator"),
    answer("torch.full((n,), float('nan'))", "scored none of"),
    answer("torch.full((n,), float('inf'))", "scored none of"),
    answer("torch.zeros(n).numpy() + float('nan')", "scored none of"),
]


def encoder(expression: str, *says: str, place: str = "evaluation.encoder") -> Row:
    """An encoder whose answer cannot be used."""
    code = f"import torch\n\ndef thing(images):\n    n = len(images)\n    return {expression}\n"
    return with_files({MODULE: code}, f"fit {place}.name=mine:thing", place, *says, begins=True)


ENCODERS = [
    encoder("None", "returned NoneType, not one row of numbers for each of"),
    encoder("torch.zeros(n)", "not one row of numbers for each of"),
    encoder("torch.zeros(n + 1, 4)", "not one row of numbers for each of"),
    encoder("torch.zeros(n, 0)", "not one row of numbers for each of"),
    encoder("torch.zeros(n, 2, 2)", "not one row of numbers for each of"),
    encoder("torch.full((n, 4), float('nan'))", "returned NaN or infinity for all"),
    encoder("1 / 0", "ZeroDivisionError"),
    with_files(
        {MODULE: "def thing(images, prompts):\n    return None\n"},
        "fit 'evaluation.measures=[{name: \"mine:thing\"}]'",
        "thing",
        begins=True,
    ),
    with_files(
        {MODULE: "def thing(images, prompts):\n    raise ValueError('broken')\n"},
        "fit 'evaluation.measures=[{name: \"mine:thing\"}]'",
        "broken",
        begins=True,
    ),
    with_files(
        {MODULE: "class thing:\n    pass\n"}, "fit 'trainer.callbacks=[{name: \"mine:thing\"}]'", "trainer.callbacks.0"
    ),
    with_files(
        {MODULE: "def thing(folder):\n    return None\n"}, "fit 'trainer.logger=[\"mine:thing\"]'", "trainer.logger"
    ),
    with_files(
        {MODULE: "def thing(folder):\n    raise ValueError('broken')\n"},
        "fit 'trainer.logger=[\"mine:thing\"]'",
        "trainer.logger",
        "broken",
    ),
]


def server(args: str, *says: str, begins: bool = False) -> Row:
    """A reward of a server with wrong arguments."""
    args = args.replace("'", '"')  # the whole argument stands in single quotes
    return row(f"fit 'rewards=[{{name: http_judge, args: {{{args}}}}}]'", *says, begins=begins)


URL = "url: 'http://127.0.0.1:9/score'"
CHAT = 'url: "http://127.0.0.1:9", model: a'
SERVERS = [
    row("fit 'rewards=[{name: http_judge}]'", "rewards.0.args", "url"),
    server("url: ''", "url"),
    server("url: nonsense", "url"),
    server("url: 'ftp://host/x'", "url"),
    server("url: 'http://'", "url"),
    server("url: 'http:///path'", "url"),
    server("url: 5", "url"),
    server("url: null", "url"),
    server("url: ['http://a']", "url"),
    server("url: 'http://[::1'", "url"),
    server("url: 'http://host:99999/x'", "url"),
    server("url: 'http://host:port/x'", "url"),
    server("url: 'http://user:word@host/x'", "url", "token_env"),
    server("url: 'http://host/x?key=1'", "url", "oc.env"),
    server("url: 'file:///etc/passwd'", "url"),
    server(f"{URL}, concurrency: 0", "concurrency"),
    server(f"{URL}, concurrency: '4'", "concurrency"),
    server(f"{URL}, concurrency: 1.5", "concurrency"),
    server(f"{URL}, attempts: 0", "attempts"),
    server(f"{URL}, timeout_s: x", "timeout_s"),
    server(f"{URL}, timeout_s: -1", "timeout_s"),
    server(f"{URL}, deadline_s: 0", "deadline_s"),
    server(f"{URL}, first_wait_s: -1", "first_wait_s"),
    server(f"{URL}, first_wait_s: x", "first_wait_s"),
    server(f"{URL}, batch_size: 0", "batch_size"),
    server(f"{URL}, normaliser: 0", "normaliser"),
    server(f"{URL}, token_env: NO_SUCH_TOKEN", "token_env=NO_SUCH_TOKEN", "export NO_SUCH_TOKEN="),
    server(f"{URL}, token_env: 5", "token_env"),
    server(f"{URL}, metadata: 5", "metadata"),
    server(f"{URL}, metadata: nowhere.jsonl", "metadata", "nowhere.jsonl"),
    server(f"{URL}, more: 1", "rewards.0.args", "more"),
    server(f"{URL}, attempts: 1, deadline_s: 5", "http://127.0.0.1:9/score", begins=True),
    row("fit 'rewards=[{name: chat_judge}]'", "rewards.0.args"),
    row(
        "fit 'rewards=[{name: chat_judge, args: {url: \"http://127.0.0.1:9\", model: a, lowest: 5, highest: 1}}]'",
        "highest",
    ),
    row("fit 'rewards=[{name: chat_judge, args: {url: \"http://127.0.0.1:9\", model: a, template: x}}]'", "template"),
]


def foreign(text: str, *says: str) -> list[Row]:
    """A file of somebody else's that asks for what needs trust."""
    file = {"theirs/config.yaml": f"base: shapes_drift\n{text}\n"}
    lines = ("resume experiment=theirs/config.yaml", "resume experiment=theirs/config.yaml --print-config")
    return [with_files(file, line, "add trust=true", *says) for line in lines]


TRUST = [
    *foreign("rewards: [{name: 'os:system', args: {command: touch ran}}]", "rewards.0.name=os:system is code"),
    *foreign("evaluation: {encoder: {name: 'subprocess:run'}}", "evaluation.encoder.name=subprocess:run is code"),
    *foreign("trainer: {callbacks: [{name: 'os:abort'}]}", "trainer.callbacks.0.name=os:abort is code"),
    *foreign("policy: {family: 'mine:Family'}", "policy.family=mine:Family is code"),
    *foreign("sampler: {kind: 'mine:Step'}", "sampler.kind=mine:Step is code"),
    *foreign("objective: {loss: 'mine:Loss'}", "objective.loss=mine:Loss is code"),
    *foreign("rewards: [{name: 'drift_pl.core.registry:create'}]", "is code"),
    *foreign("rewards: [{name: 'drift_pl.core.locate:importlib'}]", "is code"),
    *foreign("policy: {pretrained: 'pkg:theirs/x'}", "policy.pretrained=pkg:theirs/x reads files"),
    *foreign("prompts: {train: 'pkg:theirs/x.txt'}", "prompts.train=pkg:theirs/x.txt reads files"),
    *foreign("policy: {negative_prompt: '${oc.env:HOME}'}", "reads an environment variable"),
    *foreign("policy: {negative_prompt: 'a ${oc.env:HOME,x} b'}", "reads an environment variable"),
    *foreign(
        "rewards: [{name: http_judge, args: {url: 'https://h/x', token_env: HOME}}]", "is sent the content of HOME"
    ),
]

ENVIRONMENT = [
    row("fit", "SLURM", env={"SLURM_NTASKS": "4", "SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "a"}),
    row("fit", "cannot be used here", env={"SLURM_NTASKS": "x", "SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "a"}),
    row("fit 'seed=${oc.env:SEED}'", "seed=3x should be a valid integer", env={"SEED": "3x"}),
    row("fit 'policy.pretrained=${oc.env:MODEL}'", "does not exist", env={"MODEL": "./nowhere"}),
    row("fit 'prompts.train=${oc.env:LIST}'", "no such file", env={"LIST": "nowhere.txt"}),
]

KINDS = {
    "unknown names": UNKNOWN,
    "modules of rewards": MODULES,
    "answers of rewards": ANSWERS,
    "encoders and hooks": ENCODERS,
    "servers": SERVERS,
    "trust": TRUST,
    "environment": ENVIRONMENT,
}
