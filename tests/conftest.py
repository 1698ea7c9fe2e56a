"""Settings and fixtures that the tests share."""

from __future__ import annotations

import os
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
