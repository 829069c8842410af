"""Protocol 2, methods x worlds x rewards in one table: docs/benchmark.md. It may be interrupted at any time.

    python benchmarks/fronts/benchmark.py status      # what is done and missing, core-minutes, what waits for what
    python benchmarks/fronts/benchmark.py run b1      # trains and evaluates what is missing of a tier, and keeps it
    python benchmarks/fronts/benchmark.py length Lb   # the world's one length, from plain runs on tuning prompts
    python benchmarks/fronts/benchmark.py choose Tb   # each method's trials by hypervolume on tuning prompts
    python benchmarks/fronts/benchmark.py page        # the table and figure of docs/benchmark.md, from what is kept

A method is a file of the package and a recipe in plan2.yaml: a name and a sentence under `methods`, its settings in a
tier. `run` then trains it alone, and `page` gives it a row.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmark_compute import compute_lines
from benchmark_page import draw, write_page
from benchmark_room import read_room
from benchmark_table import CPU, Table, tabulate
from benchmark_trials import Trial, ranked, trial_lines, trial_of
from levels import one_length
from plan import Tier, read_plan
from run import ROOT, Queue, status
from store import Store

from drift_pl.config.command import run_command
from drift_pl.config.yaml_text import load_yaml
from drift_pl.core.errors import UserError
from drift_pl.evaluation.bundle import name_of
from drift_pl.evaluation.record import Evaluation
from drift_pl.reports.comparison import Comparison, compare
from drift_pl.reports.compatibility import BUDGET

PLAN = Path(__file__).with_name("plan2.yaml")
PAGE, RESULTS = ROOT / "docs" / "benchmark.md", ROOT / "docs" / "results" / "benchmark"
RUNS = ROOT / "runs" / "benchmark"
MADE_OF = ("drift_pl", "experiments", "benchmarks/fronts/plain.yaml", "benchmarks/fronts/prompts")
"""What decides a run's result besides the plan, in git."""


def commit_of(root: Path) -> str:
    """The commit that last changed the package.

    Raises:
        UserError: it has changes that are in no commit, or this is no checkout.
    """

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments, "--", *MADE_OF], cwd=root, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"{root}: {done.stderr.strip().splitlines()[0]}: results record their commit")
        return done.stdout.strip()

    if changed := git("status", "--porcelain"):
        raise UserError(
            f"{changed.split()[-1]} has changes that are in no commit: results record theirs, so commit first"
        )
    return git("log", "-1", "--format=%h", "--abbrev=12")


def device_name() -> str:
    """What `trainer.accelerator=auto` takes here, such as `CPU` or `NVIDIA H100 80GB HBM3`."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else CPU


def refuse_unready(tier: Tier, frozen: dict[str, Any]) -> None:
    """A tier with a claim has its world's length, which must have been found before.

    Raises:
        UserError: it has not.
    """
    if tier.claim and frozen["length"]["iterations"][tier.world] is None:
        raise UserError(
            f"tier {tier.name} has the length of world {tier.world}, which is not known: run tier L{tier.world}, then "
            f"`length L{tier.world}`, and write it into frozen.length.iterations of {PLAN.name}"
        )


def tabulated(plan: dict[str, Tier], content: dict[str, Any], results: Path, runs: Path = RUNS) -> list[Table]:
    """A table for each tier on test prompts that has a complete seed.

    Raises:
        UserError: a result is of another protocol, or a tier has results of two commits.
    """
    store = Queue(runs, results, made_by={"protocol": content["frozen"]["protocol"]}).store
    tables = []
    for tier in (tier for tier in plan.values() if tier.on_test_prompts):
        tier = measured(tier, store)
        jobs = {job.key: content_of for job in tier.jobs if (content_of := store.job_of(job))}
        if not jobs:
            continue
        refuse_two_commits(tier, store, jobs)
        kept = {name_of(each): each for each in store.evaluations(tier)}
        comparison = compared([kept[name] for name in jobs])
        tables.append(tabulate(tier, content, comparison, jobs, read_room(results, tier.world)))
    return tables


def compared(evaluations: Sequence[Evaluation]) -> Comparison:
    """As `compare`, but the budget is in images: an update may make fewer optimizer steps of them.

    Raises:
        UserError: as `compare`.
    """
    return compare(evaluations, budget=[field for field in BUDGET if field != "optimiser_steps"])


def measured(tier: Tier, store: Store) -> Tier:
    """The part of a tier that its file has: the baseline's seeds, and the methods that have all of them."""
    held = {job.key: job for job in tier.jobs if store.job_of(job) and job.key in store.held(tier.name)}
    seeds = [seed for seed in tier.seeds if f"{tier.baseline}-s{seed}" in held]
    methods = [name for name in tier.methods if seeds and all(f"{name}-s{seed}" in held for seed in seeds)]
    return replace(
        tier,
        seeds=tuple(seeds),
        methods=tuple(methods),
        against=tuple(name for name in tier.against if name in methods),
        jobs=tuple(held[f"{name}-s{seed}"] for name in methods for seed in seeds),
    )


def refuse_two_commits(tier: Tier, store: Store, jobs: dict[str, dict[str, Any]]) -> None:
    """All results of a tier were made by one commit.

    Raises:
        UserError: two were not; the message names them.
    """
    first, commit = next((name, job.get("commit")) for name, job in jobs.items())
    for name, job in jobs.items():
        if job.get("commit") != commit:
            where = store.where(tier.name, name)
            raise UserError(
                f"{where} was made by commit {job.get('commit')} and {first} by {commit}: a tier has one commit; "
                "run it again in another tier, or remove the file to run all of it"
            )


def complete_results(queue: Queue, tier: Tier) -> list[Evaluation]:
    """Those of the tier's complete seeds, which also go into its file."""
    queue.gather([tier])
    names = set(queue.store.comparable(tier))
    return [each for each in queue.store.evaluations(tier) if name_of(each) in names]


def find_length(queue: Queue, tier: Tier) -> int:
    """See `one_length`.

    Raises:
        UserError: a seed of the tier is missing, or it is none of plain runs on tuning prompts.
    """
    if len(tier.methods) > 1 or tier.on_test_prompts:
        raise UserError(f"tier {tier.name} does not find a length: name one of plain runs on tuning prompts, e.g. Lb")
    kept = complete_results(queue, tier)
    if len(kept) < len(tier.jobs):
        raise UserError(f"tier {tier.name} has {len(kept)} of {len(tier.jobs)} runs: run it first")
    (method,) = compare([each for each in kept if each.method == tier.baseline]).methods
    return one_length([point.iteration for point in method.points], method.means_SK["reward"])


def find_trials(queue: Queue, tiers: Sequence[Tier], content: dict[str, Any]) -> dict[str, list[Trial]]:
    """See `ranked`: of the seeds of these tiers that are complete.

    Raises:
        UserError: a tier has no complete seed, or is on test prompts; or they differ in world or length.
    """
    found, frozen = [], content["frozen"]
    if tested := [tier.name for tier in tiers if tier.on_test_prompts]:
        raise UserError(f"tier {tested[0]} is on test prompts: name tiers on tuning prompts, to choose by")
    groups = {trials_group(tier): tier.name for tier in tiers}
    if len(groups) > 1:
        (one, first), (two, second), *_ = groups.items()
        raise UserError(
            f"tier {first} has world {one[0]} and {one[1]} iterations, {second} world {two[0]} and {two[1]}: name "
            "tiers of one world and length, whose trials can be compared"
        )
    for tier in tiers:
        kept = complete_results(queue, tier)
        if not kept:
            raise UserError(f"tier {tier.name} has no seed that all of its methods have: run it first")
        measure, bound = frozen["worlds"][tier.world]["diversity"], frozen["gains"]["reward_bound"]
        found += [trial_of(method, measure, bound) for method in compared(kept).methods]
    return ranked(found)


def unfinished(queue: Queue, plan: dict[str, Tier]) -> dict[str, Tier]:
    """The tiers that lack a run; those on tuning prompts, which have no table, with the missing jobs alone."""
    found = {}
    for name, tier in plan.items():
        missing = tuple(job for job in tier.jobs if job.key not in queue.store.held(name))
        if missing:
            found[name] = tier if tier.on_test_prompts else replace(tier, jobs=missing)
    return found


def below_tables(queue: Queue, plan: dict[str, Tier], content: dict[str, Any]) -> list[str]:
    """What was tried, and what all of it took."""
    made = {name: queue.store.own(name) for name in plan}
    titles = {name: tier.title for name, tier in plan.items()}
    return [*tried(queue, plan, content), *compute_lines(titles, made, content["core_hours"])]


def tried(queue: Queue, plan: dict[str, Tier], content: dict[str, Any]) -> list[str]:
    """The page's tables of trials on tuning prompts, one for each world and length of runs."""
    groups: dict[tuple[str, str], list[Tier]] = {}
    for tier in plan.values():
        if len(tier.methods) > 1 and not tier.on_test_prompts and queue.store.comparable(tier):
            groups.setdefault(trials_group(tier), []).append(tier)
    return [line for group, tiers in groups.items() for line in trial_lines(find_trials(queue, tiers, content), *group)]


def trials_group(tier: Tier) -> tuple[str, str]:
    """World and iterations: trials that differ in these are not compared."""
    given = [each.partition("=") for each in tier.jobs[0].overrides]
    return tier.world, next((value for key, _, value in reversed(given) if key == "trainer.iterations"), "")


def run(queue: Queue, tiers: Sequence[Tier]) -> None:
    """Does what is missing, one tier after the other.

    Raises:
        UserError: a run failed.
    """
    for tier in tiers:
        failed = queue.work([tier])
        if failed:
            raise UserError(f"failed: {failed[0].name}; the reason is in {queue.runs / failed[0].name}.log")


def _main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["status", "run", "length", "choose", "page"])
    parser.add_argument("tiers", nargs="*", help="names of tiers; none: all")
    parser.add_argument("--seeds", type=int, help="only so many seeds of a tier (run)")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time; a core each, or all on one accelerator")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where runs and single results live")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where files of tiers are")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page with the table")
    parser.add_argument("--debug", action="store_true")
    options = parser.parse_args(argv)
    plan, content = read_plan(PLAN), load_yaml(PLAN.read_text())
    for name in ("seeds", "workers"):
        if (given := getattr(options, name)) is not None and given < 1:
            raise UserError(f"--{name} {given} must be at least 1")
    unknown = [name for name in options.tiers if name not in plan]
    if unknown:
        raise UserError(f"no tier {unknown[0]!r}: there are {', '.join(plan)}")
    tiers = [plan[name] for name in dict.fromkeys(options.tiers) or plan]
    made_by = {"protocol": content["frozen"]["protocol"]}
    notes = {}
    if options.action == "run":
        made_by["commit"] = commit_of(ROOT)
        notes["device"] = device_name()
    queue = Queue(options.runs.absolute(), options.results.absolute(), options.workers, made_by=made_by, notes=notes)
    if options.action == "run":
        for tier in tiers:
            refuse_unready(tier, content["frozen"])
        run(queue, [_first_seeds(tier, options.seeds) for tier in tiers])
    elif options.action == "length":
        for tier in tiers:
            print(f"{tier.name}  {find_length(queue, tier)} iterations")
    elif options.action == "choose":
        for name, trials in find_trials(queue, tiers, content).items():
            print(f"{name:16}", *(f"{each.name} {each.volume:.4f} ({len(each.runs)})" for each in trials), sep="  ")
    elif options.action == "status":
        print(status(queue, tiers))
    else:
        tables = tabulated(plan, content, queue.results, queue.runs)
        draw(tables, queue.results / "benchmark.png")
        write_page(options.page, tables, unfinished(queue, plan), content, below_tables(queue, plan, content))


def _first_seeds(tier: Tier, count: int | None) -> Tier:
    seeds = tier.seeds[:count]
    return replace(tier, seeds=seeds, jobs=tuple(job for job in tier.jobs if job.seed in seeds))


if __name__ == "__main__":
    sys.exit(run_command(_main))
