"""Files that cannot be read: prompt lists, paraphrases, experiment files, and paths of every wrong kind."""

import gzip
import json

from campaign.inputs.rows import Content, Row, fifo, folder, hole, link_to, with_files

PROMPTS = "prompts.train"
LINE = '{"prompt": "a red dot"}\n'
BASE = "base: shapes_drift\n"
DEEP = "[" * 100_000
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)


def prompts(name: str, content: Content, *says: str, key: str = PROMPTS) -> Row:
    """A list of prompts of a wrong kind, for `fit`."""
    return with_files({name: content}, f"fit {key}={name}", f"{key}={name}", *says)


def not_a_list(suffix: str, content: Content) -> Row:
    return prompts(f"list{suffix}", content, "is not a format of prompt lists", ".jsonl", "hf:OWNER/NAME:train:prompt")


PROMPT_FILES = [
    not_a_list(".json", '["a red dot", "a blue bar"]'),
    not_a_list(".csv", "prompt\na red dot\n"),
    not_a_list(".tsv", "prompt\tn\na red dot\t1\n"),
    not_a_list(".yaml", "- a red dot\n"),
    not_a_list(".yml", "- a red dot\n"),
    not_a_list(".parquet", b"PAR1\0\0PAR1"),
    not_a_list(".XLSX", b"PK\x03\x04"),
    not_a_list(".Json", "[]"),
    not_a_list(".txt.gz", gzip.compress(b"a red dot\n")),
    not_a_list(".jsonl.zst", b"\x28\xb5\x2f\xfd"),
    not_a_list(".toml", "prompts = []"),
    not_a_list(".xml", "<a/>"),
    not_a_list(".md.pdf", "%PDF-1.4"),
    not_a_list(".pt", b"\x80\x02"),
    not_a_list(".png", b"\x89PNG"),
    not_a_list(".ipynb", "{}"),
    prompts("utf16.txt", "a red dot\n".encode("utf-16"), "is not a UTF-8 text file", "save it as UTF-8"),
    prompts("utf16le.txt", "a red dot\n".encode("utf-16-le"), "is not a UTF-8 text file", "save it as UTF-8"),
    prompts("utf16be.txt", "a red dot\n".encode("utf-16-be"), "is not a UTF-8 text file", "save it as UTF-8"),
    prompts("utf32.txt", "a red dot\n".encode("utf-32"), "is not a UTF-8 text file", "save it as UTF-8"),
    prompts("latin1.txt", "a café\n".encode("latin-1"), "is not a UTF-8 text file (byte 5 cannot be read)"),
    prompts("binary.txt", bytes(range(256)), "is not a UTF-8 text file"),
    prompts("cut.txt", "a red dot é".encode()[:-1], "is not a UTF-8 text file"),
    prompts("surrogate.txt", b"a \xed\xa0\x80 dot\n", "is not a UTF-8 text file"),
    prompts("nul.txt", b"a\0dot\n", "is not a UTF-8 text file"),
    prompts("empty.txt", "", "holds no prompt", "'a red circle'"),
    prompts("blank.txt", " \n\t\n\u200b\n\ufeff\n", "holds no prompt"),
    prompts("comments.txt", "# a red dot\n  # a blue bar\n", "holds no prompt"),
    prompts("objects.txt", LINE, "line 1: JSON in a text file", ".jsonl"),
    prompts("lists.txt", '["a red dot"]\n', "line 1: JSON in a text file"),
    prompts("mixed.txt", "a red dot\n" + LINE, "line 2: JSON in a text file"),
    prompts("pretty.txt", json.dumps(["a red dot", "a blue bar"], indent=2), "line 1: JSON in a text file"),
    prompts("pretty_objects.txt", json.dumps({"prompts": ["a"]}, indent=2), "line 1: JSON in a text file"),
    prompts("list", '{"a": 1}', "JSON in a text file"),
    prompts("folder.txt", folder, "no such file"),
    prompts("gone.txt", link_to("nowhere.txt"), "gone.txt"),
    prompts("loop.txt", link_to("loop.txt"), "loop.txt"),
    prompts("pipe.txt", fifo, "no such file"),
    prompts("text.jsonl", "a red dot\n", "line 1: not JSON", LINE.strip()[:12]),
    prompts("text.ndjson", "a red dot\n", "line 1: not JSON"),
    prompts("text.JSONL", "a red dot\n", "line 1: not JSON"),
    prompts("strings.jsonl", '"a red dot"\n', "line 1: needs the field 'prompt'"),
    prompts("numbers.jsonl", "1\n2\n", "line 1: needs the field 'prompt'"),
    prompts("null.jsonl", "null\n", "line 1: needs the field 'prompt'"),
    prompts("array.jsonl", '[{"prompt": "a"}]\n', "line 1: needs the field 'prompt'"),
    prompts("no_prompt.jsonl", LINE + '{"text": "a blue bar"}\n', "line 2: needs the field 'prompt'"),
    prompts("number.jsonl", '{"prompt": 5}\n', "line 1: needs the field 'prompt'"),
    prompts("blank.jsonl", '{"prompt": "\\u200b "}\n', "line 1: needs the field 'prompt'"),
    prompts("half.jsonl", '{"prompt": "a \\ud83d dot"}\n', "line 1: half of a character"),
    prompts("half_key.jsonl", '{"prompt": "a", "\\ud83d": 1}\n', "line 1: half of a character"),
    prompts("pretty.jsonl", json.dumps({"prompt": "a"}, indent=1), "line 1: not JSON"),
    prompts("deep.jsonl", DEEP, "line 1: JSON that cannot be read"),
    prompts("deep_field.jsonl", '{"prompt": "a", "x": ' + "[" * 5000 + "]" * 5000 + "}", "line 1"),
    prompts("huge_number.jsonl", '{"prompt": "a", "n": ' + "9" * 5000 + "}", "line 1: JSON that cannot be read"),
    prompts("cut.jsonl", LINE + LINE[:-5], "line 2: not JSON"),
    prompts("comma.jsonl", LINE.strip() + ",\n" + LINE, "line 1: not JSON"),
    prompts("latin1.jsonl", '{"prompt": "caf\xe9"}'.encode("latin-1"), "is not a UTF-8 text file"),
    prompts("empty.jsonl", "\n\n", "holds no prompt", '{"prompt":'),
    with_files({}, "fit prompts.train=nowhere.txt", "prompts.train=nowhere.txt: no such file"),
    with_files({}, "fit prompts.test=nowhere/at/all.txt", "prompts.test=nowhere/at/all.txt: no such file"),
    with_files({}, "fit prompts.tuning=.", "prompts.tuning=.: no such file"),
    with_files({}, "fit prompts.train=", "prompts.train"),
    with_files({}, "fit prompts.train=/proc/self/mem", "prompts.train"),
    with_files({}, "fit prompts.train=/dev/zero", "prompts.train=/dev/zero: no such file"),
    with_files({}, "fit prompts.train=pkg:drift_pl/nowhere.txt", "prompts.train=pkg:drift_pl/nowhere.txt"),
    with_files({}, "fit prompts.train=pkg:no_such_package/x.txt", "no installed package 'no_such_package'"),
    with_files({}, "fit prompts.train=hf:", "prompts.train=hf:", "hf:OWNER/NAME:train:prompt"),
    with_files({}, "fit prompts.train=hf:owner/name", "a dataset needs a name, a split and a column"),
    with_files({}, "fit prompts.train=hf:owner/name:train", "a dataset needs a name, a split and a column"),
    with_files({}, "fit prompts.train=hf::train:prompt", "a dataset needs a name, a split and a column"),
    with_files({}, "fit prompts.train=hf:owner/name:train:prompt", "prompts.train=hf:owner/name:train:prompt"),
    with_files(
        {}, "fit prompts.train=https://example.org/a.txt", "prompts.train=https://example.org/a.txt: no such file"
    ),
    with_files(
        {"a.json": "[]"}, "evaluate ckpt_path=RUN out=mine.json prompts=a.json", "a.json", ".json is not a format"
    ),
    with_files(
        {"a.txt": b"\xff\xfe"}, "evaluate ckpt_path=RUN out=mine.json prompts=a.txt", "is not a UTF-8 text file"
    ),
    with_files({"a.txt": "[1]"}, "evaluate ckpt_path=RUN out=mine.json prompts=a.txt", "JSON in a text file"),
    with_files({"a.jsonl": "{}"}, "evaluate ckpt_path=RUN out=mine.json prompts=a.jsonl", "needs the field 'prompt'"),
    with_files({"a": folder}, "evaluate ckpt_path=RUN out=mine.json prompts=a", "prompts=a: no such file"),
    with_files({"a": link_to("a")}, "evaluate ckpt_path=RUN out=mine.json prompts=a", "prompts=a"),
    with_files({}, "evaluate ckpt_path=RUN out=mine.json prompts=train", "prompts=train: no such file", "test, tuning"),
    with_files({}, "evaluate ckpt_path=RUN out=mine.json prompts=pkg:drift_pl/x.txt", "pkg:drift_pl/x.txt"),
    with_files({}, "evaluate ckpt_path=RUN out=mine.json prompts=hf:a/b:c:d", "prompts=hf:a/b:c:d"),
]

VARIANTS = "fit incentive.prompting.rule=variants incentive.prompting.paraphrases="


def paraphrases(name: str, content: Content, *says: str) -> Row:
    return with_files({name: content}, VARIANTS + name, "incentive.prompting.paraphrases=", name, *says)


PARAPHRASES = [
    paraphrases("p.jsonl", "no json\n", "line 1: not JSON"),
    paraphrases("q.jsonl", '{"prompt": "a red dot"}\n', "line 1"),
    paraphrases("r.jsonl", '{"prompt": "a red dot", "paraphrases": "one"}\n', "line 1"),
    paraphrases("s.jsonl", '{"prompt": "a red dot", "paraphrases": []}\n', "line 1"),
    paraphrases("t.jsonl", '{"prompt": "a red dot", "paraphrases": [5]}\n', "line 1"),
    paraphrases("u.jsonl", '{"prompt": 5, "paraphrases": ["x"]}\n', "line 1"),
    paraphrases("v.jsonl", '{"paraphrases": ["x"]}\n', "line 1"),
    paraphrases("w.jsonl", '["a"]\n', "line 1"),
    paraphrases("x.jsonl", "", "x.jsonl"),
    paraphrases("y.jsonl", b"\xff\xff", "is not a UTF-8 text file"),
    paraphrases("z.jsonl", folder, "no such file"),
    paraphrases("loop.jsonl", link_to("loop.jsonl"), "loop.jsonl"),
    paraphrases("half.jsonl", '{"prompt": "a", "paraphrases": ["\\ud83d"]}\n', "half of a character"),
    paraphrases("blank.jsonl", '{"prompt": "a", "paraphrases": ["  "]}\n', "line 1"),
    with_files({}, f"{VARIANTS}nowhere.jsonl", "incentive.prompting.paraphrases=nowhere.jsonl: no such file"),
]


def experiment(content: Content, *says: str, name: str = "mine.yaml", more: dict[str, Content] | None = None) -> Row:
    """An experiment file of a wrong kind."""
    return with_files({name: content, **(more or {})}, f"resume experiment={name} run_dir=new", name, *says)


EXPERIMENTS = [
    experiment("seed: [1\n", "not a YAML file"),
    experiment("\tseed: 1\n", "not a YAML file"),
    experiment("sampler:\n\tsteps: 4\n", "not a YAML file"),
    experiment("sampler:\n  steps: 4\n   noise_level: 1\n", "not a YAML file (line 3: "),
    experiment("seed: 1\nseed: 2\n", "line 2: found duplicate key seed"),
    experiment("sampler: {steps: 4, steps: 5}\n", "found duplicate key steps"),
    experiment("- seed: 1\n", "holds keys, e.g. `seed: 1`, not a list"),
    experiment("shapes_div\n", "holds keys, e.g. `seed: 1`, not a str"),
    experiment("5\n", "holds keys, e.g. `seed: 1`, not a int"),
    experiment("seed: 1\n---\nseed: 2\n", "not a YAML file"),
    experiment("seed: &a [*a]\n", "its aliases stand for too much"),
    experiment("&a seed: *a\n", "mine.yaml"),
    experiment("a: &a {b: *a}\n", "its aliases stand for too much"),
    experiment(BOMB, "its aliases stand for too much"),
    experiment("rewards: " + "[" * 3000 + "]" * 3000, "not a YAML file"),
    experiment("seed: " + "9" * 5000, "not a YAML file"),
    experiment("seed: *unknown\n", "not a YAML file"),
    experiment("seed: !!python/object/apply:os.system ['touch ran']\n", "not a YAML file"),
    experiment("seed: !!python/name:os.system\n", "not a YAML file"),
    experiment("seed: !mine 5\n", "not a YAML file"),
    experiment("seed: !!binary x\n", "not a YAML file"),
    with_files({"mine.yaml": "seed: !!timestamp 2020-01-01\n"}, "resume experiment=mine.yaml", "seed: ", "seed=0"),
    with_files({"mine.yaml": "seed: !!set {a, b}\n"}, "resume experiment=mine.yaml", "seed: ", "seed=0"),
    experiment("seed: 2020-01-01\n", "seed=2020-01-01 should be a valid integer"),
    experiment("seed: 1:30\n", "seed=1:30 should be a valid integer"),
    experiment("seed: yes\n", "seed=yes should be a valid integer"),
    experiment("<<: {seed: x}\n", "seed=x should be a valid integer"),
    experiment("<<: 5\n", "mine.yaml"),
    experiment("? [a, b]\n: 1\n", "mine.yaml"),
    experiment("? {a: b}\n: 1\n", "mine.yaml"),
    experiment("1: 2\n", "unknown key '1'"),
    experiment("null: 2\n", "unknown key"),
    experiment("'': 2\n", "unknown key ''"),
    experiment("sampler: {null: 2}\n", "sampler"),
    experiment("sampler: {1: 2}\n", "sampler"),
    with_files({"mine.yaml": "sampler: {steps.x: 2}\n"}, "resume experiment=mine.yaml", "sampler.steps=10 has no key"),
    experiment("sampler.steps: four\n", "sampler.steps=four should be a valid integer"),
    experiment("rewards: {0: {name: ocr}}\n", "rewards"),
    experiment("sampler: [1]\n", "sampler=[1] should be a section of keys"),
    experiment("sampler: text\n", "sampler=text should be a section of keys"),
    experiment("seed:\n", "seed=null should be a valid integer"),
    experiment("policy: {negative_prompt: 5}\n", "policy.negative_prompt=5 should be a valid string"),
    experiment("base: [a]\n", "is not the name of an experiment"),
    with_files({"mine.yaml": "base: nothing\n"}, "resume experiment=mine.yaml run_dir=new", "experiment=nothing"),
    with_files(
        {"mine.yaml": "base: ./x.yaml\n"}, "resume experiment=mine.yaml", "mine.yaml: base=./x.yaml: no such file"
    ),
    experiment("base: mine.yaml\n", "are each other's base: mine.yaml -> mine.yaml"),
    experiment("base: a.yaml\n", "a.yaml -> mine.yaml", more={"a.yaml": "base: mine.yaml\n"}),
    experiment("base: deep/a.yaml\n", "are each other's base", more={"deep/a.yaml": "base: ../mine.yaml\n"}),
    with_files(
        {"mine.yaml": "base: a.yaml\n", "a.yaml": "seed: ["}, "resume experiment=mine.yaml", "a.yaml: not a YAML"
    ),
    experiment("trust: true\n", "unknown key 'trust'"),
    with_files(
        {"mine.yaml": f"{BASE}run_dir: [x]\n"}, "resume experiment=mine.yaml", "run_dir=[x] should be a valid string"
    ),
    experiment("ckpt_path: 5\n", "ckpt_path=5 should be a valid string"),
    experiment("experiment: 5\n", "experiment=5 should be a valid string"),
    experiment(b"\xff\xfes\0e\0e\0d\0", "not a YAML file"),
    experiment("seed: caf\xe9\n".encode("latin-1"), "not a YAML file"),
    experiment(b"seed: 1\0\n", "not a YAML file"),
    experiment(b"seed: \x07\n", "not a YAML file"),
    experiment(b"\x1f\x8b\x08\x00", "not a YAML file"),
    experiment('seed: "\\ud800"\n', "found half of a character"),
    experiment("seed: 'a\n", "not a YAML file"),
    experiment("seed: {a\n", "not a YAML file"),
    experiment("%YAML 3.0\n---\nseed: 1\n", "not a YAML file"),
    with_files({"mine.yaml": "seed: ${a.b\n"}, "resume experiment=mine.yaml", "seed: ", "seed=0"),
    experiment("seed: ${run_dir}\n", "seed=new should be a valid integer"),
    experiment("seed: ${oc.select:nothing}\n", "seed=null"),
    with_files({"mine.yaml": "rewards: ${evaluation.rewards}\n"}, "resume experiment=mine.yaml", "rewards is empty"),
    experiment("policy: ${sampler}\n", "policy"),
    with_files({"mine.yaml": folder}, "resume experiment=mine.yaml", "experiment=mine.yaml: no such file"),
    with_files({"mine.yaml": link_to("mine.yaml")}, "resume experiment=mine.yaml", "experiment=mine.yaml"),
    with_files({"mine.yaml": link_to("x")}, "resume experiment=mine.yaml", "experiment=mine.yaml: no such file"),
    with_files({"mine.yaml": fifo}, "resume experiment=mine.yaml", "experiment=mine.yaml: no such file"),
    with_files({"mine.json": "{}"}, "resume experiment=mine.json", "experiment=mine.json: no such experiment"),
    with_files({}, "resume experiment=/dev/null", "experiment=/dev/null: no such experiment"),
    with_files({}, "resume experiment=shapes_div.yml", "experiment=shapes_div.yml: no such file"),
    with_files({}, "resume experiment=Shapes_Div", "experiment=Shapes_Div: no such experiment"),
    with_files({}, "resume 'experiment=shapes_div '", "no such experiment"),
]

PATHS = [
    with_files({"FILE": ""}, "fit run_dir=FILE/a/b", "FILE", "a file is where a folder is needed"),
    with_files({"loop": link_to("loop")}, "fit run_dir=loop", "loop"),
    with_files({"gone": link_to("nowhere/at/all")}, "fit run_dir=gone", "gone"),
    with_files({"pipe": fifo}, "fit run_dir=pipe", "pipe"),
    with_files({}, "fit run_dir=/dev/null", "/dev/null"),
    with_files({}, "fit run_dir=/dev/null/x", "/dev/null"),
    with_files({}, "fit run_dir=/sys/x", "/sys/x"),
    with_files({}, "fit run_dir=/proc/self/x", "/proc/self/x"),
    with_files({}, f"fit run_dir={'a/' * 2500}", "give a shorter name"),
    with_files({}, "fit run_dir=~nobody_at_all", "~nobody_at_all"),
    with_files({"FILE": ""}, "generate ckpt_path=RUN prompt=a out=FILE", "out=FILE is not a folder", "out="),
    with_files({"full/a": ""}, "generate ckpt_path=RUN prompt=a out=full", "out=full is not empty", "out=full-2"),
    with_files({"full/.a": ""}, "generate ckpt_path=RUN prompt=a out=full", "out=full is not empty"),
    with_files({"loop": link_to("loop")}, "generate ckpt_path=RUN prompt=a out=loop", "out=loop"),
    with_files({"gone": link_to("nowhere")}, "generate ckpt_path=RUN prompt=a out=gone", "out=gone"),
    with_files({"pipe": fifo}, "generate ckpt_path=RUN prompt=a out=pipe", "out=pipe is not a folder"),
    with_files({}, "generate ckpt_path=RUN prompt=a out=/dev/null", "out=/dev/null is not a folder"),
    with_files({"FILE": ""}, "export ckpt_path=RUN out=FILE", "out=FILE is not a folder"),
    with_files({"full/a": ""}, "export ckpt_path=RUN out=full", "out=full is not empty"),
    with_files({"FILE": ""}, "export ckpt_path=RUN out=FILE/a", "FILE"),
    with_files({"loop": link_to("loop")}, "export ckpt_path=RUN out=loop", "out=loop"),
    with_files({"a": ""}, "export ckpt_path=RUN out=.", "out=. is not empty"),
    with_files({}, "export ckpt_path=RUN out=/", "out=/ is not empty"),
    with_files({}, "export ckpt_path=RUN out=RUN", "is not empty", "run-2"),
    with_files({"FILE": ""}, "pareto RUN out=FILE", "out=FILE is a file", "out=pareto"),
    with_files({"FILE": ""}, "pareto RUN out=FILE/a", "FILE"),
    with_files({"loop": link_to("loop")}, "pareto RUN out=loop", "loop"),
    with_files({}, "pareto RUN out=/proc/self/x", "/proc/self/x"),
    with_files({"FILE": ""}, "report RUN out=FILE", "FILE"),
    with_files({"loop": link_to("loop")}, "report RUN out=loop", "loop"),
    with_files({}, "report RUN out=/dev/null/x", "/dev/null"),
    with_files({}, "evaluate ckpt_path=RUN out=mine", "out=mine: use e.g. out=evaluation-tuning.json"),
    with_files({}, "evaluate ckpt_path=RUN out=.json/", "out=.json/"),
    with_files({"a.json": folder}, "evaluate ckpt_path=RUN out=a.json", "a.json"),
    with_files({"a.json": fifo}, "evaluate ckpt_path=RUN out=a.json", "a.json"),
    with_files({"FILE": ""}, "evaluate ckpt_path=RUN out=FILE/a.json", "FILE"),
    with_files({}, "evaluate ckpt_path=RUN out=/dev/null/a.json", "/dev/null"),
    with_files({}, "evaluate ckpt_path=RUN out=/proc/a.json", "/proc"),
    with_files({"big.json": hole(2**31)}, "pareto big.json", "big.json"),
    with_files({"a.txt": "x"}, "pareto a.txt", "a.txt is not a JSON file"),
    with_files({"a": folder}, "pareto a", "no such file; make it with"),
    with_files({"a": link_to("a")}, "pareto a", "a"),
    with_files({"pipe": fifo}, "pareto pipe", "pipe: no such file"),
    with_files({}, "pareto /dev/null", "/dev/null: no such file"),
    with_files({"a": ""}, "report a", "a: no such folder"),
    with_files({"a": folder}, "report a", "a has no summary.json"),
    with_files({"a": link_to("a")}, "report a", "a: no such folder"),
    with_files({}, "report /", "/ has no summary.json"),
    with_files({}, "report nowhere-*", "nowhere-*: no such folder"),
    with_files({}, "pareto nowhere-*", "nowhere-*: no such file"),
]

KINDS = {"prompt files": PROMPT_FILES, "paraphrases": PARAPHRASES, "experiment files": EXPERIMENTS, "paths": PATHS}
