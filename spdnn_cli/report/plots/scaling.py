"""Speed-up by devices, with the ideal line, a panel a machine and problem; projections dashed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spdnn_cli.report.plots import captions
from spdnn_cli.report.plots.labels import ROOM_FOR_NAMES, End, name_ends
from spdnn_cli.report.plots.sheet import Panel, Picture
from spdnn_cli.report.plots.style import (
    MUTED,
    TINY,
    Style,
    axis_titles,
    duration,
    engine_styles,
    number,
)
from spdnn_cli.report.scaling import Row, Series, all_series
from spdnn_cli.results import describe as runs
from spdnn_cli.results.store import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_TICKS = 8


def picture(results: Sequence[Result]) -> Picture | None:
    """The picture.

    The series are those of the table (`spdnn_cli.report.scaling`) that have two numbers of
    devices at least. Where a number of devices was run by two launchers, the faster one counts.
    """
    groups: dict[tuple[str, runs.Problem], list[Series]] = defaultdict(list)
    for series in all_series(results):
        if len({row.devices for row in series.own_rows}) > 1:
            groups[series.machine, series.problem].append(series)
    if not groups:
        return None
    by_record = {id(result.record): result for result in results}
    drawn: dict[Path, Result] = {}
    panels = []
    for some in groups.values():
        rows = [row for series in some for row in series.own_rows]
        records = [row.record for row in rows if row.record is not None]
        shown = {by_record[id(record)].path: by_record[id(record)] for record in records}
        panels.append(_panel(some, list(shown.values())))
        drawn |= shown
    projected = any(
        row.record is None for some in groups.values() for one in some for row in one.own_rows
    )
    notes = [
        "Speed-up: of the slowest device's median seconds, from a common start, over one device "
        "(the fewest measured count as ideal); gathering the categories is not in it. Beside each "
        "line: seconds on the most devices.",
        *([PROJECTED] if projected else []),
        *captions.notes_of_times(list(drawn.values()), results),
    ]
    return Picture("scaling", "Strong scaling", panels, notes)


PROJECTED = (
    "Dashed, without marks: projected, not measured. The scaling table says how, and with what "
    "error."
)


def _panel(some: Sequence[Series], shown: Sequence[Result]) -> Panel:
    of, record = some[0].problem, shown[0].record
    title = f"{of.neurons} neurons, {of.layers} layers: {captions.device(record)}"
    note = f"{captions.data(record)}; {captions.note(shown)}"
    styles = engine_styles([series.engine.split()[0] for series in some])

    def draw_on(axes: Axes) -> None:
        _set_scales(axes, some)
        _draw_ideal(axes)
        ends = [_draw(axes, *both) for both in zip(some, styles, strict=True)]
        name_ends(axes, ends)

    return Panel(title, note, 2.3, draw_on, right=ROOM_FOR_NAMES)


def _set_scales(axes: Axes, some: Sequence[Series]) -> None:
    """Both axes by powers of two; the ideal line leaves where nothing comes near to it."""
    counts = sorted({row.devices for series in some for row in series.own_rows})
    gains = [series.speed_up(row) for series in some for row in series.own_rows]
    low, high = min(counts[0], *gains) / 1.3, min(counts[-1], 4 * max(gains)) * 1.3
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xlim(counts[0] / 1.1, counts[-1] * 1.1)
    axes.set_ylim(low, high)
    powers = range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)
    for axis, places in ((axes.xaxis, counts), (axes.yaxis, [2.0**power for power in powers])):
        ticks = thinned(places)
        axis.set_ticks(ticks, [number(tick) for tick in ticks])
        axis.set_ticks([], minor=True)
    axis_titles(axes, "devices", "speed-up (times as fast)")


def thinned(places: Sequence[float]) -> list[float]:
    """Of ascending places on a logarithmic axis those that have room for a number, the last too."""
    room = (places[-1] / places[0]) ** (1 / MOST_TICKS)
    kept = [places[-1]]
    for place in reversed(places[:-1]):
        if place * room <= kept[0]:
            kept.insert(0, place)
    return kept


def _draw_ideal(axes: Axes) -> None:
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    low, high = max(left, bottom), min(right, top)
    axes.plot([low, high], [low, high], ":", color=MUTED, linewidth=1.0)
    axes.annotate(
        "ideal", (high, high), (-9, -5), textcoords="offset points",
        size=TINY, color=MUTED, ha="right", va="center",
    )  # fmt: skip


def _draw(axes: Axes, series: Series, style: Style) -> End:
    """The line of a series, dashed from the last measured place on; returns its end."""
    rows = _fastest(series)
    at = [(row.devices, series.speed_up(row)) for row in rows]
    measured = sum(row.record is not None for row in rows)
    _line(axes, at[:measured], "-", style)
    if measured < len(rows):
        _line(axes, at[measured - 1 :], "--", style)
    for row, place in zip(rows, at, strict=True):
        if row.record is not None:
            style.mark(axes, *place, bool(row.record["verified"]))
    state = "projected " if rows[-1].record is None else ""
    name = f"{series.engine}, {series.partition}: {state}{duration(rows[-1].seconds)}"
    return End(*at[-1], name, style.colour)


def _fastest(series: Series) -> list[Row]:
    """One row for each number of devices, ascending; projected ones come last."""
    best: dict[int, Row] = {}
    for row in series.own_rows:
        if row.devices not in best or row.seconds < best[row.devices].seconds:
            best[row.devices] = row
    return [best[devices] for devices in sorted(best)]


def _line(axes: Axes, places: Sequence[tuple[int, float]], dashes: str, style: Style) -> None:
    xs, ys = zip(*places, strict=True)
    axes.plot(xs, ys, dashes, color=style.colour, linewidth=1.2)
