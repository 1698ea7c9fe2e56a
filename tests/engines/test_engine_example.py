"""The engine of docs/engines.md, taken from there: named by its file, and by an entry point."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.networks import YMAX, network_of, plain_run, problems
from helpers.pages import ROOT, blocks
from hypothesis import given

from spdnn_cli.challenge.digits import synthetic_features
from spdnn_cli.challenge.radixnet import official_layers
from spdnn_cli.cli import cli
from spdnn_cli.engines import registry
from spdnn_cli.engines.protocol import EngineOptions, Inference
from spdnn_cli.engines.registry import create, find
from spdnn_cli.network.dataset import write_dataset
from spdnn_cli.network.fold import make_network
from spdnn_cli.network.layers import Features, Layer, Network

NEURONS, DEPTH, IMAGES = 1024, 12, 300
"""Two blocks of the challenge's network, and synthetic digits, most of which die on the way."""
PAGE = ROOT / "docs" / "engines.md"
INFER = re.compile(r"--engine (\w+)\.py:(\w+)")


@pytest.fixture(scope="module", params=["file", "entry point"])
def name(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The example's name: `FILE.py:Class`; or that of the entry point, in an installed package."""
    (module,), (entry_point,) = blocks(PAGE, "python"), blocks(PAGE, "toml")
    shown = INFER.search("\n".join(blocks(PAGE, "sh")))
    assert shown is not None
    stem, class_name = shown.groups()
    folder = tmp_path_factory.mktemp("engine")
    (folder / f"{stem}.py").write_text(module, encoding="utf-8")
    if request.param == "file":
        yield f"{folder / stem}.py:{class_name}"
        return
    with pytest.MonkeyPatch.context() as patch:
        _install(folder, entry_point)
        patch.syspath_prepend(folder)
        registry._installed.cache_clear()
        yield entry_point.splitlines()[1].split(" = ")[0]
    registry._installed.cache_clear()


def _install(folder: Path, entry_point: str) -> None:
    """What an installer writes for these lines of a pyproject.toml."""
    heading, line = entry_point.splitlines()
    group = re.fullmatch(r'\[project\.entry-points\."([\w.]+)"\]', heading)
    assert group is not None
    about = folder / "own_engines-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: own-engines\nVersion: 1.0\n")
    target = line.replace('"', "")
    (about / "entry_points.txt").write_text(f"[{group[1]}]\n{target}\n")


@pytest.fixture(scope="module")
def network() -> Network:
    return make_network(list(official_layers(NEURONS, 0, DEPTH)), YMAX)


@pytest.fixture(scope="module")
def digits() -> Features:
    return Features(synthetic_features(NEURONS, IMAGES, 1), NEURONS)


def run(name: str, network: Network, features: Features) -> Inference:
    engine = create(name, EngineOptions())
    engine.prepare(network)
    engine.upload(features)
    return engine.infer()


def test_its_entry_is_made_from_its_class(name: str) -> None:
    entry = find(name)
    assert (entry.name, entry.device) == (name, "cpu")
    assert entry.summary == "SciPy, float32, all images at once"


def test_it_agrees_with_the_reference(name: str, network: Network, digits: Features) -> None:
    own, expected = run(name, network, digits), run("reference", network, digits)
    assert 0 < len(expected.categories) < IMAGES
    np.testing.assert_array_equal(own.categories, expected.categories)
    assert own.categories.dtype == np.int32
    assert own.executed_edges == expected.executed_edges
    assert own.alive == expected.alive


@given(problem=problems(exact=True))
def test_it_takes_any_network(name: str, problem: tuple[list[Layer], Features]) -> None:
    layers, features = problem
    alive = plain_run(layers, features.values(0, features.images))
    network = network_of(layers)
    own, expected = run(name, network, features), run("reference", network, features)
    assert own.categories.tolist() == np.flatnonzero(alive[-1]).tolist()
    assert (own.executed_edges, own.alive) == (expected.executed_edges, expected.alive)


def test_it_runs_again_and_takes_other_images(
    name: str, network: Network, digits: Features
) -> None:
    engine = create(name, EngineOptions())
    engine.prepare(network)
    for first, last in ((0, IMAGES), (100, 250)):
        part = Features(digits.array[first:last], NEURONS)
        expected = run("reference", network, part).categories.tolist()
        engine.upload(part)
        assert expected
        assert [engine.infer().categories.tolist() for _ in range(2)] == [expected] * 2


def test_the_command_runs_it(name: str, network: Network, digits: Features, tmp_path: Path) -> None:
    """From a dataset file to a record; its stages are booked."""
    file = tmp_path / "own.h5"
    write_dataset(file, digits, enumerate(network.layers), DEPTH, YMAX, {"source": "own"})
    folders = ["--data-dir", str(tmp_path), "--results-dir", str(tmp_path / "results")]
    words = ["infer", "--dataset", str(file), "--engine", name, "--repeat", "2", "--format", "json"]
    done = CliRunner().invoke(cli, [*folders, *words], catch_exceptions=False)
    record = json.loads(done.stdout)
    assert (record["engine"], record["device"]) == (name, "cpu")
    assert record["shortcuts"] == {
        "dead_images_dropped": True,
        "twins_folded": False,
        "finished_images_retired": False,
    }
    assert all(record["timings_s"][stage] > 0 for stage in ("read", "prepare", "upload"))
    expected = run("reference", network, digits)
    assert record["survivors"] == len(expected.categories)
    assert record["executed_edges"] == expected.executed_edges


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no class 'ScipyEngine'"),
        ("class ScipyEngine: pass", "does not name its device"),
        ("import no_such_module", "cannot be imported (ModuleNotFoundError"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "own.py"
    file.write_text(text, encoding="utf-8")
    done = CliRunner().invoke(cli, ["infer", "--engine", f"{file}:ScipyEngine"])
    assert done.exit_code == 2
    assert words in " ".join(done.stderr.split())
