"""Which runs are seeds of one thing: those of one experiment with the same settings."""

import json
from pathlib import Path

import pytest
from runs_on_a_page import make_finished_run

from drift_pl.core.errors import UserError
from drift_pl.reports.curves import group_by_experiment
from drift_pl.reports.finished_run import read_run
from drift_pl.reports.variants import variants


def groups_of(*folders: Path) -> dict[str, list[str]]:
    groups = group_by_experiment([read_run(folder) for folder in folders])
    return {name: [run.folder.name for run in group] for name, group in groups.items()}


def test_a_sweep_of_a_weight_has_a_group_for_each(tmp_path: Path) -> None:
    """Catches in reports/curves.py: groups by the experiment's name alone, which refuse seed 0 of the second weight."""
    for weight in (0.1, 0.2):
        for seed in (0, 1):
            make_finished_run(tmp_path / f"{weight}-{seed}", f"objective.kl_weight={weight}", seed=seed)
    other = make_finished_run(tmp_path / "other", experiment="shapes_flowgrpo")
    assert groups_of(*sorted(tmp_path.glob("0.*")), other) == {
        "shapes_div (objective.kl_weight=0.1)": ["0.1-0", "0.1-1"],
        "shapes_div (objective.kl_weight=0.2)": ["0.2-0", "0.2-1"],
        "shapes_flowgrpo": ["other"],
    }


def test_different_settings_are_no_seeds_even_if_the_seeds_differ(tmp_path: Path) -> None:
    """Catches in reports/variants.py: settings that are compared only where a seed comes twice."""
    first = make_finished_run(tmp_path / "a", "objective.kl_weight=0.1", seed=0)
    second = make_finished_run(tmp_path / "b", "objective.kl_weight=0.2", "objective.updates=4", seed=1)
    assert list(groups_of(first, second)) == [
        *("shapes_div (objective.kl_weight=0.1, objective.updates=2)",),
        *("shapes_div (objective.kl_weight=0.2, objective.updates=4)",),
    ]


def test_what_shapes_no_result_parts_no_seeds(tmp_path: Path) -> None:
    """Catches in reports/variants.py: hardware, names or the length that part seeds; the seed as a setting."""
    own = (["run_name=a", "trainer.threads=1"], ["run_name=b", "trainer.iterations=40", "sampler.micro_batch=2"])
    runs = [make_finished_run(tmp_path / str(seed), *keys, seed=seed) for seed, keys in enumerate(own)]
    assert groups_of(*runs) == {"shapes_div": ["0", "1"]}


def test_names_part_runs_of_one_seed(tmp_path: Path) -> None:
    """`sweep seed=0,1 run_name=a,b` repeats a run; the same run twice has one name, and is refused.

    Catches in reports/variants.py: runs that differ in their name refused.
    """
    runs = [
        make_finished_run(tmp_path / f"{name}{seed}", f"run_name={name}", seed=seed)
        for name in "ab"
        for seed in range(2)
    ]
    expected = {"shapes_div (run_name=a)": ["a0", "a1"], "shapes_div (run_name=b)": ["b0", "b1"]}
    assert groups_of(*runs) == expected
    with pytest.raises(UserError, match=r"are both seed 0 of shapes_div: give each run once"):
        groups_of(runs[0], runs[0])


@pytest.mark.parametrize(("digests", "count"), [(("aa", "aa"), 1), (("aa", "bb"), 2)])
def test_a_list_counts_by_its_content(tmp_path: Path, digests: tuple[str, str], count: int) -> None:
    """Two checkouts have one list in two places; a file that was edited between two runs is another list.

    Catches in reports/variants.py: names of files compared, or nothing but their names.
    """
    runs = []
    for seed, digest in enumerate(digests):
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / "mine.txt").write_text("a dot\n")
        where = folder if count == 1 else tmp_path / "0"
        runs.append(make_finished_run(folder / "run", f"prompts.train={where / 'mine.txt'}", seed=seed))
        mark = {"format": "drift_pl.run", "identity": "0123abcd-s0", "inputs": {"prompts.train": digest}}
        (folder / "run" / "run.json").write_text(json.dumps(mark))
    names = list(groups_of(*runs))
    shown = [f"shapes_div (prompts.train=mine.txt ({digest}))" for digest in digests]
    assert names == (["shapes_div"] if count == 1 else shown)


def test_many_settings_that_differ_leave_a_name_short_and_its_own(tmp_path: Path) -> None:
    """Catches in reports/variants.py: all settings in a name; two groups of one name, which would be one."""
    keys = ("policy.lora.rank", "policy.lora.alpha", "sampler.window_every", "objective.updates", "objective.warmup")
    first = make_finished_run(tmp_path / "a", *(f"{key}=4" for key in keys), seed=0)
    second = make_finished_run(tmp_path / "b", *(f"{key}=2" for key in keys), seed=1)
    third = make_finished_run(tmp_path / "c", *(f"{key}=2" for key in keys[:-1]), "objective.warmup=3", seed=2)
    names = variants([read_run(folder) for folder in (first, second, third)])
    shown = "policy.lora.rank={0}, policy.lora.alpha={0}, sampler.window_every={0}, objective.updates={0}, and 1 more"
    assert names == [f"{shown.format(4)}, {first}", f"{shown.format(2)}, {second}", f"{shown.format(2)}, {third}"]


def test_without_a_config_hashes_tell_runs_apart(tmp_path: Path) -> None:
    """Catches in reports/variants.py: runs whose config.yaml is of another version are one group."""
    runs = [make_finished_run(tmp_path / str(seed), seed=seed) for seed in (0, 1)]
    (runs[0] / "config.yaml").write_text("nothing: known\n")
    assert groups_of(*runs) == {"shapes_div": ["0", "1"]}, "nothing says that they differ"
    for run, found in zip(runs, ("aaaa1111", "bbbb2222"), strict=True):
        summary = json.loads((run / "summary.json").read_text())
        (run / "summary.json").write_text(json.dumps(summary | {"config_hash": found}))
    assert list(groups_of(*runs)) == ["shapes_div (config_hash=aaaa1111)", "shapes_div (config_hash=bbbb2222)"]
