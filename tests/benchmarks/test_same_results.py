"""What benchmarks/same_results.py compares: every bit, digit and key; nothing is trained here."""

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from same_results import (  # noqa: E402
    CommandFailed,
    compare,
    difference,
    flatten,
    list_experiments,
    main,
    read_run,
    rename,
    run_python,
    verdict,
)


def test_a_config_is_flattened_to_its_leaves_and_the_lengths_of_its_lists() -> None:
    text = "# run folder: runs/a\nseed: 0\npolicy: {lora: {rank: 2}}\nrewards: [{name: a, args: {}}]\nlogger: []\n"
    assert flatten(yaml.safe_load(text)) == {
        "seed": 0,
        "policy.lora.rank": 2,
        "rewards": "1 entries",
        "rewards.0.name": "a",
        "rewards.0.args": {},
        "logger": "0 entries",
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [(0.1, 0.1), (float("nan"), float("nan")), (["0.1", ""], ["0.1", ""]), (torch.ones(2), torch.ones(2))],
)
def test_equal_values_do_not_differ(old: object, new: object) -> None:
    assert difference(old, new) is None


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (1, 1.0, "1 -> 1.0"),
        (1, True, "1 -> True"),
        (0.001, "1e-3", "0.001 -> '1e-3'"),
        (0.1 + 0.2, 0.3, "0.30000000000000004 -> 0.3"),
        (["0.1", "0.2"], ["0.1", "0.20"], "in row 1: 0.2 -> 0.20"),
        (["0.1"], ["0.1", "0.2"], "in row 1: None -> 0.2"),
        (torch.zeros(2), torch.zeros(3), "torch.float32 (2,) -> torch.float32 (3,)"),
        (torch.zeros(2), torch.zeros(2).double(), "torch.float32 (2,) -> torch.float64 (2,)"),
        (torch.zeros(2), torch.tensor([0.0, -0.0]), "by up to 0.00e+00"),
        (torch.zeros(2), "zeros", "tensor([0., 0.]) -> 'zeros'"),
    ],
)
def test_values_that_differ_say_how(old: object, new: object, text: str) -> None:
    """Catches in benchmarks/same_results.py: -0.0 passes for 0.0: values compared in place of bits; 1 passes for 1.0;
    NaN differs from NaN.
    """
    assert difference(old, new) == text


def test_one_bit_of_a_state_is_seen() -> None:
    """The last bit of a float32 weight of 1 is 2^-23; of an optimizer's step of 0, which has no dimensions, 2^-149."""
    state = {"state_dict": {"w": torch.ones(3, 2)}, "optimizer_states": [{"state": {4: {"step": torch.tensor(0.0)}}}]}
    for key, size in (("state_dict.w", "1.19e-07"), ("optimizer_states.0.state.4.step", "1.40e-45")):
        old = flatten(state)
        changed = old | {key: old[key].clone()}
        changed[key].view(torch.int32).reshape(-1)[-1] ^= 1
        assert compare("tensors", old, changed).differences == [f"{key} by up to {size}"]
    assert compare("tensors", old, flatten(state)).differences == []


def test_a_key_that_is_gone_differs_and_one_that_is_new_does_where_it_must_not_be() -> None:
    old, new = {"a": 1, "b": 2}, {"b": 2, "c": 3}
    strict, lenient = compare("keys", old, new), compare("keys", old, new, may_add=True)
    assert (strict.total, strict.differences, strict.new) == (2, ["a is missing", "c is new"], [])
    assert (lenient.differences, lenient.new) == (["a is missing"], ["c"])


def test_a_list_with_one_more_entry_is_no_new_key() -> None:
    """Catches in benchmarks/same_results.py: a second judge passes for a new key."""
    old, new = flatten({"rewards": [{"name": "a"}]}), flatten({"rewards": [{"name": "a"}, {"name": "b"}]})
    assert compare("keys", old, new, may_add=True).differences == ["rewards '1 entries' -> '2 entries'"]


def test_a_renamed_section_takes_its_keys_along() -> None:
    renames = [("trainer.alarm", "alarm"), ("seed", "random.seed")]
    keys = ["trainer.alarm", "trainer.alarm.stop", "trainer.alarms", "seed", "seeds.seed"]
    assert [rename(key, renames) for key in keys] == [
        "alarm",
        "alarm.stop",
        "trainer.alarms",
        "random.seed",
        "seeds.seed",
    ]


def test_the_report_says_how_much_is_the_same_or_what_differs_first() -> None:
    same = compare("keys", {"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}, may_add=True)
    other = compare("metrics", {"m": ["1"], "n": ["1"]}, {"m": ["1"], "n": ["2"]})
    assert verdict("config x", [same]) == "config x: same: 2 keys; new keys: c"
    assert verdict("run x", [same, other]) == "run x: DIFFERENT: 1 of 2 metrics: n in row 0: 1 -> 2; new keys: c"


def test_a_run_is_read_without_times_and_hashes(tmp_path: Path) -> None:
    """Hashes of settings have had several formats: only the seed identifies a run."""
    for folder in ("checkpoints", "csv"):
        (tmp_path / folder).mkdir()
    parts = {"state_dict": {"w": torch.ones(2)}, "average": {"num_updates": 2}, "optimizer_states": [{"lr": 0.1}]}
    rest = {"PromptDataModule": {"iteration": 2}, "run_identity": "0123abcd-s12", "callbacks": {"seconds": 1.5}}
    rest["run_settings"] = {"objective.clip_range": 0.1}
    torch.save(parts | rest, tmp_path / "checkpoints" / "last.ckpt")
    (tmp_path / "csv" / "metrics.csv").write_text("reward,time/update_s\n0.50,1\n,2\n")
    (tmp_path / "summary.json").write_text(
        json.dumps({"base": {"reward": 0.5}, "seconds": 1.5, "config_hash": "0123abcd"})
    )
    tensors, others, metrics, summary = read_run(tmp_path).values()
    assert tensors.keys() == {"state_dict.w"}
    assert others["PromptDataModule.iteration"] == others["average.num_updates"] == 2
    assert others["seed"] == "12"
    assert "optimizer_states.0.lr" in others
    assert not any(part in key for key in others for part in ("seconds", "run_identity", "run_settings"))
    assert metrics == {"reward": ["0.50", ""]}
    assert summary == {"base.reward": 0.5}


def test_a_command_runs_with_the_modules_of_its_checkout(tmp_path: Path) -> None:
    (tmp_path / "drift_pl.py").write_text("print('the one of the test')")
    assert run_python(tmp_path, BENCHMARKS, "-c", "import drift_pl") == "the one of the test\n"
    with pytest.raises(CommandFailed, match="status 1: ZeroDivisionError: division by zero"):
        run_python(tmp_path, BENCHMARKS, "-c", "1 / 0")


def test_experiments_are_found_beside_the_package_and_in_it(tmp_path: Path) -> None:
    for folder, name in (("experiments", "b"), ("drift_pl/experiments", "a")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / f"{name}.yaml").touch()
    assert list_experiments(tmp_path) == ["a", "b"]
    assert "shapes_drift" in list_experiments(BENCHMARKS.parent)


def test_nothing_compared_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Catches in benchmarks/same_results.py: nothing compared is a success."""
    (tmp_path / "drift_pl").mkdir()
    assert main([str(tmp_path), str(tmp_path), "--only", "configs"]) == 1
    for wrong, message in ((["--only", "config"], "invalid choice"), (["--renamed", "a"], "--renamed a: use e.g.")):
        with pytest.raises(SystemExit):
            main([str(tmp_path), str(tmp_path), *wrong])
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(tmp_path), str(tmp_path / "nowhere")])
    assert "is not a checkout of this package" in capsys.readouterr().err
