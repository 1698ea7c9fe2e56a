"""Throughput by problem and engine, a panel for each machine and kind of data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from spdnn_cli.report import cells
from spdnn_cli.report.plots import captions
from spdnn_cli.report.plots.labels import ROOM_FOR_NAMES, End, name_ends
from spdnn_cli.report.plots.sheet import Panel, Picture
from spdnn_cli.report.plots.style import (
    INK,
    SMALL,
    Style,
    axis_titles,
    powers,
    styles_of,
    title_left,
)
from spdnn_cli.results import describe
from spdnn_cli.results.describe import Configuration, configuration_of, problem_of
from spdnn_cli.results.record import Record
from spdnn_cli.results.store import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 1.8
"""Of each pair of axes, inches."""

Size = tuple[int, int]


def picture(results: Sequence[Result]) -> Picture | None:
    """The picture.

    The rate is the challenge's: TeraEdges/s, all edges of the problem / median seconds of
    inference. Only the newest run of each configuration is drawn. One run alone makes no panel.
    """
    groups = _groups(results)
    if not groups:
        return None
    shown = [record for group in groups for record in group]
    styles = styles_of(cells.in_order(shown))
    rates = [record.effective_teraedges_per_s for record in shown]
    bounds = (min(rates) / 2, max(rates) * 2.5)
    panels = [_panel(group, styles, bounds) for group in groups]
    notes = [describe.EFFECTIVE, *captions.notes_of_times(shown, results)]
    if len(panels) > 1:
        notes.append("All panels have one scale.")
    return Picture("throughput", "Throughput by problem and engine", panels, notes)


# ---- what is shown


class _Data(NamedTuple):
    """What the runs of a panel have in common; panels are in this order."""

    is_own: bool
    is_streamed: bool
    fewer_images: int
    source: str
    features_sha256: str


def _groups(results: Sequence[Result]) -> list[list[Record]]:
    """The newest runs of each machine and data: official data first, more images first."""
    groups = []
    for records in describe.by_machine(captions.alone(captions.right(results))).values():
        found: dict[_Data, list[Record]] = defaultdict(list)
        for record in describe.newest(records).values():
            found[_data(record)].append(record)
        groups += [found[data] for data in sorted(found) if len(found[data]) > 1]
    return groups


def _data(record: Record) -> _Data:
    """Of a run; streams of any number of images are shown together, and so is official data."""
    problem, is_streamed = problem_of(record), record.stream is not None
    return _Data(
        not problem.is_official,
        is_streamed,
        0 if is_streamed else -record.images,
        problem.data,
        "" if problem.is_official else problem.features_sha256,
    )


# ---- how it is drawn


def _panel(
    records: Sequence[Record],
    styles: Mapping[Configuration, Style],
    bounds: tuple[float, float],
) -> Panel:
    """Problems from left to right, those of the same N joined by a line."""
    ordered = sorted(records, key=captions.size)
    sizes = sorted({captions.size(record) for record in records})
    groups = sorted({neurons for neurons, _ in sizes})
    place = {size: k + 0.7 * groups.index(size[0]) for k, size in enumerate(sizes)}
    series: dict[Configuration, list[Record]] = {c: [] for c in cells.in_order(records)}
    for record in ordered:
        series[configuration_of(record)].append(record)

    def draw_on(axes: Axes) -> None:
        axes.set_yscale("log")
        axes.set_ylim(*bounds)
        axes.set_xlim(-0.6, max(place.values()) + 0.6)
        powers(axes.yaxis)
        axis_titles(axes, y="TeraEdges/s, effective")
        _name_problems(axes, place)
        ends = [_draw(axes, name, runs, styles[name], place) for name, runs in series.items()]
        name_ends(axes, ends)

    title = f"Measured: {captions.device(ordered[-1])}"
    note = f"{captions.data(*ordered)}; {captions.note(ordered)}"
    return Panel(title, note, HEIGHT, draw_on, right=ROOM_FOR_NAMES, below=0.72)


def _draw(
    axes: Axes,
    name: Configuration,
    records: Sequence[Record],
    style: Style,
    place: Mapping[Size, float],
) -> End:
    at = [(place[captions.size(r)], r.effective_teraedges_per_s, r) for r in records]
    for neurons in dict.fromkeys(record.neurons for record in records):
        line = [(x, y) for x, y, record in at if record.neurons == neurons]
        axes.plot(*zip(*line, strict=True), color=style.colour, linewidth=1.2)
    for x, y, record in at:
        style.mark(axes, x, y, captions.is_sure(record))
    return End(*at[-1][:2], name.label, style.colour)


def _name_problems(axes: Axes, place: Mapping[Size, float]) -> None:
    """Below the axes a line of layers and a line of neurons, named at the left."""
    axes.grid(False, axis="x")
    axes.set_xticks(list(place.values()), [str(layers) for _, layers in place], rotation=90)
    along = axes.get_xaxis_transform()
    neurons_at = -0.46 / HEIGHT
    for neurons in sorted({neurons for neurons, _ in place}):
        there = [x for at, x in place.items() if at[0] == neurons]
        centre = sum(there) / len(there)
        look: Any = {"size": SMALL, "color": INK, "ha": "center", "va": "center"}
        axes.text(centre, neurons_at, str(neurons), transform=along, **look)
    title_left(axes, "layers", -0.18 / HEIGHT)
    title_left(axes, "neurons", neurons_at)
