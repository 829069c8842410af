"""The texts of several writers, asked in parts, and what the rule is given beside them."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from drift_pl.builders.expansions import AT_ONCE, expansion_texts
from drift_pl.builders.method import build_prompting
from drift_pl.config.loading import parse
from drift_pl.incentive.expansions import Expansions

VOCABULARY = "pkg:drift_pl.builtin/prompts/vocabulary.jsonl"
EXPANDED = ["experiment=shapes_flowgrpo", "objective.loss=nft", "objective.kl_weight=0.1"]


def test_all_writers_are_asked_for_all_prompts_and_each_gives_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three texts of each writer, in the writers' order, for more prompts than one request has; the prompt is none.

    Catches in drift_pl/builders/expansions.py: only the first part is asked for; the second writer's texts replace the
    first's; a writer's further texts are taken; the prompt itself counts as a text.
    """
    asked: list[int] = []

    def writer(name: str):
        def write(prompts: Sequence[str], count: int) -> list[list[str]]:
            asked.append(len(prompts))
            return [[prompt, *(f"{name} {prompt} {number}" for number in range(count + 2))] for prompt in prompts]

        return write

    made = {"incentive.prompting.writers.0": writer("old"), "incentive.prompting.writers.1": writer("new")}
    monkeypatch.setattr("drift_pl.builders.expansions.create_scorer", lambda kind, entry, setting: made[setting])
    config = parse(
        [
            *EXPANDED,
            "incentive.prompting.rule=expansions",
            "incentive.prompting.texts=3",
            "incentive.prompting.writers=[{name: chat, args: {url: 'http://127.0.0.1:9/v1', model: m}}, "
            "{name: chat, args: {url: 'http://127.0.0.1:9/v1', model: n}}]",
        ]
    ).config
    prompts = [f"a disc {number}" for number in range(AT_ONCE + 3)]
    texts = expansion_texts(config, prompts, None)
    assert asked == [AT_ONCE, AT_ONCE, 3, 3]
    for prompt in prompts:
        assert texts[prompt] == tuple(f"{name} {prompt} {number}" for name in ("old", "new") for number in range(3))


def test_a_vocabulary_is_asked_for_what_is_set() -> None:
    """Five texts, each naming one thing that the prompt leaves open, drawn by the run's seed.

    Catches in drift_pl/builders/expansions.py: a number of texts, of named attributes, or a seed that is not the set
    one.
    """

    def texts(*more: str) -> tuple[str, ...]:
        keys = ["incentive.prompting.rule=expansions", f"incentive.prompting.vocabulary={VOCABULARY}", *more]
        return tuple(expansion_texts(parse([*EXPANDED, *keys]).config, ["a circle"], None)["a circle"])

    one = texts("incentive.prompting.texts=5", "incentive.prompting.named=1", "seed=3")
    assert len(one) == 5
    assert max(map(len, one)) < min(map(len, texts("incentive.prompting.texts=5", "seed=3")))
    assert one == texts("incentive.prompting.texts=5", "incentive.prompting.named=1", "seed=3")
    assert one != texts("incentive.prompting.texts=5", "incentive.prompting.named=1", "seed=4")


def test_the_rule_gets_its_share_noise_and_group_size(tmp_path: Path) -> None:
    """Catches in drift_pl/builders/method.py: prompts per iteration for images per group; a lost share."""
    file = tmp_path / "texts.jsonl"
    file.write_text('{"prompt": "a disc", "paraphrases": ["a red disc", "a blue disc"]}\n', encoding="utf-8")
    keys = [f"incentive.prompting.paraphrases={file}", "incentive.prompting.share=0.5"]
    keys += ["incentive.prompting.scale=0.2", "prompts.group_size=12", "prompts.per_iteration=4"]

    def built(rule: str) -> object:
        given = keys if rule != "embedding_noise" else keys[2:]
        return build_prompting(parse([*EXPANDED, *given, f"incentive.prompting.rule={rule}"]).config, ["a disc"])

    texts = {"a disc": ("a red disc", "a blue disc")}
    assert built("expansions") == Expansions((), texts, 0.5, None, 12)
    assert built("expansions_noise") == Expansions((), texts, 0.5, built("embedding_noise"), 12)
