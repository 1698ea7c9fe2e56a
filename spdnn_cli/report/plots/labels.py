"""Names set beside the data, in place of a legend, and so that none covers another."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from spdnn_cli.report.plots.style import PAPER, TINY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHARACTERS_OF_A_NAME, ROOM_FOR_NAMES = 18, 1.25
"""Characters of a line of a name at the end of a series, and the inches that such a line needs."""
CHARACTERS_BELOW_MARKS = 15
"""The same of a name below marks."""
_LINE = TINY * 1.3 / 72
_CHARACTER = TINY * 0.62 / 72
_ASIDE = 0.09
"""Height of a line, width of a character, from a mark to its label: inches."""


@dataclass(frozen=True)
class End:
    """Where a series ends, in data, and its name."""

    x: float
    y: float
    name: str
    colour: str


def name_ends(axes: Axes, ends: Sequence[End]) -> None:
    """Name series right of the axes, which have their final limits."""
    names = ["\n".join(_lines(end.name, CHARACTERS_OF_A_NAME)) for end in ends]
    heights = [(1 + name.count("\n")) * _LINE + 0.03 for name in names]
    above = [_inches(axes, end.x, end.y)[1] for end in ends]
    _, height = _size(axes)
    for end, name, at in zip(ends, names, spread(above, heights, height), strict=True):
        axes.annotate(
            name, (end.x, end.y), (1.03, at / height), textcoords="axes fraction",
            size=TINY, color=end.colour, va="center", annotation_clip=False, linespacing=1.1,
            arrowprops={"arrowstyle": "-", "color": end.colour, "linewidth": 0.5, "alpha": 0.6,
                        "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 4},
        )  # fmt: skip


def _lines(name: str, characters: int) -> list[str]:
    return textwrap.wrap(name, characters, break_on_hyphens=False)


@dataclass(frozen=True)
class Marks:
    """A series of marks: (x, y, label) of each, in data, and the name of all."""

    name: str
    colour: str
    points: Sequence[tuple[float, float, str]]


@dataclass(frozen=True)
class _Label:
    """What to write, and beside what place, in inches from the lower left of the axes."""

    x: float
    y: float
    text: str
    colour: str
    is_name: bool = False


@dataclass(frozen=True)
class _Placed:
    """A label, and where it is written: the left or right end and the middle of its height."""

    label: _Label
    x: float
    y: float
    side: str

    def covers(self, other: _Placed) -> bool:
        """Whether two labels overlap."""
        (left, right), (its_left, its_right) = self._ends(), other._ends()
        return left < its_right and its_left < right and abs(self.y - other.y) < 0.95 * _LINE

    def _ends(self) -> tuple[float, float]:
        wide = len(self.label.text) * _CHARACTER
        return (self.x, self.x + wide) if self.side == "left" else (self.x - wide, self.x)


def name_marks(axes: Axes, series: Sequence[Marks]) -> None:
    """Label marks, and below the lowest of a series write its name.

    Labels of marks that lie above each other stand in a column at their right, or at their left
    where there is no room before the next marks. Columns that would cover each other are made one.
    """
    columns = _columns([_labels(axes, marks) for marks in series])
    placed = _place(columns, *_size(axes))
    while (first := _covered(placed)) is not None:
        columns[first : first + 2] = [columns[first] + columns[first + 1]]
        placed = _place(columns, *_size(axes))
    for column in placed:
        for it in column:
            axes.annotate(
                it.label.text, (72 * it.x, 72 * it.y), xycoords="axes points", size=TINY,
                color=it.label.colour, weight="bold" if it.label.is_name else "normal",
                ha=it.side, va="center", zorder=3,
                bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.4},
            )  # fmt: skip


def _labels(axes: Axes, marks: Marks) -> list[_Label]:
    """One for each mark, and one for each line of the name."""
    labels = [_Label(*_inches(axes, x, y), label, marks.colour) for x, y, label in marks.points]
    lowest = min(labels, key=lambda label: label.y)
    names = [
        _Label(lowest.x, lowest.y - line * _LINE, words, marks.colour, True)
        for line, words in enumerate(_lines(marks.name, CHARACTERS_BELOW_MARKS), start=1)
    ]
    return labels + names


def _columns(series: Sequence[list[_Label]]) -> list[list[_Label]]:
    """The labels of series, those together whose marks lie above each other; from left to right."""
    columns: list[list[_Label]] = []
    for labels in sorted(series, key=lambda labels: min(label.x for label in labels)):
        left = min(label.x for label in labels)
        if columns and left < max(label.x for label in columns[-1]) + 2 * _ASIDE:
            columns[-1] += labels
        else:
            columns.append(labels)
    return columns


def _place(columns: Sequence[Sequence[_Label]], width: float, height: float) -> list[list[_Placed]]:
    """Each column right of its marks, or left where it would reach the next ones."""
    edges = [*(min(label.x for label in column) for column in columns[1:]), width]
    taken, placed = 0.0, []
    for column, edge in zip(columns, edges, strict=True):
        left, right = min(label.x for label in column), max(label.x for label in column)
        wide = _ASIDE + _CHARACTER * max(len(label.text) for label in column if not label.is_name)
        if right + wide > edge and left - wide > taken:
            x, side, taken = left - _ASIDE, "right", right
        else:
            x, side, taken = right + _ASIDE, "left", right + wide
        moved = spread([label.y for label in column], [_LINE] * len(column), height)
        placed.append([_Placed(it, x, y, side) for it, y in zip(column, moved, strict=True)])
    return placed


def _covered(placed: Sequence[Sequence[_Placed]]) -> int | None:
    """The first column that covers some of the next one; None: there is none."""
    for number, (column, after) in enumerate(pairwise(placed)):
        if any(one.covers(other) for one in column for other in after):
            return number
    return None


def _inches(axes: Axes, x: float, y: float) -> tuple[float, float]:
    """How far right of and above the lower left corner of the axes a place in data lies."""
    box, dots = axes.get_window_extent(), axes.figure.dpi
    right, above = axes.transData.transform((x, y))
    return float((right - box.x0) / dots), float((above - box.y0) / dots)


def _size(axes: Axes) -> tuple[float, float]:
    """Width and height of the axes, inches."""
    box, dots = axes.get_window_extent(), axes.figure.dpi
    return float(box.width / dots), float(box.height / dots)


def spread(places: Sequence[float], heights: Sequence[float], ceiling: float) -> list[float]:
    """The centres of labels, moved as little as needed so that none covers another.

    Args:
        places: where the centres should be.
        heights: of the labels.
        ceiling: no label reaches above it, nor below 0 if there is room for all between.

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
    moved[order] = np.minimum(np.maximum(floors, tall[0] / 2), highest) + stacked
    return [float(centre) for centre in moved]
