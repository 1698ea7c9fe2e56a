"""Numbers of others: published.yaml (programs by problem) and paper.yaml (the paper's tables)."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from spdnn_cli import problem
from spdnn_cli.results.record import Device, Struct

FILE = Path(__file__).with_name("published.yaml")
PAPER_FILE = Path(__file__).with_name("paper.yaml")

Size = tuple[int, int]
"""Neurons and layers."""
OFFICIAL_SIZES: tuple[Size, ...] = tuple(
    (neurons, layers) for neurons in problem.NEURONS for layers in problem.LAYERS
)
"""The twelve problems."""


class Kind(Enum):
    """Whose numbers they are."""

    PUBLISHED = "published"
    MEASURED = "measured"


@dataclass(frozen=True)
class Peer:
    """The times of one program on one number of devices, official data, 60,000 images.

    Attributes:
        kind: whether its source says so, or it is an own measurement.
        key: a short name of the program on that machine.
        program: what ran.
        source: who says so.
        address: where that is found; of an own measurement, where the program is.
        machine: on what.
        devices: how many of it.
        date: of an own measurement; None: the source's.
        device: where it ran.
        timed: what the seconds include.
        note: what else must be known, or None.
        seconds: of inference, by (neurons, layers).
    """

    kind: Kind
    key: str
    program: str
    source: str
    address: str
    machine: str
    devices: int
    date: datetime.date | None
    device: Device
    timed: str
    note: str | None
    seconds: dict[Size, float]

    def teraedges_per_s(self, size: Size) -> float:
        """The challenge's rate on a problem that `seconds` has."""
        return problem.OfficialProblem(*size).edges / self.seconds[size] / 1e12


def peers() -> list[Peer]:
    """The programs of published.yaml, in its order, each number of devices apart."""
    content = _published()
    found = [p for entry in content.published for p in _peers(entry, content.sources)]
    return [*found, *(peer for entry in content.measured for peer in _peers(entry, {}))]


def claims() -> list[str]:
    """What sources claim without a table of times, each with its source."""
    content = _published()
    return [
        f"{claim.claim} ({content.sources[claim.source].cite}, {claim.where})"
        for claim in content.claims
    ]


class TrainedNetwork(Struct, frozen=True):
    """A trained network, and how much faster a program was on it than two others."""

    name: str
    neurons: int
    layers: int
    data: str
    accuracy_percent: float
    accuracy_loss_percent: float
    speed_up_over_snig: float
    speed_up_over_bf: float


class Trained(Struct, frozen=True):
    """A program on networks that were trained."""

    source: str
    program: str
    networks: tuple[TrainedNetwork, ...]


def trained() -> tuple[Trained, str]:
    """The trained networks, and their source with its address."""
    content = _published()
    source = content.sources[content.trained.source]
    return content.trained, f"{source.cite}, {source.address}"


# ---- the paper


class Paper(Struct, frozen=True):
    """The tables of the paper, TeraEdges/s."""

    version: Literal[1]
    cite: str
    address: str
    method: str
    misprint: str
    a100_over_v100: float
    table_1: PaperScaling
    table_2: PaperRanking

    @property
    def source(self) -> str:
        """Who, and where."""
        return f"{self.cite}, {self.address}"


class PaperScaling(Struct, frozen=True):
    """Table I.

    Attributes:
        v100: numbers of V100s, of the first figures of each row.
        a100: likewise of A100s, after them.
        teraedges_per_s: one row per problem, "neurons x layers" without spaces.
        seconds_1xv100: as printed.
    """

    v100: tuple[int, ...]
    a100: tuple[int, ...]
    teraedges_per_s: dict[str, tuple[float, ...]]
    seconds_1xv100: dict[str, float]

    def rates(self, size: Size) -> dict[int, float]:
        """By number of V100s."""
        figures = self.teraedges_per_s[_name(size)]
        return dict(zip(self.v100, figures[: len(self.v100)], strict=True))

    def a100_rates(self, size: Size) -> dict[int, float]:
        """By number of A100s."""
        figures = self.teraedges_per_s[_name(size)]
        return dict(zip(self.a100, figures[len(self.v100) :], strict=True))


class PaperRanking(Struct, frozen=True):
    """Table II: the best over all numbers of devices; null: no figure printed."""

    programs: tuple[str, ...]
    awards: str
    teraedges_per_s: dict[str, tuple[float | None, ...]]

    def rates(self, size: Size) -> dict[str, float | None]:
        """By program; the paper's own first."""
        return dict(zip(self.programs, self.teraedges_per_s[_name(size)], strict=True))


@cache
def paper() -> Paper:
    """The paper's tables."""
    return msgspec.yaml.decode(PAPER_FILE.read_bytes(), type=Paper)


def _name(size: Size) -> str:
    return "{}x{}".format(*size)


# ---- the file of others


class _Source(Struct, frozen=True):
    cite: str
    address: str


class _Entry(Struct, frozen=True, kw_only=True):
    key: str
    program: str
    machine: str
    device: Device
    timed: str
    seconds: dict[
        Annotated[str, Meta(pattern=r"^\d+x\d+$")], float | tuple[float | None, ...] | None
    ]
    devices: tuple[int, ...] = (1,)
    note: str | None = None


class _PublishedEntry(_Entry, frozen=True, kw_only=True):
    source: str


class _MeasuredEntry(_Entry, frozen=True, kw_only=True):
    address: str
    date: datetime.date


class _Claim(Struct, frozen=True):
    source: str
    where: str
    claim: str


class _Published(Struct, frozen=True):
    version: Literal[2]
    sources: dict[str, _Source]
    published: tuple[_PublishedEntry, ...]
    measured: tuple[_MeasuredEntry, ...]
    trained: Trained
    claims: tuple[_Claim, ...]


@cache
def _published() -> _Published:
    return msgspec.yaml.decode(FILE.read_bytes(), type=_Published)


def _peers(entry: _PublishedEntry | _MeasuredEntry, sources: dict[str, _Source]) -> Iterator[Peer]:
    """One for each number of devices that has a figure."""
    if isinstance(entry, _PublishedEntry):
        kind, source, date = Kind.PUBLISHED, sources[entry.source], None
    else:
        kind, source = Kind.MEASURED, _Source("own measurement", entry.address)
        date = entry.date
    for place, devices in enumerate(entry.devices):
        seconds = {}
        for name, figures in entry.seconds.items():
            figure = _figures(figures)[place]
            if figure is not None:
                neurons, layers = map(int, name.split("x"))
                seconds[neurons, layers] = figure
        yield Peer(
            kind=kind,
            key=entry.key,
            program=entry.program,
            source=source.cite,
            address=source.address,
            machine=entry.machine,
            devices=devices,
            date=date,
            device=entry.device,
            timed=entry.timed,
            note=entry.note,
            seconds=seconds,
        )


def _figures(figures: float | Sequence[float | None] | None) -> Sequence[float | None]:
    return figures if isinstance(figures, Sequence) else (figures,)
