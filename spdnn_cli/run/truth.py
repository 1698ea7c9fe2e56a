"""Verification: compare the categories of a run with the right ones, as far as they are known.

Truths that need no inference, the best one first:
1. the official categories file of the problem, if `fetch` brought it;
2. for the official data: the official list of N = 1024 (its SHA-256), else the official count;
3. for the synthetic data of the default seed: the stored answer of the reference engine.

The SHA-256 of the inputs and of the layers tell whether a dataset is official, or the default
synthetic one. They are computed before a truth is used: names and notes in the file prove nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spdnn_cli import problem
from spdnn_cli.challenge.official import official_depth
from spdnn_cli.errors import DataError, ResultError, VerificationError
from spdnn_cli.network.dataset import Dataset
from spdnn_cli.network.layers import Int32
from spdnn_cli.results.record import Status, Verification
from spdnn_cli.results.store import categories_sha256
from spdnn_cli.workspace import Workspace

MOST_NAMED = 5
"""Most images that a message names."""


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of the right categories: the list, or its checksum, or only its length.

    Attributes:
        source: where it comes from, for the reader of a result.
        count: number of categories.
        sha256: SHA-256 of the list, as from `categories_sha256`; or None.
        categories: int32, ascending, from 0; or None.
    """

    source: str
    count: int
    sha256: str | None = None
    categories: Int32 | None = None


def known_truth(workspace: Workspace, dataset: Dataset, layers: int, images: int) -> Truth | None:
    """The best truth that needs no inference; None: none is known.

    Raises:
        DataError: there is one, but inputs or layers do not match their checksums.
    """
    truth = _truth_by_checksums(workspace, dataset, layers, images)
    if truth is not None:
        dataset.check(layers)
    return truth


def _truth_by_checksums(
    workspace: Workspace, dataset: Dataset, layers: int, images: int
) -> Truth | None:
    if official_depth(dataset, layers) < layers:
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
        VerificationError: by its name it belongs to another problem.
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
    categories = tsv.read_categories(path, max(images, problem.IMAGES))
    # Images do not depend on each other: the first K have the same categories among them.
    categories = categories[categories < images]
    return Truth(f"the official categories file {path.name}", len(categories), None, categories)


def check_list(categories: Int32, survivors: int, images: int, of_pass: int, path: Path) -> None:
    """Check a result's list of categories against its own record.

    Args:
        categories: int32: the images of the first pass, from 0.
        survivors: number of categories of all passes, by the record.
        images: number of images of all passes.
        of_pass: number of images of a pass; fewer than `images` if they repeat.
        path: the result.

    Raises:
        ResultError: the list names an image twice or out of order, or one that was not run; or its
            length is not that of the record.
    """
    falls = np.flatnonzero(np.diff(categories) <= 0)
    if len(falls):
        image, before = categories[falls[0] + 1] + 1, categories[falls[0]] + 1
        what = (
            f"image {image} is listed twice"
            if image == before
            else (f"image {image} is listed after image {before}")
        )
        raise ResultError(f"its categories are no ascending list: {what}", path=path)
    outside = categories[(categories < 0) | (categories >= min(images, of_pass))]
    if len(outside):
        raise ResultError(
            f"its categories name image {outside[0] + 1} of {min(images, of_pass)}", path=path
        )
    passes, rest = divmod(images, of_pass)
    listed = passes * len(categories) + int(np.count_nonzero(categories < rest))
    if survivors != listed:
        raise ResultError(
            f"its record names {survivors} survivors, its list of categories {listed}",
            path=path,
            hint="One of the two was changed. Run spdnn infer again.",
        )


def verification(categories: Int32, truth: Truth | None) -> Verification:
    """Compare categories (int32, ascending, from 0) with a truth."""
    if truth is None:
        return Verification(Status.UNVERIFIED)
    difference = _difference(categories, truth)
    if difference is not None:
        return Verification(Status.WRONG, truth.source, difference)
    only_counted = truth.categories is None and truth.sha256 is None
    return Verification(Status.COUNT_ONLY if only_counted else Status.VERIFIED, truth.source)


def _difference(categories: Int32, truth: Truth) -> str | None:
    """How the categories differ from the truth, in words; None: they do not."""
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
