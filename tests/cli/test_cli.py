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


<<<<<<< HEAD
=======
# ---- the three commands


def test_fetch_infer_report(empty: Spdnn, challenge: Path, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    shutil.copy(challenge / problem.MNIST_FILE, mirror)

    fetched = empty("fetch", "--neurons", "1024", "--mirror", mirror)
    assert (fetched.code, fetched.out) == (
        0,
        f"{empty.data / 'raw' / problem.MNIST_FILE}  9.6 MB  fetched\n",
    )
    assert fetched.err.splitlines() == [
        f"{problem.MNIST_FILE}: 9.6 MB, missing",
        f"To fetch: 9.6 MB into {empty.data / 'raw'}",
    ]

    inferred = empty("infer", "--layers", "120", *QUICK)
    assert inferred.code == 0
    assert "1024 neurons, 120 layers, 60000 images" in inferred.out
    assert "official, official (from mnist)" in inferred.out
    assert "1812 images, VERIFIED against the official categories (SHA-256)" in inferred.out
    assert inferred.err.splitlines()[:2] == [
        "Problem: N=1024, the last one fetched or converted.",
        f"Converting N=1024 from mnist into {empty.dataset}, once.",
    ]

    reported = empty("report", "--format", "json").json()[0]["rows"][0]
    assert (reported["layers"], reported["images"], reported["data"]) == (
        120,
        60000,
        "official",
    )
    (rate,) = (cell for name, cell in reported.items() if name.startswith("cpu ("))
    assert float(rate) > 0  # and no star: verified

    truth = challenge / "neuron1024-l120-categories.tsv"
    verified = empty("verify", "--truth", truth)
    assert "1812 categories: VERIFIED, against the official categories file" in verified.out


def test_infer_without_data_makes_its_own_and_says_so(empty: Spdnn) -> None:
    outcome = empty("infer", "--images", "100", *QUICK)

    assert outcome.code == 0
    assert outcome.err.splitlines()[0] == (
        "No dataset here: drawing synthetic digits for the official network. "
        "For the official inputs, run: spdnn fetch --neurons 1024"
    )
    assert "1024 neurons, 1920 layers, 100 images" in outcome.out
    rows = [line.replace("│", "").split() for line in outcome.out.splitlines()]
    assert ["inputs", "synthetic"] in rows
    assert ["network", "official"] in rows
    assert open_dataset(empty.dataset).provenance["source"] == "synthetic"


def test_infer_takes_fewer_layers_than_there_are(spdnn: Spdnn) -> None:
    record = spdnn("infer", "--layers", "2", "--format", "json", *QUICK).json()

    assert (record["layers"], record["images"], len(record["alive"])) == (2, 60_000, 2)


# ---- what infer writes


def test_infer_json_is_the_result_file(spdnn: Spdnn, result_file: Path) -> None:
    outcome = spdnn("infer", "--format", "json", "--images", "50", *QUICK[:-1], "3")
    record = outcome.json()

    for name in (
        *("neurons", "layers", "images", "engine", "device", "shortcuts", "dataset", "survivors"),
        *("verified", "verified_against", "effective_teraedges_per_s", "executed_edges"),
    ):
        assert name in record
    assert (record["neurons"], record["layers"], record["images"]) == (1024, 3, 50)
    assert (record["device"], record["dataset"]["source"]) == ("cpu", "synthetic")
    assert (record["verified"], record["verified_against"]) == (False, None)
    samples = record["timings_s"]["infer"]["samples"]
    assert len(samples) == 3
    assert record["timings_s"]["infer"]["median"] == sorted(samples)[1]
    rate = 50 * 3 * 1024 * 32 / sorted(samples)[1] / 1e12
    assert record["effective_teraedges_per_s"] == pytest.approx(rate)

    (path,) = set(spdnn.results.glob("*/n*.json")) - {result_file}
    assert outcome.err.endswith(f"Result file: {path}\n")
    assert json.loads(path.read_text()) == {"schema_version": 2} | record
    assert path.parent.parent == spdnn.results
    assert set(record["machine"]) >= {"cpu", "cores", "memory_bytes", "gpus", "packages"}
    categories = path.with_name(path.stem + "-categories.tsv").read_bytes()
    assert hashlib.sha256(categories).hexdigest() == record["categories_sha256"]
    assert len(categories.splitlines()) == record["survivors"] > 0


def test_output_is_whole_and_plain_off_a_terminal(spdnn: Spdnn, result_file: Path) -> None:
    outcomes = [spdnn(*words) for words in (["infer", *QUICK], ["verify", result_file], ["report"])]

    for outcome in outcomes:
        assert outcome.code == 0
        assert not re.search("[\x1b\r…]", outcome.out + outcome.err)
    assert max(len(line) for line in outcomes[0].out.splitlines()) > 80


def test_dataset_file_is_named_in_full_whatever_its_name(tmp_path: Path, made_once: Path) -> None:
    folder = tmp_path / "[bold]a folder with a long name :smile:" / "and another one [/bold]"
    spdnn = Spdnn(Path(shutil.copytree(made_once, folder)))

    outcome = spdnn("convert", "--layers", "3")

    assert str(spdnn.dataset) in outcome.out


>>>>>>> words
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
<<<<<<< HEAD
    assert len(list(Path("results").glob("local/*/n*.json"))) == 1
=======
    assert len(list(Path("results").glob("*/n*.json"))) == 1


def test_results_that_cannot_be_written_are_known_before_the_run(spdnn: Spdnn) -> None:
    before = spdnn.files()
    in_the_way = spdnn.dataset / "results"  # a file where a folder must be
    spdnn.folders[-1] = str(in_the_way)

    message = spdnn.fails("infer", "--repeat", "1000000000", "--device", "cpu")

    assert re.fullmatch(
        rf"{re.escape(str(in_the_way))}/[^/]*: cannot be written \(Not a directory\)\. "
        r"A file is where a folder must be\.",
        message,
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
    machine_folder = next(spdnn.results.iterdir())
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


@pytest.mark.parametrize("form", ["table", "json"])
def test_a_result_that_cannot_be_written_after_all_was_printed(
    spdnn: Spdnn, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(source), None, str(target))

    before = spdnn.files()
    monkeypatch.setattr(os, "replace", full)
    outcomes = [
        spdnn(*words, "--format", form)
        for words in (["infer", "--images", "10", "--trace", *QUICK], ["verify"])
    ]

    for outcome, shown in zip(
        outcomes, ["effective_teraedges" if form == "json" else "TeraEdges/s", "erified"],
        strict=True,
    ):  # fmt: skip
        assert outcome.code == 1
        assert shown.lower() in outcome.out.lower()
        assert outcome.err.endswith(
            ": cannot be written (No space left on device). Is there room on the disk?\n"
        )
    assert spdnn.files() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_result_that_cannot_be_printed_is_written(spdnn: Spdnn, result_file: Path) -> None:
    with Path("/dev/full").open("w") as full:
        process = spdnn.start("infer", "--images", "10", *QUICK, stdout=full)
        assert process.wait(60) == 1

    assert len(list(result_file.parent.glob("n*.json"))) == 2


def buffered() -> dict[str, str]:
    """The environment, with a buffer for stdout as users have it."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_stdout_that_cannot_be_written_is_one_line(spdnn: Spdnn) -> None:
    command = [sys.executable, "-m", "spdnn_cli", *spdnn.folders, "report"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=buffered()
        )

    assert (done.returncode, done.stderr) == (1, "error: No space left on device.\n")


def test_stdout_that_nobody_reads_is_no_error(spdnn: Spdnn) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "spdnn_cli", *spdnn.folders, "report", "--format", "json"]
    done = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, env=buffered()
    )
    os.close(writer)

    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
@pytest.mark.parametrize(
    ("words", "closed"),
    [(["report"], ">&-"), (["infer", "--images", "10", *QUICK], ">&- 2>&-")],
    ids=["stdout", "stdout and stderr"],
)
def test_closed_stream_is_no_error(spdnn: Spdnn, words: list[str], closed: str) -> None:
    command = [sys.executable, "-m", "spdnn_cli", *spdnn.folders, *words]
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *command]
    done = subprocess.run(shell, stderr=subprocess.PIPE, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


# ---- devices


@pytest.mark.parametrize(
    ("present", "words", "message"),
    [
        (
            0,
            ["--gpus", "6"],
            "6 GPUs were asked for, this machine has 0. "
            "Leave out --gpus to use the best device present.",
        ),
        (
            2,
            ["--gpus", "6"],
            "6 GPUs were asked for, this machine has 2. "
            "Leave out --gpus to use the best device present.",
        ),
        (0, ["--device", "cuda"], "there is no NVIDIA GPU on this machine. Use --device cpu."),
    ],
)
def test_devices_that_are_not_there(
    empty: Spdnn,
    with_gpus: Callable[..., dict[str, str]],
    present: int,
    words: list[str],
    message: str,
) -> None:
    process = empty.start("infer", *words, stderr=subprocess.PIPE, env=with_gpus(present))
    out, err = process.communicate(timeout=60)

    assert (process.returncode, out, err.decode()) == (1, b"", f"error: {message}\n")
    assert empty.files() == set()


def test_a_device_that_is_named_twice(
    empty: Spdnn, with_gpus: Callable[..., dict[str, str]]
) -> None:
    environment = with_gpus(2) | {"CUDA_VISIBLE_DEVICES": "1,GPU-1"}
    process = empty.start("infer", "--gpus", "2", stderr=subprocess.PIPE, env=environment)
    out, err = process.communicate(timeout=60)

    message = "CUDA_VISIBLE_DEVICES=1,GPU-1 names the device GPU-1 twice. Name each device once."
    assert (process.returncode, out, err.decode()) == (1, b"", f"error: {message}\n")
    assert empty.files() == set()


def test_engine_on_a_device_that_is_not_its_own(spdnn: Spdnn) -> None:
    assert spdnn.fails("infer", "--engine", "tiled", "--device", "cpu") == (
        "engine tiled runs on cuda, not on cpu. "
        "Leave out --device, or choose one of reference, cpu-layered, cpu."
    )


# ---- Ctrl-C


@pytest.mark.parametrize(
    ("words", "sign"),
    [
        (["convert", "--layers", "1920"], b"layers"),
        (["infer", "--device", "cpu", "--repeat", "1000000"], b"images alive"),
    ],
    ids=["convert", "infer"],
)
def test_interrupt_is_one_line_and_leaves_nothing_half(
    spdnn: Spdnn, words: list[str], sign: bytes
) -> None:
    """On a terminal, where progress shows when the work has begun."""
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    before, content = spdnn.files(), spdnn.dataset.read_bytes()
    terminal, stderr = pty.openpty()
    process = spdnn.start(*words, stderr=stderr, env=os.environ | {"TERM": "xterm"})
    os.close(stderr)
    shown = b""
    for chunk in _chunks(terminal):
        shown += chunk
        if sign in shown:
            break
    process.send_signal(signal.SIGINT)
    after = b"".join(_chunks(terminal)).decode()
    os.close(terminal)
    out, _ = process.communicate(timeout=60)

    assert (process.returncode, out) == (1, b"")
    assert after.count("error: ") == 1
    assert after.endswith(
        "error: interrupted. What was written before is whole; run the command again.\r\n"
    )
    assert "Traceback" not in after
    assert spdnn.files() == before
    assert spdnn.dataset.read_bytes() == content


def _chunks(terminal: int) -> Iterator[bytes]:
    """What comes from a terminal until its other end is closed."""
    with contextlib.suppress(OSError):  # which is how Linux says so
        while chunk := os.read(terminal, 1 << 16):
            yield chunk


# ---- convert


def test_convert_adds_layers_and_keeps_what_is_there(spdnn: Spdnn) -> None:
    before = open_dataset(spdnn.dataset)
    three = before.network_sha256(3)

    outcome = spdnn("convert", "--layers", "5")
    assert outcome.code == 0
    after = open_dataset(spdnn.dataset)
    assert (after.layers, official_depth(after)) == (5, 5)
    assert after.features_sha256 == before.features_sha256
    assert after.network_sha256(3) == three
    assert after.provenance == before.provenance

    content = spdnn.dataset.read_bytes()
    assert spdnn("convert", "--layers", "4").code == 0
    assert spdnn.dataset.read_bytes() == content


def test_more_layers_than_converted_names_the_command_that_helps(spdnn: Spdnn) -> None:
    message = spdnn.fails("infer", "--layers", "4")

    assert message == (
        f"{spdnn.dataset}: has 3 layers, 4 were asked for. "
        "Run: spdnn convert --neurons 1024 --layers 4"
    )
    assert spdnn(*message.partition("spdnn ")[2].split()).code == 0
    assert spdnn("infer", "--layers", "4", "--images", "10", *QUICK).code == 0


def test_convert_keeps_the_seed_of_the_dataset(spdnn: Spdnn) -> None:
    assert spdnn("convert", "--layers", "1", "--from", "synthetic", "--seed", "9").code == 0
    nine = open_dataset(spdnn.dataset)
    assert (nine.layers, nine.provenance["seed"]) == (1, 9)

    assert spdnn("convert", "--layers", "2").code == 0
    more = open_dataset(spdnn.dataset)
    assert (more.layers, more.features_sha256) == (2, nine.features_sha256)


def test_more_images_than_there_are_come_again(spdnn: Spdnn) -> None:
    once = spdnn("infer", *QUICK, "--format", "json").json()
    again = spdnn("infer", *QUICK, "--images", "120000", "--format", "json").json()
    assert again["survivors"] == 2 * once["survivors"]
    assert again["edges"] == 2 * once["edges"]
    assert again["stream"]["bytes"] == 120_000 * 128
    assert again["stream"]["bus_share"] is None


def test_nothing_to_convert(empty: Spdnn) -> None:
    assert empty.fails("convert", "--neurons", "4096") == (
        f"there is nothing to convert for N=4096 below {empty.data / 'raw'}. "
        "Run: spdnn fetch --neurons 4096; or use --from synthetic."
    )
    assert empty.fails("convert", "--to", "tsv", "out") == (
        f"{empty.dataset}: there is no such file. Run spdnn convert to make the dataset."
    )
    assert empty.files() == set()


def test_tsv_and_back_is_the_same_dataset(spdnn: Spdnn, empty: Spdnn) -> None:
    raw = empty.data / "raw"
    written = spdnn("convert", "--to", "tsv", raw)
    images, archive = (
        raw / name for name in ("mnist/sparse-images-1024.tsv.gz", "dnn/neuron1024.tar.gz")
    )
    assert written.out == f"Wrote {images}\nWrote {archive}\n"
    with tarfile.open(archive) as tar:
        assert tar.getnames() == [f"neuron1024/n1024-l{k}.tsv" for k in (1, 2, 3)]

    assert empty("convert", "--from", "tsv", "--layers", "3").code == 0

    before, after = open_dataset(spdnn.dataset), open_dataset(empty.dataset)
    assert after.features_sha256 == before.features_sha256
    assert after.network_sha256(3) == before.network_sha256(3)
    assert (after.layers, official_depth(after)) == (3, 3)
    assert after.provenance["files"] == {
        path.relative_to(raw).as_posix(): path.stat().st_size for path in (images, archive)
    }

    content = empty.dataset.read_bytes()
    assert empty.fails("convert", "--layers", "5") == (
        f"{archive}: 2 of 5 layers missing: 4, 5. "
        "It serves --layers 3 and less; for more, bring the others."
    )
    assert empty.dataset.read_bytes() == content


def write_raw(
    spdnn: Spdnn, images: bytes, members: dict[str, bytes], cut: int | None = None
) -> tuple[Path, Path]:
    """Official-layout files of N=1024 with that text; returns where they are."""
    images_path = spdnn.data / "raw" / problem.images_file(1024)
    archive = spdnn.data / "raw" / problem.archive_file(1024)
    for path in (images_path, archive):
        path.parent.mkdir(parents=True)
    images_path.write_bytes(gzip.compress(images)[:cut])
    with tarfile.open(archive, "w:gz") as tar:
        for name, text in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    return images_path, archive


def test_bad_line_of_the_images(empty: Spdnn) -> None:
    images, _ = write_raw(empty, b"1\t1\t1\n2\t1025\t1\n", {})

    message = empty.fails("convert", "--from", "tsv")

    assert message == f"{images}, line 2: feature '1025' is not a whole number from 1 to 1024."
    assert not empty.dataset.exists()


def test_images_that_are_cut_off(empty: Spdnn) -> None:
    images, _ = write_raw(empty, b"1\t1\t1\n" * 1000, {}, cut=40)

    assert empty.fails("convert", "--from", "tsv").startswith(f"{images}: the file is cut off.")
    assert not empty.dataset.exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("neuron1024/n1024-l1.tsv", b"1\t1\t0.0625\n1\tx\t0.0625\n", ", line 2: output 'x' is not"),
        ("neuron1024/readme.txt", b"", "unexpected member 'neuron1024/readme.txt'"),
    ],
    ids=["bad line", "bad member"],
)
def test_bad_archive(empty: Spdnn, name: str, text: bytes, message: str) -> None:
    _, archive = write_raw(empty, b"1\t1\t1\n", {name: text})

    shown = empty.fails("convert", "--from", "tsv", "--layers", "1")

    assert shown.startswith(f"{archive}: ")
    assert message in shown
    assert not empty.dataset.exists()


# ---- datasets that are not what they should be


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100_000])


def mark_newer(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = 99


def replace_by_another_format(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = [1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_off, "is damaged or cut off ("),
        (mark_newer, "has schema version 99; this program reads version 2. Update spdnn"),
        (replace_by_another_format, "is an HDF5 file, but not a dataset of spdnn."),
    ],
)
def test_dataset_that_cannot_be_read(
    spdnn: Spdnn, damage: Callable[[Path], None], message: str
) -> None:
    damage(spdnn.dataset)
    content = spdnn.dataset.read_bytes()

    for words in (["infer"], ["convert"], ["convert", "--to", "tsv", "out"]):
        assert spdnn.fails(*words).startswith(f"{spdnn.dataset}: {message}")
    assert spdnn.dataset.read_bytes() == content


def test_dataset_of_another_problem_than_its_name_says(spdnn: Spdnn) -> None:
    named = spdnn.dataset.rename(spdnn.data / "neuron4096.h5")
    content = named.read_bytes()

    for words in (
        ["infer", "--neurons", "4096"],
        ["convert", "--neurons", "4096", "--from", "synthetic"],
        ["convert", "--neurons", "4096", "--to", "tsv", "out"],
    ):
        assert spdnn.fails(*words) == (
            f"{named}: has 1024 neurons; its name says 4096. "
            "Rename it or delete it, and convert the data again."
        )
    assert named.read_bytes() == content


def test_dataset_of_ones_own(spdnn: Spdnn, tmp_path: Path) -> None:
    """It may lie anywhere and hold anything; `verify` finds it again."""
    path = tmp_path / "own.h5"
    layer = Layer.from_edges(
        3, 3, np.array([0, 1]), np.array([1, 2]), np.array([1.0, 1.0], np.float32), -0.5
    )
    inputs = Features(np.array([[1, 0, 0], [0, 0, 9], [0, 2, 0]], np.float32), 3)
    write_dataset(path, inputs, [(0, fold(layer))], 1, 32.0, {})

    inferred = spdnn("infer", "--dataset", "own.h5", "--format", "json", *QUICK)
    record = inferred.json()
    assert (record["neurons"], record["images"], record["survivors"]) == (3, 3, 2)
    assert (record["dataset"]["source"], record["dataset"]["file"]) == ("unknown", str(path))
    verified = spdnn("verify")
    assert verified.code == 0
    assert "2 categories: VERIFIED, against the reference engine (float64)" in verified.out

    streamed = spdnn("infer", "--dataset", "own.h5", "--images", "8", "--format", "json", *QUICK)
    assert streamed.json()["survivors"] == 5  # two passes, and two images of a third
    again = spdnn("verify", "--format", "json").json()
    assert (again["verified"], again["difference"]) == (True, None)
    kept = Path(again["result"]).with_name(f"{Path(again['result']).stem}-categories.tsv")
    assert kept.read_text() == "1\n3\n"  # of the first pass


def test_truth_that_is_not_there(spdnn: Spdnn) -> None:
    assert spdnn.fails("verify", "--truth", "none.tsv") == (
        "none.tsv: there is no such file. Name a categories file."
    )


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        ("sparse-images-1024.tsv", "dnn/neuron1024.tar.gz: is missing; of N=1024 only the images"),
        ("neuron1024/n1024-l1.tsv", "mnist/sparse-images-1024.tsv.gz: is missing; of N=1024 only"),
        ("dnn/neuron1024.tar.gz.part", "dnn/neuron1024.tar.gz.part: has not come as a whole."),
    ],
)
def test_half_of_the_data_is_not_passed_over(empty: Spdnn, there: str, missing: str) -> None:
    path = empty.data / "raw" / there
    path.parent.mkdir(parents=True)
    path.write_bytes(b"1\t1\t1\n")
    for command in ("infer", "convert"):
        message = empty.fails(command, "--neurons", "1024")
        assert message.startswith(f"{empty.data}/raw/{missing}")


def test_unpacked_files_serve_the_layers_that_they_hold(spdnn: Spdnn, empty: Spdnn) -> None:
    raw = empty.data / "raw"
    assert spdnn("convert", "--to", "tsv", raw).code == 0
    images, archive = raw / problem.images_file(1024), raw / problem.archive_file(1024)
    (raw / "sparse-images-1024.tsv").write_bytes(gzip.decompress(images.read_bytes()))
    with tarfile.open(archive) as tar:
        tar.extractall(raw)
    images.unlink()
    archive.unlink()

    words = ["--neurons", "1024", "--layers", "2", "--images", "20", "--format", "json"]
    inferred = empty("infer", *words, *QUICK)
    assert inferred.code == 0, inferred.err
    assert f"{raw}/neuron1024 holds the first 3 layers: these are converted." in inferred.err
    record = inferred.json()
    assert record["dataset"]["source"] == "tsv"
    assert record["timings_s"]["convert"] > 0
    before, after = open_dataset(spdnn.dataset), open_dataset(empty.dataset)
    assert after.features_sha256 == before.features_sha256
    assert after.network_sha256(3) == before.network_sha256(3)


def test_dataset_that_is_not_there(empty: Spdnn) -> None:
    assert empty.fails("infer", "--dataset", "own.h5") == (
        "own.h5: there is no such file. Run spdnn convert to make the dataset."
    )


# ---- verify


def write_truth(result: Path, name: str, without: int, more: list[int]) -> Path:
    """A categories file with the result's list, less the first few, and with `more`."""
    images = result.with_name(result.stem + "-categories.tsv").read_text().split()[without:]
    path = Path(name)
    path.write_text("".join(f"{image}\n" for image in sorted([*map(int, images), *more])))
    return path


def test_verify_against_a_truth_file(spdnn: Spdnn, result_file: Path) -> None:
    truth = write_truth(result_file, "neuron1024-l3-categories.tsv", without=0, more=[])
    # The result is of 200 images; what the truth says of others does not count.
    truth.write_text(truth.read_text() + "201\n60000\n")

    outcome = spdnn("verify", "--truth", truth)

    count = json.loads(result_file.read_text())["survivors"]
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == (
        f"{result_file}: N=1024, L=3, 200 images, engine cpu\n"
        f"{count} categories: VERIFIED, against the official categories file {truth}\n"
    )
    record = json.loads(result_file.read_text())
    assert (record["verified"], record["difference"]) == (True, None)
    assert " *" not in str(spdnn("report", "--format", "json").json()[0]["rows"])


def test_verify_names_missing_and_extra_images(spdnn: Spdnn, result_file: Path) -> None:
    listed = result_file.with_name(result_file.stem + "-categories.tsv").read_text().split()
    dead = next(image for image in range(1, 200) if str(image) not in listed)
    truth = write_truth(result_file, "truth.tsv", without=2, more=[dead])

    outcome = spdnn("verify", "--truth", truth)

    wrong = f"1 missing (images {dead}) and 2 too many (images {listed[0]}, {listed[1]})"
    assert outcome.code == 1
    assert outcome.err == f"error: {result_file}: the categories are wrong: {wrong}.\n"
    assert f"WRONG: {wrong}, against the official categories file truth.tsv" in outcome.out
    record = json.loads(result_file.read_text())
    assert (record["verified"], record["difference"]) == (False, wrong)


def test_verify_refuses_the_truth_of_another_problem(spdnn: Spdnn, result_file: Path) -> None:
    before = result_file.read_bytes()
    truth = write_truth(result_file, "neuron4096-l120-categories.tsv", without=0, more=[])

    assert spdnn.fails("verify", "--truth", truth) == (
        f"{truth}: is the truth of N=4096, L=120; the result is of N=1024, L=3."
    )
    assert result_file.read_bytes() == before


def test_verify_takes_the_last_run_or_the_one_that_is_named(
    spdnn: Spdnn, result_file: Path
) -> None:
    assert spdnn("infer", "--images", "20", *QUICK).code == 0

    last = spdnn("verify", "--format", "json")
    named = spdnn("verify", result_file, "--reference", "--format", "json")

    assert last.err == named.err == "Running the reference engine; it is slow.\n"
    assert last.json()["images"] == 20
    assert last.json()["result"] != named.json()["result"] == str(result_file)
    for outcome in (last.json(), named.json()):
        assert outcome["verified"] is True
        assert outcome["verified_against"] == "the reference engine (float64)"
    assert json.loads(result_file.read_text())["verified"] is True


def test_verify_without_its_dataset(spdnn: Spdnn, result_file: Path) -> None:
    assert spdnn("convert", "--layers", "3", "--from", "synthetic", "--seed", "9").code == 0
    assert spdnn.fails("verify") == (
        f"{spdnn.dataset}: has changed since the result was made. Run spdnn infer again."
    )
    spdnn.dataset.unlink()
    assert spdnn.fails("verify") == (
        f"{spdnn.dataset}: there is no such file. Run spdnn convert to make the dataset."
    )


def test_verify_without_results(empty: Spdnn) -> None:
    assert empty.fails("verify") == (
        f"there is no result below {empty.results}. Run spdnn infer first."
    )
    assert empty.fails("verify", "gone.json") == (
        "gone.json: cannot be read as a result (No such file or directory)."
    )


def test_categories_that_were_changed_are_refused(spdnn: Spdnn, result_file: Path) -> None:
    categories = result_file.with_name(result_file.stem + "-categories.tsv")
    categories.write_text("1\n")
    assert spdnn.fails("verify") == f"{categories}: is not the list that the result names."

    categories.unlink()
    assert spdnn.fails("verify") == (
        f"{categories}: the categories cannot be read (No such file or directory)."
    )


# ---- report


def test_report_without_results(empty: Spdnn) -> None:
    assert empty.fails("report") == (
        f"there is no result below {empty.results}. Run spdnn infer first."
    )


def test_report_is_a_row_a_problem_and_a_column_an_engine(spdnn: Spdnn, result_file: Path) -> None:
    for words in (["--layers", "2"], ["--layers", "2", "--engine", "reference"]):
        assert spdnn("infer", "--images", "200", "--threads", "1", *words, *QUICK).code == 0

    table = spdnn("report", "throughput", "--format", "json").json()[0]
    shown = spdnn("report", "throughput").out

    assert table["title"] == f"TeraEdges/s (effective) on {result_file.parent.name}"
    assert [(row["layers"], row["images"], row["data"]) for row in table["rows"]] == [
        (2, 200, "synthetic"),
        (3, 200, "synthetic"),
    ]
    both, alone = table["rows"]
    assert both["cpu (1 thread)"].endswith(" *")
    assert both["reference (1 thread)"].endswith(" *")
    assert alone["reference (1 thread)"] is None
    for text in (table["title"], both["cpu (1 thread)"], "* not verified"):
        assert text in shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"neurons": 1', "cannot be read as a result (Expecting"),
        ("[]", "is not a result of spdnn."),
        ('{"schema_version": "1"}', "is not a result of spdnn."),
        ('{"schema_version": 3}', "has schema version 3; this program reads up to 2. Update spdnn"),
        ('{"schema_version": 2}', "is a result without created, neurons,"),
    ],
)
def test_result_file_that_is_none(spdnn: Spdnn, result_file: Path, text: str, message: str) -> None:
    result_file.write_text(text)

    assert spdnn.fails("verify", result_file).startswith(f"{result_file}: {message}")


# ---- what lies among the results and is none


def put_bytes(text: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(text)


STRANGERS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "AppleDouble": (
        "._n1024-l3-cpu.json",
        put_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X \xb0"),
        "cannot be read as a result ('utf-8' codec can't decode byte 0xb0 in position 17: "
        "invalid start byte)",
    ),
    "empty": (
        "n1024.json",
        put_bytes(b""),
        "cannot be read as a result (Expecting value: line 1 column 1 (char 0))",
    ),
    "notes": ("notes.json", put_bytes(b'{"bought": "milk"}'), "is not a result of spdnn"),
    "list": ("list.json", put_bytes(b"[1, 2]"), "is not a result of spdnn"),
    "newer": (
        "newer.json",
        put_bytes(b'{"schema_version": 99}'),
        "has schema version 99; this program reads up to 2. Update spdnn",
    ),
    "deep": (
        "deep.json",
        put_bytes(b"[" * 100_000),
        "cannot be read as a result (maximum recursion depth exceeded while decoding a JSON array "
        "from a unicode string)",
    ),
    "folder": ("zz.json", Path.mkdir, "is no file"),
    "pipe": ("pipe.json", os.mkfifo, "is no file"),
    "loop": (
        "loop.json",
        lambda path: path.symlink_to(path.name),
        "cannot be read as a result (Too many levels of symbolic links)",
    ),
    "dangling": (
        "dangling.json",
        lambda path: path.symlink_to("gone"),
        "cannot be read as a result (No such file or directory)",
    ),
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_a_file_that_is_no_result_is_named_and_left_out(
    spdnn: Spdnn, result_file: Path, kind: str
) -> None:
    name, put, what = STRANGERS[kind]
    assert spdnn("verify").code == 0  # notes in the result that it is right
    wanted = {
        words: spdnn(*words)
        for words in (
            ("report",),
            ("report", "throughput", "--format", "json"),
            ("report", "compare", str(spdnn.results), str(spdnn.results)),
            ("verify",),
        )
    }
    put(result_file.with_name(name))
    warning = f"Warning: {result_file.with_name(name)}: {what}. It is left out.\n"

    for words, before in wanted.items():
        after = spdnn(*words)
        times = 2 if "compare" in words else 1
        assert (after.code, after.out) == (0, before.out)
        assert after.err == before.err.replace("Running", warning + "Running", 1) or (
            after.err == warning * times + before.err
        )
    assert spdnn("infer", "--images", "10", *QUICK).code == 0
    assert [path.name for path in spdnn.results.iterdir()] == [result_file.parent.name]


def test_a_file_that_is_named_must_be_a_result(spdnn: Spdnn, result_file: Path) -> None:
    notes = result_file.with_name("notes.json")
    notes.write_text("{}")

    for words in (["verify", notes], ["report", "compare", result_file, notes]):
        assert spdnn.fails(*words) == f"{notes}: is not a result of spdnn."


def test_only_files_that_are_no_results(spdnn: Spdnn, result_file: Path) -> None:
    result_file.write_text("")

    assert (
        spdnn.fails("report") == f"there is no result below {spdnn.results}. Run spdnn infer first."
    )


def test_a_folder_that_cannot_be_listed_is_named(
    spdnn: Spdnn, result_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = Path.iterdir
    private = spdnn.results / "private"
    private.mkdir()

    def iterdir(path: Path) -> Iterator[Path]:
        if path == private:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    for words in (["report"], ["report", "compare", spdnn.results, spdnn.results]):
        outcome = spdnn(*words)
        assert outcome.code == 0
        line = f"Warning: {private}: cannot be read (Permission denied). It is left out.\n"
        assert outcome.err.replace(line, "") == ""
        assert line in outcome.err


# ---- names of folders


ASCII = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
ODD_NAMES = [
    pytest.param("däta – 日本", id="letters"),
    pytest.param(os.fsdecode(b"not \xff UTF-8"), id="no UTF-8"),
    pytest.param("two\nlines", id="line end"),
    pytest.param("-dash", id="dash"),
    pytest.param(" a  b ", id="spaces"),
]


def in_ascii(folder: Path, *words: str) -> Outcome:
    """A command in a process whose streams hold ASCII alone."""
    done = subprocess.run(
        [sys.executable, "-m", "spdnn_cli", *words],
        cwd=folder, env=os.environ | ASCII, capture_output=True, check=False,
    )  # fmt: skip
    return Outcome(done.returncode, done.stdout.decode("ascii"), done.stderr.decode("ascii"))


@pytest.mark.skipif(sys.platform != "linux", reason="such names are not to be had everywhere")
@pytest.mark.parametrize("name", ODD_NAMES)
def test_folders_of_any_name(made_once: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(made_once / "data", tmp_path / name)
    shown = one_line(name).encode("ascii", "backslashreplace").decode("ascii")
    folders = [f"--data-dir={name}", f"--results-dir={name}"]

    made = in_ascii(tmp_path, *folders, "convert", "--layers", "3")
    assert (made.code, made.err) == (0, "")
    assert f" {shown}/neuron1024.h5 " in made.out
    assert len({len(line) for line in made.out.splitlines()[1:]}) == 1

    infer = ["infer", "--images", "10", *QUICK]
    inferred = in_ascii(tmp_path, *folders, *infer, "--workers", "2", "--format", "json")
    assert inferred.code == 0
    assert f"Result file: {shown}/" in inferred.err.splitlines()[-1]
    (result,) = (tmp_path / name).glob("*/n*.json")
    assert json.loads(result.read_text()) == {"schema_version": 2} | inferred.json()

    for words in (["verify"], ["verify", "--", f"{name}/{result.parent.name}/{result.name}"]):
        verified = in_ascii(tmp_path, *folders, *words)
        assert verified.code == 0
        assert verified.out.startswith(f"{shown}/{result.parent.name}/{result.name}: N=1024,")
    for form in ("table", "plain", "markdown", "csv", "json"):
        assert in_ascii(tmp_path, *folders, "report", "--format", form).code == 0
    written = in_ascii(tmp_path, *folders, "convert", "--to", "tsv", f"{name}/out")
    assert written.out.splitlines()[0].startswith(f"Wrote {shown}/out/")

    gone = in_ascii(tmp_path, *folders, "infer", "--dataset", f"{name}/gone.h5")
    assert gone.code == 1
    assert gone.err.startswith(f"error: {shown}/gone.h5: ")
    assert len(gone.err.splitlines()) == 1
    usage = in_ascii(tmp_path, *folders, "infer", "--engine", name)
    assert (usage.code, usage.out) == (2, "")


@pytest.mark.parametrize("how", ["option", "environment"])
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
    result = next(path.name for path in spdnn.results.glob("*/n*.json"))
    assert run(*folders, "verify", f"~/results/{machine_of(spdnn)}/{result}").code == 0
    assert (spdnn.folder / "out").is_dir()
    assert not list(tmp_path.rglob("~*"))


def machine_of(spdnn: Spdnn) -> str:
    return next(spdnn.results.iterdir()).name


def test_a_mirror_in_the_home_folder(empty: Spdnn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(empty.folder))
    message = empty.fails("fetch", "--mirror", "~/mirror")
    assert str(empty.folder / "mirror") in message
>>>>>>> words


# ---- a user's own modules in the current folder

SHADOWED = ("random", "json", "socket", "tempfile", "numpy", "click", "psutil", "pickle")


@pytest.mark.parametrize("words", [["--workers", "2"], []], ids=["processes", "alone"])
def test_modules_in_the_current_folder_are_not_imported(
    spdnn: Spdnn, words: list[str], tmp_path: Path
) -> None:
    for name in SHADOWED if sys.version_info >= (3, 11) else ("random", "numpy", "click"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(f'{__name__} of the user')")

    process = spdnn.start("infer", "--images", "10", *QUICK, *words, cwd=tmp_path)

    assert process.wait(60) == 0
