"""Writes README's results, and its picture, from the results that are published.

    python scripts/readme_results.py

Between two marks in README.md stand the summary, the picture, the table of one machine and the
figures of other programs; a test fails where they are behind the results.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from spdnn_cli.report import cells, plots, published
from spdnn_cli.report.plots import overview
from spdnn_cli.report.published import OFFICIAL_SIZES, Kind, Peer, Size
from spdnn_cli.report.summary import summary
from spdnn_cli.report.tables import EMPTY, Cell, Table, grid, number, seconds_cell
from spdnn_cli.results import describe
from spdnn_cli.results.describe import configuration_of, problem_of
from spdnn_cli.results.record import Record, Status
from spdnn_cli.results.store import Result, Store

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PICTURE = Path("docs/overview.svg")
"""Below the root."""
MACHINE = "1x-nvidia-h100-80gb-hbm3"
"""The folder of results whose table README shows."""
ENGINES = [
    ("folded", True),
    ("folded", False),
    ("tiled", None),
    ("cusparse", None),
    ("baseline", None),
]
"""The columns: engines, and whether they retire finished images."""
DEEPEST = [size for size in OFFICIAL_SIZES if size[1] == OFFICIAL_SIZES[-1][1]]
"""The problems of which README shows the times of other programs."""
LEAST_FIGURES = 3
"""Programs with fewer of those are left to `spdnn report peers`."""

BEGIN, END = "<!-- results: made by python scripts/readme_results.py -->", "<!-- /results -->"

Column = tuple[str, bool | None]
Newest = Mapping[tuple[Size, Column], Record]


def render(results: Sequence[Result]) -> str:
    """The results in README."""
    newest = _newest(results)
    return "\n\n".join([
        _list(summary(results)),
        f"![TeraEdges/s of the paper, of other programs, and of this one]({PICTURE.as_posix()})",
        f"**This program**, from the runs in [results/{MACHINE}/](results/{MACHINE}/):",
        grid(_own(newest)),
        _list(_notes(list(newest.values()))),
        "**Not this program**: seconds of inference on one device, published, or measured here by "
        "running that program:",
        grid(_others()),
        "Each of these was timed in its own way: `spdnn report peers` says how, and has the other "
        f"problems. Published without a table of times: {'; '.join(published.claims())}.",
    ])  # fmt: skip


def _newest(results: Iterable[Result]) -> Newest:
    """The newest run of each of the challenge's problems, for each column."""
    of_machine = [result for result in results if result.machine == MACHINE]
    ((_, alike),) = describe.by_machine(of_machine).items()  # unlike hardware would be two
    found = {}
    for record in alike:
        made = configuration_of(record)
        column = made.engine, made.retires
        plain = made.is_plain and made.workers == 1 and column in ENGINES
        if plain and problem_of(record).is_comparable:
            found[(record.neurons, record.layers), column] = record
    return found


def _own(newest: Newest) -> Table:
    names = [engine + (" --no-retire" if retires is False else "") for engine, retires in ENGINES]
    columns = [f"`{name}`{unit}" for name in names for unit in ("", ", TeraEdges/s")]
    table = Table("", ["neurons x layers", *columns])
    for size in OFFICIAL_SIZES:
        row: list[Cell] = []
        for record in (newest.get((size, column)) for column in ENGINES):
            row += [cells.time(record), _rate(record)]
        table.add(_label(size), *row)
    return table


def _rate(record: Record | None) -> Cell:
    if record is None:
        return EMPTY
    rate = record.effective_teraedges_per_s
    return Cell(rate, number(rate, 3), cells.mark(record))


def _label(size: Size) -> str:
    return "{} x {}".format(*size)


def _notes(records: Sequence[Record]) -> list[str]:
    against = {r.verification.against for r in records if r.status is not Status.UNVERIFIED}
    return [
        describe.EFFECTIVE,
        *describe.notes(records),
        f"Verified against: {', '.join(sorted(filter(None, against)))}.",
    ]


def _others() -> Table:
    """Programs as rows, each with its machine and its source; measured ones first."""
    table = Table("", ["program", "machine", "source", *map(_label, DEEPEST)])
    for peer in sorted(published.peers(), key=lambda peer: peer.kind is Kind.PUBLISHED):
        times = [seconds_cell(peer.seconds.get(size)) for size in DEEPEST]
        known = sum(size in peer.seconds for size in DEEPEST)
        if peer.devices == 1 and known >= LEAST_FIGURES:
            table.add(peer.program, peer.machine, _source(peer), *times)
    return table


def _source(peer: Peer) -> str:
    source = peer.source if peer.date is None else f"{peer.source} of {peer.date}"
    return f"[{source}]({peer.address})"


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines).replace("*", "\\*").replace("- #", "- \\#")


def committed() -> list[Result]:
    """The results that are published, oldest first."""
    return [result for result in Store(ROOT / "results").all() if not result.is_local]


def filled(text: str, results: Sequence[Result]) -> str:
    """README with these results in place of what stands there."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{render(results)}\n\n{END}{after}"


def draw(results: Sequence[Result], path: Path) -> None:
    """Write the picture: the first of `spdnn report --plot`."""
    picture = overview.picture(results)
    assert picture is not None
    plots.save(picture.figure(), path, "svg")


if __name__ == "__main__":
    README.write_text(filled(README.read_text(encoding="utf-8"), committed()), encoding="utf-8")
    draw(committed(), ROOT / PICTURE)
