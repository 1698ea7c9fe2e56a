"""The CUDA kernels: where their sources are, and how they are compiled.

The sources are real files, `kernels/*.cu` and `kernels/*.cuh`. A wheel carries them inside the
package; in a checkout they lie beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from spdnn_cli.errors import DeviceError, EngineError

PACKAGE = Path(__file__).parents[2]


@cache
def kernels_folder() -> Path:
    """The folder of the kernel sources: in the package (a wheel), or beside it (a checkout).

    Raises:
        EngineError: there is none.
    """
    for folder in (PACKAGE / "kernels", PACKAGE.parent / "kernels"):
        if (folder / "common.cuh").is_file():
            return folder
    raise EngineError(
        f"the kernel sources are neither in {PACKAGE} nor beside it",
        hint="Install spdnn again: a complete wheel holds spdnn_cli/kernels.",
    )


@cache
def kernels_sha256() -> str:
    """A checksum of the names and contents of all sources."""
    digest = hashlib.sha256()
    for path in sorted(kernels_folder().glob("*.cu*")):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def compiler_options(macros: Mapping[str, int]) -> tuple[str, ...]:
    """The options for NVRTC or nvcc, `macros` as -D NAME=VALUE.

    The checksum of the whole folder is one of them, because CuPy's cache of compiled kernels looks
    at the options and the main file, but not at included headers.
    """
    defines = [f"-D{name}={value}" for name, value in macros.items()]
    checksum = f"-DKERNELS_SHA256=0x{kernels_sha256()[:16]}"
    return ("-std=c++17", f"-I{kernels_folder()}", *defines, checksum)


def compile_kernels(file: str, names: Sequence[str], macros: Mapping[str, int]) -> dict[str, Any]:
    """Compile a source file for the current device; CuPy keeps the result on the disk.

    Args:
        file: the source's name, say "tiled.cu".
        names: the kernels wanted; of a template, its instances: "layer<0>".
        macros: compile-time numbers.

    Returns:
        The loaded kernels (cupy.RawKernel) by name.

    Raises:
        DeviceError: the compiler refused the source for this device.
    """
    import cupy

    module = cupy.RawModule(
        code=(kernels_folder() / file).read_text(),
        options=compiler_options(macros),
        name_expressions=[name for name in names if "<" in name] or None,
    )
    try:
        module.compile()
        kernels = {name: module.get_function(name) for name in names}
        for kernel in kernels.values():
            kernel.num_regs  # noqa: B018 - loads it now: a stream's capture could not
    except cupy.cuda.compiler.CompileException as error:
        first = next((line for line in str(error).splitlines() if "error" in line), str(error))
        raise DeviceError(
            f"{file} does not compile for this device with {dict(macros)} ({first})",
            hint="Is the installed CUDA older than the device?",
        ) from error
    return kernels
