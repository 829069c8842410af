"""The study of reward-diversity fronts, as a queue that may be interrupted at any time.

    python benchmarks/fronts/run.py A B            # trains, evaluates and compares what is missing of two tiers
    python benchmarks/fronts/run.py --status       # what is done, what is missing, estimated time
    python benchmarks/fronts/run.py A --commit     # also commits the tier's file whenever a seed is complete
    python benchmarks/fronts/run.py A --compare    # fronts and gains over the seeds that are complete

Runs live in `runs/fronts/` and resume from their last checkpoint, single results in `runs/fronts/results/TIER/`. When
every method of a tier has a seed, the seed goes into docs/results/fronts/TIER/evaluations.json.xz (`store`).
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plan import PLAN, Job, Tier, read_plan
from store import TAKEN_OVER, Store

from drift_pl.config.command import run_command
from drift_pl.core.errors import UserError

ROOT = Path(__file__).parents[2]
Command = Callable[[list[str], Path], int]


def run_python(arguments: list[str], log: Path) -> int:
    """Runs a module of the package in a separate process; its output goes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        return subprocess.run([sys.executable, "-m", *arguments], stdout=file, stderr=file, cwd=ROOT).returncode


@dataclass
class Queue:
    """Trains and evaluates jobs, each at most once.

    Attributes:
        runs: folder of runs, logs and, in `results/`, single results.
        results: folder of the tiers' files and comparisons.
        workers: jobs at a time.
        command: runs `[module, arguments...]` and returns its status.
        commit: whether a tier's file is committed whenever a seed is complete.
        made_by, notes: see `Store`.
    """

    runs: Path
    results: Path
    workers: int = 1
    command: Command = run_python
    commit: bool = False
    made_by: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.store = Store(self.runs / "results", self.results, self.made_by, self.notes)

    def work(self, tiers: Sequence[Tier]) -> list[Job]:
        """Does the missing jobs in order, and returns those that failed."""
        jobs = [job for tier in tiers for job in tier.jobs]
        missing = [job for job in jobs if not self.store.job_of(job) and not self.store.take_over(job)]
        self.gather(tiers)
        failed: list[Job] = []
        started = time.monotonic()
        # a source is trained before other methods evaluate it
        waiting = sorted(missing, key=lambda job: (job.seed, job.source is not None))
        with ThreadPoolExecutor(self.workers) as pool:
            going: dict[Future[bool], Job] = {}
            while waiting or going:
                while waiting and len(going) < self.workers:
                    taken = {job.run_name for job in going.values()}
                    ready = next((job for job in waiting if job.run_name not in taken), None)
                    if ready is None:
                        break
                    waiting.remove(ready)
                    going[pool.submit(self._do, ready)] = ready
                for future in wait(going, return_when=FIRST_COMPLETED).done:
                    job = going.pop(future)
                    if not future.result():
                        failed.append(job)
                    self.gather(tiers)
                    done = len(missing) - len(waiting) - len(going)
                    rest = (time.monotonic() - started) / done * (len(missing) - done) / 60
                    state = "failed" if job in failed else "done"
                    print(f"{state:6} {job.name:40} {done} of {len(missing)}, about {rest:.0f} min left", flush=True)
        return failed

    def gather(self, tiers: Sequence[Tier]) -> None:
        """Adds seeds that are now complete to their tiers' files, and commits these."""
        for tier in tiers:
            seeds = self.store.gather(tier)
            if seeds and self.commit:
                kept = [self.store.file(tier.name), self.results / TAKEN_OVER]
                files = [str(path) for path in kept if path.is_file()]
                message = f"Fronts: tier {tier.name}, seed {', '.join(map(str, seeds))}"
                subprocess.run(["git", "add", *files], cwd=ROOT, check=True)
                subprocess.run(["git", "commit", "-q", "-m", message, "--", *files], cwd=ROOT, check=True)

    def compare(self, tier: Tier) -> int:
        """Fronts and gains over the seeds that every method of the tier has, if there are any.

        Written to the tier's folder for the baseline, and to its subfolder `against_METHOD/` for each further one.
        """
        self.gather([tier])
        names = self.store.comparable(tier)
        if not names:
            return 0
        paths = self.store.paths(tier, names, ROOT)
        out = self.results / tier.name
        outs = {tier.baseline: out} | {method: out / f"against_{method}" for method in tier.against}
        log = self.runs / f"{tier.name}.log"
        return max(
            self.command(["drift_pl.pareto", *paths, f"baseline={method}", f"out={to}", *tier.comparison], log)
            for method, to in outs.items()
        )

    def _is_trained(self, job: Job) -> bool:
        return (self.runs / job.run_name / "summary.json").is_file()

    def _do(self, job: Job) -> bool:
        run, log = self.runs / job.run_name, self.runs / f"{job.name}.log"
        started = time.monotonic()
        resumed = run.exists() and job.source is None
        if not self._is_trained(job):
            fit = ["drift_pl.fit", *job.overrides, f"seed={job.seed}", f"run_dir={run}", "ckpt_path=auto"]
            if self.command(fit, log):
                return False
        evaluation = run / "evaluation" / f"{job.method}.json"
        measured = run / "checkpoints" / f"{job.checkpoint}.ckpt" if job.checkpoint else run
        evaluate = ["drift_pl.evaluate", f"ckpt_path={measured}", f"method={job.method}", f"out={evaluation}"]
        base = self.store.base(job.tier)  # measured once for a whole tier
        if self.command([*evaluate, *job.evaluation, *([] if base is None else [f"base={base}"])], log):
            return False
        self.store.keep(job, evaluation, round((time.monotonic() - started) / 60, 1), resumed)
        return True


def status(queue: Queue, tiers: Sequence[Tier]) -> str:
    """A line per tier: what is done, and the estimated time of the rest, from the median so far."""
    lines = []
    for tier in tiers:
        done = [content for job in tier.jobs if (content := queue.store.job_of(job))]
        minutes = [content["minutes"] for content in done]
        missing = len(tier.jobs) - len(done)
        estimate = f", about {missing * statistics.median(minutes):.0f} min of one core missing" if minutes else ""
        lines.append(f"{tier.name}  {len(done)} of {len(tier.jobs)} done{estimate}  ({tier.title})")
    return "\n".join(lines)


def _main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiers", nargs="*", help="names of tiers; none: all")
    parser.add_argument("--plan", type=Path, default=PLAN)
    parser.add_argument(
        "--runs", type=Path, default=ROOT / "runs" / "fronts", help="where runs and single results live"
    )
    parser.add_argument(
        "--results", type=Path, default=ROOT / "docs" / "results" / "fronts", help="where files of tiers are"
    )
    parser.add_argument("--workers", type=int, default=1, help="jobs at a time; a core each")
    parser.add_argument("--commit", action="store_true", help="commit a tier's file whenever a seed is complete")
    parser.add_argument("--compare", action="store_true", help="only compare existing results")
    parser.add_argument("--status", action="store_true", help="print what is done and what is missing")
    parser.add_argument("--debug", action="store_true")
    options = parser.parse_args(argv)
    plan = read_plan(options.plan)
    unknown = [name for name in options.tiers if name not in plan]
    if unknown:
        raise UserError(f"no tier {unknown[0]!r}: there are {', '.join(plan)}")
    tiers = [plan[name] for name in options.tiers or plan]
    queue = Queue(options.runs.absolute(), options.results.absolute(), options.workers, commit=options.commit)
    if options.status:
        print(status(queue, tiers))
        return
    failed = [] if options.compare else queue.work(tiers)
    if failed:
        names = ", ".join(job.name for job in failed)
        raise UserError(f"failed: {names}; the reason is in {queue.runs / failed[0].name}.log")
    for tier in tiers:
        if queue.compare(tier):
            raise UserError(f"tier {tier.name} cannot be compared; the reason is in {queue.runs / tier.name}.log")


if __name__ == "__main__":
    sys.exit(run_command(_main))
