"""Where official files lie below `raw/`: as `fetch` puts them, or as users have unpacked them.

Next to the official layout (`mnist/`, `dnn/`) the top of `raw/` is looked at, where an archive that
is unpacked in place puts its folder; next to the packed files the unpacked ones, and MNIST under
the names that its mirrors and libraries give it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from spdnn_cli import problem
from spdnn_cli.errors import DataError

_MNIST_NAMES = ("train-images-idx3-ubyte", "train-images.idx3-ubyte")
_MNIST_FOLDERS = ("", "mnist/", "MNIST/raw/")


def images_file(raw: Path, neurons: int) -> Path:
    """The images that are there; where none are, the official name."""
    return _first_file(_images(raw, neurons))


def mnist_file(raw: Path) -> Path:
    """MNIST's training images that are there; where none are, the official name."""
    return _first_file(_mnist(raw))


def network(raw: Path, neurons: int, layers: int = 1) -> Path:
    """The network that is there: a folder or an archive; where none is, the official name.

    A folder that lacks one of the first `layers` layers stands back behind an archive.
    """
    folders = [folder for folder in _folders(raw, neurons) if _layer(folder, neurons, 1).is_file()]
    whole = [
        folder
        for folder in folders
        if all(_layer(folder, neurons, number).is_file() for number in range(1, layers + 1))
    ]
    archives = [path for path in _archives(raw, neurons) if path.is_file()]
    return (whole + archives + folders + [raw / problem.archive_file(neurons)])[0]


def source(raw: Path, neurons: int) -> str | None:
    """What the files allow: "tsv", else "mnist", else None."""
    if images_file(raw, neurons).is_file() and network(raw, neurons).exists():
        return "tsv"
    return "mnist" if mnist_file(raw).is_file() else None


def fault(raw: Path, neurons: int) -> DataError | None:
    """Why files that are there allow nothing: one is missing, or not whole; None: none is there."""
    for path in (*_images(raw, neurons), *_archives(raw, neurons), *_mnist(raw)):
        part = path.with_name(path.name + ".part")
        if part.is_file():
            what, hint = "has not come as a whole", "Run the same spdnn fetch again, to go on."
            return DataError(what, path=part, hint=hint)
        if path.is_symlink() and not path.exists():
            what, hint = "is a link to a file that is not there", "Bring that file back."
            return DataError(what, path=path, hint=hint)
    found_images, found_network = images_file(raw, neurons), network(raw, neurons)
    if found_images.is_file() == found_network.exists():
        return None
    there, missing = "images", found_network
    if found_network.exists():
        there, missing = "network", found_images
    hint = f"Run: spdnn fetch --source official --neurons {neurons}; or take --seed for digits."
    what = f"is missing; of N={neurons} only the {there} are there"
    return DataError(what.replace("network are", "network is"), path=missing, hint=hint)


def _images(raw: Path, neurons: int) -> Iterator[Path]:
    packed = raw / problem.images_file(neurons)
    for folder in (packed.parent, raw):
        yield folder / packed.name
        yield folder / packed.stem


def _mnist(raw: Path) -> Iterator[Path]:
    for folder in _MNIST_FOLDERS:
        for name in _MNIST_NAMES:
            yield raw / f"{folder}{name}.gz"
            yield raw / f"{folder}{name}"


def _archives(raw: Path, neurons: int) -> Iterator[Path]:
    packed = raw / problem.archive_file(neurons)
    for folder in (packed.parent, raw):
        for ending in (".tar.gz", ".tgz", ".tar"):
            yield folder / f"neuron{neurons}{ending}"


def _folders(raw: Path, neurons: int) -> Iterator[Path]:
    name = f"neuron{neurons}"
    for folder in (raw / problem.archive_file(neurons)).parent, raw:
        yield folder / name
        yield folder / name / name


def _layer(folder: Path, neurons: int, number: int) -> Path:
    return folder / Path(problem.layer_member(neurons, number)).name


def _first_file(paths: Iterator[Path]) -> Path:
    listed = list(paths)
    return next((path for path in listed if path.is_file()), listed[0])
