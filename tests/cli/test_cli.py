"""The command line as a whole: help, wrong usage, settings, and whose modules are imported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.command import QUICK, Spdnn, run

from spdnn_cli import cli

COMMANDS = ["bench", "convert", "fetch", "infer", "report", "results", "verify"]


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=str)
def test_help_explains_every_option(command: list[str]) -> None:
    outcome = run(*command, "--help")

    assert (outcome.code, outcome.err) == (0, "")
    shown = cli.cli.commands[command[0]] if command else cli.cli
    for option in shown.params:
        assert option.opts[-1] in outcome.out or option.opts[-1].upper() in outcome.out
        assert option.param_type_name == "argument" or option.help
    assert run(*command, "-h") == outcome


def test_help_lists_the_commands_with_whole_sentences() -> None:
    listed = run("--help").out.partition("Commands:\n")[2].splitlines()

    assert sorted(line.split()[0] for line in listed) == sorted(COMMANDS)
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


def test_help_imports_nothing_heavy() -> None:
    program = """
import sys
from spdnn_cli import cli
for command in ([], ["fetch"], ["convert"], ["infer"], ["verify"], ["report"], ["results"]):
    cli.cli([*command, "--help"], standalone_mode=False)
heavy = {"numpy", "scipy", "numba", "h5py", "rich", "requests", "pyarrow", "psutil", "isal"}
sys.exit(f"imported: {heavy & sys.modules.keys()}" if heavy & sys.modules.keys() else 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_version() -> None:
    assert run("--version").out == "spdnn, version 0.1.0\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["solve"], "No such command 'solve'."),
        (["infer", "--neurons", "77"], "'77' is not one of 1024, 4096, 16384, 65536"),
        (["infer", "--neurons", "1024,4096"], "'1024,4096' is not one of 1024, 4096,"),
        (["fetch", "--neurons", "1024,77"], "'77' is not one of 1024, 4096, 16384, 65536"),
        (["fetch", "--layers", "121"], "'121' is not one of '120', '480', '1920'."),
        (["convert", "--layers", "1921"], "1921 is not in the range 1<=x<=1920."),
        (["convert", "--to", "csv", "x"], "'csv' is not 'tsv'."),
        (["infer", "--images", "0"], "0 is not in the range x>=1."),
        (["infer", "--engine", "abacus"], "there is no engine 'abacus'. Engines: reference,"),
        (["infer", "--frobnicate"], "--frobnicate"),
        (["infer", "--dataset", "."], "File '.' is a directory."),
        (["verify", "--truth", "t", "--reference"], "--truth and --reference exclude each other"),
        (["--data-dir", __file__, "report"], "is a file."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_exits_with_2(words: list[str], message: str) -> None:
    outcome = run(*words)

    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("Usage: ")
    assert message in outcome.err.partition("\nError: ")[2]


def test_settings_from_the_environment(spdnn: Spdnn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPDNN_DATA_DIR", str(spdnn.data))
    monkeypatch.setenv("SPDNN_RESULTS_DIR", "elsewhere")

    assert run("infer", "--images", "10", *QUICK).code == 0
    (result,) = Path("elsewhere").glob("local/*/n*.json")
    assert json.loads(result.read_text())["layers"] == 3
    assert not Path("datasets").exists()


def test_folders_default_to_those_of_the_place(spdnn: Spdnn) -> None:
    shutil.copytree(spdnn.data, "datasets")

    assert run("infer", "--images", "10", *QUICK).code == 0
    assert len(list(Path("results").glob("local/*/n*.json"))) == 1


# ---- a user's own modules in the current folder

SHADOWED = ("random", "json", "socket", "tempfile", "numpy", "click", "psutil", "pickle")


@pytest.mark.parametrize(
    "words",
    [["--workers", "2"], pytest.param([], marks=pytest.mark.slow)],
    ids=["processes", "alone"],
)
def test_modules_in_the_current_folder_are_not_imported(
    spdnn: Spdnn, words: list[str], tmp_path: Path
) -> None:
    for name in SHADOWED if sys.version_info >= (3, 11) else ("random", "numpy", "click"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(f'{__name__} of the user')")

    process = spdnn.start("infer", "--images", "10", *QUICK, *words, cwd=tmp_path)

    assert process.wait(60) == 0
