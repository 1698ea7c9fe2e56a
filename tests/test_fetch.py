"""Fetching, against a real server on the loopback that cuts, delays, refuses and lies on demand."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace

import pytest
from file_server import Answer, FileServer

from spdnn_cli import fetch, problem
from spdnn_cli.errors import FetchError
from spdnn_cli.fetch import FetchedFile, FetchPlan, execute, plan_fetch, readable_size

ARCHIVE = "dnn/neuron1024.tar.gz"
IMAGES = "mnist/sparse-images-1024.tsv.gz"
CATEGORIES = "dnn/neuron1024-l120-categories.tsv"
MNIST = problem.MNIST_FILE

CONTENT = {
    ARCHIVE: bytes(i * i % 251 for i in range(10_000)),
    IMAGES: bytes(i * 7 % 256 for i in range(5_000)),
    CATEGORIES: b"3\n14\n15\n",
}
UNPACKED = bytes(i * i % 241 for i in range(9_000))
PACKED = gzip.compress(UNPACKED, mtime=0)

RUN_AGAIN = "Run the same command again: it goes on where it stopped."
OTHER_PLACE = "Check the address, or name another place with --mirror."


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture(autouse=True)
def small_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small chunks and few tries; checksums of the test's own files; no proxy before loopback."""
    monkeypatch.setattr(fetch, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(fetch, "TRIES", 3)
    monkeypatch.setattr(problem, "ARCHIVE_MD5", {1024: md5(CONTENT[ARCHIVE])})
    monkeypatch.setattr(problem, "MNIST_MD5", md5(UNPACKED))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[FileServer]:
    server = FileServer()
    server.files |= CONTENT
    server.files[MNIST] = PACKED
    yield server
    server.stop()


class Fetcher:
    """Plans and executes against one server; keeps what was waited for and what was shown."""

    def __init__(self, server: FileServer, data_dir: Path) -> None:
        self.server, self.data_dir, self.raw = server, data_dir, data_dir / "raw"
        self.waits: list[float] = []
        self.shown: list[tuple[str, int, int | None]] = []

    def plan(self, layers: tuple[int, ...] = (120,)) -> FetchPlan:
        return plan_fetch(self.data_dir, "official", [1024], layers, self.server.address)

    def fetch(self) -> list[FetchedFile]:
        return execute(self.plan(), self.show, self.waits.append)

    def show(self, file_name: str, done_bytes: int, total_bytes: int | None) -> None:
        self.shown.append((file_name, done_bytes, total_bytes))

    def files(self) -> dict[str, bytes]:
        """Every file below raw/, the aside ones included."""
        paths = [path for path in self.raw.rglob("*") if path.is_file()]
        return {path.relative_to(self.raw).as_posix(): path.read_bytes() for path in paths}

    def interrupt(self, at_bytes: int, name: str = ARCHIVE) -> None:
        """A fetch that the user stops with Ctrl-C once that many bytes of `name` have come."""

        def show(file_name: str, done_bytes: int, total_bytes: int | None) -> None:
            if file_name == name and done_bytes >= at_bytes:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            execute(self.plan(), show)

    def fails(self) -> str:
        """The message of a fetch that fails."""
        with pytest.raises(FetchError) as caught:
            self.fetch()
        return str(caught.value)


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
    monkeypatch.setattr(fetch, "_size_of_url", lambda address, silent_hosts: 1)

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
    monkeypatch.setattr(fetch, "TIMEOUT", (2.0, 0.1))
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


def test_bytes_are_kept_as_served_though_marked_as_gzip_encoded(
    fetcher: Fetcher, server: FileServer
) -> None:
    server.files[IMAGES] = PACKED
    server.default[IMAGES] = Answer(headers={"Content-Encoding": "gzip"})

    fetcher.fetch()

    assert fetcher.files()[IMAGES] == PACKED


def test_file_without_a_length_is_taken_when_its_end_is_marked(
    fetcher: Fetcher, server: FileServer
) -> None:
    server.default[IMAGES] = server.head[IMAGES] = Answer(chunked=True)

    assert [f.size for f in fetcher.plan().files] == [10_000, None, 8]
    fetcher.fetch()

    assert fetcher.files() == CONTENT
    assert (IMAGES, 5_000, None) in fetcher.shown


def test_chunked_answer_that_is_cut_is_resumed(fetcher: Fetcher, server: FileServer) -> None:
    server.head[IMAGES] = Answer(chunked=True)
    server.answers[IMAGES] = [Answer(chunked=True, cut_after=3000)]

    fetcher.fetch()

    assert fetcher.files() == CONTENT
    assert server.gets(IMAGES) == [None, "bytes=3000-"]


def test_file_whose_cut_would_go_unnoticed_is_refused(fetcher: Fetcher, server: FileServer) -> None:
    server.default[IMAGES] = Answer(headers={"Content-Length": ""})

    assert fetcher.fails() == (
        f"{server.address}{IMAGES}: the server does not tell the file's length, "
        "so a cut would go unnoticed. Name another place with --mirror."
    )
    assert set(fetcher.files()) == {ARCHIVE}


def test_file_with_a_checksum_needs_no_length(fetcher: Fetcher, server: FileServer) -> None:
    server.default[ARCHIVE] = Answer(headers={"Content-Length": ""})

    fetcher.fetch()

    assert fetcher.files() == CONTENT


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


# ---- resuming


def test_interrupted_fetch_leaves_the_part_and_the_next_goes_on(
    fetcher: Fetcher, server: FileServer
) -> None:
    fetcher.interrupt(at_bytes=4000)

    assert set(fetcher.files()) == {ARCHIVE + ".part", ARCHIVE + ".part.json"}
    assert fetcher.files()[ARCHIVE + ".part"] == CONTENT[ARCHIVE][:4000]
    archive = fetcher.plan().files[0]
    assert (archive.state, archive.partial_bytes, archive.bytes_to_fetch) == ("partial", 4000, 6000)
    assert fetcher.plan().total_bytes == 6000 + 5000 + 8

    fetcher.fetch()

    assert fetcher.files() == CONTENT
    assert server.gets(ARCHIVE) == [None, "bytes=4000-"]
    if_range = [headers.get("If-Range") for m, p, headers in server.requests if m == "GET"]
    assert if_range[:2] == [None, f'"{md5(CONTENT[ARCHIVE])}"']
    assert fetcher.shown[0] == (ARCHIVE, 4000, 10_000)


def test_part_that_is_whole_is_checked_and_renamed_without_another_byte(
    fetcher: Fetcher, server: FileServer
) -> None:
    fetcher.interrupt(at_bytes=10_000)
    assert ARCHIVE not in fetcher.files()

    fetcher.fetch()

    assert fetcher.files() == CONTENT
    assert server.gets(ARCHIVE) == [None]


def test_connection_cut_is_taken_up_where_it_broke(fetcher: Fetcher, server: FileServer) -> None:
    server.answers[ARCHIVE] = [Answer(cut_after=3000), Answer(cut_after=4000)]

    fetcher.fetch()

    assert fetcher.files() == CONTENT
    assert server.gets(ARCHIVE) == [None, "bytes=3000-", "bytes=7000-"]
    assert fetcher.waits == []


def test_tries_count_anew_whenever_bytes_have_come(fetcher: Fetcher, server: FileServer) -> None:
    """Ten cuts are more than TRIES, but each came after new bytes."""
    server.default[ARCHIVE] = Answer(cut_after=1000)

    fetcher.fetch()

    assert fetcher.files() == CONTENT
    assert len(server.gets(ARCHIVE)) == 10


def test_server_that_ignores_ranges_restarts_from_zero(
    fetcher: Fetcher, server: FileServer
) -> None:
    fetcher.interrupt(at_bytes=4000)
    server.default[ARCHIVE] = Answer(ignore_range=True)

    fetcher.fetch()

    assert fetcher.files() == CONTENT
    assert server.gets(ARCHIVE) == [None, "bytes=4000-"]
    assert fetcher.shown[0] == (ARCHIVE, 0, 10_000)


def test_cuts_without_ranges_end_after_the_limit(fetcher: Fetcher, server: FileServer) -> None:
    server.default[ARCHIVE] = Answer(ignore_range=True, cut_after=3000)

    message = fetcher.fails()

    assert message.startswith(
        f"{server.address}{ARCHIVE}: given up after 3 tries without a new byte: "
    )
    assert message.endswith(RUN_AGAIN)
    assert len(server.gets(ARCHIVE)) == 1 + 3  # the first brought new bytes
    assert fetcher.waits == [1, 2]
    assert set(fetcher.files()) == {ARCHIVE + ".part", ARCHIVE + ".part.json"}


def test_cuts_that_come_no_farther_end_after_the_limit(
    fetcher: Fetcher, server: FileServer
) -> None:
    """Every other try gets more bytes than the one before, but none more than the first."""
    server.answers[ARCHIVE] = [
        Answer(ignore_range=True, cut_after=cut) for cut in (3000, 2000, 3000, 2000, 3000)
    ]

    fetcher.fails()

    assert len(server.gets(ARCHIVE)) == 1 + 3


@pytest.mark.parametrize("ignore_if_range", [False, True], ids=["200", "206 all the same"])
def test_file_that_changes_between_two_tries_restarts(
    fetcher: Fetcher, server: FileServer, ignore_if_range: bool
) -> None:
    """Images have no checksum: only ETag and If-Range keep old and new bytes apart."""
    fetcher.interrupt(at_bytes=3000, name=IMAGES)
    server.files[IMAGES] = changed = CONTENT[IMAGES][::-1]
    server.default[IMAGES] = Answer(ignore_if_range=ignore_if_range)

    fetcher.fetch()

    assert fetcher.files() == CONTENT | {IMAGES: changed}


def test_file_that_becomes_shorter_than_its_part_restarts(
    fetcher: Fetcher, server: FileServer
) -> None:
    """No plan in between: its size would tell. The server answers 416."""
    plan = fetcher.plan()
    fetcher.interrupt(at_bytes=9000)
    server.files[ARCHIVE] = b"short"
    server.default[ARCHIVE] = Answer(ignore_if_range=True)

    with pytest.raises(FetchError, match="wrong bytes: expected md5"):
        execute(plan, sleep=fetcher.waits.append)

    assert server.gets(ARCHIVE) == [None, "bytes=9000-", None]
    assert fetcher.files() == {}


@pytest.mark.parametrize(
    ("headers", "if_range"),
    [
        ({"ETag": ""}, "Mon, 01 Jan 2024 00:00:00 GMT"),
        ({"ETag": 'W/"weak"'}, "Mon, 01 Jan 2024 00:00:00 GMT"),
        ({"ETag": "", "Last-Modified": ""}, None),
        ({"ETag": 'W/"weak"', "Last-Modified": ""}, None),
    ],
    ids=["date alone", "weak ETag and date", "neither", "weak ETag alone"],
)
def test_resumes_only_what_the_server_can_tell_apart(
    fetcher: Fetcher, server: FileServer, headers: dict[str, str], if_range: str | None
) -> None:
    server.default[ARCHIVE] = Answer(headers=headers)
    fetcher.interrupt(at_bytes=4000)

    fetcher.fetch()

    assert fetcher.files() == CONTENT
    asked = [h for m, p, h in server.requests if (m, p) == ("GET", ARCHIVE)][-1]
    assert asked.get("If-Range") == if_range
    assert asked.get("Range") == (None if if_range is None else "bytes=4000-")


def test_part_from_another_place_is_not_mixed_in(fetcher: Fetcher, server: FileServer) -> None:
    fetcher.interrupt(at_bytes=3000, name=IMAGES)
    other = FileServer()
    try:
        other.files |= CONTENT
        other.files[IMAGES] = CONTENT[IMAGES][::-1]
        fetcher.server = other
        fetcher.fetch()
        assert fetcher.files() == CONTENT | {IMAGES: CONTENT[IMAGES][::-1]}
        assert other.gets(IMAGES) == [None]
    finally:
        other.stop()


@pytest.mark.parametrize(
    "mangled",
    [None, "", "{", "[1]", "{}", {"address": "x"}, {"etag": 2}, {"length": "4"}, {"more": 1}],
    ids=str,
)
def test_part_with_a_mangled_note_restarts(
    fetcher: Fetcher, server: FileServer, mangled: str | dict[str, object] | None
) -> None:
    server.head[ARCHIVE] = Answer(status=405)  # no planned size that the note could contradict
    fetcher.interrupt(at_bytes=4000)
    note_path = fetcher.raw / (ARCHIVE + ".part.json")
    note = json.loads(note_path.read_text())
    assert note["length"] == 10_000
    if mangled is None:
        note_path.unlink()
    else:
        text = mangled if isinstance(mangled, str) else json.dumps(note | mangled)
        note_path.write_text(text)

    fetcher.fetch()

    assert fetcher.files() == CONTENT
    assert server.gets(ARCHIVE) == [None, None]


def test_part_that_is_whole_of_another_version_restarts(
    fetcher: Fetcher, server: FileServer
) -> None:
    fetcher.interrupt(at_bytes=5000, name=IMAGES)
    server.files[IMAGES] = longer = CONTENT[IMAGES] + b"more"

    fetcher.fetch()

    assert fetcher.files() == CONTENT | {IMAGES: longer}


def test_range_of_a_file_of_untold_length_is_taken(fetcher: Fetcher, server: FileServer) -> None:
    fetcher.interrupt(at_bytes=4000)
    server.default[ARCHIVE] = Answer(headers={"Content-Range": "bytes 4000-9999/*"})

    fetcher.fetch()

    assert fetcher.files() == CONTENT
    assert fetcher.shown[0] == (ARCHIVE, 4000, 10_000)


def test_tries_of_a_resumed_part_are_counted_from_the_first(
    fetcher: Fetcher, server: FileServer
) -> None:
    fetcher.interrupt(at_bytes=4000)
    server.default[ARCHIVE] = Answer(status=503)

    fetcher.fails()

    assert len(server.gets(ARCHIVE)) == 1 + 3
    assert fetcher.waits == [1, 2]


def test_part_longer_than_the_file_restarts(fetcher: Fetcher, server: FileServer) -> None:
    fetcher.interrupt(at_bytes=4000)
    (fetcher.raw / (ARCHIVE + ".part")).write_bytes(bytes(10_001))

    fetcher.fetch()

    assert fetcher.files() == CONTENT
    assert server.gets(ARCHIVE) == [None, None]


# ---- servers that fail


def test_404_is_final_at_once(fetcher: Fetcher, server: FileServer) -> None:
    server.default[ARCHIVE] = Answer(status=404)

    assert fetcher.fails() == (
        f"{server.address}{ARCHIVE}: there is no such file (HTTP 404). {OTHER_PLACE}"
    )
    assert len(server.gets(ARCHIVE)) == 1
    assert fetcher.files() == {}


def test_403_is_final_at_once(fetcher: Fetcher, server: FileServer) -> None:
    server.default[ARCHIVE] = Answer(status=403)

    assert fetcher.fails() == (
        f"{server.address}{ARCHIVE}: the server answers HTTP 403 Forbidden. {OTHER_PLACE}"
    )
    assert len(server.gets(ARCHIVE)) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_passing_failures_are_tried_again(
    fetcher: Fetcher, server: FileServer, status: int
) -> None:
    server.answers[ARCHIVE] = [Answer(status=status), Answer(status=status)]

    fetcher.fetch()

    assert fetcher.files() == CONTENT
    assert fetcher.waits == [1, 2]


def test_failures_that_do_not_pass_end_after_the_limit(
    fetcher: Fetcher, server: FileServer
) -> None:
    server.default[ARCHIVE] = Answer(status=503)

    assert fetcher.fails() == (
        f"{server.address}{ARCHIVE}: given up after 3 tries without a new byte: "
        f"HTTP 503 Service Unavailable. {RUN_AGAIN}"
    )
    assert len(server.gets(ARCHIVE)) == 3
    assert fetcher.waits == [1, 2]
    assert fetcher.files() == {}


def test_failures_after_some_bytes_keep_the_part(fetcher: Fetcher, server: FileServer) -> None:
    server.answers[ARCHIVE] = [Answer(cut_after=4000)]
    server.default[ARCHIVE] = Answer(status=503)

    fetcher.fails()
    assert fetcher.files()[ARCHIVE + ".part"] == CONTENT[ARCHIVE][:4000]

    server.default[ARCHIVE] = Answer()
    fetcher.fetch()
    assert fetcher.files() == CONTENT
    assert server.gets(ARCHIVE)[-1] == "bytes=4000-"


@pytest.mark.parametrize(
    ("retry_after", "wait"), [("7", 7), ("100000", 120), ("0", 0), ("soon", 1), ("²", 1)]
)
def test_retry_after_is_honoured_up_to_two_minutes(
    fetcher: Fetcher, server: FileServer, retry_after: str, wait: float
) -> None:
    server.answers[ARCHIVE] = [Answer(status=429, headers={"Retry-After": retry_after})]

    fetcher.fetch()

    assert fetcher.waits == [wait]
    assert fetcher.files() == CONTENT


@pytest.mark.parametrize(("seconds", "least", "most"), [(3600, 120, 120), (60, 1, 60), (-60, 0, 0)])
def test_retry_after_may_be_a_date(
    fetcher: Fetcher, server: FileServer, seconds: float, least: float, most: float
) -> None:
    date = formatdate(time.time() + seconds, usegmt=True)
    server.answers[ARCHIVE] = [Answer(status=503, headers={"Retry-After": date})]

    fetcher.fetch()

    assert len(fetcher.waits) == 1
    assert least <= fetcher.waits[0] <= most


def test_server_that_hangs_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, fetcher: Fetcher, server: FileServer
) -> None:
    monkeypatch.setattr(fetch, "TIMEOUT", (2.0, 0.2))
    server.default[ARCHIVE] = Answer(hang=True)

    assert fetcher.fails() == (
        f"{server.address}{ARCHIVE}: given up after 3 tries without a new byte: "
        f"timed out. {RUN_AGAIN}"
    )
    assert len(server.gets(ARCHIVE)) == 3

    server.default[ARCHIVE] = Answer()
    monkeypatch.setattr(fetch, "TIMEOUT", (2.0, 10.0))
    fetcher.fetch()
    assert fetcher.files() == CONTENT


def test_server_that_is_not_there_is_tried_again(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but nobody listens
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        plan = plan_fetch(tmp_path, "official", [1024], [], address)
        assert plan.unknown_sizes == 2
        waits: list[float] = []
        with pytest.raises(FetchError) as caught:
            execute(plan, sleep=waits.append)

    message = str(caught.value)
    assert message.startswith(f"{address}/{ARCHIVE}: given up after 3 tries without a new byte: ")
    assert os.strerror(errno.ECONNREFUSED) in message
    assert "\n" not in message
    assert waits == [1, 2]


@pytest.mark.parametrize("mirror", ["http:///", "http://[::1", "http://a..b", "https://:80/"])
def test_address_that_is_none_fails_in_the_plan(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(FetchError) as caught:
        plan_fetch(tmp_path, "official", [1024], [], mirror)

    assert str(caught.value).startswith(mirror)
    assert str(caught.value).endswith(OTHER_PLACE)


def test_redirect_is_followed(fetcher: Fetcher, server: FileServer) -> None:
    moved = Answer(status=302, headers={"Location": f"/moved/{ARCHIVE}"})
    server.default[ARCHIVE] = server.head[ARCHIVE] = moved
    server.files[f"moved/{ARCHIVE}"] = CONTENT[ARCHIVE]

    fetcher.fetch()

    assert fetcher.files() == CONTENT


def test_redirect_in_a_circle_is_final(fetcher: Fetcher, server: FileServer) -> None:
    server.default[ARCHIVE] = Answer(status=302, headers={"Location": f"/{ARCHIVE}"})

    message = fetcher.fails()

    assert message.startswith(f"{server.address}{ARCHIVE}: Exceeded ")
    assert message.endswith(f" redirects. {OTHER_PLACE}")
    assert fetcher.waits == []


# ---- wrong bytes and wrong lengths


def test_wrong_bytes_are_deleted_and_both_checksums_named(
    fetcher: Fetcher, server: FileServer
) -> None:
    server.files[ARCHIVE] = wrong = CONTENT[ARCHIVE][::-1]

    assert fetcher.fails() == (
        f"{server.address}{ARCHIVE}: wrong bytes: expected md5 {md5(CONTENT[ARCHIVE])}, "
        f"but it is {md5(wrong)}. "
        "The bytes were deleted. Run the same command again, or name a --mirror."
    )
    assert fetcher.files() == {}
    assert len(server.gets(ARCHIVE)) == 1


def test_length_told_too_long_is_a_cut_that_never_ends(
    fetcher: Fetcher, server: FileServer
) -> None:
    server.default[IMAGES] = server.head[IMAGES] = Answer(headers={"Content-Length": "5001"})

    assert fetcher.fails() == (
        f"{server.address}{IMAGES}: given up after 3 tries without a new byte: "
        f"the file is shorter than the server told before (HTTP 416). {RUN_AGAIN}"
    )
    assert set(fetcher.files()) == {ARCHIVE}


def test_length_told_too_short_is_found_by_the_checksum(
    fetcher: Fetcher, server: FileServer
) -> None:
    server.default[ARCHIVE] = Answer(headers={"Content-Length": "9999"})

    message = fetcher.fails()

    assert (
        f"expected md5 {md5(CONTENT[ARCHIVE])}, but it is {md5(CONTENT[ARCHIVE][:-1])}" in message
    )
    assert fetcher.files() == {}


def test_length_told_otherwise_than_in_the_plan_is_refused(
    fetcher: Fetcher, server: FileServer
) -> None:
    """Without a checksum this alone tells a file that is served too short."""
    server.default[IMAGES] = Answer(headers={"Content-Length": "4999"})

    assert fetcher.fails() == (
        f"{server.address}{IMAGES}: it is 4,999 bytes long, and was 5,000 in the plan. "
        "Run the same command again."
    )
    assert set(fetcher.files()) == {ARCHIVE}


def test_range_that_was_not_asked_for_is_refused(fetcher: Fetcher, server: FileServer) -> None:
    fetcher.interrupt(at_bytes=4000)
    server.default[ARCHIVE] = Answer(headers={"Content-Range": "bytes 5000-9999/10000"})
    server.answers[ARCHIVE] = [Answer(headers={"Content-Range": "rubbish"})]

    fetcher.fetch()  # the part goes, and the next request asks for the whole file

    assert fetcher.files() == CONTENT
    assert server.gets(ARCHIVE) == [None, "bytes=4000-", None]


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
        "The bytes were deleted. Run the same command again, or name a --mirror."
    )
    assert read_raw(tmp_path) == {}


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
    ("size", "text"),
    [
        (None, "unknown"),
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (11_594_722, "11.6 MB"),
        (999_999, "1.0 MB"),
        (999_949, "999.9 kB"),
        (2_345_678_901, "2.3 GB"),
        (1_500_000_000_000, "1.5 TB"),
    ],
)
def test_readable_size(size: int | None, text: str) -> None:
    assert readable_size(size) == text
