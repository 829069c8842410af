"""The study of reward-diversity fronts, as a queue that may be interrupted at any time.

    python benchmarks/fronts/run.py A B            # trains, evaluates and compares what is still missing of two tiers
    python benchmarks/fronts/run.py --status       # what is there, what is missing, about how long it will take
    python benchmarks/fronts/run.py A --commit     # and commits every result as it comes
    python benchmarks/fronts/run.py A --compare    # fronts and gains over the seeds that are complete

Runs live in `runs/fronts/` and go on from their last checkpoint; results in `docs/results/fronts/TIER/`.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from plan import PLAN, Job, Tier, read_plan

from drift_pl.config.command import run_command
from drift_pl.core.errors import UserError

ROOT = Path(__file__).parents[2]
Command = Callable[[list[str], Path], int]


def run_python(arguments: list[str], log: Path) -> int:
    """Runs a module of the package in a process of its own; its output goes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        return subprocess.run([sys.executable, "-m", *arguments], stdout=file, stderr=file, cwd=ROOT).returncode


@dataclass
class Queue:
    """Trains and evaluates jobs, each at most once.

    Attributes:
        runs, results: folders.
        workers: jobs at a time.
        command: runs `[module, arguments...]` and returns its status.
        commit: whether every result is committed.
    """

    runs: Path
    results: Path
    workers: int = 1
    command: Command = run_python
    commit: bool = False
    _git: threading.Lock = field(default_factory=threading.Lock)

    def is_done(self, job: Job) -> bool:
        """Whether there is a result of this job, as it stands in the plan.

        Raises:
            UserError: there is one of another plan, which must not be mixed with this one.
        """
        path = self.results / job.name / "job.json"
        if not path.is_file():
            return False
        digest = json.loads(path.read_text())["digest"]
        if digest != job.digest:
            raise UserError(
                f"{path.parent} is a result of another plan (digest {digest}, the plan's is {job.digest}): figures of "
                "two plans are not mixed; remove the folder to run it anew"
            )
        return True

    def work(self, jobs: Sequence[Job]) -> list[Job]:
        """Does what is missing, in order, and returns the jobs that failed."""
        missing = [job for job in jobs if not self.is_done(job) and not self._copy_of_another_tier(job)]
        failed: list[Job] = []
        started = time.monotonic()
        # a source is trained before it is evaluated in another way
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
                    done = len(missing) - len(waiting) - len(going)
                    rest = (time.monotonic() - started) / done * (len(missing) - done) / 60
                    state = "failed" if job in failed else "done"
                    print(f"{state:6} {job.name:40} {done} of {len(missing)}, about {rest:.0f} min left", flush=True)
        return failed

    def compare(self, tier: Tier) -> int:
        """Fronts and gains over the seeds that every method of the tier has; none yet: nothing.

        Against the baseline in the tier's folder, against each further one in `against_METHOD/` in it.
        """
        seeds = [seed for seed in tier.seeds if all(self.is_done(job) for job in tier.jobs if job.seed == seed)]
        if not seeds:
            return 0
        jobs = [job for method in tier.methods for job in tier.jobs if job.method == method and job.seed in seeds]
        # as seen from the folder that commands run in: results name their files, and are kept
        folders = [os.path.relpath(self.results / job.name, ROOT) for job in jobs]
        out = self.results / tier.name
        outs = {tier.baseline: out} | {method: out / f"against_{method}" for method in tier.against}
        log = self.runs / f"{tier.name}.log"
        return max(
            self.command(["drift_pl.pareto", *folders, f"baseline={method}", f"out={to}", *tier.comparison], log)
            for method, to in outs.items()
        )

    def _is_trained(self, job: Job) -> bool:
        return (self.runs / job.run_name / "summary.json").is_file()

    def _copy_of_another_tier(self, job: Job) -> bool:
        """Takes over the result of a job that is the same but for its tier, if there is one."""
        for path in sorted(self.results.glob(f"*/{job.method}-s{job.seed}/job.json")):
            content = json.loads(path.read_text())
            if content["digest"] == job.digest:
                result = self.results / job.name
                shutil.copytree(path.parent, result, ignore=shutil.ignore_patterns("job.json"))
                (result / "job.json").write_text(json.dumps({**content, "job": job.name}, indent=2) + "\n")
                self._commit(job, result)
                return True
        return False

    def _do(self, job: Job) -> bool:
        run, result, log = self.runs / job.run_name, self.results / job.name, self.runs / f"{job.name}.log"
        started = time.monotonic()
        if not self._is_trained(job):
            fit = ["drift_pl.fit", *job.overrides, f"seed={job.seed}", f"run_dir={run}", "ckpt_path=auto"]
            if self.command(fit, log):
                return False
        evaluation = run / "evaluation" / f"{job.method}.json"
        measured = run / "checkpoints" / f"{job.checkpoint}.ckpt" if job.checkpoint else run
        evaluate = ["drift_pl.evaluate", f"ckpt_path={measured}", f"method={job.method}", f"out={evaluation}"]
        if self.command([*evaluate, *job.evaluation, *self._base(job)], log):
            return False
        self._keep(job, evaluation, result, time.monotonic() - started)
        return True

    def _base(self, job: Job) -> list[str]:
        """The base model is one for a whole tier: the tier's first results have it, with pictures."""
        results = [path.parent for path in self.results.glob(f"{job.tier}/*-s*/job.json")]
        first = min(results, key=lambda path: (int(path.name.rpartition("-s")[2]), path.name), default=None)
        return [] if first is None else [f"base={first / 'evaluation.json'}"]

    def _keep(self, job: Job, evaluation: Path, result: Path, seconds: float) -> None:
        """Keeps the evaluation, and pictures of one seed; job.json comes last, so that half a result is none."""
        result.mkdir(parents=True, exist_ok=True)
        measured = json.loads(evaluation.read_text())
        for point in measured["points"]:
            if point["picture"] and job.pictures:
                target = result / point["picture"]
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(evaluation.parent / point["picture"], target)
            else:
                point["picture"] = None
        (result / "evaluation.json").write_text(json.dumps(measured) + "\n")
        content = {"job": job.name, "digest": job.digest, "fit": job.overrides, "evaluate": job.evaluation}
        (result / "job.json").write_text(json.dumps({**content, "minutes": round(seconds / 60, 1)}, indent=2) + "\n")
        self._commit(job, result)

    def _commit(self, job: Job, result: Path) -> None:
        if self.commit:
            with self._git:
                subprocess.run(["git", "add", str(result)], cwd=ROOT, check=True)
                message = f"Fronts: {job.method}, seed {job.seed} (tier {job.tier})"
                subprocess.run(["git", "commit", "-q", "-m", message, "--", str(result)], cwd=ROOT, check=True)


def status(queue: Queue, tiers: Sequence[Tier]) -> str:
    """A line per tier: what is there, and an estimate of what is missing from the median of what is there."""
    lines = []
    for tier in tiers:
        done = [job for job in tier.jobs if queue.is_done(job)]
        minutes = [json.loads((queue.results / job.name / "job.json").read_text())["minutes"] for job in done]
        missing = len(tier.jobs) - len(done)
        estimate = f", about {missing * statistics.median(minutes):.0f} min of one core missing" if minutes else ""
        lines.append(f"{tier.name}  {len(done)} of {len(tier.jobs)} done{estimate}  ({tier.title})")
    return "\n".join(lines)


def _main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiers", nargs="*", help="names of tiers; none: all")
    parser.add_argument("--plan", type=Path, default=PLAN)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "fronts", help="where runs live")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "results" / "fronts")
    parser.add_argument("--workers", type=int, default=1, help="jobs at a time; a core each")
    parser.add_argument("--commit", action="store_true", help="commit every result as it comes")
    parser.add_argument("--compare", action="store_true", help="only compare what is there")
    parser.add_argument("--status", action="store_true", help="say what is there and what is missing")
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
    failed = [] if options.compare else queue.work([job for tier in tiers for job in tier.jobs])
    if failed:
        names = ", ".join(job.name for job in failed)
        raise UserError(f"failed: {names}; the reason is in {queue.runs / failed[0].name}.log")
    for tier in tiers:
        if queue.compare(tier):
            raise UserError(f"tier {tier.name} cannot be compared; the reason is in {queue.runs / tier.name}.log")


if __name__ == "__main__":
    sys.exit(run_command(_main))
