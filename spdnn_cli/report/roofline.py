"""How many multiply-adds an engine does for a byte that it cannot avoid moving, and the ceilings.

Intensity = executed edges / least bytes. The least bytes of a run of one device are what its method
must move between memory and chip even with perfect caches:

- layered engines (`baseline`, `cusparse`, `tiled`): every layer's weights once; the input bits
  once; for every layer the float32 values of each image that leaves it alive, written once, and
  read once by the next layer;
- folded engines (`folded`, `cpu`): the input bits once, since an image stays on the chip from then
  on. Their tables are small, and left out.

Both are lower bounds. Values that stay in the L2 cache between two layers never reach device
memory, so a layered run of a small problem may lie above the roof.
"""

from __future__ import annotations

from dataclasses import dataclass

from spdnn_cli.report.cells import engine_entry
from spdnn_cli.results.record import Record

VALUE_BYTES = 4


@dataclass(frozen=True)
class Ceilings:
    """What a machine can do at most, as measured.

    Attributes:
        memory_bytes_per_s: a copy in device memory, bytes read and written together.
        shared_bytes_per_s: reads of shared memory, all multiprocessors, no bank conflicts.
        source: who measured, and when.
    """

    memory_bytes_per_s: float
    shared_bytes_per_s: float
    source: str

    @property
    def shared_edges_per_s(self) -> float:
        """Edges a second if each reads one 4-byte value from shared memory."""
        return self.shared_bytes_per_s / VALUE_BYTES


CEILINGS = {
    "NVIDIA H100 80GB HBM3": Ceilings(
        3.02e12,
        33.1e12,
        "own measurement on one NVIDIA H100 80GB HBM3, 2026-11-22, SM clock 1980 MHz under load",
    ),
}
"""By the name of the GPU, as `nvidia-smi` gives it. No entry: no roof is drawn."""


def least_bytes(record: Record) -> int | None:
    """The bytes that a run's method must move at least (see above); None: not known for it.

    Known for runs on one device, all weights resident, of engines that fold or whose entry in the
    registry says what they read for an edge.
    """
    alone = record.launch.workers == 1 and record.stream is None
    if not alone or record.device_memory is not None:
        return None
    engine, alive = engine_entry(record.engine), record.alive_by_layer
    inputs = record.images * -(-record.neurons // 8)
    if engine.folds and record.shortcuts.twins_folded:
        return inputs
    if engine.bytes_per_edge is None or not alive:
        return None
    edges_per_layer = record.edges // (record.images * record.layers)
    weights = engine.bytes_per_edge * edges_per_layer * len(alive)
    values = VALUE_BYTES * record.neurons * (sum(alive) + sum(alive[:-1]))
    return inputs + weights + values


def intensity(record: Record) -> float | None:
    """Executed edges per byte that must move; None: the bytes are not known."""
    moved = least_bytes(record)
    return None if moved is None else record.executed_edges / moved


def ceilings(record: Record) -> Ceilings | None:
    """The ceilings of the device that a run was on; None: not known."""
    gpus = record.machine.gpus if record.device == "cuda" else ()
    return CEILINGS.get(gpus[0].name) if gpus else None
