"""Suites and their execution: what bench.yaml may say, and what `spdnn bench` does with it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from helpers.networks import bit_features, layer_of
from helpers.places import ROOT

from spdnn_cli.bench import suite_run as benching
from spdnn_cli.bench.suite import DEFAULT_TIME_LIMIT, Suite, SuiteFile, find
from spdnn_cli.bench.suite_run import Bench, Settled
from spdnn_cli.cli.infer import infer
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


# ---- what the command does


class Folder:
    """A folder with a dataset of 3 neurons and 3 images, and a bench.yaml."""

    def __init__(self, path: Path) -> None:
        self.path, self.results = path, path / "results"
        matrix = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
        inputs = bit_features(np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0]]))
        write_dataset(path / "own.h5", inputs, [(0, fold(layer_of(matrix)))], 1, 32.0, {})

    def write(self, engines: list[dict[str, Any]], **more: Any) -> None:
        block = {"problems": {"dataset": "own.h5"}, "engines": engines, "device": "cpu", **more}
        text = json.dumps({"version": 1, "suites": {"s": {"warmup": 0, "repeat": 1} | block}})
        (self.path / "bench.yaml").write_text(text)  # JSON is YAML

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "spdnn_cli", "bench", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def bench(self, *words: str) -> tuple[int, str, list[str]]:
        """Exit code, stdout, lines of stderr."""
        process = self.start(*words)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err.splitlines()

    def made(self) -> set[Path]:
        """The result files."""
        return set(self.results.glob("local/*/n*.json"))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


CPU, LAYERED = {"engine": "cpu", "threads": 1}, {"engine": "cpu-layered", "threads": 1}
GONE = {"engine": "cpu", "dataset": "gone.h5"}
ENDLESS = {"engine": "cpu", "threads": 1, "repeat": FOREVER}


def test_a_suite_runs_is_verified_and_ends_with_its_table(folder: Folder) -> None:
    folder.write([CPU, LAYERED])

    code, out, err = folder.bench("s")

    assert code == 0, err
    assert err[0].startswith(
        "[1/2] own.h5, cpu, device cpu, threads 1, warmup 0, repeat 1: done in"
    )
    assert err[1].startswith("[2/2] own.h5, cpu-layered, device cpu, threads 1, warmup 0,")
    assert "TeraEdges/s (effective)" in out
    assert "cpu-layered (1 thread)" in out
    records = [json.loads(path.read_text()) for path in folder.made()]
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


def test_what_was_done_is_not_run_again(folder: Folder) -> None:
    folder.write([CPU])
    assert folder.bench("s")[0] == 0
    (first,) = folder.made()

    kept = folder.bench("s")
    assert (kept[0], folder.made()) == (0, {first})
    shown = f"[1/1] own.h5, cpu, device cpu, threads 1, warmup 0, repeat 1: done before, {first}"
    assert kept[2][0] == shown.replace(f"{folder.path}/", "")
    assert "cpu (1 thread)" in kept[1]

    assert folder.bench("s", "--again")[0] == 0
    assert len(folder.made()) == 2


OTHERS: list[tuple[str, Callable[[dict[str, Any]], None]]] = [
    ("program", lambda record: record["program"].update(sources_sha256="0" * 64)),
    ("machine", lambda record: record["machine"].update(cpu="another")),
    ("suite", lambda record: record.update(suite=None)),
    ("unverified", lambda record: record["verification"].update(status="not verified")),
]


@pytest.mark.parametrize("change", [change for _, change in OTHERS], ids=[n for n, _ in OTHERS])
def test_what_another_program_or_machine_did_is_run_anew(
    folder: Folder, change: Callable[[dict[str, Any]], None]
) -> None:
    folder.write([CPU])
    suite = SuiteFile(Path("bench.yaml"), infer.params).suite("s")
    workspace = Workspace(Path("datasets"), Path("results"))
    Bench(workspace, suite).execute(lambda run: None, lambda settled: None)
    (path,) = folder.made()
    assert Bench(workspace, suite).pending == []

    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    assert Bench(workspace, suite).pending == list(suite.runs)


@pytest.mark.slow
def test_a_result_that_is_gone_is_made_anew(folder: Folder) -> None:
    folder.write([CPU])
    assert folder.bench("s")[0] == 0
    (first,) = folder.made()
    first.unlink()

    assert folder.bench("s")[0] == 0
    assert len(folder.made() - {first}) == 1


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
def test_an_interrupted_suite_goes_on_where_it_stopped(folder: Folder, number: int) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("the signal is ignored here, as under nohup, and so it is by spdnn")
    folder.write([CPU, ENDLESS])
    process = folder.start("s")
    wait_for("[1/2]", process)
    child = child_of(process)
    (first,) = folder.made()

    process.send_signal(number)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 1
    assert err == (
        "error: interrupted; 1 of 2 runs of suite s are done. "
        "Run the same command again, without --again, to go on from there.\n"
    )
    assert not child.is_running()  # nor is it left as an orphan
    assert folder.made() == {first}
    assert not list(folder.results.rglob("*.part"))

    folder.write([CPU, ENDLESS | {"repeat": 2}])
    code, _, lines = folder.bench("s")
    assert (code, len(folder.made())) == (0, 2)
    assert "done before" in lines[0]
    assert "done in" in lines[1]


@pytest.mark.slow
def test_a_bench_that_is_killed_goes_on_where_it_stopped(folder: Folder) -> None:
    folder.write([CPU, ENDLESS])
    process = folder.start("s")
    wait_for("[1/2]", process)
    child = child_of(process)
    process.kill()
    child.kill()
    process.communicate(timeout=60)

    folder.write([CPU, LAYERED])
    code, _, lines = folder.bench("s")
    assert (code, len(folder.made())) == (0, 2)
    assert "done before" in lines[0]


def test_a_failure_is_noted_and_the_rest_still_runs(folder: Folder) -> None:
    folder.write([GONE, CPU])

    code, out, err = folder.bench("s")

    missing = "exit code 1: gone.h5: there is no such file. Run spdnn convert to make the dataset."
    title = "gone.h5, cpu, device cpu, warmup 0, repeat 1"
    assert code == 1
    assert err[0] == f"[1/2] {title}: FAILED: {missing}"
    assert "done in" in err[1]
    assert err[-2:] == [
        f"Failed: {title}: {missing}",
        "error: 1 of 2 runs of suite s failed. Run the command again to run these again.",
    ]
    assert "cpu (1 thread)" in out

    # What failed runs again, what was done does not.
    (folder.path / "gone.h5").write_bytes((folder.path / "own.h5").read_bytes())
    code, _, err = folder.bench("s")
    assert (code, len(folder.made())) == (0, 2)
    assert "done in" in err[0] + err[1]
    assert "done before" in err[0] + err[1]


def test_what_infer_refuses_is_a_failure_with_its_reason(folder: Folder) -> None:
    folder.write([{"engine": "cpu", "tile": "auto", "images": 1}])
    suite = SuiteFile(Path("bench.yaml"), infer.params).suite("s")
    ended: list[Settled] = []
    Bench(Workspace(Path("datasets"), folder.results), suite).execute(
        lambda run: None, ended.append
    )
    (outcome,) = ended
    assert outcome.state == "failed"
    assert outcome.reason is not None
    assert outcome.reason == "exit code 1: engine cpu does not take --tile. Leave out --tile."


@pytest.mark.slow
def test_a_run_has_a_time_limit(folder: Folder) -> None:
    folder.write([ENDLESS | {"time-limit": 3}, CPU])

    code, _, err = folder.bench("s")

    assert code == 1
    assert err[0].endswith("FAILED: it took longer than its time limit of 3 s")
    assert "done in" in err[1]
    assert len(folder.made()) == 1


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_a_run_that_is_killed_is_a_failure(folder: Folder) -> None:
    folder.write([ENDLESS, CPU])
    process = folder.start("s")
    child_of(process).kill()
    _, err = process.communicate(timeout=60)

    assert process.returncode == 1
    lines = err.splitlines()
    assert lines[0].endswith("it was killed by SIGKILL: perhaps there was too little memory")
    assert "done in" in lines[1]


@pytest.mark.slow
def test_a_result_that_nobody_can_verify_is_a_failure_until_it_is_verified(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write([CPU])
    workspace = Workspace(Path("datasets"), Path("results"))
    suite = SuiteFile(Path("bench.yaml"), infer.params).suite("s")
    monkeypatch.setattr(benching, "MOST_REFERENCE_EDGES", 0)
    ended: list[Settled] = []

    Bench(workspace, suite).execute(lambda run: None, ended.append)

    (outcome,) = ended
    assert outcome.state == "failed"
    assert outcome.result is not None
    assert outcome.reason == (
        "not verified: no answer is stored for this problem. Run: "
        f"spdnn verify {outcome.result.record.id}"
    )
    command = [sys.executable, "-m", "spdnn_cli", "verify", outcome.result.record.id]
    assert subprocess.run(command, check=True, capture_output=True).returncode == 0
    (kept,) = Bench(workspace, suite).outcomes
    assert (kept.state, kept.result_name) == ("kept", outcome.result_name)


def test_what_this_machine_cannot_run_is_skipped(folder: Folder) -> None:
    folder.write([CPU, {"engine": "cpu", "threads": 4096}])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    reason = f"it needs 4096 cores, this machine has {cores}"

    code, _, err = folder.bench("s")
    assert code == 0
    assert err[0].endswith(f"threads 4096, warmup 0, repeat 1: SKIPPED: {reason}")
    assert err[-1] == f"Skipped: 1 run: {reason}"

    folder.write([{"engine": "cpu", "threads": 4096}])
    code, out, err = folder.bench("s")
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

    code, out, err = folder.bench("--list")

    assert (code, err) == (0, [])
    command = "  spdnn infer --dataset own.h5 --engine cpu --device cpu"
    lines = out.splitlines()
    assert lines[:2] == ["s: 2 runs", f"{command} --threads 1 --warmup 0 --repeat 1"]
    assert lines[2].startswith(f"{command} --threads 4096 --warmup 0 --repeat 1  (it needs 4096")
    assert not folder.results.exists()
    assert folder.bench("s", "--list") == (code, out, err)
    assert folder.bench("t", "--list")[2] == [
        "error: bench.yaml: there is no suite 't'. Suites: s."
    ]


def test_without_a_name_it_is_smoke(folder: Folder) -> None:
    folder.write([CPU])

    assert folder.bench() == (
        1,
        "",
        ["error: bench.yaml: there is no suite 'smoke'. Suites: s."],
    )


def test_time_left_is_that_of_the_runs_so_far(folder: Folder) -> None:
    folder.write([CPU, LAYERED, ENDLESS])
    workspace = Workspace(Path("datasets"), Path("results"))
    bench = Bench(workspace, SuiteFile(Path("bench.yaml"), infer.params).suite("s"))
    assert bench.seconds_left() is None

    first = bench.pending[0]
    bench._settled[first] = Settled(first, "done", seconds=30.0)
    assert bench.seconds_left() == 2 * 30.0


# ---- folders and modules of any name


@pytest.mark.slow
def test_modules_in_the_current_folder_are_not_imported(folder: Folder) -> None:
    for name in ("random", "json", "numpy", "click", "psutil", "yaml"):
        (folder.path / f"{name}.py").write_text("raise SystemExit(f'{__name__} of the user')")
    folder.write([CPU])

    code, _, err = folder.bench("s")

    assert (code, len(folder.made())) == (0, 1), err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="such names are not to be had everywhere")
@pytest.mark.parametrize(
    "name",
    [
        "-dash",
        os.fsdecode(b"no \xff UTF-8"),
        "two\nlines",
        "däta",
    ],
    ids=ascii,
)
def test_folders_of_any_name(folder: Folder, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPDNN_RESULTS_DIR", name)
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    folder.write([CPU])

    for state in ("done in", f"done before, {one_line(name)}".encode("ascii", "backslashreplace")):
        code, _, err = folder.bench("s")
        assert code == 0, err
        assert (state if isinstance(state, str) else state.decode()) in err[0]
    assert len(list((folder.path / name).glob("local/*/n*.json"))) == 1


def test_results_that_cannot_be_written_stop_a_suite_before_its_runs(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPDNN_RESULTS_DIR", "own.h5/results")  # below a file
    folder.write([ENDLESS])

    code, out, err = folder.bench("s")

    assert (code, out, len(err)) == (1, "", 1)
    assert err[0].startswith("error: own.h5/results/")
    assert err[0].endswith(
        ": cannot be written (Not a directory). A file is where a folder must be."
    )
