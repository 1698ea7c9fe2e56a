"""locking.py: processes that want the same file at the same time, with real processes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest

from spdnn_cli.locking import alone_at
from spdnn_cli.network.dataset import open_dataset

HOLD = """
import sys, time
from pathlib import Path
from spdnn_cli.locking import alone_at
with alone_at(Path(sys.argv[1]), lambda: print("waiting", flush=True)):
    print("held", flush=True)
    time.sleep(60)
"""


def spdnn(folder: Path, *words: str) -> subprocess.Popen[str]:
    folders = ["--data-dir", str(folder / "data"), "--results-dir", str(folder / "results")]
    command = [sys.executable, "-m", "spdnn_cli", *folders, *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
    )


def holder(path: Path) -> subprocess.Popen[str]:
    """A process that holds the lock, or is about to wait for it."""
    command = [sys.executable, "-c", HOLD, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_four_at_once_in_a_fresh_folder_all_succeed(tmp_path: Path) -> None:
    """Two depths: who needs more layers extends what another has made."""
    words = ["convert", "--neurons", "1024", "--from", "synthetic", "--threads", "1", "--layers"]
    started = [spdnn(tmp_path, *words, layers) for layers in ("3", "5", "3", "5")]
    ended = [(*process.communicate(), process.returncode) for process in started]

    assert [code for _, _, code in ended] == [0] * 4, ended
    notes = {text for _, err, _ in ended for text in err.splitlines()}
    dataset = tmp_path / "data/neuron1024.h5"
    assert notes <= {f"Another spdnn is converting {dataset}; waiting for it."}
    assert open_dataset(dataset).layers == 5
    left = {path.name for path in dataset.parent.iterdir()}
    assert left == {".neuron1024.h5.lock", "neuron1024.h5", "last.json"}


def test_who_waits_is_told_and_goes_on_when_the_other_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    first = holder(path)
    assert line(first) == "held"
    left_behind = tmp_path / "file.0123abcd.part"
    left_behind.touch()
    second = holder(path)
    try:
        assert line(second) == "waiting"
        first.kill()
        assert line(second) == "held"
        assert not left_behind.exists()
    finally:
        first.kill()
        second.kill()
        first.communicate()
        second.communicate()


@pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
    reason="interrupts are ignored here, as under nohup, and so they are by spdnn",
)
def test_waiting_ends_with_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    first = holder(tmp_path / "data/neuron1024.h5")
    assert line(first) == "held"
    second = spdnn(tmp_path, "convert", "--neurons", "1024", "--from", "synthetic")
    try:
        assert second.stderr is not None
        assert second.stderr.readline() == (
            f"Another spdnn is converting {tmp_path}/data/neuron1024.h5; waiting for it.\n"
        )
        second.send_signal(signal.SIGINT)
        begun = time.monotonic()
        err = second.communicate(timeout=30)[1]
        assert time.monotonic() - begun < 10
        assert second.returncode == 1
        assert err.strip().startswith("error: interrupted.")
    finally:
        first.kill()
        second.kill()
        first.communicate()
        second.communicate()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOLCK, os.strerror(errno.ENOLCK)),
        OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP)),
        PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
        NotImplementedError("no flock here"),
    ],
    ids=repr,
)
def test_where_no_lock_can_be_had_the_work_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def acquire(lock: filelock.BaseFileLock, **options: object) -> None:
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    others = tmp_path / "file.0123abcd.part"
    others.touch()
    with alone_at(tmp_path / "file", lambda: pytest.fail("nobody is waited for")):
        pass
    assert others.exists()  # it may be in use
