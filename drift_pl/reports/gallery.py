"""The pictures of report.html: a row per prompt, a column per noise, base above fine-tuned. No torch.

They are those that the run has written already, as data in the page; large ones are shrunk.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from io import BytesIO

import numpy as np
from PIL import Image, features

from drift_pl.core.errors import UserError
from drift_pl.core.servers import without_queries
from drift_pl.evaluation.arrays import read_grid
from drift_pl.evaluation.record import Evaluation, Point
from drift_pl.evaluation.sheet import cut
from drift_pl.reports.facts import RunFacts

LARGEST_TILE, SMALL_TILE = 192, 96
"""Pixels: larger pictures are shrunk to the first, and from the second on compressed with a small loss."""
WIDEST_REM = 7
"""Of a picture on the page."""
LONG = 120
"""Characters of a prompt that is no heading any more."""
MOST_FRAMES = 12
"""Checkpoints behind a slider; of more, evenly spaced ones are shown."""


@dataclass(frozen=True)
class Frame:
    """The pictures of one set of weights, uint8 [P, S, H, W, 3]."""

    title: str
    tiles_PSHW3: np.ndarray


@dataclass(frozen=True)
class Strip:
    """What stands in one place of every row; several frames are behind the slider."""

    label: str
    frames: Sequence[Frame]


@dataclass(frozen=True)
class Gallery:
    title: str
    about: str
    prompts: Sequence[str]
    strips: Sequence[Strip]

    @property
    def titles(self) -> list[str]:
        """Of the frames behind the slider."""
        return [frame.title for frame in max((strip.frames for strip in self.strips), key=len)]


def held_out_gallery(runs: Sequence[RunFacts]) -> Gallery:
    """Base against tuned on the test prompts; of one run, also checkpoints that `evaluate` has measured.

    Runs may have kept different numbers of prompts (evaluation.grid_prompts): all show those that each has.
    """
    first = runs[0]
    grids = {which: grid_PS3HW.transpose(0, 1, 3, 4, 2) for which, grid_PS3HW in first.run.grids.items()}
    strips = [Strip("base", [Frame("base", grids["base"])])]
    if len(runs) == 1:
        last = f"iteration {first.summary.get('iterations', '?')}"
        strips.append(Strip("fine-tuned", [*_measured(first), Frame(last, grids["tuned"])]))
    else:
        strips += [
            Strip(run.label, [Frame("", run.run.grids["tuned"].transpose(0, 1, 3, 4, 2))]) for run in one_each(runs)
        ]
    count = min(len(frame.tiles_PSHW3) for strip in strips for frame in strip.frames)
    prompts = first.record.protocol["prompts"] if first.record else []
    labels = [*prompts[:count], *(f"prompt {n + 1}" for n in range(len(prompts), count))]
    strips = [replace(strip, frames=[_of_first(frame, count) for frame in strip.frames]) for strip in strips]
    return Gallery("Test prompts", "Held-out prompts; the same noise in each column.", labels, strips)


def _of_first(frame: Frame, count: int) -> Frame:
    """The pictures of the first prompts."""
    return replace(frame, tiles_PSHW3=frame.tiles_PSHW3[:count])


def training_gallery(run: RunFacts) -> Gallery | None:
    """Along training on the tuning prompts; None if there are no pictures of it."""
    if run.looks is None or run.settings is None:
        return None
    protocol, evaluation = run.looks.protocol, run.settings.evaluation
    prompts = protocol["prompts"][: evaluation.grid_prompts]
    size = len(prompts), min(evaluation.grid_seeds, protocol["seeds_per_prompt"])
    frames: list[Frame] = []
    for point in _evenly([point for point in run.looks.points if point.weights != "base"]):
        picture = run.looks.picture_of(point)
        tiles = None if picture is None else cut(picture, *size)
        if tiles is not None and (not frames or tiles.shape == frames[0].tiles_PSHW3.shape):
            frames.append(Frame(point.title(), tiles))
    if len(frames) < 2:
        return None
    strips = [Strip("fine-tuned", frames)]
    if frames[0].title == "iteration 0":
        strips = [Strip("base", frames[:1]), Strip("fine-tuned", frames[1:])]
    return Gallery("Along training", "Tuning prompts; move the slider through the run.", prompts, strips)


def one_each(runs: Sequence[RunFacts]) -> list[RunFacts]:
    """The first run of each experiment and its variants."""
    return list({run.group: run for run in reversed(runs)}.values())[::-1]


def _measured(run: RunFacts) -> list[Frame]:
    """Checkpoints on the test prompts whose pictures `evaluate` has kept."""
    if run.record is None:
        return []
    found = []
    for point in _evenly(
        [point for point in run.record.points if point.weights != "base" and point.name != run.record.tuned.name]
    ):
        tiles = _kept(run.record, point, run.run.grids["base"].shape)
        if tiles is not None:
            found.append(Frame(point.title(), tiles))
    return found


def _kept(record: Evaluation, point: Point, shape: tuple[int, ...]) -> np.ndarray | None:
    file = record.folder / f"{point.name}.npz"
    try:
        grid_PS3HW = read_grid(file, "") if file.is_file() else None
    except UserError:
        return None
    return None if grid_PS3HW is None or grid_PS3HW.shape != shape else grid_PS3HW.transpose(0, 1, 3, 4, 2)


def _evenly(points: list[Point]) -> list[Point]:
    if len(points) <= MOST_FRAMES:
        return points
    return [points[round(place)] for place in np.linspace(0, len(points) - 1, MOST_FRAMES)]


def html(gallery: Gallery, number: int) -> str:
    """A section of the page; `number` makes its names unique."""
    slider, titles = "", gallery.titles
    if len(titles) > 1:
        steps, last = "".join(f"<li>{escape(title)}</li>" for title in titles), escape(titles[-1])
        name, most = f"slider-{number}", len(titles) - 1
        slider = (
            f'<p class="slider"><label for="{name}">Checkpoint</label> <input type="range" id="{name}" min="0" '
            f'max="{most}" value="{most}" step="1" aria-valuetext="{last}"> <output for="{name}">{last}</output></p>'
            f'<ol class="titles" hidden>{steps}</ol>'
        )
    rows = "".join(_row(gallery, prompt, row) for row, prompt in enumerate(gallery.prompts))
    return (
        f'<section class="gallery"><h3>{escape(gallery.title)}</h3><p class="notes">{escape(gallery.about)}</p>{slider}'
        f'<div class="rows">{rows}</div></section>'
    )


def _row(gallery: Gallery, prompt: str, row: int) -> str:
    prompt, strips = without_queries(prompt), ""
    for strip in gallery.strips:
        images = ""
        for position, frame in enumerate(strip.frames):
            last = position == len(strip.frames) - 1
            images += _image(frame.tiles_PSHW3[row], f"{frame.title or strip.label}: {prompt}", hidden=not last)
        strips += f'<div class="strip"><span class="whose">{escape(strip.label)}</span><div>{images}</div></div>'
    long = ' class="long"' * (len(prompt) > LONG)
    return f"<article><h4{long}>{escape(prompt)}</h4>{strips}</article>"


def _image(tiles_SHW3: np.ndarray, about: str, hidden: bool) -> str:
    count, height, width = tiles_SHW3.shape[:3]
    gap = max(1, width // 32)
    strip = Image.new("RGBA", (count * (width + gap) - gap, height), (0, 0, 0, 0))
    for number, tile_HW3 in enumerate(tiles_SHW3):
        strip.paste(Image.fromarray(np.ascontiguousarray(tile_HW3)), (number * (width + gap), 0))
    if width > LARGEST_TILE:
        strip = strip.resize((strip.width * LARGEST_TILE // width, strip.height * LARGEST_TILE // width))
    lossy = width >= SMALL_TILE and features.check("webp")
    with BytesIO() as buffer:
        if lossy:
            strip.save(buffer, format="WEBP", quality=85)
        else:
            strip.save(buffer, format="PNG", optimize=True)
        data = base64.b64encode(buffer.getvalue()).decode()
    kind, small = ("webp" if lossy else "png"), ' class="small"' * (width < SMALL_TILE)
    alt = escape(f"{about}; {count} images, each from its own noise")
    size = f'width="{strip.width}" height="{strip.height}" style="max-width:{WIDEST_REM * count}rem"'
    return f'<img{small} alt="{alt}" {size}{" hidden" * hidden} src="data:image/{kind};base64,{data}">'
