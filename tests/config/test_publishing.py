"""What stands in environment variables is used, and is in none of the files that a run writes."""

import json
from pathlib import Path

import pytest

from drift_pl.config.identity import run_identity, run_settings
from drift_pl.config.loading import build_config, config_yaml, parse
from drift_pl.core.errors import UserError

SECRET = "s3cret-of-the-test"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_URL", f"http://127.0.0.1:1/score?key={SECRET}")
    monkeypatch.setenv("STEPS", "7")
    monkeypatch.setenv("LOSS", "surrogate")
    monkeypatch.setenv("WORDS", SECRET)


ARGV = [
    "rewards=[{name: http_judge, args: {url: '${oc.env:JUDGE_URL}', token_env: null}}, {name: jpeg_compressibility}]",
    "policy.negative_prompt=${oc.env:WORDS}",
    "evaluation.rewards=[{name: chat_judge, args: {url: '${rewards.0.args.url}', model: m}}]",
    "sampler.steps=${oc.decode:${oc.env:STEPS}}",
    "objective.loss=${oc.env:LOSS}",
]


def test_values_are_used_and_their_names_are_kept() -> None:
    """Catches in config/publishing.py: the resolved value of a text that refers to another key."""
    request = parse(ARGV)
    config, kept = request.config, request.config.published
    assert config.rewards[0].args["url"].endswith(SECRET)
    assert config.policy.negative_prompt == SECRET
    assert (config.sampler.steps, kept.sampler.steps) == (7, 7), "numbers are no secrets"
    assert (config.objective.loss, kept.objective.loss) == ("surrogate", "surrogate"), "choices are none either"
    assert kept.rewards[0].args == {"url": "${oc.env:JUDGE_URL}", "token_env": None}
    assert kept.evaluation.rewards[0].args["url"] == "${oc.env:JUDGE_URL}"
    for text in (
        config_yaml(config, request.tree),
        config_yaml(config),
        json.dumps(run_settings(config)),
        json.dumps(kept.model_dump()),
    ):
        assert SECRET not in text
        assert "${oc.env:JUDGE_URL}" in text


def test_a_run_is_the_same_wherever_its_server_is(monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_identity(parse(ARGV).config)
    monkeypatch.setenv("JUDGE_URL", "http://127.0.0.1:2/score")
    assert run_identity(parse(ARGV).config) == first


def test_records_and_cards_hold_names_only(tmp_path: Path) -> None:
    from drift_pl.builders.bench import new_record
    from drift_pl.policies.export import PipelineFacts
    from drift_pl.reports.card_facts import Base, Weights
    from drift_pl.reports.model_card import Export, model_card

    config = parse(ARGV).config
    record = new_record(config, tmp_path / "test.json", "test", 2)
    assert SECRET not in json.dumps(record.protocol)
    assert "${oc.env:JUDGE_URL}" in json.dumps(record.protocol)
    weights = Weights(1, "live", "0")
    facts = PipelineFacts("Pipeline", (), ("negative_prompt",), "flow", 0.0)
    export = Export("out", "lora", weights, Base("org/model@0123", None), facts, "none")
    card = model_card(config.published, "0", export)
    assert SECRET not in card
    assert "${oc.env:WORDS}" in card
    assert "base_model: org/model\n" in card
    config.publish_as(config.model_copy(deep=True))
    config.published.policy.negative_prompt = f"at http://h/?k={SECRET}"
    config.published.rewards[0].args["note"] = f"at http://h/?k={SECRET}"
    card = model_card(config.published, "0", export)
    assert SECRET not in card, "a text may hold an address"
    assert card.count("at http://h/?...") == 2
    assert "from_pretrained('org/model', revision='0123')" in card


@pytest.mark.parametrize(
    "argument",
    [
        "rewards=[{name: http_judge, args: {url: 'http://127.0.0.1/score?key=abc'}}]",
        "evaluation.rewards=[{name: 'my.module:Thing', args: {url: 'https://h/x?abc'}}]",
        "rewards=[{name: 'my.module:Thing', args: {host: 'https://h/x?abc'}}]",
        "trainer.logger=[{name: 'my.module:Logger', args: {server: {at: 'sqlite:///x?abc'}}}]",
    ],
)
def test_an_address_with_a_query_is_refused_without_the_query(argument: str) -> None:
    """Catches in config/publishing.py: keys of other names than url."""
    with pytest.raises(UserError, match=r"\.0\.args\.[\w.]+=\w+://.*\?\.\.\.: .* environment variable") as caught:
        parse([argument])
    assert "abc" not in str(caught.value)


def test_an_address_with_a_user_is_refused_and_a_text_with_an_address_is_not() -> None:
    """Catches in config/publishing.py: a password in a logger's address."""
    with pytest.raises(UserError, match=r"args\.uri=postgresql://h/db: .* user name and password") as caught:
        parse(["trainer.logger=[{name: 'my.module:Logger', args: {uri: 'postgresql://me:abc@h/db'}}]"])
    assert "abc" not in str(caught.value)
    assert parse(["policy.negative_prompt=see http://h/?k"]).config.policy.negative_prompt == "see http://h/?k"


def test_several_values_of_one_variable_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would be written down, for none of them has a name; numbers may be.

    Catches in config/publishing.py: a token in every checkpoint, from a variable that holds all arguments.
    """
    monkeypatch.setenv("ARGS", f'{{url: "http://127.0.0.1:1/chat", model: m, extra: {{key: {SECRET}}}}}')
    monkeypatch.setenv("RANGE", "[0, 3]")
    with pytest.raises(
        UserError, match=r"^rewards\.0\.args=.*ARGS.*: the run's files would keep .* write .* out"
    ) as error:
        parse(["rewards=[{name: chat_judge, args: '${oc.decode:${oc.env:ARGS}}'}]"])
    assert SECRET not in str(error.value)
    argv = ["sampler.window_range=${oc.decode:${oc.env:RANGE}}", "sampler.window_size=2"]
    assert parse(argv).config.published.sampler.window_range == [0, 3]


@pytest.mark.parametrize(
    "argument",
    [
        "rewards={name: http_judge, args: {url: '${oc.env:JUDGE_URL}'}}",
        "rewards=[{name: http_judge, args: ['${oc.env:JUDGE_URL}']}]",
        "rewards=[{name: http_judge, args: '${oc.env:JUDGE_URL}'}]",
        "tags=${oc.env:WORDS}",
        "trainer.iterations=${oc.env:WORDS}",
        "policy.family=${oc.env:WORDS}",
    ],
)
def test_a_message_shows_what_was_written(argument: str) -> None:
    """Catches in config/section.py: the key of a judge's url on the screen, because of brackets that were forgotten."""
    with pytest.raises(UserError) as error:
        parse([argument])
    assert SECRET not in str(error.value)
    assert "${oc.env:" in str(error.value)


def test_a_config_without_variables_is_its_own() -> None:
    config = build_config([("seed", "3")])
    assert config.published is config
