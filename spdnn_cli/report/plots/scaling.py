"""TeraEdges/s by devices, a panel a machine and problem, with the paper's curve behind ours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from spdnn_cli.report.plots import captions
from spdnn_cli.report.plots.labels import ROOM_FOR_NAMES, End, name_ends
from spdnn_cli.report.plots.sheet import Panel, Picture
from spdnn_cli.report.plots.style import (
    MUTED,
    Style,
    axis_titles,
    engine_styles,
    number,
    powers,
)
from spdnn_cli.report.published import OFFICIAL_SIZES, paper
from spdnn_cli.report.series import Row, Series, all_series
from spdnn_cli.results import describe
from spdnn_cli.results.describe import Problem
from spdnn_cli.results.record import Record
from spdnn_cli.results.store import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_TICKS = 8
Place = tuple[float, float]

PAPER = "Grey, behind: the paper's figures on V100s ({})."
IDEAL = "Dotted: as many times the rate of the fewest devices as there are devices."
PROJECTED = (
    "Dashed, without marks: projected, not measured. The scaling table says how, and with what "
    "error."
)


def picture(results: Sequence[Result]) -> Picture | None:
    """The picture.

    The series are those of the table (`spdnn_cli.report.scaling`) of strong scaling that have two
    numbers of devices at least. Where a number was run by two launchers, the faster one counts.
    """
    groups: dict[tuple[str, Problem], list[Series]] = defaultdict(list)
    for series in all_series(results):
        if not series.grows and len({row.devices for row in series.own_rows}) > 1:
            groups[series.machine, series.problem].append(series)
    if not groups:
        return None
    every = [series for group in groups.values() for series in group]
    drawn = _records(every)
    notes = [describe.EFFECTIVE, IDEAL]
    if any(_paper(series.problem) for series in every):
        notes.append(PAPER.format(paper().source))
    if any(row.record is None for series in every for row in series.own_rows):
        notes.append(PROJECTED)
    notes += captions.notes_of_times(drawn, results)
    panels = [_panel(group) for group in groups.values()]
    return Picture("scaling", "Strong scaling: more devices, the same images", panels, notes)


def _records(some: Sequence[Series]) -> list[Record]:
    """Of the measured rows, each once."""
    records = [row.record for one in some for row in one.own_rows if row.record is not None]
    return list({record.id: record for record in records}.values())


def _paper(of: Problem) -> list[Place]:
    """Rates of the paper by devices on a problem; none where it is another one."""
    size = of.neurons, of.layers
    if not of.is_comparable or size not in OFFICIAL_SIZES:
        return []
    return list(paper().table_1.rates(size).items())


def _panel(some: Sequence[Series]) -> Panel:
    of, shown = some[0].problem, _records(some)
    title = f"{of.neurons} neurons, {of.layers} layers: {captions.device(shown[0])}"
    note = f"{captions.data(shown[0])}; {captions.note(shown)}"
    styles = engine_styles([series.configuration.engine for series in some])

    def draw_on(axes: Axes) -> None:
        behind = _paper(of)
        _set_scales(axes, some, behind)
        ends = []
        if behind:
            _line(axes, behind, "-", Style(MUTED, "o"))
            ends.append(End(*behind[-1], "the paper", MUTED))
        ends += [_draw(axes, *both) for both in zip(some, styles, strict=True)]
        name_ends(axes, ends)

    return Panel(title, note, 2.3, draw_on, right=ROOM_FOR_NAMES)


def _set_scales(axes: Axes, some: Sequence[Series], behind: Sequence[Place]) -> None:
    """Devices by powers of two, rates by powers of ten."""
    places = [(row.devices, row.teraedges_per_s) for series in some for row in series.own_rows]
    counts = sorted({devices for devices, _ in [*places, *behind]})
    rates = [rate for _, rate in [*places, *behind]]
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlim(counts[0] / 1.1, counts[-1] * 1.1)
    axes.set_ylim(min(rates) / 1.5, max(rates) * 1.5)
    ticks = thinned(counts)
    axes.xaxis.set_ticks(ticks, [number(tick) for tick in ticks])
    axes.xaxis.set_ticks([], minor=True)
    powers(axes.yaxis)
    axis_titles(axes, "devices", "TeraEdges/s, effective")


def thinned(places: Sequence[float]) -> list[float]:
    """Of ascending places on a logarithmic axis those that have room for a number, the last too."""
    room = (places[-1] / places[0]) ** (1 / MOST_TICKS)
    kept = [places[-1]]
    for place in reversed(places[:-1]):
        if place * room <= kept[0]:
            kept.insert(0, place)
    return kept


def _draw(axes: Axes, series: Series, style: Style) -> End:
    """The line of a series, dashed from the last measured place on; returns its end."""
    rows = _fastest(series)
    at = [(row.devices, row.teraedges_per_s) for row in rows]
    measured = sum(row.record is not None for row in rows)
    (first, rate), last = at[0], at[-1][0]
    _line(axes, [(first, rate), (last, rate * last / first)], ":", Style(MUTED, ""))
    _line(axes, at[:measured], "-", style)
    if measured < len(rows):
        _line(axes, at[max(measured - 1, 0) :], "--", style)
    for row, place in zip(rows, at, strict=True):
        if row.record is not None:
            style.mark(axes, *place, captions.is_sure(row.record))
    projected = "projected " if rows[-1].record is None else ""
    name = f"{series.engine}, {series.partition}: {projected}{number(at[-1][1])}"
    return End(*at[-1], name, style.colour)


def _fastest(series: Series) -> list[Row]:
    """One row for each number of devices, ascending; projected ones come last."""
    counts = sorted({row.devices for row in series.own_rows})
    best = (series.best(devices) for devices in counts)
    return [row for row in best if row is not None]


def _line(axes: Axes, places: Sequence[Place], dashes: str, style: Style) -> None:
    if places:
        xs, ys = zip(*places, strict=True)
        axes.plot(xs, ys, dashes, color=style.colour, linewidth=1.2)
