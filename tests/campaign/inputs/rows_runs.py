"""Run folders, checkpoints and records that are foreign, half-written, of another version, locked or damaged."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from campaign.inputs.rows import (
    Content,
    Row,
    checkpoint_with,
    cut,
    drop,
    fifo,
    folder,
    folder_instead,
    hole,
    link_to,
    put,
    row,
    with_files,
)

RESUME = "resume ckpt_path=run trainer.iterations=3"
EVALUATE = "evaluate ckpt_path=run out=mine.json"
GENERATE = "generate ckpt_path=run prompt=a n=1 out=new"
EXPORT = "export ckpt_path=run out=new"
READERS = (RESUME, EVALUATE, GENERATE, EXPORT)
LAST = "run/checkpoints/last.ckpt"
NAN, INF = float("nan"), float("inf")


class Payload:
    """Unpickling it would write a file, which the comparison of the folder would show."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


def lock(**changes: Any) -> Callable[[Path], None]:
    """Content: the lock file of a process that lives."""

    def write(path: Path) -> None:
        import socket

        stat = Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()
        namespace = os.readlink("/proc/self/ns/pid")
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "started": stat[19], "namespace": namespace}
        path.write_text(json.dumps({**holder, "job": "", "id": "x", **changes}))

    return write


def every_reader(name: str, content: Content, *says: str, readers: tuple[str, ...] = READERS) -> list[Row]:
    return [with_files({name: content}, line, *says) for line in readers]


FOLDERS = [
    row("resume ckpt_path=nowhere", "ckpt_path=nowhere: no such file or folder", "ckpt_path=runs/"),
    row("resume ckpt_path=nowhere.ckpt", "ckpt_path=nowhere.ckpt: no such file or folder"),
    row("resume ckpt_path=last", "ckpt_path=last: there is no run in "),
    row("resume ckpt_path=last run_dir=nowhere", "ckpt_path=last", "nowhere"),
    row("resume ckpt_path=RUN", "already has 2 of trainer.iterations=2", "trainer.iterations="),
    row("resume ckpt_path=RUN/", "already has 2 of trainer.iterations=2"),
    row("resume ckpt_path=RUN trainer.iterations=1", "already has 2 of trainer.iterations=1"),
    row("resume ckpt_path=RUN trainer.iterations=3 seed=7", "belongs to a run with other settings: seed is 0"),
    row("resume ckpt_path=RUN trainer.iterations=3 policy.lora.rank=4", "policy.lora.rank"),
    row("resume ckpt_path=RUN trainer.iterations=3 objective.learning_rate=1", "objective.learning_rate"),
    row("resume ckpt_path=RUN trainer.iterations=3 experiment=shapes_flowgrpo", "belongs to a run with other settings"),
    row("resume ckpt_path=RUN trainer.iterations=3 run_dir=OTHER", "run_dir=", "holds the run", "-2"),
    row("resume ckpt_path=RUN trainer.iterations=3 prompts.train=WORLD/test.txt", "prompts.train"),
    row("fit run_dir=RUN", "already holds a run: resume it with", "run-2"),
    row("fit run_dir=RUN seed=5", "already holds a run"),
    row("fit run_dir=RUN ckpt_path=auto seed=5", "belongs to a run with other settings: seed"),
    row("fit run_dir=OTHER ckpt_path=last", "belongs to a run with other settings"),
    row("resume ckpt_path=RUN/config.yaml", "config.yaml is not a checkpoint"),
    row("resume ckpt_path=RUN/checkpoints/iteration-*.ckpt run_dir=new", "belongs to a run with other settings"),
    with_files({"empty": folder}, "resume ckpt_path=empty", "ckpt_path=empty"),
    with_files(
        {"a.ckpt": ""}, "resume ckpt_path=a.ckpt experiment=shapes_drift run_dir=new", "a.ckpt is not a checkpoint"
    ),
    with_files({"loop": link_to("loop")}, "resume ckpt_path=loop", "ckpt_path=loop"),
    with_files({"pipe": fifo}, "resume ckpt_path=pipe", "ckpt_path=pipe"),
    row("resume ckpt_path=/dev/null", "ckpt_path=/dev/null"),
    row("resume ckpt_path=/", "ckpt_path=/"),
    *(
        row(f"{command} ckpt_path={path}", f"ckpt_path={path}")
        for command in ("evaluate out=mine.json", "generate prompt=a out=new", "export out=new")
        for path in ("nowhere", "nowhere/at/all", "nowhere*", ".", "/", "/dev/null")
    ),
    *(
        row(f"{command} ckpt_path=~nobody_at_all/x", "~nobody_at_all has no home folder here; give the whole path")
        for command in ("evaluate out=mine.json", "generate prompt=a out=new", "export out=new")
    ),
    row("evaluate ckpt_path=[RUN,OTHER] out=mine.json", "are of different runs"),
    row("evaluate ckpt_path=RUN/checkpoints/*0009.ckpt out=mine.json", "no such file or folder", "last.ckpt"),
    row("generate 'ckpt_path=RUN/checkpoints/*.ckpt' prompt=a out=new", "matches 3 checkpoints", "give one of them"),
    row("export 'ckpt_path=RUN/checkpoints/*.ckpt' out=new", "matches 3 checkpoints"),
    row("export ckpt_path=RUN/summary.json out=new", "summary.json is not a checkpoint"),
    row("generate ckpt_path=RUN/evaluation prompt=a out=new", "ckpt_path="),
    row("generate ckpt_path=WORLD prompt=a out=new", "holds no config.yaml and no checkpoint"),
    *every_reader("run/.lock", lock(), "is in use by process", "-2", readers=(RESUME,)),
    *every_reader("run/.lock", lock(host="elsewhere"), "is in use by process", "on elsewhere", readers=(RESUME,)),
    *every_reader("run/checkpoints", None, "the run has no checkpoint yet", readers=READERS[1:]),
    with_files({"run/config.yaml": None}, EVALUATE, "there is no config.yaml beside it"),
    with_files({"run/config.yaml": None}, GENERATE, "there is no config.yaml beside it"),
    with_files({"run/config.yaml": None}, EXPORT, "there is no config.yaml beside it"),
    *every_reader("run/config.yaml", "", "rewards is empty"),
    *every_reader("run/config.yaml", "seed: [\n", "config.yaml: not a YAML file"),
    *every_reader("run/config.yaml", "- 1\n", "config.yaml: an experiment file holds keys"),
    *every_reader("run/config.yaml", b"\xff\xfe", "config.yaml: not a YAML file"),
    *every_reader("run/config.yaml", "base: shapes_drift\nnothing: 1\n", "config.yaml: unknown key 'nothing'"),
    *every_reader("run/config.yaml", "base: shapes_drift\nseed: x\n", "config.yaml: seed=x should be a valid integer"),
    *every_reader(
        "run/config.yaml", "base: shapes_drift\nrewards: [{name: 'os:system', args: {command: ls}}]\n", "trust=true"
    ),
    *every_reader("run/config.yaml", "base: shapes_drift\npolicy: {negative_prompt: '${oc.env:HOME}'}\n", "trust=true"),
    *every_reader("run/config.yaml", "base: shapes_drift\npolicy: {pretrained: 'pkg:evil/x'}\n", "trust=true"),
    with_files({"run/config.yaml": "base: shapes_drift\n"}, EVALUATE, "is of the run ", "is of another: ", warned=3),
    *every_reader("run/config.yaml", folder_instead, "ckpt_path=run"),
    row("evaluate ckpt_path=RUN/checkpoints/iteration-000001.ckpt out=mine.json base=nowhere", "nowhere: no such file"),
]


def checkpoint(content: Content, *says: str, readers: tuple[str, ...] = (EVALUATE,)) -> list[Row]:
    """A copy of the run with another last.ckpt, the only one."""
    others = {f"run/checkpoints/iteration-00000{number}.ckpt": None for number in (1, 2)}
    return [with_files({**others, LAST: content}, line, "last.ckpt", *says) for line in readers]


def inside(*place: Any, value: Any) -> Callable[[Path], None]:
    return checkpoint_with(put(*place, value=value))


def first_weight(name: str, change: Callable[[Any], Any], part: str = "average") -> Callable[[Path], None]:
    def apply(content: dict[str, Any]) -> None:
        key = next(key for key in content[part] if name in key)
        content[part][key] = change(content[part][key])

    return checkpoint_with(apply)


def first_state(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """The optimizer's state of the first parameter after a change."""
    return checkpoint_with(lambda content: change(next(iter(content["optimizer_states"][0]["state"].values()))))


def torch_file(make: Callable[[], Any]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        import torch

        torch.save(make(), path)

    return write


def tensor(*shape: int) -> Any:
    import torch

    return torch.zeros(shape)


CHECKPOINTS = [
    *checkpoint(b"", "is not a checkpoint", readers=READERS),
    *checkpoint(b"not a checkpoint", "is not a checkpoint", readers=READERS),
    *checkpoint(cut(0.5), "is not a checkpoint", readers=READERS),
    *checkpoint(cut(0.99), "is not a checkpoint"),
    *checkpoint(hole(10_000), "is not a checkpoint"),
    *checkpoint(b"PK\x03\x04" + b"\0" * 100, "is not a checkpoint"),
    *checkpoint(pickle.dumps(Payload()), "is not a checkpoint", readers=READERS),
    *checkpoint(torch_file(Payload), "is not a checkpoint", readers=READERS),
    *checkpoint(torch_file(lambda: {"state_dict": {}, "x": Payload()}), "is not a checkpoint"),
    *checkpoint(torch_file(lambda: [1, 2]), "is not a checkpoint"),
    *checkpoint(torch_file(lambda: 5), "is not a checkpoint"),
    *checkpoint(torch_file(lambda: tensor(2)), "is not a checkpoint"),
    *checkpoint(torch_file(dict), "is not a checkpoint", readers=READERS),
    *checkpoint(torch_file(lambda: {"state_dict": {}, "epoch": 3}), "is not a checkpoint"),
    *checkpoint(torch_file(lambda: {"epoch": 3, "pytorch-lightning_version": "2.6"}), "is not a checkpoint"),
    *checkpoint(inside("run_identity", value=""), "its run_identity is ''"),
    *checkpoint(inside("run_identity", value="nonsense"), "its run_identity is 'nonsense'"),
    *checkpoint(inside("run_identity", value=["a"]), "is damaged: its run_identity is list"),
    *checkpoint(inside("run_settings", value={}), "its run_settings are no dictionary of names"),
    *checkpoint(inside("run_settings", "seed", value=9), "is of the run"),
    *checkpoint(inside("run_settings", "seed", value="x"), "is of the run"),
    *checkpoint(inside("run_settings", "policy.lora.rank", value=[1]), "is of the run"),
    *checkpoint(inside("run_inputs", value="x"), "its run_inputs are no dictionary of digests"),
    *checkpoint(inside("run_inputs", value=[1]), "its run_inputs are no dictionary of digests"),
    *checkpoint(inside("run_inputs", "prompts.train", value=3), "its run_inputs are no dictionary"),
    *checkpoint(inside("PromptDataModule", value=3), "its PromptDataModule is int"),
    *checkpoint(inside("PromptDataModule", "iteration", value=True), "its iteration is True"),
    *checkpoint(inside("PromptDataModule", "iteration", value=2.0), "its iteration is 2.0"),
    *checkpoint(inside("average", value=[]), "its average is list"),
    *checkpoint(inside("average", "num_updates", value=-1), "its average does not say"),
    *checkpoint(inside("average", "num_updates", value=NAN), "its average does not say"),
    *checkpoint(inside("average", "more", value=None), "more in its average is not a floating-point tensor"),
    *checkpoint(checkpoint_with(lambda c: c["average"].popitem()), "in the policy of config.yaml"),
    *checkpoint(first_weight("lora_A", lambda t: t[:1].clone()), "in the policy of config.yaml", readers=READERS[1:]),
    *checkpoint(first_weight("lora_A", lambda t: t.flatten()), "in the policy of config.yaml"),
    *checkpoint(first_weight("lora_A", lambda t: t.int()), "is not a floating-point tensor"),
    *checkpoint(first_weight("lora_A", lambda t: t + NAN), "is not finite", readers=READERS),
    *checkpoint(first_weight("lora_B", lambda t: t + INF), "is not finite"),
    *checkpoint(first_weight("lora_B", lambda t: t.to_sparse()), "last.ckpt"),
    *checkpoint(first_weight("lora_B", lambda t: t.to("meta")), "last.ckpt"),
    *checkpoint(first_weight("lora_B", lambda t: t.bool()), "is not a floating"),
    *checkpoint(first_weight("lora_B", lambda t: t.cfloat()), "is not a floating-point tensor"),
    *checkpoint(first_weight("lora_B", lambda t: t.tolist()), "is not a floating-point tensor"),
    *checkpoint(inside("state_dict", value=[]), "its state_dict is list", readers=READERS),
    *checkpoint(inside("optimizer_states", value={}), "its optimizer_states is dict"),
    *checkpoint(inside("optimizer_states", value=[{}, {}]), "are not those of one optimizer"),
    *checkpoint(inside("optimizer_states", 0, "param_groups", value=[]), "last.ckpt", readers=(RESUME,)),
    *checkpoint(inside("optimizer_states", 0, "param_groups", 0, "lr", value=NAN), "are not finite"),
    *checkpoint(inside("optimizer_states", 0, "param_groups", 0, "lr", value="x"), "or learning rate"),
    *checkpoint(inside("optimizer_states", 0, "param_groups", 0, "params", value=5), "without parameters"),
    *checkpoint(inside("optimizer_states", 0, "state", 0, value=5), "optimizer_states have"),
    *checkpoint(first_state(lambda state: state.clear()), "a parameter with other entries than the rest"),
    *checkpoint(first_state(lambda state: state.update(step="x")), "a parameter with other entries than the rest"),
    *checkpoint(first_state(lambda state: state.update(exp_avg=5)), "a parameter with other entries than the rest"),
    *checkpoint(first_state(lambda state: state.pop("exp_avg_sq")), "a parameter with other entries than the rest"),
    *checkpoint(inside("callbacks", value=[]), "its callbacks is list"),
    *checkpoint(inside("lr_schedulers", value={}), "its lr_schedulers is dict"),
    *checkpoint(inside("loops", value={}), "its loops do not say how far the run was"),
    *checkpoint(inside("loops", "fit_loop", value={}), "its loops do not say how far the run was"),
    *checkpoint(inside("loops", "fit_loop", "epoch_loop.batch_progress", value=None), "its loops do not say"),
    *checkpoint(inside("pytorch-lightning_version", value=2.6), "its pytorch-lightning_version is float"),
    *checkpoint(inside("stopped", value=5), "its reason to stop is 5"),
    *checkpoint(checkpoint_with(drop("average")), "its average is missing", readers=READERS),
    *checkpoint(checkpoint_with(drop("run_identity")), "is not a checkpoint"),
    with_files(
        {"run/checkpoints/iteration-000001.ckpt": b"", "run/checkpoints/iteration-000002.ckpt": None},
        EVALUATE,
        "iteration-000001.ckpt is not a checkpoint",
    ),
    with_files({"run/checkpoints/last.ckpt": b""}, RESUME, "last.ckpt is not a checkpoint"),
]

KINDS = {"run folders": FOLDERS, "checkpoints": CHECKPOINTS}
