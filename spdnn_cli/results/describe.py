"""What the runs in result files were: their machine, problem and configuration, in words.

The tables group by these, so that runs of unlike machines, problems or options are never merged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from spdnn_cli.engines.registry import ENGINES
from spdnn_cli.results.store import WOBBLES_FROM, Result, wobble
from spdnn_cli.timing import spread

Record = dict[str, Any]

SKIPPED = {
    "dead_images_dropped": "dead images dropped",
    "twins_folded": "twins folded",
    "finished_images_retired": "finished images retired",
}
EFFECTIVE = (
    "Effective: the challenge's rate: all edges of all layers x images / median seconds of "
    "inference, whatever an engine skips."
)
TIMED = (
    "Timed: features on the device, in the engine's input layout, to categories on the host. Of "
    "each configuration the newest run counts."
)
MARKS = {" *": "* not verified", " !": "! the categories are WRONG"}


# ---- machines


def by_machine(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Results by the name of their machine, which is that of their folder; machines in order.

    Where files of unlike hardware lie in one folder, its name gets the hardware added.
    """
    found: dict[tuple[str, tuple[str, int, tuple[str, ...]]], list[Result]] = {}
    for result in results:
        found.setdefault((result.path.parent.name, hardware(result.record)), []).append(result)
    folders = [folder for folder, _ in found]
    named = {
        folder if folders.count(folder) == 1 else f"{folder} ({in_words(parts)})": some
        for (folder, parts), some in found.items()
    }
    return dict(sorted(named.items()))


def hardware(record: Record) -> tuple[str, int, tuple[str, ...]]:
    """What must be alike for two runs to be of alike machines: CPU, cores, and GPUs if they ran."""
    machine = record["machine"]
    names = [gpu["name"] for gpu in machine["gpus"]] if record["device"] == "cuda" else []
    return machine["cpu"], machine["cores"], tuple(names)


def in_words(parts: tuple[str, int, tuple[str, ...]]) -> str:
    """`hardware` in words: "2x NVIDIA H200, Intel Xeon, 16 cores"."""
    cpu, cores, names = parts
    return ", ".join([*_counted(names), cpu, f"{cores} cores"])


def _counted(names: Sequence[str]) -> list[str]:
    return [f"{names.count(name)}x {name}" for name in dict.fromkeys(names)]


# ---- problems


class Problem(NamedTuple):
    """What was inferred: problems with the same numbers but other data are other problems."""

    neurons: int
    layers: int
    images: int
    data: str
    features_sha256: str
    network_sha256: str

    @property
    def label(self) -> str:
        """Neurons x layers."""
        return f"{self.neurons} x {self.layers}"


PROBLEM_COLUMNS = ["neurons", "layers", "images", "data"]


def problem_of(record: Record) -> Problem:
    """The problem of a run."""
    data = record["dataset"]
    official = data["official_inputs"] and data["official_network"]
    return Problem(
        record["neurons"],
        record["layers"],
        record["images"],
        "official" if official else data["source"],
        data["features_sha256"],
        data["network_sha256"],
    )


def problem_cells(problems: Iterable[Problem]) -> dict[Problem, list[str]]:
    """The cells of `PROBLEM_COLUMNS` of each problem, in order.

    Data that would look alike gets the beginning of its checksum.
    """
    ordered = sorted(set(problems))
    shown = [problem[:4] for problem in ordered]
    cells = {}
    for problem in ordered:
        alike = shown.count(problem[:4]) > 1
        added = f" {problem.features_sha256[:6]}/{problem.network_sha256[:6]}" if alike else ""
        cells[problem] = [*map(str, problem[:3]), problem.data + added]
    return cells


# ---- configurations


def workers(record: Record) -> int:
    """How many devices ran."""
    return int(record["launch"]["workers"])


def threads(record: Record) -> int | None:
    """CPU threads of each worker, where the CPU computed."""
    return int(record["workers"][0]["threads"]) if record["device"] == "cpu" else None


def engine_and_options(record: Record) -> str:
    """The engine of a run, with the options that make it another one; not how it was spread."""
    shortcuts, memory, tile = record["shortcuts"], record.get("device_memory"), record["tile"]
    parts = [record["engine"]]
    if shortcuts["twins_folded"] and not shortcuts["finished_images_retired"]:
        parts.append("--no-retire")
    if memory is not None:
        parts.append(f"in {memory / 1e9:g} GB")
    if tile is not None and tile["asked"] is not None:
        parts.append(f"--tile {tile['asked']}")
    if stores_float16(record):
        parts.append("--features float16")
    if record["launch"]["rebalance_layer"] is not None:
        parts.append(f"--rebalance {record['launch']['rebalance_layer']}")
    if record["stream"] is not None:
        parts.append("streamed")
    return " ".join(parts)


def configuration(record: Record) -> str:
    """Everything that makes a run another one on the same problem and machine."""
    parts = [engine_and_options(record)]
    count, each, launch = workers(record), threads(record), record["launch"]
    if count > 1:
        parts.append(f"{count} workers, {launch['partition']}, {launch['launcher']}")
    if launch["broadcast"]:
        parts.append("broadcast")
    if each is not None:
        noun = "thread" if each == 1 else "threads"
        parts.append(f"({each} {noun}{' each' if count > 1 else ''})")
    return " ".join(parts)


def newest(records: Iterable[Record]) -> dict[tuple[Problem, str], Record]:
    """The newest run of each problem and configuration."""
    oldest_first = sorted(records, key=lambda record: str(record["created"]))
    return {(problem_of(record), configuration(record)): record for record in oldest_first}


def in_order(records: Iterable[Record]) -> list[str]:
    """The configurations of some runs: engines in the order of the registry, then by threads."""
    keys = {
        configuration(record): (
            list(ENGINES).index(record["engine"]) if record["engine"] in ENGINES else len(ENGINES),
            engine_and_options(record),
            workers(record),
            threads(record) or 0,
        )
        for record in records
    }
    return sorted(keys, key=lambda name: (keys[name], name))


def asks_for_tile(record: Record) -> bool:
    """Whether a tile shape was asked for: such runs are for the kernel table."""
    return record["tile"] is not None and record["tile"]["asked"] is not None


def stores_float16(record: Record) -> bool:
    """Whether values between layers were rounded to float16; older records do not say: float32."""
    return bool(record.get("features") == "float16")


# ---- numbers and notes


def number(value: float, digits: int = 4) -> str:
    """So many significant digits; no exponent for numbers that are read easily without."""
    return f"{float(f'{value:.{digits}g}'):.15g}"


def seconds(record: Record) -> float:
    """The median of the timed runs."""
    return float(record["timings_s"]["infer"]["median"])


def mark(record: Record) -> str:
    """What to put behind a number of a run, of `MARKS`: nothing if it was verified."""
    if record.get("difference") is not None:
        return " !"
    return "" if record["verified"] else " *"


def notes(records: Sequence[Record], *, timed: str = TIMED) -> list[str]:
    """What must be known to read a table of these runs: a sentence or a line each."""
    lines = [timed]
    if any(record["stream"] is not None for record in records):
        lines.append("Streamed runs: the upload of the inputs is inside the timed part.")
    lines += [f"Skipped: {_skipped(records)}.", f"Machine: {_machine(records)}."]
    return [*lines, *verification(records), *samples(records)]


def verification(records: Iterable[Record]) -> list[str]:
    """What the marks behind the numbers of these runs say, or that there are none."""
    marks = {mark(record) for record in records}
    marked = [text for key, text in MARKS.items() if key in marks]
    return marked or ["Verified: the categories of every run."]


def _skipped(records: Sequence[Record]) -> str:
    words: dict[str, list[str]] = {}
    for record in records:
        on = [word for key, word in SKIPPED.items() if record["shortcuts"][key]]
        engine = record["engine"]
        if (
            record["shortcuts"]["twins_folded"]
            and not record["shortcuts"]["finished_images_retired"]
        ):
            engine += " --no-retire"
        engines = words.setdefault(", ".join(on) or "nothing", [])
        if engine not in engines:
            engines.append(engine)
    return "; ".join(f"{', '.join(sorted(engines))}: {what}" for what, engines in words.items())


def _machine(records: Sequence[Record]) -> str:
    """Hardware, driver, CUDA and dates of some runs on alike machines."""
    parts = list(dict.fromkeys(in_words(hardware(record)) for record in records))
    on_gpu = [record["machine"] for record in records if record["device"] == "cuda"]
    drivers = {gpu["driver"] for machine in on_gpu for gpu in machine["gpus"]}
    runtimes = {machine["cuda"]["runtime"] for machine in on_gpu if machine["cuda"]}
    parts += [f"driver {driver}" for driver in sorted(drivers)]
    parts += [f"CUDA {runtime}" for runtime in sorted(runtimes)]
    days = sorted({str(record["created"])[:10] for record in records})
    return "; ".join([*parts, " to ".join(dict.fromkeys([days[0], days[-1]]))])


def samples(records: Sequence[Record]) -> list[str]:
    """What the samples warn of: a wide spread, or one sample alone."""

    def name(record: Record) -> str:
        return f"{configuration(record)} {problem_of(record).label}"

    lines = []
    wide = [
        f"{name(record)} ({spread(record['timings_s']['infer']['samples']):.0%})"
        for record in records
        if wobble(record) is not None
    ]
    if wide:
        lines.append(
            f"Samples that wobble, (largest - smallest) / median from {WOBBLES_FROM:.0%} on: "
            f"{', '.join(wide)}."
        )
    single = [name(r) for r in records if len(r["timings_s"]["infer"]["samples"]) == 1]
    if single:
        lines.append(f"One timed run alone: {', '.join(single)}.")
    return lines
