"""Pictures from result files: throughput, images alive, scaling, roofline.

Each function describes one picture of the results that can fill it (`Picture`; None: none can).
Runs of unlike machines never share a panel, and neither do measured and published numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spdnn_cli import peers, problem, runs
from spdnn_cli import roofline as roof
from spdnn_cli import scaling as strong_scaling
from spdnn_cli.atomic import written_aside
from spdnn_cli.errors import ResultError
from spdnn_cli.peers import Peer
from spdnn_cli.plot_style import (
    ENGINE_COLOURS,
    INK,
    MARKERS,
    MUTED,
    OTHER_COLOURS,
    PAPER,
    SMALL,
    Panel,
    Picture,
    axis_title,
    import_figure,
    name_ends,
    name_points,
    number,
    powers,
    sheet,
)
from spdnn_cli.result import Result
from spdnn_cli.runs import Record
from spdnn_cli.scaling import Row, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".svg", ".png")
DOTS_PER_INCH = 200


def draw(results: Sequence[Result], path: Path) -> None:
    """Write one file with all pictures that the results can fill, SVG or PNG by its suffix.

    Other programs' numbers are those of published.yaml (`peers.load`).

    Raises:
        ResultError: another suffix; matplotlib is not installed; nothing to draw.
        DataError: the file cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ResultError(
            f"pictures are written as SVG or PNG, not as {path.suffix or 'a file without suffix'}",
            path=path,
            hint="Name the file .svg or .png.",
        )
    import_figure()
    made = pictures(results)
    if not made:
        raise ResultError(
            "there is nothing to draw: no result has categories that are right",
            path=path,
            hint="Run spdnn infer first.",
        )
    with written_aside(path) as part:
        save(sheet(made), part, path.suffix.lower()[1:])


def save(figure: Any, file: Any, form: str) -> None:
    """Write a figure as "svg" or "png" to a path or a stream; same data, same bytes."""
    import matplotlib as mpl

    # Letters stay letters in an SVG: smaller, sharp, and found by a search.
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "spdnn"}
    with mpl.rc_context(settings):
        metadata = {"Date": None} if form == "svg" else None
        figure.savefig(file, format=form, dpi=DOTS_PER_INCH, metadata=metadata)


def pictures(results: Sequence[Result]) -> list[Picture]:
    """Every picture that the results can fill, in the order in which they are shown."""
    made = (
        throughput(results, peers.load()),
        images_alive(results),
        scaling(results),
        roofline(results),
    )
    return [picture for picture in made if picture is not None]


# ---- what the pictures have in common


def _right(results: Iterable[Result]) -> list[Result]:
    """The results whose categories were not found wrong."""
    return [result for result in results if runs.mark(result.record) != " !"]


def _alone(results: Iterable[Result]) -> list[Result]:
    """Runs of one device, without those of the kernel table, for which tile shapes were asked."""
    return [r for r in results if runs.workers(r.record) == 1 and not runs.asks_for_tile(r.record)]


def _colour(engine: str) -> str:
    return ENGINE_COLOURS.get(engine, OTHER_COLOURS[-2])


def _data(record: Record) -> str:
    """What was inferred: how many images of which source."""
    data = runs.problem_of(record).data
    return f"{record['images']:,} images, {data}{'' if data == 'official' else ' (not official)'}"


def _device(record: Record) -> str:
    """What computed, in words: the GPUs, or the processor."""
    cpu, cores, gpus = runs.hardware(record)
    return ", ".join(f"{gpus.count(name)}x {name}" for name in dict.fromkeys(gpus)) or (
        f"{cpu}, {cores} cores"
    )


def _note(results: Sequence[Result]) -> str:
    """When some results were made, and whether they were verified."""
    dates = sorted({str(result.record["created"])[:10] for result in results})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    unsure = sum(not result.record["verified"] for result in results)
    if len(results) == 1:
        return f"{when}, {'not ' if unsure else ''}verified"
    if unsure == 0:
        return f"{when}; every run verified"
    return f"{when}; {unsure} of {len(results)} runs not verified"


def _problem(record: Record) -> tuple[int, int]:
    return record["neurons"], record["layers"]


def _notes(shown: Sequence[Result], results: Sequence[Result]) -> list[str]:
    """What must be known of the runs that are shown, and how many are not."""
    records = [result.record for result in shown]
    words = [line for line in runs.notes(records) if line not in runs.MARKS.values()]
    if not all(record["verified"] for record in records):
        words.append("Hollow marks: not verified.")
    wrong = len(results) - len(_right(results))
    if wrong:
        words.append(f"Not drawn: {wrong} of {len(results)} results, whose categories are WRONG.")
    return words


# ---- throughput

Point = tuple[tuple[int, int], float, bool]
"""(neurons, layers), TeraEdges/s, whether verified."""


@dataclass(frozen=True)
class _Rates:
    """A panel of rates: its series by name, each with a colour; what was timed, of others."""

    title: str
    note: str
    series: Mapping[str, Sequence[Point]]
    colours: Mapping[str, str]
    timed: str = ""

    def problems(self) -> set[tuple[int, int]]:
        return {at for points in self.series.values() for at, _, _ in points}

    def rates(self) -> list[float]:
        return [rate for points in self.series.values() for _, rate, _ in points]


def throughput(results: Sequence[Result], others: Sequence[Peer] = ()) -> Picture | None:
    """Rates by problem and engine, a panel a machine; other programs in panels of their own.

    The rate is the challenge's: TeraEdges/s, all edges of the problem / median seconds of
    inference. Of each configuration the newest run counts. Others are shown on the problems that
    the results have with the official data and all images, if they ran on such a device.
    """
    groups = [
        list(of_data.values())
        for some in runs.by_machine(_alone(_right(results))).values()
        for of_data in _newest_by_data(some).values()
    ]
    if not groups:
        return None
    shown = [result for group in groups for result in group]
    official = {
        (r.record["device"], _problem(r.record))
        for r in shown
        if _data(r.record) == f"{problem.IMAGES:,} images, official"
    }
    known = sorted({at for _, at in official})
    own, other = [_own_rates(group) for group in groups], _other_rates(others, official)
    rates = [rate for panel in (*own, *other) for rate in panel.rates()]
    bounds = (min(rates) / 2, max(rates) * 2.5)
    panels = [
        _rates_panel(panel, known if panel.problems() <= set(known) else None, bounds)
        for panel in (*own, *other)
    ]
    notes = [runs.EFFECTIVE, *_notes(shown, results), "All panels have one scale."]
    if other:
        notes.append("Other programs, each timed in its own way: compare with care.")
        notes += [panel.timed for panel in other]
    return Picture("throughput", "Throughput by problem and engine", [[p] for p in panels], notes)


def _newest_by_data(
    results: Sequence[Result],
) -> dict[tuple[str, str], dict[tuple[str, int, int], Result]]:
    """The newest run of each configuration and problem, apart by what was inferred."""
    found: dict[tuple[str, str], dict[tuple[str, int, int], Result]] = defaultdict(dict)
    for result in results:
        record = result.record
        data = (_data(record), record["dataset"]["features_sha256"])
        if record["dataset"]["official_inputs"] and record["dataset"]["official_network"]:
            data = (data[0], "")  # each N has other inputs
        neurons, layers = _problem(record)
        found[data][runs.configuration(record), neurons, layers] = result
    return found


def _own_rates(results: Sequence[Result]) -> _Rates:
    series: dict[str, list[Point]] = {
        name: [] for name in runs.in_order(result.record for result in results)
    }
    for result in sorted(results, key=lambda r: _problem(r.record)):
        record = result.record
        point = (_problem(record), record["effective_teraedges_per_s"], bool(record["verified"]))
        series[runs.configuration(record)].append(point)
    return _Rates(
        f"Measured: {_device(results[-1].record)}",
        f"{_data(results[0].record)}; {_note(results)}",
        series,
        {name: _colour(name.split()[0]) for name in series},
    )


OTHER_TITLES = {"published": "Published", "measured": "Other programs, measured"}


def _other_rates(others: Sequence[Peer], wanted: Set[tuple[str, tuple[int, int]]]) -> list[_Rates]:
    """A panel for each machine and source, of the (device, (neurons, layers)) that are wanted."""
    places: dict[tuple[str, ...], list[Peer]] = defaultdict(list)
    for peer in others:
        if any((peer.device, at) in wanted for at in peer.seconds):
            places[peer.kind, peer.source, peer.machine, peer.date or ""].append(peer)
    made = []
    for (kind, source, machine, date), some in places.items():
        series = {
            peer.program: [
                (at, peer.teraedges_per_s(*at), True)
                for at in sorted(peer.seconds)
                if (peer.device, at) in wanted
            ]
            for peer in some
        }
        colours = dict(zip(series, cycle(OTHER_COLOURS), strict=False))
        timed = [f"{p.program}: {p.timed}{f'; {p.note}' if p.note else ''}" for p in some]
        made.append(
            _Rates(
                f"{OTHER_TITLES[kind]}: {machine}",
                f"Source: {source}{f', {date}' if date else ''}",
                series,
                colours,
                f"Timed, {machine}: {'. '.join(timed)}.",
            )
        )
    return made


def _rates_panel(
    rates: _Rates, problems: Sequence[tuple[int, int]] | None, bounds: tuple[float, float]
) -> Panel:
    """A panel with the problems from left to right, those of the same N joined by a line."""
    columns = sorted(rates.problems()) if problems is None else list(problems)
    groups = sorted({neurons for neurons, _ in columns})
    place = {at: k + 0.7 * groups.index(at[0]) for k, at in enumerate(columns)}

    def draw_on(axes: Axes) -> None:
        axes.set_yscale("log")
        axes.set_ylim(*bounds)
        axes.set_xlim(-0.6, max(place.values()) + 0.6)
        powers(axes.yaxis)
        axes.grid(False, axis="x")
        axes.set_xticks(list(place.values()), [str(layers) for _, layers in columns])
        below: Any = {"transform": axes.get_xaxis_transform(), "size": SMALL, "va": "center"}
        for neurons in groups:
            there = [place[at] for at in columns if at[0] == neurons]
            centre = sum(there) / len(there)
            axes.text(centre, -0.33 / height, f"N = {neurons}", color=INK, ha="center", **below)
        axes.text(-0.75, -0.13 / height, "layers", color=MUTED, ha="right", **below)
        ends = []
        for marker, (name, points) in zip(cycle(MARKERS), rates.series.items(), strict=False):
            colour = rates.colours[name]
            for neurons in groups:
                there_ = [(place[at], rate) for at, rate, _ in points if at[0] == neurons]
                if there_:
                    axes.plot(*zip(*there_, strict=True), color=colour, linewidth=1.2)
            for at, rate, verified in points:
                axes.plot(
                    place[at], rate, marker, color=colour, markersize=4.5,
                    markerfacecolor=colour if verified else PAPER,
                )  # fmt: skip
            at, rate, _ = points[-1]
            ends.append((place[at], rate, name, colour))
        axis_title(axes, y="TeraEdges/s, effective")
        name_ends(axes, ends)

    height = 1.75
    return Panel(rates.title, rates.note, height, draw_on, right=1.45, below=0.5)


# ---- images alive


@dataclass(frozen=True)
class _Lives:
    """How many images live after each layer, from layer 0 (the inputs) on.

    Attributes:
        alive: neither all zero: those still running and the saturated ones.
        saturated: of these, the ones that stay at YMAX for good; None: the run was not traced.
    """

    alive: Any
    saturated: Any | None


def images_alive(results: Sequence[Result]) -> Picture | None:
    """Images alive by layer, a panel a problem, with those saturated for good apart.

    `alive` of a result counts live images, saturated ones too, for every engine. Which of them are
    saturated for good is known of a traced run alone (`spdnn infer --trace`): an image that is a
    category, and entered fewer layers than there are, had saturated. Of a run that retires finished
    images, the last layer that ran is known: by then all of them had finished.
    """
    groups: dict[tuple[int, str, str], list[Result]] = defaultdict(list)
    for result in _right(results):
        if result.record["alive"]:
            inputs = result.record["dataset"]["features_sha256"]
            groups[result.record["neurons"], _data(result.record), inputs].append(result)
    if not groups:
        return None
    chosen = {key: _plainest(some) for key, some in sorted(groups.items())}
    lives = {key: _lives(result) for key, result in chosen.items()}
    panels = [_alive_panel(chosen[key], lives[key], groups[key]) for key in chosen]
    traced = any(counts.saturated is not None for counts in lives.values())
    notes = ["Alive: not all values are zero. The layer axis ends where nothing changes any more."]
    if traced:
        notes.append(
            "Saturated for good: every value is at YMAX, and each later layer is proved to keep "
            "that. Still running: neither dead nor saturated for good."
        )
    else:
        notes.append(
            "How many of the live images are saturated for good, layer by layer, is known of "
            "traced runs only, and none is here: spdnn infer --trace."
        )
    notes += _notes(list(chosen.values()), results)
    rows = [panels[k : k + 2] for k in range(0, len(panels), 2)]
    return Picture("alive", "Images alive after each layer", rows, notes)


def _plainest(results: Sequence[Result]) -> Result:
    """A traced run, else the deepest, of the paper's engine, else what skips least; the newest.

    Of a network's first layers all runs tell the same, but for rounding.
    """

    def order(result: Result) -> tuple[object, ...]:
        record = result.record
        traced, folded = record["lifetimes"] is not None, record["shortcuts"]["twins_folded"]
        return traced, len(record["alive"]), record["engine"] == "tiled", not folded

    return max(reversed(results), key=order)


def _lives(result: Result) -> _Lives:
    record = result.record
    alive = np.array([record["images"], *record["alive"]])
    if record["lifetimes"] is None:
        return _Lives(alive, None)
    lifetimes = result.lifetimes()
    survives = np.zeros(len(lifetimes), bool)
    survives[result.categories()] = True
    # A survivor that entered every layer had not saturated before the last one; nor after it, for
    # all that is known.
    finished = lifetimes[survives & (lifetimes < record["layers"])]
    if len(finished) == 0:
        return _Lives(alive, None)
    layers = np.arange(len(alive))
    dead = np.searchsorted(np.sort(lifetimes[~survives]), layers, side="right")
    saturated = np.searchsorted(np.sort(finished), layers, side="right")
    return _Lives(record["images"] - dead, saturated)


def _alive_panel(shown: Result, lives: _Lives, results: Sequence[Result]) -> Panel:
    """The counts of one run, and where runs of the same inputs that retire images ended."""
    record = shown.record
    finished = [
        len(r.record["alive"])
        for r in results
        if r.record["shortcuts"]["finished_images_retired"]
        and len(r.record["alive"]) < r.record["layers"]
    ]
    last = min(finished) if finished else None
    changes = np.flatnonzero(np.diff(lives.alive))
    if lives.saturated is not None:
        changes = np.append(changes, np.flatnonzero(np.diff(lives.saturated)))
    end = max(int(changes.max(initial=0)) + 2, last or 0) + 4
    run = f"{runs.configuration(record)}, {record['layers']} layers, {_data(record)}"
    note = f"{run}; {_device(record)}; {_note([shown])}"

    def draw_on(axes: Axes) -> None:
        layers = np.arange(min(end, len(lives.alive) - 1) + 1)
        axes.set_yscale("log")
        axes.set_xlim(0, end)
        lowest = 1.0 if lives.saturated is not None else max(1, lives.alive.min() / 4)
        axes.set_ylim(0.8 * lowest, lives.alive[0] * 3)
        powers(axes.yaxis)
        axis_title(axes, "layers done", "images")
        drawn = [("alive", lives.alive, INK, "-", 1.8)]
        if lives.saturated is not None:
            drawn.append(
                ("saturated for good", lives.saturated, ENGINE_COLOURS["cusparse"], "--", 1.4)
            )
            drawn.append(
                ("still running", lives.alive - lives.saturated, ENGINE_COLOURS["tiled"], "-", 1.2)
            )
        for name, counts, colour, dashes, width in drawn:
            some = counts[layers].astype(float)
            some[some == 0] = np.nan
            axes.plot(layers, some, dashes, color=colour, linewidth=width, label=name)
        if last is not None:
            name = f"all finished after layer {last}"
            axes.axvline(last, color=MUTED, linewidth=0.9, linestyle=":", label=name)
        final = int(lives.alive[-1])
        axes.text(end, final / 1.2, f"{final:,}", size=7, color=INK, va="top", ha="right")
        if len(drawn) > 1 or last is not None:
            axes.legend(
                fontsize=7, facecolor=PAPER, edgecolor=PAPER, framealpha=1, labelcolor=INK,
                loc="upper right", borderpad=0.2, labelspacing=0.25, handlelength=1.8,
            )  # fmt: skip

    return Panel(f"N = {record['neurons']}", note, 1.7, draw_on, right=0.2, below=0.48)


# ---- scaling


def scaling(results: Sequence[Result]) -> Picture | None:
    """Speed-up by devices, with the ideal line, a panel a machine and problem; projections dashed.

    The series are those of the table (`strong_scaling.all_series`), where they have two numbers of
    devices at least. Where a number of devices was run by two launchers, the faster one counts.
    """
    groups: dict[tuple[str, runs.Problem], list[Series]] = defaultdict(list)
    for series in strong_scaling.all_series(results):
        if len({row.devices for row in series.rows}) > 1:
            groups[series.machine, series.problem].append(series)
    if not groups:
        return None
    by_record = {id(result.record): result for result in results}
    drawn: dict[Path, Result] = {}
    panels = []
    for (_, of), some in groups.items():
        records = [row.record for series in some for row in series.rows if row.record is not None]
        shown = {by_record[id(record)].path: by_record[id(record)] for record in records}
        title = f"{of.neurons} neurons, {of.layers} layers: {_device(records[0])}"
        note = f"{_data(records[0])}; {_note(list(shown.values()))}"
        panels.append([_scaling_panel(title, note, some)])
        drawn |= shown
    notes = [
        "Speed-up: of the slowest device's median seconds, from a common start, over one device "
        "(the fewest measured count as ideal); gathering the categories is not in it. Dotted: "
        "ideal. Beside each line: seconds on the most devices.",
        *_notes(list(drawn.values()), results),
    ]
    if any(row.record is None for some in groups.values() for s in some for row in s.rows):
        notes.insert(
            1,
            "Dashed, without marks: projected, not measured. The scaling table says how, and with "
            "what error.",
        )
    return Picture("scaling", "Strong scaling", panels, notes)


def _scaling_panel(title: str, note: str, some: Sequence[Series]) -> Panel:
    def draw_on(axes: Axes) -> None:
        counts = sorted({row.devices for series in some for row in series.rows})
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xlim(counts[0] / 1.1, counts[-1] * 1.1)
        axes.set_ylim(counts[0] / 1.3, counts[-1] * 1.3)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(counts, [str(count) for count in counts])
            axis.set_ticks([], minor=True)
        axis_title(axes, "devices", "speed-up")
        axes.plot(axes.get_xlim(), axes.get_xlim(), ":", color=MUTED, linewidth=1.0)
        ends = []
        for marker, series in zip(cycle(MARKERS), some, strict=False):
            colour = _colour(series.engine.split()[0])
            fastest = _fastest(series)
            at = [(row.devices, series.speed_up(row)) for row in fastest]
            measured = [row for row in fastest if row.record is not None]
            _line(axes, at[: len(measured)], "-", colour)
            if len(measured) < len(fastest):
                _line(axes, at[len(measured) - 1 :], "--", colour)
            for row, place in zip(measured, at, strict=False):
                sure = row.record is not None and row.record["verified"]
                fill = colour if sure else PAPER
                axes.plot(*place, marker, color=colour, markersize=4.5, markerfacecolor=fill)
            last = fastest[-1]
            state = "projected " if last.record is None else ""
            name = f"{series.engine}, {series.partition}: {state}{number(last.seconds)}\u00a0s"
            ends.append((*at[-1], name, colour))
        name_ends(axes, ends)

    return Panel(title, note, 2.2, draw_on, right=1.6, below=0.5)


def _fastest(series: Series) -> list[Row]:
    """One row for each number of devices, ascending; projected ones come last."""
    best: dict[int, Row] = {}
    for row in series.rows:
        if row.devices not in best or row.seconds < best[row.devices].seconds:
            best[row.devices] = row
    return [best[devices] for devices in sorted(best)]


def _line(axes: Axes, places: Sequence[tuple[int, float]], dashes: str, colour: str) -> None:
    axes.plot([x for x, _ in places], [y for _, y in places], dashes, color=colour, linewidth=1.2)


# ---- roofline


def roofline(results: Sequence[Result]) -> Picture | None:
    """Executed edges a second by executed edges a byte, a panel a machine, below its roof.

    What a byte is, and which runs have a known number of them: see the module `roofline`.
    """
    panels, sources, drawn = [], [], []
    for some in runs.by_machine(_alone(_right(results))).values():
        deepest: dict[tuple[str, int, str], Result] = {}
        for result in sorted(some, key=lambda r: r.record["layers"]):
            record = result.record
            if roof.least_bytes(record) and record["executed_edges"]:
                deepest[runs.configuration(record), record["neurons"], _data(record)] = result
        shown = list(deepest.values())
        if shown:
            panels.append(_roof_panel(shown))
            drawn += shown
            known = roof.ceilings(shown[-1].record)
            sources += [f"Roofs: {known.source}."] if known else []
    if not panels:
        return None
    notes = [
        "Edges per byte: executed multiply-adds and adds / the bytes that the method must move at "
        "least. Layered engines: weights once a layer (8 bytes an edge in CSR, 6 in tiled), input "
        "bits, and 4 bytes x neurons x images for each layer's values, written once and read once. "
        "Folded engines: input bits only (images x neurons / 8); their values stay on the chip.",
        "The sloping roof is device memory; values that stay in the L2 cache may pass it. The "
        "level line is one 4-byte read of shared memory an edge; an engine that reads once for "
        "several outputs, or keeps values in registers, may pass that.",
        "Beside each mark: neurons. Of each engine and N the deepest problem, its newest run.",
        *dict.fromkeys(sources),
        *_notes(drawn, results),
    ]
    return Picture("roofline", "Roofline: what bounds the engines", [[p] for p in panels], notes)


def _roof_panel(results: Sequence[Result]) -> Panel:
    known = roof.ceilings(results[-1].record)
    series: dict[str, list[tuple[float, float, Record]]] = defaultdict(list)
    for result in results:
        edges_per_byte = roof.intensity(result.record)
        if edges_per_byte is not None:
            at = (edges_per_byte, result.record["executed_teraedges_per_s"], result.record)
            series[runs.configuration(result.record)].append(at)

    def draw_on(axes: Axes) -> None:
        points = [(x, y) for some in series.values() for x, y, _ in some]
        low, high = min(x for x, _ in points) / 4, max(x for x, _ in points) * 4
        floor, top = min(y for _, y in points) / 3, max(y for _, y in points) * 3
        axes.set_xscale("log")
        axes.set_yscale("log")
        if known is not None:
            slope, level = known.memory_bytes_per_s / 1e12, known.shared_edges_per_s / 1e12
            top = max(top, level * 5)
            axes.plot([low, high], [slope * low, slope * high], color=INK, linewidth=1.3)
            axes.plot([low, high], [level, level], "--", color=INK, linewidth=1.0)
            axes.text(
                high, level * 1.12, f"shared memory, 4 bytes an edge: {level:.1f} TeraEdges/s",
                size=7, color=INK, ha="right", va="bottom",
            )  # fmt: skip
            axes.text(
                1.15 * top / slope, top / 1.25, f"device memory: {slope:.2f} TB/s",
                size=7, color=INK, ha="left", va="top",
            )  # fmt: skip
        axes.set_xlim(low, high)
        axes.set_ylim(floor, top)
        powers(axes.xaxis)
        powers(axes.yaxis)
        axis_title(axes, "executed edges per byte that must move", "TeraEdges/s, executed")
        for marker, (name, some) in zip(cycle(MARKERS), series.items(), strict=False):
            colour = _colour(name.split()[0])
            for x, y, record in some:
                fill = colour if record["verified"] else PAPER
                axes.plot(x, y, marker, color=colour, markersize=5, markerfacecolor=fill)
            labels = [(x, y, str(record["neurons"])) for x, y, record in some]
            name_points(axes, labels, name, colour)

    return Panel(_device(results[-1].record), _note(results), 2.9, draw_on, right=0.3, below=0.5)
