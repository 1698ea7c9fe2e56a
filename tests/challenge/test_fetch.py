"""What to fetch and from where: the plan, and what carrying it out leaves on the disk."""

from __future__ import annotations

import errno
import gzip
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import filelock
import pytest
from helpers.fetcher import (
    ARCHIVE,
    CATEGORIES,
    CONTENT,
    IMAGES,
    MNIST,
    OTHER_PLACE,
    PACKED,
    RUN_AGAIN,
    UNPACKED,
    Fetcher,
    make_small,
    md5,
    serve,
)
from helpers.file_server import Answer, FileServer

from spdnn_cli.challenge import download, fetch
from spdnn_cli.challenge.fetch import FetchedFile, execute, plan_fetch
from spdnn_cli.errors import FetchError


@pytest.fixture(autouse=True)
def small_world(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)


@pytest.fixture
def server() -> Iterator[FileServer]:
    yield from serve()


@pytest.fixture
def fetcher(server: FileServer, tmp_path: Path) -> Fetcher:
    return Fetcher(server, tmp_path / "datasets")


# ---- the plan


def test_plan_lists_addresses_destinations_and_sizes_and_writes_nothing(
    fetcher: Fetcher, server: FileServer
) -> None:
    plan = fetcher.plan()

    assert [(f.name, f.size, f.state) for f in plan.files] == [
        (ARCHIVE, 10_000, "missing"),
        (IMAGES, 5_000, "missing"),
        (CATEGORIES, 8, "missing"),
    ]
    assert [f.addresses for f in plan.files] == [(server.address + f.name,) for f in plan.files]
    assert [f.destination for f in plan.files] == [fetcher.raw / f.name for f in plan.files]
    assert (plan.total_bytes, plan.unknown_sizes) == (15_008, 0)
    assert {method for method, _, _ in server.requests} == {"HEAD"}
    assert not fetcher.data_dir.exists()


def test_plan_defaults_to_the_official_address_and_every_depth(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fetch, "size_at", lambda address: 1)

    plan = plan_fetch(tmp_path, "official", [1024, 65536, 1024])

    base = "https://graphchallenge.s3.amazonaws.com/synthetic/sparsechallenge_2019/"
    assert [f.addresses for f in plan.files] == [
        (base + name,)
        for n in (1024, 65536)
        for name in (
            f"dnn/neuron{n}.tar.gz",
            f"mnist/sparse-images-{n}.tsv.gz",
            f"dnn/neuron{n}-l120-categories.tsv",
            f"dnn/neuron{n}-l480-categories.tsv",
            f"dnn/neuron{n}-l1920-categories.tsv",
        )
    ]


@pytest.mark.parametrize(
    "head",
    [Answer(status=503), Answer(status=405), Answer(headers={"Content-Length": ""})],
    ids=["503", "405", "no length"],
)
def test_plan_takes_a_size_that_is_not_told_as_unknown(
    fetcher: Fetcher, server: FileServer, head: Answer
) -> None:
    server.head[IMAGES] = head

    plan = fetcher.plan()

    assert [f.size for f in plan.files] == [10_000, None, 8]
    assert (plan.total_bytes, plan.unknown_sizes) == (10_008, 1)
    execute(plan)
    assert fetcher.files() == CONTENT


def test_plan_asks_a_host_that_is_silent_only_once(
    monkeypatch: pytest.MonkeyPatch, fetcher: Fetcher, server: FileServer
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", (2.0, 0.1))
    server.head |= {name: Answer(hang=True) for name in CONTENT}

    plan = fetcher.plan()

    assert plan.unknown_sizes == 3
    assert [path for _, path, _ in server.requests] == [ARCHIVE]


@pytest.mark.parametrize("status", [404, 410])
def test_plan_refuses_a_file_that_the_server_does_not_have(
    fetcher: Fetcher, server: FileServer, status: int
) -> None:
    server.head[IMAGES] = Answer(status=status)

    with pytest.raises(FetchError) as caught:
        fetcher.plan()

    assert str(caught.value) == (
        f"{server.address}{IMAGES}: there is no such file (HTTP {status}). {OTHER_PLACE}"
    )


@pytest.mark.parametrize(
    ("neurons", "layers", "message"),
    [
        (
            [1024, 2048],
            [120],
            "no official files for neurons 2048. There are files for 1024, 4096, 16384, 65536.",
        ),
        ([1024], [121], "no official files for layers 121. There are files for 120, 480, 1920."),
    ],
)
def test_plan_refuses_problems_that_have_no_official_files(
    tmp_path: Path, neurons: list[int], layers: list[int], message: str
) -> None:
    with pytest.raises(FetchError, match=f"^{re.escape(message)}$"):
        plan_fetch(tmp_path, "official", neurons, layers)


@pytest.mark.parametrize("mirror", ["http:///", "http://[::1", "http://a..b", "https://:80/"])
def test_address_that_is_none_fails_in_the_plan(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(FetchError) as caught:
        plan_fetch(tmp_path, "official", [1024], [], mirror)

    assert str(caught.value).startswith(mirror)
    assert str(caught.value).endswith(OTHER_PLACE)


# ---- a proper server


def test_fetch_brings_every_file_and_leaves_nothing_else(
    fetcher: Fetcher, server: FileServer
) -> None:
    fetched = fetcher.fetch()

    assert fetched == [
        FetchedFile(name, fetcher.raw / name, len(content), fetched=True)
        for name, content in CONTENT.items()
    ]
    assert fetcher.files() == CONTENT
    assert fetcher.waits == []


def test_progress_begins_at_zero_and_ends_with_the_whole_file(fetcher: Fetcher) -> None:
    fetcher.fetch()

    archive = [(done, total) for name, done, total in fetcher.shown if name == ARCHIVE]
    assert archive == [(1000 * k, 10_000) for k in range(11)]
    assert [line for line in fetcher.shown if line[0] == CATEGORIES] == [
        (CATEGORIES, 0, 8),
        (CATEGORIES, 8, 8),
    ]


# ---- files that are there


def test_files_that_are_there_are_not_fetched_again(fetcher: Fetcher, server: FileServer) -> None:
    fetcher.fetch()
    server.requests.clear()

    plan = fetcher.plan()
    fetched = execute(plan)

    assert [f.state for f in plan.files] == ["complete"] * 3
    assert (plan.total_bytes, plan.unknown_sizes) == (0, 0)
    assert [(f.name, f.bytes, f.fetched) for f in fetched] == [
        (name, len(content), False) for name, content in CONTENT.items()
    ]
    # The archive has a checksum, so that nothing need be asked of the server.
    assert [line[:2] for line in server.requests] == [("HEAD", IMAGES), ("HEAD", CATEGORIES)]


def test_files_that_are_there_need_no_network(fetcher: Fetcher, server: FileServer) -> None:
    fetcher.fetch()
    server.stop()

    assert [f.fetched for f in fetcher.fetch()] == [False] * 3


def test_file_that_is_there_need_not_be_on_the_server(fetcher: Fetcher, server: FileServer) -> None:
    fetcher.fetch()
    del server.files[IMAGES]

    assert [f.state for f in fetcher.plan().files] == ["complete"] * 3


@pytest.mark.parametrize(
    ("name", "content"),
    [(ARCHIVE, CONTENT[ARCHIVE][::-1]), (IMAGES, CONTENT[IMAGES][:-1])],
    ids=["wrong checksum", "wrong size"],
)
def test_wrong_file_that_is_there_is_replaced(fetcher: Fetcher, name: str, content: bytes) -> None:
    fetcher.fetch()
    (fetcher.raw / name).write_bytes(content)

    plan = fetcher.plan()
    assert {f.name for f in plan.files if f.state == "wrong"} == {name}
    assert plan.total_bytes == len(CONTENT[name])
    fetched = execute(plan)

    assert [f.name for f in fetched if f.fetched] == [name]
    assert fetcher.files() == CONTENT


def test_wrong_file_stays_until_the_right_one_has_come(
    fetcher: Fetcher, server: FileServer
) -> None:
    fetcher.raw.joinpath("dnn").mkdir(parents=True)
    (fetcher.raw / ARCHIVE).write_bytes(b"old")
    server.default[ARCHIVE] = Answer(status=403)

    fetcher.fails()

    assert fetcher.files() == {ARCHIVE: b"old"}


# ---- MNIST


@pytest.fixture
def mirrors(monkeypatch: pytest.MonkeyPatch, server: FileServer) -> tuple[str, str]:
    """Two mirrors on the server, both proper."""
    server.files |= {f"first/{MNIST}": PACKED, f"second/{MNIST}": PACKED}
    both = (server.address + "first/", server.address + "second/")
    monkeypatch.setattr(fetch, "MNIST_MIRRORS", both)
    return both


def test_mnist_mirrors_are_the_well_known_ones() -> None:
    assert fetch.MNIST_MIRRORS == (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )


@pytest.mark.usefixtures("mirrors")
def test_mnist_comes_from_the_first_mirror(server: FileServer, tmp_path: Path) -> None:
    plan = plan_fetch(tmp_path, "mnist")
    fetched = execute(plan)

    destination = tmp_path / "raw" / "train-images-idx3-ubyte.gz"
    assert fetched == [FetchedFile(MNIST, destination, len(PACKED), fetched=True)]
    assert destination.read_bytes() == PACKED
    assert len(server.gets(f"second/{MNIST}")) == 0
    assert [f.fetched for f in execute(plan_fetch(tmp_path, "mnist"))] == [False]


@pytest.mark.usefixtures("mirrors")
@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=404),
        Answer(status=503),
        Answer(cut_after=0),
        Answer(body=gzip.compress(b"other")),
        Answer(body=b"<html>"),
        Answer(body=PACKED[:-10]),
    ],
    ids=["404", "503", "cut", "other bytes", "no gzip", "gzip cut short"],
)
def test_mnist_comes_from_the_next_mirror_where_one_fails(
    server: FileServer, tmp_path: Path, answer: Answer
) -> None:
    first = f"first/{MNIST}"
    server.default[first] = server.head[first] = answer

    execute(plan_fetch(tmp_path, "mnist"), sleep=lambda seconds: None)

    raw = tmp_path / "raw"
    assert [(path.name, path.read_bytes()) for path in raw.iterdir()] == [(MNIST, PACKED)]
    assert len(server.gets(f"second/{MNIST}")) == 1


def test_mnist_that_no_mirror_gives_names_them_all(
    server: FileServer, mirrors: tuple[str, str], tmp_path: Path
) -> None:
    server.default[f"first/{MNIST}"] = Answer(status=403)
    server.default[f"second/{MNIST}"] = Answer(body=b"<html>")

    with pytest.raises(FetchError) as caught:
        execute(plan_fetch(tmp_path, "mnist"))

    first, second = mirrors
    assert str(caught.value) == (
        f"{MNIST}: no mirror gave it: "
        f"{first}{MNIST}: the server answers HTTP 403 Forbidden. {OTHER_PLACE} "
        f"{second}{MNIST}: wrong bytes: expected md5 of the unpacked bytes {md5(UNPACKED)}, "
        "but they do not unpack: Not a gzipped file (b'<h'). "
        "The bytes were deleted. Run the same command again, or name a --mirror."
    )
    assert list((tmp_path / "raw").iterdir()) == []


def test_mnist_that_no_mirror_has_fails_in_the_plan(
    server: FileServer, mirrors: tuple[str, str], tmp_path: Path
) -> None:
    del server.files[f"first/{MNIST}"], server.files[f"second/{MNIST}"]

    with pytest.raises(FetchError, match=re.escape(mirrors[0] + MNIST)):
        plan_fetch(tmp_path, "mnist")


def test_mnist_from_a_mirror_that_the_user_names(server: FileServer, tmp_path: Path) -> None:
    address = server.address.rstrip("/")  # with or without the last slash

    execute(plan_fetch(tmp_path, "mnist", mirror=address))

    assert (tmp_path / "raw" / MNIST).read_bytes() == PACKED
    assert server.gets(MNIST) == [None]


# ---- a local folder as mirror


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A folder with the layout of the official address, and MNIST."""
    folder = tmp_path / "mirror"
    for name, content in (CONTENT | {MNIST: PACKED}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def read_raw(data_dir: Path) -> dict[str, bytes]:
    raw = data_dir / "raw"
    paths = [path for path in raw.rglob("*") if path.is_file()]
    return {path.relative_to(raw).as_posix(): path.read_bytes() for path in paths}


def test_local_folder_is_copied(local: Path, tmp_path: Path) -> None:
    plan = plan_fetch(tmp_path, "official", [1024], [120], str(local))
    execute(plan)
    execute(plan_fetch(tmp_path, "mnist", mirror=str(local)))

    assert [f.size for f in plan.files] == [10_000, 5_000, 8]
    assert [f.addresses for f in plan.files] == [(str(local / f.name),) for f in plan.files]
    assert read_raw(tmp_path) == CONTENT | {MNIST: PACKED}


@pytest.mark.parametrize("changed", [False, True])
def test_local_copy_goes_on_unless_the_file_has_changed(
    local: Path, tmp_path: Path, changed: bool
) -> None:
    plan = plan_fetch(tmp_path, "official", [1024], [120], str(local))
    starts = []

    def stop(file_name: str, done_bytes: int, total_bytes: int | None) -> None:
        if file_name == IMAGES and done_bytes == 3000:
            raise KeyboardInterrupt

    def show(file_name: str, done_bytes: int, total_bytes: int | None) -> None:
        starts.append((file_name, done_bytes))

    with pytest.raises(KeyboardInterrupt):
        execute(plan, stop)
    if changed:
        (local / IMAGES).write_bytes(CONTENT[IMAGES][::-1])
        os.utime(local / IMAGES, ns=(1, 1))
    execute(plan_fetch(tmp_path, "official", [1024], [120], str(local)), show)

    assert starts[0] == (IMAGES, 0 if changed else 3000)
    assert read_raw(tmp_path)[IMAGES] == (local / IMAGES).read_bytes()


def test_local_wrong_bytes_are_deleted(local: Path, tmp_path: Path) -> None:
    (local / ARCHIVE).write_bytes(b"wrong")

    with pytest.raises(FetchError) as caught:
        execute(plan_fetch(tmp_path, "official", [1024], [120], str(local)))

    assert str(caught.value) == (
        f"{local / ARCHIVE}: wrong bytes: expected md5 {md5(CONTENT[ARCHIVE])}, "
        f"but it is {md5(b'wrong')}. "
        "Its copy was deleted; it is as it was. Name another --mirror."
    )
    assert read_raw(tmp_path) == {}


@pytest.mark.parametrize("host", ["", "localhost"])
def test_folder_named_by_a_file_address(local: Path, tmp_path: Path, host: str) -> None:
    folder = local.parent / "a mirror"
    local.rename(folder)
    address = folder.as_uri().replace("file://", f"file://{host}")
    execute(plan_fetch(tmp_path, "official", [1024], [120], address))
    assert read_raw(tmp_path) == CONTENT


def test_local_folder_that_lacks_a_file(local: Path, tmp_path: Path) -> None:
    (local / IMAGES).unlink()

    with pytest.raises(FetchError) as caught:
        plan_fetch(tmp_path, "official", [1024], [120], str(local))

    assert str(caught.value) == f"{local / IMAGES}: there is no such file. {OTHER_PLACE}"


def test_local_file_that_goes_between_plan_and_copy(local: Path, tmp_path: Path) -> None:
    plan = plan_fetch(tmp_path, "official", [1024], [120], str(local))
    (local / ARCHIVE).unlink()

    with pytest.raises(FetchError) as caught:
        execute(plan)

    assert str(caught.value) == f"{local / ARCHIVE}: No such file or directory."


def test_local_file_that_shrinks_while_it_is_copied(local: Path, tmp_path: Path) -> None:
    (local / IMAGES).write_bytes(bytes(50_000))
    plan = plan_fetch(tmp_path, "official", [1024], [], str(local))

    def shrink(file_name: str, done_bytes: int, total_bytes: int | None) -> None:
        if (file_name, done_bytes) == (IMAGES, 1000):
            os.truncate(local / IMAGES, 20_000)

    with pytest.raises(FetchError) as caught:
        execute(plan, shrink)

    assert str(caught.value) == (
        f"{local / IMAGES}: it is 20,000 bytes long, and was 50,000 in the plan. "
        "Run the same command again."
    )
    assert IMAGES not in read_raw(tmp_path)


@pytest.mark.parametrize("mirror", ["no-such-folder", "ftp://host/folder"])
def test_mirror_that_is_neither_address_nor_folder(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(FetchError) as caught:
        plan_fetch(tmp_path, "mnist", mirror=mirror)

    assert str(caught.value) == (
        f"{Path(mirror)}: there is no such folder. "
        "Give a folder, or an address that begins with http:// or https://."
    )


# ---- the disk


def use_disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))


def test_too_little_disk_is_told_before_the_first_byte(
    monkeypatch: pytest.MonkeyPatch, fetcher: Fetcher, server: FileServer
) -> None:
    use_disk(monkeypatch, free=15_007)  # one byte too little

    assert fetcher.fails() == (
        f"{fetcher.raw}: 15.0 kB are needed and 15.0 kB are free on this disk. "
        "Make room, or choose another data folder."
    )
    assert server.gets(ARCHIVE) == []
    assert fetcher.files() == {}


def test_just_enough_disk_will_do(monkeypatch: pytest.MonkeyPatch, fetcher: Fetcher) -> None:
    use_disk(monkeypatch, free=15_008)

    fetcher.fetch()

    assert fetcher.files() == CONTENT


def test_disk_need_counts_what_is_there_already(
    monkeypatch: pytest.MonkeyPatch, fetcher: Fetcher
) -> None:
    fetcher.interrupt(at_bytes=4000)
    use_disk(monkeypatch, free=11_008)

    fetcher.fetch()

    assert fetcher.files() == CONTENT


def test_disk_is_checked_when_a_size_becomes_known(
    monkeypatch: pytest.MonkeyPatch, fetcher: Fetcher, server: FileServer
) -> None:
    server.head |= {name: Answer(status=405) for name in CONTENT}
    use_disk(monkeypatch, free=9_999)

    message = fetcher.fails()

    assert "10.0 kB are needed and 10.0 kB are free" in message
    assert [content for content in fetcher.files().values() if content in CONTENT.values()] == []
    assert fetcher.shown == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_disk_that_fills_up_is_one_line(fetcher: Fetcher) -> None:
    part = fetcher.raw / (ARCHIVE + ".part")
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")

    assert fetcher.fails() == f"{fetcher.raw}: the disk is full. Make room. {RUN_AGAIN}"
    assert ARCHIVE not in fetcher.files()


def test_raw_that_is_a_file_is_one_line(fetcher: Fetcher) -> None:
    fetcher.data_dir.mkdir()
    fetcher.raw.write_text("")

    assert fetcher.fails() == f"{fetcher.raw}: File exists."


def test_two_fetches_in_one_folder_do_not_mix(fetcher: Fetcher) -> None:
    messages = []

    def show(file_name: str, done_bytes: int, total_bytes: int | None) -> None:
        if (file_name, done_bytes) == (ARCHIVE, 4000):
            messages.append(fetcher.fails())

    execute(fetcher.plan(), show)

    assert messages == [
        f"{fetcher.raw}: another fetch is at work here. Wait until it ends, or stop it."
    ]
    assert fetcher.files() == CONTENT
    assert [f.fetched for f in fetcher.fetch()] == [False] * 3  # the lock is gone


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError("no flock here")]
)
def test_disk_without_locks_is_no_obstacle(
    monkeypatch: pytest.MonkeyPatch, fetcher: Fetcher, error: Exception
) -> None:
    def acquire(lock: filelock.BaseFileLock) -> None:
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)

    fetcher.fetch()

    assert fetcher.files() == CONTENT
