"""The engines that there are: on which device each runs, and where its class is."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spdnn_cli.errors import EngineError

if TYPE_CHECKING:
    from spdnn_cli.engines.protocol import Engine, EngineOptions


@dataclass(frozen=True)
class EngineEntry:
    """Which device an engine runs on, and where its class is."""

    device: str
    module: str
    class_name: str


ENGINES = {
    "reference": EngineEntry("cpu", "reference", "ReferenceEngine"),
    "cpu-layered": EngineEntry("cpu", "cpu.layered", "CpuLayeredEngine"),
    "cpu": EngineEntry("cpu", "cpu.folded", "CpuEngine"),
    "baseline": EngineEntry("cuda", "cuda.baseline", "BaselineEngine"),
    "cusparse": EngineEntry("cuda", "cuda.cusparse", "CusparseEngine"),
    "tiled": EngineEntry("cuda", "cuda.tiled", "TiledEngine"),
    "folded": EngineEntry("cuda", "cuda.folded", "FoldedEngine"),
}


def create(name: str, options: EngineOptions) -> Engine:
    """The engine of that name.

    Raises:
        EngineError: there is no such engine.
    """
    if name not in ENGINES:
        raise EngineError(f"there is no engine {name!r}", hint=f"Engines: {', '.join(ENGINES)}.")
    entry = ENGINES[name]
    module = importlib.import_module(f"spdnn_cli.engines.{entry.module}")
    engine: Engine = getattr(module, entry.class_name)(options)
    return engine
