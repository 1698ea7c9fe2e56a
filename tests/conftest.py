"""Settings and fixtures that the tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# The first example compiles kernels, so no example has a deadline.
settings.register_profile("spdnn", max_examples=40, deadline=None)
settings.load_profile("spdnn")

# Folders that the caller's shell names are the caller's: no test writes there.
for name in ("SPDNN_DATA_DIR", "SPDNN_RESULTS_DIR"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session")
def challenge() -> Path:
    """The folder with MNIST and the official categories, beside the repository."""
    folder = Path(__file__).parents[2] / "shared" / "challenge"
    if not folder.is_dir():
        pytest.skip(f"no official data: {folder} is missing")
    return folder


@pytest.fixture
def with_gpus(tmp_path: Path) -> Callable[[int], dict[str, str]]:
    """Makes an environment in which `nvidia-smi` lists so many GPUs; CUDA finds none of them."""
    if os.name == "nt":
        pytest.skip("the stand-in for nvidia-smi is a shell script")
    program = tmp_path / "stand-in" / "nvidia-smi"

    def environment(present: int) -> dict[str, str]:
        program.parent.mkdir()
        listed = "".join(f"echo NVIDIA Card, GPU-{k}, 570.1\n" for k in range(present))
        program.write_text(f"#!/bin/sh\n{listed}exit {0 if present else 9}\n")
        program.chmod(0o755)
        path = os.pathsep.join([str(program.parent), os.environ["PATH"]])
        kept = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
        return kept | {"PATH": path}

    return environment
