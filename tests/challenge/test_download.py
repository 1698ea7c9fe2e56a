"""One file, from a real server on the loopback that cuts, delays, refuses and lies on demand."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from helpers.fetcher import (
    ARCHIVE,
    CONTENT,
    IMAGES,
    OTHER_PLACE,
    PACKED,
    RUN_AGAIN,
    Fetcher,
    make_small,
    md5,
    serve,
)
from helpers.file_server import Answer, FileServer

from spdnn_cli.challenge import download
from spdnn_cli.challenge.download import readable_size
from spdnn_cli.challenge.fetch import execute, plan_fetch
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


# ---- a proper server


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
    [None, "", "{", "[1]", "{}", {"address": "x"}, {"version": 2}, {"length": "4"}, {"more": 1}],
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
    monkeypatch.setattr(download, "TIMEOUT", (2.0, 0.2))
    server.default[ARCHIVE] = Answer(hang=True)

    assert fetcher.fails() == (
        f"{server.address}{ARCHIVE}: given up after 3 tries without a new byte: "
        f"timed out. {RUN_AGAIN}"
    )
    assert len(server.gets(ARCHIVE)) == 3

    server.default[ARCHIVE] = Answer()
    monkeypatch.setattr(download, "TIMEOUT", (2.0, 10.0))
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


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "unknown"),
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (11_594_722, "11.6 MB"),
        (1_000_000, "1.0 MB"),
        (999_949, "999.9 kB"),
        (2_345_678_901, "2.3 GB"),
        (1_500_000_000_000, "1.5 TB"),
    ],
)
def test_readable_size(size: int | None, text: str) -> None:
    assert readable_size(size) == text
