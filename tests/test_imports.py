"""The rules of who imports whom (pyproject.toml), and what the quick commands leave unimported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.places import ROOT
from importlinter.cli import lint_imports

HEAVY = ["cupy", "h5py", "matplotlib", "numba", "pyarrow", "requests", "scipy"]


def test_the_rules_of_imports_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == 0, capsys.readouterr().out


def loaded_by(*words: str, folder: Path = ROOT) -> set[str]:
    """The heavy packages that a command of this program imports."""
    code = (
        "import sys, json\n"
        "from spdnn_cli.cli import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "finally:\n"
        f"    print(json.dumps([m for m in {HEAVY} if m in sys.modules]), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "words", [["--help"], ["infer", "--help"], ["report"], ["report", "throughput"], ["results"]]
)
def test_quick_commands_import_nothing_heavy(words: list[str]) -> None:
    assert loaded_by(*words) == set()


def test_a_conversion_imports_what_it_needs(tmp_path: Path) -> None:
    """That the test above can fail."""
    words = ["convert", "--neurons", "1024", "--layers", "1", "--from", "synthetic"]
    assert {"h5py", "numba"} <= loaded_by(*words, folder=tmp_path)
