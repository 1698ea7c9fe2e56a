"""How pictures look: colours, marks, sizes of characters, and axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

from spdnn_cli.engines.registry import ENGINES
from spdnn_cli.report.cells import engine_entry
from spdnn_cli.results.describe import Configuration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TINY, SMALL, NORMAL, LARGE = 8.0, 8.5, 9.5, 12.5
"""Sizes of characters, points."""
MARGIN, LEFT = 0.15, 0.8
"""Inches left of all text of a panel, and left of its axes."""

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


@dataclass(frozen=True)
class Style:
    """A series' colour, and the shape of its marks, so that nothing is told by colour alone."""

    colour: str
    marker: str

    def mark(self, axes: Axes, x: float, y: float, verified: bool) -> None:
        """One mark: hollow if what it shows was not verified."""
        fill = self.colour if verified else PAPER
        axes.plot(
            x, y, self.marker, color=self.colour, markersize=4.5, markerfacecolor=fill, zorder=4
        )


SPARE_MARKERS = ("^", "X", "<", ">", "*", "p", "h")
"""Of engines without a mark of their own, and of further series of one engine."""
OTHER_COLOURS = ("#0072b2", "#bd4f00", "#007f5c", "#a8487e", "#8a6a00", "#6b6f78")
OTHER_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "*")


def engine_styles(engines: Sequence[str]) -> list[Style]:
    """A style for each series of a picture, from its engine: the same in all pictures.

    Further series of an engine have its colour, and marks that no other one of the picture has.
    """
    spare = cycle(SPARE_MARKERS)
    styles: list[Style] = []
    for place, engine in enumerate(engines):
        own = engine_entry(engine)
        is_first = engine in ENGINES and engine not in engines[:place]
        styles.append(Style(own.colour, own.marker if is_first else next(spare)))
    return styles


def styles_of(configurations: Sequence[Configuration]) -> dict[Configuration, Style]:
    """A style for each configuration of a picture."""
    styles = engine_styles([configuration.engine for configuration in configurations])
    return dict(zip(configurations, styles, strict=True))


def other_styles(names: Iterable[str]) -> dict[str, Style]:
    """A style for each program that is not ours, by name."""
    looks = zip(dict.fromkeys(names), cycle(OTHER_COLOURS), cycle(OTHER_MARKERS), strict=False)
    return {name: Style(colour, marker) for name, colour, marker in looks}


def plain_axes(axes: Axes) -> None:
    """Axes with a grid behind the data and no frame."""
    axes.set_facecolor("none")
    axes.set_axisbelow(True)
    axes.grid(True, color=LINES, linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.tick_params(labelsize=SMALL, colors=MUTED, length=0, which="both")


def axis_titles(axes: Axes, x: str = "", y: str = "") -> None:
    """What the axes count, with units: x below, y above its numbers and level, so that it reads."""
    axes.set_xlabel(x, size=SMALL, color=MUTED, labelpad=4)
    title_left(axes, y, 1 + 0.13 / height_of(axes))


def title_left(axes: Axes, words: str, y: float) -> None:
    """Words at the left edge of a panel, at a fraction of the height of its axes."""
    axes.annotate(
        words, (0, y), (-72 * (LEFT - MARGIN), 0), xycoords="axes fraction",
        textcoords="offset points", size=SMALL, color=MUTED, va="center", annotation_clip=False,
    )  # fmt: skip


def height_of(axes: Axes) -> float:
    """Inches."""
    return float(axes.get_window_extent().height / axes.figure.dpi)


def powers(axis: Any) -> None:
    """Ticks of a logarithmic axis at powers of ten, written out: 0.1, 1, 10, 1,000.

    Where less than two of them lie in view, at 2 and 5 times a power, too.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axis.get_view_interval()
    inside = math.floor(math.log10(high)) - math.ceil(math.log10(low)) + 1
    subs = (1.0,) if inside >= 2 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))


def number(value: float) -> str:
    """A number for a label: three digits, thousands set apart, no exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-4 else f"{value:.0e}"
