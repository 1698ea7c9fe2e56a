"""A stand-in for CuPy whose device is the CPU: no more of it than the engines and tests use.

It is as strict as CuPy where that finds mistakes: arrays of the device and of the host do not mix,
and a kernel takes what its parameters say, byte for byte. An array's memory begins as NaN; once the
array is gone, nobody may touch it, and a graph does not keep it. What it does not show: everything
put on a stream is done at once, so a missing event or synchronization goes unseen.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from cuda_on_cpu.compiler import CompileError, Compiler, Function, Launch, Triple, letter_of
from cuda_on_cpu.cusparse_on_cpu import make_cusparse

MEMORY_BYTES = 1 << 30
SHARED_BYTES = 48 << 10
"""What a block may ask for as it is; more only after it was said so."""
ATTRIBUTES = {"MultiProcessorCount": 2, "MaxSharedMemoryPerBlockOptin": 227 << 10}
"""Few multiprocessors, so that a block has several turns."""
BLOCKS_TOGETHER = 2
MOST_THREADS = 1024
MOST_GRID = (2**31 - 1, 65535, 65535)


class CUDARuntimeError(RuntimeError):
    """A call that CUDA would refuse."""

    status = 1


class OutOfMemoryError(MemoryError):
    """The device's memory is used up."""


def make_cupy(compiler: Compiler) -> ModuleType:
    """The module `cupy`; `settings` of it says how kernels run."""
    emulator, cupy = compiler.emulator, ModuleType("cupy")
    settings = SimpleNamespace(order=0, seconds=60.0)

    def allocate(size: int) -> Any:
        """Memory of the emulator as a ctypes array; given back when nobody refers to it."""
        if size > MEMORY_BYTES:
            raise OutOfMemoryError(f"{size} bytes")
        address = emulator.cuda_on_cpu_allocate(size)
        memory = (ctypes.c_char * size).from_address(address)
        weakref.finalize(memory, emulator.cuda_on_cpu_release, address).atexit = False
        return memory

    def empty(shape: Any, dtype: Any = np.float64) -> Array:
        plain = np.empty(0, dtype)
        size = plain.itemsize * int(np.prod(shape))
        return Array(np.ndarray(shape, dtype, buffer=allocate(size)))

    def asarray(values: Any) -> Array:
        return values if isinstance(values, Array) else _filled(np.asarray(values))

    def _filled(values: Any) -> Array:
        array = empty(values.shape, values.dtype)
        array.on_host[...] = values
        return array

    Array.copy_of = staticmethod(_filled)
    cupy.empty, cupy.asarray, cupy.settings = empty, asarray, settings
    cupy.zeros = lambda shape, dtype=np.float64: _filled(np.zeros(shape, dtype))
    cupy.arange = lambda *numbers, dtype=None: _filled(np.arange(*numbers, dtype=dtype))
    cupy.get_default_memory_pool = lambda: SimpleNamespace(free_all_blocks=lambda: None)
    cupy.RawModule = lambda **given: RawModule(compiler, settings, **given)
    cupy.cuda = _cuda(allocate)
    return cupy


def _cuda(allocate: Callable[[int], Any]) -> ModuleType:
    cuda = ModuleType("cupy.cuda")
    cuda.Stream, cuda.Event = Stream, Event
    cuda.Device = lambda: SimpleNamespace(attributes=ATTRIBUTES, synchronize=lambda: None)
    cuda.get_current_stream = lambda: Stream.current[-1]
    cuda.alloc_pinned_memory = cuda.PinnedMemory = allocate
    cuda.PinnedMemoryPointer = lambda memory, _offset: memory
    cuda.compiler = SimpleNamespace(CompileException=CompileError)
    cuda.memory = SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
    cuda.cusparse = make_cusparse()
    cuda.device = SimpleNamespace(get_cusparse_handle=lambda: None)
    cuda.driver = SimpleNamespace(
        occupancyMaxActiveBlocksPerMultiprocessor=lambda *_: BLOCKS_TOGETHER
    )
    cuda.runtime = SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        CUDA_R_32F="float32",
        getDevice=lambda: 0,
        getDeviceProperties=lambda _: {"name": b"CPU"},
        driverGetVersion=lambda: 13000,
        memGetInfo=lambda: (MEMORY_BYTES, MEMORY_BYTES),
        streamQuery=lambda _: 0,
    )
    return cuda


class Stream:
    """Does everything at once, or keeps it for a graph while it is captured."""

    current: ClassVar[list[Stream]] = []
    ptr = 0

    def __init__(self, non_blocking: bool = False) -> None:
        self._captured: list[Callable[[], None]] | None = None

    def __enter__(self) -> Stream:
        Stream.current.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        Stream.current.pop()

    def put(self, work: Callable[[], None]) -> None:
        """Do it, or let a later launch of the graph do it."""
        if self._captured is None:
            work()
        else:
            self._captured.append(work)

    def begin_capture(self) -> None:
        self._captured = []

    def end_capture(self) -> Graph:
        assert self._captured is not None
        graph, self._captured = Graph(self._captured), None
        return graph

    def synchronize(self) -> None:
        assert self._captured is None, "a stream that is captured cannot be waited for"

    def wait_event(self, event: Event) -> None:
        """Nothing: what the event waits for is done."""


Stream.current.append(Stream())


class Event:
    """Always there already."""

    def __init__(self, disable_timing: bool = False) -> None:
        pass

    def record(self, stream: Stream) -> None:
        pass


class Graph:
    """What was put on a stream, to be done again."""

    def __init__(self, work: Sequence[Callable[[], None]]) -> None:
        self._work = work

    def upload(self, stream: Stream) -> None:
        pass

    def launch(self, stream: Stream) -> None:
        for one in self._work:
            stream.put(one)


class Array:
    """An array of the device. NumPy's functions do not take it, as they do not take CuPy's."""

    __array_ufunc__ = None
    copy_of: Callable[[Any], Array]

    def __init__(self, on_host: Any) -> None:
        self.on_host = on_host

    def __array__(self, *_: object, **__: object) -> Any:
        raise TypeError("an array of the device becomes one of the host by .get() alone")

    def get(self, stream: Stream | None = None) -> Any:
        (stream or Stream.current[-1]).synchronize()
        return self.on_host.copy()

    @property
    def data(self) -> Pointer:
        return Pointer(self.on_host)

    shape = property(lambda self: self.on_host.shape)
    dtype = property(lambda self: self.on_host.dtype)
    size = property(lambda self: self.on_host.size)
    nbytes = property(lambda self: self.on_host.nbytes)
    T = property(lambda self: Array(self.on_host.T))

    def fill(self, value: Any) -> None:
        self.on_host.fill(value)

    def reshape(self, *shape: int) -> Array:
        return Array(self.on_host.reshape(*shape))

    def ravel(self) -> Array:
        return Array(self.on_host.ravel())

    def __len__(self) -> int:
        return len(self.on_host)

    def __int__(self) -> int:
        return int(self.on_host)

    def __iter__(self) -> Iterator[Array]:
        return map(Array, self.on_host)

    def __getitem__(self, key: Any) -> Array:
        found = self.on_host[_places(key)]
        is_view = np.may_share_memory(found, self.on_host)
        return Array(found) if is_view else Array.copy_of(np.asarray(found))

    def __setitem__(self, key: Any, value: Any) -> None:
        self.on_host[_places(key)] = _values(value)

    def __floordiv__(self, other: Any) -> Array:
        return Array.copy_of(self.on_host // _values(other))

    def __mod__(self, other: Any) -> Array:
        return Array.copy_of(self.on_host % _values(other))


def _values(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        raise TypeError("an array of the host does not mix with one of the device")
    return value.on_host if isinstance(value, Array) else value


def _places(key: Any) -> Any:
    return tuple(map(_values, key)) if isinstance(key, tuple) else _values(key)


class Pointer:
    """`cupy.cuda.MemoryPointer`."""

    def __init__(self, on_host: Any) -> None:
        self.ptr, self._bytes = on_host.ctypes.data, on_host.nbytes

    def memset_async(self, value: int, size: int, stream: Stream) -> None:
        self._check(size)
        stream.put(lambda: ctypes.memset(self.ptr, value, size))

    def copy_from_host_async(self, source: int, size: int, stream: Stream) -> None:
        self._check(size)
        stream.put(lambda: ctypes.memmove(self.ptr, source, size))

    def _check(self, size: int) -> None:
        assert size <= self._bytes, f"{size} bytes do not fit in an array of {self._bytes}"


class RawModule:
    """A kernel file, compiled by g++."""

    def __init__(
        self,
        compiler: Compiler,
        settings: Any,
        code: str,
        options: Sequence[str] = (),
        name_expressions: Sequence[str] | None = None,
    ) -> None:
        self._compiler, self._settings = compiler, settings
        self._source = (code, options, name_expressions or ())

    def compile(self) -> None:
        self._functions = self._compiler.compile(*self._source)

    def get_function(self, name: str) -> Kernel:
        return Kernel(self._functions[name], self._settings)


class Kernel:
    """`cupy.RawKernel`."""

    num_regs = 32

    def __init__(self, function: Function, settings: Any) -> None:
        self._function, self._settings = function, settings
        self.max_dynamic_shared_size_bytes = SHARED_BYTES
        self.kernel = SimpleNamespace(ptr=0)

    def __call__(
        self,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[Any],
        *,
        shared_mem: int = 0,
    ) -> None:
        grid, block = (*grid, 1, 1)[:3], (*block, 1, 1)[:3]
        if not all(0 < size <= most for size, most in zip(grid, MOST_GRID, strict=True)):
            raise CUDARuntimeError(f"no grid has the size {grid}")
        if not 0 < math.prod(block) <= MOST_THREADS:
            raise CUDARuntimeError(f"no block has the size {block}")
        if shared_mem > max(self.max_dynamic_shared_size_bytes, SHARED_BYTES):
            raise CUDARuntimeError(f"{shared_mem} bytes of shared memory were not allowed before")
        given = self._arguments(arguments)
        launch = Launch(grid=Triple(*grid), block=Triple(*block), shared_bytes=shared_mem)

        def work() -> None:
            launch.order, launch.seconds = self._settings.order, self._settings.seconds
            self._function(launch, given)

        Stream.current[-1].put(work)

    def _arguments(self, arguments: Sequence[Any]) -> list[Any]:
        """What the kernel's parameters take.

        Raises:
            TypeError: number, kind or size of the arguments is not that of the parameters.
        """
        given = [_argument(argument) for argument in arguments]
        letters = "".join(letter for letter, _ in given)
        if letters != self._function.parameters:
            raise TypeError(
                f"{self._function.name} takes {self._function.parameters}, given are {letters}"
            )
        return [value for _, value in given]


def _argument(argument: Any) -> tuple[str, Any]:
    """Its letter and its value."""
    if isinstance(argument, Array):
        argument = np.uintp(argument.data.ptr)
    if not isinstance(argument, np.generic):
        raise TypeError(f"a kernel does not take {type(argument)}")
    value = (ctypes.c_char * argument.nbytes).from_buffer_copy(argument.tobytes())
    return letter_of(argument.dtype.kind, argument.nbytes), value
