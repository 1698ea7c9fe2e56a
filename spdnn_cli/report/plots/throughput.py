"""Throughput by problem and engine, a panel a machine; other programs in panels of their own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spdnn_cli import problem
from spdnn_cli.report.peers import Peer
from spdnn_cli.report.plots import captions
from spdnn_cli.report.plots.labels import ROOM_FOR_NAMES, End, name_ends
from spdnn_cli.report.plots.sheet import Panel, Picture
from spdnn_cli.report.plots.style import (
    INK,
    SMALL,
    Style,
    axis_titles,
    engine_styles,
    other_styles,
    powers,
    title_left,
)
from spdnn_cli.results import describe as runs
from spdnn_cli.results.store import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 1.8
"""Of each pair of axes, inches."""


@dataclass(frozen=True)
class Point:
    """The rate of one problem, TeraEdges/s."""

    neurons: int
    layers: int
    rate: float
    verified: bool = True

    @property
    def size(self) -> tuple[int, int]:
        """Neurons and layers."""
        return self.neurons, self.layers


@dataclass(frozen=True)
class Rates:
    """A panel of rates: its series by name, each with a style; what was timed, of others."""

    title: str
    note: str
    series: Mapping[str, Sequence[Point]]
    styles: Mapping[str, Style]
    timed: str = ""

    def points(self) -> list[Point]:
        """Of all series."""
        return [point for points in self.series.values() for point in points]


def picture(results: Sequence[Result], others: Sequence[Peer] = ()) -> Picture | None:
    """The picture.

    The rate is the challenge's: TeraEdges/s, all edges of the problem / median seconds of
    inference. Of each configuration the newest run counts. Others are shown on the problems that
    the results have with the official data and all images, if they ran on such a device.
    """
    groups = _groups(results)
    if not groups:
        return None
    shown = [result for group in groups for result in group]
    official = {
        (r.record["device"], captions.size(r.record))
        for r in shown
        if captions.data(r.record) == f"{problem.IMAGES:,} images, official"
    }
    known = sorted({at for _, at in official})
    others_shown = _other_rates(others, official)
    names = runs.in_order(result.record for result in shown)
    styles = dict(zip(names, engine_styles([name.split()[0] for name in names]), strict=True))
    all_rates = [*(_own_rates(group, styles) for group in groups), *others_shown]
    numbers = [point.rate for rates in all_rates for point in rates.points()]
    bounds = (min(numbers) / 2, max(numbers) * 2.5)
    panels = []
    for rates in all_rates:
        sizes = sorted({point.size for point in rates.points()})
        panels.append(_panel(rates, known if set(sizes) <= set(known) else sizes, bounds))
    notes = [runs.EFFECTIVE, *captions.notes_of_times(shown, results)]
    notes.append("All panels have one scale.")
    if others_shown:
        notes.append("Other programs, each timed in its own way: compare with care.")
        notes += [rates.timed for rates in others_shown]
    return Picture("throughput", "Throughput by problem and engine", panels, notes)


# ---- what is shown


def _groups(results: Sequence[Result]) -> list[list[Result]]:
    """The newest runs of each machine and data: official data first, more images first.

    Streams of any number of images are shown together.
    """
    groups = []
    for some in runs.by_machine(captions.alone(captions.right(results))).values():
        groups += sorted(_newest_by_data(some), key=_order)
    return groups


def _order(group: Sequence[Result]) -> tuple[bool, bool, int]:
    record = group[0].record
    official = runs.problem_of(record).data == "official"
    return not official, record["stream"] is not None, -record["images"]


def _newest_by_data(results: Sequence[Result]) -> list[list[Result]]:
    """The newest run of each configuration and problem, apart by what was inferred."""
    found: dict[tuple[str, str], dict[tuple[str, int, int, int], Result]] = defaultdict(dict)
    for result in results:
        record = result.record
        inputs = record["dataset"]["features_sha256"]
        if runs.problem_of(record).data == "official":
            inputs = ""  # each N has other inputs
        key = runs.configuration(record), *captions.size(record), record["images"]
        data = captions.data(record) if record["stream"] is None else "streamed"
        found[data, inputs][key] = result
    return [list(group.values()) for group in found.values()]


def _own_rates(results: Sequence[Result], styles: Mapping[str, Style]) -> Rates:
    series: dict[str, list[Point]] = {
        name: [] for name in runs.in_order(result.record for result in results)
    }
    for result in sorted(results, key=lambda r: captions.size(r.record)):
        record = result.record
        rate, verified = record["effective_teraedges_per_s"], bool(record["verified"])
        series[runs.configuration(record)].append(Point(*captions.size(record), rate, verified))
    return Rates(
        f"Measured: {captions.device(results[-1].record)}",
        f"{captions.data(*(result.record for result in results))}; {captions.note(results)}",
        series,
        styles,
    )


OTHER_TITLES = {"published": "Published", "measured": "Other programs, measured"}


def _other_rates(others: Sequence[Peer], wanted: Set[tuple[str, tuple[int, int]]]) -> list[Rates]:
    """A panel for each machine and source, of the (device, (neurons, layers)) that are wanted."""
    places: dict[tuple[str, ...], list[Peer]] = defaultdict(list)
    for peer in others:
        if any((peer.device, at) in wanted for at in peer.seconds):
            places[peer.kind, peer.source, peer.machine, peer.date or ""].append(peer)
    styles = other_styles(peer.program for some in places.values() for peer in some)
    made = []
    for (kind, source, machine, date), some in places.items():
        series = {
            peer.program: [
                Point(*at, peer.teraedges_per_s(*at))
                for at in sorted(peer.seconds)
                if (peer.device, at) in wanted
            ]
            for peer in some
        }
        title = f"{OTHER_TITLES[kind]}: {machine}"
        note = f"Source: {source}{f', {date}' if date else ''}"
        timed = [f"{p.program}: {p.timed}{f'; {p.note}' if p.note else ''}" for p in some]
        made.append(Rates(title, note, series, styles, f"Timed, {machine}: {'. '.join(timed)}."))
    return made


# ---- how it is drawn


def _panel(rates: Rates, sizes: Sequence[tuple[int, int]], bounds: tuple[float, float]) -> Panel:
    """The problems of those sizes from left to right, those of the same N joined by a line."""
    groups = sorted({neurons for neurons, _ in sizes})
    place = {at: k + 0.7 * groups.index(at[0]) for k, at in enumerate(sizes)}

    def draw_on(axes: Axes) -> None:
        axes.set_yscale("log")
        axes.set_ylim(*bounds)
        axes.set_xlim(-0.6, max(place.values()) + 0.6)
        powers(axes.yaxis)
        axis_titles(axes, y="TeraEdges/s, effective")
        _name_problems(axes, place)
        ends = []
        for name, points in rates.series.items():
            style = rates.styles[name]
            for neurons in groups:
                line = [(place[p.size], p.rate) for p in points if p.neurons == neurons]
                if line:
                    axes.plot(*zip(*line, strict=True), color=style.colour, linewidth=1.2)
            for point in points:
                style.mark(axes, place[point.size], point.rate, point.verified)
            last = points[-1]
            ends.append(End(place[last.size], last.rate, name, style.colour))
        name_ends(axes, ends)

    return Panel(rates.title, rates.note, HEIGHT, draw_on, right=ROOM_FOR_NAMES, below=0.72)


def _name_problems(axes: Axes, place: Mapping[tuple[int, int], float]) -> None:
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
