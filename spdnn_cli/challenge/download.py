"""One file from one address, a URL or a local path: resumed, tried again, checked, renamed.

The bytes are received as `<name>.part`, with a note beside it (`<name>.part.json`) of what it is a
part of. The file takes its final name once it is whole and checked, so a file under its final name
is never a partial one. What stops a download leaves the part, and the next one goes on from there.

Source of the HTTP rules: RFC 9110, sections 10.2.3 (Retry-After), 13.1.5 (If-Range), 14 (ranges).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import ssl
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import requests
import urllib3
from rich import filesize

from spdnn_cli.errors import FetchError

CHUNK_BYTES = 1 << 18
TIMEOUT = (10.0, 60.0)
"""Seconds to wait for a connection, and for the next bytes of an answer."""
TRIES = 6
"""Tries in a row that bring no new byte before a file is given up."""
LONGEST_BACK_OFF = 30.0
LONGEST_RETRY_AFTER = 120.0
"""Seconds: a server that asks for a longer pause is asked again after this one."""

RUN_AGAIN = "Run the same command again: it goes on where it stopped."
OTHER_PLACE = "Check the address, or name another place with --mirror."
PROXY = "the proxy of HTTPS_PROXY, HTTP_PROXY or ALL_PROXY"
CERTIFICATES = (
    "REQUESTS_CA_BUNDLE names a file with the certificates to trust; a network that opens "
    "connections has one of its own. --mirror takes a folder, too."
)

_MAY_PASS = (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError)
_AS_STORED = {"Accept-Encoding": "identity"}

Progress = Callable[[int, int | None], None]
"""Told of the bytes that are there, and all bytes (None: not known): first, and by chunks."""
Note = Callable[[str], None]
"""Told, in one sentence, of a pause and its reason: a program that waits is to say so."""


class TransientError(Exception):
    """A failure that may pass: worth another try, after `retry_after` seconds if that is given."""

    def __init__(self, what: str, retry_after: float | None = None) -> None:
        super().__init__(what)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Checksum:
    """The md5 that a file must have: of its bytes, or of the bytes that it unpacks to."""

    md5: str
    unpacked: bool = False

    def fault(self, path: Path) -> str | None:
        """What is wrong with the bytes of the file; None if they have the checksum."""
        digest = hashlib.md5(usedforsecurity=False)
        expected = f"expected md5{' of the unpacked bytes' if self.unpacked else ''} {self.md5}"
        try:
            with gzip.open(path) if self.unpacked else path.open("rb") as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    digest.update(chunk)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            return f"{expected}, but they do not unpack: {error}"
        actual = digest.hexdigest()
        return None if actual == self.md5 else f"{expected}, but it is {actual}"


def readable_size(size: int | None) -> str:
    """`size` bytes for people, in decimal units: `11.6 MB`; `unknown` for None."""
    return "unknown" if size is None else filesize.decimal(size)


def check_space(folder: Path, needed: int) -> None:
    """Raises FetchError where the folder's disk has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise FetchError(
            f"{readable_size(needed)} are needed and {readable_size(free)} are free on this disk",
            path=folder,
            hint="Make room, or choose another data folder.",
        )


def is_url(address: str) -> bool:
    """Whether the address is one of HTTP; else it is a local path."""
    return address.startswith(("http://", "https://"))


def size_at(address: str) -> int | None:
    """Bytes of the file at that address; None where the server does not tell.

    Raises:
        FetchError: there is no such file, or it is no address at all.
        TransientError: the server does not answer.
    """
    if not is_url(address):
        if not Path(address).is_file():
            raise FetchError("there is no such file", path=address, hint=OTHER_PLACE)
        return Path(address).stat().st_size
    try:
        answer = requests.head(address, headers=_AS_STORED, timeout=TIMEOUT, allow_redirects=True)
    except (OSError, urllib3.exceptions.HTTPError) as error:
        raise _failure(address, error) from error
    _check_there(address, answer)
    return _content_length(answer) if answer.status_code == 200 else None


# ---- what has come so far


@dataclass(frozen=True)
class _Note:
    """What a part is a part of, as its server described it when the first byte came.

    `version` tells this version of the file from others: its ETag unless that is weak, else the
    date of its last change (RFC 9110, 13.1.5); None where the server tells neither.
    """

    address: str
    version: str | None
    length: int | None

    def fits(self, other: _Note) -> bool:
        """Whether both can describe one version: what both tell is the same."""
        pairs = zip(asdict(self).values(), asdict(other).values(), strict=True)
        return all(a == b for a, b in pairs if a is not None and b is not None)


class Part:
    """The bytes of a file that have come so far, `<name>.part`, and the note beside them."""

    def __init__(self, destination: Path) -> None:
        self.path = destination.with_name(destination.name + ".part")
        self.note_path = destination.with_name(destination.name + ".part.json")

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self.path.stat().st_size if self.path.exists() else 0

    def note(self, address: str, planned_size: int | None) -> _Note | None:
        """The note, if this is a part of the file of that size at that address; else None.

        A note that cannot be read is none to trust.
        """
        try:
            note = _Note(**json.loads(self.note_path.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        sound = isinstance(note.version, str | None) and isinstance(note.length, int | None)
        if not sound or note.address != address:
            return None
        if note.length is None:
            return note
        same_size = planned_size in (None, note.length)
        return note if same_size and self.size <= note.length else None

    def begin(self, note: _Note) -> None:
        """Empties the part, then notes what will come: never old bytes with a new note."""
        self.path.open("wb").close()
        self.note_path.write_text(json.dumps(asdict(note)))

    def delete(self) -> None:
        """Removes the bytes and the note, where there are any."""
        self.path.unlink(missing_ok=True)
        self.note_path.unlink(missing_ok=True)


# ---- the download


@dataclass
class Download:
    """Brings one file from one address to its final name.

    Attributes:
        address: an http(s) URL, or the path of a local file.
        destination: the final name, in a folder that is there.
        size: bytes that the file should have; None: not known.
        checksum: what the file must have; None: none is known.
        progress: told of the bytes as they come.
        note: told of every pause.
        most_bytes: the farthest that a try has come.
        fruitless: tries in a row, up to the present one, that have brought no new byte.
    """

    address: str
    destination: Path
    size: int | None
    checksum: Checksum | None
    progress: Progress
    note: Note = lambda sentence: None
    most_bytes: int = 0
    fruitless: int = 0

    @property
    def part(self) -> Part:
        """What has come so far."""
        return Part(self.destination)

    def run(self, sleep: Callable[[float], None]) -> None:
        """Receives, checks and renames; `sleep` waits that many seconds between two tries.

        Raises:
            FetchError: the address does not give the file; too little disk; or wrong bytes, which
                are then deleted.
            OSError: the disk fails.
        """
        note = self.part.note(self.address, self.size)
        if note is None or note.length != self.part.size:
            self._receive_all(sleep)
        self._check_and_rename()

    def _receive_all(self, sleep: Callable[[float], None]) -> None:
        """Tries until the whole file is there, or until TRIES in a row bring no new byte."""
        while True:
            self.fruitless += 1
            try:
                return self._request()
            except TransientError as error:
                if self.fruitless == TRIES:
                    what = f"given up after {TRIES} tries without a new byte: {error}"
                    raise FetchError(what, path=self.address, hint=RUN_AGAIN) from error
                if self.fruitless > 0:  # what was cut after new bytes goes on at once
                    seconds = _pause(error.retry_after, self.fruitless)
                    self.note(f"{self.address}: {error}; next try in {seconds:g} s.")
                    sleep(seconds)

    def _request(self) -> None:
        """Asks for the rest of the file and receives it; raises TransientError where it is cut."""
        open_address = _open_url if is_url(self.address) else _open_local_file
        note = self.part.note(self.address, self.size)
        with open_address(self.address, self.part, note) as answer:
            self._receive(answer)

    def _receive(self, answer: _Answer) -> None:
        length, done = answer.note.length, answer.start
        if answer.start == 0:
            self._check_announced(answer)
            self.part.begin(answer.note)
        if length is not None:
            check_space(self.part.path.parent, length - answer.start)
        with self.part.path.open("ab") as out:
            self.progress(done, length)
            for chunk in answer.chunks:
                out.write(chunk)
                done += len(chunk)
                if done > self.most_bytes:
                    self.most_bytes, self.fruitless = done, 0
                self.progress(done, length)
        if length is not None and done != length:
            raise TransientError(f"{done:,} of {length:,} bytes came")

    def _check_announced(self, answer: _Answer) -> None:
        """Refuses a file that could be cut unnoticed: it has no checksum to tell."""
        length = answer.note.length
        if self.checksum is not None:
            return
        if not answer.end_is_known:
            what = "the server does not tell the file's length, so a cut would go unnoticed"
            raise FetchError(what, path=self.address, hint="Name another place with --mirror.")
        if None not in (length, self.size) and length != self.size:
            what = f"it is {length:,} bytes long, and was {self.size:,} in the plan"
            raise FetchError(what, path=self.address, hint="Run the same command again.")

    def _check_and_rename(self) -> None:
        """Gives the whole part its final name, or deletes it if its bytes are wrong."""
        fault = None if self.checksum is None else self.checksum.fault(self.part.path)
        if fault is not None:
            self.part.delete()
            hint = "The bytes were deleted. Run the same command again, or name a --mirror."
            if not is_url(self.address):
                hint = "Its copy was deleted; it is as it was. Name another --mirror."
            raise FetchError(f"wrong bytes: {fault}", path=self.address, hint=hint)
        with self.part.path.open("rb+") as whole:
            os.fsync(whole.fileno())  # the name must not outlive the bytes in a power cut
        os.replace(self.part.path, self.destination)
        self.part.delete()


def _pause(retry_after: float | None, fruitless: int) -> float:
    """Seconds before the next try: what the server asks for, or 1, 2, 4, ..."""
    if retry_after is not None:
        return min(retry_after, LONGEST_RETRY_AFTER)
    return min(2.0 ** (fruitless - 1), LONGEST_BACK_OFF)


# ---- reading an address


@dataclass(frozen=True)
class _Answer:
    """The bytes of a file from `start` on, and what the server says of the whole file.

    `end_is_known`: a connection that is cut can be told from the end of the file.
    """

    start: int
    note: _Note
    chunks: Iterator[bytes]
    end_is_known: bool


@contextmanager
def _open_local_file(address: str, part: Part, note: _Note | None) -> Iterator[_Answer]:
    """Opens the file where the part ends, if it is still the file of the note, or at its start."""
    with Path(address).open("rb") as file:
        status = os.fstat(file.fileno())
        now = _Note(address, f"{status.st_size}-{status.st_mtime_ns}", status.st_size)
        start = file.seek(part.size if note == now else 0)
        yield _Answer(start, now, iter(lambda: file.read(CHUNK_BYTES), b""), end_is_known=True)


@contextmanager
def _open_url(address: str, part: Part, note: _Note | None) -> Iterator[_Answer]:
    """Asks for the bytes after those of the part; for all if no note tells which file's they are.

    Raises FetchError for an answer that is final, TransientError for one that may change, also
    while the chunks are read.
    """
    headers = dict(_AS_STORED)
    if note is not None and part.size > 0 and note.version is not None:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": note.version}
    try:
        request = requests.get(address, headers=headers, stream=True, timeout=TIMEOUT)
    except (OSError, urllib3.exceptions.HTTPError) as error:
        raise _failure(address, error) from error
    try:
        with request as answer:
            _check_status(address, answer, part)
            yield _read_answer(address, answer, part, note)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _failure(address, error) from error


def _failure(address: str, error: Exception) -> FetchError | TransientError:
    """What an exception of a request means: worth another try, or not, and what to do."""
    cause = _root_cause(error)
    what, hint = str(cause).rstrip(".") or type(cause).__name__, OTHER_PLACE
    of_request = isinstance(error, requests.RequestException | urllib3.exceptions.HTTPError)
    untrusted = isinstance(cause, ssl.SSLCertVerificationError) or "NO_CERTIFICATE" in what
    if untrusted or not of_request:  # an OSError of its own: it finds no certificates
        hint = CERTIFICATES
    elif "SOCKS" in what:
        what, hint = f"{PROXY} speaks SOCKS: {what}", "Run: pip install 'requests[socks]'."
    elif isinstance(error, requests.exceptions.InvalidProxyURL) or "Tunnel connection" in what:
        what, hint = f"{PROXY} does not serve: {what}", "Set these variables right, or unset them."
    elif isinstance(error, requests.exceptions.ProxyError):
        return TransientError(f"{PROXY} does not answer: {what}")
    elif isinstance(error, _MAY_PASS) and not isinstance(error, ValueError):
        return TransientError(what)  # a ValueError says that it is no address
    return FetchError(what, path=address, hint=hint)


def _check_status(address: str, answer: requests.Response, part: Part) -> None:
    """Passes 200 and 206. Raises FetchError, or TransientError where another try may help."""
    status = answer.status_code
    reason = f"HTTP {status} {answer.reason}".rstrip()
    _check_there(address, answer)
    if status == 416:
        part.delete()
        raise TransientError("the file is shorter than the server told before (HTTP 416)")
    if status in (408, 425, 429) or status >= 500:
        raise TransientError(reason, _retry_after(answer))
    if status not in (200, 206):
        raise FetchError(f"the server answers {reason}", path=address, hint=OTHER_PLACE)


def _check_there(address: str, answer: requests.Response) -> None:
    if answer.status_code in (404, 410):
        what = f"there is no such file (HTTP {answer.status_code})"
        raise FetchError(what, path=address, hint=OTHER_PLACE)


def _read_answer(
    address: str, answer: requests.Response, part: Part, note: _Note | None
) -> _Answer:
    headers, start = answer.headers, 0
    chunked = headers.get("Transfer-Encoding", "").lower() == "chunked"
    length = None if chunked else _content_length(answer)
    etag = headers.get("ETag", "W/")
    version = headers.get("Last-Modified") if etag.startswith("W/") else etag
    if answer.status_code == 206:
        start = part.size
        span = re.fullmatch(rf"bytes {start}-\d+/(\d+|\*)", headers.get("Content-Range", ""))
        told = None if span is None or span[1] == "*" else int(span[1])
        if span is None or note is None or not note.fits(_Note(address, version, told)):
            part.delete()
            raise TransientError("the server sent a range that does not fit")
        length = told or note.length
    # `raw`, because `iter_content` would unpack what is served with `Content-Encoding: gzip`.
    chunks = answer.raw.stream(CHUNK_BYTES, decode_content=False)
    end_is_known = chunked or length is not None
    return _Answer(start, _Note(address, version, length), chunks, end_is_known)


def _content_length(answer: requests.Response) -> int | None:
    value = answer.headers.get("Content-Length", "")
    return int(value) if value.isdecimal() else None


def _retry_after(answer: requests.Response) -> float | None:
    """Seconds that the server asks for, as a number or a date; None where it asks for none."""
    try:
        return urllib3.Retry().parse_retry_after(answer.headers.get("Retry-After", ""))
    except urllib3.exceptions.InvalidHeader:
        return None


def _root_cause(error: BaseException) -> BaseException:
    """The innermost one: `[Errno 111] Connection refused`, not the layers around it."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error
