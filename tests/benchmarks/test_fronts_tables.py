"""The study's committed tables are what `python -m drift_pl.pareto` makes of the committed files of evaluations."""

from pathlib import Path

import pytest
from plan import read_plan
from store import Store

from drift_pl.evaluation.bundle import name_of
from drift_pl.pareto import main

ROOT = Path(__file__).parents[2]
RESULTS = Path("docs/results/fronts")
"""As seen from the root, where the study's commands run: tables name their files."""
PLAN = read_plan()
STORE = Store(ROOT / "runs", ROOT / RESULTS)
TABLES = {
    (tier.name, "" if method == tier.baseline else f"against_{method}"): [
        *(*STORE.paths(tier, STORE.comparable(tier), ROOT), f"baseline={method}"),
        *tier.comparison,
    ]
    for tier in PLAN.values()
    for method in (tier.baseline, *tier.against)
}
KEPT_AS_JSON = {"A", "B", "F"}
# tier C's baseline beside tier D's ablations, as docs/study.md says
TABLES["D", "against_flowgrpo"] = [
    *(f"{RESULTS}/C/evaluations.json.xz#flowgrpo-s*", f"{RESULTS}/D/evaluations.json.xz", "baseline=flowgrpo"),
    *PLAN["D"].comparison,
]


def test_there_is_a_command_for_every_table() -> None:
    kept = {path.parent.relative_to(ROOT / RESULTS) for path in (ROOT / RESULTS).rglob("pareto.md")}
    assert {Path(*names) for names in TABLES} == kept


@pytest.mark.parametrize(
    ("tier", "against"),
    [pytest.param(*names, marks=[] if names[0] == "F" else pytest.mark.slow) for names in TABLES],
)
def test_tables_come_from_the_tiers_file_byte_for_byte(
    tier: str, against: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("drift_pl.reports.figure.draw", lambda results, folder: None)  # seconds, and no table
    assert main([*TABLES[tier, against], f"out={tmp_path}"]) == 0
    kept = RESULTS / tier / against
    assert (tmp_path / "pareto.md").read_bytes() == (kept / "pareto.md").read_bytes()
    if not against and tier in KEPT_AS_JSON:
        assert (tmp_path / "pareto.json").read_bytes() == (kept / "pareto.json").read_bytes()


@pytest.mark.parametrize("tier", PLAN)
def test_a_fresh_checkout_has_nothing_to_run(tier: str, tmp_path: Path) -> None:
    """Every job of the plan is in its tier's file, under the digest that the plan gives it.

    Catches in benchmarks/fronts/store.py: what the tier's file holds does not count as done.
    """
    store = Store(tmp_path, ROOT / RESULTS)
    assert all(store.job_of(job) for job in PLAN[tier].jobs)
    reported = [name_of(each) for each in store.evaluations(PLAN[tier])]
    assert store.comparable(PLAN[tier]) == reported, "in the order in which methods are reported"
