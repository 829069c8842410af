"""Runs with expansions: which texts the rollouts see, what is kept, what a resume has, and what is refused."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import writers
from runs import TinyWorld, assert_same_training_state, largest_difference

from drift_pl.builders.expansions import expansion_texts
from drift_pl.builders.run import build_run
from drift_pl.config.loading import parse
from drift_pl.core.errors import UserError
from drift_pl.core.files import write_text
from drift_pl.incentive.expansions import Expansions
from drift_pl.policies.sd3 import StableDiffusion3Policy

NFT = ["objective.loss=nft", "policy.guidance_scale=1", "rewards=[{name: 'judges:Brightness'}]", "evaluation.every=0"]
OFF = ["incentive.selection.rule=none", "incentive.shaping.weight=0", "incentive.prompting.update=clean"]
RULE = "incentive.prompting.rule=expansions"
COUNTING = "incentive.prompting.writers=[{name: 'writers:counting'}]"
WORDS = '{"attribute": "mood", "words": ["now", "not"]}\n{"template": "{prompt} {mood}"}\n'
PROMPTS = ("a red dot", "a blue bar", "a big dot", "any dot")


@pytest.fixture(autouse=True)
def modules_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    writers.ASKED.clear()


def kept(run_dir: Path) -> dict[str, list[str]]:
    (file,) = (run_dir / "inputs").glob("expansions-*.jsonl")
    return {entry["prompt"]: entry["paraphrases"] for entry in map(json.loads, file.read_text().splitlines())}


def test_rollouts_see_the_texts_and_evaluations_the_prompts(
    world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches in builders/run.py: expansions built and not passed on. In builders/method.py: the noise lost."""
    words = tmp_path / "words.jsonl"
    words.write_text(WORDS)
    encoded: list[str] = []
    original = StableDiffusion3Policy.encode

    def recording(self: StableDiffusion3Policy, prompts: Any, *rest: Any) -> Any:
        encoded.extend(prompts)
        return original(self, prompts, *rest)

    monkeypatch.setattr(StableDiffusion3Policy, "encode", recording)
    settings = [*NFT, *OFF, RULE, f"incentive.prompting.vocabulary={words}", "trainer.iterations=1"]
    state = world.fit(tmp_path / "run", *settings)
    assert {f"{prompt} {mood}" for prompt in PROMPTS for mood in ("now", "not")} <= set(encoded)
    test = (world.root / "test.txt").read_text().splitlines()
    assert set(encoded) <= {*PROMPTS, *test, "", *(f"{prompt} {mood}" for prompt in PROMPTS for mood in ("now", "not"))}
    both = world.fit(tmp_path / "both", *settings, "incentive.prompting.rule=expansions_noise")
    assert largest_difference(state, both) > 1e-4


def test_a_resumed_run_has_the_texts_that_were_written_for_it(world: TinyWorld, tmp_path: Path) -> None:
    """The writer never writes the same twice. In another folder the run keeps its texts, and goes on there with them.

    Catches in builders/expansions.py: asked again by a resume; asked for a prompt that has texts; texts of the run
    that it goes on from not kept in the new folder.
    """
    settings = [*NFT, *OFF, RULE, COUNTING, "incentive.prompting.texts=3"]
    whole = world.fit(tmp_path / "whole", *settings, "trainer.iterations=4")
    assert sorted(writers.ASKED) == sorted(PROMPTS)
    assert {prompt: len(texts) for prompt, texts in kept(tmp_path / "whole").items()} == dict.fromkeys(PROMPTS, 3)
    writers.ASKED.clear()
    parts = tmp_path / "parts"
    world.fit(parts, *settings, "trainer.iterations=2")
    assert kept(parts) == kept(tmp_path / "whole")
    again = world.fit(parts, *settings, "trainer.iterations=4", "ckpt_path=last")
    assert_same_training_state(again, whole)
    checkpoint = next((parts / "checkpoints").glob("*2.ckpt"), parts / "checkpoints" / "last.ckpt")
    moved = tmp_path / "moved"
    world.fit(moved, *settings, "trainer.iterations=6", f"ckpt_path={checkpoint}")
    assert kept(moved) == kept(parts)
    world.fit(moved, *settings, "trainer.iterations=7", "ckpt_path=last")
    assert sorted(writers.ASKED) == sorted(PROMPTS), "once, for the first part"


def test_texts_of_other_writers_or_another_number_are_not_taken(world: TinyWorld, tmp_path: Path) -> None:
    """Catches in builders/expansions.py: a file of another writer is read."""

    def texts(count: int) -> Any:
        prompting = [RULE, COUNTING, f"incentive.prompting.texts={count}"]
        return expansion_texts(parse([*world.overrides(), *NFT, *prompting]).config, PROMPTS, tmp_path)

    first = texts(2)
    assert texts(2) == first
    assert all(len(each) == 3 for each in texts(3).values())
    assert texts(2) == first
    assert len(list((tmp_path / "inputs").iterdir())) == 2


def test_a_part_of_the_texts_is_completed(world: TinyWorld, tmp_path: Path) -> None:
    config = parse([*world.overrides(), *NFT, RULE, COUNTING]).config
    half = expansion_texts(config, PROMPTS[:2], tmp_path)
    whole = expansion_texts(config, PROMPTS, tmp_path)
    assert {prompt: whole[prompt] for prompt in PROMPTS[:2]} == dict(half)
    assert list(PROMPTS) == writers.ASKED


def test_other_processes_wait_for_the_texts_of_the_first(
    world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches in builders/expansions.py: every process asks."""
    config = parse([*world.overrides(), *NFT, RULE, COUNTING]).config
    first = expansion_texts(config, PROMPTS, tmp_path / "first")
    (file,) = (tmp_path / "first" / "inputs").iterdir()
    target = tmp_path / "run" / "inputs" / file.name
    target.parent.mkdir(parents=True)

    def write() -> None:
        for lines in (2, 4):
            time.sleep(0.3)
            write_text(target, "".join(file.read_text().splitlines(keepends=True)[:lines]))  # as the first process does

    monkeypatch.setattr("drift_pl.builders.expansions.is_first_launched", lambda config: False)
    writers.ASKED.clear()
    threading.Thread(target=write, daemon=True).start()
    assert expansion_texts(config, PROMPTS, tmp_path / "run") == first
    assert writers.ASKED == []
    monkeypatch.setattr("drift_pl.builders.expansions.PATIENCE_S", 0.3)
    with pytest.raises(UserError, match="the first process has not written all texts"):
        expansion_texts(config, PROMPTS, tmp_path / "never")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "from one source, and none is given: use one of incentive.prompting.vocabulary=FILE"),
        (
            [COUNTING, "incentive.prompting.paraphrases=p.jsonl"],
            "paraphrases and incentive.prompting.writers are given",
        ),
        (["incentive.prompting.paraphrases=p.jsonl"], 'lacks 3 of 4 prompts .*{"prompt": "a blue bar"'),
        (["incentive.prompting.vocabulary=w.jsonl"], "has no template for 4 of 4 prompts .*e.g. 'a red dot': add one"),
        (["incentive.prompting.writers=[{name: 'writers:empty'}]"], "writers.0 has written no text for 'a red dot'"),
        (["incentive.prompting.writers=[{name: 'writers:few'}]"], "writers.0 should return a list of 4 lists of texts"),
        (["incentive.prompting.writers=[{name: 'writers:broken'}]"], "writers.0: the writer failed: ConnectionError"),
        (["incentive.prompting.writers=[{name: 'writers:ASKED'}]"], "is not a class or a function"),
        (["incentive.prompting.writers=[{name: chat}]"], "missing a required argument: 'url' for 'chat'"),
        (["incentive.prompting.texts=0"], "incentive.prompting.texts=0 should be greater than or equal to 1"),
    ],
)
def test_what_cannot_be_expanded_is_refused(
    world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.jsonl").write_text('{"prompt": "a red dot", "paraphrases": ["one dot"]}\n')
    Path("w.jsonl").write_text('{"attribute": "mood", "words": ["now"]}\n{"template": "a {mood} dot"}\n')
    with pytest.raises(UserError, match=says):
        build_run(parse([*world.overrides(), *NFT, *OFF, RULE, *given]).config, tmp_path / "run")
    assert not (tmp_path / "run" / "inputs").exists()


def test_a_file_of_paraphrases_serves_as_expansions(world: TinyWorld, tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text("".join(json.dumps({"prompt": p, "paraphrases": [f"{p} now"]}) + "\n" for p in PROMPTS))
    settings = [*world.overrides(), *NFT, *OFF, RULE, f"incentive.prompting.paraphrases={file}"]
    rule = build_run(parse(settings).config, tmp_path).module.sample.prompting
    assert isinstance(rule, Expansions)
    assert rule.group_size == 4
    assert rule.rewrite(PROMPTS, 0, 0, [0, 4, 8, 12]) == [f"{prompt} now" for prompt in PROMPTS]
