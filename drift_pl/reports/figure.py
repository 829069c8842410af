"""The fronts as a figure for print: pareto.png and pareto.svg, a panel per measure of diversity."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drift_pl.core.files import replacing
from drift_pl.reports.results import MethodResult, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A4419", "#8A8A8A", "#6A3D9A")
"""Okabe and Ito's colour-blind safe palette without yellow, which prints poorly; then three more."""
BASELINE_COLOUR = "#000000"
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
COLUMN_IN, TWO_COLUMNS_IN = 3.3, 6.9
"""Widths of a paper's column and of its page, in inches."""
PANEL_HEIGHT_IN, LEGEND_ROW_IN = 2.35, 0.17
STYLE: dict[Any, Any] = {
    **{"font.size": 8, "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7},
    **{"axes.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6},
    **{"axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "path", "svg.hashsalt": "drift_pl"},
    "text.parse_math": False,  # a method's name may hold a dollar
}
STAR: dict[str, Any] = {
    **{"marker": "*", "markersize": 9, "color": "black", "markeredgecolor": "white", "markeredgewidth": 0.6},
    "zorder": 6,
}


def styles(results: Results) -> dict[str, tuple[str, str]]:
    """A distinct colour and marker per method; the baseline is black."""
    others = [method.name for method in results.methods if method.name != results.baseline]
    chosen = {name: (COLOURS[i % len(COLOURS)], MARKERS[(i + 1) % len(MARKERS)]) for i, name in enumerate(others)}
    return {method.name: chosen.get(method.name, (BASELINE_COLOUR, MARKERS[0])) for method in results.methods}


def draw(results: Results, folder: Path) -> None:
    """Writes pareto.png and pareto.svg."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure = build_figure(results)
        save_png(figure, folder / "pareto.png", dpi=300)
        with replacing(folder / "pareto.svg") as temporary:
            figure.savefig(temporary, metadata={"Date": None}, format="svg")


def save_png(figure: "Figure", path: Path, dpi: int) -> None:
    """Writes a figure in 256 colours: a quarter of the bytes.

    Maximum coverage keeps every colour to within 30 of 255; a median cut would merge rare ones, e.g. of thin lines.
    """
    from PIL import Image

    with BytesIO() as buffer:
        figure.savefig(buffer, dpi=dpi)
        image = Image.open(buffer).convert("RGB")
    few = image.quantize(method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    with replacing(path) as temporary:
        few.save(temporary, format="PNG", optimize=True, dpi=(dpi, dpi))


def build_figure(results: Results) -> "Figure":
    """One column wide for one panel, a page wide for more, with up to three panels per row."""
    from matplotlib.figure import Figure

    count, chosen = len(results.diversity), styles(results)
    columns, per_row, width_in = (1, 2, COLUMN_IN) if count == 1 else (min(count, 3), 4, TWO_COLUMNS_IN)
    rows, entries = -(-count // columns), _legend(results, chosen)
    legend_in = (-(-len(entries) // per_row) + 0.5) * LEGEND_ROW_IN
    figure = Figure(figsize=(width_in, rows * PANEL_HEIGHT_IN + legend_in), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel, name in zip(panels, results.diversity, strict=False):
        for method in results.methods:
            _draw_method(panel, results, method, name, chosen[method.name])
        panel.plot([results.base[results.reward]], [results.base[name]], **STAR)
        panel.set(xlabel=results.reward.replace("_", " "), ylabel=name.replace("_", " "))
        panel.locator_params(nbins=5)
    for panel in panels[count:]:
        panel.set_visible(False)
    figure.legend(handles=entries, loc="outside lower center", ncols=per_row, frameon=False)
    return figure


def _draw_method(panel: "Axes", results: Results, method: MethodResult, name: str, style: tuple[str, str]) -> None:
    """Thin: each seed's front; faint, with points: the means along training; thick: the front of the means."""
    front, (colour, marker) = method.fronts[name], style

    def line(kind: str, pairs: Sequence[tuple[float | None, float | None]], **look: Any) -> None:
        xy_2N = np.array(pairs, dtype=np.float64).T  # None becomes NaN, which is not drawn
        shown: dict[str, Any] = {"color": colour, "markeredgewidth": 0} | look
        panel.plot(*xy_2N, gid=f"{kind} {method.name}", **shown)

    for seed, indices in enumerate(front.per_seed):
        points = [method.points[index].per_seed for index in indices]
        pairs = [(point[results.reward][seed], point[name][seed]) for point in points]
        line("seed front", pairs, linewidth=0.5, alpha=0.4, zorder=2)
    path = [(point.mean[results.reward], point.mean[name]) for point in method.points]
    line("path", path, marker=marker, linewidth=0.7, markersize=2.6, alpha=0.55, zorder=3)
    line("front", [path[index] for index in front.points], marker=marker, linewidth=1.4, markersize=3.2, zorder=4)
    ring: dict[str, Any] = {"markersize": 6, "markeredgewidth": 1.0, "markerfacecolor": "white", "linestyle": "none"}
    line("final", [path[method.final]], marker=marker, zorder=5, **ring)


def _legend(results: Results, chosen: dict[str, tuple[str, str]]) -> list[Any]:
    """The methods, then the kinds of lines and marks."""
    from matplotlib.lines import Line2D

    grey: dict[str, Any] = {"color": "0.4"}
    handles = [
        # matplotlib leaves out labels that begin with an underscore; a space of no width prevents it
        Line2D(
            [],
            [],
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1.7,
            label="\u200b" * name.startswith("_") + name,
        )
        for name, (colour, marker) in chosen.items()
    ]
    handles.append(Line2D([], [], color="black", marker="*", markersize=8, linestyle="none", label="base model"))
    ring: dict[str, Any] = {"markersize": 6, "markerfacecolor": "white", "linestyle": "none"}
    handles.append(Line2D([], [], marker="o", label="final point", **ring, **grey))
    if len(results.seeds) > 1:
        handles.append(Line2D([], [], linewidth=1.7, label=f"front of {len(results.seeds)} seeds' mean", **grey))
        handles.append(Line2D([], [], linewidth=0.5, alpha=0.6, label="front of one seed", **grey))
    if any(len(front.points) < len(one.points) for one in results.methods for front in one.fronts.values()):
        faint = {"marker": "o", "markersize": 2.6, "linewidth": 0.7, "alpha": 0.6}
        handles.append(Line2D([], [], label="along training", **{**faint, **grey}))
    return handles
