"""Is the answer right? Categories against the truth that is known, at no cost; or by the reference.

Truths, best first:
1. the official categories file of the problem, where `fetch` brought it;
2. for the official data: the official list of N = 1024 (its SHA-256), else the official count;
3. for the synthetic data of the default seed: the stored answer of the reference engine.

A dataset is official, or the default synthetic one, by the SHA-256 of its inputs and by comparing
its layers with the challenge's own when they were converted; its name proves nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spdnn_cli import problem
from spdnn_cli.errors import DataError, VerificationError
from spdnn_cli.network.dataset import Dataset
from spdnn_cli.network.layers import Int32
from spdnn_cli.workspace import Workspace

MOST_NAMED = 5
"""Images that a message names; of the others it gives the number."""


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of the right categories: the list, or its checksum, or only its length.

    Attributes:
        source: where it comes from, for the reader of a result.
        count: number of categories.
        sha256: of the list as `categories_sha256` takes it, or None.
        categories: int32, ascending, from 0; or None.
    """

    source: str
    count: int
    sha256: str | None = None
    categories: Int32 | None = None


def categories_sha256(categories: Int32) -> str:
    """SHA-256 of the categories as the official file holds them: one 1-based number a line."""
    return hashlib.sha256(categories_text(categories).encode()).hexdigest()


def categories_text(categories: Int32) -> str:
    """The text of the official categories file."""
    return "".join(f"{image + 1}\n" for image in categories.tolist())


def known_truth(workspace: Workspace, dataset: Dataset, layers: int, images: int) -> Truth | None:
    """The best truth that costs no inference; None where none is known."""
    official_network = dataset.official_layers >= layers
    if not official_network or dataset.neurons not in problem.NEURONS:
        return None
    if dataset.features_sha256 == problem.FEATURES_SHA256[dataset.neurons]:
        return _official_truth(workspace, dataset, layers, images)
    stored = problem.SYNTHETIC_ANSWERS.get((dataset.features_sha256, layers))
    if stored is None or images != dataset.images:
        return None
    return Truth("the stored answer of the reference engine for the synthetic images", *stored)


def _official_truth(
    workspace: Workspace, dataset: Dataset, layers: int, images: int
) -> Truth | None:
    file = workspace.raw / problem.categories_file(dataset.neurons, layers)
    if file.exists():
        return read_truth(file, dataset.neurons, layers, images)
    if layers not in problem.LAYERS or images != problem.IMAGES:
        return None
    count, sha256 = problem.SURVIVORS[dataset.neurons], problem.CATEGORIES_SHA256[dataset.neurons]
    what = f"{count} official survivors" if sha256 is None else "the official categories (SHA-256)"
    return Truth(what, count, sha256)


def read_truth(path: Path, neurons: int, layers: int, images: int) -> Truth:
    """The truth in an official categories file, as far as it is about the first `images` images.

    Raises:
        DataError: the file is damaged.
        VerificationError: its name says that it belongs to another problem.
    """
    from spdnn_cli.challenge import tsv

    if not path.exists():
        raise DataError("there is no such file", path=path, hint="Name a categories file.")
    of = tsv.categories_problem(path)
    if of is not None and of != (neurons, layers):
        raise VerificationError(
            f"is the truth of N={of[0]}, L={of[1]}; the result is of N={neurons}, L={layers}",
            path=path,
        )
    categories = tsv.read_categories(path)
    # Images do not depend on each other: the first K have the same categories among them.
    categories = categories[categories < images]
    return Truth(f"the official categories file {path.name}", len(categories), None, categories)


def difference(categories: Int32, truth: Truth) -> str | None:
    """How the categories differ from the truth, in words; None where they do not."""
    if truth.categories is not None:
        return _difference_of_lists(categories, truth.categories)
    if len(categories) != truth.count:
        return f"{len(categories)} categories, {truth.count} are right"
    if truth.sha256 is not None and categories_sha256(categories) != truth.sha256:
        return f"{len(categories)} categories, as is right, but not the same ones"
    return None


def _difference_of_lists(categories: Int32, truth: Int32) -> str | None:
    missing, extra = np.setdiff1d(truth, categories), np.setdiff1d(categories, truth)
    parts = [
        f"{len(images)} {word} (images {_named(images)})"
        for word, images in (("missing", missing), ("too many", extra))
        if len(images)
    ]
    return " and ".join(parts) or None


def _named(images: Int32) -> str:
    """The first few images, numbered from 1 as in the official files."""
    named = ", ".join(str(image + 1) for image in images[:MOST_NAMED].tolist())
    return named + (", ..." if len(images) > MOST_NAMED else "")
