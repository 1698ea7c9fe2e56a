"""One measured run: an engine on a dataset, on one device or many, verified and timed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spdnn_cli import machine, nvidia
from spdnn_cli.cores import available_cores
from spdnn_cli.engines.protocol import LayerProgress
from spdnn_cli.network.dataset import Dataset
from spdnn_cli.network.layers import Int32
from spdnn_cli.results.record import Launcher, Record, Status, Verification
from spdnn_cli.run import mpi, processes
from spdnn_cli.run.options import RunOptions
from spdnn_cli.run.rank import Alone, Outcome, work
from spdnn_cli.run.summary import joined, lifetimes_of, make_record
from spdnn_cli.run.truth import Truth, known_truth, verification
from spdnn_cli.workspace import Workspace

if TYPE_CHECKING:
    from spdnn_cli.results.store import Lifetimes


@dataclass(frozen=True, eq=False)
class Measured:
    """A run.

    Attributes:
        record: the record that `Store.save` writes.
        categories: int32, ascending, from 0; of one pass if images repeat: all passes are equal.
        lifetimes: uint16 (images), layers that each image entered; None: the run was not traced.
        no_gpu: why a GPU that is present was not used; None: it was used, or there is none.
    """

    record: Record
    categories: Int32
    lifetimes: Lifetimes | None
    no_gpu: str | None = None


def settled_launcher(options: RunOptions) -> Launcher:
    """What starts the workers: MPI if this process is one of its ranks."""
    if options.launcher is not None:
        return options.launcher
    if mpi.ranks() > 1:
        return "mpi"
    return "alone" if options.processes == 1 else "processes"


def run(
    workspace: Workspace,
    find: Callable[[], Dataset],
    options: RunOptions,
    progress: LayerProgress | None = None,
    convert_seconds: Callable[[], float] = lambda: 0.0,
) -> Measured | None:
    """Run an engine on a dataset, on one device or on many, and measure it.

    Args:
        workspace: the folders that hold the truths.
        find: finds or makes the dataset.
        options: what to run, and how.
        progress: called with the progress of a run on one device.
        convert_seconds: tells how many seconds `find` spent on making the dataset.

    Returns:
        The run; None on the ranks of an MPI job other than 0.

    Raises:
        SpdnnError: see `rank.work`, `processes.run_processes` and `mpi.run_ranks`.
    """
    launcher = settled_launcher(options)
    if launcher == "mpi":
        return _run_ranks(workspace, find, options, convert_seconds)
    dataset = find()
    threads = options.threads or max(1, available_cores() // options.processes)
    options = replace(options, threads=threads)
    gather = 0.0
    if launcher == "alone":
        if len(nvidia.gpus()) > 1 and options.device != "cpu":
            # CUDA would count the fastest first, NVML counts by the bus: a record names the latter.
            processes.show_only(0)
        outcomes = [work(Alone(), dataset.path, options, None, progress)]
    else:
        on_gpu = options.device == "cuda"
        places = [rank if on_gpu else None for rank in range(options.processes)]
        outcomes, gather = processes.run_processes(dataset.path, options, places)
    seconds = {"convert": convert_seconds(), "gather": gather}
    return _measured(workspace, dataset, options, launcher, outcomes, seconds)


def _run_ranks(
    workspace: Workspace,
    find: Callable[[], Dataset],
    options: RunOptions,
    convert_seconds: Callable[[], float],
) -> Measured | None:
    with mpi.signals_held() as release:
        world = mpi.communicator()
        try:
            release()
            found: list[Dataset] = []

            def find_path() -> Path:
                found.append(find())
                return found[0].path.resolve()

            gathered = mpi.run_ranks(world, find_path, options, options.broadcast)
            if gathered is None:
                return None
            outcomes, gather = gathered
            options = replace(options, threads=outcomes[0].threads)
            seconds = {"convert": convert_seconds(), "gather": gather}
            return _measured(workspace, found[0], options, "mpi", outcomes, seconds)
        except BaseException as error:
            mpi.stop_all(world, error)
            raise


def _measured(
    workspace: Workspace,
    dataset: Dataset,
    options: RunOptions,
    launcher: Launcher,
    outcomes: list[Outcome],
    seconds: dict[str, float],
) -> Measured:
    layers, images = options.settled_layers(dataset), options.settled_images(dataset)
    categories = joined([outcome.inference for outcome in outcomes]).categories
    truth = known_truth(workspace, dataset, layers, min(images, dataset.images))
    end_to_end = machine.seconds_since_start()  # what follows is no part of the run
    if truth is None:
        dataset.check(layers)  # the record names its checksums
    verified = _verified(categories, truth, dataset.images)
    of_first_pass = categories[categories < dataset.images]
    seconds = {**seconds, "end_to_end": end_to_end}
    record = make_record(
        workspace, dataset, options, launcher, outcomes, verified, of_first_pass, seconds
    )
    lifetimes = lifetimes_of(outcomes, options, dataset)
    return Measured(record, of_first_pass, lifetimes, outcomes[0].choice.no_gpu)


def _verified(categories: Int32, truth: Truth | None, images: int) -> Verification:
    """The verification of all passes; image i is image i % `images` of the dataset."""
    first = categories[categories < images]
    of_first = verification(first, truth)
    if truth is None or of_first.status is Status.WRONG:
        return of_first
    last = int(categories.max(initial=0)) // images
    for number in range(1, last + 1):
        again = categories[(categories >= number * images) & (categories < (number + 1) * images)]
        again = again - number * images
        whole = first if number < last else first[: len(again)]
        if not np.array_equal(again, whole):
            difference = f"pass {number + 1} over the images gave other categories than the first"
            return Verification(Status.WRONG, truth.source, difference)
    return of_first
