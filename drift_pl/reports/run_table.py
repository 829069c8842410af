"""Runs as a table on the terminal."""

import io
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from drift_pl.config.schema import Config
from drift_pl.reports.run_list import MEASURES, ListedRun

COLOURS = {"finished": "green", "running": "cyan", "ended early": "yellow", "interrupted": "yellow", "not saved": "red"}
LEAST = 30
"""Columns for what differs; with fewer, a run has a few lines of its own."""
HEADINGS = {"reward": "reward", "pairwise_distance": "diversity"}


def run_table(runs: Sequence[ListedRun], width: int, colour: bool = False) -> str:
    """A row per run; where that is too wide, a few lines per run.

    Args:
        width: columns of the terminal.
    """
    shown = io.StringIO()
    console = Console(file=shown, width=width, force_terminal=colour or None, no_color=not colour)
    if _widest(runs) <= width:
        console.print(_table(runs))
    else:
        for run in runs:
            console.print(Text(run.folder, "bold", overflow="fold"))
            console.print(Padding(_facts(run), (0, 0, 0, 2)))
    if any(run.training and not run.tuned for run in runs):
        console.print("~ of the last training groups; the others are held-out values, base -> tuned")
    return shown.getvalue()


def _table(runs: Sequence[ListedRun]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("iteration", justify="right", no_wrap=True)
    for name in MEASURES:
        table.add_column(HEADINGS[name], justify="right", no_wrap=True)
    with_tags = any(run.tags for run in runs)
    if with_tags:
        table.add_column("tags", overflow="fold")
    table.add_column("differs from the experiment in", overflow="fold")
    for run in runs:
        cells = [Text(run.folder), Text(run.state, COLOURS[run.state]), Text(_iteration(run))]
        cells += [Text(_measured(run, name)) for name in MEASURES]
        cells += [Text(", ".join(run.tags))] if with_tags else []
        table.add_row(*cells, Text(_differences(run)))
    return table


def _widest(runs: Sequence[ListedRun]) -> int:
    """Columns of a table in which no cell but the last is broken, and that one is readable."""
    rows = [
        [run.folder, run.state, _iteration(run), *(_measured(run, name) for name in MEASURES), ", ".join(run.tags)]
        for run in runs
    ]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    return sum(width + 2 for width in widths) + max(LEAST if _differences(run) else 0 for run in runs)


def _facts(run: ListedRun) -> Text:
    """What stands below a run's folder."""
    measured = [f"{HEADINGS[name]} {_measured(run, name)}" for name in MEASURES if _measured(run, name) != "-"]
    line = Text("  ").join(map(Text, [_iteration(run), *measured, *([", ".join(run.tags)] if run.tags else [])]))
    facts = Text.assemble((run.state, COLOURS[run.state]), "  ", line)
    differences = _differences(run)
    return Text.assemble(facts, "\n", differences, overflow="fold") if differences else facts


def _differences(run: ListedRun) -> str:
    return "  ".join(filter(_shapes_results, run.differs))


def _shapes_results(line: str) -> bool:
    """Whether an override KEY=VALUE is of a setting that shapes results; hardware and logs do not."""
    key = Config.find_key(line.partition("=")[0])
    return key is None or key.about.shapes_results


def _iteration(run: ListedRun) -> str:
    done = "-" if run.iteration is None else str(run.iteration)
    return done if run.iterations is None else f"{done}/{run.iterations}"


def _measured(run: ListedRun, name: str) -> str:
    if run.tuned:
        return f"{_text(run.base.get(name))} -> {_text(run.tuned.get(name))}"
    return f"~{_text(run.training[name])}" if name in run.training else "-"


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
