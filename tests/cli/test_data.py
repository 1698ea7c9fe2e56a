"""`spdnn fetch` and `spdnn convert`: from the raw files to a dataset, and what may be wrong."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import shutil
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.command import QUICK, Spdnn

from spdnn_cli import problem
from spdnn_cli.challenge import mnist
from spdnn_cli.challenge.download import readable_size
from spdnn_cli.challenge.official import official_depth
from spdnn_cli.network.dataset import open_dataset


def test_fetch_infer_report(empty: Spdnn, challenge: Path, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    shutil.copy(challenge / problem.MNIST_FILE, mirror)

    fetched = empty("fetch", "--neurons", "1024", "--mirror", mirror)
    assert (fetched.code, fetched.out) == (
        0,
        f"{empty.data / 'raw' / problem.MNIST_FILE}  9.6 MB  fetched\n",
    )
    assert fetched.err.splitlines() == [
        f"{problem.MNIST_FILE}: 9.6 MB, missing",
        f"To fetch: 9.6 MB into {empty.data / 'raw'}",
    ]

    inferred = empty("infer", "--layers", "120", *QUICK)
    assert inferred.code == 0
    assert "1024 neurons, 120 layers, 60000 images" in inferred.out
    assert re.search(r"inputs +│ official \(from mnist\)", inferred.out)
    assert re.search(r"network +│ official ", inferred.out)
    assert "1812 images, VERIFIED against the official categories (SHA-256)" in inferred.out
    assert inferred.err.splitlines()[:2] == [
        "Problem: N=1024, the last one fetched or converted.",
        f"Converting N=1024 from mnist into {empty.dataset}, once.",
    ]

    (table,) = empty("report", "throughput", "--format", "json").json()
    (reported,) = table["rows"]
    assert (reported["layers"], reported["images"], reported["data"]) == (
        120,
        60000,
        "official",
    )
    (rate,) = (cell for name, cell in reported.items() if name.startswith("cpu ("))
    assert rate > 0
    assert table["marks"] == [{}], "no star: verified"

    truth = challenge / "neuron1024-l120-categories.tsv"
    verified = empty("verify", "--truth", truth)
    assert "1812 categories: VERIFIED against the official categories file" in verified.out


# ---- convert


def test_convert_adds_layers_and_keeps_what_is_there(spdnn: Spdnn) -> None:
    before = open_dataset(spdnn.dataset)
    three = before.network_sha256(3)

    outcome = spdnn("convert", "--layers", "5")
    assert outcome.code == 0
    after = open_dataset(spdnn.dataset)
    assert (after.layers, official_depth(after)) == (5, 5)
    assert after.features_sha256 == before.features_sha256
    assert after.network_sha256(3) == three
    assert after.provenance == before.provenance

    content = spdnn.dataset.read_bytes()
    assert spdnn("convert", "--layers", "4").code == 0
    assert spdnn.dataset.read_bytes() == content


def test_convert_keeps_the_seed_of_the_dataset(spdnn: Spdnn) -> None:
    assert spdnn("convert", "--layers", "1", "--from", "synthetic", "--seed", "9").code == 0
    nine = open_dataset(spdnn.dataset)
    assert (nine.layers, nine.provenance["seed"]) == (1, 9)

    assert spdnn("convert", "--layers", "2").code == 0
    more = open_dataset(spdnn.dataset)
    assert (more.layers, more.features_sha256) == (2, nine.features_sha256)


def test_nothing_to_convert(empty: Spdnn) -> None:
    assert empty.fails("convert", "--neurons", "4096") == (
        f"there is nothing to convert for N=4096 below {empty.data / 'raw'}. "
        "Run: spdnn fetch --neurons 4096; or use --from synthetic."
    )
    assert empty.fails("convert", "--to", "tsv", "out") == (
        f"{empty.dataset}: there is no such file. Run spdnn convert to make the dataset."
    )
    assert empty.files() == set()


def test_tsv_and_back_is_the_same_dataset(spdnn: Spdnn, empty: Spdnn) -> None:
    raw = empty.data / "raw"
    written = spdnn("convert", "--to", "tsv", raw)
    images, archive = (
        raw / name for name in ("mnist/sparse-images-1024.tsv.gz", "dnn/neuron1024.tar.gz")
    )
    assert written.out == f"Wrote {images}\nWrote {archive}\n"
    with tarfile.open(archive) as tar:
        assert tar.getnames() == [f"neuron1024/n1024-l{k}.tsv" for k in (1, 2, 3)]

    assert empty("convert", "--from", "tsv", "--layers", "3").code == 0

    before, after = open_dataset(spdnn.dataset), open_dataset(empty.dataset)
    assert after.features_sha256 == before.features_sha256
    assert after.network_sha256(3) == before.network_sha256(3)
    assert (after.layers, official_depth(after)) == (3, 3)
    assert after.provenance["files"] == {
        path.relative_to(raw).as_posix(): path.stat().st_size for path in (images, archive)
    }

    content = empty.dataset.read_bytes()
    assert empty.fails("convert", "--layers", "5") == (
        f"{archive}: 2 of 5 layers missing: 4, 5. "
        "It serves --layers 3 and less; for more, bring the others."
    )
    assert empty.dataset.read_bytes() == content


@pytest.mark.parametrize(
    "name",
    [
        "train-images.idx3-ubyte",
        "MNIST/raw/train-images-idx3-ubyte",
        "mnist/train-images-idx3-ubyte.gz",
    ],
)
def test_mnist_under_another_name(empty: Spdnn, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """As its mirrors and libraries leave it: neither fetched again nor passed over."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    content = struct.pack(">IIII", 0x803, *pixels.shape) + pixels.tobytes()
    for module in (problem, mnist):
        monkeypatch.setattr(module, "MNIST_MD5", hashlib.md5(content).hexdigest())
    monkeypatch.setattr(mnist, "IMAGES", len(pixels))
    path = empty.data / "raw" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    nowhere = empty.folder / "mirror"
    nowhere.mkdir()

    fetched = empty("fetch", "--mirror", nowhere)
    converted = empty("convert", "--layers", "1")

    there = f"{path}  {readable_size(path.stat().st_size)}  was there\n"
    assert (fetched.code, fetched.out) == (0, there)
    assert (converted.code, converted.err) == (0, "")
    made = open_dataset(empty.dataset)
    assert made.provenance["source"] == "mnist"
    assert made.provenance["files"] == {name: path.stat().st_size}
    wanted = mnist.official_features(pixels, 1024, threads=1)
    np.testing.assert_array_equal(made.features().array, wanted)
    assert not (empty.data / "raw" / problem.MNIST_FILE).exists()


def test_another_file_of_that_name_is_left_alone(
    empty: Spdnn, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = empty.data / "raw" / "train-images-idx3-ubyte"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"another")
    mirror = empty.folder / "mirror"
    mirror.mkdir()
    (mirror / problem.MNIST_FILE).write_bytes(gzip.compress(b"MNIST"))
    monkeypatch.setattr(problem, "MNIST_MD5", hashlib.md5(b"MNIST").hexdigest())

    fetched = empty("fetch", "--mirror", mirror)

    assert fetched.code == 0
    assert fetched.out.startswith(f"{empty.data / 'raw' / problem.MNIST_FILE}  ")
    assert path.read_bytes() == b"another"


def write_raw(
    spdnn: Spdnn, images: bytes, members: dict[str, bytes], cut: int | None = None
) -> tuple[Path, Path]:
    """Official-layout files of N=1024 with that text; returns where they are."""
    images_path = spdnn.data / "raw" / problem.images_file(1024)
    archive = spdnn.data / "raw" / problem.archive_file(1024)
    for path in (images_path, archive):
        path.parent.mkdir(parents=True)
    images_path.write_bytes(gzip.compress(images)[:cut])
    with tarfile.open(archive, "w:gz") as tar:
        for name, text in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    return images_path, archive


def test_bad_line_of_the_images(empty: Spdnn) -> None:
    images, _ = write_raw(empty, b"1\t1\t1\n2\t1025\t1\n", {})

    message = empty.fails("convert", "--from", "tsv")

    assert message == f"{images}, line 2: feature '1025' is not a whole number from 1 to 1024."
    assert not empty.dataset.exists()


def test_images_that_are_cut_off(empty: Spdnn) -> None:
    images, _ = write_raw(empty, b"1\t1\t1\n" * 1000, {}, cut=40)

    assert empty.fails("convert", "--from", "tsv").startswith(f"{images}: the file is cut off.")
    assert not empty.dataset.exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("neuron1024/n1024-l1.tsv", b"1\t1\t0.0625\n1\tx\t0.0625\n", ", line 2: output 'x' is not"),
        ("neuron1024/readme.txt", b"", "unexpected member 'neuron1024/readme.txt'"),
    ],
    ids=["bad line", "bad member"],
)
def test_bad_archive(empty: Spdnn, name: str, text: bytes, message: str) -> None:
    _, archive = write_raw(empty, b"1\t1\t1\n", {name: text})

    shown = empty.fails("convert", "--from", "tsv", "--layers", "1")

    assert shown.startswith(f"{archive}: ")
    assert message in shown
    assert not empty.dataset.exists()


# ---- datasets that are not what they should be


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100_000])


def mark_newer(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = 99


def replace_by_another_format(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = [1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_off, "is damaged or cut off ("),
        (mark_newer, "has schema version 99; this program reads version 2. Update spdnn"),
        (replace_by_another_format, "is an HDF5 file, but not a dataset of spdnn."),
    ],
)
def test_dataset_that_cannot_be_read(
    spdnn: Spdnn, damage: Callable[[Path], None], message: str
) -> None:
    damage(spdnn.dataset)
    content = spdnn.dataset.read_bytes()

    for words in (["infer"], ["convert"], ["convert", "--to", "tsv", "out"]):
        assert spdnn.fails(*words).startswith(f"{spdnn.dataset}: {message}")
    assert spdnn.dataset.read_bytes() == content


def test_dataset_of_another_problem_than_its_name_says(spdnn: Spdnn) -> None:
    named = spdnn.dataset.rename(spdnn.data / "neuron4096.h5")
    content = named.read_bytes()

    for words in (
        ["infer", "--neurons", "4096"],
        ["convert", "--neurons", "4096", "--from", "synthetic"],
        ["convert", "--neurons", "4096", "--to", "tsv", "out"],
    ):
        assert spdnn.fails(*words) == (
            f"{named}: has 1024 neurons; its name says 4096. "
            "Rename it or delete it, and convert the data again."
        )
    assert named.read_bytes() == content


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        ("sparse-images-1024.tsv", "dnn/neuron1024.tar.gz: is missing; of N=1024 only the images"),
        ("neuron1024/n1024-l1.tsv", "mnist/sparse-images-1024.tsv.gz: is missing; of N=1024 only"),
        ("dnn/neuron1024.tar.gz.part", "dnn/neuron1024.tar.gz.part: has not come as a whole."),
    ],
)
def test_half_of_the_data_is_not_passed_over(empty: Spdnn, there: str, missing: str) -> None:
    path = empty.data / "raw" / there
    path.parent.mkdir(parents=True)
    path.write_bytes(b"1\t1\t1\n")
    for command in ("infer", "convert"):
        message = empty.fails(command, "--neurons", "1024")
        assert message.startswith(f"{empty.data}/raw/{missing}")


@pytest.fixture(scope="module")
def archive(made_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official archive of three layers."""
    raw = tmp_path_factory.mktemp("raw")
    assert Spdnn(made_once)("convert", "--to", "tsv", raw).code == 0
    return raw / problem.archive_file(1024)


def put_images(raw: Path) -> None:
    """Unpacked images, which are two: few are read in no time."""
    raw.mkdir(parents=True, exist_ok=True)
    (raw / "sparse-images-1024.tsv").write_bytes(b"1\t1\t1\n2\t5\t1\n")


@pytest.mark.parametrize("name", ["dnn/neuron1024.tar", "neuron1024.tar", "neuron1024.tgz"])
def test_the_archive_under_another_name(
    spdnn: Spdnn, empty: Spdnn, archive: Path, name: str
) -> None:
    """As a browser or a user has left it: unpacked to a plain .tar, or at the top."""
    path = empty.data / "raw" / name
    put_images(empty.data / "raw")
    path.parent.mkdir(exist_ok=True)
    content = archive.read_bytes()
    path.write_bytes(content if name.endswith("gz") else gzip.decompress(content))

    assert empty("convert", "--layers", "3").code == 0

    made = open_dataset(empty.dataset)
    assert made.network_sha256(3) == open_dataset(spdnn.dataset).network_sha256(3)
    assert made.provenance["source"] == "tsv"
    assert set(made.provenance["files"]) == {"sparse-images-1024.tsv", name}


def test_unpacked_files_serve_the_layers_that_they_hold(
    spdnn: Spdnn, empty: Spdnn, archive: Path
) -> None:
    raw = empty.data / "raw"
    put_images(raw)
    with tarfile.open(archive) as tar:
        tar.extractall(raw)

    words = ["--neurons", "1024", "--layers", "2", "--images", "20", "--format", "json"]
    inferred = empty("infer", *words, *QUICK)
    assert inferred.code == 0, inferred.err
    assert f"{raw}/neuron1024 holds the first 3 layers: these are converted." in inferred.err
    record = inferred.json()
    assert record["dataset"]["source"] == "tsv"
    assert record["timings_s"]["convert"] > 0
    before, after = open_dataset(spdnn.dataset), open_dataset(empty.dataset)
    assert after.network_sha256(3) == before.network_sha256(3)
