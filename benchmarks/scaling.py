"""What processes exchange and what an iteration takes on several; and, calculated, what many GPUs would do.

    python benchmarks/scaling.py [out=FILE] [repeats=5] [strategies=ddp,fsdp] [parts=exchange,time,calculated]

Runs `fit` on the built-in model, on CPUs with gloo: collectives and bytes per iteration of 1, 2 and 4 processes, and
the time of an iteration on 1 and 2, in turn. `calculated` extends the counts of `limit.py` to 8, 64 and 512 GPUs.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from speed.timing import finish, options_of, rounded

HERE = Path(__file__).parent
PROCESSES = {"exchange": (1, 2, 4), "time": (1, 2)}
SMALL = ("prompts.per_iteration=8", "prompts.group_size=2", "objective.micro_batch=2")
"""For counts, which do not depend on the number of images."""
RUN = (
    *("experiment=shapes_flowgrpo", "trainer.accelerator=cpu", "trainer.threads=1", "trainer.logger=[]"),
    *("trainer.progress=false", "trainer.save_every=1000", "evaluation.max_prompts=2", "evaluation.seeds_per_prompt=2"),
    *("evaluation.grid_seeds=1", "evaluation.measures=[]"),
)
TIME_LIMIT_S = 1800


def launch(strategy: str, processes: int, exchange: bool, overrides: tuple[str, ...]) -> list[list[dict[str, Any]]]:
    """Entries of `speed/collectives.py` of each process and iteration, of one run of `fit`.

    Raises:
        SystemExit: the run failed; its message is shown.
    """
    with tempfile.TemporaryDirectory() as folder:
        counting = f"{{name: 'speed.collectives:Count', args: {{folder: {folder}, exchange: {str(exchange).lower()}}}}}"
        chosen = "auto" if processes == 1 and strategy == "ddp" else strategy
        settings = [*RUN, *overrides, f"trainer.devices={processes}", f"trainer.strategy={chosen}"]
        path = os.pathsep.join([str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "drift_pl.fit",
                *settings,
                f"trainer.callbacks=[{counting}]",
                f"run_dir={folder}/run",
            ],
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_S,
        )
        if done.returncode:
            raise SystemExit(f"error: {strategy} on {processes} processes: {done.stderr.strip()[-2000:]}")
        return [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(processes)]


def exchange(strategy: str, processes: int) -> dict[str, Any]:
    """Collectives and bytes of the last of three iterations on the first process; all processes must agree."""
    ranks = launch(strategy, processes, True, (*SMALL, "trainer.iterations=3"))
    last = [rank[-1]["exchange"] for rank in ranks]
    calls = [{(stage, name): row[0] for stage, rows in one.items() for name, row in rows.items()} for one in last]
    if any(one != calls[0] for one in calls):
        raise SystemExit(
            f"error: {strategy} on {processes} processes: not all take part in the same exchanges: {calls}"
        )
    return last[0]


def times(strategies: list[str], repeats: int) -> dict[str, Any]:
    """Medians over runs in turn, each of two iterations after the first: of the slowest process."""
    cases = [(strategy, processes) for processes in PROCESSES["time"] for strategy in strategies]
    seconds: dict[tuple[str, int], list[dict[str, float]]] = {case: [] for case in cases}
    for number in range(repeats):
        for case in cases if number % 2 == 0 else reversed(cases):
            ranks = launch(*case, False, ("trainer.iterations=3",))
            per_iteration = [
                {key: max(rank[at][key] for rank in ranks) for key in ("cpu_s", "wall_s")} for at in (1, 2)
            ]
            seconds[case] += per_iteration
    return {
        f"{strategy}, {processes}": {
            "iterations": len(rows),
            **{key: statistics.median(row[key] for row in rows) for key in ("cpu_s", "wall_s")},
        }
        for (strategy, processes), rows in seconds.items()
    }


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


def main(argv: list[str]) -> int:
    options = options_of(argv, strategies="ddp,fsdp", parts="exchange,time,calculated")
    strategies, parts = options["strategies"].split(","), options["parts"].split(",")
    result: dict[str, Any] = {}
    lines: list[str] = []
    if "exchange" in parts:
        cases = [(strategy, processes) for strategy in strategies for processes in PROCESSES["exchange"]]
        result["exchange"] = {
            f"{strategy}, {processes}": exchange(strategy, processes) for strategy, processes in cases
        }
        lines += [*exchange_table(result["exchange"]), ""]
    if "time" in parts:
        result["time"] = times(strategies, options["repeats"])
        lines += [*time_table(result["time"]), ""]
    if "calculated" in parts:
        from speed.scaling_model import calculated, table

        result["calculated, not measured"] = calculated()
        lines += table(result["calculated, not measured"])
    finish(rounded(result), lines, options["out"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
