"""Which commit made a result: by the checksum of its sources, in any clone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from spdnn_cli import sources


def git(checkout: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", str(checkout), *identity, *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a package and kernels, which is taken for this program."""
    package = tmp_path / "spdnn_cli"
    (package / "engines").mkdir(parents=True)
    (tmp_path / "kernels").mkdir()
    (package / "__init__.py").write_text("")
    (package / "engines" / "one.py").write_text("x = 1\n")
    (package / "notes.txt").write_text("no source\n")
    (tmp_path / "kernels" / "one.cu").write_text("// one\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    monkeypatch.setattr(sources, "PACKAGE", package)
    return tmp_path


def now() -> str:
    return sources.sources_sha256.__wrapped__()


def commit_of(checksum: str, checkout: Path) -> str | None:
    return sources.commit_of.__wrapped__(checksum, checkout)


def test_the_commit_is_found(checkout: Path) -> None:
    first, checksum = git(checkout, "rev-parse", "HEAD"), now()
    assert commit_of(checksum, checkout) == first
    (checkout / "kernels" / "one.cu").write_text("// two\n")
    assert commit_of(now(), checkout) is None, "a change that is not committed"
    git(checkout, "commit", "-qam", "second")
    assert commit_of(now(), checkout) == git(checkout, "rev-parse", "HEAD")
    assert commit_of(checksum, checkout) == first, "an older one is still found"


def test_what_is_no_source_does_not_count(checkout: Path) -> None:
    checksum = now()
    (checkout / "spdnn_cli" / "notes.txt").write_text("other\n")
    (checkout / "spdnn_cli" / "__pycache__").mkdir()
    (checkout / "spdnn_cli" / "__pycache__" / "one.pyc").write_bytes(b"0")
    assert now() == checksum


def test_a_wheel_has_the_checksum_of_its_checkout(checkout: Path) -> None:
    checksum = now()
    (checkout / "kernels").rename(checkout / "spdnn_cli" / "kernels")
    (checkout / "spdnn_cli" / "bench.yaml").write_text("version: 1\n")
    assert now() == checksum


def test_no_repository(tmp_path: Path) -> None:
    assert commit_of("0" * 64, tmp_path) is None
