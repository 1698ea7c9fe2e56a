"""Suites and their execution: what bench.yaml may say, and what `spdnn bench` does with it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
import pytest
from helpers import command as here
from helpers.networks import bit_features, layer_of
from helpers.places import ROOT

from spdnn_cli.bench import suite_run as benching
from spdnn_cli.bench.suite import DEFAULT_TIME_LIMIT, Suite, SuiteFile, find
from spdnn_cli.bench.suite_run import Bench, Settled
from spdnn_cli.cli import cli
from spdnn_cli.cli.infer import infer
from spdnn_cli.engines import registry
from spdnn_cli.engines.cuda.tile import parse_tiling
from spdnn_cli.errors import BenchError, one_line
from spdnn_cli.network.dataset import write_dataset
from spdnn_cli.network.fold import fold
from spdnn_cli.workspace import Workspace

FOREVER = 1_000_000_000
"""Timed runs that nobody waits for."""

HEAD = "version: 1\nsuites:\n  s:\n"
PROBLEM = "    problems: {neurons: 1024, layers: 3}\n"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def suite_of(text: str, name: str = "s") -> Suite:
    Path("bench.yaml").write_text(text)
    return SuiteFile(Path("bench.yaml"), infer.params).suite(name)


def words_of(text: str) -> list[str]:
    return [" ".join(run.words) for run in suite_of(text).runs]


# ---- what a suite means


def test_lists_multiply() -> None:
    text = """version: 1
suites:
  s:
    problems: {neurons: [1024, 4096], layers: 120}
    engines: [cpu, {engine: cpu-layered, repeat: [1, 2]}]
    warmup: 0
"""
    cpu, layered = "--engine cpu --warmup 0", "--engine cpu-layered --warmup 0"
    assert words_of(text) == [
        f"--neurons 1024 --layers 120 {cpu}",
        f"--neurons 1024 --layers 120 {layered} --repeat 1",
        f"--neurons 1024 --layers 120 {layered} --repeat 2",
        f"--neurons 4096 --layers 120 {cpu}",
        f"--neurons 4096 --layers 120 {layered} --repeat 1",
        f"--neurons 4096 --layers 120 {layered} --repeat 2",
    ]


def test_devices_multiply_too() -> None:
    devices = "    devices: [{gpus: 1}, {gpus: [2, 4], threads: 3}]\n"
    assert words_of(f"{HEAD}{PROBLEM}    engines: [folded]\n{devices}") == [
        "--neurons 1024 --layers 3 --engine folded --gpus 1",
        "--neurons 1024 --layers 3 --engine folded --gpus 2 --threads 3",
        "--neurons 1024 --layers 3 --engine folded --gpus 4 --threads 3",
    ]


def test_what_is_nearer_to_the_engine_counts() -> None:
    text = """version: 1
suites:
  s:
    problems: {neurons: 1024, layers: 3, warmup: 2, repeat: 2, threads: 2}
    devices: {warmup: 3, repeat: 3}
    engines: {engine: cpu, repeat: 4}
    seed: 1
    threads: 1
    warmup: 1
    repeat: 1
"""
    assert words_of(text) == [
        "--neurons 1024 --layers 3 --engine cpu --threads 2 --warmup 3 --repeat 4 --seed 1"
    ]


def test_blocks_follow_each_other_and_no_run_comes_twice() -> None:
    text = """version: 1
suites:
  s:
    - {problems: {neurons: 1024, layers: [1, 2]}, engines: cpu, time-limit: 7.5}
    - {problems: {neurons: 1024, layers: [2, 3]}, engines: cpu}
"""
    runs = suite_of(text).runs
    assert [run.get("layers") for run in runs] == ["1", "2", "3"]
    assert [run.time_limit for run in runs] == [7.5, 7.5, DEFAULT_TIME_LIMIT]


def test_switches_and_sizes_are_written_as_on_the_command_line() -> None:
    options = "    engines: {engine: cpu, retire: [yes, false], device-memory: 8GB}\n"
    assert words_of(HEAD + PROBLEM + options) == [
        "--neurons 1024 --layers 3 --engine cpu --device-memory 8GB --retire",
        "--neurons 1024 --layers 3 --engine cpu --device-memory 8GB --no-retire",
    ]


def test_a_suite_with_a_dataset_of_ones_own() -> None:
    text = HEAD + "    problems: {dataset: own.h5}\n    engines: [cpu]\n"
    (run,) = suite_of(text).runs
    assert run.words == ("--dataset", "own.h5", "--engine", "cpu")
    assert run.title == "own.h5, cpu"


ENGINES = "    engines: [cpu]\n"
MISTAKES = {
    "key of a suite": (
        HEAD + PROBLEM + ENGINES + "    reapeat: 3\n",
        ", line 6: unknown key 'reapeat' in suite s. Did you mean 'repeat'?",
    ),
    "key of an engine": (
        HEAD + PROBLEM + "    engines:\n      - cpu\n      - {engine: cpu, thread: 2}\n",
        ", line 7: unknown key 'thread' in engines of suite s. Did you mean 'threads'?",
    ),
    "key of a problem": (
        HEAD + "    problems: {neuron: 1024, layers: 3}\n" + ENGINES,
        ", line 4: unknown key 'neuron' in problems of suite s. Did you mean 'neurons'?",
    ),
    "key of the file": (
        "version: 1\nsuite: {}\n",
        ", line 2: unknown key 'suite' in the file. Did you mean 'suites'?",
    ),
    "key that resembles none": (
        "version: 1\nsuites: {}\nqqq: 1\n",
        ", line 3: unknown key 'qqq' in the file. Keys there: version, suites.",
    ),
    "key twice": (
        HEAD + PROBLEM + ENGINES + "    repeat: 3\n    repeat: 4\n",
        ", line 7: 'repeat' is in suite s twice.",
    ),
    "an option that bench sets": (
        HEAD + PROBLEM + ENGINES + "    format: json\n",
        ", line 6: unknown key 'format' in suite s.",
    ),
    "engine": (
        HEAD + PROBLEM + "    engines:\n      - cpu\n      - tilde\n",
        ", line 7: engine: there is no engine 'tilde'. Did you mean 'tiled'? Engines: ",
    ),
    "engine, with a suggestion": (
        HEAD + PROBLEM + "    engines: [cpu-layred]\n",
        " Did you mean 'cpu-layered'?",
    ),
    "half a repeat": (
        HEAD + PROBLEM + ENGINES + "    repeat: 2.5\n",
        ", line 6: repeat: '2.5' is not a valid integer range.",
    ),
    "value out of range": (
        HEAD + PROBLEM + ENGINES + "    repeat:\n      - 1\n      - 0\n",
        ", line 8: repeat: 0 is not in the range x>=1.",
    ),
    "problem": (
        HEAD + "    problems:\n      neurons: [1024, 77]\n      layers: 3\n" + ENGINES,
        ", line 5: neurons: '77' is not one of 1024, 4096, 16384, 65536.",
    ),
    "size": (
        HEAD + PROBLEM + ENGINES + "    device-memory: lots\n",
        ", line 6: device-memory: 'lots' is not a size such as 8GB or 500MB.",
    ),
    "time limit": (
        HEAD + PROBLEM + ENGINES + "    time-limit: 0\n",
        ", line 6: time-limit: 0.0 is not in the range x>0.",
    ),
    "several time limits": (
        HEAD + PROBLEM + ENGINES + "    time-limit: [1, 2]\n",
        ", line 6: time-limit needs one value.",
    ),
    "no value": (
        HEAD + PROBLEM + ENGINES + "    repeat:\n",
        ", line 6: repeat needs a value, or a list of values.",
    ),
    "mapping for a value": (
        HEAD + PROBLEM + ENGINES + "    repeat: {a: 1}\n",
        ", line 6: repeat needs a value, or a list of values.",
    ),
    "empty list": (
        HEAD + PROBLEM + ENGINES + "    repeat: []\n",
        ", line 6: repeat needs at least one value.",
    ),
    "no engines": (HEAD + PROBLEM, ", line 4: suite s has no engines."),
    "no problems": (HEAD + ENGINES, ", line 4: suite s has no problems."),
    "empty engines": (
        HEAD + PROBLEM + "    engines: []\n",
        ", line 5: engines of suite s is empty.",
    ),
    "problem without layers": (
        HEAD + "    problems: {neurons: 1024}\n" + ENGINES,
        ", line 4: an entry of problems in suite s needs layers and neurons, or dataset.",
    ),
    "engine without its name": (
        HEAD + PROBLEM + "    engines: [{repeat: 3}]\n",
        ", line 5: an entry of engines in suite s needs engine.",
    ),
    "suite that is a word": (
        "version: 1\nsuites:\n  s: cpu\n",
        ", line 3: suite s needs keys with values (key: value).",
    ),
    "version": ("version: 2\nsuites: {}\n", ", line 1: has version 2; this program reads 1."),
    "no version": ("suites: {}\n", ": the file has no 'version'."),
    "not YAML": ("version: 1\nsuites: [\n", ", line 3: is not YAML (expected the node content,"),
    "empty": ("# nothing\n", ": is empty."),
    "list": ("- 1\n", ", line 1: the file needs keys with values (key: value)."),
    "no such suite": (
        "version: 1\nsuites: {smoke: {}}\n",
        ": there is no suite 's'. Suites: smoke.",
    ),
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_named_with_its_line(text: str, message: str) -> None:
    with pytest.raises(BenchError) as error:
        suite_of(text)

    shown = str(error.value)
    assert shown.startswith("bench.yaml")
    assert message in shown


def test_which_file_counts(tmp_path: Path) -> None:
    assert find(None).read_text() == (ROOT / "bench.yaml").read_text()  # the program's own
    here, other = Path("bench.yaml"), tmp_path / "other.yaml"
    here.write_text("")
    other.write_text("")
    assert find(None) == here
    assert find(other) == other
    with pytest.raises(BenchError, match=r"^gone.yaml: there is no such file\.$"):
        find(Path("gone.yaml"))


@pytest.mark.parametrize(
    ("name", "number"),
    [
        *(("smoke", 3), ("cpu", 20), ("h100", 60), ("kernels", 20), ("paper", 108)),
        *(("memory", 6), ("stream", 16), ("scaling", 56), ("workers", 34)),
    ],
)
def test_the_suites_that_come_with_the_program(name: str, number: int) -> None:
    file = SuiteFile(find(None), infer.params)

    assert name in file.names
    assert len(file.suite(name).runs) == number


def test_every_run_that_comes_with_the_program_is_a_command_line() -> None:
    file = SuiteFile(find(None), infer.params)
    own = registry.own_options()
    above = click.Context(cli, **cli.context_settings)  # without it Click keeps another --help
    for run in (run for name in file.names for run in file.suite(name).runs):
        given = infer.make_context("infer", list(run.words), above).params
        entry = registry.ENGINES[given["engine"]]
        taken = {option.name for option in entry.options}
        assert {name for name in own if given[name] is not None} <= taken, run.words
        if given.get("tile") not in (None, "auto"):
            assert parse_tiling(given["tile"]).shape.minibatch >= 1
        assert given["rebalance"] is None or entry.gives_values, run.words
        assert given["gpus"] is None or (entry.device == "cuda" and given["workers"] is None)
        assert given["workers"] is None or entry.device == "cpu", run.words


# ---- what the command does


class Folder:
    """A folder with a dataset of 3 neurons and 3 images, and a bench.yaml."""

    def __init__(self, path: Path) -> None:
        self.path, self.results = path, path / "results"

    def fill(self) -> None:
        """Write the dataset."""
        matrix = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
        inputs = bit_features(np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0]]))
        write_dataset(self.path / "own.h5", inputs, [(0, fold(layer_of(matrix)))], 1, 32.0, {})

    def write(self, engines: list[dict[str, Any]], **more: Any) -> None:
        """Write a suite s of these engines."""
        block = {"problems": {"dataset": "own.h5"}, "engines": engines, "device": "cpu", **more}
        text = json.dumps({"version": 1, "suites": {"s": {"warmup": 0, "repeat": 1} | block}})
        (self.path / "bench.yaml").write_text(text)  # JSON is YAML

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start `spdnn bench` in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "spdnn_cli", "bench", *words],
            cwd=self.path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def prepared(self) -> Bench:
        """The suite s as it stands: what is done, what is to go."""
        workspace = Workspace(Path("datasets"), Path("results"))
        return Bench(workspace, SuiteFile(Path("bench.yaml"), infer.params).suite("s"))

    def made(self) -> set[Path]:
        """The result files."""
        return set(self.results.glob("local/*/n*.json"))


@dataclass(frozen=True)
class Ended:
    """A `spdnn bench` that has ended."""

    folder: Folder
    code: int
    out: str
    err: list[str]


def ended(folder: Folder, process: subprocess.Popen[str]) -> Ended:
    out, err = process.communicate(timeout=120)
    return Ended(folder, process.returncode, out, err.splitlines())


def bench(*words: str) -> tuple[int, str, list[str]]:
    """`spdnn bench` in this process, its runs in theirs: exit code, stdout, lines of stderr."""
    done = here.run("bench", *words)
    return done.code, done.out, done.err.splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path)
    folder.fill()
    return folder


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """A suite of two engines that ran."""
    folder = Folder(tmp_path_factory.mktemp("ran"))
    folder.fill()
    folder.write([CPU, LAYERED])
    return ended(folder, folder.start("s"))


@pytest.fixture
def after(ran: Ended, tmp_path: Path) -> Folder:
    """A folder of its own in which that suite was done."""
    shutil.copytree(ran.folder.path, tmp_path, dirs_exist_ok=True)
    return Folder(tmp_path)


@pytest.fixture(autouse=True)
def nothing_runs_on() -> Iterator[None]:
    """A test that fails leaves no process behind."""
    yield
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            if str(FOREVER) in process.cmdline():
                process.kill()


CPU, LAYERED = {"engine": "cpu", "threads": 1}, {"engine": "cpu-layered", "threads": 1}
GONE = {"engine": "cpu", "dataset": "gone.h5"}
REFUSED = {"engine": "cpu", "tile": "auto"}
ENDLESS = {"engine": "cpu", "threads": 1, "repeat": FOREVER}
KILLED, LONG = ENDLESS | {"images": 1}, ENDLESS | {"images": 2, "time-limit": 3}


def test_a_suite_runs_is_verified_and_ends_with_its_table(ran: Ended) -> None:
    assert ran.code == 0, ran.err
    assert ran.err[0].startswith(
        "[1/2] own.h5, cpu, device cpu, threads 1, warmup 0, repeat 1: done in"
    )
    assert ran.err[1].startswith("[2/2] own.h5, cpu-layered, device cpu, threads 1, warmup 0,")
    assert "TeraEdges/s (effective)" in ran.out
    assert "cpu-layered (1 thread)" in ran.out
    records = [json.loads(path.read_text()) for path in ran.folder.made()]
    assert all(
        record["command"][:4] == ["spdnn", "infer", "--dataset", "own.h5"] for record in records
    )
    assert [(record["suite"], record["verification"]) for record in records] == [
        (
            "s",
            {
                "status": "verified",
                "against": "the reference engine (float64)",
                "difference": None,
            },
        )
    ] * 2


def test_what_was_done_is_not_run_again(after: Folder) -> None:
    made = after.made()
    (cpu,) = (path.relative_to(after.path) for path in made if "-cpu-2" in path.name)

    code, out, err = bench("s")
    assert (code, after.made()) == (0, made)
    shown = f"[1/2] own.h5, cpu, device cpu, threads 1, warmup 0, repeat 1: done before, {cpu}"
    assert err[0] == shown
    assert "cpu (1 thread)" in out

    (after.path / "own.h5").unlink()  # which fails at once, if it is run
    after.write([CPU])
    assert "done before" in bench("s")[2][0]
    assert "own.h5: there is no such file" in bench("s", "--again")[2][0]
    assert after.made() == made


OTHERS: list[tuple[str, Callable[[dict[str, Any]], None]]] = [
    ("program", lambda record: record["program"].update(sources_sha256="0" * 64)),
    ("machine", lambda record: record["machine"].update(cpu="another")),
    ("suite", lambda record: record.update(suite=None)),
    ("unverified", lambda record: record["verification"].update(status="not verified")),
]


@pytest.mark.parametrize("change", [change for _, change in OTHERS], ids=[n for n, _ in OTHERS])
def test_what_another_program_or_machine_did_is_run_anew(
    after: Folder, change: Callable[[dict[str, Any]], None]
) -> None:
    assert after.prepared().pending == []
    for path in after.made():
        record = json.loads(path.read_text())
        change(record)
        path.write_text(json.dumps(record))

    prepared = after.prepared()
    assert prepared.pending == list(prepared.suite.runs)


def test_a_result_that_is_gone_is_made_anew(after: Folder) -> None:
    (layered,) = (path for path in after.made() if "-cpu-layered-" in path.name)
    layered.unlink()

    prepared = after.prepared()
    assert prepared.pending == list(prepared.suite.runs[1:])


def wait_for(line: str, process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    for shown in process.stderr:
        if line in shown:
            return
    raise AssertionError(f"it ended without {line!r}")


def child_of(process: subprocess.Popen[str]) -> psutil.Process:
    """The run under way, once it has started."""
    for _ in range(600):
        for child in psutil.Process(process.pid).children():
            with contextlib.suppress(psutil.Error):  # others, as git, come and go
                if "infer" in child.cmdline():
                    return child
        time.sleep(0.1)
    raise AssertionError("it started no run")


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_suite_goes_on_where_it_stopped(after: Folder, number: int) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("the signal is ignored here, as under nohup, and so it is by spdnn")
    made = after.made()
    after.write([CPU, ENDLESS])
    process = after.start("s")
    wait_for("[1/2]", process)
    child = child_of(process)

    process.send_signal(number)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 1
    assert err == (
        "error: interrupted; 1 of 2 runs of suite s are done. "
        "Run the same command again, without --again, to go on from there.\n"
    )
    assert not child.is_running()  # nor is it left as an orphan
    assert after.made() == made
    assert not list(after.results.rglob("*.part"))
    prepared = after.prepared()
    assert prepared.pending == list(prepared.suite.runs[1:])


def test_a_bench_that_is_killed_goes_on_where_it_stopped(after: Folder) -> None:
    made = after.made()
    after.write([CPU, ENDLESS])
    process = after.start("s")
    wait_for("[1/2]", process)
    child = child_of(process)
    process.kill()
    child.kill()
    process.communicate(timeout=60)

    assert after.made() == made
    prepared = after.prepared()
    assert prepared.pending == list(prepared.suite.runs[1:])


MODULES = ("random", "json", "numpy", "click", "psutil", "yaml")


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """A suite of four runs that fail and one that does not, among a user's own modules."""
    folder = Folder(tmp_path_factory.mktemp("failed"))
    folder.fill()
    for name in MODULES:
        (folder.path / f"{name}.py").write_text("raise SystemExit(f'{__name__} of the user')")
    folder.write([KILLED, GONE, REFUSED, LONG, CPU])
    process = folder.start("s")
    child_of(process).kill()
    return ended(folder, process)


def test_a_failure_is_told_and_the_rest_still_runs(failed: Ended) -> None:
    missing = "exit code 1: gone.h5: there is no such file. Run spdnn convert to make the dataset."
    title = "gone.h5, cpu, device cpu, warmup 0, repeat 1"
    assert failed.code == 1
    assert failed.err[1] == f"[2/5] {title}: FAILED: {missing}"
    assert failed.err[4].startswith("[5/5] own.h5, cpu, device cpu, threads 1, warmup 0, repeat 1")
    assert "done in" in failed.err[4]
    assert f"Failed: {title}: {missing}" in failed.err[5:]
    assert failed.err[-1] == (
        "error: 4 of 5 runs of suite s failed. Run the command again to run these again."
    )
    assert "cpu (1 thread)" in failed.out
    assert len(failed.folder.made()) == 1


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_a_run_that_is_killed_is_a_failure(failed: Ended) -> None:
    told = "it was killed by SIGKILL: perhaps there was too little memory"
    assert failed.err[0].endswith(f"FAILED: {told}")


def test_what_infer_refuses_is_a_failure_with_its_reason(failed: Ended) -> None:
    told = "exit code 1: engine cpu does not take --tile. Leave out --tile."
    assert failed.err[2].endswith(f"FAILED: {told}")


def test_a_run_has_a_time_limit(failed: Ended) -> None:
    assert failed.err[3].endswith("FAILED: it took longer than its time limit of 3 s")


def test_modules_in_the_current_folder_are_not_imported(failed: Ended) -> None:
    assert all((failed.folder.path / f"{name}.py").exists() for name in MODULES)
    assert "of the user" not in failed.out + "".join(failed.err)
    assert "done in" in failed.err[4]


def test_what_failed_is_run_again_and_what_was_done_is_not(failed: Ended, tmp_path: Path) -> None:
    shutil.copytree(failed.folder.path, tmp_path, dirs_exist_ok=True)
    prepared = Folder(tmp_path).prepared()
    assert prepared.pending == list(prepared.suite.runs[:4])


def test_a_result_that_nobody_can_verify_is_a_failure_until_it_is_verified(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write([CPU])
    monkeypatch.setattr(benching, "MOST_REFERENCE_EDGES", 0)
    told: list[Settled] = []

    folder.prepared().execute(lambda run: None, told.append)

    (outcome,) = told
    assert outcome.state == "failed"
    assert outcome.result is not None
    assert outcome.reason == (
        "not verified: no answer is stored for this problem. Run: "
        f"spdnn verify {outcome.result.record.id}"
    )
    assert here.run("verify", outcome.result.record.id).code == 0
    (kept,) = folder.prepared().outcomes
    assert (kept.state, kept.result_name) == ("kept", outcome.result_name)


def test_what_this_machine_cannot_run_is_skipped(after: Folder) -> None:
    after.write([CPU, {"engine": "cpu", "threads": 4096}])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    reason = f"it needs 4096 cores, this machine has {cores}"

    code, _, err = bench("s")
    assert code == 0
    assert err[1].endswith(f"threads 4096, warmup 0, repeat 1: SKIPPED: {reason}")
    assert err[-1] == f"Skipped: 1 run: {reason}"

    after.write([{"engine": "cpu", "threads": 4096}])
    code, out, err = bench("s")
    assert (code, out) == (1, "")
    assert err[-1] == (
        "error: nothing was run: this machine cannot do any run of suite s. See spdnn bench --list."
    )


@pytest.mark.parametrize(
    ("engine", "wanted"),
    [
        ({"engine": "folded"}, 1),
        ({"engine": "folded", "gpus": 9}, 9),
        ({"engine": "auto", "device": "cuda"}, 1),
        ({"engine": "auto", "gpus": 9}, 9),
    ],
    ids=str,
)
def test_more_gpus_than_there_are(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, engine: dict[str, Any], wanted: int
) -> None:
    monkeypatch.setattr(benching, "gpus", lambda: ())
    folder.write([engine], threads=1)
    text = (folder.path / "bench.yaml").read_text().replace('"device": "cpu", ', "")
    (run,) = suite_of(text).runs

    shown = "1 GPU" if wanted == 1 else f"{wanted} GPUs"
    assert benching.why_not_here(run) == f"it needs {shown}, this machine has 0"


def test_list_shows_the_runs_as_commands_and_runs_none(folder: Folder) -> None:
    folder.write([CPU, {"engine": "cpu", "threads": 4096}])

    code, out, err = bench("--list")

    assert (code, err) == (0, [])
    command = "  spdnn infer --dataset own.h5 --engine cpu --device cpu"
    lines = out.splitlines()
    assert lines[:2] == ["s: 2 runs", f"{command} --threads 1 --warmup 0 --repeat 1"]
    assert lines[2].startswith(f"{command} --threads 4096 --warmup 0 --repeat 1  (it needs 4096")
    assert not folder.results.exists()
    assert bench("s", "--list") == (code, out, err)
    assert bench("t", "--list")[2] == ["error: bench.yaml: there is no suite 't'. Suites: s."]


def test_without_a_name_it_is_smoke(folder: Folder) -> None:
    folder.write([CPU])

    assert bench() == (
        1,
        "",
        ["error: bench.yaml: there is no suite 'smoke'. Suites: s."],
    )


def test_time_left_is_that_of_the_runs_so_far(folder: Folder) -> None:
    folder.write([CPU, LAYERED, ENDLESS])
    prepared = folder.prepared()
    assert prepared.seconds_left() is None

    first = prepared.pending[0]
    prepared._settled[first] = Settled(first, "done", seconds=30.0)
    assert prepared.seconds_left() == 2 * 30.0


# ---- folders of any name


@pytest.mark.skipif(sys.platform != "linux", reason="such names are not to be had everywhere")
@pytest.mark.parametrize(
    "name",
    [
        os.fsdecode(b"no \xff UTF-8"),
        pytest.param("-dash", marks=pytest.mark.slow),
        pytest.param("two\nlines", marks=pytest.mark.slow),
        pytest.param("däta", marks=pytest.mark.slow),
    ],
    ids=ascii,
)
def test_folders_of_any_name(after: Folder, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPDNN_RESULTS_DIR", name)
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    after.results.rename(after.path / name)
    after.write([CPU, CPU | {"images": 2}])

    done = ended(after, after.start("s"))
    assert done.code == 0, done.err
    shown = one_line(name).encode("ascii", "backslashreplace").decode()
    assert f"done before, {shown}" in done.err[0]
    assert "done in" in done.err[1]
    assert len(list((after.path / name).glob("local/*/n*.json"))) == 3


def test_results_that_cannot_be_written_stop_a_suite_before_its_runs(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPDNN_RESULTS_DIR", "own.h5/results")  # below a file
    folder.write([ENDLESS])

    code, out, err = bench("s")

    assert (code, out, len(err)) == (1, "", 1)
    assert err[0].startswith("error: own.h5/results/")
    assert err[0].endswith(
        ": cannot be written (Not a directory). A file is where a folder must be."
    )
