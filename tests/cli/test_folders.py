"""Folders of data and results: of any name, in the home folder, and such as cannot be written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.command import QUICK, Outcome, Spdnn, run

from spdnn_cli import problem
from spdnn_cli.errors import one_line


def test_dataset_file_is_named_in_full_whatever_its_name(tmp_path: Path, made_once: Path) -> None:
    folder = tmp_path / "[bold]a folder with a long name :smile:" / "and another one [/bold]"
    spdnn = Spdnn(Path(shutil.copytree(made_once, folder)))

    outcome = spdnn("convert", "--layers", "3")

    assert str(spdnn.dataset) in outcome.out


def test_results_that_cannot_be_written_are_known_before_the_run(spdnn: Spdnn) -> None:
    before = spdnn.files()
    in_the_way = spdnn.dataset / "results"  # a file where a folder must be
    spdnn.folders[-1] = str(in_the_way)

    message = spdnn.fails("infer", "--repeat", "1000000000", "--device", "cpu")

    assert message == (
        f"{in_the_way / 'local' / spdnn.machine()}: cannot be written (Not a directory). "
        "A file is where a folder must be."
    )
    assert spdnn.files() == before


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.EACCES, "Choose another folder, or get the permission to write there."),
        (errno.EROFS, "The file system is read-only: choose another folder."),
        (errno.ENOSPC, "Is there room on the disk?"),
        (errno.EDQUOT, "Is the disk quota used up?"),
    ],
)
def test_a_folder_that_cannot_be_written_is_known_before_the_work(
    spdnn: Spdnn, empty: Spdnn, monkeypatch: pytest.MonkeyPatch, number: int, hint: str
) -> None:
    def refuse(**where: Any) -> None:
        raise OSError(number, os.strerror(number), f"{where['dir']}/probe")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    before = spdnn.files()
    machine_folder = spdnn.results / "local" / spdnn.machine()
    reason = f"cannot be written ({os.strerror(number)}). {hint}"

    endless = ["infer", "--repeat", "1000000000", "--device", "cpu"]
    assert spdnn.fails(*endless) == f"{machine_folder}: {reason}"
    message = spdnn.fails("convert", "--neurons", "4096", "--from", "synthetic")
    assert message == f"{spdnn.data}: {reason}"
    assert spdnn.fails("convert", "--to", "tsv", "out") == f"out: {reason}"
    assert spdnn.files() == before
    mirror = spdnn.folder / "mirror"
    mirror.mkdir()
    (mirror / problem.MNIST_FILE).write_bytes(b"images")
    message = empty.fails("fetch", "--mirror", mirror)
    assert message == f"{empty.data / 'raw'}: {reason}"
    assert not empty.folder.exists()


# ---- names of folders


ASCII = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
ODD_NAMES = [
    pytest.param("däta – 日本", id="letters", marks=pytest.mark.slow),
    pytest.param(os.fsdecode(b"not \xff UTF-8"), id="no UTF-8"),
    pytest.param("two\nlines", id="line end", marks=pytest.mark.slow),
    pytest.param("-dash", id="dash", marks=pytest.mark.slow),
    pytest.param(" a  b ", id="spaces", marks=pytest.mark.slow),
]


SEVERAL = """
import json, sys
from spdnn_cli import cli
for words in json.loads(sys.argv[1]):
    sys.argv, code = ["spdnn", *words], 0
    try:
        cli.main()
    except SystemExit as error:
        code = error.code or 0
    for stream in (sys.stdout, sys.stderr):
        print(code, end="\\x1e", file=stream)
"""
"""Commands in one process, which saves the imports: after each its exit code and a mark."""


def in_ascii(folder: Path, *commands: Sequence[str]) -> list[Outcome]:
    """What commands do, one after the other, where the streams hold ASCII alone."""
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL, json.dumps(commands)],
        cwd=folder, env=os.environ | ASCII, capture_output=True, check=True,
    )  # fmt: skip
    texts = [stream.decode("ascii").split("\x1e")[:-1] for stream in (done.stdout, done.stderr)]
    return [Outcome(int(out[-1]), out[:-1], err[:-1]) for out, err in zip(*texts, strict=True)]


@pytest.mark.skipif(sys.platform != "linux", reason="such names are not to be had everywhere")
@pytest.mark.parametrize("name", ODD_NAMES)
def test_folders_of_any_name(made_once: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(made_once / "data", tmp_path / name)
    shown = one_line(name).encode("ascii", "backslashreplace").decode("ascii")
    folders = [f"--data-dir={name}", f"--results-dir={name}"]

    infer = [*folders, "infer", "--images", "10", *QUICK, "--workers", "2", "--format", "json"]
    made, inferred = in_ascii(tmp_path, [*folders, "convert", "--layers", "3"], infer)
    assert (made.code, made.err) == (0, "")
    assert f" {shown}/neuron1024.h5 " in made.out
    assert len({len(line) for line in made.out.splitlines()[1:]}) == 1
    assert inferred.code == 0, inferred.err
    assert f"Result file: {shown}/" in inferred.err.splitlines()[-1]
    (result,) = (tmp_path / name).glob("local/*/n*.json")
    file = str(result.relative_to(tmp_path))
    assert {"file": file} | json.loads(result.read_text()) == inferred.json()

    *well, gone, usage = in_ascii(
        tmp_path,
        [*folders, "verify"],
        [*folders, "verify", "--", file],
        [*folders, "report"],
        [*folders, "report", "--format", "json"],
        [*folders, "results"],
        [*folders, "convert", "--to", "tsv", f"{name}/out"],
        [*folders, "infer", "--dataset", f"{name}/gone.h5"],
        [*folders, "infer", "--engine", name],
    )
    assert [outcome.code for outcome in well] == [0] * 6, well
    for verified in well[:2]:
        assert verified.out.startswith(f"{shown}/local/{result.parent.name}/{result.name}: N=1024,")
    assert well[-1].out.splitlines()[0].startswith(f"Wrote {shown}/out/")
    assert gone.code == 1
    assert gone.err.startswith(f"error: {shown}/gone.h5: ")
    assert len(gone.err.splitlines()) == 1
    assert (usage.code, usage.out) == (2, "")


@pytest.mark.parametrize("how", ["option", pytest.param("environment", marks=pytest.mark.slow)])
def test_the_home_folder_in_any_path(
    spdnn: Spdnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("HOME", str(spdnn.folder))
    folders = ["--data-dir=~/data", "--results-dir=~/results"]
    if how == "environment":
        monkeypatch.setenv("SPDNN_DATA_DIR", "~/data")
        monkeypatch.setenv("SPDNN_RESULTS_DIR", "~/results")
        folders = []
    infer = ["infer", "--images", "10", *QUICK, "--dataset=~/data/neuron1024.h5"]

    assert run(*folders, *infer).code == 0
    assert run(*folders, "convert", "--to", "tsv", "~/out").code == 0
    assert run(*folders, "report", "--format", "csv").code == 0
    result = spdnn.own_results()[0].relative_to(spdnn.folder)
    assert run(*folders, "verify", f"~/{result}").code == 0
    assert (spdnn.folder / "out").is_dir()
    assert not list(tmp_path.rglob("~*"))


def test_a_mirror_in_the_home_folder(empty: Spdnn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(empty.folder))
    message = empty.fails("fetch", "--mirror", "~/mirror")
    assert str(empty.folder / "mirror") in message
