"""Which trials meet the test prompts: by hypervolume on tuning prompts, the mean over seeds."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from benchmark import PLAN, compared, find_length, find_trials, tabulated, tried, unfinished
from benchmark_page import write_page
from benchmark_trials import Run, Trial, ranked
from made_up_evaluations import make_point, write_file
from made_up_tiers import EMPTY_PAGE
from plan import Job, Tier, read_plan
from run import Queue

from drift_pl.core.errors import UserError
from drift_pl.evaluation.record_file import read_evaluation

CONTENT = yaml.safe_load(PLAN.read_text())
MADE_BY = {"protocol": 2, "commit": "abc"}


def tuning(name: str, trials: dict[str, float], seeds: tuple[int, ...], tmp_path: Path) -> tuple[Queue, Tier]:
    """A tier whose trials go from (reward 0, diversity 1) to (0.5, a diversity of their own)."""
    like = read_plan(PLAN)["Lb"]
    jobs = tuple(replace(like.jobs[0], tier=name, method=trial, seed=seed) for seed in seeds for trial in trials)
    tier = replace(like, name=name, methods=tuple(trials), seeds=seeds, baseline=next(iter(trials)), jobs=jobs)
    queue = Queue(tmp_path / "runs", tmp_path / "results", made_by=MADE_BY)
    for job in jobs:
        _keep(queue, job, 0.5, trials[job.method], tmp_path)
    return queue, tier


def _keep(queue: Queue, job: Job, reward: float, diversity: float, tmp_path: Path) -> None:
    points = [
        make_point(at, [r] * 2, valid_pairwise_distance=[d] * 2, pairwise_lpips=0.02)
        for at, r, d in ((0, 0.0, 1.0), (48, reward, diversity))
    ]
    made = write_file(tmp_path / "made" / job.tier, job.method, job.seed, points)
    queue.store.keep(job, made / "evaluation.json", 6.0)


def test_the_best_of_both_stages_comes_first(tmp_path: Path) -> None:
    """One step of reward 0.5 and diversity d has the area d / 2.

    Catches in benchmarks/fronts/benchmark_trials.py: the worst first; a trial of one seed before those that went on;
    strengths of two methods in one list; the second tier's seeds replace the first's; a seed that it has taken over
    counted twice.
    """
    trials = {"nft_kl_0.1": 0.6, "nft_kl_0.3": 0.8, "nft_kl_1": 0.9, "kl_0.1": 0.7}
    queue, first = tuning("T", trials, (0,), tmp_path)
    _, second = tuning("T2", {"nft_kl_0.3": 0.2, "nft_kl_1": 0.6}, (1, 2), tmp_path)
    _, third = tuning("T3", {"nft_kl_1": 0.9, "nft_kl_2": 0.1}, (0,), tmp_path)
    found = find_trials(queue, [first, second, third], CONTENT)
    assert list(found) == ["nft_kl", "kl"]
    assert [trial.name for trial in found["nft_kl"]] == ["nft_kl_1", "nft_kl_0.3", "nft_kl_0.1", "nft_kl_2"]
    assert [run.volume for run in found["nft_kl"][0].runs.values()] == pytest.approx([0.45, 0.3, 0.3])
    assert [trial.volume for trial in found["nft_kl"]] == pytest.approx([0.35, 0.2, 0.3, 0.05])
    assert found["kl"][0].volume == pytest.approx(0.35)


def test_trials_of_a_world_and_a_length_share_a_table(tmp_path: Path) -> None:
    """Also those of two tiers; one that finds a length has no trials, and a tier on test prompts none to choose from.

    Catches in benchmarks/fronts: trials of two worlds or lengths in one table; the first tier's rewards alone at the
    end; tiers of one method, or on test prompts, among them.
    """
    trials = {"nft_kl_0.1": 0.6, "kl_0.1": 0.7}
    queue, first = tuning("T", trials, (0,), tmp_path)
    _, second = tuning("T2", {"nft_kl_0.1": 0.2, "kl_0.1": 0.7}, (1, 2), tmp_path)
    _, elsewhere = tuning("T3", trials, (0,), tmp_path)
    _, single = tuning("T4", {"flowgrpo": 0.5}, (0,), tmp_path)
    _, tested = tuning("T5", {"other": 0.5, "more": 0.5}, (0,), tmp_path)
    tested = replace(tested, jobs=tuple(replace(job, evaluation=("prompts=test",)) for job in tested.jobs))
    tiers = (first, second, replace(elsewhere, world="c"), single, tested)
    lines = tried(queue, {tier.name: tier for tier in tiers}, CONTENT)
    assert [line for line in lines if line.startswith("#")] == [
        "## Trials on tuning prompts, world b, 160 iterations",
        "## Trials on tuning prompts, world c, 160 iterations",
    ]
    assert not any("flowgrpo" in line or "other" in line for line in lines)
    (nft, elsewhere_nft) = (line for line in lines if line.startswith("| `nft_kl` |"))
    assert nft == "| `nft_kl` | `nft_kl_0.1` | 3 | 0.1667 | 0.5000 | 0.3333 |"
    assert elsewhere_nft == "| `nft_kl` | `nft_kl_0.1` | 1 | 0.3000 | 0.5000 | 0.6000 |"


def test_the_length_is_that_of_all_seeds_together(tmp_path: Path) -> None:
    """Alone the first seed, which gains nothing, would say that the base model is as good as it gets.

    Catches in benchmarks/fronts/benchmark.py: the first seed's length; a length from the seeds that there are so far.
    """
    tier = read_plan(PLAN)["Lb"]
    queue = Queue(tmp_path / "runs", tmp_path / "results", made_by=MADE_BY)
    *first, last = (job for job in tier.jobs if job.method == tier.baseline)
    for job in first:
        _keep(queue, job, 0.5 * (job.seed > 0), 0.5, tmp_path)
    with pytest.raises(UserError, match="tier Lb has 2 of 3 runs: run it first"):
        find_length(queue, tier)
    _keep(queue, last, 0.5, 0.5, tmp_path)
    assert find_length(queue, tier) == 48


def test_a_name_without_a_strength_is_its_own_method() -> None:
    assert Trial("flowgrpo", {}).method == "flowgrpo"
    trials = [Trial(f"a_{number}", {0: Run(number / 10, 0.5, 0.5)}) for number in (1, 2)]
    assert [trial.name for trial in ranked(trials)["a"]] == ["a_2", "a_1"]


def test_updates_may_differ_in_optimizer_steps_and_not_in_images(tmp_path: Path) -> None:
    """Catches in benchmarks/fronts/benchmark.py: any other budget is let through, or published updates refused;
    other prompts behind a difference in steps."""
    made = [
        write_file(tmp_path / str(number), name, 0, [make_point(0, 0.1), make_point(20, 0.5)], training=training)
        for number, (name, training) in enumerate(
            [
                ("kl", {}),
                ("nft", {"optimiser_steps": 20}),
                ("long", {"images": 2560}),
                ("other", {"optimiser_steps": 20, "prompts_digest": "feedbeef0123"}),
            ]
        )
    ]
    one, two, three, four = (read_evaluation(path / "evaluation.json") for path in made)
    assert [method.name for method in compared([one, two]).methods] == ["kl", "nft"]
    with pytest.raises(UserError, match=r"trained on different budgets: training\.images is 1280"):
        compared([one, three])
    with pytest.raises(UserError, match=r"training\.prompts_digest is 0123456789ab"):
        compared([one, four])


def test_nothing_is_chosen_on_test_prompts_or_from_nothing(tmp_path: Path) -> None:
    plan = read_plan(PLAN)
    queue = Queue(tmp_path / "runs", tmp_path / "results", made_by=MADE_BY)
    with pytest.raises(UserError, match="tier b1 is on test prompts: name tiers on tuning prompts"):
        find_trials(queue, [plan["b1"]], CONTENT)
    with pytest.raises(UserError, match="tier Lb has no seed that all of its methods have: run it first"):
        find_trials(queue, [plan["Lb"]], CONTENT)


def test_trials_that_have_been_run_are_not_called_missing(tmp_path: Path) -> None:
    """Catches in benchmarks/fronts/benchmark.py: a tier on tuning prompts, which has no table, missing as a whole."""
    tier = read_plan(PLAN)["Tb2"]
    queue = Queue(tmp_path / "runs", tmp_path / "results", made_by=MADE_BY)
    for job in (job for job in tier.jobs if job.seed == 1):
        _keep(queue, job, 0.5, 0.5, tmp_path)
    queue.store.gather(tier)
    page = tmp_path / "page.md"
    page.write_text(EMPTY_PAGE)
    write_page(page, [], unfinished(queue, {"Tb2": tier}), CONTENT)
    assert f"- Tb2, {tier.title}: 2 of 4 runs." in page.read_text()


def test_the_page_says_what_trained_which_seeds(tmp_path: Path) -> None:
    """Minutes are those on the device that most runs are from: two devices' minutes cannot be compared.

    Catches in benchmarks/fronts: the device is not kept; minutes of all devices averaged; no table where a method has
    no run on that device and another has; the mean, which a run that was finished after an interruption pulls down.
    """
    tier = read_plan(PLAN)["b1"]
    tier = replace(
        tier,
        methods=("flowgrpo", "nft_kl_0.1"),
        against=(),
        jobs=tuple(job for job in tier.jobs if job.method in ("flowgrpo", "nft_kl_0.1")),
    )
    on_cpu = {job for job in tier.jobs if job.method == "nft_kl_0.1"}
    resumed = {job for job in tier.jobs if job.key == "flowgrpo-s201"}
    for jobs, device, minutes in (
        (on_cpu, "CPU", 6.0),
        ({*tier.jobs} - on_cpu - resumed, "NVIDIA H100", 2.0),
        (resumed, "NVIDIA H100", 0.5),
    ):
        queue = Queue(tmp_path / "runs", tmp_path / "results", made_by=MADE_BY, notes={"device": device})
        for job in jobs:
            points = [
                make_point(at, [r] * 2, valid_pairwise_distance=[1 - r] * 2, pairwise_lpips=0.02)
                for at, r in ((0, 0.0), (48, 0.5))
            ]
            made = write_file(tmp_path / "made", job.method, job.seed, points)
            queue.store.keep(job, made / "evaluation.json", minutes)
    queue.store.gather(tier)
    (table,) = tabulated({"b1": tier}, CONTENT, tmp_path / "results")
    assert table.devices == {"CPU": [200, 201, 202], "NVIDIA H100": [200, 201, 202]}
    assert [row.minutes for row in table.rows["flowgrpo"]] == [2.0, None]
    page = tmp_path / "page.md"
    page.write_text(EMPTY_PAGE)
    write_page(page, [table], {"b1": tier}, CONTENT)
    where = (
        "on NVIDIA H100, with several runs at a time; seed 200, 201, 202 on one core of a shared machine, not timed."
    )
    assert where in page.read_text()
