"""The texts of prompt expansions: from a vocabulary, from a file, or from writers, whose texts a run keeps."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drift_pl.builders.scoring import create_scorer
from drift_pl.config.inputs import KEPT
from drift_pl.config.own_run import earlier_folder
from drift_pl.config.processes import is_first_launched
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError, naming
from drift_pl.core.files import write_text
from drift_pl.core.foreign import described
from drift_pl.core.texts import stripped
from drift_pl.incentive.expansions import TextsOnDemand, refuse_missing
from drift_pl.incentive.paraphrases import read_paraphrases
from drift_pl.incentive.vocabulary_file import TEMPLATE_LINE, read_vocabulary
from drift_pl.scoring.writer import Writer, is_text

VOCABULARY, PARAPHRASES = "incentive.prompting.vocabulary", "incentive.prompting.paraphrases"
WRITERS = "incentive.prompting.writers"
Texts = Mapping[str, Sequence[str]]
AT_ONCE = 32
"""Prompts of a call of a writer; its texts are kept after each."""
PATIENCE_S = 3600.0
"""How long the other processes wait for the first one without a further text."""


def expansion_texts(config: Config, prompts: Sequence[str], run_dir: Path | None) -> Texts:
    """Prompt -> its texts.

    Args:
        prompts: all that are trained on.
        run_dir: where a writer's texts are kept, so that a resumed run has the same.

    Raises:
        UserError: there are prompts without texts, or the source cannot be used.
    """
    prompting = config.incentive.prompting
    if prompting.vocabulary:
        return _of_vocabulary(config, prompting.vocabulary, prompts)
    if prompting.paraphrases:
        with naming(PARAPHRASES):
            texts = read_paraphrases(prompting.paraphrases)
        with naming(f"{PARAPHRASES}={prompting.paraphrases}"):
            refuse_missing(texts, prompts)
        return texts
    return _of_writers(config, prompts, run_dir)


def _of_vocabulary(config: Config, name: str, prompts: Sequence[str]) -> Texts:
    prompting = config.incentive.prompting
    with naming(VOCABULARY):
        vocabulary = read_vocabulary(name)
    unserved = [prompt for prompt in dict.fromkeys(prompts) if not vocabulary.serves(prompt)]
    if unserved:
        raise UserError(
            f"{VOCABULARY}={name} has no template for {len(unserved)} of {len(set(prompts))} prompts of prompts.train, "
            f"e.g. {unserved[0]!r}: add one with the prompt in it, {TEMPLATE_LINE}, or the words of it that name "
            "nothing to 'plain'"
        )
    return TextsOnDemand(
        prompts, lambda prompt: vocabulary.expansions(prompt, prompting.texts, prompting.named, config.seed)
    )


def _of_writers(config: Config, prompts: Sequence[str], run_dir: Path | None) -> Texts:
    """Asks the writers, in the first process, for what is not kept; the others wait for it."""
    entries = config.incentive.prompting.writers
    writers = [create_scorer("writer", entry, f"{WRITERS}.{number}") for number, entry in enumerate(entries)]
    file = None if run_dir is None else run_dir / KEPT / _kept_name(config)
    texts = _kept_texts(config, file)
    if texts and file is not None and not file.is_file() and is_first_launched(config):
        _keep(texts, file)  # of the run that it goes on from
    missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in texts]
    if missing and file is not None and not is_first_launched(config):
        return _awaited(file, missing)
    if missing and file is not None:
        print(f"{WRITERS}: texts for {len(missing)} prompts are being written; {file} keeps them", flush=True)
    for start in range(0, len(missing), AT_ONCE):
        texts |= _written(writers, missing[start : start + AT_ONCE], config.incentive.prompting.texts)
        if file is not None:
            _keep(texts, file)
    return texts


def _keep(texts: Texts, file: Path) -> None:
    lines = (json.dumps({"prompt": prompt, "paraphrases": list(own)}) for prompt, own in texts.items())
    write_text(file, "".join(f"{line}\n" for line in lines))


def _kept_name(config: Config) -> str:
    """Of the file for what these writers write: others leave it alone."""
    prompting = config.published.incentive.prompting
    asked = [prompting.texts, [writer.model_dump() for writer in prompting.writers]]
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()[:8]
    return f"expansions-{digest}.jsonl"


def _kept_texts(config: Config, file: Path | None) -> dict[str, tuple[str, ...]]:
    """What the run has, or the run that it goes on from in another folder."""
    if file is None:
        return {}
    earlier = earlier_folder(config.ckpt_path)
    places = [file] if earlier is None else [file, earlier / KEPT / file.name]
    found = next((each for each in places if each.is_file()), None)
    with naming(WRITERS):
        return {} if found is None else read_paraphrases(str(found))


def _awaited(file: Path, missing: Sequence[str]) -> Texts:
    """The texts that another process keeps, once there are some for each prompt."""
    texts, until = dict[str, tuple[str, ...]](), time.monotonic() + PATIENCE_S
    while not texts.keys() >= set(missing):
        if time.monotonic() > until:
            raise UserError(f"{WRITERS}: the first process has not written all texts to {file}: start the run again")
        time.sleep(0.2)
        now = read_paraphrases(str(file)) if file.is_file() else {}
        if len(now) > len(texts):
            texts, until = now, time.monotonic() + PATIENCE_S
    return texts


def _written(writers: Sequence[Writer], prompts: Sequence[str], count: int) -> dict[str, tuple[str, ...]]:
    """The distinct texts of all writers together, for each prompt.

    Raises:
        UserError: a writer fails, answers something else, or has no usable text for a prompt.
    """
    found: dict[str, dict[str, None]] = {prompt: {} for prompt in prompts}
    for number, writer in enumerate(writers):
        setting = f"{WRITERS}.{number}"
        try:
            answers: Any = writer(prompts, count)
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{setting}: the writer failed: {described(error)}") from error
        if not isinstance(answers, list | tuple) or len(answers) != len(prompts):
            raise UserError(f"{setting} should return a list of {len(prompts)} lists of texts, one for each prompt")
        for prompt, answer in zip(prompts, answers, strict=True):
            given = [stripped(text) for text in answer if isinstance(text, str)] if not isinstance(answer, str) else []
            usable = [text for text in dict.fromkeys(given) if is_text(text) and text != prompt][:count]
            if not usable:
                raise UserError(
                    f"{setting} has written no text for {prompt!r}: ask for lines like 'a red circle at night'"
                )
            found[prompt].update(dict.fromkeys(usable))
    return {prompt: tuple(texts) for prompt, texts in found.items()}
