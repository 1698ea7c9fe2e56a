"""From raw files, MNIST or nothing to a dataset file; and back to the official files."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from spdnn_cli import __version__, problem
from spdnn_cli.challenge import raw_files
from spdnn_cli.challenge.radixnet import official_layers
from spdnn_cli.errors import DataError
from spdnn_cli.locking import alone_at
from spdnn_cli.network.dataset import (
    Dataset,
    extend_dataset,
    open_dataset,
    write_dataset,
)
from spdnn_cli.network.fold import fold, unfold
from spdnn_cli.network.layers import Features, FoldedLayer, Layer
from spdnn_cli.workspace import Workspace

SOURCES = ("tsv", "mnist", "synthetic")
DEFAULT_SEED = 1

Note = Callable[[str], None]
"""Told, in one sentence, of what the user may wonder about."""

ConversionProgress = Callable[[str, float], None]
"""Told what is being done, and how far it is, from 0 to 1."""


def available_source(workspace: Workspace, neurons: int) -> str | None:
    """What the raw files of a problem allow: "tsv", else "mnist", else None."""
    return raw_files.source(workspace.raw, neurons)


def convert(
    workspace: Workspace,
    neurons: int,
    layers: int,
    source: str,
    *,
    seed: int = DEFAULT_SEED,
    threads: int = 1,
    report: ConversionProgress = lambda what, share: None,
    note: Note = lambda sentence: None,
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
        note: told that another process is at work on the same dataset, which is waited for.

    Raises:
        DataError: a raw file is missing or damaged, or the disk is full.
    """
    path = workspace.dataset(neurons)
    with alone_at(path, lambda: note(f"Another spdnn is converting {path}; waiting for it.")):
        return _convert(workspace, neurons, layers, source, seed, threads, report)


def _convert(
    workspace: Workspace,
    neurons: int,
    layers: int,
    source: str,
    seed: int,
    threads: int,
    report: ConversionProgress,
) -> Dataset:
    """`convert`, by the one process that holds the dataset's lock."""
    path = workspace.dataset(neurons)
    origin = {"source": source} | ({"seed": seed} if source == "synthetic" else {})
    present = open_dataset(path) if path.exists() else None
    if present is not None and all(present.provenance.get(k) == v for k, v in origin.items()):
        if present.layers < layers:
            read = _layers_of(workspace, neurons, present.layers, layers, source)
            progress = _count(report, "layers", layers - present.layers)
            present = extend_dataset(path, read, layers, progress)
    else:
        features = _features_of(workspace, neurons, source, seed, threads, report)
        read = _layers_of(workspace, neurons, 0, layers, source)
        provenance = origin | {
            "program": f"spdnn {__version__}",
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "files": _file_sizes(workspace.raw, neurons, layers, source),
        }
        present = write_dataset(
            path,
            features,
            read,
            layers,
            problem.YMAX,
            provenance,
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
        raise DataError("cannot be written as TSV: its inputs are not 0/1", path=dataset.path)
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

        images = read_mnist(raw_files.mnist_file(workspace.raw))
        packed = official_features(
            images, neurons, threads=threads, progress=lambda share: report("images", share)
        )
    elif source == "synthetic":
        from spdnn_cli.challenge.digits import synthetic_features

        packed = synthetic_features(neurons, problem.IMAGES, seed)
    else:
        from spdnn_cli.challenge.tsv import read_images

        path = raw_files.images_file(workspace.raw, neurons)
        size = max(1, path.stat().st_size) if path.exists() else 1
        packed = read_images(path, neurons, progress=lambda done: report("images", done / size))
    return Features(packed, neurons)


def _layers_of(
    workspace: Workspace, neurons: int, first: int, last: int, source: str
) -> Iterator[tuple[int, FoldedLayer]]:
    """Layers first..last-1, each with its number from 0."""
    if source != "tsv":
        return enumerate(official_layers(neurons, first, last), first)
    return _tsv_layers(raw_files.network(workspace.raw, neurons, last), neurons, first, last)


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


def _archive(folder: Path, neurons: int) -> Path:
    return folder / problem.archive_file(neurons)


def _file_sizes(raw: Path, neurons: int, layers: int, source: str) -> dict[str, Any]:
    files = {
        "tsv": [raw_files.images_file(raw, neurons), raw_files.network(raw, neurons, layers)],
        "mnist": [raw_files.mnist_file(raw)],
        "synthetic": [],
    }[source]
    return {
        path.relative_to(raw).as_posix(): path.stat().st_size for path in files if path.is_file()
    }


def _count(report: ConversionProgress, what: str, total: int) -> Callable[[int], None]:
    return lambda done: report(what, done / total)
