"""What all pictures say of the runs that they show, and which runs they may show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from spdnn_cli.results import describe
from spdnn_cli.results.describe import hardware, problem_of
from spdnn_cli.results.record import Record, Status
from spdnn_cli.results.store import Result

SURE = (Status.VERIFIED, Status.COUNT_ONLY)
"""Runs whose marks are filled: their categories, or at least their number, were verified."""


def right(results: Iterable[Result]) -> list[Result]:
    """The results whose categories were not found wrong."""
    return [result for result in results if result.record.status is not Status.WRONG]


def alone(results: Iterable[Result]) -> list[Result]:
    """Runs of one device with no options of the engine's own, which the kernel table is for."""
    return [r for r in results if r.record.launch.workers == 1 and not r.record.engine_options]


def is_sure(record: Record) -> bool:
    """Whether its mark is filled."""
    return record.status in SURE


def size(record: Record) -> tuple[int, int]:
    """Neurons and layers."""
    return record.neurons, record.layers


def data(*records: Record) -> str:
    """What was inferred: how many images, or from how many to how many, of which source."""
    problem = problem_of(records[0])
    counts = sorted({record.images for record in records})
    images = " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1])))
    return f"{images} images, {problem.data}{'' if problem.is_official else ' (not official)'}"


def device(record: Record) -> str:
    """What computed, in words: the GPUs, or the processor."""
    cpu, cores, gpus = hardware(record)
    return ", ".join(f"{gpus.count(name)}x {name}" for name in dict.fromkeys(gpus)) or (
        f"{cpu}, {cores} cores"
    )


def note(records: Sequence[Record]) -> str:
    """When some runs were made, and whether they were verified."""
    dates = sorted({record.created[:10] for record in records})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    unsure = sum(not is_sure(record) for record in records)
    counted = sum(record.status is Status.COUNT_ONLY for record in records)
    by_count = f", {'' if counted == len(records) else f'{counted} '}by count" if counted else ""
    if len(records) == 1:
        return f"{when}, {'not ' if unsure else ''}verified{by_count.removeprefix(',')}"
    if unsure == 0:
        return f"{when}; every run verified{by_count}"
    return f"{when}; {unsure} of {len(records)} runs not verified{by_count}"


def notes_of_times(shown: Sequence[Record], results: Sequence[Result]) -> list[str]:
    """What must be known of the times that are shown, and how many results are not."""
    lines = describe.timing(shown)
    if not all(map(is_sure, shown)):
        lines.append("Hollow marks: not verified.")
    return [*lines, *describe.samples(shown), *notes_of_wrong(results)]


def notes_of_wrong(results: Sequence[Result]) -> list[str]:
    """How many results are not drawn."""
    wrong = len(results) - len(right(results))
    if not wrong:
        return []
    return [f"Not drawn: {wrong} of {len(results)} results, whose categories are WRONG."]
