"""One axis for all: the paper, other programs, and our engines on one machine, at full depth."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spdnn_cli import problem
from spdnn_cli.report.cells import engine_entry
from spdnn_cli.report.peers import Own, own_rows
from spdnn_cli.report.plots import captions
from spdnn_cli.report.plots.sheet import Panel, Picture
from spdnn_cli.report.plots.style import INK, MUTED, SMALL, TINY, Style, powers
from spdnn_cli.report.published import Peer, Size, paper, peers
from spdnn_cli.results import describe
from spdnn_cli.results.record import Device
from spdnn_cli.results.store import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LAYERS = problem.LAYERS[-1]
SIZES: list[Size] = [(neurons, LAYERS) for neurons in problem.NEURONS]
MARKERS = dict(zip(problem.NEURONS, "v^sD", strict=True))
"""By neurons."""
PAPER_DEVICES = (1, 6, 768)
"""Numbers of V100s."""
ROW, ROOM_FOR_NAMES = 0.24, 2.05
"""Height of a row, and the room left of it: inches."""
CHARACTERS_OF_A_NAME = 30
"""In a line; names have two lines at most."""
ROOM_FOR_A_TICK = 0.6
"""Inches that the number of a tick needs, if it is level."""
LEAST_NEURONS = 2
"""Number of problems that a series needs to be drawn."""


@dataclass(frozen=True)
class Line:
    """A row: its rates by neurons, TeraEdges/s."""

    name: str
    rates: dict[int, float]
    colour: str
    sure: bool = True


def picture(results: Sequence[Result]) -> Picture | None:
    """The picture: of the machine that has most to show, the one with GPUs first; None: none has.

    Of each other program the fastest of its machines is shown, on one device.
    """
    own = _machine(own_rows(captions.right(results)))
    if not own:
        return None
    device = own[0].configuration.device
    lines = [*_own_lines(own), *(_paper_lines() if device == "cuda" else []), *_others(device)]
    records = [record for row in own for size, record in row.records.items() if size in SIZES]
    notes = [
        describe.EFFECTIVE,
        f"Black: the paper, {paper().source}. Grey: other programs, each on its fastest machine, "
        "timed in its own way: compare with care. `spdnn report peers` has all, with sources.",
        *captions.notes_of_times(records, results),
    ]
    title = f"{LAYERS} layers, all {problem.IMAGES:,} images"
    note = f"Ours on {captions.device(records[0])}; {captions.note(records)}"
    height = ROW * len(lines)
    panel = Panel(
        title,
        note,
        height,
        lambda axes: _draw(axes, lines),
        left=ROOM_FOR_NAMES,
        right=0.35,
        below=0.85,
        is_wide=True,
    )
    return Picture("overview", "The paper, other programs, and this one", [panel], notes)


def _machine(own: Sequence[Own]) -> list[Own]:
    """The rows on one device of the machine with most figures, one with GPUs first."""
    found: dict[str, list[Own]] = {}
    for row in own:
        known = sum(size in row.records for size in SIZES)
        if row.configuration.workers == 1 and known >= LEAST_NEURONS:
            found.setdefault(row.machine, []).append(row)

    def order(rows: Sequence[Own]) -> tuple[bool, int]:
        on_gpu = rows[0].configuration.device == "cuda"
        return on_gpu, sum(size in row.records for row in rows for size in SIZES)

    return max(found.values(), key=order, default=[])


def _own_lines(own: Sequence[Own]) -> list[Line]:
    lines = []
    for row in own:
        records = [record for size, record in row.records.items() if size in SIZES]
        rates = {record.neurons: record.effective_teraedges_per_s for record in records}
        sure = all(map(captions.is_sure, records))
        colour = engine_entry(row.configuration.engine).colour
        lines.append(Line(row.configuration.label, rates, colour, sure))
    return lines


def _paper_lines() -> list[Line]:
    lines = []
    for devices in PAPER_DEVICES:
        rates = {size[0]: paper().table_1.rates(size)[devices] for size in SIZES}
        lines.append(Line(f"paper, {devices} V100", rates, INK))
    return lines


def _others(device: Device) -> list[Line]:
    """The fastest machine of each other program, with one device."""
    best: dict[str, Peer] = {}
    for peer in peers():
        known = [size for size in SIZES if size in peer.seconds]
        if peer.device != device or peer.devices != 1 or len(known) < LEAST_NEURONS:
            continue
        before = best.get(peer.program)
        if before is None or _mean_gain(peer, before) > 1:
            best[peer.program] = peer
    return [
        Line(
            f"{peer.program}, {_short(peer.machine)}",
            {size[0]: peer.teraedges_per_s(size) for size in SIZES if size in peer.seconds},
            MUTED,
        )
        for peer in best.values()
    ]


def _mean_gain(peer: Peer, before: Peer) -> float:
    """How many times as fast one is, where both have figures: the geometric mean."""
    both = [size for size in SIZES if size in peer.seconds and size in before.seconds]
    gain = 1.0
    for size in both:
        gain *= (before.seconds[size] / peer.seconds[size]) ** (1 / len(both))
    return gain


def _short(machine: str) -> str:
    """A GPU's name without its maker."""
    return machine.removeprefix("NVIDIA ").removeprefix("GeForce ")


def _draw(axes: Axes, lines: Sequence[Line]) -> None:
    """A row for each line, the fastest above; a mark for each number of neurons."""
    ordered = sorted(lines, key=_order)
    rates = [rate for line in lines for rate in line.rates.values()]
    axes.set_xscale("log")
    axes.set_xlim(min(rates) / 2, max(rates) * 2)
    axes.set_ylim(-0.6, len(lines) - 0.4)
    axes.grid(False, axis="y")
    powers(axes.xaxis)
    axes.set_xlabel("TeraEdges/s, effective", size=SMALL, color=MUTED, labelpad=4)
    ticks = math.log10(max(rates) / min(rates)) + 1
    if axes.get_window_extent().width / axes.figure.dpi < ticks * ROOM_FOR_A_TICK:
        axes.tick_params(axis="x", rotation=90)
    names = [textwrap.fill(line.name, CHARACTERS_OF_A_NAME) for line in ordered]
    axes.set_yticks(range(len(names)), names, size=TINY, linespacing=0.95)
    for place, (line, label) in enumerate(zip(ordered, axes.get_yticklabels(), strict=True)):
        label.set_color(line.colour)
        label.set_fontweight("normal" if line.colour == MUTED else "bold")
        axes.plot(list(line.rates.values()), [place] * len(line.rates), "-", color=line.colour,
                  linewidth=0.8)  # fmt: skip
        for neurons, rate in line.rates.items():
            Style(line.colour, MARKERS[neurons]).mark(axes, rate, place, line.sure)
    _name_marks(axes)


def _order(line: Line) -> float:
    """The rate on the largest problem that it has; then the rows read from the fastest down."""
    return line.rates[max(line.rates)]


def _name_marks(axes: Axes) -> None:
    """Above the axes: which mark is of how many neurons."""
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], color=MUTED, marker=marker, linestyle="", markersize=4.5, label=str(neurons))
        for neurons, marker in MARKERS.items()
    ]
    title = Line2D([], [], linestyle="", label="neurons:")
    axes.legend(
        handles=[title, *marks], fontsize=TINY, labelcolor=MUTED,
        loc="lower right", bbox_to_anchor=(1.02, 1.0), ncols=len(marks) + 1, frameon=False,
        handletextpad=0, columnspacing=0.6, borderpad=0,
    )  # fmt: skip
