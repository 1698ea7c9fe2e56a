"""What the commands do, step by step, for any caller: choose the data, run, verify, save."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from spdnn_cli import machine, nvidia, problem
from spdnn_cli.atomic import check_folder
from spdnn_cli.challenge import raw_files
from spdnn_cli.challenge.convert import (
    DEFAULT_SEED,
    SOURCES,
    Report,
    available_source,
    convert,
    to_tsv,
)
from spdnn_cli.cores import available_cores
from spdnn_cli.engines.cuda.tile import Tiling, parse_tiling
from spdnn_cli.engines.protocol import EngineOptions, Progress
from spdnn_cli.engines.registry import ENGINES, create
from spdnn_cli.errors import DataError, DeviceError, FewerLayersError, ResultError
from spdnn_cli.network.dataset import Dataset, open_dataset
from spdnn_cli.results import store as result
from spdnn_cli.run import measure as inference
from spdnn_cli.run import mpi
from spdnn_cli.run.rank import FEATURE_BYTES
from spdnn_cli.run.truth import Truth, check_list, difference, known_truth, read_truth
from spdnn_cli.timing import Stopwatch
from spdnn_cli.workspace import Workspace

Note = Callable[[str], None]
"""Told, in one sentence, of a choice that the user did not make."""


def neurons_or_last(workspace: Workspace, neurons: int | None) -> int:
    """The problem asked for, or the one fetched or converted last, or the smallest."""
    return neurons or workspace.last_neurons() or problem.NEURONS[0]


def convert_from(
    workspace: Workspace,
    neurons: int,
    layers: int,
    source: str | None,
    seed: int | None,
    *,
    threads: int | None,
    report: Report,
    note: Note,
) -> Dataset:
    """Convert from the source asked for; else from what was fetched, or as the dataset was made.

    Raises:
        DataError: none of these is known, or a file is damaged.
    """
    made = _dataset(workspace, neurons).provenance if workspace.dataset(neurons).exists() else {}
    source = source or available_source(workspace, neurons) or made.get("source")
    if seed is None and source == made.get("source"):
        seed = made.get("seed")
    if source not in SOURCES:
        fault = raw_files.fault(workspace.raw, neurons)
        if fault is not None:
            raise fault
        raise DataError(
            f"there is nothing to convert for N={neurons} below {workspace.raw}",
            hint=f"Run: spdnn fetch --neurons {neurons}; or take --from synthetic.",
        )
    check_folder(workspace.data_dir)
    return convert(
        workspace,
        neurons,
        layers,
        source,
        seed=DEFAULT_SEED if seed is None else seed,
        threads=threads or available_cores(),
        report=report,
        note=note,
    )


def write_tsv(
    workspace: Workspace, neurons: int, layers: int, folder: Path, report: Report
) -> list[Path]:
    """Write a dataset as official files below `folder`; as many layers as asked for and there."""
    dataset = _dataset(workspace, neurons)
    check_folder(folder)
    return to_tsv(dataset, min(layers, dataset.layers), folder, report)


def _dataset(workspace: Workspace, neurons: int) -> Dataset:
    """The dataset of a problem.

    Raises:
        DataError: it is missing or damaged, or its name tells another problem than it holds.
    """
    dataset = open_dataset(workspace.dataset(neurons))
    if dataset.neurons != neurons:
        raise DataError(
            f"has {dataset.neurons} neurons; its name says {neurons}",
            path=dataset.path,
            hint="Rename it or delete it, and convert the data again.",
        )
    return dataset


def infer(
    workspace: Workspace, wanted: dict[str, Any], note: Note, report: Report, progress: Progress
) -> inference.Measured | None:
    """Find or make the dataset, run and verify.

    Args:
        workspace: where data and results are.
        wanted: the options of `spdnn infer`, by name.
        note: told which data was taken, where the user did not say.
        report: told of a conversion's progress.
        progress: told of the run's.

    Returns:
        What `save` takes; None on the ranks of an MPI job other than 0.

    Raises:
        DataError: there is no place for the result, or no dataset.
    """
    how, device = _launch(wanted), _device(wanted)
    options = inference.RunOptions(
        layers=wanted["layers"],
        images=wanted["images"],
        engine=wanted["engine"],
        device=device,
        threads=wanted["threads"] or 0,
        device_memory=wanted["device_memory"],
        retire=wanted["retire"],
        warmup=wanted["warmup"],
        repeat=wanted["repeat"],
        partition=wanted["partition"],
        tiling=_tiling(wanted["tile"], wanted["features"]),
        features=wanted["features"],
        trace=wanted["trace"],
        rebalance=wanted["rebalance"],
    )
    no_gpu = nvidia.why_not_cuda() if options.device is None else None
    if how.settled() != "mpi" or mpi.rank() == 0:
        _note_circumstances(how, options.threads, no_gpu, note)

    stopwatch = Stopwatch()

    def find() -> Dataset:
        _check_results(workspace, device or machine.best_device())
        if wanted["path"] is not None:
            return open_dataset(wanted["path"])
        return _find_dataset(workspace, wanted, note, report, stopwatch)

    measured = inference.run(workspace, find, options, how, progress)
    if measured is not None:
        measured.record["timings_s"]["convert"] = stopwatch.seconds["convert"]
        if measured.no_gpu is not None and no_gpu is None:  # only CUDA itself knew
            note(f"The GPU was not used: {measured.no_gpu}.")
        result.name_lifetimes(measured.record, measured.lifetimes)
    return measured


def save(workspace: Workspace, measured: inference.Measured) -> Path:
    """Write the result of a run, and give the file's path.

    Raises:
        DataError: it cannot be written.
    """
    record, folder = measured.record, machine.folder_name(measured.record["device"])
    return result.save(workspace, folder, record, measured.categories, measured.lifetimes)


def _check_results(workspace: Workspace, device: str) -> None:
    """See, before the run, that its result can be written."""
    here = {"device": device, "machine": machine.describe()}
    name = machine.folder_name(device)
    check_folder(result.machine_folder(workspace.results_dir, name, here))


def _tiling(shape: str, features: str) -> Tiling | None:
    return None if shape == "auto" else parse_tiling(shape, FEATURE_BYTES[features])


def _launch(wanted: dict[str, Any]) -> inference.Launch:
    """How many workers, and what starts them.

    Raises:
        DeviceError: the options contradict each other, or what started this process.
    """
    workers, asked = wanted["gpus"] or wanted["workers"], wanted["launcher"]
    how = inference.Launch(workers or 1, wanted["broadcast"], asked)
    launcher = how.settled()
    if launcher == "mpi" and workers:
        raise DeviceError(
            "under MPI each rank is a worker, and runs on one device",
            hint="Leave out --gpus and --workers, or add --launcher processes.",
        )
    if launcher == "alone" and how.workers > 1:
        raise DeviceError(
            f"one process alone cannot be {how.workers} workers", hint="Leave out --launcher."
        )
    if wanted["broadcast"] and launcher != "mpi":
        raise DeviceError("--broadcast is for MPI, and this is no rank of an MPI job")
    return how


def _device(wanted: dict[str, Any]) -> str | None:
    """The device to run on, checked against what is present; None: the best that works.

    Raises:
        DeviceError: it is not present, or not as often as asked for.
    """
    gpus = wanted["gpus"]
    present = len(nvidia.gpus())
    if gpus is not None and gpus > present:
        why = nvidia.why_no_gpu()
        raise DeviceError(
            f"{gpus} GPUs were asked for, this machine has {present}" + (f": {why}" if why else ""),
            hint="Leave out --gpus to use the best device present.",
        )
    named = ENGINES[wanted["engine"]].device if wanted["engine"] in ENGINES else None
    device = "cuda" if gpus is not None else wanted["device"] or named
    if device == "cuda":
        nvidia.check_cuda()
    if (device or machine.best_device()) == "cuda" and wanted["workers"]:
        raise DeviceError(
            "--workers is for the CPU", hint="Say --gpus for GPUs, or add --device cpu."
        )
    return "cpu" if wanted["workers"] else device


def _note_circumstances(
    how: inference.Launch, threads: int, no_gpu: str | None, note: Note
) -> None:
    """Say what the user may not know: a GPU not used, too many threads, tasks that are no ranks."""
    if no_gpu is not None:
        note(f"The GPU is not used: {no_gpu}.")
    note_threads(threads, how.workers, note)
    tasks = mpi.tasks_without_mpi()
    if how.launcher is None and tasks > 1:
        note(
            f"This is one of {tasks} tasks that srun started without MPI: each runs the whole "
            "problem by itself. For ranks of one run: srun --mpi=pmix, or what srun --mpi=list "
            "offers."
        )


def note_threads(threads: int, workers: int, note: Note) -> None:
    """Say so if there are more threads (0: as many as fit) than cores."""
    wanted, cores = max(1, threads) * workers, available_cores()
    if wanted > cores:
        only = "1 core" if cores == 1 else f"{cores} cores"
        note(f"{wanted} threads are more than the {only} that this process may use.")


def _find_dataset(
    workspace: Workspace,
    wanted: dict[str, Any],
    note: Note,
    report: Report,
    stopwatch: Stopwatch,
) -> Dataset:
    """The dataset of the problem; converted, or made, where it is not there yet."""
    neurons = neurons_or_last(workspace, wanted["neurons"])
    if wanted["neurons"] is None and workspace.last_neurons() is not None:
        note(f"Problem: N={neurons}, the last one fetched or converted.")
    path, seed = workspace.dataset(neurons), wanted["seed"]
    source = "synthetic" if seed is not None else available_source(workspace, neurons)
    if path.exists():
        dataset = _dataset(workspace, neurons)
        made = dataset.provenance
        outdated = made.get("source") == "synthetic" and source in ("mnist", "tsv")
        if not outdated and (seed is None or made.get("seed") == seed):
            return dataset
    layers = wanted["layers"] or problem.LAYERS[-1]
    if layers > problem.LAYERS[-1]:
        raise DataError(
            f"the official networks have {problem.LAYERS[-1]} layers, {layers} were asked for",
            hint="Name a dataset of your own with --dataset; it may have more.",
        )
    if source is None:
        fault = raw_files.fault(workspace.raw, neurons)
        if fault is not None:  # digits would hide that the data cannot be used
            raise fault
        source = "synthetic"
        note(
            "No dataset here: drawing synthetic digits for the official network. "
            f"For the official inputs, run: spdnn fetch --neurons {neurons}"
        )
    else:
        note(f"Converting N={neurons} from {source} into {path}, once.")

    def make(layers: int) -> Dataset:
        return convert_from(
            workspace,
            neurons,
            layers,
            source,
            seed,
            threads=wanted["threads"],
            report=report,
            note=note,
        )

    with stopwatch.stage("convert"):
        try:
            return make(max(wanted["layers"] or 0, problem.LAYERS[-1]))
        except FewerLayersError as short:
            if short.layers < (wanted["layers"] or 1):
                raise
            note(f"{short.path} holds the first {short.layers} layers: these are converted.")
            return make(short.layers)


def verify(
    workspace: Workspace,
    path: Path | None,
    truth_file: Path | None,
    reference: bool,
    note: Note,
    progress: Progress,
) -> dict[str, Any]:
    """Compare a result's categories with the truth; `note_outcome` keeps what came of it.

    Args:
        workspace: where data and results are.
        path: the result; None: the last one.
        truth_file: an official categories file, or None.
        reference: whether to run the reference engine.
        note: told what is compared.
        progress: told how far the reference engine is.

    Raises:
        ResultError: there is no such result, or its record and its list do not fit.
        DataError: the dataset is gone, or has changed since.
    """
    found = result.load(path) if path is not None else _last_result(workspace, note)
    record, categories = found.record, found.categories()
    images = record["images"]
    streamed = record["stream"] is not None  # images may have come again and again
    dataset = None if truth_file and not streamed else _dataset_of(workspace, record)
    of_pass = images if dataset is None else dataset.images
    check_list(categories, record["survivors"], images, of_pass, found.path)
    if truth_file is not None:
        truth = read_truth(truth_file, record["neurons"], record["layers"], min(images, of_pass))
    else:
        assert dataset is not None
        known = known_truth(workspace, dataset, record["layers"], min(images, of_pass))
        if reference or known is None:
            dataset.check(record["layers"])
            note("Running the reference engine; it is slow.")
            known = _reference_truth(dataset, record, progress)
        truth = known
    wrong = difference(categories, truth)
    outcome = {"verified": wrong is None, "verified_against": truth.source, "difference": wrong}
    kept = {key: record[key] for key in ("neurons", "layers", "images", "engine", "survivors")}
    return {"result": str(found.path), **kept, **outcome}


def note_outcome(outcome: dict[str, Any]) -> None:
    """Note in a result file what `verify` found.

    Raises:
        DataError: it cannot be written.
    """
    found = result.load(Path(outcome["result"]))
    kept = ("verified", "verified_against", "difference")
    result.update(found, {name: outcome[name] for name in kept})


def _last_result(workspace: Workspace, note: Note) -> result.Result:
    results = result.load_all(workspace, note)
    if not results:
        raise ResultError(
            f"there is no result below {workspace.results_dir}", hint="Run spdnn infer first."
        )
    return results[-1]


def _dataset_of(workspace: Workspace, record: dict[str, Any]) -> Dataset:
    """The dataset that a result was made from, if it is still the same."""
    dataset = open_dataset(workspace.data_dir / record["dataset"]["file"])
    same = dataset.features_sha256 == record["dataset"]["features_sha256"]
    if not same or dataset.network_sha256(record["layers"]) != record["dataset"]["network_sha256"]:
        raise DataError(
            "is not the dataset that the result was made from any more",
            path=dataset.path,
            hint="Run spdnn infer again.",
        )
    return dataset


def _reference_truth(dataset: Dataset, record: dict[str, Any], progress: Progress) -> Truth:
    engine = create("reference", EngineOptions(progress=progress))
    engine.prepare(dataset.network(record["layers"]))
    engine.upload(dataset.features(0, record["images"]))
    categories = engine.infer().categories
    return Truth("the reference engine (float64)", len(categories), categories=categories)
