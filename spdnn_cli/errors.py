"""The failures that spdnn expects: one family, each saying what is wrong, where, and what to do.

Library code raises them; `cli.py` alone catches them, prints the one line and exits with 1.
Everything else that escapes is a defect of spdnn.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def one_line(text: str) -> str:
    """The text with line ends and other control characters written as escapes, such as \\n.

    The name of a file may contain them.
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class SpdnnError(Exception):
    """An expected failure.

    The text is one line: `PATH, line LINE: WHAT. HINT`, with the parts that are known.

    Args:
        what: what is wrong, with the offending value in it; no full stop at the end.
        hint: what the user can do about it: a sentence of its own.
        path: the file at fault, or `archive.tar.gz: member` for a file in an archive.
        line: the line at fault, counted from 1.
    """

    def __init__(
        self,
        what: str,
        *,
        hint: str | None = None,
        path: str | Path | None = None,
        line: int | None = None,
    ) -> None:
        self.what, self.hint, self.path, self.line = what, hint, path, line
        where = "" if path is None else f"{path}: " if line is None else f"{path}, line {line}: "
        super().__init__(one_line(f"{where}{what}." + (f" {hint}" if hint else "")))


NO_THREAD = "can't start new thread"
"""What Python says when the system lets it start no thread."""


def explained(error: BaseException) -> str | None:
    """One line that explains a failure of the machine; None: it is another failure."""
    if isinstance(error, MemoryError):
        return f"there is too little memory. {error}".rstrip()
    if is_limit_on_threads(error):
        return _too_many("thread")
    if isinstance(error, OSError):
        # Python says it in other words where an output takes no more.
        if error.errno == errno.EAGAIN and error.strerror == os.strerror(errno.EAGAIN):
            return _too_many("process")
        where = "" if error.filename is None else f"{error.filename}: "
        return f"{where}{error.strerror or error}."
    return None


def is_limit_on_threads(error: BaseException) -> bool:
    """Whether the error says that the system lets Python start no thread."""
    return isinstance(error, RuntimeError) and str(error).startswith(NO_THREAD)


def _too_many(what: str) -> str:
    return (
        f"no further {what} can be started: a limit on processes or on memory is reached. "
        "Raise it (ulimit -u, ulimit -v, or the container's), or give fewer --threads or --workers."
    )


class FetchError(SpdnnError):
    """A download that cannot be completed or does not hold what it should."""


class DataError(SpdnnError):
    """An input file that is damaged, of another problem, or not what it says."""


class FewerLayersError(DataError):
    """A network that is whole as far as it goes, and holds fewer layers than asked for.

    Attributes:
        layers: number of layers that it holds, from the first on without a gap.
    """

    def __init__(self, what: str, layers: int, path: Path) -> None:
        if layers:
            hint = f"It serves --layers {layers} and less; for more, bring the others."
        else:
            hint = "Bring the missing layers, or use --from mnist or synthetic."
        super().__init__(what, hint=hint, path=path)
        self.layers = layers


class DeviceError(SpdnnError):
    """A device that is not there, or has too little memory."""


class EngineError(SpdnnError):
    """An engine that cannot run the given network, or is not known."""


class WorkerError(SpdnnError):
    """A process that ran a share of the images failed, was killed, or did not answer."""


class BenchError(SpdnnError):
    """A bench.yaml that is not valid, or runs of a suite that failed."""


class ResultError(SpdnnError):
    """A result that cannot be found, read or written."""


class VerificationError(SpdnnError):
    """Categories that differ from the truth."""
