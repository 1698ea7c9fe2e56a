"""How pictures look: colours, and a sheet of titles, panels and notes, laid out in inches.

A picture is described first (`Picture`) and drawn later, so that one description serves a file of
its own, a file of several pictures, and a page that sets title and notes as text.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spdnn_cli.errors import ResultError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 6.5
"""Inches: a page's text column, and still legible when shrunk to a phone's width."""
SMALL, NORMAL, LARGE = 7.5, 9.0, 12.0
"""Sizes of letters, points."""

INK, MUTED, LINES, PAPER = "#1a1c20", "#5b606b", "#d5d8de", "#ffffff"
DARK = {
    INK: "#eceef2",
    MUTED: "#a3a9b5",
    LINES: "#3a3f49",
    PAPER: "#15171b",
    "#0072b2": "#4ba3e3",
    "#bd4f00": "#ff8c42",
    "#007f5c": "#2fc79a",
    "#a8487e": "#e08fbd",
    "#8a6a00": "#e2b93b",
    "#6b6f78": "#aab0bc",
}
"""Every colour on white paper, and the one that stands for it on dark paper."""

ENGINE_COLOURS = {
    "folded": "#0072b2",
    "cpu": "#0072b2",
    "tiled": "#bd4f00",
    "cpu-layered": "#bd4f00",
    "cusparse": "#007f5c",
    "baseline": "#a8487e",
    "reference": "#6b6f78",
}
"""After Okabe and Ito's palette for colour-blind readers (https://jfly.uni-koeln.de/color/),
darkened for white paper, lightened for dark paper. An engine of a GPU and its likeness on a CPU
share one: they never share a panel."""
OTHER_COLOURS = ("#0072b2", "#bd4f00", "#007f5c", "#a8487e", "#8a6a00", "#6b6f78")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "*")
"""A shape a series, so that nothing is told by colour alone."""

_MARGIN, _GAP = 0.15, 0.28
_LETTERS_A_LINE = {SMALL: 104, NORMAL: 84, LARGE: 58}


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: what it shows, in bold above it.
        note: of which machine, when, verified or not: a line below the title.
        height: of the axes, inches.
        draw: puts the data on the axes.
        right: room right of the axes, for labels, inches.
        below: room below the axes, for ticks and labels, inches.
    """

    title: str
    note: str
    height: float
    draw: Callable[[Axes], None]
    right: float = 0.15
    below: float = 0.5


@dataclass(frozen=True)
class Picture:
    """Panels in rows, below a title and above notes.

    Attributes:
        name: a word, for names of files and parts of a page.
        title: states what is shown.
        rows: the panels, from left to right and from top to bottom.
        notes: what a reader must know, a paragraph each.
    """

    name: str
    title: str
    rows: Sequence[Sequence[Panel]]
    notes: list[str] = field(default_factory=list)

    def figure(self, text: bool = True) -> Figure:
        """The picture as a figure of its own, with or without its title and notes."""
        return sheet([self], text)


def import_figure() -> type[Figure]:
    """matplotlib's `Figure`, which draws without a screen.

    Raises:
        ResultError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ResultError(
            "pictures need matplotlib, which is not installed",
            hint="Run pip install 'spdnn[plot]'.",
        ) from error
    return Figure


def sheet(pictures: Sequence[Picture], text: bool = True) -> Figure:
    """One figure with the pictures below each other."""
    figure_type = import_figure()
    blocks = [block for picture in pictures for block in _blocks(picture, text)]
    height = sum(block.height for block in blocks) + _MARGIN
    figure = figure_type(figsize=(WIDTH, height), facecolor=PAPER)
    top = height
    for block in blocks:
        block.put(figure, top)
        top -= block.height
    return figure


@dataclass(frozen=True)
class _Block:
    """A strip of a sheet: its height in inches, and what puts it below a given height."""

    height: float
    put: Callable[[Figure, float], None]


def _blocks(picture: Picture, text: bool) -> list[_Block]:
    rows = [_row(panels) for panels in picture.rows]
    if not text:
        return rows
    title = _paragraph(picture.title, LARGE, INK, weight="bold", before=_MARGIN)
    notes = [_paragraph(note, SMALL, MUTED, before=0.05) for note in picture.notes]
    return [title, *rows, *notes, _Block(_GAP, lambda figure, top: None)]


def _paragraph(
    words: str, size: float, colour: str, weight: str = "normal", before: float = 0.0
) -> _Block:
    lines = textwrap.wrap(words, _LETTERS_A_LINE[size])

    def put(figure: Figure, top: float) -> None:
        left, height = _MARGIN / WIDTH, figure.get_figheight()
        figure.text(
            left, (top - before) / height, "\n".join(lines),
            size=size, color=colour, weight=weight, va="top", linespacing=1.25,
        )  # fmt: skip

    return _Block(before + len(lines) * size * 1.35 / 72, put)


def _row(panels: Sequence[Panel]) -> _Block:
    """Panels beside each other: titles and notes on common lines, axes on a common base."""
    share = WIDTH / len(panels)
    letters = round(_LETTERS_A_LINE[SMALL] / len(panels)) - 3
    notes = [textwrap.wrap(panel.note, letters) for panel in panels]
    head = 0.32 + max(map(len, notes)) * SMALL * 1.25 / 72 + 0.08
    inside, below = max(p.height for p in panels), max(p.below for p in panels)

    def put(figure: Figure, top: float) -> None:
        height = figure.get_figheight()
        for number, (panel, lines) in enumerate(zip(panels, notes, strict=True)):
            edge = number * share + _MARGIN
            figure.text(
                edge / WIDTH, (top - 0.12) / height, panel.title,
                size=NORMAL, color=INK, weight="bold", va="top",
            )  # fmt: skip
            figure.text(
                edge / WIDTH, (top - 0.30) / height, "\n".join(lines),
                size=SMALL, color=MUTED, va="top", linespacing=1.2,
            )  # fmt: skip
            left, right = number * share + 0.72, (number + 1) * share - panel.right
            axes = figure.add_axes(
                (left / WIDTH, (top - head - inside) / height,
                 (right - left) / WIDTH, inside / height)
            )  # fmt: skip
            _plain(axes)
            panel.draw(axes)

    return _Block(head + inside + below, put)


def _plain(axes: Axes) -> None:
    """Axes with a grid behind the data and no frame."""
    axes.set_facecolor("none")
    axes.set_axisbelow(True)
    axes.grid(True, color=LINES, linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.tick_params(labelsize=SMALL, colors=MUTED, length=0, which="both")


def powers(axis: Any) -> None:
    """Ticks of a logarithmic axis at powers of ten, written out: 0.1, 1, 10, 1,000."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(numticks=12))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))


def number(value: float) -> str:
    """A number for a label: three digits, thousands set apart, no exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-4 else f"{value:.0e}"


def axis_title(axes: Axes, x: str = "", y: str = "") -> None:
    """What the axes count, with units: x below, y above the axis and level, so that it reads."""
    axes.set_xlabel(x, size=SMALL, color=MUTED, labelpad=4)
    axes.set_ylabel(y, size=SMALL, color=MUTED, labelpad=5)


LETTERS_OF_A_NAME = 24
"""A name at the end of a series is broken into lines of so many letters."""


def name_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Name series right of the axes, moved up or down so that no name covers another.

    Args:
        axes: with their final limits.
        ends: (x, y, name, colour) of the last point of each series, in data.
    """
    size = 7.0
    names = ["\n".join(textwrap.wrap(name, LETTERS_OF_A_NAME)) for _, _, name, _ in ends]
    heights = [(1 + name.count("\n")) * size * 1.35 / 72 for name in names]
    inches, height = _inches(axes, [(x, y) for x, y, _, _ in ends])
    for place, name, at in zip(ends, names, spread(inches, heights, height), strict=True):
        x, y, _, colour = place
        axes.annotate(
            name, (x, y), (1.02, at / height), xycoords="data", textcoords="axes fraction",
            size=size, color=colour, va="center", annotation_clip=False, linespacing=1.1,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "alpha": 0.6,
                        "shrinkA": 0, "shrinkB": 4},
        )  # fmt: skip


def name_points(
    axes: Axes, points: Sequence[tuple[float, float, str]], name: str, colour: str
) -> None:
    """Name points that lie close together, in a column at their right, and all of them below."""
    size = 6.5
    inches, height = _inches(axes, [(x, y) for x, y, _ in points])
    moved = spread(inches, [size * 1.15 / 72] * len(points), height)
    right = max(x for x, _, _ in points)
    for (_, y, label), here, at in zip(points, inches, moved, strict=True):
        axes.annotate(
            label, (right, y), (7, 72 * (at - here)), textcoords="offset points",
            size=size, color=colour, va="center",
        )  # fmt: skip
    lowest = min(range(len(points)), key=lambda k: inches[k])
    down = 72 * (min(moved) - inches[lowest]) - 6
    x, y, _ = points[lowest]
    axes.annotate(
        name, (x, y), (-4, down), textcoords="offset points",
        size=7.5, color=colour, weight="bold", va="top",
    )  # fmt: skip


def _inches(axes: Axes, places: Sequence[tuple[float, float]]) -> tuple[list[float], float]:
    """How far above the lower edge of the axes some places in data lie, and the axes' height."""
    box = axes.get_window_extent()
    dots = axes.figure.dpi
    above = [axes.transData.transform(place)[1] - box.y0 for place in places]
    return [float(inch / dots) for inch in above], float(box.height / dots)


def spread(places: Sequence[float], heights: Sequence[float], ceiling: float) -> list[float]:
    """The centres of labels, moved as little as needed so that none covers another.

    Args:
        places: where the centres should be.
        heights: of the labels.
        ceiling: no label reaches above it.

    Returns:
        The centres, in the order given, and in the same order from bottom to top.
    """
    import numpy as np
    from scipy.optimize import isotonic_regression

    order = np.argsort(places, kind="stable")
    tall = np.array(heights)[order]
    # How far each centre lies above the lowest one if they touch: below that the order is free.
    stacked = np.cumsum(tall) - tall / 2 - tall[0] / 2
    floors = isotonic_regression(np.array(places)[order] - stacked).x
    highest = ceiling - tall[-1] / 2 - stacked[-1]
    moved = np.empty(len(order))
    moved[order] = np.minimum(floors, highest) + stacked
    return [float(centre) for centre in moved]
