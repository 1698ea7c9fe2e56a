"""How many images live after each layer, a panel a problem, with the saturated ones apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spdnn_cli.report.plots import captions
from spdnn_cli.report.plots.labels import ROOM_FOR_NAMES, End, name_ends
from spdnn_cli.report.plots.sheet import Panel, Picture
from spdnn_cli.report.plots.style import INK, MUTED, TINY, axis_titles, powers
from spdnn_cli.results.describe import configuration_of, problem_of
from spdnn_cli.results.store import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLAINEST = "tiled"
"""The paper's engine: it runs every layer of every live image."""
SATURATED, RUNNING = "#007f5c", "#bd4f00"
"""Colours."""


@dataclass(frozen=True)
class Lives:
    """Images by layers done, from layer 0 (the inputs) on.

    Attributes:
        alive: not all zero: those still running and the saturated ones.
        saturated: of these, the ones that stay at YMAX for good; None: not known.
        finished: after which layer runs that retire finished images had none left; None: not known.
    """

    alive: Any
    saturated: Any | None
    finished: int | None

    def end(self) -> int:
        """Where the layer axis ends: nothing changes any more."""
        changes = np.flatnonzero(np.diff(self.alive))
        if self.saturated is not None:
            changes = np.append(changes, np.flatnonzero(np.diff(self.saturated)))
        return max(int(changes.max(initial=0)) + 2, self.finished or 0) + 4


def picture(results: Sequence[Result]) -> Picture | None:
    """The picture: of each network's inputs one run, a traced one if there is any.

    `alive` of a result counts live images, saturated ones too, for every engine. Which of them are
    saturated for good is known of a traced run alone (`spdnn infer --trace`): an image that is a
    category, and entered fewer layers than there are, had saturated. Of a run that retires finished
    images, the last layer that ran is known: by then all of them had finished.
    """
    groups: dict[tuple[int, str, str], list[Result]] = defaultdict(list)
    for result in captions.right(results):
        if result.record.alive:
            problem = problem_of(result.record)
            groups[problem.neurons, problem.data, problem.features_sha256].append(result)
    if not groups:
        return None
    chosen = [(_plainest(some), some) for _, some in sorted(groups.items())]
    lives = [_lives(result, some) for result, some in chosen]
    panels = [_panel(result, its) for (result, _), its in zip(chosen, lives, strict=True)]
    notes = ["Alive: not all values are zero. The layer axis ends where nothing changes any more."]
    if any(its.saturated is not None for its in lives):
        notes.append(
            "Saturated for good: every value is at YMAX, and each later layer is proved to keep "
            "that. Still running: neither dead nor saturated for good."
        )
    else:
        notes.append(
            "How many of the live images are saturated for good, layer by layer, is known of "
            "traced runs only, and none is here: spdnn infer --trace."
        )
    notes += captions.notes_of_wrong(results)
    return Picture("alive", "Images alive after each layer", panels, notes)


def _plainest(results: Sequence[Result]) -> Result:
    """A traced run, one that retires first; of most images, the deepest, of the paper's engine.

    Of two alike the newest counts. A trace says of a run that retires which images had saturated.

    Of a network's first layers all runs tell the same, but for rounding. Streamed runs come last:
    they may repeat images.
    """

    def order(result: Result) -> tuple[object, ...]:
        record = result.record
        traced = record.lifetimes_sha256 is not None
        return (
            traced and record.shortcuts.finished_images_retired,
            traced,
            record.stream is None,
            record.images,
            len(record.alive_by_layer),
            record.engine == PLAINEST,
            not record.shortcuts.twins_folded,
        )

    return max(reversed(results), key=order)


def _lives(result: Result, results: Sequence[Result]) -> Lives:
    """The counts of one run, and where runs of the same images that retire them ended."""
    record = result.record
    ends = [
        len(r.record.alive_by_layer)
        for r in results
        if r.record.images == record.images
        and r.record.shortcuts.finished_images_retired
        and len(r.record.alive_by_layer) < r.record.layers
    ]
    finished = min(ends) if ends else None
    alive = np.array([record.images, *record.alive_by_layer])
    if record.lifetimes_sha256 is None:
        return Lives(alive, None, finished)
    lifetimes = result.lifetimes()
    survives = np.zeros(len(lifetimes), bool)
    survives[result.categories()] = True
    # A survivor that entered every layer had not saturated before the last one; nor after it, for
    # all that is known.
    left = lifetimes[survives & (lifetimes < record.layers)]
    if len(left) == 0:
        return Lives(alive, None, finished)
    layers = np.arange(len(alive))
    dead = np.searchsorted(np.sort(lifetimes[~survives]), layers, side="right")
    saturated = np.searchsorted(np.sort(left), layers, side="right")
    return Lives(record.images - dead, saturated, finished)


# ---- how it is drawn


def _panel(result: Result, lives: Lives) -> Panel:
    record = result.record
    run = f"{configuration_of(record).label}, {record.layers} layers, {captions.data(record)}"
    note = f"{run}; {captions.device(record)}; {captions.note([record])}"

    def draw_on(axes: Axes) -> None:
        lowest = 1.0 if lives.saturated is not None else max(1, lives.alive.min() / 4)
        axes.set_yscale("log")
        axes.set_xlim(0, lives.end())
        axes.set_ylim(0.8 * lowest, lives.alive[0] * 3)
        powers(axes.yaxis)
        axis_titles(axes, "layers done", "images")
        if lives.finished is not None:
            _mark_finished(axes, lives.finished)
        name_ends(axes, _draw_lines(axes, lives))

    title = f"{record.neurons} neurons"
    return Panel(title, note, 1.7, draw_on, right=ROOM_FOR_NAMES)


def _mark_finished(axes: Axes, layer: int) -> None:
    axes.axvline(layer, color=MUTED, linewidth=0.9, linestyle=":")
    axes.annotate(
        f"all finished\nafter layer {layer}", (layer, 1), (-4, -1),
        xycoords=("data", "axes fraction"), textcoords="offset points",
        size=TINY, color=MUTED, ha="right", va="top",
    )  # fmt: skip


def _draw_lines(axes: Axes, lives: Lives) -> list[End]:
    """All live images, and their two parts where they are known; returns the ends."""
    shown = slice(lives.end() + 1)
    alive = _draw(axes, lives.alive[shown], f"{lives.alive[-1]:,} alive", INK, "-", 1.8)
    if lives.saturated is None:
        return [alive]
    saturated, running = lives.saturated[shown], (lives.alive - lives.saturated)[shown]
    return [
        _draw(axes, running, "still running", RUNNING, "-", 1.2),
        _draw(axes, saturated, "saturated for good", SATURATED, "--", 1.4),
        alive,
    ]


def _draw(axes: Axes, counts: Any, name: str, colour: str, dashes: str, width: float) -> End:
    """A line of counts by layer; there is no place for 0 on a logarithmic axis."""
    axes.plot(
        np.arange(len(counts)), np.where(counts == 0, np.nan, counts), dashes,
        color=colour, linewidth=width,
    )  # fmt: skip
    last = int(np.flatnonzero(counts)[-1])
    return End(last, counts[last], name, colour)
