"""The engine of docs/engines.md, taken from there: registered, and compared with `reference`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from networks import YMAX, network_of, plain_run, problems
from test_docs import ROOT, blocks

from spdnn_cli import engines
from spdnn_cli.challenge.digits import synthetic_features
from spdnn_cli.challenge.radixnet import official_layers
from spdnn_cli.engines import registry
from spdnn_cli.engines.protocol import EngineOptions, Inference
from spdnn_cli.engines.registry import EngineEntry, create
from spdnn_cli.network.dataset import write_dataset
from spdnn_cli.network.fold import make_network
from spdnn_cli.network.layers import Features, Layer, Network
from spdnn_cli.run.measure import RunOptions
from spdnn_cli.run.measure import run as measured_run
from spdnn_cli.workspace import Workspace

NEURONS, DEPTH, IMAGES = 1024, 12, 300
"""Two blocks of the challenge's network, and synthetic digits, most of which die on the way."""


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The example's name; it is registered as the page says, and its file is among the engines."""
    module, entry = blocks(ROOT / "docs" / "engines.md", "python")
    ((name, where),) = eval(f"{{{entry}}}", {"EngineEntry": EngineEntry}).items()
    folder = tmp_path_factory.mktemp("engines")
    (folder / f"{where.module}.py").write_text(module, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "__path__", [str(folder), *engines.__path__])
        patch.setitem(registry.ENGINES, name, where)
        yield name
    sys.modules.pop(f"spdnn_cli.engines.{where.module}", None)


@pytest.fixture(scope="module")
def network() -> Network:
    return make_network(list(official_layers(NEURONS, 0, DEPTH)), YMAX)


@pytest.fixture(scope="module")
def digits() -> Features:
    return Features(synthetic_features(NEURONS, IMAGES, 1), NEURONS)


def test_places_that_name_an_engine_are_there() -> None:
    """Each `NAME` in `path` of the page."""
    page = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    places = re.findall(r"`(\w+)` in\s`([\w/]+\.py)`", page)
    assert len(places) >= 8
    absent = [
        (name, path)
        for name, path in places
        if not re.search(rf"^(def )?{name}\b", (ROOT / path).read_text("utf-8"), re.MULTILINE)
    ]
    assert absent == []


def run(name: str, network: Network, features: Features) -> Inference:
    engine = create(name, EngineOptions())
    engine.prepare(network)
    engine.upload(features)
    return engine.infer()


def test_it_agrees_with_the_reference(name: str, network: Network, digits: Features) -> None:
    found, wanted = run(name, network, digits), run("reference", network, digits)
    assert 0 < len(wanted.categories) < IMAGES
    np.testing.assert_array_equal(found.categories, wanted.categories)
    assert found.categories.dtype == np.int32
    assert found.executed_edges == wanted.executed_edges
    assert found.alive == wanted.alive


@given(problem=problems(exact=True))
def test_it_takes_any_network(name: str, problem: tuple[list[Layer], Features]) -> None:
    layers, features = problem
    alive = plain_run(layers, features.values(0, features.images))
    network = network_of(layers)
    found, wanted = run(name, network, features), run("reference", network, features)
    assert found.categories.tolist() == np.flatnonzero(alive[-1]).tolist()
    assert (found.executed_edges, found.alive) == (wanted.executed_edges, wanted.alive)


def test_it_runs_again_and_takes_other_images(
    name: str, network: Network, digits: Features
) -> None:
    engine = create(name, EngineOptions())
    engine.prepare(network)
    for first, last in ((0, IMAGES), (100, 250)):
        some = Features(digits.array[first:last], NEURONS)
        wanted = run("reference", network, some).categories.tolist()
        engine.upload(some)
        assert wanted
        assert [engine.infer().categories.tolist() for _ in range(2)] == [wanted] * 2


def test_a_whole_run_measures_it(
    name: str, network: Network, digits: Features, tmp_path: Path
) -> None:
    """As `spdnn infer` runs it, from a dataset file to a record; its stages are booked."""
    written = write_dataset(
        tmp_path / "own.h5", digits, enumerate(network.layers), DEPTH, YMAX, {"source": "own"}
    )
    workspace = Workspace(tmp_path, tmp_path / "results")
    measured = measured_run(
        workspace, lambda: written, RunOptions(engine=name, device="cpu", repeat=2)
    )
    assert measured is not None
    record = measured.record
    assert (record["engine"], record["device"]) == (name, "cpu")
    assert record["shortcuts"] == {
        "dead_images_dropped": True,
        "twins_folded": False,
        "finished_images_retired": False,
    }
    assert all(record["timings_s"][stage] > 0 for stage in ("read", "prepare", "upload"))
    wanted = run("reference", network, digits)
    assert measured.categories.tolist() == wanted.categories.tolist()
    assert record["executed_edges"] == wanted.executed_edges
