"""Settings and fixtures that the tests share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.places import ROOT, official
from hypothesis import settings

# The first example compiles kernels, so no example has a deadline.
settings.register_profile("spdnn", max_examples=40, deadline=None)
settings.load_profile("spdnn")

# Folders that the caller's shell names are the caller's: no test writes there.
for name in ("SPDNN_DATA_DIR", "SPDNN_RESULTS_DIR"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session")
def challenge() -> Path:
    """The folder with MNIST and the official categories."""
    return official()


@pytest.fixture
def with_gpus(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Makes an environment in which NVML and CuPy are stand-ins; CUDA finds no GPU.

    The environment of `with_gpus(2)` has two GPUs, GPU-0 and GPU-1. `driver` is the stand-in's
    JSON, as tests/stand_ins/pynvml.py reads it, in place of that; `cupy` is the source of a module,
    None: CuPy is not installed.
    """
    stand_ins = ROOT / "tests" / "stand_ins"

    def environment(
        present: int = 0, driver: dict[str, Any] | None = None, cupy: str | None = ""
    ) -> dict[str, str]:
        gpus = [{"name": "NVIDIA Card", "uuid": f"GPU-{k}"} for k in range(present)]
        told = driver or ({"gpus": gpus} if present else {"failure": "LibraryNotFound"})
        paths = [str(stand_ins)]
        if cupy is not None:
            folder = tmp_path / "stand-in"
            folder.mkdir()
            (folder / "cupy.py").write_text(cupy)
            paths.append(str(folder))
        paths += [str(ROOT), os.environ.get("PYTHONPATH", "")]
        kept = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
        return kept | {"PYTHONPATH": os.pathsep.join(paths), "STAND_IN_NVML": json.dumps(told)}

    return environment
