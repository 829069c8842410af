"""Evaluations, summaries, arrays and pictures that are damaged, foreign or made up."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from campaign.inputs.rows import Content, Row, cut, drop, folder, folder_instead, hole, json_with, put, row, with_files
from made_up_evaluations import PROTOCOL, TRAINING, make_point

NAN, INF = float("nan"), float("inf")
TEST, TUNING, SUMMARY = "run/evaluation/test.json", "run/evaluation/tuning.json", "run/summary.json"
POINTS = "run/evaluation/test/points"
BASE = f"evaluate ckpt_path=RUN out=mine.json base={TEST}"


def record(content: Content, *says: str, lines: tuple[str, ...] = ("pareto run",)) -> list[Row]:
    """A copy of the run with another record of its test prompts."""
    return [with_files({TEST: content}, line, *says) for line in lines]


def damaged(*place: Any, value: Any) -> list[Row]:
    return record(json_with(put(*place, value=value)), "test.json is damaged: ", "fresh=true")


RECORDS = [
    *record("", "test.json is not a JSON file", lines=("pareto run", "report run", BASE, "evaluate ckpt_path=run")),
    *record("{", "test.json is not a JSON file", lines=("pareto run", "report run", "export ckpt_path=run out=new")),
    *record(cut(0.5), "test.json is not a JSON file", lines=("pareto run", "report run", "evaluate ckpt_path=run")),
    *record(b"\xff\xfe{}", "test.json is not a JSON file"),
    *record("[" * 100_000, "nested too deeply", lines=("pareto run", "report run", "evaluate ckpt_path=run")),
    *record('{"a": ' * 50_000, "nested too deeply"),
    *record("9" * 5000, "test.json is not a JSON file"),
    *record(hole(10_000), "test.json is not a JSON file"),
    *record(hole(2**31), "more than 256 MiB"),
    *record(folder_instead, "no such file"),
    *record("[]", "is not an evaluation file", lines=("pareto run", "report run", BASE)),
    *record("null", "is not an evaluation file"),
    *record("5", "is not an evaluation file"),
    *record("{}", "is not an evaluation file", lines=("pareto run", "report run", BASE)),
    *record('{"format": "drift_pl.pareto", "version": 1}', "is not an evaluation file"),
    *record('{"format": "drift_pl.evaluation"}', "made by an older drift_pl"),
    *record('{"format": "drift_pl.evaluation", "version": 99}', "made by a newer drift_pl"),
    *record('{"format": "drift_pl.evaluation", "version": "1"}', "made by an older drift_pl"),
    *record('{"format": "drift_pl.evaluation", "version": 1}', "is damaged: method: "),
    *record('{"format": "drift_pl.evaluation", "version": 1, "path": "/etc"}', "is damaged: method: "),
    *record(json_with(drop("training")), "is damaged: training: field required"),
    *record(json_with(drop("protocol")), "is damaged: protocol: field required"),
    *record(json_with(drop("points")), "is damaged: it has no points"),
    *record(json_with(drop("protocol", "steps")), "is damaged: protocol.steps: field required"),
    *record(json_with(drop("points", 0, "per_prompt")), "is damaged: points.0.per_prompt: field required"),
    *record(json_with(drop("points", 0, "name")), "is damaged: points.0.name: field required"),
    *damaged("seed", value="0"),
    *damaged("seed", value=0.5),
    *damaged("seed", value=None),
    *damaged("seed", value=True),
    *damaged("method", value=5),
    *damaged("method", value=None),
    *damaged("inputs", value=[]),
    *damaged("inputs", value={"a": 5}),
    *damaged("training", value=[]),
    *damaged("training", "images", value="many"),
    *damaged("training", "images", value=NAN),
    *damaged("protocol", "prompts", value="a"),
    *damaged("protocol", "prompts", value=[1, 2]),
    *damaged("protocol", "prompts", value=["a"]),
    *record(
        json_with(lambda content: content["protocol"].update(prompts=content["protocol"]["prompts"][:1] * 2)),
        *("test.json is damaged: protocol.prompts holds ", " twice; make it again with ", "fresh=true"),
        lines=("pareto run", "report run", BASE, "evaluate ckpt_path=run"),
    ),
    *damaged("protocol", "guidance_scale", value="x"),
    *damaged("protocol", "resolution", value="x"),
    *damaged("points", value=[]),
    *damaged("points", value={}),
    *damaged("points", value=5),
    *damaged("points", 0, value=None),
    *damaged("points", 0, value=[]),
    *damaged("points", 0, "name", value="../../evil"),
    *damaged("points", 0, "name", value="/etc/passwd"),
    *damaged("points", 0, "name", value=""),
    *damaged("points", 1, "name", value="base"),
    *damaged("points", 0, "iteration", value="0"),
    *damaged("points", 0, "iteration", value=INF),
    *damaged("points", 1, "weights", value=5),
    *damaged("points", 1, "lora_scale", value=None),
    *damaged("points", 1, "importance_power", value="x"),
    *damaged("points", 1, "picture", value=5),
    *damaged("points", 1, "digest", value=5),
    *damaged("points", 1, "per_prompt", value=[]),
    *damaged("points", 1, "per_prompt", "reward", value=5),
    *damaged("points", 1, "per_prompt", "reward", value=[1.0]),
    *damaged("points", 1, "per_prompt", "reward", value=["a", "b"]),
    *damaged("points", 1, "per_prompt", "reward", value=[[1.0], [2.0]]),
    *damaged("points", 1, "values", value=[]),
    *damaged("points", 1, "values", "reward", value=5),
    *damaged("points", 1, "values", "reward", value={"mean": "x", "low": None, "high": None, "prompts": 2}),
    *record(json_with(lambda c: c["points"].pop(0)), "does not hold the base model", lines=("pareto run",)),
    *record(json_with(lambda c: c["points"].pop(0)), "does not hold the base model", lines=(BASE,)),
    *record(json_with(lambda c: c.update(points=c["points"][:1])), "holds the base model alone", lines=("pareto run",)),
    *record(
        json_with(put("config_hash", value="ffffffff")), "is of the run ffffffff-s0", lines=("evaluate ckpt_path=run",)
    ),
    *record(json_with(put("seed", value=5)), "is of the run", lines=("evaluate ckpt_path=run",)),
    *record(json_with(put("protocol", "steps", value=9)), "was measured differently: steps is 9", lines=(BASE,)),
]


def made_up(change: Callable[[dict[str, Any]], Any], *says: str, more: str = "") -> Row:
    """Two made-up records that can be compared, one of them changed."""
    plain = [make_point(0, 1.0), make_point(10, 1.5, pairwise_distance=0.6)]
    header = {"format": "drift_pl.evaluation", "version": 1, "experiment": "m", "seed": 0, "config_hash": "0123abcd"}
    content = header | {"training": TRAINING, "protocol": PROTOCOL, "points": plain}
    other = json.loads(json.dumps(content | {"method": "b"}))
    change(other)
    files = {"a.json": json.dumps(content | {"method": "a"}), "b.json": json.dumps(other)}
    return with_files(files, f"pareto a.json b.json {more}", *says)


def every_point(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], None]:
    def apply(content: dict[str, Any]) -> None:
        for point in content["points"]:
            change(point)

    return apply


HUGE = 10**400
COMPARISONS = [
    made_up(put("method", value="a"), "are both seed 0 of a"),
    made_up(put("seed", value=1), "training seeds"),
    made_up(put("protocol", "steps", value=3), "were measured differently: steps is 20 and 3"),
    made_up(put("protocol", "prompts", value=["a red dot", "x"]), "were measured differently: prompt 2"),
    made_up(put("training", "images", value=1), "trained on different budgets: training.images", "budgets=differ"),
    made_up(put("points", 0, "per_prompt", "reward", value=[5.0, 5.0]), "the base model's reward differs"),
    made_up(put("points", 0, "per_prompt", "reward", value=[None, None]), "the base model's reward differs"),
    made_up(put("points", 0, "per_prompt", "reward", value=[HUGE, 1.0]), "b.json"),
    made_up(put("points", 1, "per_prompt", "reward", value=[HUGE, 1.0]), "b.json"),
    made_up(put("points", 1, "per_prompt", "reward", value=[1e308, 1e308]), "b.json"),
    made_up(put("points", 1, "per_prompt", "reward", value=[NAN, NAN]), "b.json"),
    made_up(put("points", 1, "per_prompt", "reward", value=[INF, 1.0]), "b.json"),
    made_up(put("points", 1, "iteration", value=HUGE), "b.json"),
    made_up(put("points", 1, "lora_scale", value=NAN), "b.json"),
    made_up(put("points", 1, "iteration", value=-1), "b.json"),
    made_up(every_point(lambda point: point["per_prompt"].clear()), "the base model's pairwise_distance differs"),
    made_up(every_point(lambda point: point["per_prompt"].pop("reward")), "reward"),
    made_up(every_point(lambda point: point["per_prompt"].pop("pairwise_distance")), "pairwise_distance"),
    made_up(lambda content: content["points"].append(make_point(10, 1.0) | {"name": "twice"}), "twice"),
    made_up(lambda content: None, "baseline=nobody", "a, b", more="baseline=nobody"),
    made_up(lambda content: None, "baseline=", more="baseline="),
    made_up(lambda content: None, "reward=nothing", more="reward=nothing"),
    made_up(lambda content: None, "diversity", "nothing", more="diversity=nothing"),
    made_up(lambda content: None, "reward_bound=-1", more="reward_bound=-1"),
    made_up(lambda content: None, "reward_bound=0", more="reward_bound=0"),
    made_up(lambda content: None, "are both seed 0 of a", more="a.json"),
    row("pareto RUN RUN", "are both seed 0 of shapes_drift", "give each run once"),
    row("pareto RUN/config.yaml", "config.yaml is not a JSON file"),
    row("pareto RUN/summary.json", "summary.json is not an evaluation file"),
    row("pareto RUN/checkpoints/last.ckpt", "last.ckpt is not a JSON file"),
    row("pareto RUN/evaluation/tuning.json", "does not hold the base model"),
    row("pareto RUN OTHER", "trained with different settings: config_hash", "budgets=differ"),
    with_files({"a.json.xz": ""}, "pareto a.json.xz", "a.json.xz is damaged"),
    with_files({"a.json.xz": b"\xfd7zXZ\0"}, "pareto a.json.xz", "a.json.xz is damaged"),
    with_files({"a.json.xz": "{}"}, "pareto a.json.xz", "a.json.xz is damaged"),
    with_files({"a.json.xz": folder}, "pareto a.json.xz", "a.json.xz: no such file"),
    row("pareto a.json.xz#x", "a.json.xz: no such file"),
    *(
        with_files({"a.json.xz": compressed}, f"pareto {line}", *says)
        for compressed, line, says in (
            (lambda path: xz(path, b"null"), "a.json.xz", ("is not a file of many evaluations",)),
            (lambda path: xz(path, b"["), "a.json.xz", ("is damaged",)),
            (lambda path: xz(path, b"[" * 100_000), "a.json.xz", ("is damaged", "nested too deeply")),
            (lambda path: xz(path, b" " * (2**28 + 1)), "a.json.xz", ("is damaged", "more than 256 MiB")),
            (lambda path: bundle(path, None), "a.json.xz", ("a.json.xz",)),
            (lambda path: bundle(path, 5), "a.json.xz", ("a.json.xz",)),
            (lambda path: bundle(path, []), "a.json.xz", ("a.json.xz",)),
            (lambda path: bundle(path, [5]), "a.json.xz", ("is damaged",)),
            (lambda path: bundle(path, [{}]), "a.json.xz", ("is damaged",)),
            (lambda path: bundle(path, [{"evaluation": 5}]), "a.json.xz", ("is damaged",)),
            (lambda path: bundle(path, [{"evaluation": {}}]), "a.json.xz#a", ("is damaged",)),
            (lambda path: bundle(path, []), "a.json.xz#a", ("a.json.xz",)),
        )
    ),
]


def xz(path: Path, content: bytes) -> None:
    import lzma

    path.write_bytes(lzma.compress(content, preset=0))


def bundle(path: Path, evaluations: Any) -> None:
    content = {"format": "drift_pl.evaluations", "version": 1, "evaluations": evaluations}
    xz(path, json.dumps(content).encode())


def summary(content: Content, *says: str, line: str = "report run") -> Row:
    return with_files({SUMMARY: content}, line, "summary.json", *says)


def wrong(*place: Any, value: Any) -> Row:
    return summary(json_with(put(*place, value=value)), "is damaged")


def lacks(*place: Any) -> Row:
    return summary(json_with(drop(*place)), "is damaged")


SUMMARIES = [
    summary("", "is damaged"),
    summary("{", "is damaged"),
    summary("[]", "is damaged"),
    summary("null", "is damaged"),
    summary("{}", "is damaged"),
    summary("5", "is damaged"),
    summary(cut(0.5), "is damaged"),
    summary(b"\xff\xfe", "is damaged"),
    summary("[" * 100_000, "is damaged", "nested too deeply"),
    summary("9" * 5000, "is damaged"),
    summary(hole(2**31), "is damaged", "more than 256 MiB"),
    summary(None, "has no summary.json"),
    *(
        lacks(key)
        for key in ("experiment", "seed", "encoder", "test_prompts", "images_per_prompt", "images", "base", "tuned")
    ),
    wrong("experiment", value=None),
    wrong("experiment", value=["a"]),
    wrong("experiment", value={}),
    wrong("seed", value="x"),
    wrong("seed", value=None),
    wrong("seed", value=[1]),
    wrong("base", value=None),
    wrong("base", value=[]),
    wrong("base", value=5),
    wrong("tuned", value="x"),
    wrong("tuned", value={}),
    wrong("tuned", "reward", value="x"),
    wrong("tuned", "reward", value=[1]),
    wrong("tuned", "reward", value={}),
    wrong("tuned", "reward", value=10**400),
    with_files({SUMMARY: "[]", TEST: None}, "export ckpt_path=run out=new", "summary.json is damaged"),
    with_files({SUMMARY: "{", TEST: None}, "export ckpt_path=run out=new", "summary.json is damaged"),
    with_files({SUMMARY: "[" * 100_000, TEST: None}, "export ckpt_path=run out=new", "summary.json is damaged"),
    with_files({TUNING: "{"}, "report run", "tuning.json is not a JSON file"),
    with_files({TUNING: "[]"}, "report run", "tuning.json is not an evaluation file"),
    with_files({TUNING: json_with(put("points", value=[]))}, "report run", "tuning.json is damaged"),
    with_files(
        {TUNING: json_with(put("points", 1, "values", "reward", "mean", value=10**400))}, "report run", "tuning"
    ),
    with_files({f"{POINTS}/base.npz": None}, "report run", "base.npz: no such file", "fresh=true"),
    with_files({f"{POINTS}/tuned.npz": None}, "report run", "tuned.npz: no such file", "fresh=true"),
    with_files({f"{POINTS}/base.npz": b""}, "report run", "base.npz", "fresh=true"),
    with_files({f"{POINTS}/base.npz": b"no array"}, "report run", "base.npz", "fresh=true"),
    with_files({f"{POINTS}/base.npz": cut(0.5)}, "report run", "base.npz", "fresh=true"),
    with_files({f"{POINTS}/base.npz": b"\x80\x02."}, "report run", "base.npz", "fresh=true"),
    *(
        with_files({f"{POINTS}/tuned.npz": content}, "report run", "tuned.npz", "fresh=true")
        for content in (
            lambda path: np.savez(path, other=np.zeros(3)),
            lambda path: np.savez(path, grid=np.zeros(3)),
            lambda path: np.savez(path, grid=np.zeros((1, 1, 3, 0, 0), np.uint8)),
            lambda path: np.savez(path, grid=np.zeros((1, 2, 3, 16, 16))),
            lambda path: np.savez(path, grid=np.array(["a"])),
            lambda path: np.savez(path, grid=np.array([{}], dtype=object)),
        )
    ),
    with_files(
        {f"{POINTS}/tuned.npz": lambda path: np.savez(path, grid=np.zeros((1, 1, 3, 8, 8), np.uint8))},
        "report run",
        "run, tuned, and run, base, differ in the number or size",
    ),
    *(
        with_files(
            {f"{POINTS}/base.npz": content, TEST: json_with(lambda c: c.update(points=c["points"][:1]))},
            "evaluate ckpt_path=run",
            "base.npz",
        )
        for content in (b"", b"no array", cut(0.5))
    ),
    row("report RUN RUN", "are both seed 0", "give each run once"),
    row("report RUN/evaluation", "has no summary.json"),
    row("report RUN/summary.json", "summary.json: no such folder"),
    row("report RUN OTHER nowhere", "nowhere: no such folder"),
    with_files({"other/summary.json": json_with(put("encoder", value="x"))}, "report RUN other", "differ in encoder"),
    with_files({"other/summary.json": json_with(put("images", value=1))}, "report RUN other", "differ in images"),
]

KINDS = {"records": RECORDS, "comparisons": COMPARISONS, "summaries and arrays": SUMMARIES}
