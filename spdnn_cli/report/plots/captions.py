"""What all pictures say of the runs that they show, and which runs they may show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from spdnn_cli.results import describe as runs
from spdnn_cli.results.describe import Record
from spdnn_cli.results.store import Result


def right(results: Iterable[Result]) -> list[Result]:
    """The results whose categories were not found wrong."""
    return [result for result in results if runs.mark(result.record) != " !"]


def alone(results: Iterable[Result]) -> list[Result]:
    """Runs of one device, without those of the kernel table, for which tile shapes were asked."""
    return [r for r in results if runs.workers(r.record) == 1 and not runs.asks_for_tile(r.record)]


def size(record: Record) -> tuple[int, int]:
    """Neurons and layers."""
    return record["neurons"], record["layers"]


def data(*records: Record) -> str:
    """What was inferred: how many images, or from how many to how many, of which source."""
    source = runs.problem_of(records[0]).data
    counts = sorted({record["images"] for record in records})
    images = " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1])))
    return f"{images} images, {source}{'' if source == 'official' else ' (not official)'}"


def device(record: Record) -> str:
    """What computed, in words: the GPUs, or the processor."""
    cpu, cores, gpus = runs.hardware(record)
    return ", ".join(f"{gpus.count(name)}x {name}" for name in dict.fromkeys(gpus)) or (
        f"{cpu}, {cores} cores"
    )


def note(results: Sequence[Result]) -> str:
    """When some results were made, and whether they were verified."""
    dates = sorted({str(result.record["created"])[:10] for result in results})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    unsure = sum(not result.record["verified"] for result in results)
    if len(results) == 1:
        return f"{when}, {'not ' if unsure else ''}verified"
    if unsure == 0:
        return f"{when}; every run verified"
    return f"{when}; {unsure} of {len(results)} runs not verified"


def notes_of_times(shown: Sequence[Result], results: Sequence[Result]) -> list[str]:
    """What must be known of the times that are shown, and how many results are not."""
    records = [result.record for result in shown]
    words = [line for line in runs.notes(records) if line not in runs.MARKS.values()]
    if not all(record["verified"] for record in records):
        words.append("Hollow marks: not verified.")
    return words + notes_of_wrong(results)


def notes_of_wrong(results: Sequence[Result]) -> list[str]:
    """How many results are not drawn."""
    wrong = len(results) - len(right(results))
    if not wrong:
        return []
    return [f"Not drawn: {wrong} of {len(results)} results, whose categories are WRONG."]
