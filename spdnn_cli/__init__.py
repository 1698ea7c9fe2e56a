"""spdnn: sparse deep-network inference, as the Sparse DNN Graph Challenge measures it.

A run with its answer and its times; the dataset is made where it is not there yet:

    from pathlib import Path
    import spdnn_cli as spdnn

    workspace = spdnn.Workspace(Path("datasets"), Path("results"))
    measured = spdnn.infer(workspace, spdnn.RunOptions(neurons=1024, layers=120))
    print(measured.record.seconds, "s,", measured.record.status.value)
    print(measured.categories)
    result = spdnn.save(workspace, measured)

The names below are public. Others may change between versions.
"""

from __future__ import annotations

import importlib
import time
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
IMPORTED = time.monotonic()
"""When this process began to be spdnn, by `time.monotonic`."""

if TYPE_CHECKING:
    from spdnn_cli.commands import Callbacks, infer, save
    from spdnn_cli.engines.registry import ENGINES
    from spdnn_cli.errors import SpdnnError
    from spdnn_cli.network.dataset import Dataset, open_dataset, write_dataset
    from spdnn_cli.network.fold import fold
    from spdnn_cli.network.layers import Features, Layer, Network
    from spdnn_cli.results.record import Record, Status
    from spdnn_cli.results.store import Result, Store
    from spdnn_cli.run.measure import Measured
    from spdnn_cli.run.options import RunOptions
    from spdnn_cli.workspace import Workspace

_PLACES = {
    "Workspace": "workspace",
    "RunOptions": "run.options",
    "infer": "commands",
    "Measured": "run.measure",
    "Callbacks": "commands",
    "save": "commands",
    "open_dataset": "network.dataset",
    "write_dataset": "network.dataset",
    "Dataset": "network.dataset",
    "Features": "network.layers",
    "Layer": "network.layers",
    "Network": "network.layers",
    "fold": "network.fold",
    "Store": "results.store",
    "Result": "results.store",
    "Record": "results.record",
    "Status": "results.record",
    "ENGINES": "engines.registry",
    "SpdnnError": "errors",
}

__all__ = [  # noqa: RUF022 (in the order of work, for docs/api.md)
    "Workspace",
    "RunOptions",
    "infer",
    "Measured",
    "Callbacks",
    "save",
    "open_dataset",
    "write_dataset",
    "Dataset",
    "Features",
    "Layer",
    "Network",
    "fold",
    "Store",
    "Result",
    "Record",
    "Status",
    "ENGINES",
    "SpdnnError",
]


def __getattr__(name: str) -> Any:
    """A public name, imported when it is asked for: `spdnn report` needs no Numba."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
