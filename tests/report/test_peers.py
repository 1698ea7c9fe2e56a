"""Numbers of other programs: what the file holds, and the tables beside ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.records import OFFICIAL, STREAM, UNVERIFIED, made, on_devices
from helpers.tables import columns, texts

from spdnn_cli import problem
from spdnn_cli.report import peers, published
from spdnn_cli.report.published import Kind
from spdnn_cli.results.store import Result

PUBLISHED = """
version: 2
sources:
  author: {cite: "A. Author, 2020, table 1", address: "https://example.org/a"}
  trained: {cite: "B. Author, 2023, table 4", address: "https://example.org/b"}
published:
  - key: fast
    program: Fast
    source: author
    machine: NVIDIA V100
    devices: [1, 2]
    device: cuda
    timed: kernels alone
    seconds: {1024x120: [0.5, 0.3], 4096x120: 2, 4096x480: [8.76543, null]}
  - key: elsewhere
    program: Never shown
    source: author
    machine: NVIDIA A100
    device: cuda
    timed: kernels alone
    seconds: {65536x1920: 1.0}
  - key: paper-on-cpu
    program: Paper on CPUs
    source: author
    machine: 64 cores
    device: cpu
    timed: all
    seconds: {1024x120: 7}
measured:
  - key: slow
    program: Slow
    address: https://example.org/slow
    machine: NVIDIA H100
    date: 2026-11-22
    device: cuda
    timed: wall clock
    note: two rounds
    seconds: {1024x120: 0.25}
trained:
  source: trained
  program: Trainer
  networks:
    - {name: A, neurons: 128, layers: 18, data: MNIST, accuracy_percent: 94.5,
       accuracy_loss_percent: 0.25, speed_up_over_snig: 1.5, speed_up_over_bf: 1.75}
claims:
  - {source: author, where: abstract, claim: up to 180 TeraEdges/s}
"""


@pytest.fixture
def others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Numbers of others that were made by hand."""
    monkeypatch.setattr(published, "FILE", tmp_path / "published.yaml")
    published.FILE.write_text(PUBLISHED.replace("4096x120: 2,", "4096x120: [2, 1],"))
    published._published.cache_clear()
    yield
    published._published.cache_clear()


def official(seconds: float, engine: str = "tiled", **changes: Any) -> Result:
    """A run of the official problem 1024 x 120."""
    return made(engine, seconds, **(OFFICIAL | changes))


@pytest.mark.usefixtures("others")
def test_a_row_is_a_program_on_a_machine_and_number_of_devices() -> None:
    results = [
        official(0.002, "folded"),
        official(0.25),
        official(0.75, neurons=4096, **UNVERIFIED),
        official(3.0, neurons=4096, layers=480),
        on_devices(2, 0.15, **OFFICIAL),
        on_devices(2, 0.125, "contiguous", **OFFICIAL),
    ]
    table, trained = peers.peers(results)
    assert table.title == "Seconds of inference on GPUs: this program and others"
    assert table.columns == [
        *("program", "machine", "devices", "whose"),
        *("1024 x 120", "4096 x 120", "4096 x 480"),
    ]
    h100 = "1x-nvidia-h100-80gb-hbm3"
    assert texts(table) == [
        ["tiled", h100, "1", "this program", "250 ms", "750 ms *", "3 s"],
        ["folded", h100, "1", "this program", "2 ms", "", ""],
        ["tiled", "8x-nvidia-h200", "2", "this program", "125 ms", "", ""],
        ["Slow", "NVIDIA H100", "1", "measured [1]", "250 ms", "", ""],
        ["Fast", "NVIDIA V100", "1", "published [2]", "500 ms", "2 s", "8.77 s"],
        ["Fast", "NVIDIA V100", "2", "published [2]", "300 ms", "1 s", ""],
    ]
    assert table.notes[:4] == [
        "Other programs ran on other machines, and each was timed in its own way: compare with "
        "care. Empty: no figure. measured: an own measurement of that program.",
        "[1] Own measurement of 2026-11-22; the program: https://example.org/slow. Timed: wall "
        "clock; two rounds.",
        "[2] A. Author, 2020, table 1: https://example.org/a. Timed: kernels alone.",
        "Published without a table of times: up to 180 TeraEdges/s (A. Author, 2020, table 1, "
        "abstract).",
    ]
    assert "* not verified." in table.notes
    assert trained.title == "Trainer on trained networks, published"
    assert texts(trained) == [["A", "128", "18", "MNIST", "94.5", "0.25", "1.5", "1.75"]]
    assert trained.notes == ["B. Author, 2023, table 4, https://example.org/b."]


@pytest.mark.usefixtures("others")
def test_results_of_a_cpu_are_beside_programs_for_cpus() -> None:
    table, _ = peers.peers([official(2.0, "cpu", threads=4)])
    assert table.title == "Seconds of inference on CPUs: this program and others"
    assert columns(table, "program", "machine", "1024 x 120") == [
        ("cpu (4 threads)", "1x-nvidia-h100-80gb-hbm3", "2 s"),
        ("Paper on CPUs", "64 cores", "7 s"),
    ]
    assert not any("180 TeraEdges/s" in note for note in table.notes)


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize(
    "changes",
    [
        {"images": 59_999},
        {"dataset__official_inputs": False},
        {"dataset__official_network": False},
        {"engine_options": {"tile": "minibatch=1"}},
        {"device_memory": 10**9},
        {"stream": STREAM},
        {"layers": 1920},
    ],
    ids=["images", "inputs", "network", "asked tile", "memory", "streamed", "nobody has it"],
)
def test_what_others_did_not_run_is_not_beside_them(changes: dict[str, Any]) -> None:
    assert peers.peers([official(1.0, **changes)]) == []


# ---- the file


def test_every_number_has_its_source_address_machine_and_way_of_timing() -> None:
    everyone = published.peers()
    assert len({(peer.key, peer.devices) for peer in everyone}) == len(everyone)
    for peer in everyone:
        assert all((peer.program, peer.source, peer.machine, peer.timed))
        assert peer.address.startswith("https://")
        assert peer.devices >= 1
        own = peer.kind is Kind.MEASURED
        assert (peer.source == "own measurement", peer.date is not None) == (own, own)
        assert peer.seconds
        for (neurons, layers), seconds in peer.seconds.items():
            assert neurons in problem.NEURONS
            assert layers in problem.LAYERS
            assert seconds > 0
    assert {peer.kind for peer in everyone} == set(Kind)
    assert all(claim.endswith(")") and "HPEC" in claim for claim in published.claims())


@pytest.mark.parametrize(
    ("key", "devices", "size", "seconds"),
    [
        ("snig-snig-2080ti", 4, (65536, 1920), 43.44),
        ("snig-gpipe-2080ti", 2, (1024, 120), 0.400),
        ("snig-bf-a100", 1, (65536, 1920), 134.82),
        ("pnnl-cusparse", 1, (65536, 1920), 1087.15),
        ("pnnl-openmp", 1, (16384, 1920), 144.40),
        ("pnnl-cupy-spmm-80gb", 1, (65536, 1920), 3729.08),
        ("pnnl-cupy-spgemm-40gb", 6, (16384, 1920), 406.48),
        ("pnnl-seed", 1, (65536, 1920), 31.348798),
        ("graphblas-3.2", 1, (65536, 1920), 3570.33),
        ("graphblas-3.1", 1, (1024, 480), 4.51),
        ("snicit-a6000", 1, (65536, 1920), 0.68918),
        ("xy-2021-h100", 1, (16384, 120), 0.0662),
    ],
)
def test_figures_are_those_of_their_sources(
    key: str, devices: int, size: tuple[int, int], seconds: float
) -> None:
    (peer,) = [p for p in published.peers() if (p.key, p.devices) == (key, devices)]
    assert peer.seconds[size] == seconds


def test_no_figure_is_no_time() -> None:
    known = {(p.key, p.devices): p.seconds for p in published.peers()}
    assert (65536, 1920) not in known["snig-bf-2080ti", 1]
    assert (65536, 1920) not in known["snig-bf-2080ti", 2]
    assert (65536, 1920) in known["snig-bf-2080ti", 3]
    assert (16384, 1920) not in known["pnnl-cupy-spgemm-40gb", 8]


def test_the_rate_of_another_program_is_the_challenges() -> None:
    """60,000 images x 120 layers x 32 edges x 1024 neurons in 0.0134 s."""
    (peer,) = [p for p in published.peers() if p.key == "snicit-a6000"]
    assert peer.teraedges_per_s((1024, 120)) == pytest.approx(0.2359296 / 0.0134)
