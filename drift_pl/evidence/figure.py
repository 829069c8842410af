"""The fronts as a figure to print: pareto.png and pareto.svg, a panel per measure of diversity."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from drift_pl.evidence.results import MethodResult, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, which colour-blind readers tell apart, without the yellow that paper swallows."""
BASELINE_COLOUR = "#000000"
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
COLUMN_IN, TWO_COLUMNS_IN = 3.3, 6.9
"""Widths of a paper's column and of its page, in inches."""
PANEL_HEIGHT_IN, LEGEND_ROW_IN = 2.35, 0.17
STYLE = {
    **{"font.size": 8, "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7},
    **{"axes.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6},
    **{"axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "path", "svg.hashsalt": "drift_pl"},
    "text.parse_math": False,  # a method's name may hold a dollar
}


def styles(results: Results) -> dict[str, tuple[str, str]]:
    """Colour and marker of each method; the baseline is black, and a colour comes again with another marker."""
    others = [method.name for method in results.methods if method.name != results.baseline]
    chosen = {name: (COLOURS[i % len(COLOURS)], MARKERS[(i + 1) % len(MARKERS)]) for i, name in enumerate(others)}
    return {method.name: chosen.get(method.name, (BASELINE_COLOUR, MARKERS[0])) for method in results.methods}


def draw(results: Results, folder: Path) -> None:
    """Writes pareto.png and pareto.svg."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure = build_figure(results)
        figure.savefig(folder / "pareto.png", dpi=300)
        figure.savefig(folder / "pareto.svg", metadata={"Date": None})


def build_figure(results: Results) -> "Figure":
    """One column wide for one panel, a page wide for more; three panels to a row."""
    from matplotlib.figure import Figure

    count = len(results.diversity)
    columns = min(count, 3)
    rows = -(-count // columns)
    entries = len(results.methods) + 4
    per_row = 2 if count == 1 else 4
    legend_in = (-(-entries // per_row) + 0.5) * LEGEND_ROW_IN
    width = COLUMN_IN if count == 1 else TWO_COLUMNS_IN
    figure = Figure(figsize=(width, rows * PANEL_HEIGHT_IN + legend_in), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    chosen = styles(results)
    for panel, name in zip(panels, results.diversity, strict=False):
        for method in results.methods:
            _draw_method(panel, results, method, name, chosen[method.name])
        base = (results.base[results.reward], results.base[name])
        panel.plot(*base, "*", color="black", markersize=9, markeredgecolor="white", markeredgewidth=0.6, zorder=6)
        panel.set(xlabel=results.reward.replace("_", " "), ylabel=name.replace("_", " "))
        panel.locator_params(nbins=5)
    for panel in list(panels):
        panel.set_visible(False)
    figure.legend(handles=_legend(results, chosen), loc="outside lower center", ncols=per_row, frameon=False)
    return figure


def _draw_method(panel: "Axes", results: Results, method: MethodResult, name: str, style: tuple[str, str]) -> None:
    """Thin: each seed's front; faint, with points: the path of the means; thick: the front of the means."""
    colour, marker = style
    front = method.fronts[name]
    for seed_index, indices in enumerate(front.per_seed):
        xs = [method.points[index].per_seed[results.reward][seed_index] for index in indices]
        ys = [method.points[index].per_seed[name][seed_index] for index in indices]
        panel.plot(xs, ys, color=colour, linewidth=0.5, alpha=0.4, zorder=2, gid=f"seed front {method.name}")
    path = [(point.mean[results.reward], point.mean[name]) for point in method.points]
    known = [pair for pair in path if None not in pair]
    look: dict[str, Any] = {"color": colour, "marker": marker, "markeredgewidth": 0}
    panel.plot(
        *zip(*known, strict=True),
        linewidth=0.7,
        markersize=2.6,
        alpha=0.55,
        zorder=3,
        gid=f"path {method.name}",
        **look,
    )
    panel.plot(
        *zip(*(path[index] for index in front.points), strict=True),
        **{"linewidth": 1.4, "markersize": 3.2, "zorder": 4, "gid": f"front {method.name}", **look},
    )
    final = path[method.final]
    if None not in final:
        ring = {"markersize": 6, "markeredgewidth": 1.0, "markeredgecolor": colour, "markerfacecolor": "white"}
        panel.plot(*final, linestyle="none", zorder=5, gid=f"final {method.name}", **{**look, **ring})


def _legend(results: Results, chosen: dict[str, tuple[str, str]]) -> list[Any]:
    """The methods, then what the kinds of lines and marks mean."""
    from matplotlib.lines import Line2D

    grey: dict[str, Any] = {"color": "0.4"}
    handles = [
        Line2D([], [], color=colour, marker=marker, markersize=4, linewidth=1.7, label=_plain(name))
        for name, (colour, marker) in chosen.items()
    ]
    handles.append(Line2D([], [], color="black", marker="*", markersize=8, linestyle="none", label="base model"))
    ring = {"markersize": 6, "markerfacecolor": "white", "linestyle": "none"}
    handles.append(Line2D([], [], marker="o", label="final point", **ring, **grey))
    if len(results.seeds) > 1:
        handles.append(Line2D([], [], linewidth=1.7, label=f"front of {len(results.seeds)} seeds' mean", **grey))
        handles.append(Line2D([], [], linewidth=0.5, alpha=0.6, label="front of one seed", **grey))
    return handles


def _plain(name: str) -> str:
    """matplotlib leaves labels that begin with an underscore out of legends: nothing visible goes before it."""
    return "\u200b" + name if name.startswith("_") else name
