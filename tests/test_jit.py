"""Compiled code on machines that keep none, or that switch the compiler off."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from helpers.places import ROOT

NOWHERE = "/dev/null/nowhere"
PROGRAM = """
import resource, sys
from pathlib import Path
from spdnn_cli import jit

@jit.njit(nogil=True)
def double(x):
    return 2 * x

@jit.njit()
def twice_double(x):
    return 2 * double(x)

jit.data_dir = Path(sys.argv[1])
print(double(21))
if "fills" in sys.argv:
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
print(twice_double(21))
"""
HINT = (
    "and is compiled in each run: that takes up to a minute. "
    "Set NUMBA_CACHE_DIR to a folder that can be written."
)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program in a folder where nothing can be kept beside it."""
    (tmp_path / "__pycache__").write_text("no folder")
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def run(program: Path, data_dir: str | Path, *words: str, **settings: str) -> tuple[str, str]:
    """Run it without a home; returns what it wrote to stdout and stderr."""
    unset = {"NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME", "TMPDIR"}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    root = str(ROOT)
    environment |= {"HOME": NOWHERE, "PYTHONPATH": root, **settings}
    command = [sys.executable, str(program), str(data_dir), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def kept(folder: Path) -> list[str]:
    return sorted(path.name.partition("-")[0] for path in folder.rglob("*.nbi"))


def moved(folder: Path) -> str:
    return f"Numba's cache cannot be written where it belongs; compiled code is in {folder}.\n"


@pytest.mark.parametrize(
    "settings", [{}, {"NUMBA_CACHE_DIR": NOWHERE}, {"XDG_CACHE_HOME": NOWHERE}], ids=str
)
def test_below_the_data_folder(program: Path, tmp_path: Path, settings: dict[str, str]) -> None:
    folder = tmp_path / "data" / ".numba-cache"

    assert run(program, tmp_path / "data", **settings) == ("42\n84\n", moved(folder))
    assert kept(folder) == ["program.double", "program.twice_double"]
    assert folder.stat().st_mode & 0o777 == 0o700


def test_in_the_temporary_folder(program: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    folder = temporary / f"spdnn-numba-{os.getuid()}"

    assert run(program, NOWHERE, TMPDIR=str(temporary)) == ("42\n84\n", moved(folder))
    assert kept(folder) == ["program.double", "program.twice_double"]


def test_a_folder_that_others_can_write_is_not_taken(program: Path, tmp_path: Path) -> None:
    """What is in it is run: somebody else could have put it there."""
    shared = tmp_path / "data" / ".numba-cache"
    shared.mkdir(parents=True)
    shared.chmod(0o777)
    folder = tmp_path / f"spdnn-numba-{os.getuid()}"

    assert run(program, tmp_path / "data", TMPDIR=str(tmp_path)) == ("42\n84\n", moved(folder))
    assert kept(shared) == []


def test_a_home_that_can_be_written_is_not_spoken_of(program: Path, tmp_path: Path) -> None:
    assert run(program, tmp_path / "data", HOME=str(tmp_path)) == ("42\n84\n", "")
    assert not (tmp_path / "data").exists()


def test_nowhere(program: Path, tmp_path: Path) -> None:
    """A full quota: folders can be made, and files take no bytes."""
    limited = tmp_path / "limited.py"
    limited.write_text(
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))\n" + PROGRAM
    )
    said = f"Compiled code cannot be kept (no folder for it can be written), {HINT}\n"

    assert run(limited, tmp_path / "data", TMPDIR=str(tmp_path)) == ("42\n84\n", said)


def test_a_disk_that_fills_up(program: Path, tmp_path: Path) -> None:
    out, err = run(program, NOWHERE, "fills", HOME=str(tmp_path))

    assert (out, err) == ("42\n84\n", f"Compiled code cannot be kept (File too large), {HINT}\n")


def test_what_cannot_be_read_is_compiled_again(program: Path, tmp_path: Path) -> None:
    run(program, NOWHERE, HOME=str(tmp_path))
    for path in tmp_path.rglob("*.nb?"):
        path.write_bytes(b"")

    assert run(program, NOWHERE, HOME=str(tmp_path)) == ("42\n84\n", "")


def test_a_compiler_that_is_switched_off(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        done = subprocess.run(
            [sys.executable, "-m", "spdnn_cli", "infer", "--images", "10"],
            cwd=folder,
            env=os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == (
        "error: Numba's compiler is switched off (NUMBA_DISABLE_JIT is set). "
        "Unset NUMBA_DISABLE_JIT and run the command again."
    )
    assert "Traceback" not in done.stderr
