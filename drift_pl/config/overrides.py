"""The overrides of a run: what was typed after the experiment, kept in its folder as a list of KEY=VALUE.

They are for people who look at the run: addresses in them have no query, and a run resumes from its config.yaml.
"""

from collections.abc import Iterable
from pathlib import Path

import yaml

from drift_pl.config.loading import build_config
from drift_pl.config.own_run import CONFIG
from drift_pl.config.schema import Config
from drift_pl.config.section import flat, value_text
from drift_pl.config.yaml_text import load_yaml
from drift_pl.core.errors import UserError
from drift_pl.core.files import write_text
from drift_pl.core.servers import without_queries

OVERRIDES = "overrides.yaml"
NOT_KEPT = ("experiment", "ckpt_path", "run_dir")
"""What does not say how a run differs from its experiment."""
SHOWN_ELSEWHERE = ("seed", "run_name", "tags")


def keep_overrides(run_dir: Path, config: Config, given: Iterable[str] | None, earlier: Path) -> None:
    """Writes the file; of a run that goes on, beside what it holds already. The later of two values counts.

    Args:
        given: arguments KEY=VALUE; None: the config was not made from arguments, so whatever differs counts.
        earlier: folder of the run that goes on, or the same.
    """
    lines = [*(read_overrides(earlier) or []), *given] if given is not None else changed(config)
    by_key = {line.partition("=")[0]: line for line in lines}
    kept = [without_queries(line) for key, line in by_key.items() if key not in NOT_KEPT]
    header = f"# experiment={config.experiment}, and:\n"
    write_text(run_dir / OVERRIDES, header + yaml.safe_dump(kept, allow_unicode=True, width=10**6))


def read_overrides(run_dir: Path) -> list[str] | None:
    """The arguments that a run was given; None if its folder does not say."""
    try:
        content = load_yaml((run_dir / OVERRIDES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return [str(line) for line in content] if isinstance(content, list) else None


def differences_of(run_dir: Path) -> list[str]:
    """KEY=VALUE of all in which a run differs from its experiment, but for its seed, name and tags.

    Of runs without the file, that is found by comparing their config with the experiment as it is now.
    """
    lines = read_overrides(run_dir)
    if lines is None:
        try:
            lines = changed(build_config([("experiment", str(run_dir / CONFIG))]))
        except UserError:
            return ["(unknown: its config.yaml is of another version)"]
    return [without_queries(line) for line in lines if line.partition("=")[0] not in SHOWN_ELSEWHERE]


def changed(config: Config) -> list[str]:
    """KEY=VALUE of the settings that differ from those of the config's experiment, as it is now.

    Raises:
        UserError: the experiment is not there.
    """
    plain, ours = (
        flat(each.published, {dict})  # a list is typed as one value
        for each in (build_config([("experiment", config.experiment)]), config)
    )
    return [
        f"{key}={value_text(value)}"
        for key, value in ours.items()
        if key not in NOT_KEPT and (key not in plain or plain[key] != value)
    ]
