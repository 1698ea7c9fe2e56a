"""Where things are that tests read: the checkout, and official data where there is some."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def official(name: str = "") -> Path:
    """A file of the folder with official data; skips the test where it is not there.

    The folder holds MNIST's training images and categories files under their official names.
    `SPDNN_TEST_DATA` names it; without, one beside the checkout is taken.
    """
    beside = ROOT.parent / "shared" / "challenge"
    path = Path(os.environ.get("SPDNN_TEST_DATA", beside)) / name
    if not path.exists():
        pytest.skip(f"no official data: {path} is missing (SPDNN_TEST_DATA names a folder)")
    return path
