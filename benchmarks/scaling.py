"""What processes exchange and what an iteration takes on several; and, calculated, what many GPUs would do.

    python benchmarks/scaling.py [out=FILE] [repeats=5] [parts=exchange,time,calculated]
                                 [strategies=ddp,fsdp] [processes=1,2,4]

Runs `fit` on the built-in model, on CPUs with gloo: collectives and bytes per iteration of 1, 2 and 4 processes, and
the time of an iteration on 1 and 2, in turn. `calculated` extends the counts of `limit.py` to 8, 64 and 512 GPUs.
"""

import json
import multiprocessing
import os
import socket
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speed.timing import finish, options_of, rounded, save

from drift_pl.builders import run as _imported_before_the_fork  # noqa: F401
from drift_pl.config.loading import parse
from drift_pl.fit import fit

FORK = multiprocessing.get_context("fork")
TIMED = (1, 2)
"""Processes whose iterations are timed."""
SMALL = ("prompts.per_iteration=8", "prompts.group_size=2", "objective.micro_batch=16")
"""For counts: one micro-batch per rollout and optimizer step on every process, 6 and 3 passes each."""
RUN = (
    *("experiment=shapes_flowgrpo", "trainer.accelerator=cpu", "trainer.threads=1", "trainer.logger=[]"),
    *("trainer.progress=false", "trainer.save_every=1000", "evaluation.max_prompts=1", "evaluation.seeds_per_prompt=2"),
    *("evaluation.grid_seeds=1", "evaluation.measures=[]"),
)
TIME_LIMIT_S = 1800


def launch(strategy: str, processes: int, exchange: bool, overrides: tuple[str, ...]) -> list[list[dict[str, Any]]]:
    """Entries of `speed/collectives.py` of each process and iteration, of one run of `fit`.

    The processes are forked from this one, as if by torchrun: they import nothing again.

    Raises:
        SystemExit: the run failed; its messages are shown.
    """
    with tempfile.TemporaryDirectory() as folder:
        counting = f"{{name: 'speed.collectives:Count', args: {{folder: {folder}, exchange: {str(exchange).lower()}}}}}"
        chosen = "auto" if processes == 1 and strategy == "ddp" else strategy
        settings = [*RUN, *overrides, f"trainer.devices={processes}", f"trainer.strategy={chosen}"]
        settings += [f"trainer.callbacks=[{counting}]", f"run_dir={folder}/run"]
        port = free_port()
        ranks = [FORK.Process(target=train, args=(settings, rank, processes, port)) for rank in range(processes)]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join(TIME_LIMIT_S)
        for rank in ranks:
            rank.kill()
        if any(rank.exitcode for rank in ranks):
            raise SystemExit(f"error: {strategy} on {processes} processes failed: see above")
        return [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(processes)]


def train(settings: list[str], rank: int, processes: int, port: int) -> None:
    """One process of a run."""
    if processes > 1:
        numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
        os.environ |= {name: str(value) for name, value in numbers.items()}
        os.environ |= {"GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ["TORCHELASTIC_RUN_ID"] = "scaling"
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115  it ends with the process
    fit(parse(settings).config)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def exchange(strategy: str, processes: int) -> dict[str, Any]:
    """Collectives and bytes of the second iteration on the first process; all processes must agree."""
    ranks = launch(strategy, processes, True, (*SMALL, "trainer.iterations=2"))
    last = [rank[-1]["exchange"] for rank in ranks]
    calls = [{(stage, name): row[0] for stage, rows in one.items() for name, row in rows.items()} for one in last]
    if any(one != calls[0] for one in calls):
        raise SystemExit(
            f"error: {strategy} on {processes} processes: not all take part in the same exchanges: {calls}"
        )
    return last[0]


def times(case: tuple[str, int]) -> list[dict[str, float]]:
    """Seconds of two iterations after the first: of the slowest process."""
    ranks = launch(*case, False, ("trainer.iterations=3",))
    return [{key: max(rank[at][key] for rank in ranks) for key in ("cpu_s", "wall_s")} for at in (1, 2)]


def summary(rows: list[dict[str, float]]) -> dict[str, Any]:
    medians = {key: statistics.median(row[key] for row in rows) for key in ("cpu_s", "wall_s")}
    return {"iterations": len(rows), **medians}


def exchange_table(rows: dict[str, Any]) -> list[str]:
    lines = ["| strategy, processes | stage | collective | calls | bytes |", "|---|---|---|---|---|"]
    for name, stages in rows.items():
        found = [(stage, kind, *row) for stage, kinds in stages.items() for kind, row in kinds.items()]
        for stage, kind, calls, size in found or [("all", "none", 0, 0)]:
            lines.append(f"| {name} | {stage} | {kind} | {calls} | {size:,} |")
    return lines


def time_table(rows: dict[str, Any]) -> list[str]:
    lines = ["| strategy, processes | CPU s of the slowest process | wall s | iterations |", "|---|---|---|---|"]
    return lines + [
        f"| {name} | {row['cpu_s']:.2f} | {row['wall_s']:.2f} | {row['iterations']} |" for name, row in rows.items()
    ]


def cases(strategies: list[str], numbers: Sequence[int]) -> list[tuple[str, int]]:
    """FSDP on one process shards nothing, so it is left out."""
    pairs = [(strategy, processes) for processes in numbers for strategy in strategies]
    return [case for case in pairs if case != ("fsdp", 1)]


def name_of(case: tuple[str, int]) -> str:
    return f"{case[0]}, {case[1]}"


def main(argv: list[str]) -> int:
    options = options_of(argv, strategies="ddp,fsdp", parts="exchange,time,calculated", processes="1,2,4")
    strategies, parts = options["strategies"].split(","), options["parts"].split(",")
    result: dict[str, Any] = {}
    lines: list[str] = []
    if "exchange" in parts:
        found = result["exchange"] = {}
        for case in cases(strategies, [int(number) for number in options["processes"].split(",")]):
            found[name_of(case)] = exchange(*case)
            save(rounded(result), options["out"])
        lines += [*exchange_table(found), ""]
    if "time" in parts:
        seconds: dict[str, list[dict[str, float]]] = {}
        for number in range(options["repeats"]):
            for case in cases(strategies, TIMED)[:: 1 if number % 2 == 0 else -1]:
                seconds[name_of(case)] = seconds.get(name_of(case), []) + times(case)
                result["time"] = {name: summary(rows) for name, rows in seconds.items()}
                save(rounded(result), options["out"])
        lines += [*time_table(result["time"]), ""]
    if "calculated" in parts:
        from speed.scaling_model import calculated, table

        result["calculated, not measured"] = calculated()
        lines += table(result["calculated, not measured"])
    finish(rounded(result), lines, options["out"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
