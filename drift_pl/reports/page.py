"""The comparison as one page that needs no network: index.html, with the points' pictures in a folder beside it."""

import json
import re
from collections.abc import Mapping
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from drift_pl.core.files import copy_file, write_text
from drift_pl.reports.figure import BASELINE_COLOUR, styles
from drift_pl.reports.results import Results
from drift_pl.reports.table import DAGGER, Table, points_table, summary, tables


def write_page(results: Results, folder: Path) -> None:
    """Writes index.html, and copies existing pictures to `pictures/`."""
    said = "".join(f"<li>{escape(line.replace('`', ''))}</li>" for line in [*summary(results), *results.notes])
    parts = {
        "SUMMARY": f'<ul class="said">{said}</ul>',
        "TABLES": "\n".join(map(_html_table, tables(results))) + _all_points(results),
        "DATA": _script_safe(_page_data(results, folder)),
    }
    write_text(folder / "index.html", filled("page.html", parts))


def filled(template: str, parts: Mapping[str, str]) -> str:
    """A page of this folder with its parts, and the common style, in their places."""
    folder = resources.files("drift_pl.reports")
    text, style = (folder.joinpath(name).read_text(encoding="utf-8") for name in (template, "look.css"))
    return re.sub("@@([A-Z]+)@@", lambda place: {"LOOK": style, **parts}[place[1]], text)


def _page_data(results: Results, folder: Path) -> dict[str, Any]:
    """Input of the page's script: the results it shows, with colours, markers and copied pictures."""
    plain, chosen = results.plain(), styles(results)
    kept = ("reward", "diversity", "measures", "baseline", "seeds", "base")
    data = {name: plain[name] for name in kept} | {"base_picture": None, "methods": []}
    for number, method in enumerate(plain["methods"]):
        colour, marker = chosen[method["name"]]
        for index, point in enumerate(method["points"]):
            point["pictures"] = [
                _copied(picture, folder, f"{number}-{index}-s{seed}", method["name"], point["label"])
                for seed, picture in zip(results.seeds, point["pictures"], strict=True)
                if index or (number, seed) == (0, results.seeds[0])  # one picture of the base model is enough
            ]
        if number == 0:
            data["base_picture"] = method["points"][0]["pictures"][0]
        fronts = {
            name: {"points": front["points"], "per_seed": front["per_seed"]} for name, front in method["fronts"].items()
        }
        style = {"colour": "var(--ink)" if colour == BASELINE_COLOUR else colour, "marker": marker}
        data["methods"].append({key: method[key] for key in ("name", "final", "points")} | {"fronts": fronts} | style)
    return data


def _copied(picture: str | None, folder: Path, number: str, *labels: str) -> str | None:
    """The path of a picture's copy, relative to the page; the number makes it unique, the labels readable."""
    if picture is None:
        return None
    words = re.sub(r"[^A-Za-z0-9.]+", "-", " ".join(labels)).strip("-")[:80]
    target = Path("pictures") / f"{number}-{words}{Path(picture).suffix}"
    copy_file(Path(picture), folder / target)
    return target.as_posix()


def _script_safe(data: dict[str, Any]) -> str:
    """JSON in which no label can end the script element that holds it."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _html_table(table: Table) -> str:
    """A section; the script shows those of the chosen measure of diversity."""
    about = "" if table.diversity is None else f' data-diversity="{escape(table.diversity)}"'
    shown = "".join(f'<p class="notes">{escape(note)}</p>' for note in table.footnotes())
    return f"<section{about}><h2>{escape(table.title)}</h2>{_body(table)}{shown}</section>"


def _body(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.header)
    rows = ""
    for number, (name, *cells) in enumerate(table.rows):
        mark = f" {DAGGER}" * (number in table.marked)
        rows += (
            f'<tr><th scope="row">{escape(name)}{mark}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _all_points(results: Results) -> str:
    table = points_table(results)
    return (
        f"<section><h2>Points</h2><details><summary>{escape(table.title)}</summary>{_body(table)}</details></section>"
    )
