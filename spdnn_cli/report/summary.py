"""What the results say, in ten lines at most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from spdnn_cli.report import published
from spdnn_cli.report.paper import short_name
from spdnn_cli.report.peers import Own, own_rows
from spdnn_cli.report.published import OFFICIAL_SIZES, Kind, Size
from spdnn_cli.report.series import on_one_device, shares_cores
from spdnn_cli.report.tables import duration, number
from spdnn_cli.results import describe
from spdnn_cli.results.describe import configuration_of, hardware, is_noisy, problem_of
from spdnn_cli.results.record import Device, Record, Status
from spdnn_cli.results.store import Result

WORDS = {
    Status.VERIFIED: "verified",
    Status.COUNT_ONLY: "by count",
    Status.UNVERIFIED: "not verified",
    Status.WRONG: "WRONG",
}


def summary(results: Sequence[Result]) -> list[str]:
    """Sentences: what was measured, on what, the fastest engine, the paper, others; [] of none."""
    if not results:
        return []
    records = [r.record for r in results if r.record.status is not Status.WRONG]
    own = own_rows(results)
    lines = [
        _measured(results),
        _machines(results),
        _fastest(records, "cuda"),
        _fastest(records, "cpu"),
        _against_paper(own),
        _against_best_of_paper(own),
        _against_others(own),
        _scaling(results),
        _noise(records),
    ]
    return [line for line in lines if line]


def _measured(results: Sequence[Result]) -> str:
    states = Counter(result.record.status for result in results)
    counted = ", ".join(f"{states[state]} {WORDS[state]}" for state in WORDS if states[state])
    engines = len({result.record.engine for result in results})
    return (
        f"{_counted(len(results), 'run')} of {_counted(engines, 'engine')}, {_days(results)}: "
        f"{counted}."
    )


def _days(results: Sequence[Result]) -> str:
    days = sorted(result.record.created[:10] for result in results)
    return " to ".join(dict.fromkeys([days[0], days[-1]]))


def _machines(results: Sequence[Result]) -> str:
    names = list(describe.by_machine(results))
    sizes = {
        (r.record.neurons, r.record.layers) for r in results if problem_of(r.record).is_official
    } & set(OFFICIAL_SIZES)
    known = "all" if len(sizes) == len(OFFICIAL_SIZES) else f"{len(sizes)} of the"
    return (
        f"On {_counted(len(names), 'machine')}: {', '.join(names)}; {known} "
        f"{len(OFFICIAL_SIZES)} problems."
    )


def _fastest(records: Iterable[Record], device: Device) -> str:
    """The highest rate on a kind of device, of the challenge's own data if there is such a run."""
    on_device = [r for r in records if r.device == device]
    if not on_device:
        return ""
    best = max(on_device, key=lambda r: (problem_of(r).is_official, _rate(r)))
    of = problem_of(best)
    data = "" if of.is_official else f", {of.data} data"
    where = "GPUs" if device == "cuda" else "CPUs"
    return (
        f"Fastest on {where}: {configuration_of(best).engine_label}, {number(_rate(best))} "
        f"TeraEdges/s ({of.label}{data}, {_devices(best)})."
    )


def _devices(record: Record) -> str:
    """The GPUs that ran, or the processor with its workers."""
    machine, workers = hardware(record), record.launch.workers
    if machine.gpus:
        return f"{workers}x {machine.gpus[0].removeprefix('NVIDIA ')}"
    several = f"{workers} workers, " if workers > 1 else ""
    return several + short_name(machine)


def _by_size(own: Iterable[Own], *, engine: str | None = None) -> dict[Size, Record]:
    """The fastest run of one GPU on each official problem, of an engine or of any."""
    best: dict[Size, Record] = {}
    for row in own:
        made = row.configuration
        if made.workers == 1 and made.device == "cuda" and engine in (None, made.engine):
            for size, record in row.records.items():
                if size not in best or record.seconds < best[size].seconds:
                    best[size] = record
    return {size: best[size] for size in OFFICIAL_SIZES if size in best}


def _against_paper(own: Iterable[Own]) -> str:
    """The paper's method on one GPU, against the paper's."""
    paper = published.paper()
    known = _by_size(own, engine=paper.method)
    if not known:
        return ""
    on_v100 = [_rate(r) / paper.table_1.rates(size)[1] for size, r in known.items()]
    on_a100 = [_rate(r) / paper.table_1.a100_rates(size)[1] for size, r in known.items()]
    return (
        f"{paper.method} on one GPU: {_span(on_v100)} times the paper's V100, {_span(on_a100)} "
        "times its A100."
    )


def _against_best_of_paper(own: Iterable[Own]) -> str:
    """The fastest engine on one device, against the best that the paper has on any number."""
    paper, best = published.paper(), _by_size(own)
    if not best:
        return ""
    ratios = [_rate(r) / max(paper.table_1.rates(size).values()) for size, r in best.items()]
    engines = ", ".join(dict.fromkeys(record.engine for record in best.values()))
    return (
        f"{engines} on one GPU: {_span(ratios)} times the paper's best on up to "
        f"{paper.table_1.v100[-1]} V100s."
    )


def _against_others(own: Sequence[Own]) -> str:
    """On the largest problem that was run, the fastest program that others published."""
    runs = [(size, record) for row in own for size, record in row.records.items()]
    others = [
        (size, peer)
        for peer in published.peers()
        if peer.kind is Kind.PUBLISHED
        for size in peer.seconds
    ]
    shared = {size for size, _ in runs} & {size for size, _ in others}
    if not shared:
        return ""
    largest = max(shared)
    ours = min(record.seconds for size, record in runs if size == largest)
    peer = min((p for size, p in others if size == largest), key=lambda p: p.seconds[largest])
    theirs, where = peer.seconds[largest], peer.machine.removeprefix("NVIDIA ")
    return (
        f"Fastest published on {'{} x {}'.format(*largest)}: {peer.program}, {duration(theirs)} "
        f"({peer.devices}x {where}); here {duration(ours)}, {number(theirs / ours, 3)} times as "
        "fast."
    )


def _scaling(results: Sequence[Result]) -> str:
    """The best speed-up that was measured, over the same engine on one device."""
    best: tuple[float, Record] | None = None
    for records in describe.by_machine(results).values():
        newest = describe.newest(records)
        for (of, configuration), record in newest.items():
            alone = newest.get((of, on_one_device(configuration)))
            if configuration.workers > 1 and alone is not None and not shares_cores(record):
                speed_up = alone.seconds / record.seconds
                best = max(best or (0.0, record), (speed_up, record), key=lambda one: one[0])
    if best is None:
        return ""
    speed_up, record = best
    made = configuration_of(record)
    return (
        f"Best speed-up: {made.engine_label} on {problem_of(record).label}, "
        f"{number(speed_up, 3)} times as fast on {made.workers} devices as on one."
    )


def _noise(records: Sequence[Record]) -> str:
    noisy = sum(map(is_noisy, records))
    if not noisy:
        return ""
    return (
        f"Noisy: {noisy} of {_counted(len(records), 'run')}, with samples "
        f"{describe.NOISY_FROM:.0%} of the median apart, or more."
    )


def _rate(record: Record) -> float:
    return record.effective_teraedges_per_s


def _span(ratios: Sequence[float]) -> str:
    low, high = (number(value, 2) for value in (min(ratios), max(ratios)))
    return low if low == high else f"{low} to {high}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
