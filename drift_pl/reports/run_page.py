"""report.html: finished runs on one page that needs no network and no other file. No torch."""

from collections.abc import Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from drift_pl import __version__
from drift_pl.config.run_folder import REPORT, resume_command, shown_measures
from drift_pl.core.files import write_text
from drift_pl.core.servers import without_queries
from drift_pl.reports.closing import DIVERSITY, how_to_read, number, percent
from drift_pl.reports.facts import RunFacts, read_facts, side_by_side
from drift_pl.reports.gallery import held_out_gallery, training_gallery
from drift_pl.reports.gallery import html as gallery_html
from drift_pl.reports.health import Finding, findings
from drift_pl.reports.page import filled
from drift_pl.reports.recorded import relative_change
from drift_pl.reports.run_charts import charts

GENERATOR, FORMAT = "drift_pl report", 1
"""Both stand in the page's head, `drift_pl report 1`."""
MOST_PROMPTS = 5
STATES = {"problem": "problem", "look": "have a look", "unknown": "not known", "fine": "fine"}


def write_run_page(folder: Path) -> Path:
    """Writes a finished run's report.html into its folder.

    Raises:
        UserError: the folder is not that of a finished run.
    """
    write_text(folder / REPORT, page([read_facts(folder)]))
    return folder / REPORT


def page(runs: Sequence[RunFacts], notes: Sequence[str] = ()) -> str:
    """The page of at least one run; several stand side by side.

    Args:
        notes: what the reader should know, e.g. which runs were left out.
    """
    runs = side_by_side(runs)
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
    parts = {
        "GENERATOR": f"{GENERATOR} {FORMAT}",
        "TITLE": escape(title),
        "LEAD": "".join(map(_lead, runs)) + "".join(f'<p class="notes">{escape(note)}</p>' for note in notes),
        "HEALTH": _each(runs, partial(_health, fold=len(runs) > 1)),
        "RESULTS": _results(runs),
        "CHARTS": charts(runs),
        "PICTURES": _pictures(runs),
        "PROMPTS": _each(runs, _prompts),
        "RUN": _each(runs, _what_was_run),
        "FOOTER": escape(f"drift_pl {__version__}. Made again with: python -m drift_pl.report RUN_FOLDER"),
    }
    return filled("report.html", parts)


def _each(runs: Sequence[RunFacts], part: Any) -> str:
    """A part of each run; with a heading if there are several."""
    return "".join((f"<h3>{escape(run.name)}</h3>" if len(runs) > 1 else "") + part(run) for run in runs)


def _lead(run: RunFacts) -> str:
    reward, kept = (
        relative_change(run.value("base", name), run.value("tuned", name)) for name in ("reward", DIVERSITY)
    )
    text = f"{run.label}: reward {percent(reward)}, {DIVERSITY} {percent(kept)} against the base model"
    if run.recorded:
        plain = [relative_change(run.recorded.base.get(n), run.recorded.tuned.get(n)) for n in ("reward", DIVERSITY)]
        text += f"; {run.recorded.name} at this budget: {percent(plain[0])} and {percent(plain[1])} (recorded)"
    return f'<p class="lead">{escape(text)}.</p>'


def _health(run: RunFacts, fold: bool) -> str:
    """The findings on a run's health, as HTML.

    Args:
        fold: what is fine is shown by a click.
    """
    found = findings(run)
    fine = [each for each in found if fold and each.state == "fine"]
    text = _findings([each for each in found if each not in fine])
    return text + (f"<details><summary>{len(fine)} fine</summary>{_findings(fine)}</details>" if fine else "")


def _findings(found: Sequence[Finding]) -> str:
    return f'<ul class="findings">{"".join(map(_finding, found))}</ul>' if found else ""


def _finding(found: Finding) -> str:
    advice = f' <span class="try">Try: {escape(found.advice)}</span>' if found.advice else ""
    return (
        f'<li class="{found.state}"><span class="state">{STATES[found.state]}</span><strong>{escape(found.about)}.'
        f"</strong> {escape(found.said)}{advice}</li>"
    )


def _results(runs: Sequence[RunFacts]) -> str:
    """Base, each run, and the recorded baseline if all runs have the same; then how to read it."""
    first, recorded = runs[0], runs[0].recorded
    together = recorded if recorded and all(run.recorded == recorded for run in runs) else None
    names = shown_measures(*(run.summary[which] for run in runs for which in ("base", "tuned")))
    header = ["measure", "base"]
    for run in runs:
        header += ["fine-tuned" if len(runs) == 1 else run.label, "change"]
    rows = []
    for name in names:
        cells = [name, number(first.value("base", name))]
        for run in runs:
            tuned = run.value("tuned", name)
            cells += [number(tuned), percent(relative_change(run.value("base", name), tuned))]
        if together:
            plain = together.tuned.get(name)
            cells += [number(plain), percent(relative_change(together.base.get(name), plain))]
        rows.append(cells)
    header += [f"{together.name} (recorded)", "change"] if together else []
    about = f"{first.summary['test_prompts']} held-out prompts, {first.summary['images_per_prompt']} images each; means"
    read = how_to_read(first.summary, together).replace("\n", ". ") if len(runs) == 1 else about
    said = "" if len(runs) > 1 else f'<p class="notes">{escape(about)}.</p>'
    return f'{table("Results", header, rows)}<p class="read">{escape(read[0].upper() + read[1:])}.</p>{said}'


def _pictures(runs: Sequence[RunFacts]) -> str:
    galleries = [held_out_gallery(runs)] + ([training_gallery(runs[0])] if len(runs) == 1 else [])
    return "".join(gallery_html(gallery, place) for place, gallery in enumerate(galleries) if gallery)


def _prompts(run: RunFacts) -> str:
    """The prompts with the most and the least diverse images of the fine-tuned model."""
    base, tuned = (run.record.base, run.record.tuned) if run.record else (None, None)
    values = tuned.per_prompt.get(DIVERSITY) if tuned else None
    if run.record is None or not values:
        return '<p class="notes">There are no values per prompt: measure the run with python -m drift_pl.evaluate.</p>'
    known = sorted((value, place) for place, value in enumerate(values) if value is not None)
    count = min(MOST_PROMPTS, len(known) // 2) or len(known)
    before = base.per_prompt.get(DIVERSITY, [None] * len(values)) if base else [None] * len(values)
    tables = ""
    for title, chosen in (("Most diverse", known[::-1][:count]), ("Least diverse", known[:count])):
        rows = [
            [
                run.record.protocol["prompts"][place],
                number(before[place]),
                number(value),
                percent(relative_change(before[place], value)),
            ]
            for value, place in chosen
        ]
        tables += (
            f"<div><h3>{title}</h3>{table(title, ['prompt', 'base', 'fine-tuned', 'change'], rows, wrap=True)}</div>"
        )
    return f'<p class="notes">By {DIVERSITY}, of one prompt\'s images.</p><div class="charts">{tables}</div>'


def _what_was_run(run: RunFacts) -> str:
    summary = run.summary
    facts = {
        "folder": str(run.run.folder),
        "experiment": run.run.experiment,
        "seed": str(summary["seed"]),
        **_named(run),
        "iterations": str(summary.get("iterations", "-")) + (f", {summary['stopped']}" if "stopped" in summary else ""),
        "images": f"{summary['images']:,}",
        "training time": _hours(summary.get("seconds")),
        "diversity by": str(summary["encoder"]),
        "extend it": resume_command(run.run.folder, "trainer.iterations=..."),
    }
    shown = "".join(f"<dt>{escape(name)}</dt><dd>{_shown(value)}</dd>" for name, value in facts.items())
    return f'<dl class="facts">{shown}</dl><h3>Settings that differ from the experiment</h3>{_changes(run)}'


def _named(run: RunFacts) -> dict[str, str]:
    """The name and the tags that a run was given."""
    name, tags = (run.settings.run_name, run.settings.tags) if run.settings else (None, [])
    return ({"name": name} if name else {}) | ({"tags": ", ".join(tags)} if tags else {})


def _changes(run: RunFacts) -> str:
    if run.changes is None:
        return '<p class="notes">Unknown: config.yaml cannot be read by this version.</p>'
    if not run.changes:
        return '<p class="notes">None: the experiment as it is.</p>'
    rows = [[change.key, change.experiment, change.run] for change in run.changes]
    return table("Settings that differ", ["setting", "experiment", "this run"], rows, wrap=True, numbers=False)


def _hours(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}, sampling, rewards and updates"


def _shown(text: str) -> str:
    """What somebody chose, as text of the page: no address with its key."""
    return escape(without_queries(text))


def table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], wrap: bool = False, numbers: bool = True
) -> str:
    """A table that scrolls by itself on a narrow screen; its first column names the row.

    Args:
        wrap: long cells are broken.
        numbers: of all other columns; if they are texts, a phone shows them below one another.
    """
    kind = ' class="number"' if numbers else ""
    head = "".join(f'<th scope="col"{kind if place else ""}>{escape(cell)}</th>' for place, cell in enumerate(header))
    body = ""
    marks = [kind or f' data-column="{escape(cell)}"' for cell in header[1:]]
    for name, *cells in rows:
        shown = "".join(f"<td{mark}>{_shown(cell)}</td>" for mark, cell in zip(marks, cells, strict=True))
        body += f'<tr><th scope="row">{_shown(name)}</th>{shown}</tr>'
    classes = "scroll" + " wrap" * wrap + " stack" * (not numbers)
    return (
        f'<div class="{classes}" tabindex="0" role="region" aria-label="{escape(title)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
