"""What the tests of all commands share: one dataset and one result, made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.command import QUICK, Spdnn


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the user's environment, and nothing into the user's folder."""
    monkeypatch.delenv("SPDNN_DATA_DIR", raising=False)
    monkeypatch.delenv("SPDNN_RESULTS_DIR", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the synthetic dataset of N=1024, 3 layers, and one result on 200 images."""
    spdnn = Spdnn(tmp_path_factory.mktemp("made"))
    made = spdnn("convert", "--neurons", "1024", "--layers", "3", "--from", "synthetic")
    assert (made.code, made.err) == (0, "")
    assert spdnn("infer", "--images", "200", *QUICK).code == 0
    return spdnn.folder


@pytest.fixture
def spdnn(made_once: Path, tmp_path: Path) -> Spdnn:
    """A copy of that folder."""
    return Spdnn(Path(shutil.copytree(made_once, tmp_path / "work")))


@pytest.fixture
def empty(tmp_path: Path) -> Spdnn:
    return Spdnn(tmp_path / "empty")


@pytest.fixture
def result_file(spdnn: Spdnn) -> Path:
    """The one result."""
    (path,) = spdnn.own_results()
    return path
