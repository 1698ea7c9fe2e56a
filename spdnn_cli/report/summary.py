"""What the results say, in ten lines at most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from spdnn_cli.report import published
from spdnn_cli.report.paper import short_name
from spdnn_cli.report.peers import Own, own_rows
from spdnn_cli.report.published import OFFICIAL_SIZES, Kind, Peer, Size
from spdnn_cli.report.series import on_one_device, shares_cores
from spdnn_cli.report.tables import duration, number
from spdnn_cli.results import describe
from spdnn_cli.results.describe import configuration_of, hardware, is_noisy, problem_of
from spdnn_cli.results.record import Device, Record, Status
from spdnn_cli.results.store import Result

WORDS = {
    Status.VERIFIED: "verified",
    Status.COUNT_ONLY: "by the number of categories",
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
    best = max(on_device, key=lambda r: (problem_of(r).is_official, r.effective_teraedges_per_s))
    of = problem_of(best)
    data = "" if of.is_official else f" ({of.data} data)"
    where = "GPUs" if device == "cuda" else "CPUs"
    return (
        f"Fastest on {where}: {configuration_of(best).engine_label}, "
        f"{number(best.effective_teraedges_per_s)} TeraEdges/s on {of.label}{data}: "
        f"{duration(best.seconds)} on {_devices(best)}."
    )


def _devices(record: Record) -> str:
    """How many workers on what."""
    if record.launch.workers == 1:
        return short_name(hardware(record))
    return f"{record.launch.workers} workers, {short_name(hardware(record))}"


def _against_paper(own: Iterable[Own]) -> str:
    """The paper's method on one GPU, against the paper's."""
    known, paper = _of_method(own), published.paper()
    alone = {size: record for (size, workers), record in known.items() if workers == 1}
    if not alone:
        return ""
    on_v100 = [_rate(r) / paper.table_1.rates(size)[1] for size, r in alone.items()]
    on_a100 = [_rate(r) / paper.table_1.a100_rates(size)[1] for size, r in alone.items()]
    return (
        f"The paper's method ({paper.method}) on one GPU: {_span(on_v100)} times the paper's on "
        f"one V100, {_span(on_a100)} times on one A100."
    )


def _against_best_of_paper(own: Iterable[Own]) -> str:
    """The fastest engine on one device, against the best that the paper has on any number."""
    best: dict[Size, Record] = {}
    for row in own:
        if row.configuration.workers == 1 and row.configuration.device == "cuda":
            for size, record in row.records.items():
                if size in OFFICIAL_SIZES and (
                    size not in best or record.seconds < best[size].seconds
                ):
                    best[size] = record
    if not best:
        return ""
    ratios = []
    for size, record in best.items():
        of_paper = next(iter(published.paper().table_2.rates(size).values()))
        ratios += [] if of_paper is None else [_rate(record) / of_paper]
    engines = ", ".join(dict.fromkeys(record.engine for record in best.values()))
    return (
        f"The fastest engine ({engines}) on one GPU: {_span(ratios)} times the paper's best of up "
        f"to {published.paper().table_1.v100[-1]} V100s."
    )


def _against_others(own: Sequence[Own]) -> str:
    """On the largest problem that was run, the fastest program that others published."""
    known: dict[Size, Record] = {}
    for row in own:
        for size, record in row.records.items():
            if size not in known or record.seconds < known[size].seconds:
                known[size] = record
    peers = [peer for peer in published.peers() if peer.kind is Kind.PUBLISHED]
    shared = [size for size in known if any(size in peer.seconds for peer in peers)]
    if not shared:
        return ""
    size = max(shared)
    peer = min((p for p in peers if size in p.seconds), key=lambda p: p.seconds[size])
    record = known[size]
    return (
        f"Fastest published on {problem_of(record).label}: {peer.program}, "
        f"{duration(peer.seconds[size])} on {_their_devices(peer)}; here {record.engine}, "
        f"{duration(record.seconds)} on {_devices(record)}: "
        f"{number(peer.seconds[size] / record.seconds, 3)} times as fast."
    )


def _their_devices(peer: Peer) -> str:
    return f"{peer.devices} {peer.machine}" if peer.device == "cuda" else peer.machine


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
        f"Best strong scaling measured: {made.engine_label} on {problem_of(record).label}, "
        f"{number(speed_up, 3)} times as fast on {made.workers} devices as on one."
    )


def _noise(records: Sequence[Record]) -> str:
    noisy = sum(map(is_noisy, records))
    if not noisy:
        return ""
    return (
        f"Noisy: {_counted(noisy, 'run')} of {len(records)}, samples apart by "
        f"{describe.NOISY_FROM:.0%} of the median or more."
    )


def _of_method(own: Iterable[Own]) -> dict[tuple[Size, int], Record]:
    """The fastest GPU run of the paper's method, by official problem and devices."""
    best: dict[tuple[Size, int], Record] = {}
    for row in own:
        if row.configuration.engine == published.paper().method:
            for size, record in row.records.items():
                key = size, record.launch.workers
                if size in OFFICIAL_SIZES and (
                    key not in best or record.seconds < best[key].seconds
                ):
                    best[key] = record
    return best


def _rate(record: Record) -> float:
    return record.effective_teraedges_per_s


def _span(ratios: Sequence[float]) -> str:
    low, high = (number(value, 2) for value in (min(ratios), max(ratios)))
    return low if low == high else f"{low} to {high}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
