"""Pictures as data, and how their titles, panels and notes are laid out, in inches.

A picture is described first (`Picture`) and drawn later: on a sheet of its own or with others, or
panel by panel for a page that sets titles and notes as text.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spdnn_cli.report.plots.settings import import_figure, own_settings
from spdnn_cli.report.plots.style import (
    INK,
    LARGE,
    LEFT,
    MARGIN,
    MUTED,
    NORMAL,
    PAPER,
    SMALL,
    plain_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_WIDTH = 3.9
"""Inches: text of SMALL points is still legible where a phone shows a panel at full width."""
COLUMNS = 2
"""Panels beside each other on a sheet."""
WIDTH = COLUMNS * PANEL_WIDTH

_GAP = 0.28
"""Between pictures."""
_AXIS_TITLE = 0.26
"""Above the axes: room for the title of the vertical one."""
_CHARACTER = {SMALL: 0.55, NORMAL: 0.63, LARGE: 0.63}
"""Mean width of a character over its size: the larger ones are bold."""


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: what it shows, in bold above it.
        note: of which machine, when, verified or not: below the title.
        height: of the axes, inches.
        draw: puts the data on the axes.
        left: room left of the axes, for ticks and labels, inches.
        right: room right of the axes, for labels, inches.
        below: room below the axes, for ticks and labels, inches.
        is_wide: whether it takes a whole line of a sheet.
    """

    title: str
    note: str
    height: float
    draw: Callable[[Axes], None]
    left: float = LEFT
    right: float = 0.15
    below: float = 0.5
    is_wide: bool = False

    @own_settings()
    def figure(self) -> Figure:
        """The axes as a figure of their own, without title and note, and no margin at the left."""
        height = _AXIS_TITLE + self.height + self.below
        figure = import_figure()(figsize=(PANEL_WIDTH - MARGIN, height), facecolor=PAPER)
        _put_axes(figure, self, -MARGIN, height - _AXIS_TITLE, PANEL_WIDTH)
        return figure


@dataclass(frozen=True)
class Picture:
    """Panels, below a title and above notes.

    Attributes:
        name: a word, for names of files and parts of a page.
        title: states what is shown.
        panels: from left to right and from top to bottom.
        notes: what a reader must know, a paragraph each.
    """

    name: str
    title: str
    panels: Sequence[Panel]
    notes: list[str] = field(default_factory=list)

    def figure(self) -> Figure:
        """The picture as a figure of its own, with its title and notes."""
        return sheet([self])


@own_settings()
def sheet(pictures: Sequence[Picture]) -> Figure:
    """One figure with the pictures below each other."""
    figure_type = import_figure()
    blocks = [block for picture in pictures for block in _blocks(picture)]
    height = sum(block.height for block in blocks) + MARGIN
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


def _blocks(picture: Picture) -> list[_Block]:
    panels = picture.panels
    wide = [_row([panel], WIDTH) for panel in panels if panel.is_wide]
    narrow = [panel for panel in panels if not panel.is_wide]
    rows = [_row(narrow[k : k + COLUMNS], PANEL_WIDTH) for k in range(0, len(narrow), COLUMNS)]
    title = _paragraph(picture.title, LARGE, INK, before=MARGIN)
    notes = [_paragraph(note, SMALL, MUTED, before=0.05) for note in picture.notes]
    return [title, *wide, *rows, *notes, _Block(_GAP, lambda figure, top: None)]


def _paragraph(words: str, size: float, colour: str, before: float) -> _Block:
    lines = _wrapped(words, size, WIDTH)

    def put(figure: Figure, top: float) -> None:
        _write(figure, lines, MARGIN, top - before, size, colour)

    return _Block(before + _height(lines, size), put)


def _row(panels: Sequence[Panel], width: float) -> _Block:
    """Panels beside each other: titles and notes on common lines, axes on a common base."""
    titles = [_wrapped(panel.title, NORMAL, width) for panel in panels]
    notes = [_wrapped(panel.note, SMALL, width) for panel in panels]
    before = 0.14
    downs = [before + _height(lines, NORMAL) + 0.02 for lines in titles]
    heads = [down + _height(lines, SMALL) for down, lines in zip(downs, notes, strict=True)]
    head = max(heads) + _AXIS_TITLE
    inside, below = max(p.height for p in panels), max(p.below for p in panels)

    def put(figure: Figure, top: float) -> None:
        for number, panel in enumerate(panels):
            edge = number * width
            _write(figure, titles[number], edge + MARGIN, top - before, NORMAL, INK)
            _write(figure, notes[number], edge + MARGIN, top - downs[number], SMALL, MUTED)
            _put_axes(figure, panel, edge, top - head - inside + panel.height, width)

    return _Block(head + inside + below, put)


def _put_axes(figure: Figure, panel: Panel, edge: float, top: float, panel_width: float) -> None:
    """Draw a panel with its upper edge at `top` and its left one, labels included, at `edge`."""
    width, height = figure.get_size_inches()
    inside = panel_width - panel.left - panel.right
    axes = figure.add_axes(
        (
            (edge + panel.left) / width,
            (top - panel.height) / height,
            inside / width,
            panel.height / height,
        )
    )
    plain_axes(axes)
    panel.draw(axes)


def _wrapped(words: str, size: float, width: float) -> list[str]:
    return textwrap.wrap(words, int((width - 2 * MARGIN) * 72 / (size * _CHARACTER[size])))


def _height(lines: Sequence[str], size: float) -> float:
    return len(lines) * size * 1.35 / 72


def _write(
    figure: Figure, lines: Sequence[str], left: float, top: float, size: float, colour: str
) -> None:
    """Lines of text below `top`, bold if they are larger than notes."""
    width, height = figure.get_size_inches()
    figure.text(
        left / width, top / height, "\n".join(lines), size=size, color=colour,
        weight="normal" if size == SMALL else "bold", va="top", linespacing=1.25,
    )  # fmt: skip
