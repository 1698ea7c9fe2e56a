"""Where output goes, and where it cannot go: no terminal, full disks, closed streams, Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.command import QUICK, Spdnn


def test_output_is_whole_and_plain_off_a_terminal(spdnn: Spdnn, result_file: Path) -> None:
    outcomes = [spdnn(*words) for words in (["infer", *QUICK], ["verify", result_file], ["report"])]

    for outcome in outcomes:
        assert outcome.code == 0
        assert not re.search("[\x1b\r…]", outcome.out + outcome.err)
    assert max(len(line) for line in outcomes[0].out.splitlines()) > 80


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_result_that_cannot_be_printed_is_written(spdnn: Spdnn, result_file: Path) -> None:
    with Path("/dev/full").open("w") as full:
        process = spdnn.start("infer", "--images", "10", *QUICK, stdout=full)
        assert process.wait(60) == 1

    assert len(spdnn.own_results()) == 2


def buffered() -> dict[str, str]:
    """The environment, with a buffer for stdout as users have it."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_stdout_that_cannot_be_written_is_one_line(spdnn: Spdnn) -> None:
    command = [sys.executable, "-m", "spdnn_cli", *spdnn.folders, "report"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=buffered()
        )

    assert (done.returncode, done.stderr) == (1, "error: No space left on device.\n")


def test_stdout_that_nobody_reads_is_no_error(spdnn: Spdnn) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "spdnn_cli", *spdnn.folders, "report", "--format", "json"]
    done = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, env=buffered()
    )
    os.close(writer)

    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
@pytest.mark.parametrize(
    ("words", "closed"),
    [(["report"], ">&-"), (["infer", "--images", "10", *QUICK], ">&- 2>&-")],
    ids=["stdout", "stdout and stderr"],
)
def test_closed_stream_is_no_error(spdnn: Spdnn, words: list[str], closed: str) -> None:
    command = [sys.executable, "-m", "spdnn_cli", *spdnn.folders, *words]
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *command]
    done = subprocess.run(shell, stderr=subprocess.PIPE, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


# ---- Ctrl-C


@pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
    reason="interrupts are ignored here, as under nohup, and so they are by spdnn",
)
@pytest.mark.parametrize(
    ("words", "sign"),
    [
        (["convert", "--layers", "1920"], b"layers"),
        (["infer", "--device", "cpu", "--repeat", "1000000"], b"images alive"),
    ],
    ids=["convert", "infer"],
)
def test_interrupt_is_one_line_and_leaves_nothing_half(
    spdnn: Spdnn, words: list[str], sign: bytes
) -> None:
    """On a terminal, where progress shows when the work has begun."""
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    before, content = spdnn.files(), spdnn.dataset.read_bytes()
    terminal, stderr = pty.openpty()
    process = spdnn.start(*words, stderr=stderr, env=os.environ | {"TERM": "xterm"})
    os.close(stderr)
    shown = b""
    for chunk in _chunks(terminal):
        shown += chunk
        if sign in shown:
            break
    process.send_signal(signal.SIGINT)
    after = b"".join(_chunks(terminal)).decode()
    os.close(terminal)
    out, _ = process.communicate(timeout=60)

    assert (process.returncode, out) == (1, b"")
    assert after.count("error: ") == 1
    assert after.endswith(
        "error: interrupted. What was written before is whole; run the command again.\r\n"
    )
    assert "Traceback" not in after
    assert spdnn.files() == before
    assert spdnn.dataset.read_bytes() == content


def _chunks(terminal: int) -> Iterator[bytes]:
    """What comes from a terminal until its other end is closed."""
    with contextlib.suppress(OSError):  # which is how Linux says so
        while chunk := os.read(terminal, 1 << 16):
            yield chunk
