"""Levers that cannot act, or not as they are set: texts of expansions, the clean update, targets."""

import json

from campaign.inputs.rows import row, with_files

EXPANSIONS = "fit incentive.prompting.rule=expansions"
ONE_LINE = '{"prompt": "a red dot", "paraphrases": ["one dot"]}\n'
WORDS = '{"attribute": "mood", "words": ["now"]}\n'
FROM_FILE = f"{EXPANSIONS} incentive.prompting.vocabulary=w.jsonl"


def written_by(**writer: object) -> str:
    return f"{EXPANSIONS} 'incentive.prompting.writers=[{json.dumps(writer)}]'"


NOBODY = {"url": "http://127.0.0.1:9/v1", "model": "m", "attempts": 1, "first_wait_s": 0}
SOURCES = [
    with_files({"p.jsonl": ONE_LINE}, f"{EXPANSIONS} incentive.prompting.paraphrases=p.jsonl", "p.jsonl lacks 3 of 4"),
    row(EXPANSIONS, "takes its texts from one source, and none is given", "incentive.prompting.vocabulary=FILE"),
    row(FROM_FILE, "incentive.prompting.vocabulary=w.jsonl"),
    with_files({"w.jsonl": WORDS}, FROM_FILE, "w.jsonl has no template"),
    with_files({"w.jsonl": "now\n"}, FROM_FILE, "w.jsonl, line 1: not JSON"),
    with_files(
        {"w.jsonl": WORDS + '{"template": "a {mood} dot"}\n'},
        FROM_FILE,
        *("has no template for 4 of 4 prompts", '{"template": "{prompt}[, {size}]"}'),
    ),
    row(written_by(name="chat", args=NOBODY), "writers.args.url=http://127.0.0.1:9/v1/chat/completions", "start the"),
    row(written_by(name="chat", args={**NOBODY, "url": "here"}), "incentive.prompting.writers.args.url is not a url"),
    row(written_by(name="chat"), "missing a required argument: 'url'"),
    row(written_by(name="chta"), "writers.0.name=chta should be one of chat"),
]
CLEAN = [
    row(
        "fit incentive.prompting.rule=embedding_noise incentive.prompting.update=clean objective.loss=surrogate",
        *("incentive.prompting.update=clean", "use objective.loss=nft"),
    ),
    row("fit incentive.prompting.update=both", "incentive.prompting.update=both should be "),
    row("fit incentive.prompting.texts=0", "incentive.prompting.texts=0 should be greater", "use e.g."),
    row("fit incentive.prompting.named=-1", "incentive.prompting.named=-1 should be greater", "use e.g."),
]
IDLE = [
    row("fit prompts.group_size=2", "incentive.shaping.weight=", "two images are equally far", "group_size=3"),
    row("fit objective.loss=nft incentive.shaping.form=per_step", "needs sampled steps", "use terminal"),
]
SCHEDULES = [
    row(
        "fit sampler.window_schedule=linear_decay sampler.window_every=2 sampler.window_every_last=5",
        *("sampler.window_every_last=5 is more than window_every=2", "use e.g. 1"),
    ),
    row("fit sampler.window_schedule=exp_decay sampler.window_decay=-1", "sampler.window_decay=-1 should be greater"),
]
KINDS = {"expansions": SOURCES, "clean updates": CLEAN, "levers that cannot act": IDLE, "schedules": SCHEDULES}
