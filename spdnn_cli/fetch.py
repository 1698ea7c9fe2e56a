"""Brings the official files, or MNIST, into `<data_dir>/raw/`: planned, resumed where cut, checked.

`plan_fetch` finds out what is there and how large the rest is; `execute` brings the rest. A file
is received as `<name>.part`, with a note beside it (`<name>.part.json`) of what it is a part of.
It takes its final name once it is whole and checked, so a file under its final name is never a
partial one. Whatever stops a fetch leaves the `.part` file, and the next fetch goes on from there.

Source of the HTTP rules: RFC 9110, sections 10.2.3 (Retry-After), 13.1.5 (If-Range), 14 (ranges).
"""

from __future__ import annotations

import errno
import fcntl
import gzip
import hashlib
import json
import os
import re
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal, Protocol

import requests
import tenacity
import urllib3

from spdnn_cli import problem
from spdnn_cli.errors import FetchError

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

CHUNK_BYTES = 1 << 18
TIMEOUT = (10.0, 60.0)
"""Seconds to wait for a connection, and for the next bytes of an answer."""
TRIES = 6
"""Tries in a row that bring no new byte before a file is given up."""
LONGEST_BACK_OFF = 30.0
LONGEST_RETRY_AFTER = 120.0
"""Seconds: a server that asks for a longer pause is asked again after this one."""

_RUN_AGAIN = "Run the same command again: it goes on where it stopped."
_OTHER_PLACE = "Check the address, or name another place with --mirror."

Source = Literal["official", "mnist"]
State = Literal["complete", "partial", "wrong", "missing"]


class Progress(Protocol):
    """Told of every file when it begins and after every chunk; bytes that were there count."""

    def __call__(self, file_name: str, done_bytes: int, total_bytes: int | None) -> None: ...


@dataclass(frozen=True)
class Checksum:
    """The md5 that a file must have: of its bytes, or of the bytes that it unpacks to."""

    md5: str
    unpacked: bool = False


@dataclass(frozen=True)
class PlannedFile:
    """One file of a plan.

    Attributes:
        name: its path below `raw/`, the same as below the official address.
        addresses: where it comes from, tried in order: URLs, or paths of local files.
        destination: where it goes.
        size: bytes; None where no address told.
        state: `complete`; `partial`, with a `.part` file; `wrong`, there with other bytes than it
            should have and to be replaced; or `missing`.
        partial_bytes: bytes of the `.part` file.
        checksum: what it must have; None where none was published.
    """

    name: str
    addresses: tuple[str, ...]
    destination: Path
    size: int | None
    state: State
    partial_bytes: int
    checksum: Checksum | None

    @property
    def bytes_to_fetch(self) -> int | None:
        """Bytes still to come if the `.part` file can be used; None where not known."""
        if self.state == "complete":
            return 0
        return None if self.size is None else max(0, self.size - self.partial_bytes)


@dataclass(frozen=True)
class FetchPlan:
    """What `execute` will do: `files`, in order, below `folder`."""

    folder: Path
    files: tuple[PlannedFile, ...]

    @property
    def total_bytes(self) -> int:
        """Bytes still to come, over the files whose size is known."""
        return sum(file.bytes_to_fetch or 0 for file in self.files)

    @property
    def unknown_sizes(self) -> int:
        """How many of the files still to come have no known size."""
        return sum(file.bytes_to_fetch is None for file in self.files)


@dataclass(frozen=True)
class FetchedFile:
    """A file that is there, whole and checked; `fetched` is False where it was there before."""

    name: str
    path: Path
    bytes: int
    fetched: bool


def readable_size(size: int | None) -> str:
    """`size` bytes for people, in decimal units: `11.6 MB`; `unknown` for None."""
    if size is None:
        return "unknown"
    if size < 1000:
        return f"{size} bytes"
    value, unit = size / 1e3, "kB"
    for larger in ("MB", "GB", "TB"):
        if value >= 999.95:  # would be shown as 1000.0
            value, unit = value / 1e3, larger
    return f"{value:.1f} {unit}"


# ---- the plan


def plan_fetch(
    data_dir: Path,
    source: Source,
    neurons: Sequence[int] = problem.NEURONS,
    layers: Sequence[int] = problem.LAYERS,
    mirror: str | None = None,
) -> FetchPlan:
    """Lists the files to fetch, asks for their sizes, and checks those that are there.

    A file that is there is complete if it has the known checksum or, where none is known, the
    size that the server tells (any size if it tells none: an incomplete file never gets its final
    name). Reads the files that have a checksum; writes nothing.

    Args:
        data_dir: the files belong into `<data_dir>/raw/`, which need not exist yet.
        source: `official` for archive, images and categories; `mnist` for the MNIST images alone,
            from which all inputs can be made (`neurons` and `layers` then say nothing).
        neurons: which of `problem.NEURONS`.
        layers: the depths whose categories are wanted, of `problem.LAYERS`.
        mirror: an http(s) address or a local folder that replaces the official address and has
            the same layout below it; for MNIST, one that holds `problem.MNIST_FILE`.

    Raises:
        FetchError: no such official problem, no such local folder, a file that the place says it
            does not have, or one under `data_dir` that cannot be read.
    """
    if mirror is not None and not _is_url(mirror):
        mirror = str(Path(mirror).expanduser())
        if not Path(mirror).is_dir():
            hint = "Give a folder, or an address that begins with http:// or https://."
            raise FetchError("there is no such folder", path=mirror, hint=hint)
    if source == "mnist":
        places = MNIST_MIRRORS if mirror is None else (mirror,)
        wanted: dict[str, Checksum | None] = {
            problem.MNIST_FILE: Checksum(problem.MNIST_MD5, unpacked=True)
        }
    else:
        places = (problem.OFFICIAL_ADDRESS if mirror is None else mirror,)
        wanted = _official_files(neurons, layers)
    folder = Path(data_dir) / "raw"
    silent_hosts: set[str] = set()
    files = []
    with _disk_errors_explained(folder):
        for name, checksum in wanted.items():
            addresses = tuple(_below(place, name) for place in places)
            files.append(_plan_file(name, addresses, folder / name, checksum, silent_hosts))
    return FetchPlan(folder, tuple(files))


def _below(place: str, name: str) -> str:
    return place + name if place.endswith("/") else f"{place}/{name}"


def _official_files(neurons: Sequence[int], layers: Sequence[int]) -> dict[str, Checksum | None]:
    """Names below the official address, each with its checksum if one was published."""
    for what, values, known in (
        ("neurons", neurons, problem.NEURONS),
        ("layers", layers, problem.LAYERS),
    ):
        for value in values:
            if value not in known:
                known_text = ", ".join(map(str, known))
                hint = f"There are files for {known_text}."
                raise FetchError(f"no official files for {what} {value}", hint=hint)
    wanted: dict[str, Checksum | None] = {}
    for n in neurons:
        md5 = problem.ARCHIVE_MD5.get(n)
        wanted[problem.archive_file(n)] = None if md5 is None else Checksum(md5)
        wanted[problem.images_file(n)] = None
        wanted |= {problem.categories_file(n, depth): None for depth in layers}
    return wanted


def _plan_file(
    name: str,
    addresses: tuple[str, ...],
    destination: Path,
    checksum: Checksum | None,
    silent_hosts: set[str],
) -> PlannedFile:
    there = destination.stat().st_size if destination.is_file() else None
    partial_bytes = _Part(destination).size
    state: State = "partial" if partial_bytes else "missing"
    size: int | None
    if there is not None and checksum is not None and _fault(destination, checksum) is None:
        size, state = there, "complete"  # needs no network
    else:
        try:
            size = _size(addresses, silent_hosts)
        except FetchError:
            if there is None or checksum is not None:
                raise
            size = None  # the file is there, so the place need not have it
        if there is not None:
            right = checksum is None and size in (None, there)
            size, state = (there, "complete") if right else (size, "wrong")
    return PlannedFile(name, addresses, destination, size, state, partial_bytes, checksum)


def _size(addresses: tuple[str, ...], silent_hosts: set[str]) -> int | None:
    """Bytes, as the first address that knows them tells; None where none does.

    Raises FetchError if every address says that it has no such file. Hosts that do not answer are
    added to `silent_hosts` and asked once only, lest a plan waits for every file anew.
    """
    absent = []
    for address in addresses:
        try:
            if _is_url(address):
                size = _size_of_url(address, silent_hosts)
            else:
                size = _size_of_local_file(address)
        except FetchError as error:
            absent.append(error)
            continue
        if size is not None:
            return size
    if len(absent) == len(addresses):
        raise absent[0]
    return None


def _size_of_local_file(address: str) -> int:
    if not Path(address).is_file():
        raise FetchError("there is no such file", path=address, hint=_OTHER_PLACE)
    return Path(address).stat().st_size


def _size_of_url(address: str, silent_hosts: set[str]) -> int | None:
    host = address.split("/")[2]
    if host in silent_hosts:
        return None
    headers = {"Accept-Encoding": "identity"}
    try:
        answer = requests.head(address, headers=headers, timeout=TIMEOUT, allow_redirects=True)
    except (requests.exceptions.InvalidURL, urllib3.exceptions.LocationValueError) as error:
        raise FetchError(str(error), path=address, hint=_OTHER_PLACE) from error
    except requests.RequestException:
        silent_hosts.add(host)
        return None
    if answer.status_code in (404, 410):
        raise _no_such_file(address, answer.status_code)
    return _content_length(answer.headers) if answer.status_code == 200 else None


# ---- carrying it out


def execute(
    plan: FetchPlan,
    progress: Progress | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> list[FetchedFile]:
    """Fetches the files of the plan that are not complete, one after the other.

    A file that is there with wrong bytes is replaced once the right one has come.

    Args:
        plan: from `plan_fetch`.
        progress: told of the bytes as they come.
        sleep: waits that many seconds between two tries.

    Returns:
        Every file of the plan, in its order.

    Raises:
        FetchError: too little disk, a file that no address gives, wrong bytes (which are then
            deleted), a folder that cannot be written, or another fetch at work in it.
    """
    with _disk_errors_explained(plan.folder):
        plan.folder.mkdir(parents=True, exist_ok=True)
        with _alone_in(plan.folder):
            _check_space(plan.folder, plan.total_bytes)
            return [_fetch(file, progress or _no_progress, sleep) for file in plan.files]


def _no_progress(file_name: str, done_bytes: int, total_bytes: int | None) -> None:
    pass


@contextmanager
def _disk_errors_explained(folder: Path) -> Iterator[None]:
    """Turns an OSError into a FetchError."""
    try:
        yield
    except OSError as error:
        path = error.filename or folder
        if error.errno == errno.ENOSPC:
            hint = f"Make room. {_RUN_AGAIN}"
            raise FetchError("the disk is full", path=path, hint=hint) from error
        raise FetchError(error.strerror or str(error), path=path) from error


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Locks the folder: two fetches that append to one `.part` file would mix their bytes."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            hint = "Wait until it ends, or stop it."
            raise FetchError("another fetch is at work here", path=folder, hint=hint) from None
        except OSError:
            pass  # some network file systems lock no folders
        yield
    finally:
        os.close(handle)


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise FetchError(
            f"{readable_size(needed)} are needed and {readable_size(free)} are free on this disk",
            path=folder,
            hint="Make room, or choose another data folder.",
        )


def _fetch(file: PlannedFile, progress: Progress, sleep: Callable[[float], None]) -> FetchedFile:
    """Tries the addresses in order until one gives the file."""
    if file.state != "complete":
        file.destination.parent.mkdir(parents=True, exist_ok=True)
        failures = []
        for address in file.addresses:
            try:
                _Transfer(file, address, progress).run(sleep)
                break
            except FetchError as error:
                failures.append(error)
        else:
            if len(failures) == 1:
                raise failures[0]
            reasons = " ".join(map(str, failures))
            raise FetchError(f"no mirror gave it: {reasons.rstrip('.')}", path=file.name)
    size = file.destination.stat().st_size
    return FetchedFile(file.name, file.destination, size, fetched=file.state != "complete")


def _fault(path: Path, checksum: Checksum) -> str | None:
    """What is wrong with the bytes of the file; None if they have the checksum."""
    digest = hashlib.md5(usedforsecurity=False)
    what = "md5 of the unpacked bytes" if checksum.unpacked else "md5"
    expected = f"expected {what} {checksum.md5}"
    try:
        with gzip.open(path) if checksum.unpacked else path.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        return f"{expected}, but they do not unpack: {error}"
    actual = digest.hexdigest()
    return None if actual == checksum.md5 else f"{expected}, but it is {actual}"


# ---- one file from one address


class _TransientError(Exception):
    """A failure that may pass: worth another try, after `retry_after` seconds if that is given."""

    def __init__(self, what: str, retry_after: float | None = None) -> None:
        super().__init__(what)
        self.retry_after = retry_after


@dataclass(frozen=True)
class _Note:
    """What a `.part` file is a part of, as its server described it when the first byte came."""

    address: str
    etag: str | None
    last_modified: str | None
    length: int | None

    @property
    def if_range(self) -> str | None:
        """What tells this version of the file from others; a weak ETag does not (RFC 9110)."""
        if self.etag is not None and not self.etag.startswith("W/"):
            return self.etag
        return self.last_modified

    def fits(self, other: _Note) -> bool:
        """Whether both can describe one version: what both tell is the same."""
        pairs = zip(asdict(self).values(), asdict(other).values(), strict=True)
        return all(a == b for a, b in pairs if a is not None and b is not None)


class _Part:
    """The bytes of a file that have come so far, `<name>.part`, and the note beside them."""

    def __init__(self, destination: Path) -> None:
        self.path = destination.with_name(destination.name + ".part")
        self.note_path = destination.with_name(destination.name + ".part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def note(self) -> _Note | None:
        """The note; None where there is none that can be read, and so none to trust."""
        try:
            note = _Note(**json.loads(self.note_path.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        texts = (note.address, note.etag, note.last_modified)
        sound = all(isinstance(text, str | None) for text in texts)
        return note if sound and isinstance(note.length, int | None) else None

    def begin(self, note: _Note) -> None:
        """Empties the part, then notes what will come: never old bytes with a new note."""
        self.path.open("wb").close()
        self.note_path.write_text(json.dumps(asdict(note)))

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note_path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Answer:
    """The bytes of a file from `start` on, and what the server says of the whole file.

    `end_is_known`: a connection that is cut can be told from the end of the file.
    """

    start: int
    note: _Note
    chunks: Iterator[bytes]
    end_is_known: bool


class _Transfer:
    """Brings one file from one address to its final name."""

    def __init__(self, file: PlannedFile, address: str, progress: Progress) -> None:
        self.file, self.address, self.progress = file, address, progress
        self.part = _Part(file.destination)
        self.most_bytes = 0  # the farthest that a try of this run has come

    def run(self, sleep: Callable[[float], None]) -> None:
        """Receives, checks and renames. Raises FetchError; OSError where the disk fails."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_TransientError),
            stop=tenacity.stop_after_attempt(TRIES),
            wait=_pause,
            sleep=sleep,
            reraise=True,
        )
        note = self._note_of_this_file()
        whole = note is not None and note.length == self.part.size
        while not whole:
            try:
                whole = retrying(self._advance)
            except _TransientError as error:
                what = f"given up after {TRIES} tries without a new byte: {error}"
                raise FetchError(what, path=self.address, hint=_RUN_AGAIN) from error
        self._check_and_rename()

    def _note_of_this_file(self) -> _Note | None:
        """The note of the part, if it is a part of this file at this address."""
        note = self.part.note
        if note is None or note.address != self.address:
            return None
        if note.length is None:
            return note
        same_size = self.file.size in (None, note.length)
        return note if same_size and self.part.size <= note.length else None

    def _advance(self) -> bool:
        """One request. Returns whether the file is whole; if not, new bytes have come."""
        open_address = _open_url if _is_url(self.address) else _open_local_file
        before = self.most_bytes
        try:
            with open_address(self.address, self.part, self._note_of_this_file()) as answer:
                self._receive(answer)
        except _TransientError:
            if self.most_bytes == before:
                raise
            return False
        return True

    def _receive(self, answer: _Answer) -> None:
        length = answer.note.length
        if answer.start == 0:
            self._check_announced(answer)
            self.part.begin(answer.note)
        if length is not None:
            _check_space(self.part.path.parent, length - answer.start)
        done = answer.start
        with self.part.path.open("ab") as out:
            self.progress(self.file.name, done, length)
            for chunk in answer.chunks:
                out.write(chunk)
                done += len(chunk)
                self.most_bytes = max(self.most_bytes, done)
                self.progress(self.file.name, done, length)
        if length is not None and done != length:
            raise _TransientError(f"{done:,} of {length:,} bytes came")

    def _check_announced(self, answer: _Answer) -> None:
        """Refuses a file that could be cut unnoticed: it has no checksum to tell."""
        length, planned = answer.note.length, self.file.size
        if self.file.checksum is not None:
            return
        if not answer.end_is_known:
            what = "the server does not tell the file's length, so a cut would go unnoticed"
            raise FetchError(what, path=self.address, hint="Name another place with --mirror.")
        if None not in (length, planned) and length != planned:
            what = f"it is {length:,} bytes long, and was {planned:,} in the plan"
            raise FetchError(what, path=self.address, hint="Run the same command again.")

    def _check_and_rename(self) -> None:
        """Gives the whole part its final name, or deletes it if its bytes are wrong."""
        fault = None if self.file.checksum is None else _fault(self.part.path, self.file.checksum)
        if fault is not None:
            self.part.delete()
            hint = "The bytes were deleted. Run the same command again, or name a --mirror."
            raise FetchError(f"wrong bytes: {fault}", path=self.address, hint=hint)
        with self.part.path.open("rb") as whole:
            os.fsync(whole.fileno())  # the name must not outlive the bytes in a power cut
        os.replace(self.part.path, self.file.destination)
        self.part.delete()


def _pause(state: tenacity.RetryCallState) -> float:
    """Seconds before the next try: what the server asks for, or 1, 2, 4, ..."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, _TransientError) and error.retry_after is not None:
        return min(error.retry_after, LONGEST_RETRY_AFTER)
    return tenacity.wait_exponential(multiplier=1, max=LONGEST_BACK_OFF)(state)


# ---- reading an address


def _is_url(address: str) -> bool:
    return address.startswith(("http://", "https://"))


@contextmanager
def _open_local_file(address: str, part: _Part, note: _Note | None) -> Iterator[_Answer]:
    """Opens the file where the part ends, if it is still the file of the note, or at its start."""
    with Path(address).open("rb") as file:
        status = os.fstat(file.fileno())
        now = _Note(address, f'"{status.st_size}-{status.st_mtime_ns}"', None, status.st_size)
        start = file.seek(part.size if note == now else 0)
        yield _Answer(start, now, iter(lambda: file.read(CHUNK_BYTES), b""), end_is_known=True)


@contextmanager
def _open_url(address: str, part: _Part, note: _Note | None) -> Iterator[_Answer]:
    """Asks for the bytes after those of the part; for all if no note tells which file's they are.

    Raises FetchError for an answer that is final, _TransientError for one that may change, also
    while the chunks are read.
    """
    headers = {"Accept-Encoding": "identity"}
    if note is not None and part.size > 0 and note.if_range is not None:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": note.if_range}
    try:
        with requests.get(address, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            _check_status(address, answer, part)
            yield _read_answer(address, answer, part, note)
    except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
        raise _TransientError(_root_cause(error)) from error
    except requests.RequestException as error:
        raise FetchError(str(error).rstrip("."), path=address, hint=_OTHER_PLACE) from error


def _check_status(address: str, answer: requests.Response, part: _Part) -> None:
    """Passes 200 and 206. Raises FetchError, or _TransientError where another try may help."""
    status = answer.status_code
    if status in (200, 206):
        return
    reason = f"HTTP {status} {answer.reason}".rstrip()
    if status == 416:
        part.delete()
        raise _TransientError("the file is shorter than the server told before (HTTP 416)")
    if status in (408, 425, 429) or status >= 500:
        raise _TransientError(reason, _retry_after(answer.headers))
    if status in (404, 410):
        raise _no_such_file(address, status)
    raise FetchError(f"the server answers {reason}", path=address, hint=_OTHER_PLACE)


def _read_answer(
    address: str, answer: requests.Response, part: _Part, note: _Note | None
) -> _Answer:
    chunked = answer.headers.get("Transfer-Encoding", "").lower() == "chunked"
    length = None if chunked else _content_length(answer.headers)
    start = 0
    if answer.status_code == 206:
        start, length = _content_range(answer.headers)
        length = note.length if length is None and note is not None else length
    etag, last_modified = answer.headers.get("ETag"), answer.headers.get("Last-Modified")
    now = _Note(address, etag, last_modified, length)
    if answer.status_code == 206 and not (note and note.fits(now) and start == part.size):
        part.delete()
        raise _TransientError("the server sent a range that does not fit")
    # `raw`, because `iter_content` would unpack what is served with `Content-Encoding: gzip`.
    chunks = answer.raw.stream(CHUNK_BYTES, decode_content=False)
    return _Answer(start, now, chunks, end_is_known=chunked or length is not None)


def _no_such_file(address: str, status: int) -> FetchError:
    what = f"there is no such file (HTTP {status})"
    return FetchError(what, path=address, hint=_OTHER_PLACE)


def _content_length(headers: Mapping[str, str]) -> int | None:
    value = headers.get("Content-Length", "")
    return int(value) if value.isdecimal() else None


def _content_range(headers: Mapping[str, str]) -> tuple[int, int | None]:
    """First byte (0-based; -1 if it cannot be read) and length of the whole file."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
    if match is None:
        return -1, None
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from a number of seconds or from a date; None where the server tells neither."""
    value = headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _root_cause(error: BaseException) -> str:
    """The innermost message: `[Errno 111] Connection refused`, not the layers around it."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__
