"""`python -m drift_pl.pareto` on made-up evaluations whose gains are worked out by hand."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from made_up_evaluations import make_point, write_file, write_study

from drift_pl.pareto import main


@pytest.fixture(autouse=True)
def _no_drawing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figure takes seconds: one test here draws it, and tests/reports/test_figure.py checks it."""
    if "everything_is_written" not in request.node.name:
        monkeypatch.setattr("drift_pl.reports.figure.draw", lambda results, folder: None)


def run(paths: list[Path], out: Path, *arguments: str) -> dict[str, Any]:
    """The command, on files in the given order; what it wrote as JSON."""
    assert main([*map(str, paths), f"out={out}", *arguments]) == 0
    return json.loads((out / "pareto.json").read_text(), parse_constant=pytest.fail)


def front_of(results: dict[str, Any], method: str, diversity: str = "pairwise_distance") -> dict[str, Any]:
    return next(entry for entry in results["methods"] if entry["name"] == method)["fronts"][diversity]


def test_gains_by_hand(tmp_path: Path) -> None:
    """Means: A (1, 0.8), (2, 0.6), (3, 0.4); B (1, 0.8), (2, 0.7), (3, 0.6). At reward 1 + x, where 1 is the base's,
    D_A = 0.8 - 0.2 x and D_B = 0.8 - 0.1 x.

    Over rewards 1 to 3: 1.4 / 1.2 - 1 = 1/6, ceiling 1.6 / 1.2 - 1 = 1/3, at A's end 0.6 / 0.4 - 1 = 1/2.
    Over diversities 0.6 to 0.8: 0.2 / 0.1 - 1 = 1. B never falls to A's final 0.4: at least 2 / 2 - 1 = 0 there.
    Hypervolumes between rewards 1 and 5, below diversity 0.8: (0.6 + 0.4) / 3.2 and (0.7 + 0.6) / 3.2; seeds lie
    0.5, 1 and 1.5 times as far.
    """
    results = run(write_study(tmp_path), tmp_path / "out", "reward_bound=5", "diversity=[pairwise_distance]")
    assert (results["format"], results["version"]) == ("drift_pl.pareto", 1)
    assert results["baseline"] == "plain_flowgrpo"
    assert results["seeds"] == [0, 1, 2]
    assert front_of(results, "plain_flowgrpo")["gains"] is None
    front = front_of(results, "drift")
    gains = front["gains"]
    diversity, reward = gains["diversity"], gains["alignment"]
    assert diversity["gain"]["value"] == pytest.approx(1 / 6)
    assert [diversity["low"], diversity["high"]] == pytest.approx([1, 3])
    assert diversity["at_final"] == pytest.approx(
        {"level": 3.0, "gain": 0.5, "beyond": False, "at_least": None, "note": None}
    )
    assert gains["ceiling"] == pytest.approx(1 / 3)
    assert reward["gain"]["value"] == pytest.approx(1)
    assert [reward["low"], reward["high"]] == pytest.approx([0.6, 0.8])
    assert reward["low_rewards"] == pytest.approx(
        {"baseline": 2, "method": 3, "baseline_above_base": 1, "method_above_base": 2}
    )
    assert reward["at_final"]["gain"] is None
    assert reward["at_final"]["at_least"] == pytest.approx(0)
    assert reward["at_final"]["beyond"] is True
    assert front["hypervolume"] == pytest.approx(1.3 / 3.2)
    difference = gains["hypervolume"]
    assert difference["value"] == pytest.approx(0.3 / 3.2)
    assert difference["per_seed"] == pytest.approx([0.15 / 3.2, 0.3 / 3.2, 0.45 / 3.2])
    assert difference["low"] < difference["value"] < difference["high"]


def test_everything_is_written(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run(write_study(tmp_path, seeds=1), tmp_path / "out", "diversity=[coverage]")
    files = {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}
    assert files.keys() == {"pareto.json", "pareto.md", "pareto.png", "pareto.svg", "index.html"}
    assert min(files.values()) > 1000
    assert str(tmp_path / "out" / "index.html") in capsys.readouterr().out


def test_seeds_are_paired_by_their_number_and_points_by_their_iteration(tmp_path: Path) -> None:
    """Gains of each seed are the same, so paired intervals have no length, in whatever order files and points come."""
    paths = write_study(tmp_path)
    content = json.loads((paths[1] / "evaluation.json").read_text())
    content["points"][1:] = content["points"][:0:-1]
    (paths[1] / "evaluation.json").write_text(json.dumps(content))
    mixed = [paths[index] for index in (2, 0, 1, 4, 3, 5)]
    gains = front_of(run(mixed, tmp_path / "out", "diversity=[pairwise_distance]"), "drift")["gains"]
    assert list(gains["diversity"]["gain"].values())[:3] == pytest.approx([1 / 6] * 3)
    assert list(gains["alignment"]["gain"].values())[:3] == pytest.approx([1] * 3)


def test_seeds_are_averaged_before_the_front(tmp_path: Path) -> None:
    """Rewards 1.5 and 0.5, then 0.4 and 1.6: 1 and 1 on average, so the second point, less diverse, is dominated.

    Hypervolume 1 x 0.6 / (4 x 0.8), and not the mean of the seeds' own, (0.9 + 0.85) / 2 / 3.2.
    """
    for seed, rewards in enumerate([(1.5, 0.4), (0.5, 1.6)]):
        points = [make_point(10, rewards[0], pairwise_distance=0.6), make_point(20, rewards[1], pairwise_distance=0.5)]
        write_file(tmp_path, "noisy", seed, [make_point(0, 0.0), *points])
    results = run(sorted(tmp_path.iterdir()), tmp_path / "out", "reward_bound=4", "diversity=[pairwise_distance]")
    front = front_of(results, "noisy")
    assert front["points"] == [0, 1]
    assert front["per_seed"] == [[0, 1], [0, 1, 2]]
    assert front["hypervolume"] == pytest.approx(0.6 / 3.2)
    assert any("2 training seeds: no intervals" in note for note in results["notes"])


def test_the_given_baseline(tmp_path: Path) -> None:
    """The other way round: 1.2 / 1.4 - 1, and 0.1 / 0.2 - 1."""
    results = run(write_study(tmp_path), tmp_path / "out", "baseline=drift", "diversity=[pairwise_distance]")
    gains = front_of(results, "plain_flowgrpo")["gains"]
    assert gains["diversity"]["gain"]["value"] == pytest.approx(1.2 / 1.4 - 1)
    assert gains["alignment"]["gain"]["value"] == pytest.approx(-0.5)


@pytest.mark.parametrize(
    ("methods", "baseline"),
    [(("a", "b"), "a"), (("a_flowgrpo_kl", "b", "flowgrpo"), "flowgrpo"), (("alone",), None), (("x_div", "x"), "x")],
)
def test_the_default_baseline(tmp_path: Path, methods: tuple[str, ...], baseline: str | None) -> None:
    assert run(write_study(tmp_path, methods, seeds=1), tmp_path / "out")["baseline"] == baseline


def test_the_table_says_what_a_sceptic_asks(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One seed: no intervals. No bound: no hypervolume. A level that is not reached, and broken images, are marked."""
    paths = write_study(tmp_path, seeds=1)
    broken = [make_point(0, 1.0), make_point(20, 2.5, pairwise_distance=0.7, alignment=0.88, heldout_clip_score=0.2)]
    paths.append(write_file(tmp_path, "broken", 0, broken))
    run(paths, tmp_path / "out", "diversity=[pairwise_distance]")
    text = (tmp_path / "out" / "pareto.md").read_text()
    assert capsys.readouterr().out.startswith(text)
    assert "1 training seed: no intervals, which need 3" in text
    assert "| `drift` | +16.7 % [1] | 0.9500, 0.9200 | +33.3 % | 1.0000 (+0.0000) to 3.0000 (+2.0000) |" in text
    assert "| +50.0 % at 3.0000 |" in text
    assert "[1] no interval: 1 of the at least 3 seeds" in text
    assert "> +0.0 % at 0.4000 [2]" in text
    assert "[2] the method stays above diversity 0.4" in text
    assert "> its front, at 3.0000 [2]" in text
    assert "[2] the method never reaches reward 3" in text
    assert "| `broken` † | - [1] |" in text
    assert "[1] not normalised: give the highest possible reward, reward_bound=X" in text
    assert text.count("`drift` †") == 0
    assert "† alignment by the attribute reader falls below" in text
    assert "| `broken` | iteration 20 | 0.7000 [1] | 0.5000 [1] | 0.8800 [1] | 0.2000 [1] | 2.5000 [1] |" in text


def test_alignment_below_the_bases_on_the_way_is_marked_too(tmp_path: Path) -> None:
    """0.89 on the front and 0.95 at the end, base 0.9; the base itself does not count as lowest."""
    middle = make_point(10, 1.0, pairwise_distance=0.7, alignment=0.89)
    last = make_point(20, 2.0, pairwise_distance=0.6, alignment=0.95)
    path = write_file(tmp_path, "dips", 0, [make_point(0, 0.0), middle, last])
    front = front_of(run([path], tmp_path / "out"), "dips")
    assert (front["lowest_alignment"], front["alignment_falls"]) == (pytest.approx(0.89), True)
    front = front_of(run([path], tmp_path / "out", "points=last"), "dips")
    assert (front["lowest_alignment"], front["alignment_falls"]) == (pytest.approx(0.95), False)


def test_means_and_intervals_over_seeds_by_hand(tmp_path: Path) -> None:
    """Final rewards 2, 3, 4: mean 3, half width t(0.975; 2) / sqrt(3) = 4.302653 / 1.7320508."""
    results = run(write_study(tmp_path), tmp_path / "out")
    final = results["methods"][0]["final_values"]["reward"]
    assert [final["value"], final["low"], final["high"]] == pytest.approx([3, 3 - 2.4841377, 3 + 2.4841377])


def test_a_prompt_without_a_value_counts_for_nothing_and_a_point_without_one_is_left_out(tmp_path: Path) -> None:
    half = make_point(10, 1.0, coverage=[None, 0.3])
    none = make_point(20, 2.0, coverage=[None, None])
    path = write_file(tmp_path, "holes", 0, [make_point(0, 0.0), half, none])
    results = run([path], tmp_path / "out", "diversity=[coverage]")
    assert front_of(results, "holes", "coverage")["points"] == [0, 1]
    assert results["methods"][0]["points"][1]["mean"]["coverage"] == pytest.approx(0.3)
    assert results["methods"][0]["points"][2]["mean"]["coverage"] is None
    assert any("left out of its coverage front" in note and "iteration 20" in note for note in results["notes"])


def test_no_overlap_is_said_and_is_no_crash(tmp_path: Path) -> None:
    """The method beats the base in both: its front is one point, and shares no interval with the baseline's."""
    plain = write_file(tmp_path, "plain", 0, [make_point(0, 0.0), make_point(10, 1.0, pairwise_distance=0.6)])
    miracle = write_file(tmp_path, "miracle", 0, [make_point(0, 0.0), make_point(10, 2.0, pairwise_distance=0.9)])
    results = run([plain, miracle], tmp_path / "out", "diversity=[pairwise_distance]")
    gains = front_of(results, "miracle")["gains"]
    assert gains["diversity"]["gain"]["value"] is None
    assert "no interval of reward in common" in gains["diversity"]["gain"]["note"]
    assert gains["ceiling"] is None
    assert "no interval of reward in common" in (tmp_path / "out" / "pareto.md").read_text()


def test_sweeps_are_points_of_their_own(tmp_path: Path) -> None:
    """A sweep from one checkpoint; the final point is the unscaled one, wherever it stands."""
    scaled = [make_point(20, scale, lora_scale=scale, pairwise_distance=0.8 - 0.2 * scale) for scale in (1.0, 0.5, 1.5)]
    guided = make_point(20, 0.9, importance_power=2.0, pairwise_distance=0.5)
    path = write_file(tmp_path, "sweep", 0, [make_point(0, 0.0), *scaled, guided])
    (method,) = run([path], tmp_path / "out")["methods"]
    assert [point["label"] for point in method["points"]] == [
        "base",
        "iteration 20",
        "iteration 20, LoRA scale 0.5",
        "iteration 20, LoRA scale 1.5",
        "iteration 20, importance power 2",
    ]
    assert method["final"] == 1


def test_a_vendi_score_is_measured_from_one(tmp_path: Path) -> None:
    """Identical images have a Vendi score of 1: hypervolume 1 x (2 - 1) / (4 x (3 - 1))."""
    path = write_file(tmp_path, "m", 0, [make_point(0, 0.0, vendi=3.0), make_point(10, 1.0, vendi=2.0)])
    results = run([path], tmp_path / "out", "diversity=vendi", "reward_bound=4")
    assert front_of(results, "m", "vendi")["hypervolume"] == pytest.approx(1 / 8)


def test_measures_of_all_prompts_stand_in_the_last_table(tmp_path: Path) -> None:
    """`fid` has no values per prompt, and the base model has none: it is a distance from it."""
    point = make_point(10, 1.0) | {"values": {"fid": {"mean": 0.25, "low": None, "high": None, "prompts": 2}}}
    run([write_file(tmp_path, "m", 0, [make_point(0, 0.0), point])], tmp_path / "out")
    lines = (tmp_path / "out" / "pareto.md").read_text().splitlines()
    table = lines[lines.index("## Every measure at the final point") :]
    assert table[2].endswith("| fid |")
    assert table[4].endswith("| - |")
    assert table[5].endswith("| 0.2500 [1] |")


def test_what_is_unfair_is_noted(tmp_path: Path) -> None:
    """Other budgets that were let through, and averaged weights against live ones."""
    points = [make_point(0, 0.0), make_point(10, 1.0, pairwise_distance=0.7)]
    live = [points[0], make_point(10, 1.0, pairwise_distance=0.7, weights="live")]
    paths = [write_file(tmp_path, "a", 0, points), write_file(tmp_path, "b", 0, live, training={"images": 1})]
    notes = run(paths, tmp_path / "out", "budgets=differ")["notes"]
    assert any(note.startswith("not a fair comparison: a and b were trained on different budgets") for note in notes)
    assert "final weights differ in kind: a average, b live" in notes


BAD_ARGUMENTS = {
    "baselin=drift": "unknown key 'baselin': did you mean 'baseline'?",
    "colour=red": "unknown key 'colour': --help lists all keys",
    "--out": "keys take no dashes, use out=VALUE",
    "--quiet": "unknown flag '--quiet': the flags are --help",
    "--hlep": "unknown flag '--hlep': did you mean '--help'?",
    "points=first": "points=first should be 'all' or 'last'; use e.g. points=all",
    "budgets=": "budgets= is empty: use e.g. budgets=same",
    "reward_bound=high": "reward_bound=high should be a valid number; use e.g. reward_bound=1",
    "reward_bound=nan": "reward_bound=nan should be a valid number",
    "reward_bound=1.5": "reward_bound=1.5 is too low: plain_flowgrpo has a prompt with reward 5;",
    "reward_bound=-1": "reward_bound=-1 is too low",
    "diversity=[coverage,,]": "use e.g. diversity=[pairwise_distance, coverage]",
    "diversity=[coverage, coverage]": "give each measure once",
    "diversity=[covrage]": "diversity=covrage: no such measure; did you mean 'coverage'? there are",
    "diversity=reward": "diversity=reward is the reward already",
    "reward=aesthetic": "reward=aesthetic: no such measure; there are pairwise_distance, coverage, alignment",
    "baseline=drfit": "baseline=drfit: no such method; did you mean 'drift'? there are plain_flowgrpo, drift",
}


def test_bad_arguments_are_one_line_and_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    paths = [str(path) for path in write_study(tmp_path)]
    for argument, message in BAD_ARGUMENTS.items():
        assert main([*paths, f"out={tmp_path / 'out'}", argument]) == 2, argument
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert main([*paths, f"out={paths[0]}/evaluation.json"]) == 2
    assert "is a file: give a folder, e.g. out=pareto" in capsys.readouterr().err


def test_a_file_that_is_missing_or_older_says_what_makes_it(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "bare").mkdir()
    old = write_file(tmp_path, "old", 0, [make_point(0, 0.0), make_point(10, 1.0)], version=0)
    for path in (tmp_path / "bare", old):
        assert main([str(path), f"out={tmp_path / 'out'}"]) == 2
        error = capsys.readouterr().err
        assert str(path) in error
        assert f"python -m drift_pl.evaluate ckpt_path={path}" in error
    assert main([str(tmp_path / "gone"), f"out={tmp_path / 'out'}"]) == 2
    error = capsys.readouterr().err
    advice = "give a run folder, e.g. one in runs/, or an evaluation file"
    assert error == f"error: {tmp_path / 'gone'}: no such file or folder; {advice}\n"
    assert main([f"out={tmp_path / 'out'}"]) == 2
    assert "no run folder given: python -m drift_pl.pareto runs/" in capsys.readouterr().err


def test_help_is_quick(capsys: pytest.CaptureFixture) -> None:
    """It says every key and loads no numpy, and so no matplotlib."""
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(
        f"  {key} " in text for key in ("baseline", "diversity", "reward", "reward_bound", "points", "budgets", "out")
    )
    code = (
        "import sys, drift_pl.pareto as door; door.main(['-h']); print('numpy' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False"
