"""Networks of users: proxies, certificates, and links among the raw files."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import importlib.util
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from spdnn_cli import problem
from spdnn_cli.challenge import fetch
from spdnn_cli.challenge.download import PROXY, TRIES, Download
from spdnn_cli.errors import FetchError

ADDRESS = "https://127.0.0.1:9/file"
VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE",
             "CURL_CA_BUNDLE")  # fmt: skip


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def refusing_proxy() -> Iterator[str]:
    """The address of a proxy that lets nobody through."""

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            self.send_error(407, "Proxy Authentication Required")

        def log_message(self, format: str, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def fetched(folder: Path, address: str = ADDRESS) -> tuple[str, list[str], list[float]]:
    """The message of a download, its notes, and its pauses."""
    notes: list[str] = []
    pauses: list[float] = []
    download = Download(address, folder / "file", None, None, lambda *_: None, notes.append)
    with pytest.raises(FetchError) as caught:
        download.run(pauses.append)
    return str(caught.value), notes, pauses


def test_a_proxy_that_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusing_proxy: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", refusing_proxy)
    message, notes, _ = fetched(tmp_path)
    assert message == (
        f"{ADDRESS}: {PROXY} does not serve: Tunnel connection failed: 407 Proxy Authentication "
        "Required. Set these variables right, or unset them."
    )
    assert notes == []  # another try would not help


def test_a_proxy_that_is_not_there_is_tried_again_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{free_port()}")
    message, notes, pauses = fetched(tmp_path)
    assert message.startswith(
        f"{ADDRESS}: given up after {TRIES} tries without a new byte: {PROXY} does not answer: "
    )
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert [note.rpartition("; ")[2] for note in notes] == [f"next try in {s:g} s." for s in pauses]


@pytest.mark.skipif(importlib.util.find_spec("socks") is not None, reason="PySocks is installed")
def test_a_proxy_that_speaks_socks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    message, notes, _ = fetched(tmp_path)
    assert message == (
        f"{ADDRESS}: {PROXY} speaks SOCKS: Missing dependencies for SOCKS support. "
        "Run: pip install 'requests[socks]'."
    )
    assert notes == []


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_certificates_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_text(content)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"https://127.0.0.1:{server.getsockname()[1]}/file"
        message, notes, _ = fetched(tmp_path, address)
    assert message.startswith(f"{address}: ")
    assert "REQUESTS_CA_BUNDLE names a file with the certificates to trust" in message
    assert notes == []


def test_an_error_of_a_proxy_is_told_before_a_file_is_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusing_proxy: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", refusing_proxy)
    with pytest.raises(FetchError, match="does not serve: Tunnel connection failed: 407"):
        fetch.plan_fetch(tmp_path, "mnist", mirror="https://127.0.0.1:9/")


# ---- raw files that users have put there


def mnist(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Bytes that are taken for MNIST."""
    unpacked = b"digits" * 10
    monkeypatch.setattr(problem, "MNIST_MD5", hashlib.md5(unpacked).hexdigest())
    return unpacked


@pytest.mark.parametrize(
    "name",
    [
        "train-images-idx3-ubyte",
        "MNIST/raw/train-images.idx3-ubyte",
        "mnist/train-images.idx3-ubyte.gz",
    ],
)
def test_mnist_under_another_name_is_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    unpacked = mnist(monkeypatch)
    there = tmp_path / "raw" / name
    there.parent.mkdir(parents=True)
    there.write_bytes(gzip.compress(unpacked) if name.endswith(".gz") else unpacked)
    plan = fetch.plan_fetch(tmp_path, "mnist", mirror=str(tmp_path))  # which has no such file
    assert [(file.path, file.fetched) for file in fetch.execute(plan)] == [(there, False)]


def test_a_file_of_that_other_name_that_is_not_mnist_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mirror").mkdir()
    packed = gzip.compress(mnist(monkeypatch))
    (tmp_path / "mirror" / problem.MNIST_FILE).write_bytes(packed)
    (tmp_path / "raw").mkdir()
    other = tmp_path / "raw" / "train-images-idx3-ubyte"
    other.write_bytes(b"mine")
    fetch.execute(fetch.plan_fetch(tmp_path, "mnist", mirror=str(tmp_path / "mirror")))
    assert other.read_bytes() == b"mine"
    assert (tmp_path / "raw" / problem.MNIST_FILE).read_bytes() == packed


def test_a_link_among_the_raw_files_stays_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mirror").mkdir()
    packed = gzip.compress(mnist(monkeypatch))
    (tmp_path / "mirror" / problem.MNIST_FILE).write_bytes(packed)
    (tmp_path / "raw").mkdir()
    large_disk = tmp_path / "large" / "images.gz"
    link = tmp_path / "raw" / problem.MNIST_FILE
    link.symlink_to(large_disk)
    fetch.execute(fetch.plan_fetch(tmp_path, "mnist", mirror=str(tmp_path / "mirror")))
    assert link.is_symlink()
    assert large_disk.read_bytes() == packed
