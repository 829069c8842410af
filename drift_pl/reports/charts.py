"""Line charts as inline SVG: no script, no font, no colours beside those of the lines; look.css has the rest."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH, HEIGHT = 440, 270
RIGHT, TOP, BOTTOM = 14, 16, 42
Y_NAME, DIGIT = 32, 7
"""Width of the y-axis' name, and of a letter."""
STAR = "M0,-7L1.7,-2.3L6.7,-2.2L2.7,.9L4.1,5.7L0,2.8L-4.1,5.7L-2.7,.9L-6.7,-2.2L-1.7,-2.3Z"

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A series.

    Attributes:
        colour: e.g. `#0072B2`; None: the text's, softened.
        style: `run` (solid, with points), `plain` (dashed: recorded elsewhere) or `faint` (thin: noisy); with ` front`
            it is a broad line without points, in no legend and no table.
        of: what lines are seeds of, which have one entry in the legend; empty: of itself.
    """

    name: str
    points: Sequence[Point]
    colour: str | None = None
    style: str = "run"
    of: str = ""

    @property
    def is_front(self) -> bool:
        return self.style.endswith(" front")

    @property
    def has_points(self) -> bool:
        return not self.is_front and self.style != "faint"


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        levels: horizontal lines, name and value.
        star: the base model's place.
        ring: whether each run's last point is marked as its final one.
        note: how to read it.
    """

    title: str
    x_name: str
    y_name: str
    lines: Sequence[Line]
    levels: Sequence[tuple[str, float]] = ()
    star: Point | None = None
    ring: bool = False
    note: str = ""

    def places(self) -> list[Point]:
        points = [point for line in self.lines for point in line.points] + ([self.star] if self.star else [])
        return points + [(points[0][0], value) for _, value in self.levels if points]


def figure(chart: Chart) -> str:
    """A `<figure>`: title, drawing, legend, and the numbers as a table; empty if there is nothing to draw."""
    if len(chart.places()) < 2:
        return ""
    note = f'<p class="notes">{escape(chart.note)}</p>' if chart.note else ""
    return (
        f'<figure class="chart"><figcaption>{escape(chart.title)}</figcaption>{_svg(chart)}{_legend(chart)}{note}'
        f"{_numbers(chart)}</figure>"
    )


def ticks(low: float, high: float, most: int = 5, least: float = 0.0) -> list[tuple[float, str]]:
    """Round values from `low` to `high`, `most` steps of `least` or more, with labels of equally many digits."""
    raw = max((high - low) / most, least) or 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    values = [round(number * step, 12) for number in range(first, last + 1)]
    digits = max((len(np.format_float_positional(value, trim="-").partition(".")[2]) for value in values), default=0)
    return [(value, f"{value:.{digits}f}") for value in values]


class _Scale:
    """From values to places in the drawing."""

    def __init__(self, chart: Chart) -> None:
        (self.x0, self.x1), (self.y0, self.y1) = (_span(axis) for axis in zip(*chart.places(), strict=True))
        self.y_ticks = ticks(self.y0, self.y1)
        self.left = Y_NAME + DIGIT * max((len(label) for _, label in self.y_ticks), default=0)

    def x(self, value: float) -> float:
        return round(self.left + (value - self.x0) / (self.x1 - self.x0) * (WIDTH - self.left - RIGHT), 1)

    def y(self, value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (HEIGHT - TOP - BOTTOM), 1)


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.07 * (high - low) or 0.07 * abs(high) or 0.5
    return low - margin, high + margin


def _svg(chart: Chart) -> str:
    scale = _Scale(chart)
    parts = [*_axes(chart, scale), *_levels(chart, scale)]
    for line in chart.lines:
        parts += _drawn(line, scale, chart.ring)
    if chart.star:
        x, y = scale.x(chart.star[0]), scale.y(chart.star[1])
        parts.append(f'<path class="star" transform="translate({x},{y})" d="{STAR}"/>')
    words = escape(f"{chart.title}: {chart.y_name} over {chart.x_name}; the numbers are in the table below it.")
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{words}">{"".join(parts)}</svg>'


def _axes(chart: Chart, scale: _Scale) -> Iterator[str]:
    bottom, left, right = HEIGHT - BOTTOM, scale.left, WIDTH - RIGHT
    for value, label in scale.y_ticks:
        y = scale.y(value)
        yield f'<line class="grid" x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>'
        yield f'<text x="{left - 7}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
    for value, label in ticks(scale.x0, scale.x1, least=float(chart.x_name == "iteration")):
        x = scale.x(value)
        yield f'<line class="axis" x1="{x}" x2="{x}" y1="{bottom}" y2="{bottom + 5}"/>'
        yield f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{label}</text>'
    yield f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>'
    across, middle = (left + right) / 2, (TOP + bottom) / 2
    yield f'<text class="name" x="{across}" y="{HEIGHT - 7}" text-anchor="middle">{escape(chart.x_name)}</text>'
    turned = f'text-anchor="middle" transform="translate(13,{middle}) rotate(-90)"'
    yield f'<text class="name" {turned}>{escape(chart.y_name)}</text>'


def _levels(chart: Chart, scale: _Scale) -> Iterator[str]:
    for label, value in chart.levels:
        y = scale.y(value)
        yield f'<line class="level" x1="{scale.left}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
        yield f'<text x="{WIDTH - RIGHT}" y="{y - 5:.1f}" text-anchor="end">{escape(label)}</text>'


def _drawn(line: Line, scale: _Scale, ring: bool) -> Iterator[str]:
    places = [(scale.x(x), scale.y(y)) for x, y in line.points]
    colour = f' style="--colour:{line.colour}"' if line.colour else ""
    yield f'<g class="{line.style}{" coloured" if line.colour else ""}"{colour}>'
    yield f'<polyline points="{" ".join(f"{x},{y}" for x, y in places)}"/>'
    if line.has_points:
        for number, (x, y) in enumerate(places):
            final = ring and line.style == "run" and number == len(places) - 1
            look = 'r="6" class="final"' if final else 'r="3.2"'
            yield f'<circle cx="{x}" cy="{y}" {look}/>'
    yield "</g>"


def _legend(chart: Chart) -> str:
    """Each line's name beside a piece of it; of several seeds, what they are of."""
    entries, groups = "", dict[str, list[Line]]()
    for line in chart.lines:
        if not line.is_front:
            groups.setdefault(line.of or line.name, []).append(line)
    for of, (line, *others) in groups.items():
        name = f"{of}, {len(others) + 1} seeds" if others else line.name
        colour = f' style="--colour:{line.colour}"' if line.colour else ""
        piece = '<polyline points="0,6 26,6"/>' + '<circle cx="13" cy="6" r="3.2"/>' * line.has_points
        entries += (
            f'<li><svg viewBox="0 0 26 12" aria-hidden="true"><g class="{line.style}'
            f'{" coloured" if line.colour else ""}"{colour}>{piece}</g></svg>{escape(name)}</li>'
        )
    if chart.star:
        entries += (
            f'<li><svg viewBox="-13 -8 26 16" aria-hidden="true"><path class="star" d="{STAR}"/></svg>base model</li>'
        )
    return f'<ul class="legend">{entries}</ul>'


def _numbers(chart: Chart) -> str:
    """What the drawing shows, for readers who do not see it."""
    rows = "".join(
        f'<tr><th scope="row">{escape(line.name)}</th><td>{x:g}</td><td>{y:.4f}</td></tr>'
        for line in chart.lines
        if line.has_points
        for x, y in line.points
    )
    rows += "".join(
        f'<tr><th scope="row">{escape(name)}</th><td></td><td>{y:.4f}</td></tr>' for name, y in chart.levels
    )
    if chart.star:
        rows += f'<tr><th scope="row">base model</th><td>{chart.star[0]:g}</td><td>{chart.star[1]:.4f}</td></tr>'
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("", chart.x_name, chart.y_name))
    return (
        f'<details><summary>Numbers</summary><div class="scroll" tabindex="0" role="region" aria-label="Numbers of '
        f'{escape(chart.title)}"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></details>'
    )
