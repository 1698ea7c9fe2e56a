"""CUDA kernels on a CPU, for tests: a header and an emulator in C++, and a small stand-in for CuPy.

`cupy_on_cpu` puts the stand-in where engines import `cupy`; they know nothing of it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cuda_on_cpu.compiler import Compiler, why_not
from cuda_on_cpu.cupy_on_cpu import make_cupy


@contextmanager
def cupy_on_cpu(folder: Path) -> Iterator[Any]:
    """The stand-in for `cupy`, as long as this lasts; compiled kernels go to `folder`.

    Skips the test where kernels cannot run, with the reason.
    """
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    cupy = make_cupy(Compiler(folder))
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in sys.modules if name.startswith("cupy.")]:
            patch.delitem(sys.modules, name)
        patch.setitem(sys.modules, "cupy", cupy)
        patch.setitem(sys.modules, "cupy.cuda", cupy.cuda)
        patch.setenv("CUPY_CACHE_DIR", str(folder))  # the tile shapes tried out
        yield cupy
