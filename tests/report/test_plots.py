"""The pictures: what is drawn for results made by hand, and the files that are written."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Collection
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from helpers.places import ROOT
from helpers.records import (
    COUNT_ONLY,
    MACHINE,
    OFFICIAL,
    STREAM,
    SYNTHETIC,
    UNVERIFIED,
    WRONG,
    made,
    on_devices,
    traced,
    written,
)

from spdnn_cli.engines.registry import ENGINES
from spdnn_cli.errors import ResultError
from spdnn_cli.report import plots, published, roofline
from spdnn_cli.report.plots import alive, captions, labels, overview, scaling, style, throughput
from spdnn_cli.report.plots import roofline as roofline_picture
from spdnn_cli.report.plots.sheet import Picture
from spdnn_cli.results.store import Result, Store

pytest.importorskip("matplotlib", reason="pictures need matplotlib: pip install 'spdnn[plot]'")

SVG = "http://www.w3.org/2000/svg"
DEEPEST = {"layers": 1920, "images": 60_000}


def drawn(picture: Picture | None) -> Any:
    assert picture is not None
    return picture.figure()


def words(figure: Any) -> list[str]:
    """Every piece of text on a figure, with the lines of one joined."""
    from matplotlib.text import Text

    found = [text.get_text() for text in figure.findobj(Text)]
    return [" ".join(text.split("\n")) for text in found if text]


def points(axes: Any) -> list[tuple[float, float]]:
    """The places of all marks."""
    marks = [line for line in axes.get_lines() if line.get_marker() not in ("None", "", None)]
    return [(float(x), float(y)) for line in marks for x, y in line.get_xydata()]


def lines(axes: Any, style: str) -> list[list[tuple[float, float]]]:
    """The places along every line without marks that has a style."""
    return [
        [(float(x), float(y)) for x, y in line.get_xydata()]
        for line in axes.get_lines()
        if line.get_linestyle() == style and line.get_marker() in ("None", "", None)
    ]


# ---- throughput


def test_throughput_has_a_mark_a_problem_and_engine() -> None:
    results = [
        made("tiled", layers=120, effective_teraedges_per_s=5.0),
        made("tiled", layers=480, effective_teraedges_per_s=6.0),
        made("folded", layers=480, effective_teraedges_per_s=70.0),
    ]
    figure = drawn(throughput.picture(results))
    (axes,) = figure.axes
    assert sorted(y for _, y in points(axes)) == [5.0, 6.0, 70.0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["120", "480"]
    assert axes.get_yscale() == "log"
    shown = words(figure)
    assert {"tiled", "folded", "8", "neurons", "layers", "TeraEdges/s, effective"} <= set(shown)
    assert "Measured: 1x NVIDIA H100 80GB HBM3" in shown
    assert "10 images, official; 2026-11-23; every run verified" in shown


def both(*results: Result) -> list[Result]:
    """The results, and one of another problem: a panel needs two."""
    return [*results, made(layers=9, effective_teraedges_per_s=1.0)]


def test_throughput_shows_the_newest_run_of_a_configuration() -> None:
    results = [made(effective_teraedges_per_s=rate) for rate in (1.0, 3.0, 2.0)]
    (axes,) = drawn(throughput.picture(both(*results))).axes
    assert [y for _, y in points(axes)] == [2.0, 1.0]


def test_one_run_makes_no_panel() -> None:
    assert throughput.picture([made()]) is None
    figure = drawn(throughput.picture([*both(made()), made("cpu", folder="a-laptop")]))
    assert len(figure.axes) == 1


def test_throughput_keeps_machines_apart() -> None:
    laptop = {"folder": "a-laptop"}
    figure = drawn(
        throughput.picture([*both(made()), made("cpu", **laptop), made("reference", **laptop)])
    )
    assert len(figure.axes) == 2
    assert {"Measured: 1x NVIDIA H100 80GB HBM3", "Measured: Intel Xeon, 16 cores"} <= set(
        words(figure)
    )


def test_throughput_keeps_other_data_apart() -> None:
    own = SYNTHETIC | {"dataset__features_sha256": "a" * 64}
    results = [*both(made()), made(**own), made(**own, layers=9)]
    figure = drawn(throughput.picture(results))
    assert len(figure.axes) == 2
    assert "10 images, synthetic (not official); 2026-11-23; every run verified" in words(figure)


def test_throughput_shows_streams_of_any_length_together() -> None:
    results = [
        made("folded", effective_teraedges_per_s=9.0),
        made("folded", effective_teraedges_per_s=5.0, layers=9),
        made("folded", effective_teraedges_per_s=7.0, stream=STREAM, images=1000),
        made("folded", effective_teraedges_per_s=8.0, stream=STREAM, images=50, neurons=16),
    ]
    figure = drawn(throughput.picture(results))
    alone, streams = figure.axes
    assert [y for _, y in points(alone)] == [9.0, 5.0]
    assert sorted(y for _, y in points(streams)) == [7.0, 8.0]
    assert "50 to 1,000 images, official; 2026-11-23; every run verified" in words(figure)


def test_what_is_not_verified_is_hollow_and_what_is_wrong_is_not_drawn() -> None:
    results = [
        made("tiled", effective_teraedges_per_s=1.0, **UNVERIFIED),
        made("folded", effective_teraedges_per_s=2.0),
        made("baseline", effective_teraedges_per_s=3.0, **WRONG),
    ]
    picture = throughput.picture(results)
    figure = drawn(picture)
    (axes,) = figure.axes
    fill = {
        float(line.get_ydata()[0]): line.get_markerfacecolor()
        for line in axes.get_lines()
        if line.get_marker() != "None"
    }
    assert fill == {1.0: style.PAPER, 2.0: ENGINES["folded"].colour}
    assert picture is not None
    assert picture.notes[-1] == "Not drawn: 1 of 3 results, whose categories are WRONG."
    assert "Hollow marks: not verified." in picture.notes
    assert "10 images, official; 2026-11-23; 1 of 2 runs not verified" in words(figure)


@pytest.mark.parametrize(
    ("statuses", "words_of_it"),
    [
        ([{}], ", verified"),
        ([COUNT_ONLY], ", verified by count"),
        ([UNVERIFIED], ", not verified"),
        ([{}, {}], "; every run verified"),
        ([{}, COUNT_ONLY], "; every run verified, 1 by count"),
        ([COUNT_ONLY, COUNT_ONLY], "; every run verified, by count"),
        ([UNVERIFIED, COUNT_ONLY], "; 1 of 2 runs not verified, 1 by count"),
    ],
)
def test_captions_say_how_runs_were_verified(
    statuses: list[dict[str, Any]], words_of_it: str
) -> None:
    note = captions.note([made(**status).record for status in statuses])
    assert note == f"2026-11-23{words_of_it}"


def test_runs_on_several_devices_are_not_in_the_throughput() -> None:
    assert throughput.picture([on_devices(2, 1.0), on_devices(4, 1.0)]) is None


# ---- the paper, other programs, and ours


def deepest(engine: str, rate: float, *neurons: int, **changes: Any) -> list[Result]:
    """Runs of the challenge's deepest problems."""
    return [
        made(engine, neurons=n, effective_teraedges_per_s=rate, **(DEEPEST | changes))
        for n in neurons or (1024, 4096)
    ]


def rows_of(axes: Any) -> dict[str, list[float]]:
    """The rates of each row, by its name."""
    names = [label.get_text().replace("\n", " ") for label in axes.get_yticklabels()]
    rows: dict[str, list[float]] = {name: [] for name in names}
    for x, y in points(axes):
        rows[names[round(y)]].append(x)
    return rows


def test_overview_has_the_paper_others_and_our_engines_on_one_axis() -> None:
    results = [*deepest("tiled", 100.0), *deepest("folded", 1000.0, 1024, 65536)]
    picture = overview.picture(results)
    assert picture is not None
    (axes,) = drawn(picture).axes
    rows = rows_of(axes)
    assert rows["tiled"] == [100.0, 100.0]
    assert rows["folded"] == [1000.0, 1000.0]
    assert rows["paper, 1 V100"] == [14.30, 13.88, 7.84, 3.93]
    assert rows["paper, 6 V100"] == [24.77, 44.48, 33.62, 20.88]
    assert rows["paper, 768 V100"] == [28.83, 82.32, 146.40, 171.37]
    (snicit,) = [p for p in published.peers() if p.key == "snicit-h100"]
    # Of the two machines of a program the faster one
    assert rows["SNICIT, H100 80GB HBM3"] == pytest.approx(
        [snicit.teraedges_per_s((n, 1920)) for n in (1024, 4096, 16384, 65536)]
    )
    assert list(rows)[-1] == "folded"  # the fastest is above all others
    assert axes.get_xscale() == "log"
    shown = {text.get_text() for text in axes.get_legend().get_texts()}
    assert shown == {"neurons:", "1024", "4096", "16384", "65536"}
    assert axes.get_xlabel() == "TeraEdges/s, effective"
    assert picture.notes[1].startswith("Black: the paper, Hidayetoglu et al., HPEC 2020, https://")


def test_overview_is_of_the_machine_with_most_to_show_a_gpu_first() -> None:
    laptop = {"folder": "a-laptop"}
    results = [
        *deepest("tiled", 100.0),
        *deepest("cpu", 5.0, 1024, 4096, 16384, **laptop),
        *deepest("folded", 7.0, 1024, 4096, 16384, folder="b", machine__cores=8),
    ]
    rows = rows_of(drawn(overview.picture(results)).axes[0])
    assert rows["folded"] == [7.0] * 3
    assert "tiled" not in rows
    on_cpu = overview.picture(deepest("cpu", 5.0, **laptop))
    rows = rows_of(drawn(on_cpu).axes[0])
    assert "cpu (2 threads)" in rows
    assert not any(name.startswith("paper") for name in rows)
    assert any(name.startswith("SuiteSparse:GraphBLAS") for name in rows)


@pytest.mark.parametrize(
    "changes", [{"images": 59_999}, {"layers": 480}, SYNTHETIC, WRONG, {"stream": STREAM}]
)
def test_other_runs_make_no_overview(changes: dict[str, Any]) -> None:
    assert overview.picture(deepest("tiled", 1.0, **changes)) is None


def test_one_problem_makes_no_overview() -> None:
    assert overview.picture(deepest("tiled", 1.0, 1024)) is None


# ---- images alive


def test_alive_without_a_trace() -> None:
    picture = alive.picture([made()])
    figure = drawn(picture)
    (axes,) = figure.axes
    assert lines(axes, "-") == [[(0, 10), (1, 5), (2, 5), (3, 3), (4, 3)]]
    assert lines(axes, ":") == []
    assert {"8 neurons", "3 alive", "layers done", "images"} <= set(words(figure))
    assert picture is not None
    assert picture.notes[1].endswith("none is here: spdnn infer --trace.")


def test_alive_marks_where_all_images_had_finished() -> None:
    figure = drawn(alive.picture([made(), made("folded", alive=(5, 5, 3))]))
    (axes,) = figure.axes
    assert len(lines(axes, "-")[0]) == 5  # the deeper run is shown
    ((at, _), _) = lines(axes, ":")[0]
    assert at == 3
    assert "all finished after layer 3" in words(figure)


def test_alive_and_saturated_of_a_trace(tmp_path: Path) -> None:
    # Ten images. Five die in layer 1, two in layer 3. Image 0 saturates in layer 2, image 1 in
    # layer 3, and image 2 runs to the end.
    lifetimes = [2, 3, 4, 1, 1, 1, 1, 1, 3, 3]
    result = traced(made(), tmp_path, lifetimes, [0, 1, 2])
    picture = alive.picture([result])
    (axes,) = drawn(picture).axes
    living, running = lines(axes, "-")
    (saturated,) = lines(axes, "--")
    assert living == [(0, 10), (1, 5), (2, 5), (3, 3), (4, 3)]
    assert [y for _, y in running] == [10, 5, 4, 1, 1]
    assert [y for _, y in saturated][2:] == [1, 2, 2]
    assert {"3 alive", "saturated for good", "still running"} <= set(words(axes.figure))
    assert picture is not None
    assert picture.notes[1].startswith("Saturated for good: every value is at YMAX")


def test_nothing_is_said_of_saturation_where_no_image_is_known_to_have_saturated(
    tmp_path: Path,
) -> None:
    result = traced(made(), tmp_path, [4, 4, 4, 1, 1, 1, 1, 1, 3, 3], [0, 1, 2])
    picture = alive.picture([result])
    (axes,) = drawn(picture).axes
    assert lines(axes, "-") == [[(0, 10), (1, 5), (2, 5), (3, 3), (4, 3)]]
    assert lines(axes, "--") == []
    assert picture is not None
    assert picture.notes[1].endswith("none is here: spdnn infer --trace.")


def test_alive_has_a_panel_a_problem_two_beside_each_other() -> None:
    picture = alive.picture([made(neurons=n) for n in (8, 16, 32)])
    assert picture is not None
    assert [panel.title for panel in picture.panels] == ["8 neurons", "16 neurons", "32 neurons"]
    first, second, third = (axes.get_position() for axes in picture.figure().axes)
    assert first.y0 == pytest.approx(second.y0)
    assert first.x1 < second.x0
    assert third.x0 == pytest.approx(first.x0)
    assert third.y1 < first.y0


def test_alive_shows_most_images_but_rather_a_traced_run_and_no_repeated_images(
    tmp_path: Path,
) -> None:
    few = made(images=5, alive=(4, 4, 3, 3))
    repeated = made(images=20, stream=STREAM, alive=(10, 10, 6, 6))
    (axes,) = drawn(alive.picture([few, repeated, made()])).axes
    assert [y for _, y in lines(axes, "-")[0]] == [10, 5, 5, 3, 3]
    short = traced(few, tmp_path, [2, 4, 4, 1, 2], [0, 1, 2])
    (axes,) = drawn(alive.picture([short, repeated, made()])).axes
    assert [y for _, y in lines(axes, "-")[0]] == [5, 4, 3, 3, 3]


# ---- scaling


def test_scaling_needs_two_numbers_of_devices() -> None:
    assert scaling.picture([made(), on_devices(1, 1.0)]) is None
    assert scaling.picture([on_devices(2, 1.0)]) is None


def test_scaling_is_the_rate_by_devices_of_each_partition() -> None:
    results = [
        on_devices(1, 8.0, "contiguous"),
        on_devices(2, 5.0, "contiguous"),
        on_devices(2, 4.0),
        on_devices(4, 2.5, **UNVERIFIED),
    ]
    figure = drawn(scaling.picture(results))
    (axes,) = figure.axes
    assert lines(axes, "-") == [[(1, 1.5), (2, 2.4)], [(1, 1.5), (2, 3), (4, 4.8)]]
    assert lines(axes, ":") == [[(1, 1.5), (2, 3)], [(1, 1.5), (4, 6)]]  # ideal
    assert lines(axes, "--") == []
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "4"]
    assert {
        "8 neurons, 4 layers: 8x NVIDIA H200",
        "10 images, official; 2026-11-23; 1 of 4 runs not verified",
        "tiled, contiguous: 2.4",
        "tiled, snake: 4.8",
        "devices",
        "TeraEdges/s, effective",
    } <= set(words(figure))


def test_the_papers_curve_is_behind_ours() -> None:
    size = OFFICIAL | {"layers": 1920}
    picture = scaling.picture([on_devices(1, 8.0, **size), on_devices(2, 4.0, **size)])
    figure = drawn(picture)
    (axes,) = figure.axes
    behind, ours = lines(axes, "-")
    assert behind[:2] == [(1, 14.30), (3, 22.26)]
    assert behind[-1] == (768, 28.83)
    assert ours == [(1, 1.5), (2, 3)]
    assert "the paper" in words(figure)
    assert picture is not None
    assert any(note.startswith("Grey, behind: the paper's figures") for note in picture.notes)


def test_a_slow_down_is_on_the_axes() -> None:
    results = [on_devices(1, 4.0), on_devices(2, 8.0)]
    (axes,) = drawn(scaling.picture(results)).axes
    low, high = axes.get_ylim()
    assert all(low < y < high for _, y in points(axes))
    assert 1.5 in [y for _, y in points(axes)]


def test_numbers_of_an_axis_have_room() -> None:
    assert scaling.thinned([1, 2, 4]) == [1, 2, 4]
    many = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768]
    assert scaling.thinned(many) == [1, 4, 16, 64, 256, 768]
    assert scaling.thinned([2]) == [2]


def test_of_two_launchers_the_faster_one_is_shown() -> None:
    slow = on_devices(2, 6.0, launch__launcher="mpi")
    results = [on_devices(1, 8.0), slow, on_devices(2, 4.0)]
    (axes,) = drawn(scaling.picture(results)).axes
    assert lines(axes, "-") == [[(1, 1.5), (2, 3)]]


def test_projections_are_dashed_and_named(tmp_path: Path) -> None:
    # Ten images that all live for 4 layers. 8 s for 40 image-layers and 4.4 s for 20 of them: 0.8 s
    # for the layers of a rank, and 0.18 s for each image-layer. So the rank with most images takes
    # 3.68 s with 4 of them (3 devices), 2.24 s with 2 (6 devices), and 1.52 s with 1.
    alone = traced(on_devices(1, 8.0), tmp_path, [4] * 10, [0, 1, 2])
    picture = scaling.picture([alone, on_devices(2, 4.4)])
    figure = drawn(picture)
    (axes,) = figure.axes
    contiguous, snake = sorted(lines(axes, "--"))
    assert contiguous[0] == (1, 1.5)  # of that partition nothing but one device was measured
    assert [x for x, _ in snake] == [2, 3, 6, 12, 24, 48, 96, 192, 384, 768]
    assert [y for _, y in snake][:4] == pytest.approx([12 / 4.4, 12 / 3.68, 12 / 2.24, 12 / 1.52])
    assert len(points(axes)) == 3
    assert "tiled, snake: projected 7.89" in words(figure)
    assert picture is not None
    assert any(note.startswith("Dashed, without marks: projected") for note in picture.notes)


# ---- roofline


SMALL = {"edges": 640}
"""16 edges a layer, for 4 layers and 10 images; 320 of them ran."""


def test_least_bytes_of_a_layered_run() -> None:
    # Input bits 10 x 1 byte; weights 4 layers x 16 edges x 6 bytes; values of 8 neurons x 4 bytes:
    # written for 5 + 5 + 3 + 3 images, read for 5 + 5 + 3.
    values = 32 * (16 + 13)
    assert roofline.least_bytes(made("tiled", **SMALL).record) == 10 + 4 * 16 * 6 + values
    assert roofline.least_bytes(made("baseline", **SMALL).record) == 10 + 4 * 16 * 8 + values


def test_least_bytes_of_a_folded_run_are_the_input_bits() -> None:
    record = made("folded", neurons=1024, **SMALL).record
    assert roofline.least_bytes(record) == 10 * 128
    assert roofline.intensity(record) == 320 / 1280


@pytest.mark.parametrize(
    "changes",
    [
        {"engine": "reference"},
        {"engine": "of-another-program"},
        {"device_memory": 10**9},
        {"stream": STREAM},
        {"launch__workers": 2},
    ],
)
def test_least_bytes_are_not_known_of(changes: dict[str, Any]) -> None:
    record = made(**changes).record
    assert roofline.least_bytes(record) is None
    assert roofline.intensity(record) is None


def test_roofline_has_the_deepest_run_of_each_engine_below_its_roof() -> None:
    results = [
        made("tiled", layers=4, executed_teraedges_per_s=4.0, **SMALL),
        made("tiled", layers=2, executed_teraedges_per_s=3.0, alive=(5, 5), **SMALL),
        made("folded", executed_teraedges_per_s=2.0, **SMALL),
    ]
    figure = drawn(roofline_picture.picture(results))
    (axes,) = figure.axes
    assert [y for _, y in points(axes)] == [4.0, 2.0]
    assert [x for x, _ in points(axes)] == pytest.approx([320 / 1322, 32])
    (slope,) = lines(axes, "-")
    assert [y / x for x, y in slope] == pytest.approx([3.02, 3.02])
    (level,) = lines(axes, "--")
    assert [y for _, y in level] == pytest.approx([33.1 / 4] * 2)
    assert {"tiled", "folded", "8", "device memory: 3.02 TB/s"} <= set(words(figure))


@pytest.mark.parametrize("engines", [["tiled"], ["folded"], ["baseline", "tiled", "folded"]])
def test_roofs_are_named_in_their_panel(engines: list[str]) -> None:
    rate = {"executed_teraedges_per_s": 0.5}
    results = [made(engine, neurons=n, **SMALL, **rate) for engine in engines for n in (8, 16)]
    figure = drawn(roofline_picture.picture(results))
    (axes,) = figure.axes
    inside = axes.get_window_extent()
    names = [box for text, box in boxes(figure) if text.startswith(("device memory", "shared"))]
    assert len(names) == 2
    for box in names:
        assert inside.x0 <= box.x0 < box.x1 <= inside.x1 + 1
        assert inside.y0 <= box.y0 < box.y1 <= inside.y1


@pytest.mark.parametrize("rate", [2.0, 9.0, 12.0, 30.0])
def test_no_mark_above_the_level_roof_covers_its_name(rate: float) -> None:
    results = [
        made(engine, neurons=n, executed_teraedges_per_s=rate + k, **SMALL)
        for engine in ("tiled", "folded")
        for k, n in enumerate((1024, 65536))
    ]
    figure = drawn(roofline_picture.picture(results))
    (name,) = [text for text, _ in boxes(figure) if text.startswith("shared memory")]
    assert overlaps(figure, {name, "1024", "65536", "tiled", "folded"}) == []


def test_no_roof_for_a_machine_whose_ceilings_are_not_known() -> None:
    gpus = [{"name": "Another GPU", "uuid": "GPU-1", "driver": "1"}]
    picture = roofline_picture.picture([made(e, machine__gpus=gpus) for e in ("tiled", "folded")])
    (axes,) = drawn(picture).axes
    assert (lines(axes, "-"), lines(axes, "--")) == ([], [])
    assert len(points(axes)) == 2
    assert picture is not None
    assert not any("roof" in note.lower() for note in picture.notes)
    assert picture.panels[0].note.endswith(
        "no roof: what this machine can do at most was not measured"
    )


def test_axes_of_a_roofline_have_two_numbers_at_least() -> None:
    results = [made("cpu", neurons=n, **SMALL) for n in (8, 16)]
    (axes,) = drawn(roofline_picture.picture(results)).axes
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        assert sum(low <= tick <= high for tick in axis.get_majorticklocs()) >= 2


def test_no_roofline_without_known_bytes() -> None:
    assert roofline_picture.picture([made("reference"), made("reference", layers=9)]) is None


def test_one_run_makes_no_roofline() -> None:
    assert roofline_picture.picture([made("tiled")]) is None


# ---- labels


def test_labels_that_fit_stay() -> None:
    assert labels.spread([1.0, 3.0, 2.0], [0.5] * 3, 4.0) == [1.0, 3.0, 2.0]


def test_labels_that_overlap_move_apart_about_their_middle() -> None:
    assert labels.spread([2.0, 2.0], [1.0, 1.0], 10.0) == pytest.approx([1.5, 2.5])
    assert labels.spread([2.0, 2.0], [1.0, 3.0], 10.0) == pytest.approx([1.0, 3.0])


def test_labels_stay_below_the_ceiling() -> None:
    assert labels.spread([4.0, 4.0], [1.0, 1.0], 4.0) == pytest.approx([2.5, 3.5])


def test_labels_stay_above_the_floor() -> None:
    assert labels.spread([0.0, 0.0], [1.0, 1.0], 4.0) == pytest.approx([0.5, 1.5])


NAMES = ("baseline", "cusparse", "tiled", "folded", "reference", "cpu-layered")


def boxes(figure: Any) -> list[tuple[str, Any]]:
    """Where each piece of text is, in dots; not the line that leads from it to its mark."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    return [
        (text.get_text(), Text.get_window_extent(text, renderer))
        for text in figure.findobj(Text)
        if text.get_text()
    ]


def overlaps(figure: Any, wanted: Collection[str]) -> list[tuple[str, str]]:
    """Which of the wanted texts cover each other; all of them are there."""
    found = [(text, box) for text, box in boxes(figure) if text in wanted]
    assert {text for text, _ in found} == set(wanted)
    return [
        (one, other)
        for (one, box), (other, its) in combinations(found, 2)
        if box.overlaps(its.shrunk(0.98, 0.98))
    ]


def test_no_name_of_a_series_covers_another() -> None:
    results = [made(name, device="cuda", effective_teraedges_per_s=2.0) for name in NAMES]
    assert overlaps(drawn(throughput.picture(results)), NAMES) == []


def test_no_label_of_a_roofline_covers_another() -> None:
    results = [
        made(engine, neurons=8 << k, executed_teraedges_per_s=2.0 + k / 10)
        for k, engine in enumerate(("baseline", "cusparse", "tiled", "folded"))
    ]
    wanted = {"baseline", "cusparse", "tiled", "folded", "8", "16", "32", "64"}
    assert overlaps(drawn(roofline_picture.picture(results)), wanted) == []


def test_nothing_of_a_picture_is_cut_at_the_edges_of_the_paper(tmp_path: Path) -> None:
    alone = traced(on_devices(1, 8.0), tmp_path, [4] * 10, [0, 1, 2])
    results = [alone, on_devices(2, 4.4)]
    for engine in NAMES:
        size = {"effective_teraedges_per_s": 1e6, "device": "cuda"}
        results += [made(engine, **size, **(OFFICIAL | {"device_memory": 8_000_000_000}))]
        results += deepest(engine, 1e6, 1024, 65536, device="cuda")
    names = []
    for picture in plots.pictures(results):
        names.append(picture.name)
        figure = picture.figure()
        width, height = figure.get_size_inches()
        box = figure.get_tightbbox()
        assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= 0, picture.name
    assert names == ["overview", "scaling", "throughput", "alive", "roofline"]


def test_no_text_of_the_overview_covers_another() -> None:
    figure = drawn(overview.picture(deepest("tiled", 1.0)))
    (axes,) = figure.axes
    boxes(figure)  # draws it, which puts the labels into their places
    labels_there = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert len(labels_there) > 15
    for below, above in pairwise(labels_there):
        assert below.y1 <= above.y0 + 1


def test_an_engine_looks_the_same_in_all_panels_and_no_two_of_a_panel_alike() -> None:
    alone, other = style.engine_styles(["tiled"]), style.engine_styles(["folded", "tiled"])
    assert alone[0] == other[1]
    many = style.engine_styles(["tiled", "tiled", "folded", "of tomorrow", "of tomorrow"])
    assert len(set(many)) == len(many)
    assert len({look.marker for look in many}) == len(many)
    assert many[0].colour == many[1].colour


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.1, "0.1"), (1, "1"), (1234.5, "1,230"), (100_000, "100,000"), (1e-6, "1e-06")],
)
def test_numbers_of_labels(value: float, text: str) -> None:
    assert style.number(value) == text


# ---- files


def one_of_each() -> list[Result]:
    ours = [*deepest("tiled", 5.0), *deepest("folded", 7.0)]
    return [*ours, on_devices(1, 2.0), on_devices(2, 1.0)]


def test_svg_is_well_formed_and_has_every_picture(tmp_path: Path) -> None:
    file = tmp_path / "new" / "all.SVG"
    plots.draw(one_of_each(), file)
    root = ElementTree.parse(file).getroot()
    assert root.tag == f"{{{SVG}}}svg"
    texts = {"".join(text.itertext()).strip() for text in root.iter(f"{{{SVG}}}text")}
    assert {
        "The paper, other programs, and this one",
        "Strong scaling: more devices, the same images",
        "Throughput by problem and engine",
        "Images alive after each layer",
        "Roofline: what bounds the engines",
    } <= texts
    assert [path.name for path in file.parent.iterdir()] == ["all.SVG"]


def test_same_results_same_svg(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        plots.draw(one_of_each(), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_png(tmp_path: Path) -> None:
    file = tmp_path / "all.png"
    plots.draw([made()], file)
    assert file.read_bytes().startswith(b"\x89PNG\r\n")


@pytest.mark.parametrize(("name", "what"), [("a.pdf", ".pdf"), ("a", "a file without suffix")])
def test_another_suffix_is_an_error(tmp_path: Path, name: str, what: str) -> None:
    with pytest.raises(ResultError) as raised:
        plots.draw([made()], tmp_path / name)
    assert str(raised.value) == (
        f"{tmp_path / name}: pictures are written as SVG or PNG, not as {what}. "
        "Name the file .svg or .png."
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("results", [[], [made(**WRONG)]])
def test_nothing_to_draw_is_an_error(tmp_path: Path, results: list[Result]) -> None:
    with pytest.raises(ResultError) as raised:
        plots.draw(results, tmp_path / "a.svg")
    assert str(raised.value) == (
        f"{tmp_path / 'a.svg'}: there is nothing to draw: no result has categories that are right. "
        "Run spdnn infer first."
    )


def test_without_matplotlib_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ResultError) as raised:
        plots.draw([made()], tmp_path / "a.svg")
    assert str(raised.value) == (
        "pictures need matplotlib, which is not installed. Run pip install 'spdnn[plot]'."
    )


def test_failed_drawing_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.svg"
    file.write_text("old")

    def full(figure: Any, part: Any, form: str) -> None:
        Path(part).write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plots, "save", full)
    with pytest.raises(Exception, match="No space left on device"):
        plots.draw([made()], file)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.svg", "old")]


def test_committed_results_fill_the_pictures() -> None:
    results = Store(ROOT / "results").all()
    pictures = plots.pictures(results)
    names = [picture.name for picture in pictures]
    assert names == ["overview", "scaling", "throughput", "alive", "roofline"]
    for picture in pictures:
        plots.save(picture.figure(), io.BytesIO(), "svg")
    assert any(result.machine == MACHINE for result in results)


# ---- a user's own settings


def with_settings(folder: Path, text: bytes | None, **environment: str) -> dict[str, bytes]:
    """Draws both kinds of pictures and a page in a process that has such settings."""
    folder.mkdir()
    if text is not None:
        (folder / "matplotlibrc").write_bytes(text)
    results = folder.parent / "results"
    for number, result in enumerate(one_of_each()):
        written(result, results, f"n{number}")
    words = ["--results-dir", str(results), "report", "--html", "a.html", "--plot"]
    made = {}
    for file in ("a.svg", "a.png"):
        done = subprocess.run(
            [sys.executable, "-c", "from spdnn_cli.cli import main; main()", *words, file],
            cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, f"Pictures: {file}\nPage: a.html\n")
        made[file] = (folder / file).read_bytes()
    return made | {"a.html": (folder / "a.html").read_bytes()}


STRANGE = b"""text.usetex: True
font.family: serif
figure.dpi: 300
savefig.dpi: 30
savefig.bbox: tight
svg.fonttype: path
axes.grid: True
lines.linewidth: 9
no.such.thing: 1
backend: Qt5Agg
"""


@pytest.mark.slow
def test_a_users_settings_change_no_byte(tmp_path: Path) -> None:
    (tmp_path / "config" / "matplotlib").mkdir(parents=True)
    for name in ("config/matplotlib/matplotlibrc", "rc"):
        (tmp_path / name).write_bytes(STRANGE)
    (tmp_path / "file").touch()
    wanted = with_settings(tmp_path / "none", None)

    settings: list[tuple[bytes | None, dict[str, str]]] = [
        (STRANGE, {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}),
        (b"\xff\xfe is no text", {"MPLBACKEND": "nonsense"}),
        (None, {"MATPLOTLIBRC": str(tmp_path / "rc"), "MPLCONFIGDIR": str(tmp_path / "file")}),
        (None, {"XDG_CONFIG_HOME": str(tmp_path / "config"), "MPLBACKEND": "TkAgg"}),
    ]
    for number, (text, environment) in enumerate(settings):
        assert with_settings(tmp_path / str(number), text, **environment) == wanted


def test_settings_of_a_program_that_draws_itself_are_left_as_they_were(tmp_path: Path) -> None:
    import matplotlib as mpl

    plots.draw(one_of_each(), tmp_path / "plain.svg")
    with mpl.rc_context({"font.size": 30, "text.usetex": True, "svg.hashsalt": "another"}):
        plots.draw(one_of_each(), tmp_path / "a.svg")
        assert (mpl.rcParams["font.size"], mpl.rcParams["text.usetex"]) == (30, True)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "plain.svg").read_bytes()
