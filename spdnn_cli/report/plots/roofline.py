"""Executed edges a second by executed edges a byte, a panel a machine, below its roof.

What a byte is, and which runs have a known number of them: see `spdnn_cli.report.roofline`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spdnn_cli.report import cells
from spdnn_cli.report.plots import captions
from spdnn_cli.report.plots.labels import Marks, name_marks
from spdnn_cli.report.plots.sheet import Panel, Picture
from spdnn_cli.report.plots.style import INK, TINY, Style, axis_titles, powers, styles_of
from spdnn_cli.report.roofline import Ceilings, ceilings, intensity
from spdnn_cli.results import describe
from spdnn_cli.results.describe import Configuration, configuration_of
from spdnn_cli.results.record import Record
from spdnn_cli.results.store import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOM_FOR_SLOPE, ROOM_FOR_LEVEL = 0.37, 0.6
"""For the name of the sloping roof, right of its end, and for that of the level one, right of the
marks above it and their labels: shares of the width of the axes."""
BYTES = (
    "Edges per byte: executed multiply-adds and adds / the bytes that the method must move at "
    "least. Layered engines: weights once a layer (8 bytes an edge in CSR, 6 in tiled), input "
    "bits, and 4 bytes x neurons x images for each layer's values, written once and read once. "
    "Folded engines: input bits only (images x neurons / 8); their values stay on the chip."
)
ROOFS = (
    "The sloping roof is device memory; values that stay in the L2 cache may pass it. The level "
    "line is one 4-byte read of shared memory an edge; an engine that reads once for several "
    "outputs, or keeps values in registers, may pass that."
)


@dataclass(frozen=True)
class Point:
    """A run, and its executed edges per byte that must move."""

    record: Record
    edges_per_byte: float

    @property
    def rate(self) -> float:
        """TeraEdges/s, executed."""
        return self.record.executed_teraedges_per_s


def picture(results: Sequence[Result]) -> Picture | None:
    """The picture: of each engine and number of neurons the deepest problem, its newest run.

    One run alone makes no panel.
    """
    machines = describe.by_machine(captions.alone(captions.right(results))).values()
    groups = [points for records in machines if len(points := _deepest(records)) > 1]
    if not groups:
        return None
    drawn = [point.record for points in groups for point in points]
    styles = styles_of(cells.in_order(drawn))
    known = [ceilings(points[-1].record) for points in groups]
    sources = dict.fromkeys(f"Roofs: {roof.source}." for roof in known if roof is not None)
    notes = [
        BYTES,
        *([ROOFS] if sources else []),
        "Beside each mark: neurons. Of each engine and N the deepest problem, its newest run.",
        *sources,
        *captions.notes_of_times(drawn, results),
    ]
    panels = [_panel(points, roof, styles) for points, roof in zip(groups, known, strict=True)]
    return Picture("roofline", "Roofline: what bounds the engines", panels, notes)


def _deepest(records: Sequence[Record]) -> list[Point]:
    """Of each configuration and number of neurons the run of most layers and images, the newest."""
    deepest: dict[tuple[Configuration, int], Point] = {}
    for record in sorted(records, key=lambda r: (r.layers, r.images)):
        edges_per_byte = intensity(record)
        if edges_per_byte:
            deepest[configuration_of(record), record.neurons] = Point(record, edges_per_byte)
    return list(deepest.values())


def _panel(
    points: Sequence[Point], known: Ceilings | None, styles: Mapping[Configuration, Style]
) -> Panel:
    shown = [point.record for point in points]
    data = " and ".join(dict.fromkeys(map(captions.data, shown)))
    note = f"{data}; {captions.note(shown)}"
    if known is None:
        note += "; no roof: what this machine can do at most was not measured"

    def draw_on(axes: Axes) -> None:
        xs = [point.edges_per_byte for point in points]
        ys = [point.rate for point in points]
        left, right, top = min(xs) / 3, max(xs) * 2, max(ys) * 2
        if known is not None:
            top = max(top, 6 * known.shared_edges_per_s / 1e12)
            end = top / known.memory_bytes_per_s * 1e12
            level = known.shared_edges_per_s / 1e12
            above = max((x for x, y in zip(xs, ys, strict=True) if y > level), default=left)
            right = max(
                right,
                _with_room(left, end, ROOM_FOR_SLOPE),
                _with_room(left, above, ROOM_FOR_LEVEL),
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(*_with_ticks(left, right))
        axes.set_ylim(*_with_ticks(min(ys) / 3, top))
        powers(axes.xaxis)
        powers(axes.yaxis)
        axis_titles(axes, "executed edges per byte that must move", "TeraEdges/s, executed")
        if known is not None:
            _draw_roofs(axes, known)
        _draw_marks(axes, points, styles)

    return Panel(captions.device(shown[-1]), note, 2.9, draw_on, right=0.2)


def _with_room(left: float, place: float, share: float) -> float:
    """Where a logarithmic axis from `left` on ends if a share of it is to lie right of a place."""
    return float((place / left**share) ** (1 / (1 - share)))


def _with_ticks(low: float, high: float) -> tuple[float, float]:
    """These bounds if two powers of ten lie between, else the powers around them."""
    inner = math.floor(math.log10(high)) - math.ceil(math.log10(low))
    if inner >= 1:
        return low, high
    return 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))


def _draw_roofs(axes: Axes, known: Ceilings) -> None:
    slope, level = known.memory_bytes_per_s / 1e12, known.shared_edges_per_s / 1e12
    (left, right), (_, top) = axes.get_xlim(), axes.get_ylim()
    axes.plot([left, right], [slope * left, slope * right], color=INK, linewidth=1.3)
    axes.plot([left, right], [level, level], "--", color=INK, linewidth=1.0)
    axes.text(
        right, level * 1.12, f"shared memory,\n4 bytes an edge:\n{level:.1f} TeraEdges/s",
        size=TINY, color=INK, ha="right", va="bottom",
    )  # fmt: skip
    if not left < top / slope < right:  # the sloping roof is not in view
        return
    axes.text(
        1.2 * top / slope, top / 1.05, f"device memory:\n{slope:.2f} TB/s",
        size=TINY, color=INK, ha="left", va="top",
    )  # fmt: skip


def _draw_marks(axes: Axes, points: Sequence[Point], styles: Mapping[Configuration, Style]) -> None:
    """A mark a run, labelled with its neurons, and the name of each configuration."""
    series: dict[Configuration, list[tuple[float, float, str]]] = defaultdict(list)
    for point in points:
        name, record = configuration_of(point.record), point.record
        styles[name].mark(axes, point.edges_per_byte, point.rate, captions.is_sure(record))
        series[name].append((point.edges_per_byte, point.rate, str(record.neurons)))
    name_marks(axes, [Marks(name.label, styles[name].colour, at) for name, at in series.items()])
