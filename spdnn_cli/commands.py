"""The commands as functions, for any caller: choose the data, convert, run, verify, save."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from spdnn_cli import machine, nvidia, problem
from spdnn_cli.atomic import check_folder
from spdnn_cli.challenge import raw_files
from spdnn_cli.challenge.convert import (
    DEFAULT_SEED,
    SOURCES,
    ConversionProgress,
    available_source,
    convert,
    to_tsv,
)
from spdnn_cli.cores import available_cores
from spdnn_cli.engines.protocol import EngineOptions, LayerProgress
from spdnn_cli.engines.registry import create, find
from spdnn_cli.errors import DataError, DeviceError, FewerLayersError
from spdnn_cli.network.dataset import Dataset, open_dataset
from spdnn_cli.results.record import Device, Record
from spdnn_cli.results.store import Result, Store
from spdnn_cli.run import measure, mpi
from spdnn_cli.run.options import RunOptions
from spdnn_cli.run.truth import Truth, check_list, known_truth, read_truth, verification
from spdnn_cli.timing import Stopwatch
from spdnn_cli.workspace import Workspace

Note = Callable[[str], None]
"""Called with one sentence about a choice that the user did not make."""


def _silent(sentence: str) -> None:
    """For callers that need no notes."""


def _no_conversion_progress(what: str, share: float) -> None:
    """For callers that show no progress."""


# ---- convert


def neurons_or_last(workspace: Workspace, neurons: int | None) -> int:
    """`neurons`, or those of the problem fetched or converted last, or of the smallest problem."""
    return neurons or workspace.last_neurons() or problem.NEURONS[0]


def convert_from(
    workspace: Workspace,
    neurons: int,
    layers: int,
    source: str | None,
    seed: int | None,
    *,
    threads: int = 0,
    progress: ConversionProgress = _no_conversion_progress,
    note: Note = _silent,
) -> Dataset:
    """Convert raw files, or synthetic digits, into the dataset of a problem.

    Args:
        workspace: the folders of raw files and datasets.
        neurons: the official problem.
        layers: number of layers to store.
        source: one of `SOURCES`; None: what was fetched, else the source of the present dataset.
        seed: of synthetic digits; None: that of the present dataset, else the default.
        threads: 0: all cores.
        progress: called with the progress.
        note: called when this process waits for another one.

    Raises:
        DataError: there is no source, or a file is damaged.
    """
    exists = workspace.dataset(neurons).exists()
    provenance = _official(workspace, neurons).provenance if exists else {}
    source = source or available_source(workspace, neurons) or provenance.get("source")
    if seed is None and source == provenance.get("source"):
        seed = provenance.get("seed")
    if source not in SOURCES:
        fault = raw_files.fault(workspace.raw, neurons)
        if fault is not None:
            raise fault
        raise DataError(
            f"there is nothing to convert for N={neurons} below {workspace.raw}",
            hint=f"Run: spdnn fetch --neurons {neurons}; or use --from synthetic.",
        )
    check_folder(workspace.data_dir)
    return convert(
        workspace,
        neurons,
        layers,
        source,
        seed=DEFAULT_SEED if seed is None else seed,
        threads=threads or available_cores(),
        report=progress,
        note=note,
    )


def write_tsv(
    workspace: Workspace, neurons: int, layers: int, folder: Path, progress: ConversionProgress
) -> list[Path]:
    """Write a dataset as official files below `folder`, with `layers` layers or all that it has."""
    dataset = _official(workspace, neurons)
    check_folder(folder)
    return to_tsv(dataset, min(layers, dataset.layers), folder, progress)


def _official(workspace: Workspace, neurons: int) -> Dataset:
    """The dataset of an official problem.

    Raises:
        DataError: it is missing or damaged, or holds another problem than its name says.
    """
    dataset = open_dataset(workspace.dataset(neurons))
    if dataset.neurons != neurons:
        raise DataError(
            f"has {dataset.neurons} neurons; its name says {neurons}",
            path=dataset.path,
            hint="Rename it or delete it, and convert the data again.",
        )
    return dataset


# ---- infer


@dataclass(frozen=True)
class Callbacks:
    """The functions that a command calls while it runs.

    Attributes:
        note: called with one sentence about each choice that the user did not make.
        conversion: called with the progress of a conversion.
        layers: called with the progress of a run.
    """

    note: Note = _silent
    conversion: ConversionProgress = _no_conversion_progress
    layers: LayerProgress | None = None


def infer(
    workspace: Workspace, options: RunOptions, tell: Callbacks | None = None
) -> measure.Measured | None:
    """Find or make the dataset, run and verify.

    Args:
        workspace: the folders of data and results.
        options: what to run, and how.
        tell: callbacks for notes and progress.

    Returns:
        The run; None on the ranks of an MPI job other than 0.

    Raises:
        DataError: the result could not be written, or there is no dataset.
        SpdnnError: see `measure.run`.
    """
    tell = tell or Callbacks()
    launcher = _checked_launcher(options)
    options = replace(options, device=_checked_device(options))
    no_gpu = nvidia.why_not_cuda() if options.device is None else None
    if launcher != "mpi" or mpi.rank() == 0:
        _note_circumstances(options, no_gpu, tell.note)
    stopwatch = Stopwatch()

    def find_dataset() -> Dataset:
        _check_results(workspace, options.device)
        if options.dataset is not None:
            return open_dataset(options.dataset)
        return _find_dataset(workspace, options, tell, stopwatch)

    measured = measure.run(
        workspace, find_dataset, options, tell.layers, lambda: stopwatch.seconds["convert"]
    )
    if measured is not None and measured.no_gpu is not None and no_gpu is None:
        tell.note(f"The GPU was not used: {measured.no_gpu}.")  # only CUDA itself knew
    return measured


def prepared(workspace: Workspace, measured: measure.Measured) -> Result:
    """The result of a run as it will be saved."""
    folder = machine.folder_name(measured.record.device)
    store = Store(workspace.results_dir)
    return store.prepared(measured.record, folder, measured.categories, measured.lifetimes)


def save(workspace: Workspace, measured: measure.Measured, result: Result | None = None) -> Result:
    """Write the result of a run, and its list of categories.

    Args:
        workspace: the folder of results.
        measured: the run.
        result: the result that `prepared` returned; None: prepare it now.

    Raises:
        DataError: it cannot be written.
    """
    result = prepared(workspace, measured) if result is None else result
    Store(workspace.results_dir).save(result, measured.categories, measured.lifetimes)
    return result


def _check_results(workspace: Workspace, device: Device | None) -> None:
    """Check, before the run, that its result can be written."""
    on = device or machine.best_device()
    store = Store(workspace.results_dir)
    check_folder(store.folder(machine.folder_name(on), on, machine.describe()))


def _checked_launcher(options: RunOptions) -> str:
    """What starts the workers.

    Raises:
        DeviceError: the options contradict each other, or the way in which this process started.
    """
    launcher, workers = measure.settled_launcher(options), options.gpus or options.workers
    if launcher == "mpi" and workers:
        raise DeviceError(
            "under MPI each rank is a worker, and runs on one device",
            hint="Leave out --gpus and --workers, or add --launcher processes.",
        )
    if launcher == "alone" and options.processes > 1:
        raise DeviceError(
            f"one process alone cannot be {options.processes} workers", hint="Leave out --launcher."
        )
    if options.broadcast and launcher != "mpi":
        raise DeviceError("--broadcast is for MPI, and this process is not a rank of an MPI job")
    return launcher


def _checked_device(options: RunOptions) -> Device | None:
    """The device to run on, if it is present; None: the best that works.

    Raises:
        DeviceError: there is no such device, or there are fewer GPUs than asked for.
    """
    gpus, present = options.gpus, len(nvidia.gpus())
    if gpus is not None and gpus > present:
        why = nvidia.why_no_gpu()
        raise DeviceError(
            f"{gpus} GPUs were asked for, this machine has {present}" + (f": {why}" if why else ""),
            hint="Leave out --gpus to use the best device present.",
        )
    named = None if options.engine == "auto" else find(options.engine).device
    device: Device | None = "cuda" if gpus is not None else options.device or named
    if device == "cuda":
        nvidia.check_cuda()
    if options.workers and (device or machine.best_device()) == "cuda":
        raise DeviceError(
            "--workers is for the CPU", hint="Use --gpus for GPUs, or add --device cpu."
        )
    return "cpu" if options.workers else device


def _note_circumstances(options: RunOptions, no_gpu: str | None, note: Note) -> None:
    """Note what the user may not know: a GPU not used, too many threads, tasks without MPI."""
    if no_gpu is not None:
        note(f"The GPU is not used: {no_gpu}.")
    note_threads(options.threads, options.processes, note)
    tasks = mpi.tasks_without_mpi()
    if options.launcher is None and tasks > 1:
        note(
            f"This is one of {tasks} tasks that srun started without MPI: each runs the whole "
            "problem by itself. For ranks of one run: srun --mpi=pmix, or what srun --mpi=list "
            "offers."
        )


def note_threads(threads: int, workers: int, note: Note) -> None:
    """Note that there are more threads than cores; `threads` 0: as many as there are cores."""
    threads, cores = max(1, threads) * workers, available_cores()
    if threads > cores:
        only = "1 core" if cores == 1 else f"{cores} cores"
        note(f"{threads} threads are more than the {only} that this process may use.")


def _find_dataset(
    workspace: Workspace, options: RunOptions, tell: Callbacks, stopwatch: Stopwatch
) -> Dataset:
    """The dataset of the problem; converted, or made, if it does not exist or is outdated."""
    neurons = neurons_or_last(workspace, options.neurons)
    if options.neurons is None and workspace.last_neurons() is not None:
        tell.note(f"Problem: N={neurons}, the last one fetched or converted.")
    path, seed = workspace.dataset(neurons), options.seed
    source = "synthetic" if seed is not None else available_source(workspace, neurons)
    if path.exists():
        dataset = _official(workspace, neurons)
        provenance = dataset.provenance
        outdated = provenance.get("source") == "synthetic" and source in ("mnist", "tsv")
        if not outdated and (seed is None or provenance.get("seed") == seed):
            return dataset
    layers = options.layers or problem.LAYERS[-1]
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
        tell.note(
            "No dataset here: drawing synthetic digits for the official network. "
            f"For the official inputs, run: spdnn fetch --neurons {neurons}"
        )
    else:
        tell.note(f"Converting N={neurons} from {source} into {path}, once.")
    with stopwatch.stage("convert"):
        return _converted(workspace, neurons, source, options, tell)


def _converted(
    workspace: Workspace, neurons: int, source: str, options: RunOptions, tell: Callbacks
) -> Dataset:
    """Convert the dataset of a problem; with fewer layers, if the source has no more."""

    def make(layers: int) -> Dataset:
        return convert_from(
            workspace,
            neurons,
            layers,
            source,
            options.seed,
            threads=options.threads,
            progress=tell.conversion,
            note=tell.note,
        )

    try:
        return make(max(options.layers or 0, problem.LAYERS[-1]))
    except FewerLayersError as short:
        if short.layers < (options.layers or 1):
            raise
        tell.note(f"{short.path} holds the first {short.layers} layers: these are converted.")
        return make(short.layers)


# ---- verify


def verify(
    workspace: Workspace,
    word: str | None = None,
    truth_file: Path | None = None,
    reference: bool = False,
    tell: Callbacks | None = None,
) -> Result:
    """Compare a result's categories with the truth. `Store.update` can store the verification.

    Args:
        workspace: the folders of data and results.
        word: the result's id or file; None: the last one.
        truth_file: an official categories file, or None.
        reference: whether to run the reference engine.
        tell: callbacks for notes, and for the progress of the reference engine.

    Returns:
        The result, with its new verification.

    Raises:
        ResultError: there is no such result, or its record and its list contradict each other.
        DataError: the dataset is missing, or has changed since the run.
    """
    tell = tell or Callbacks()
    store = Store(workspace.results_dir, tell.note)
    result = store.last() if word is None else store.find(word)
    record, categories = result.record, result.categories()
    of_pass = min(record.images, record.dataset.images)
    check_list(categories, record.survivors, record.images, of_pass, result.path)
    if truth_file is not None:
        truth = read_truth(truth_file, record.neurons, record.layers, of_pass)
        return result.with_verification(verification(categories, truth))
    dataset = _dataset_of(workspace, record)
    known = known_truth(workspace, dataset, record.layers, of_pass)
    if reference or known is None:
        dataset.check(record.layers)
        tell.note("Running the reference engine; it is slow.")
        known = _reference_truth(dataset, record.layers, of_pass, tell.layers)
    return result.with_verification(verification(categories, known))


def _dataset_of(workspace: Workspace, record: Record) -> Dataset:
    """The dataset that a result was made from, if it is still the same."""
    dataset = open_dataset(workspace.data_dir / record.dataset.file)
    same = dataset.features_sha256 == record.dataset.features_sha256
    if not same or dataset.network_sha256(record.layers) != record.dataset.network_sha256:
        raise DataError(
            "has changed since the result was made",
            path=dataset.path,
            hint="Run spdnn infer again.",
        )
    return dataset


def _reference_truth(
    dataset: Dataset, layers: int, images: int, progress: LayerProgress | None
) -> Truth:
    engine = create("reference", EngineOptions(progress=progress))
    engine.prepare(dataset.network(layers))
    engine.upload(dataset.features(0, images))
    categories = engine.infer().categories
    return Truth("the reference engine (float64)", len(categories), categories=categories)
