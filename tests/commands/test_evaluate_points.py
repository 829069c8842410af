"""The weights of the points of `python -m drift_pl.evaluate`: base, average, scaled or guided adapter."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from measured import last, means, same

from drift_pl.builders.bench import build_bench
from drift_pl.builders.checkpoint_weights import load_weights, read_checkpoints
from drift_pl.builders.run import build_policy
from drift_pl.builders.scoring import build_rewards
from drift_pl.config.loading import build_config
from drift_pl.evaluate import main
from drift_pl.evaluation.points import trained_point
from drift_pl.evaluation.record import Evaluation
from drift_pl.evaluation.record_file import read_evaluation
from drift_pl.evaluation.sampling import Model, SamplingPlan


def test_sweeps_go_from_the_base_to_the_policy(
    tiny_run: Path, evaluation: Evaluation, measure: Callable[..., Evaluation]
) -> None:
    """Scale 0 is the base; so is a power so large that the policy never takes over; power 0 is the policy alone."""
    swept = measure("lora_scale=[0, 0.5, 1]", "importance_power=[null, 0, 1.5, 1e9]", ckpt_path=last(tiny_run))
    by_key = {(point.lora_scale, point.importance_power): number for number, point in enumerate(swept.points) if number}
    assert len(by_key) == 12
    values = {key: means(swept, number) for key, number in by_key.items()}
    base = means(swept, 0)
    assert all(same(values[scale, 1e9], base) and same(values[scale, 0], values[scale, None]) for scale in (0, 0.5, 1))
    assert all(same(values[0, power], base) for power in (None, 0, 1.5))
    assert same(values[1, None], means(evaluation, 2))
    different = [base, values[0.5, None], values[0.5, 1.5], values[1, None], values[1, 1.5]]
    assert not any(same(first, second) for n, first in enumerate(different) for second in different[:n])
    assert swept.points[by_key[0.5, 1.5]].name == "iteration-000004-scale0.5-power1.5"


def test_each_set_of_weights_has_a_name_of_its_own() -> None:
    """Catches in evaluation/points.py: `base.ckpt` takes the place of the base model, and `tuned.ckpt` of the finished
    run; two scales that agree to six digits are one.
    """
    plan = SamplingPlan(steps=2, guidance_scale=1.0, negative_prompt="")
    names = [trained_point(f"{stem}.ckpt", "", 1, 1, "live", plan).name for stem in ("base", "tuned", "last")]
    assert names == ["checkpoint-base", "checkpoint-tuned", "last"]
    for field in ("lora_scale", "importance_power"):
        plans = [replace(plan, **{field: value}) for value in (0.5, 0.1234567, 0.12345671)]
        names = [trained_point("last.ckpt", "", 1, 1, "live", each).name for each in plans]
        assert len(set(names)) == 3
        assert names[0] in ("last-scale0.5", "last-power0.5")


def test_half_a_scale_is_half_an_adapter(
    tiny_run: Path, remade: Callable[..., Path], tmp_path: Path, measure: Callable[..., Evaluation]
) -> None:
    def halve(content: dict[str, Any]) -> None:
        for name in content["average"]:
            if "lora_B" in name:
                content["average"][name] *= 0.5

    powers = "importance_power=[null, 1.5]"
    assert main([f"ckpt_path={remade(tmp_path / 'half', halve)}", powers]) == 0
    halved, scaled = read_evaluation(tmp_path / "half"), measure("lora_scale=[0.5]", powers, ckpt_path=last(tiny_run))
    for number in (1, 2):
        assert (halved.points[number].lora_scale, scaled.points[number].lora_scale) == (1, 0.5)
        assert same(means(scaled, number), means(halved, number))


def test_live_weights_on_request(
    tiny_run: Path, remade: Callable[..., Path], tmp_path: Path, measure: Callable[..., Evaluation]
) -> None:
    """The same as an average that holds the live weights, and as a run without an average."""

    def average_is_live(content: dict[str, Any]) -> None:
        for name in content["average"].keys() - {"num_updates"}:
            content["average"][name] = content["state_dict"][f"network.{name}"]

    measure("weights=live", ckpt_path=last(tiny_run))
    both = measure(ckpt_path=last(tiny_run))
    assert [(point.name, point.weights) for point in both.points] == [
        *(("base", "base"), ("iteration-000004", "average"), ("iteration-000004-live", "live"))
    ]
    assert not same(means(both, 1), means(both, 2))
    for number, change in enumerate((average_is_live, lambda content: content.update(average=None))):
        folder = remade(tmp_path / str(number), change)
        assert main([f"ckpt_path={folder}"]) == 0
        assert same(means(read_evaluation(folder), 1), means(both, 2))
    assert read_evaluation(folder).points[1].weights == "live"


def test_further_rewards_have_distinct_names(measure: Callable[..., Evaluation], tiny_run: Path) -> None:
    """The config's own held-out reward once more, and the same with another argument."""
    more = measure(
        "judges=[{name: jpeg_compressibility}, {name: jpeg_compressibility, args: {quality: 5}}]",
        ckpt_path=last(tiny_run),
    )
    values = means(more, 1)
    assert values["heldout/jpeg_compressibility#2"] == values["heldout/jpeg_compressibility"]
    assert values["heldout/jpeg_compressibility#3"] > values["heldout/jpeg_compressibility"]
    assert more.protocol["heldout_judges"][2] == "jpeg_compressibility {'quality': 5}"


def test_the_base_stays_the_base_whatever_was_loaded(tiny_run: Path, evaluation: Evaluation) -> None:
    """Also where the run's own evaluation mixes predictions; and in the requested precision."""
    file = tiny_run / "config.yaml"
    config = build_config([("experiment", str(file)), ("sampler.eval_importance_power", "1.5")])
    contexts = []

    def autocast() -> Any:
        contexts.append(torch.autocast("cpu", torch.bfloat16, enabled=len(contexts) == 3))
        return contexts[-1]

    guided = build_bench(config, build_rewards(config.rewards, "rewards"))
    bench = replace(guided, sampling=replace(guided.sampling, importance_power=None, lora_scale=0.5))
    model = Model.on(build_policy(config), torch.device("cpu"), autocast)
    checkpoint = read_checkpoints([last(tiny_run)], file, "average")[0]
    load_weights(dict(model.policy.trainable_parameters()), checkpoint)
    sample = (evaluation.protocol["prompts"], evaluation.protocol["seeds_per_prompt"])
    point = bench.tuned(model, *sample)
    base = guided.base(model, *sample)
    again = bench.tuned(model, *sample)
    rough = bench.tuned(model, *sample)
    assert same(base.means(), means(evaluation, 0))
    assert same(again.means(), point.means())
    assert not same(point.means(), base.means())
    assert not same(rough.means(), point.means())
