"""The help of `fit`: an overview, and for `--help WORD` the keys of a section with the values a run would have."""

from collections.abc import Sequence

from drift_pl.config.experiments import list_experiments
from drift_pl.config.help import entry, help_text, table
from drift_pl.config.help_topics import KINDS, topic_blocks, topics_of
from drift_pl.config.loading import FLAGS, build_config
from drift_pl.config.schema import Config, get_value
from drift_pl.config.section import Section, all_keys, value_text

USAGE = "python -m drift_pl.fit [experiment=NAME]"
WORD = "python -m drift_pl.fit --help WORD"


def fit_help(argv: Sequence[str] = (), width: int | None = None) -> str:
    """The text of `--help` for a command line; see `help_text` for `width`.

    Defaults are the values that the named experiment has, or the default one.

    Raises:
        UserError: no such experiment, or the line asks for help on something that does not exist.
    """
    named = dict(word.split("=", 1) for word in argv if word.startswith("experiment="))
    config = build_config([*named.items()])
    entries = {name: entry(name, key, _shown(config, name)) for name, key in all_keys(Config).items()}
    blocks = topic_blocks([topic for topic in topics_of(argv) if topic != "experiments"], entries)
    if "experiments" in topics_of(argv) or "all" in topics_of(argv):
        blocks["experiments"] = table(list_experiments())
    if not blocks:
        blocks = _overview(entries)
    blocks = {
        f"{title} (defaults: those of experiment={config.experiment})" if title.startswith("keys") else title: lines
        for title, lines in blocks.items()
    }
    return help_text(USAGE, str(Config.__doc__), blocks, width)


def _overview(entries: dict[str, list[str]]) -> dict[str, list[str]]:
    sections = {
        name: key.field.description or ""
        for name, key in all_keys(Config).items()
        if "." not in name and (key.is_section or key.element not in (None, str))
    }
    plain = [line for name, lines in entries.items() if "." not in name and name not in sections for line in lines]
    return {
        "flags": table(FLAGS),
        "experiments (experiment=NAME, or the path of a .yaml file)": table(list_experiments()),
        "keys": plain,
        f"sections, whose keys {WORD} explains (all: every section)": table(sections),
        f"kinds of names, which {WORD} lists": [f"  {', '.join(KINDS)}"],
        "example": [f"  {USAGE.partition(' [')[0]} experiment=shapes_div seed=1 incentive.shaping.weight=2"],
    }


def _shown(config: Config, name: str) -> str:
    """The value of a key in a config, as text; empty for a key of a list's entries, whose default is the type's."""
    if ".N" in name:
        return ""
    value = get_value(config.published, name)
    return "" if isinstance(value, Section) else value_text(value)
