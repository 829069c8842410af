"""Writes docs/config.md, the reference of all settings, from the fields that declare them.

    python docs/make/settings_page.py          # a test compares the page with the fields

The page says what `--help` says: type, choices, bounds, default, when a key counts, and whether it shapes results.
"""

from collections.abc import Iterator
from pathlib import Path

from drift_pl.config.fields import ABOVE_ZERO, GIVEN, Key
from drift_pl.config.schema import Config
from drift_pl.config.section import all_keys
from drift_pl.config.yaml_text import format_value
from drift_pl.core.registry import TABLES

PAGE = Path(__file__).parents[1] / "config.md"
HEAD = """# Settings

This page is written from the fields in `drift_pl/config/schema_*.py` by `python docs/make/settings_page.py`. Change the
field, not the page. `python -m drift_pl.fit --help` says the same.

- A setting is written `section.key=value` on the command line, and as nested keys in an experiment file.
- `N` stands for the index of a list's entry, from 0: `rewards.0.weight=2`.
- *Shapes results*: runs that differ in this key alone have different results. Their folders have different hashes, and
  the key cannot be changed when a run is resumed. The others (hardware, length, logging) can.
- The defaults are those of the package. An experiment file changes many of them:
  `python -m drift_pl.fit experiment=NAME --print-config` prints all values of an experiment.
"""
LONGEST_BOUND = 24
"""Characters; the bounds of 64-bit numbers say nothing to a reader."""
COLUMNS = "| key | meaning | type | default | shapes results |\n|---|---|---|---|---|"


def page() -> str:
    keys = all_keys(Config)
    sections = [name for name, key in keys.items() if key.is_section and "." not in name]
    sections += [name for name, key in keys.items() if "." not in name and key.element and name not in sections]
    parts = [HEAD, "## Of the run\n", _table(_of_the_run(keys))]
    for name in (key for key in keys if key in sections):
        about = _sentence(keys[name].field.description or "")
        parts += [f"\n## {name}\n", about[:1].upper() + about[1:], ""]
        parts.append(_table({key: found for key, found in keys.items() if key == name or key.startswith(f"{name}.")}))
    return "\n".join(parts) + "\n"


def _of_the_run(keys: dict[str, Key]) -> dict[str, Key]:
    return {name: key for name, key in keys.items() if "." not in name and not key.is_section and not key.element}


def _table(keys: dict[str, Key]) -> str:
    return "\n".join([COLUMNS, *(row for name, key in keys.items() for row in _rows(name, key))])


def _rows(name: str, key: Key) -> Iterator[str]:
    if key.is_section:
        if "." in name:
            yield f"| **`{name}`** | *{_cell(key.field.description or '')}* | | | |"
        return
    bounds = [bound for bound in key.bounds if len(bound) < LONGEST_BOUND]
    facts = _cell(", ".join([_type(key), *bounds]))
    default = "required" if key.field.is_required() else f"`{_cell(format_value(key.default))}`"
    default = "" if default == "``" else default
    results = "yes" if key.about.shapes_results else "no"
    yield f"| `{name}` | {_meaning(key)} | {facts} | {default} | {results} |"


def _type(key: Key) -> str:
    """The type's name; the choices of a registry are explained beside the meaning."""
    if not key.about.registry:
        return key.type_name
    return ("list of names" if key.element else "name") + (" or null" if key.optional else "")


def _meaning(key: Key) -> str:
    sentences = [_sentence(key.field.description or "")]
    if key.about.only:
        chooser, *values = key.about.only
        wanted = values[0] if values[0] in (ABOVE_ZERO, GIVEN) else f"= {' or '.join(f'`{value}`' for value in values)}"
        sentences.append(f"Only with `{chooser}` {wanted}.")
    if key.about.registry:
        described = {name: f"`{name}` ({entry.about})" for name, entry in TABLES[key.about.registry].items()}
        names = [described.get(name, f"`{name}`") for name in key.choices]
        elsewhere = ["`their_package.module:Thing`"] if key.about.elsewhere else []
        sentences.append(f"Names: {'; '.join([*names, *elsewhere])}.")
    return _cell(" ".join(sentences))


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", ":")) else f"{text}."


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
