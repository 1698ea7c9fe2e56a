"""Kernel sources to functions that run on a CPU, with g++ (cuda_on_cpu.h, emulator.cpp)."""

from __future__ import annotations

import ctypes
import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
COMPILER = "g++"
OPTIONS = ("-std=c++17", "-O1", "-fPIC", "-shared", "-w", "-U_FORTIFY_SOURCE")
KERNEL_OPTIONS = ("-march=native", "-fno-strict-aliasing", "-ffp-contract=off")


def _conversion(asm: re.Match[str]) -> str:
    name = asm[1].replace(".", "_")
    return f"{asm[2]} = cuda_on_cpu::ptx_{name}({asm[3]});"


REWRITES = (
    # What asks a cache for something changes no result.
    (r'asm volatile\("prefetch\.[^;]*;"[^;]*\);', ";"),
    (r'asm\("([\w.]+) %0, %1;" : "=\w"\((\w+)\) : "\w"\((\w+)\)\);', _conversion),
    (
        r'extern static __attribute__\(\(section\("shared_memory"\)\)\) (\w+) (\w+)\[\];',
        r"\1* \2 = (\1*)cuda_on_cpu::dynamic_shared_memory();",
    ),
)
"""What no macro can say: pattern and what it becomes, in the preprocessed source."""
PLAIN_KERNEL = re.compile(r'extern "C" __global__ void\s+(?:__launch_bounds__\(.*\)\s+)?(\w+)\(')


class CompileError(Exception):
    """The words of g++."""


class LaunchError(Exception):
    """What a kernel did wrong."""


class Triple(ctypes.Structure):
    """`uint3`."""

    _fields_ = [(name, ctypes.c_uint) for name in "xyz"]


class Launch(ctypes.Structure):
    """`Launch` of cuda_on_cpu.h."""

    _fields_ = [
        ("kernel", ctypes.c_char_p),
        ("grid", Triple),
        ("block", Triple),
        ("shared_bytes", ctypes.c_size_t),
        ("order", ctypes.c_int),
        ("seconds", ctypes.c_double),
    ]


def why_not() -> str | None:
    """Why kernels cannot run here; None: they can."""
    if sys.platform != "linux":
        return "kernels run on a CPU on Linux only"
    if shutil.which(COMPILER) is None:
        return f"to run kernels on a CPU takes {COMPILER}, which is not installed"
    return None


@dataclass(frozen=True)
class Function:
    """A compiled kernel.

    Attributes:
        name: as CUDA knows it: "layer<0>".
        parameters: a letter each, see `letter_of`.
    """

    name: str
    parameters: str
    _launch: Any

    def __call__(self, launch: Launch, arguments: Sequence[Any]) -> None:
        """Run it; `arguments`: ctypes values, as `parameters` say.

        Raises:
            LaunchError: the kernel did what no kernel may.
        """
        launch.kernel = self.name.encode()
        places = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        message = self._launch(ctypes.byref(launch), places)
        if message is not None:
            raise LaunchError(message.decode())


def letter_of(kind: str, size: int) -> str:
    """What cuda_on_cpu.h calls a parameter: f, d: floating; b, h, i, l: integers and addresses."""
    return ("____f___d" if kind == "f" else "_bh_i___l")[size]


class Compiler:
    """Compiles into a folder; what preprocesses to the same text is compiled once."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._emulator_file = folder, folder / "emulator.so"
        self._made: dict[tuple[Any, ...], dict[str, Function]] = {}

    @cached_property
    def emulator(self) -> ctypes.PyDLL:
        """The emulator, which the kernels are linked with."""
        _run([*OPTIONS, str(HERE / "emulator.cpp"), "-o", str(self._emulator_file)])
        # PyDLL: another Python thread would find the emulator in the middle of a launch.
        loaded = ctypes.PyDLL(str(self._emulator_file))
        loaded.cuda_on_cpu_allocate.restype = ctypes.c_void_p
        loaded.cuda_on_cpu_allocate.argtypes = [ctypes.c_size_t]
        loaded.cuda_on_cpu_release.argtypes = [ctypes.c_void_p]
        return loaded

    def compile(
        self, code: str, options: Sequence[str], instances: Sequence[str]
    ) -> dict[str, Function]:
        """The kernels of a source: the plain ones, and `instances` of its templates.

        Headers are taken not to change: a folder of others has another `-I` option.

        Raises:
            CompileError: g++ does not take the source.
        """
        key = (code, *options, None, *instances)
        if key not in self._made:
            self._made[key] = self._compile(code, options, instances)
        return self._made[key]

    def _compile(
        self, code: str, options: Sequence[str], instances: Sequence[str]
    ) -> dict[str, Function]:
        names = [*PLAIN_KERNEL.findall(code), *instances]
        exports = "\n".join(f"EXPORT_KERNEL({k}, {name})" for k, name in enumerate(names))
        # Without linkage, names of one kernel file meet no others.
        source = f'#include "cuda_on_cpu.h"\nnamespace {{\n#line 1\n{code}\n}}\n{exports}\n'
        text = _run(["-E", *options, f"-I{HERE}", "-x", "c++", "-"], source)
        for pattern, replacement in REWRITES:
            text = re.sub(pattern, replacement, text)
        library = self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.so"
        if not library.exists():
            words = [*OPTIONS, *KERNEL_OPTIONS, "-fpreprocessed", "-x", "c++", "-"]
            _run([*words, "-x", "none", str(self._emulator_file), "-o", str(library)], text)
        return self._load(library, names)

    def _load(self, library: Path, names: Sequence[str]) -> dict[str, Function]:
        loaded, functions = ctypes.PyDLL(str(library)), {}
        for k, name in enumerate(names):
            signature, launch = loaded[f"signature_{k}"], loaded[f"launch_{k}"]
            signature.restype = launch.restype = ctypes.c_char_p
            functions[name] = Function(name, signature().decode(), launch)
        return functions


def _run(words: Sequence[str], text: str | None = None) -> str:
    done = subprocess.run(
        [COMPILER, *words], input=text, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise CompileError(done.stderr)
    return done.stdout
