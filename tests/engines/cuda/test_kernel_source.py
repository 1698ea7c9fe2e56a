"""The kernel sources: found in a checkout and in a wheel, and accepted by the compiler."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.places import ROOT

from spdnn_cli.engines.cuda import kernel_source
from spdnn_cli.engines.cuda.kernel_source import compiler_options, kernels_folder, kernels_sha256
from spdnn_cli.engines.cuda.tile import TileShape
from spdnn_cli.engines.cuda.tuning import CANDIDATES
from spdnn_cli.errors import EngineError

ARCHITECTURES = ("70", "75", "80", "90")
INSTANCES = {
    "tiled.cu": ("layer<0>", "layer<1>", "layer<2>"),
    "folded_shift.cu": ("shift_images<1, 2, 4>",),
}
"""Instances of the templates; the other sources have none."""


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    for function in (kernels_folder, kernels_sha256):
        function.cache_clear()
    yield
    for function in (kernels_folder, kernels_sha256):
        function.cache_clear()


def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder as a wheel lays it out, taken for the running one."""
    package = tmp_path / "site-packages" / "spdnn_cli"
    shutil.copytree(ROOT / "kernels", package / "kernels")
    monkeypatch.setattr(kernel_source, "PACKAGE", package)
    return package


def test_in_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_source, "PACKAGE", ROOT / "spdnn_cli")
    assert kernels_folder() == ROOT / "kernels"


def test_in_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checksum = kernels_sha256()
    kernels_folder.cache_clear()
    package = installed(tmp_path, monkeypatch)
    assert kernels_folder() == package / "kernels"
    kernels_sha256.cache_clear()
    assert kernels_sha256() == checksum


def test_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_source, "PACKAGE", tmp_path / "spdnn_cli")
    with pytest.raises(EngineError, match=r"kernel sources are neither in .*spdnn_cli nor beside"):
        kernels_folder()


def test_a_changed_header_changes_the_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = installed(tmp_path, monkeypatch)
    before = compiler_options({"MINIBATCH": 8})
    assert f"-I{package / 'kernels'}" in before
    assert "-DMINIBATCH=8" in before
    kernels_sha256.cache_clear()
    with (package / "kernels" / "common.cuh").open("a") as header:
        header.write("// changed\n")
    assert compiler_options({"MINIBATCH": 8}) != before


def nvcc_architectures() -> list[str]:
    """Those of `ARCHITECTURES` that the installed nvcc compiles for."""
    listed = subprocess.run(
        ["nvcc", "--list-gpu-arch"], capture_output=True, text=True, check=True
    ).stdout
    return [number for number in ARCHITECTURES if f"compute_{number}" in listed.split()]


def compile_with_nvcc(source: Path, options: list[str], output: Path) -> None:
    """Compile for all architectures.

    Raises:
        AssertionError: with the compiler's words.
    """
    targets = [f"-gencode=arch=compute_{n},code=sm_{n}" for n in nvcc_architectures()]
    command = ["nvcc", "-fatbin", "-Werror=all-warnings", *targets, *options, str(source)]
    done = subprocess.run(
        [*command, "-o", str(output)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


ALL_FILES = sorted(path.name for path in kernels_folder().glob("*.cu"))
NO_VECTORS = TileShape(12, 1, 96, panel=12, vector=1).macros
A_WARP_A_TEAM = {"TERMS": 16, "ROWS": 8, "TEAM": 32, "IMAGES": 1}


@pytest.mark.slow  # the emulator compiles each file too, with g++
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
@pytest.mark.parametrize(
    ("file", "macros"),
    [
        *((file, {}) for file in ALL_FILES),
        ("tiled.cu", NO_VECTORS),
        ("images.cu", NO_VECTORS),
        ("folded_gather.cu", A_WARP_A_TEAM),
    ],
)
def test_compiles(file: str, macros: dict[str, int], tmp_path: Path) -> None:
    instances = ", ".join(f"(void*){name}" for name in INSTANCES.get(file, ()))
    source = tmp_path / file
    code = (kernels_folder() / file).read_text()
    source.write_text(code + (f"\nvoid* instances[] = {{{instances}}};\n" if instances else ""))
    compile_with_nvcc(source, list(compiler_options(macros)), tmp_path / "kernels.fatbin")


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
def test_a_tile_shape_that_cannot_be_is_refused_in_words(tmp_path: Path) -> None:
    options = list(compiler_options({"MINIBATCH": 12, "PANEL": 8}))
    with pytest.raises(AssertionError, match="a minibatch is made of whole panels"):
        compile_with_nvcc(kernels_folder() / "tiled.cu", options, tmp_path / "kernels.fatbin")


def test_the_tuning_knows_the_tile_rules() -> None:
    """What the static_asserts of the kernels ask, for every candidate."""
    for shape in CANDIDATES:
        assert shape.minibatch <= 32
        assert shape.minibatch % shape.panel == 0
        assert shape.panel % shape.vector == 0
        assert shape.minibatch <= shape.blocksize
        assert shape.outputs * shape.minibatch <= 128
        assert shape.buffer_bytes <= 48 << 10
