"""The study's queue: every job once, sources first, nothing of another plan, half a result is none."""

import hashlib
import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from plan import PLAN, Tier, read_plan
from run import Queue, run_python, status
from stand_in_commands import PLAN_TEXT, Commands

from drift_pl.core.errors import UserError
from drift_pl.core.files import write_json
from drift_pl.evaluation.bundle import name_of, read_bundle, read_jobs
from drift_pl.evaluation.record_file import read_evaluation

ROOT = Path(__file__).parents[2]
FRONTS = ROOT / "benchmarks" / "fronts"


@pytest.fixture
def tier(tmp_path: Path) -> Tier:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(PLAN_TEXT, sort_keys=False))
    return read_plan(path)["A"]


def singles(tmp_path: Path) -> Path:
    """Where single results of tier A lie."""
    return tmp_path / "runs" / "results" / "A"


def names_in(queue: Queue, tier: str = "A") -> list[str]:
    """What a tier's file holds."""
    path = queue.store.file(tier)
    return [name_of(evaluation) for evaluation in read_bundle(path)] if path.is_file() else []


def queue_in(tmp_path: Path, commands: Commands, workers: int = 2) -> Queue:
    return Queue(tmp_path / "runs", tmp_path / "results", workers, commands)


def fresh(tmp_path: Path, commands: Commands) -> Queue:
    """A checkout with the tiers' files and nothing else."""
    return Queue(tmp_path / "elsewhere", tmp_path / "results", 2, commands)


def test_jobs_come_seed_by_seed_with_frozen_keys_first(tier: Tier) -> None:
    """Catches in benchmarks/fronts: a method's keys before the frozen ones."""
    assert [job.name for job in tier.jobs] == [f"A/{name}-s{seed}" for seed in (7, 8) for name in tier.methods]
    assert tier.jobs[1].overrides == ("experiment=shapes_flowgrpo", "trainer.iterations=3", "experiment=shapes_div")
    assert tier.jobs[2].run_name == "A/plain-s7"
    assert len({job.digest for job in tier.jobs}) == 6


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_job_is_done_once_and_a_second_call_does_nothing(tier: Tier, tmp_path: Path, workers: int) -> None:
    """Catches in benchmarks/fronts: a finished run trained again; a source not waited for."""
    commands = Commands()
    queue = queue_in(tmp_path, commands, workers)
    assert queue.work([tier]) == []
    assert len(commands.named("drift_pl.fit")) == 4, "a swept method has no run of its own"
    assert len(commands.named("drift_pl.evaluate")) == 6
    results = singles(tmp_path)
    assert (results / "swept-s7" / "pictures" / "base.png").read_bytes() == b"png"
    assert not (results / "swept-s8" / "pictures").exists(), "pictures of one seed are enough"
    for seed, kept in ((7, "pictures/base.png"), (8, None)):
        points = json.loads((results / f"swept-s{seed}" / "evaluation.json").read_text())["points"]
        assert [point["picture"] for point in points] == [kept, None]
    assert read_evaluation(results / "levers-s7").method == "levers"
    queue.work([tier])
    assert len(commands.calls) == 10
    assert status(queue, [tier]).startswith("A  6 of 6 done")


def test_the_base_model_is_measured_once_for_a_tier(tier: Tier, tmp_path: Path) -> None:
    """Later jobs take it from the first seed's results, which have pictures."""
    commands = Commands()
    queue_in(tmp_path, commands, workers=1).work([tier])
    calls = commands.named("drift_pl.evaluate")
    given = [[Path(argument[5:]) for argument in call if argument.startswith("base=")] for call in calls]
    assert given[0] == []
    results = singles(tmp_path)
    assert [path for (path,) in given[1:]] == [
        results / f"{method}-s7" / "evaluation.json" for method in ("plain", *["levers"] * 4)
    ]


def test_a_run_goes_on_from_its_checkpoint_and_a_trained_one_is_only_evaluated(tier: Tier, tmp_path: Path) -> None:
    commands = Commands()
    trained = tmp_path / "runs" / "A" / "plain-s7"
    trained.mkdir(parents=True)
    (trained / "summary.json").write_text("{}")
    queue_in(tmp_path, commands).work([tier])
    fits = commands.named("drift_pl.fit")
    assert len(fits) == 3
    assert all("ckpt_path=auto" in call for call in fits)
    assert sorted(argument for call in fits for argument in call if argument.startswith("seed=")) == [
        *("seed=7", "seed=8", "seed=8")
    ]


def test_a_failure_is_reported_and_the_others_go_on(tier: Tier, tmp_path: Path) -> None:
    queue = queue_in(tmp_path, Commands(fail="A/levers-s7"))
    assert [job.name for job in queue.work([tier])] == ["A/levers-s7"]
    assert not queue.store.job_of(tier.jobs[1])
    assert queue.work([replace(tier, jobs=tier.jobs[:1])]) == []


def test_what_waits_for_a_failed_source_fails_with_it(tier: Tier, tmp_path: Path) -> None:
    """Catches in benchmarks/fronts: what waits for a failed source forgotten."""
    queue = queue_in(tmp_path, Commands(fail="A/plain-s7"))
    assert sorted(job.name for job in queue.work([tier])) == ["A/plain-s7", "A/swept-s7"]


def test_results_of_another_plan_are_refused_by_name(tier: Tier, tmp_path: Path) -> None:
    """Catches in benchmarks/fronts: results of two plans mixed."""
    queue = queue_in(tmp_path, Commands())
    queue.work([tier])
    path = singles(tmp_path) / "plain-s7" / "job.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "digest": "0" * 12}))
    with pytest.raises(UserError, match=r"plain-s7 is a result of another plan .* remove the folder"):
        queue.work([tier])
    changed = replace(tier, jobs=(replace(tier.jobs[0], overrides=("trainer.iterations=4",)), *tier.jobs[1:]))
    with pytest.raises(UserError, match=r"json\.xz#plain-s7 is a result of another plan .* by another name"):
        fresh(tmp_path, Commands()).work([changed])


def test_a_results_job_is_written_last(tier: Tier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever interrupts a queue: what has a job.json is whole, also what another tier's was copied to.

    Catches in benchmarks/fronts/store.py: job.json before the evaluation; job.json copied with the rest.
    """

    def write(path: Path, content: object) -> None:
        if path.name == "job.json":
            assert (path.parent / "evaluation.json").is_file()
            assert not path.exists()
        write_json(path, content)

    monkeypatch.setattr("store.write_json", write)
    assert queue_in(tmp_path, Commands()).work([replace(tier, jobs=tier.jobs[:1])]) == []
    other = replace(tier, name="B", methods=("plain",), seeds=(7,), jobs=(replace(tier.jobs[0], tier="B"),))
    commands = Commands()
    queue = queue_in(tmp_path, commands)
    assert queue.work([other]) == []
    assert commands.calls == []
    assert list(queue.store.held("B")) == ["plain-s7"], "which is complete though nothing was run"


def test_half_a_result_is_none(tier: Tier, tmp_path: Path) -> None:
    queue = queue_in(tmp_path, Commands(fail="A/levers-s7"))
    queue.work([tier])
    assert queue.store.job_of(tier.jobs[0])
    (singles(tmp_path) / "plain-s7" / "job.json").unlink()
    assert not queue.store.job_of(tier.jobs[0])


def test_a_seed_goes_into_the_tiers_file_when_every_method_has_it(tier: Tier, tmp_path: Path) -> None:
    """Catches in benchmarks/fronts/store.py: results in the order of arrival; a seed written again."""
    queue = queue_in(tmp_path, Commands(fail="A/levers-s8"))
    queue.work([tier])
    assert names_in(queue) == ["plain-s7", "levers-s7", "swept-s7"]
    queue = queue_in(tmp_path, Commands())
    queue.work([tier])
    assert names_in(queue) == [f"{method}-s{seed}" for method in ("plain", "levers", "swept") for seed in (7, 8)]
    evaluation = next(each for each in read_bundle(queue.store.file("A")) if name_of(each) == "levers-s8")
    assert (evaluation.points[1].per_prompt["reward"], evaluation.points[0].picture) == ([7.5, 12.5], None)
    job = json.loads((singles(tmp_path) / "levers-s8" / "job.json").read_text())
    assert read_jobs(queue.store.file("A"))["levers-s8"] == job
    assert job["fit"] == list(tier.jobs[4].overrides)


def test_what_is_in_the_tiers_file_is_done(tier: Tier, tmp_path: Path) -> None:
    """A fresh checkout trains nothing; what the plan has gained is trained, and joins what is there.

    Catches in benchmarks/fronts/store.py: the file's earlier results lost with the next seed; their jobs lost;
    incomplete seeds written.
    """
    queue_in(tmp_path, Commands()).work([tier])
    commands = Commands()
    queue = fresh(tmp_path, commands)
    assert queue.work([tier]) == []
    assert commands.calls == []
    assert status(queue, [tier]).startswith("A  6 of 6 done")
    further = replace(tier.jobs[1], method="further")
    methods = ("plain", "further", "levers", "swept")
    grown = replace(tier, methods=methods, jobs=(*tier.jobs, further, replace(further, seed=8)))
    queue = fresh(tmp_path, commands)
    assert queue.work([grown]) == []
    assert len(commands.named("drift_pl.fit")) == 2
    bases = {argument for call in commands.named("drift_pl.evaluate") for argument in call if "base=" in argument}
    assert f"base={tmp_path / 'elsewhere' / 'results' / 'A' / 'base.json'}" in bases
    assert names_in(queue) == [f"{method}-s{seed}" for method in methods for seed in (7, 8)]
    later = replace(further, method="later")
    fewer = replace(tier, methods=("plain", "later"), jobs=(tier.jobs[0], tier.jobs[3], later, replace(later, seed=8)))
    assert fresh(tmp_path, commands).work([fewer]) == []
    assert names_in(queue)[:4] == ["plain-s7", "plain-s8", "later-s7", "later-s8"], "what has left the plan is last"


def test_every_method_of_a_seed_is_compared_though_the_file_has_more(tier: Tier, tmp_path: Path) -> None:
    """A method that the plan has gained and that one seed lacks: only the other seed is compared.

    Catches in benchmarks/fronts/run.py: all of a tier's file compared.
    """
    queue_in(tmp_path, Commands()).work([tier])
    further = replace(tier.jobs[1], method="further")
    grown = replace(tier, methods=(*tier.methods, "further"), jobs=(*tier.jobs, further, replace(further, seed=8)))
    commands = Commands(fail="A/further-s8")
    queue = fresh(tmp_path, commands)
    queue.work([grown])
    queue.compare(grown)
    (call,) = commands.named("drift_pl.pareto")
    assert [entry.rpartition("#")[2] for entry in call[1:5]] == [f"{method}-s7" for method in grown.methods]
    assert call[5] == "baseline=plain"


def test_the_tiers_file_is_committed_once_per_seed(tier: Tier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=n", "-c", "user.email=e@x")
        done = subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout

    git("init", "-q")
    for key in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{key}_NAME", "n")
        monkeypatch.setenv(f"GIT_{key}_EMAIL", "e@x")
    monkeypatch.setattr("run.ROOT", tmp_path)
    queue = Queue(tmp_path / "runs", tmp_path / "results", 1, Commands(), commit=True)
    queue.work([tier])
    assert git("log", "--format=%s", "--reverse").splitlines() == ["Fronts: tier A, seed 7", "Fronts: tier A, seed 8"]
    assert git("ls-files").split() == ["results/A/evaluations.json.xz"], "single results stay in runs/"
    queue.work([tier])
    assert len(git("log", "--format=%s").splitlines()) == 2


def test_only_seeds_that_every_method_has_are_compared(tier: Tier, tmp_path: Path) -> None:
    """Catches in benchmarks/fronts: methods that lack seeds compared."""
    commands = Commands(fail="A/levers-s8")
    queue = queue_in(tmp_path, commands)
    queue.work([tier])
    queue.compare(tier)
    (call,) = commands.named("drift_pl.pareto")
    assert "baseline=plain" in call
    assert (tmp_path / "results" / "A" / "evaluations.json.xz").samefile(ROOT / call[1])
    assert call[2].startswith("baseline="), "one file, and all of it"
    assert names_in(queue) == ["plain-s7", "levers-s7", "swept-s7"]


def test_a_tier_may_be_compared_with_further_methods(tmp_path: Path) -> None:
    path = tmp_path / "against.yaml"
    content = {**PLAN_TEXT, "tiers": {"A": {**PLAN_TEXT["tiers"]["A"], "against": ["levers"]}}}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    tier, commands = read_plan(path)["A"], Commands()
    queue = queue_in(tmp_path, commands)
    queue.work([tier])
    queue.compare(tier)
    first, second = commands.named("drift_pl.pareto")
    out = queue.results / "A"
    assert {"baseline=plain", f"out={out}"} <= set(first)
    assert {"baseline=levers", f"out={out / 'against_levers'}"} <= set(second)
    path.write_text(yaml.safe_dump(content, sort_keys=False).replace("- levers", "- leavers"))
    with pytest.raises(UserError, match="leavers, to compare with, is not one of plain, levers, swept"):
        read_plan(path)


def test_no_complete_seed_is_no_comparison(tier: Tier, tmp_path: Path) -> None:
    commands = Commands(fail="A/levers")
    queue = queue_in(tmp_path, commands)
    queue.work([tier])
    assert queue.compare(tier) == 0
    assert not commands.named("drift_pl.pareto")


def test_tiers_are_worked_on_seed_by_seed(tier: Tier, tmp_path: Path) -> None:
    """So that an interrupted queue leaves as many seeds of each."""
    path = tmp_path / "two.yaml"
    tiers = {"A": PLAN_TEXT["tiers"]["A"], "B": {**PLAN_TEXT["tiers"]["A"], "fit": ["trainer.iterations=4"]}}
    path.write_text(yaml.safe_dump({**PLAN_TEXT, "tiers": tiers}, sort_keys=False))
    commands = Commands()
    queue_in(tmp_path, commands, workers=1).work(list(read_plan(path).values()))
    runs = [
        Path(argument.removeprefix("run_dir="))
        for call in commands.named("drift_pl.fit")
        for argument in call
        if argument.startswith("run_dir=")
    ]
    assert [f"{run.parent.name}/{run.name}" for run in runs] == [
        f"{tier}/{method}-s{seed}" for seed in (7, 8) for tier in "AB" for method in ("plain", "levers")
    ]
    evaluated = [part for call in commands.named("drift_pl.evaluate") for part in call if part.startswith("ckpt_path=")]
    assert [path[-2:] for path in evaluated] == ["s7"] * 6 + ["s8"] * 6, "sweeps of the first before the second"


@pytest.mark.parametrize("from_file", [False, True])
def test_the_same_job_of_another_tier_is_not_run_again(tier: Tier, tmp_path: Path, from_file: bool) -> None:
    path = tmp_path / "two.yaml"
    methods = {**PLAN_TEXT["tiers"]["A"]["methods"], "levers": {"fit": ["experiment=pickscore_div"]}}
    tiers = {"A": PLAN_TEXT["tiers"]["A"], "B": {**PLAN_TEXT["tiers"]["A"], "methods": methods}}
    path.write_text(yaml.safe_dump({**PLAN_TEXT, "tiers": tiers}, sort_keys=False))
    commands = Commands()
    queue = queue_in(tmp_path, commands)
    queue.work([tier])
    before = len(commands.calls)
    if from_file:
        queue = fresh(tmp_path, commands)
    queue.work([read_plan(path)["B"]])
    trained = {argument for call in commands.calls[before:] for argument in call if argument.startswith("run_dir=")}
    assert {Path(entry).name for entry in trained} == {"levers-s7", "levers-s8"}
    taken = queue.store.singles / "B" / "plain-s7"
    assert json.loads((taken / "job.json").read_text())["job"] == "B/plain-s7"
    assert read_evaluation(taken).points[1].per_prompt["reward"] == [6.75, 11.25]
    assert (taken / "pictures" / "base.png").is_file() != from_file
    assert names_in(queue, "B") == ["levers-s7", "levers-s8"], "what A's file has is not kept again"
    queue = fresh(tmp_path, commands)
    both = read_plan(path)["B"]
    assert [name_of(each) for each in queue.store.evaluations(both)] == [
        job.key for job in sorted(both.jobs, key=lambda job: both.methods.index(job.method))
    ]
    assert queue.store.where("B", "plain-s7") == f"{queue.store.file('A')}#plain-s7"
    before = len(commands.calls)
    assert queue.work([both]) == []
    assert len(commands.calls) == before, "a fresh checkout finds it there"
    queue.compare(both)
    files = [f"{Path(call).parent.name}#{call.rpartition('#')[2]}" for call in commands.calls[-1][1:7]]
    assert files == ["A#plain-s7", "A#plain-s8", "B#levers-s7", "B#levers-s8", "A#swept-s7", "A#swept-s8"]


@pytest.mark.parametrize("from_file", [False, True])
def test_a_result_of_another_commit_is_not_taken_over(tier: Tier, tmp_path: Path, from_file: bool) -> None:
    """Of two tiers with one job the second runs it again: a tier has one commit. And half a copy is no obstacle.

    Catches in benchmarks/fronts/store.py: results taken over whoever made them; a copy that was interrupted.
    """

    def queue_of(commit: str, commands: Commands) -> Queue:
        runs = tmp_path / "elsewhere" if from_file and commit == "new" else tmp_path / "runs"
        return Queue(runs, tmp_path / "results", 1, commands, made_by={"protocol": 2, "commit": commit})

    other = replace(tier, name="B", jobs=tuple(replace(job, tier="B") for job in tier.jobs))
    assert queue_of("old", Commands()).work([tier]) == []
    commands, half = Commands(), singles(tmp_path).parent / "C" / "plain-s7"
    assert queue_of("new", commands).work([other]) == []
    assert len(commands.named("drift_pl.fit")) == 4
    half.mkdir(parents=True)
    (half / "evaluation.json").write_text("{")
    third = replace(tier, name="C", jobs=(replace(tier.jobs[0], tier="C"),))
    assert queue_of("old", commands).work([third]) == []
    assert len(commands.named("drift_pl.fit")) == 4, "of the same commit it is taken over"
    assert read_evaluation(half).method == "plain"


def test_a_sweep_may_look_at_one_checkpoint_only(tier: Tier, tmp_path: Path) -> None:
    path = tmp_path / "last.yaml"
    swept = {**PLAN_TEXT["tiers"]["A"]["methods"]["swept"], "checkpoint": "last"}
    methods = {**PLAN_TEXT["tiers"]["A"]["methods"], "swept": swept}
    path.write_text(
        yaml.safe_dump({**PLAN_TEXT, "tiers": {"A": {**PLAN_TEXT["tiers"]["A"], "methods": methods}}}, sort_keys=False)
    )
    last = read_plan(path)["A"].jobs[2]
    assert last.checkpoint == "last"
    assert last.digest != tier.jobs[2].digest
    called: list[str] = []

    def command(arguments: list[str], log: Path) -> int:
        called.extend(argument for argument in arguments if argument.startswith("ckpt_path="))
        return 1

    Queue(tmp_path / "runs", tmp_path / "results", 1, command)._do(last)
    run = tmp_path / "runs" / "A" / "plain-s7"
    run.mkdir(parents=True)
    (run / "summary.json").write_text("{}")
    Queue(tmp_path / "runs", tmp_path / "results", 1, command)._do(last)
    assert called == ["ckpt_path=auto", f"ckpt_path={run}/checkpoints/last.ckpt"]


def test_a_sweep_of_a_result_that_was_taken_over_trains_its_source_again(tmp_path: Path) -> None:
    """Another tier's result comes without its run: the sweep trains that, levers included, and no plain baseline."""
    path = tmp_path / "plan.yaml"
    methods = {"plain": None, "levers": {"fit": ["experiment=shapes_div"]}, "swept": {"source": "levers"}}
    path.write_text(
        yaml.safe_dump({**PLAN_TEXT, "tiers": {"A": {**PLAN_TEXT["tiers"]["A"], "methods": methods}}}, sort_keys=False)
    )
    levers, swept = read_plan(path)["A"].jobs[1:3]
    assert swept.overrides == levers.overrides
    assert swept.run_name == levers.run_name
    commands = Commands()
    queue_in(tmp_path, commands).work([replace(read_plan(path)["A"], jobs=(swept,))])
    (fit,) = commands.named("drift_pl.fit")
    assert {"experiment=shapes_div", f"run_dir={tmp_path / 'runs' / 'A' / 'levers-s7'}"} <= set(fit)


def test_a_source_is_trained_in_one_way(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    methods = {"plain": None, "swept": {"source": "plain", "fit": ["trainer.iterations=5"]}}
    path.write_text(
        yaml.safe_dump({**PLAN_TEXT, "tiers": {"A": {**PLAN_TEXT["tiers"]["A"], "methods": methods}}}, sort_keys=False)
    )
    with pytest.raises(UserError, match=r"tiers\.A\.swept has both source=plain and fit"):
        read_plan(path)


def test_a_recipe_may_go_on_from_another(tmp_path: Path) -> None:
    content = """
frozen: {fit: [experiment=shapes_flowgrpo], evaluate: [], pareto: []}
recipes: {levers: &levers [trainer.iterations=3, seed=1]}
tiers:
  A: {title: a, seeds: [1], baseline: further, methods: {further: {fit: [*levers, trainer.iterations=5]}}}
"""
    path = tmp_path / "plan.yaml"
    path.write_text(content)
    (job,) = read_plan(path)["A"].jobs
    assert job.overrides == ("experiment=shapes_flowgrpo", "trainer.iterations=3", "seed=1", "trainer.iterations=5")


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    methods = {**PLAN_TEXT["tiers"]["A"]["methods"], "swept": {"source": "plane"}}
    path.write_text(
        yaml.safe_dump({**PLAN_TEXT, "tiers": {"A": {**PLAN_TEXT["tiers"]["A"], "methods": methods}}}, sort_keys=False)
    )
    with pytest.raises(UserError, match=r"swept\.source=plane is not one of plain, levers, swept"):
        read_plan(path)


def test_a_command_in_a_checkout_without_runs_has_its_log(tmp_path: Path) -> None:
    log = tmp_path / "runs" / "fronts" / "A.log"
    assert run_python(["platform"], log) == 0
    assert log.read_text().strip()


def test_every_job_of_the_plan_has_a_valid_config() -> None:
    from drift_pl.config.loading import parse

    for tier in read_plan().values():
        length = {"A": 48, "B": 48, "C": 24, "D": 24, "E": 48, "F": 48, "T": 48}[tier.name]
        for job in {job.method: job for job in tier.jobs}.values():
            if job.source is None:
                config = parse([*job.overrides, f"seed={job.seed}"]).config
                assert (config.objective.learning_rate, config.trainer.iterations) == (1e-3, length), (
                    "one budget for a tier"
                )


def test_what_is_reported_was_not_chosen_by() -> None:
    """Test prompts meet seeds from 100 on alone, tuning prompts seeds 0 to 4 alone."""
    for tier in read_plan().values():
        for job in tier.jobs:
            (prompts,) = (each for each in job.evaluation if each.startswith("prompts="))
            assert (prompts, job.seed >= 100) in {("prompts=test", True), ("prompts=tuning", False)}, job
            assert job.seed < 5 or job.seed >= 100


def test_the_protocol_is_the_one_of_the_changelogs_tag() -> None:
    """World, judge, baseline, budget, learning rate, length and measures; changing one voids all figures."""
    plan = yaml.safe_load(PLAN.read_text())
    text = json.dumps(plan["frozen"], sort_keys=True) + (FRONTS / "plain.yaml").read_text()
    tags = re.findall(r"`fronts-protocol-\d+` \(`([0-9a-f]{16})`\)", (FRONTS.parents[1] / "CHANGELOG.md").read_text())
    assert tags[0] == hashlib.sha256(text.encode()).hexdigest()[:16], "the protocol changed: every figure is void"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"B": {"plain-s9": "A"}}', "tier B takes plain-s9 over from A, whose file has no such result"),
        ('{"B": {"plain-s7": "C"}}', "tier B takes plain-s7 over from C, whose file has no such result"),
        ('{"B": {"plain-s7": 1}}', "is damaged: a tier is no name"),
        ('{"B": ["plain-s7"]}', "is damaged: "),
        ("[]", "is damaged: "),
        ("{", "is damaged: "),
    ],
)
def test_what_is_taken_over_from_nowhere_is_named(tier: Tier, tmp_path: Path, content: str, message: str) -> None:
    """Catches in benchmarks/fronts/store.py: a traceback for a file that was edited, or that lacks the other one."""
    queue = queue_in(tmp_path, Commands())
    queue.work([tier])
    (tmp_path / "results" / "taken_over.json").write_text(content)
    with pytest.raises(UserError, match=rf"taken_over\.json.*{message}"):
        fresh(tmp_path, Commands()).work([replace(tier, name="B", jobs=(replace(tier.jobs[0], tier="B"),))])
