"""What a model card states beyond the config: measurements of the exported weights, and the base model's license."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from drift_pl.config.run_folder import SUMMARY_MEASURES
from drift_pl.config.yaml_text import load_yaml
from drift_pl.core.errors import UserError
from drift_pl.core.json_files import read_json
from drift_pl.core.locate import split_revision
from drift_pl.evaluation.record import EVALUATE, Value, titles
from drift_pl.evaluation.record_file import default_file, read_evaluation
from drift_pl.reports.markdown import code, row

NOT_MEASURED = "These weights have not been measured."
LICENSE_FIELDS = ("license", "license_name", "license_link")


@dataclass(frozen=True)
class Weights:
    """Which weights of a run: iterations done, `average` or `live`, digest."""

    iteration: int
    label: str
    digest: str


@dataclass(frozen=True)
class Base:
    """Where a base model is: a hub id, a folder, or a folder of an installed package (`pkg:PACKAGE/FOLDER`)."""

    name: str
    folder: Path | None

    @property
    def hub_id(self) -> str | None:
        return split_revision(self.name)[0] if self.folder is None else None

    @property
    def address(self) -> str:
        """Link or path, in Markdown."""
        return f"https://huggingface.co/{self.hub_id}" if self.folder is None else code(self.name)

    def license(self) -> dict[str, str]:
        """`LICENSE_FIELDS` as the model's own card states them, or nothing; a package's folders share one card."""
        for card in self._cards():
            stated = {name: str(value) for name, value in front_matter(card).items() if name in LICENSE_FIELDS}
            if "license" in stated:
                link = stated.get("license_link", "")
                if link and "://" not in link and self.hub_id:
                    stated["license_link"] = f"{self.address}/blob/main/{link.removeprefix('./')}"
                return stated
        return {}

    def _cards(self) -> list[Path]:
        if self.folder is None:
            return _card_on_hub(str(self.hub_id))
        folders = [self.folder, self.folder.parent] if self.name.startswith("pkg:") else [self.folder]
        return [folder / "README.md" for folder in folders]


def front_matter(card: Path) -> dict[str, Any]:
    """The metadata block at the top of a card; empty if missing or unreadable."""
    try:
        found = re.match(r"\s*---[ \t]*\n(.*?)\n---[ \t]*(\n|$)", card.read_text(encoding="utf-8-sig"), re.DOTALL)
        content = load_yaml(found[1]) if found else {}
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _card_on_hub(name: str) -> list[Path]:
    from huggingface_hub import hf_hub_download

    try:
        return [Path(hf_hub_download(name, "README.md"))]
    except Exception:  # no network, no card, no access: better a model card without the license's name than none
        return []


def evaluation_table(run_dir: Path, weights: Weights) -> str:
    """Markdown: the base model and these weights on held-out prompts, from the run's evaluation or else summary.json.

    Raises:
        UserError: a file exists and cannot be read.
    """
    return _from_evaluation(run_dir, weights) or _from_summary(run_dir, weights) or NOT_MEASURED


def _from_evaluation(run_dir: Path, weights: Weights) -> str | None:
    file = default_file(run_dir)
    if not file.is_file():
        return None
    evaluation = read_evaluation(file)
    found = [point for point in evaluation.points if (point.digest, point.weights) == (weights.digest, weights.label)]
    if not found:
        return None
    found.sort(key=lambda point: (point.lora_scale != 1, point.importance_power is not None))
    points = [*filter(None, [evaluation.base]), *found]
    protocol = evaluation.protocol
    about = (
        f"{len(protocol['prompts'])} held-out prompts x {protocol['seeds_per_prompt']} images, {protocol['steps']} "
        f"deterministic steps, guidance {protocol['guidance_scale']:g}. Means over prompts; in brackets 95 % intervals "
        f"over prompts, of this one run. Diversity by {code(protocol['encoder'])}."
    )
    names = dict.fromkeys(chain.from_iterable(point.values for point in points))
    cells = {name: [_with_interval(point.values.get(name)) for point in points] for name in names}
    return f"{about}\n\n{_table(titles(points), cells)}"


def _from_summary(run_dir: Path, weights: Weights) -> str | None:
    """The summary describes the run's last weights, averaged if there is an average, and no others."""
    file = run_dir / "summary.json"
    if not file.is_file():
        return None
    try:
        summary = read_json(file)
        columns = (summary["base"], summary["tuned"])
        label = "average" if summary["tuned_is_ema"] else "live"
        if (summary["iterations"], label) != (weights.iteration, weights.label):
            return None
        about = (
            f"{summary['test_prompts']} held-out prompts x {summary['images_per_prompt']} images; means over prompts. "
            f"Diversity by {code(str(summary['encoder']))}."
        )
        cells = {name: [_number(column.get(name)) for column in columns] for name in dict.fromkeys(chain(*columns))}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is damaged: remove it, or measure the run with {EVALUATE}{run_dir}") from error
    return f"{about}\n\n{_table(['base', 'tuned'], cells)}"


def _table(columns: Sequence[str], cells: Mapping[str, Sequence[str]]) -> str:
    """A row per measure; a single reward of weight 1 equals the whole `reward` and is left out."""
    parts = [name for name in cells if name.startswith("reward/")]
    same = parts if len(parts) == 1 and cells[parts[0]] == cells.get("reward") else []
    names = [name for name in dict.fromkeys((*SUMMARY_MEASURES, *cells)) if name in cells and name not in same]
    rows = [row([code(name), *cells[name]]) for name in names]
    return "\n".join([f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|", *rows])


def _with_interval(value: Value | None) -> str:
    if value is None or value.low is None or value.high is None:
        return _number(None if value is None else value.mean)
    return f"{_number(value.mean)} [{_number(value.low)}, {_number(value.high)}]"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) and math.isfinite(value) else "-"
