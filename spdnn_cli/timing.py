"""Where the time goes: named stages that never overlap, and samples with their median."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator, Sequence

STAGES = ("convert", "read", "prepare", "compile", "upload", "infer", "gather")
"""convert: from raw files, or from none, to a dataset, where a run makes it. read: disk to host.
prepare: fold, tile. compile: Numba or NVRTC. upload: host to device. infer: the challenge's number,
features on the device to categories on the host. gather: the categories of all processes."""


class Stopwatch:
    """Seconds by stage. A stage entered inside another stops the outer one's clock.

    So "infer" never holds the reading or preparing of a layer, whenever that happens to be needed.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._open: list[str | None] = []
        self._since = 0.0

    @contextlib.contextmanager
    def stage(self, name: str | None) -> Iterator[None]:
        """Time a block of code as part of stage `name`, one of `STAGES`; None: as part of none."""
        self._turn()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def take(self, name: str) -> float:
        """The seconds of a stage so far, which starts again from zero."""
        seconds, self.seconds[name] = self.seconds[name], 0.0
        return seconds

    def _turn(self) -> None:
        """Book the time since the last turn on the innermost open stage."""
        now = time.perf_counter()
        stage = self._open[-1] if self._open else None
        if stage is not None:
            self.seconds[stage] += now - self._since
        self._since = now


def spread(samples: Sequence[float]) -> float:
    """How far the samples lie apart: (largest - smallest) / median."""
    return (max(samples) - min(samples)) / statistics.median(samples)
