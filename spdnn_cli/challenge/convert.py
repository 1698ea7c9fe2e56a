"""From raw files, MNIST or nothing to a dataset file; and back to the official files."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from spdnn_cli import __version__, problem
from spdnn_cli.challenge.radixnet import official_layers
from spdnn_cli.errors import DataError
from spdnn_cli.network.dataset import (
    Dataset,
    extend_dataset,
    layer_sha256,
    open_dataset,
    write_dataset,
)
from spdnn_cli.network.fold import fold, unfold
from spdnn_cli.network.layers import Features, FoldedLayer, Layer
from spdnn_cli.workspace import Workspace

SOURCES = ("tsv", "mnist", "synthetic")
DEFAULT_SEED = 1

ConversionProgress = Callable[[str, float], None]
"""Told what is being done, and how far it is, from 0 to 1."""


def available_source(workspace: Workspace, neurons: int) -> str | None:
    """What the raw files of a problem allow: "tsv", else "mnist", else None."""
    raw = workspace.raw
    if (raw / problem.images_file(neurons)).exists() and _network_source(raw, neurons).exists():
        return "tsv"
    return "mnist" if (raw / problem.MNIST_FILE).exists() else None


def convert(
    workspace: Workspace,
    neurons: int,
    layers: int,
    source: str,
    *,
    seed: int = DEFAULT_SEED,
    threads: int = 1,
    report: ConversionProgress = lambda what, share: None,
) -> Dataset:
    """Make the dataset of a problem, or extend it where it holds fewer layers of the same source.

    Args:
        workspace: where the raw files are and the dataset goes.
        neurons: one of the official N.
        layers: how many layers to hold, from 1 to 1920.
        source: one of `SOURCES`.
        seed: of the synthetic images.
        threads: for inflating and regenerating.
        report: told of the progress.

    Raises:
        DataError: a raw file is missing or damaged, or the disk is full.
    """
    path = workspace.dataset(neurons)
    origin = {"source": source} | ({"seed": seed} if source == "synthetic" else {})
    present = open_dataset(path) if path.exists() else None
    if present is not None and all(present.provenance.get(k) == v for k, v in origin.items()):
        if present.layers < layers:
            read, is_official = _layers_of(workspace, neurons, present.layers, layers, source)
            progress = _count(report, "layers", layers - present.layers)
            present = extend_dataset(path, read, layers, is_official, progress)
    else:
        features = _features_of(workspace, neurons, source, seed, threads, report)
        read, is_official = _layers_of(workspace, neurons, 0, layers, source)
        provenance = origin | {
            "program": f"spdnn {__version__}",
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "files": _file_sizes(workspace.raw, neurons, source),
        }
        present = write_dataset(
            path,
            features,
            read,
            layers,
            problem.YMAX,
            provenance,
            is_official,
            _count(report, "layers", layers),
        )
    workspace.remember(neurons)
    return present


def to_tsv(dataset: Dataset, layers: int, folder: Path, report: ConversionProgress) -> list[Path]:
    """Write a dataset as the official files, laid out below `folder` as below the official address.

    Returns:
        The files written: images and network. (`verify` and `infer` know the categories.)

    Raises:
        DataError: the inputs are not 0/1, the layers are not square, or the disk is full.
    """
    from spdnn_cli.challenge import tsv

    neurons = dataset.neurons
    features = dataset.features()
    if features.array.dtype != np.uint8:
        raise DataError("has inputs that are not 0/1; the files have no place", path=dataset.path)
    images, archive = folder / problem.images_file(neurons), _archive(folder, neurons)
    report("images", 0.0)
    tsv.write_images(images, features.array.view(np.uint8), neurons)
    network, count = dataset.network(layers), _count(report, "layers", layers)

    def edges() -> Iterator[tsv.LayerEdges]:
        for number, folded in enumerate(network.layers, start=1):
            layer = unfold(folded)
            if (layer.inputs, layer.outputs) != (neurons, neurons):
                raise DataError(f"layer {number} is not {neurons} x {neurons}", path=dataset.path)
            yield tsv.LayerEdges(number, layer.columns, layer.targets(), layer.weights)
            count(number)

    tsv.write_layers(archive, neurons, edges())
    return [images, archive]


def _features_of(
    workspace: Workspace,
    neurons: int,
    source: str,
    seed: int,
    threads: int,
    report: ConversionProgress,
) -> Features:
    report("images", 0.0)
    if source == "mnist":
        from spdnn_cli.challenge.mnist import official_features, read_mnist

        images = read_mnist(workspace.raw / problem.MNIST_FILE)
        packed = official_features(
            images, neurons, threads=threads, progress=lambda share: report("images", share)
        )
    elif source == "synthetic":
        from spdnn_cli.challenge.digits import synthetic_features

        packed = synthetic_features(neurons, problem.IMAGES, seed)
    else:
        from spdnn_cli.challenge.tsv import read_images

        path = workspace.raw / problem.images_file(neurons)
        size = max(1, path.stat().st_size) if path.exists() else 1
        packed = read_images(path, neurons, progress=lambda done: report("images", done / size))
    return Features(packed, neurons)


def _layers_of(
    workspace: Workspace, neurons: int, first: int, last: int, source: str
) -> tuple[Iterator[tuple[int, FoldedLayer]], Callable[[int, str], bool]]:
    """Layers first..last-1 with their numbers, and the test whether one is the challenge's own."""
    if source != "tsv":
        return enumerate(official_layers(neurons, first, last), first), lambda number, sha256: True
    official = [layer_sha256(layer) for layer in official_layers(neurons, 0, last)]
    read = _tsv_layers(_network_source(workspace.raw, neurons), neurons, first, last)
    return read, lambda number, sha256: official[number] == sha256


def _tsv_layers(
    path: Path, neurons: int, first: int, last: int
) -> Iterator[tuple[int, FoldedLayer]]:
    from spdnn_cli.challenge import tsv

    bias = problem.BIAS[neurons]
    for edges in tsv.read_layers(path, neurons, last):
        if edges.layer > first:
            layer = Layer.from_edges(
                neurons, neurons, edges.inputs, edges.outputs, edges.weights, bias
            )
            yield edges.layer - 1, fold(layer)


def _network_source(raw: Path, neurons: int) -> Path:
    """The network's archive, or the folder that it was unpacked to."""
    unpacked = raw / f"dnn/neuron{neurons}"
    return unpacked if unpacked.is_dir() else _archive(raw, neurons)


def _archive(folder: Path, neurons: int) -> Path:
    return folder / problem.archive_file(neurons)


def _file_sizes(raw: Path, neurons: int, source: str) -> dict[str, Any]:
    names = {
        "tsv": [problem.images_file(neurons), problem.archive_file(neurons)],
        "mnist": [problem.MNIST_FILE],
        "synthetic": [],
    }[source]
    return {name: (raw / name).stat().st_size for name in names if (raw / name).is_file()}


def _count(report: ConversionProgress, what: str, total: int) -> Callable[[int], None]:
    return lambda done: report(what, done / total)
