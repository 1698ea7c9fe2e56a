"""The official problem N = 1024, L = 120, from MNIST to the official categories."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spdnn_cli import problem
from spdnn_cli.challenge.convert import convert
from spdnn_cli.challenge.official import official_depth
from spdnn_cli.engines.choice import choose
from spdnn_cli.engines.protocol import EngineOptions
from spdnn_cli.engines.registry import create
from spdnn_cli.network.dataset import Dataset
from spdnn_cli.results.record import Status, Verification
from spdnn_cli.run.truth import known_truth, verification
from spdnn_cli.workspace import Workspace

LAYERS = 120


@pytest.fixture(scope="module")
def workspace(challenge: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace whose raw files are MNIST alone."""
    folder = tmp_path_factory.mktemp("official")
    workspace = Workspace(folder / "datasets", folder / "results")
    workspace.raw.mkdir(parents=True)
    (workspace.raw / problem.MNIST_FILE).symlink_to(challenge / problem.MNIST_FILE)
    return workspace


@pytest.fixture(scope="module")
def dataset(workspace: Workspace) -> Dataset:
    return convert(workspace, 1024, LAYERS, "mnist", threads=2)


def test_the_data_are_known_as_the_official(workspace: Workspace, dataset: Dataset) -> None:
    assert dataset.images == problem.IMAGES
    assert dataset.features_sha256 == problem.FEATURES_SHA256[1024]
    assert official_depth(dataset) == dataset.layers == LAYERS
    bits = np.unpackbits(dataset.features().array)
    assert np.count_nonzero(bits) == problem.INPUT_NONZEROS[1024]
    assert dataset.network().edges * dataset.images == problem.OfficialProblem(1024, LAYERS).edges


@pytest.mark.parametrize("name", ["cpu", "cpu-layered"])
def test_the_categories_are_the_official(
    name: str, workspace: Workspace, dataset: Dataset, challenge: Path
) -> None:
    engine = create(name, EngineOptions(threads=2))
    engine.prepare(dataset.network())
    engine.upload(dataset.features())
    found = engine.infer()

    official = challenge / f"neuron1024-l{LAYERS}-categories.tsv"
    wanted = [int(line) - 1 for line in official.read_text().split()]
    assert found.categories.tolist() == wanted
    assert len(wanted) == problem.SURVIVORS[1024]
    assert found.alive[0] == 54687  # later counts hang on the rounding of exact ties
    assert found.alive[-1] == len(wanted)

    truth = known_truth(workspace, dataset, LAYERS, dataset.images)
    assert truth is not None
    source = "the official categories (SHA-256)"
    assert verification(found.categories, truth) == Verification(Status.VERIFIED, source)
    assert verification(found.categories[1:], truth) == Verification(
        Status.WRONG, source, "1811 categories, 1812 are right"
    )
    swapped = np.sort(np.append(found.categories[1:], 0).astype(np.int32))
    assert 0 not in found.categories
    assert verification(swapped, truth) == Verification(
        Status.WRONG, source, "1812 categories, as is right, but not the same ones"
    )


def test_auto_takes_the_folding_engine(dataset: Dataset) -> None:
    assert choose("auto", "cpu", "cpu", dataset.network()).engine == "cpu"
