"""Reads vocabularies: JSON lines with attributes, templates and plain words (see `vocabulary.py`)."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from drift_pl.core.errors import UserError, named
from drift_pl.core.texts import read_json_lines, stripped
from drift_pl.incentive.vocabulary import PROMPT, WORD, Template, Vocabulary

ATTRIBUTE_LINE = '{"attribute": "size", "words": {"small": ["small", "tiny"], "large": ["large", "big"]}}'
TEMPLATE_LINE = '{"template": "{prompt}[, {size}]"}'
PLAIN_LINE = '{"plain": ["a", "the"]}'
PIECE = re.compile(r"\{(?P<name>[^{}|]*)(?:\|(?P<otherwise>[^{}]*))?\}|(?P<text>[^{}]+)|(?P<wrong>[{}])")


def read_vocabulary(name: str) -> Vocabulary:
    """A vocabulary, from a UTF-8 JSON-lines file (see the module); empty lines are skipped.

    Args:
        name: path or pkg:PACKAGE/FILE.

    Raises:
        UserError: the file does not exist or is not text, a line is none of the three, a template names an attribute
            that is not there, a word belongs to two of them, or there is no attribute or no template.
    """
    attributes: dict[str, dict[str, list[str]]] = {}
    templates: list[tuple[str, Template]] = []
    plain: set[str] = set()
    for place, entry in read_json_lines(name, ATTRIBUTE_LINE):
        keys = set(entry) if isinstance(entry, dict) else set()
        if keys == {"attribute", "words"}:
            attribute = _text(entry["attribute"], place, "attribute", ATTRIBUTE_LINE)
            if attribute == PROMPT or not attribute.isidentifier() or attribute in attributes:
                wrong = "is there twice" if attribute in attributes else "is no name of an attribute"
                raise UserError(f"{place}: {attribute!r} {wrong}; write {ATTRIBUTE_LINE}")
            attributes[attribute] = _values(entry["words"], place)
        elif keys == {"template"}:
            source = _text(entry["template"], place, "template", TEMPLATE_LINE)
            templates.append((place, _parsed(source, place)))
        elif keys == {"plain"}:
            texts = _texts(entry["plain"], place, "plain", PLAIN_LINE)
            plain |= {word for text in texts for word in WORD.findall(text.lower())}  # as a prompt is taken apart
        else:
            raise UserError(f"{place}: is neither {ATTRIBUTE_LINE} nor {TEMPLATE_LINE} nor {PLAIN_LINE}")
    if not attributes or not templates:
        lacks, example = ("attribute", ATTRIBUTE_LINE) if not attributes else ("template", TEMPLATE_LINE)
        raise UserError(f"{named(name)} has no {lacks}: write lines like {example}")
    _refuse_unknown(templates, attributes)
    _refuse_shared(name, attributes)
    return Vocabulary(attributes, [template for _, template in templates], frozenset(plain))


def _parsed(source: str, place: str) -> Template:
    parts: list[tuple[bool, tuple[str | tuple[str, str | None], ...]]] = []
    pieces = re.split(r"\[([^\[\]]*)\]", source)  # texts outside and inside of brackets in turn
    if any(bracket in piece for piece in pieces for bracket in "[]"):
        raise UserError(
            f"{place}: {source!r} has a bracket in another, or one that is not closed; write {TEMPLATE_LINE}"
        )
    for number, piece in enumerate(pieces):
        found: list[str | tuple[str, str | None]] = []
        for match in PIECE.finditer(piece):
            if match["wrong"]:
                raise UserError(f"{place}: {source!r} has a brace that is not closed; write {TEMPLATE_LINE}")
            found.append(match["text"] if match["text"] else (match["name"].strip(), match["otherwise"]))
        if number % 2 and not any(isinstance(each, tuple) for each in found):
            raise UserError(f"{place}: [{piece}] in {source!r} names no attribute; write e.g. [, {{size}}]")
        if found:
            parts.append((number % 2 == 1, tuple(found)))
    template = Template(source, tuple(parts))
    if not template.slots - {PROMPT}:
        raise UserError(f"{place}: {source!r} has no place for an attribute; write {TEMPLATE_LINE}")
    return template


def _refuse_unknown(templates: Sequence[tuple[str, Template]], attributes: Mapping[str, Any]) -> None:
    for place, template in templates:
        unknown = sorted(template.slots - {PROMPT} - attributes.keys())
        if unknown:
            raise UserError(
                f"{place}: {{{unknown[0]}}} in {template.source!r} is no attribute of this file: there are "
                f"{', '.join(attributes)}"
            )


def _refuse_shared(name: str, attributes: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
    owner: dict[str, str] = {}
    for attribute, values in attributes.items():
        for word in {word.lower() for words in values.values() for word in words}:
            if owner.setdefault(word, attribute) != attribute:
                raise UserError(
                    f"{named(name)}: {word!r} is a word of {owner[word]!r} and {attribute!r}: leave it in one of them"
                )


def _values(words: Any, place: str) -> dict[str, list[str]]:
    if isinstance(words, list):
        words = {word if isinstance(word, str) else "": [word] for word in words}
    if not isinstance(words, dict) or not words:
        raise UserError(f"{place}: 'words' must be a list of words, or values with their words; write {ATTRIBUTE_LINE}")
    return {value: _texts(entry, place, "words", ATTRIBUTE_LINE) for value, entry in words.items()}


def _texts(entries: Any, place: str, what: str, example: str) -> list[str]:
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{place}: {what!r} must be a non-empty list of words; write {example}")
    return list(dict.fromkeys(_text(entry, place, what, example) for entry in entries))


def _text(entry: Any, place: str, what: str, example: str) -> str:
    if not isinstance(entry, str) or not WORD.search(entry):
        raise UserError(f"{place}: {what!r} must hold texts with letters or digits; write {example}")
    return stripped(entry)
