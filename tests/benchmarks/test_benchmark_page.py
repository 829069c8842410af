"""docs/benchmark.md's command: rows from closed forms, refusals by name, the page as committed."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from benchmark import PAGE, PLAN, RESULTS, below_tables, commit_of, find_length, tabulated, unfinished
from benchmark_overview import overview_lines, recipe_lines
from benchmark_page import BEGIN, BEGIN_TABLE, END, END_TABLE, figure_of, write_page
from benchmark_text import gain_text, level_text
from levels import LevelGain
from made_up_tiers import EMPTY_PAGE, MADE_BY, short, stored
from plan import Tier, read_plan
from run import Queue

from drift_pl.core.errors import UserError
from drift_pl.evaluation.bundle import read_bundle
from drift_pl.functional.intervals import Interval

CONTENT = yaml.safe_load(PLAN.read_text())


@pytest.fixture(scope="module")
def plan() -> dict[str, Tier]:
    return read_plan(PLAN)


def test_rows_are_the_closed_forms(plan: dict[str, Tier], tmp_path: Path) -> None:
    """Integrals of straight lines. Over rewards 0 to 1: .85 / .75; over diversities 0.6 to 1: .25 / .16.

    At three quarters of the baseline's reward .75 / .625; the ceiling is 1 / .75; the areas under the steps are
    .5 x .9 + .5 x .6 and .5 x .75 + .5 x .5.

    Catches in benchmarks/fronts/benchmark_table.py: the baseline and the method exchanged; distance of all images.
    """
    tier = short(plan["b1"])
    stored(tmp_path, tier)
    (table,) = tabulated({"b1": tier}, CONTENT, tmp_path / "results")
    baseline, levers, _ = table.rows["flowgrpo"]
    assert (baseline.diversity, baseline.at_share, baseline.minutes) == (None, None, 6.0)
    assert levers.diversity.mean == pytest.approx(0.85 / 0.75 - 1)
    assert levers.reward.mean == pytest.approx(0.25 / 0.16 - 1)
    assert (levers.at_share.value, levers.at_share.low) == pytest.approx((0.2, 0.2))
    assert levers.ceiling == pytest.approx(1 / 3)
    assert levers.hypervolume.mean == pytest.approx(0.125)
    assert levers.final["valid_pairwise_distance"] == pytest.approx(0.6)
    (same,) = (row for row in table.rows["nft_kl_0.1"] if row.method == "drift_plus_nft")
    assert same.diversity.mean == pytest.approx(0)
    assert same.p_values == (1.0, 1.0)
    assert (table.seeds, table.measure, table.commit) == (3, "valid_pairwise_distance", "abc")


def test_a_method_that_has_not_been_run_takes_no_row_away(
    plan: dict[str, Tier], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the plan gains is missing and named; the others are compared over the seeds that the baseline has.

    So is a method that has one of two seeds, and a result that waits for the others of its seed.

    Catches in benchmarks/fronts/benchmark.py: no table until every method of the plan has every seed; a traceback for a
    result that is not in the tier's file yet.
    """
    tier = short(plan["b1"])
    begun = tuple(job for job in plan["b1"].jobs if job.key == "kl-s200")
    queue = stored(tmp_path, replace(tier, jobs=(*(job for job in tier.jobs if job.seed < 202), *begun)))
    (waiting,) = (job for job in tier.jobs if job.key == "flowgrpo-s202")
    single = stored(tmp_path / "later", replace(tier, jobs=(waiting,))).store.singles / waiting.name
    single.rename(queue.store.singles / waiting.name)
    monkeypatch.setattr("benchmark.RUNS", queue.runs)
    (table,) = tabulated({"b1": plan["b1"]}, CONTENT, tmp_path / "results")
    assert (table.seeds, table.tier.against) == (2, ("nft_kl_0.1",))
    assert sorted(row.method for row in table.rows["flowgrpo"]) == sorted(tier.methods)
    page = tmp_path / "page.md"
    page.write_text(EMPTY_PAGE)
    write_page(page, [table], {"b1": plan["b1"]}, CONTENT)
    assert "48 iterations: 9 of 15 runs." in page.read_text()
    head, _, base, first = page.read_text().partition("\n| method | what it is | reward")[2].splitlines()[:4]
    assert head.startswith(" | held out: minus the file size in kB | on-prompt share |")
    assert base.startswith("| base model | before fine-tuning | 0.0000 | -1.0000 | ")
    assert " | 1.0000 | -2.0000 | " in first
    head, _, base, first = page.read_text().partition("Further measures at the last look:\n\n")[2].splitlines()[:4]
    assert "| coverage of attributes | diversity at 100 %" in head
    assert "Vendi" not in head, "what was not measured has no column"
    assert base.startswith("| base model |")
    assert first.startswith("| `flowgrpo` |")


def test_a_table_has_its_own_worlds_room(plan: dict[str, Tier], tmp_path: Path) -> None:
    """Catches in benchmarks/fronts/benchmark.py: the room of one world beside the figures of another."""
    tier = replace(short(plan["b1"]), world="a")
    stored(tmp_path, tier)
    (tmp_path / "results" / "room-a.json").write_text("{")
    with pytest.raises(UserError, match=r"room-a\.json is damaged"):
        tabulated({"b1": tier}, CONTENT, tmp_path / "results")


def test_results_of_another_protocol_or_of_two_commits_are_refused_by_name(
    plan: dict[str, Tier], tmp_path: Path
) -> None:
    """Catches in benchmarks/fronts: results of two commits mixed; a protocol that is not read."""
    tier = short(plan["b1"])
    stored(tmp_path / "other", tier, {"protocol": 1, "commit": "abc"})
    with pytest.raises(UserError, match=r"#flowgrpo-s200 is a result of protocol 1, and this is protocol 2"):
        tabulated({"b1": tier}, CONTENT, tmp_path / "other" / "results")
    stored(tmp_path / "none", tier, {"commit": "abc"})
    with pytest.raises(UserError, match=r"#flowgrpo-s200 is a result of protocol \(none\), and this is protocol 2"):
        tabulated({"b1": tier}, CONTENT, tmp_path / "none" / "results")
    queue = stored(tmp_path / "run", tier)
    queue = Queue(queue.runs, queue.results, made_by={"protocol": 2, "commit": "def"})
    with pytest.raises(UserError, match=r"flowgrpo-s200 is a result of commit abc, and this is commit def: a tier has"):
        queue.work([tier])
    one, others = replace(tier, jobs=tier.jobs[:1]), replace(tier, jobs=tier.jobs[1:])
    stored(tmp_path / "two", one, {"protocol": 2, "commit": "def"})
    stored(tmp_path / "two" / "more", others)
    (tmp_path / "two" / "runs" / "results").rename(tmp_path / "two" / "first")
    singles = tmp_path / "two" / "more" / "runs" / "results" / "b1"
    (tmp_path / "two" / "first" / "b1" / "flowgrpo-s200").rename(singles / "flowgrpo-s200")
    both = Queue(tmp_path / "two" / "more" / "runs", tmp_path / "two" / "both", made_by={"protocol": 2})
    both.store.gather(tier)
    with pytest.raises(UserError, match=r"#flowgrpo-s201 was made by commit abc and flowgrpo-s200 by def: a tier has"):
        tabulated({"b1": tier}, CONTENT, tmp_path / "two" / "both")


def test_a_commit_is_that_of_the_package_and_changes_need_one(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e@x", *arguments], cwd=tmp_path, check=True)

    with pytest.raises(UserError, match="not a git repository.*: results record their commit"):
        commit_of(tmp_path)
    git("init", "-q")
    (tmp_path / "drift_pl").mkdir()
    (tmp_path / "drift_pl" / "a.py").write_text("1")
    git("add", ".")
    git("commit", "-qm", "package")
    commit = commit_of(tmp_path)
    assert len(commit) == 12
    (tmp_path / "notes.md").write_text("notes")
    git("add", ".")
    git("commit", "-qm", "notes")
    assert commit_of(tmp_path) == commit
    (tmp_path / "drift_pl" / "a.py").write_text("2")
    with pytest.raises(UserError, match=r"drift_pl/a\.py has changes that are in no commit"):
        commit_of(tmp_path)


def test_the_length_is_found_from_all_seeds(plan: dict[str, Tier], tmp_path: Path) -> None:
    """Catches in benchmarks/fronts/benchmark.py: seeds left out that an interrupted queue had not yet gathered."""
    queue = stored(tmp_path, plan["Lb"])
    assert find_length(queue, plan["Lb"]) == 48
    queue.store.file("Lb").unlink()
    again = Queue(queue.runs, queue.results, made_by=MADE_BY)
    assert find_length(again, plan["Lb"]) == 48
    assert len(read_bundle(queue.store.file("Lb"))) == 3
    fresh = Queue(tmp_path / "elsewhere", tmp_path / "nothing", made_by=MADE_BY)
    with pytest.raises(UserError, match="tier Lb has 0 of 3 runs: run it first"):
        find_length(fresh, plan["Lb"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (gain_text(None), "none in common"),
        (gain_text(Interval(0.047, 0.016, 0.079, 5, ())), "+4.7 % [+1.6, +7.9]"),
        (gain_text(Interval(-0.047, None, None, 2, (), "2 of the at least 3 seeds")), "-4.7 %"),
        (level_text(LevelGain(1.0, None, reason="not reached")), "not reached"),
        (level_text(LevelGain(1.0, 0.1, 0.05, 0.2)), "+10.0 % [+5.0, +20.0]"),
        (
            level_text(LevelGain(1.0, 0.1, None, 0.2, "not reached by 1 of 4 seeds")),
            "+10.0 % [not reached by 1 of 4 seeds]",
        ),
        (level_text(LevelGain(1.0, 0.1, reason="2 of the at least 3 seeds")), "+10.0 %"),
    ],
)
def test_gains_as_text(text: str, expected: str) -> None:
    assert text == expected


def test_the_page_is_written_between_its_markers(plan: dict[str, Tier], tmp_path: Path) -> None:
    tier = short(plan["b1"])
    stored(tmp_path, tier)
    tables = tabulated({"b1": tier}, CONTENT, tmp_path / "results")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN_TABLE}\nold\n{END_TABLE}\nprose\n{BEGIN}\nold\n{END}\nafter\n")
    write_page(page, tables, {"b1": tier}, CONTENT)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert f"{END_TABLE}\nprose\n{BEGIN}\n" in text
    assert "+13.3 % [+13.3, +13.3]" in text
    assert CONTENT["methods"]["drift_plus_nft"] in text
    for lacking in ("none", f"{BEGIN_TABLE}\n{END_TABLE}\n"):
        page.write_text(lacking)
        with pytest.raises(UserError, match="needs the lines"):
            write_page(page, tables, {"b1": tier}, CONTENT)
        assert page.read_text() == lacking


def test_the_one_table_has_a_row_for_each_method(plan: dict[str, Tier], tmp_path: Path) -> None:
    """Half way rewards are .5 and 75 % of the base model's diversity are kept, by other methods 90 %; at the end 1 and
    50 %, 60 %. A tier of fewer seeds, and one without a checkpoint half way, take nobody's place.

    Catches in benchmarks/fronts/benchmark_overview.py: the first tier that has a method; the pilot's figures beside
    those of one length; a world's cells in another's columns.
    """
    tier = short(plan["b1"])
    stored(tmp_path, tier)
    content = {**CONTENT, "frozen": {**CONTENT["frozen"], "length": {"iterations": {"b": 16}}}}
    (table,) = tabulated({"b1": tier}, content, tmp_path / "results")
    fewer = replace(table, seeds=2, base={**table.base, table.measure: 2.0})
    pilot = replace(table, seeds=9, at_length={}, base=fewer.base)
    other = replace(table, tier=replace(tier, world="c", methods=("flowgrpo",)))
    head, _, *rows = overview_lines([fewer, pilot, table, other], content)
    assert head == "| method | b: at equal reward | c: at equal reward | b: ends | c: ends | minutes |"
    cells = {row.split(" | ")[0].strip("| `"): [cell.strip(" |") for cell in row.split(" | ")[1:]] for row in rows[:3]}
    gain = "+13.3 % [+13.3, +13.3]<br>of +33.3 %, 3 seeds"
    assert cells["flowgrpo"] == [*["the baseline"] * 2, *["0.500, 75 %<br>1.000, 50 %"] * 2, "1.0"]
    assert cells["nft_kl_0.1"] == [gain, "", "0.500, 90 %<br>1.000, 60 %", "", "1.0"]
    assert list(cells) == ["flowgrpo", "nft_kl_0.1", "drift_plus_nft"]
    assert rows[4:] == [f"- `{name}`: {CONTENT['methods'][name]}." for name in cells]


def test_recipes_are_counted_once(plan: dict[str, Tier], tmp_path: Path) -> None:
    """b1 has five and B six, of which four are b1's, `kl` by another name.

    Catches in benchmarks/fronts/benchmark_overview.py: lengths and names taken for part of a recipe.
    """
    stored(tmp_path, short(plan["b1"]))
    (table,) = tabulated({"b1": short(plan["b1"])}, CONTENT, tmp_path / "results")
    lines = recipe_lines([replace(table, tier=plan[name]) for name in ("b1", "B", "A")])
    assert [line.partition(", ")[0] for line in lines if line.startswith("- ")] == ["- World a (A): 6", "- World b (b1"]
    assert any(line.startswith("- World b (b1, B): 7, `flowgrpo`, ") and "`kl_0.03`" in line for line in lines)


def test_a_method_has_one_colour_and_one_name_in_all_panels(plan: dict[str, Tier], tmp_path: Path) -> None:
    """Catches in benchmarks/fronts/benchmark_page.py: colours by place in a panel; the last panel's legend alone."""
    first, second = short(plan["b1"]), short(plan["b1"], ("flowgrpo", "nft_kl_0.1", "kl"))
    tables = []
    for number, tier in enumerate((first, second)):
        stored(tmp_path / str(number), tier)
        tables += tabulated({"b1": tier}, CONTENT, tmp_path / str(number) / "results")
    figure = figure_of(tables)
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["flowgrpo", "drift_plus_nft", "nft_kl_0.1", "kl", "base model"]
    named = dict(zip(names, [line.get_color() for line in legend.get_lines()], strict=True))
    assert len(set(named.values())) == len(named)
    for axes, table in zip(figure.axes, tables, strict=True):
        drawn = [line.get_color() for line in axes.lines]
        assert drawn == [*(named[name] for name in table.fronts), named["base model"]]


def test_the_committed_page_is_what_the_committed_results_give(plan: dict[str, Tier], tmp_path: Path) -> None:
    page = tmp_path / "benchmark.md"
    page.write_text(PAGE.read_text())
    queue = Queue(tmp_path, RESULTS, made_by={"protocol": 2})
    tables = tabulated(plan, CONTENT, RESULTS)
    write_page(page, tables, unfinished(queue, plan), CONTENT, below_tables(queue, plan, CONTENT))
    assert page.read_text() == PAGE.read_text()
