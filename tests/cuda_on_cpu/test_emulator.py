"""The emulator: tiny kernels with results by hand, and kernels that do what none may."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cuda_on_cpu import cupy_on_cpu
from cuda_on_cpu.compiler import CompileError, LaunchError


@pytest.fixture(scope="module")
def cupy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with cupy_on_cpu(tmp_path_factory.mktemp("kernels")) as module:
        yield module


def kernel_of(cupy: Any, body: str, parameters: str = "int* out", before: str = "") -> Any:
    """A kernel `k` with this body."""
    code = f'{before}\nextern "C" __global__ void k({parameters}) {{\n{body}\n}}\n'
    module = cupy.RawModule(code=code)
    module.compile()
    return module.get_function("k")


def outcome(cupy: Any, body: str, threads: int = 32, blocks: int = 1, shared_mem: int = 0) -> Any:
    """What a kernel writes to `out`, which has a place for each thread."""
    out = cupy.zeros(threads * blocks, np.int32)
    kernel_of(cupy, body)((blocks,), (threads,), (out,), shared_mem=shared_mem)
    return out.get()


LANES = np.arange(32)
WARP_OPERATIONS = [
    ("__shfl_sync(~0u, t, 5)", np.full(32, 5)),
    ("__shfl_sync(~0u, t, t + 1, 8)", LANES // 8 * 8 + (LANES + 1) % 8),
    ("__shfl_up_sync(~0u, t, 3)", np.where(LANES < 3, LANES, LANES - 3)),
    ("__shfl_up_sync(~0u, t, 3, 16)", np.where(LANES % 16 < 3, LANES, LANES - 3)),
    ("__shfl_down_sync(~0u, t, 3)", np.where(LANES > 28, LANES, LANES + 3)),
    ("__shfl_down_sync(~0u, t, 1, 4)", np.where(LANES % 4 == 3, LANES, LANES + 1)),
    ("__shfl_xor_sync(~0u, t, 6)", LANES ^ 6),
    ("(int)__ballot_sync(~0u, t % 8 == 1)", np.full(32, 0x02020202)),
    ("__any_sync(~0u, t == 7)", np.ones(32)),
    ("__any_sync(~0u, t == 32)", np.zeros(32)),
    ("__all_sync(~0u, t < 32)", np.ones(32)),
    ("__all_sync(~0u, t != 9)", np.zeros(32)),
    ("(int)__reduce_or_sync(~0u, t == 3 ? 8 : 1)", np.full(32, 9)),
    ("(int)__reduce_and_sync(~0u, t == 3 ? 6 : 12)", np.full(32, 4)),
    ("(int)__reduce_xor_sync(~0u, t)", np.zeros(32)),
    ("(int)__reduce_add_sync(~0u, t)", np.full(32, 496)),
    ("(int)__reduce_min_sync(~0u, t + 2)", np.full(32, 2)),
    ("(int)__reduce_max_sync(~0u, t)", np.full(32, 31)),
]
"""Of lane t, and what each lane gets."""


def test_warp_operations(cupy: Any) -> None:
    lines = [f"out[{k} * 32 + t] = {text};" for k, (text, _) in enumerate(WARP_OPERATIONS)]
    out = cupy.zeros((len(lines), 32), np.int32)
    kernel_of(cupy, "\n".join(["const int t = threadIdx.x;", *lines]))((1,), (32,), (out,))
    for (text, wanted), got in zip(WARP_OPERATIONS, out.get(), strict=True):
        np.testing.assert_array_equal(got, wanted, err_msg=text)


def test_shuffles_and_barriers_together(cupy: Any) -> None:
    """The sum over 96 threads in three warps, by shuffles and shared memory; two blocks."""
    body = """
    __shared__ int of_warp[3];
    int sum = threadIdx.x + blockIdx.x;
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(~0u, sum, distance);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = sum;
    __syncthreads();
    out[blockIdx.x * blockDim.x + threadIdx.x] = of_warp[0] + of_warp[1] + of_warp[2];
    """
    wanted = np.repeat([96 * 95 // 2, 96 * 95 // 2 + 96], 96)
    np.testing.assert_array_equal(outcome(cupy, body, 96, blocks=2), wanted)


def test_halves_of_a_warp_on_ways_of_their_own(cupy: Any) -> None:
    body = """
    const int t = threadIdx.x;
    int sum = t;
    if (t < 16)
      for (int d = 8; d > 0; d /= 2) sum += __shfl_xor_sync(0x0000ffffu, sum, d);
    else
      sum = __shfl_sync(0xffff0000u, sum, 20);
    __syncwarp();
    out[t] = sum;
    """
    np.testing.assert_array_equal(outcome(cupy, body), np.where(LANES < 16, 120, 20))


ARITHMETIC = [
    ("__popc(0xf0f00001u)", 9),
    ("__ffs(0x50)", 5),
    ("__ffs(0)", 0),
    ("__clz(0x00010000)", 15),
    ("__clz(0)", 32),
    ("(int)__brev(0x00000003u) == (int)0xc0000000u", 1),
    ("(int)__funnelshift_r(0x89abcdefu, 0x01234567u, 8)", 0x6789ABCD),
    ("(int)__funnelshift_r(0x01234567u, 0x89abcdefu, 32)", 0x01234567),
    ("(int)__byte_perm(0x33221100u, 0x77665544u, 0x7042)", 0x77004422),
    # 2 + 3 below 9; -4 + 1 below 0
    ("(int)__viaddmin_s16x2_relu(0x0002fffcu, 0x00030001u, 0x00090009u)", 0x00050000),
    # 7 + 8 above 9; 32767 + 1 wraps around
    ("(int)__viaddmin_s16x2_relu(0x00077fffu, 0x00080001u, 0x00090009u)", 0x00090000),
    ("(int)max(min(5, 3u), 2)", 3),
    ("(int)(__uint_as_float(0x40490fdbu) * 1000)", 3141),
]


def test_arithmetic(cupy: Any) -> None:
    body = "\n".join(f"out[{k}] = {text};" for k, (text, _) in enumerate(ARITHMETIC))
    out = cupy.zeros(len(ARITHMETIC), np.int32)
    kernel_of(cupy, body)((1,), (1,), (out,))
    for (text, wanted), got in zip(ARITHMETIC, out.get(), strict=True):
        assert got == wanted, text


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "if (threadIdx.x < 16) __syncthreads();\nelse __syncthreads();",
            r"k: block \(0, 0, 0\): no thread can go on: 16 from thread 0 on are at __syncthreads "
            r"in line 3, 16 from thread 16 on are at __syncthreads in line 4",
        ),
        (
            "if (threadIdx.x == 5) return;\n__syncthreads();",
            "31 from thread 0 on are at __syncthreads in line 4, 1 from thread 5 on are at the end",
        ),
        (
            "if (threadIdx.x < 8) __syncthreads();\nelse __syncwarp();",
            "8 from thread 0 on are at __syncthreads in line 3, 24 .* are at __syncwarp in line 4",
        ),
        (
            "__syncwarp(2u);",
            r"thread \(0, 0, 0\): __syncwarp in line 3: its mask leaves out the la",
        ),
        (
            "__syncwarp(threadIdx.x < 9 ? 0x1ffu : ~0u);",
            "no thread can go on|lanes name different masks",
        ),
        (
            "if (threadIdx.x < 4) out[0] = __shfl_sync(0xfu, 1, 9);",
            r"thread \(3, 0, 0\): a shuffle in line 3 reads lane 9, which takes no part",
        ),
        ("out[32] = 1;", r"thread \(0, 0, 0\): it read or wrote memory outside of every array"),
        ("if (threadIdx.x == 7) out[threadIdx.x] = out[40];", r"thread \(7, 0, 0\): it read or wr"),
        ("out[-1] = 1;", "it wrote before an array of 128 bytes"),
        ("((char*)out)[-(int)threadIdx.x] = 1;", "it wrote before an array of 128 bytes"),
        ("out[0] = __ldg((const int2*)(out + 1)).x;", "line 3 loads 8 bytes from an address that"),
        ("extern __shared__ int shared[];\nshared[16] = 1;", "memory outside of every array"),
        (
            "volatile int* flag = out;\nif (threadIdx.x == 0)\n  while (*flag == 0);",
            r"thread \(0, 0, 0\): its block does not come to an end; does it wait for another",
        ),
        (
            "__shared__ char large[49153];\nlarge[threadIdx.x] = 0;\nout[0] = large[0];",
            r"k: its file's __shared__ variables take 49153 bytes, a block has 49152 for them",
        ),
        ("k(out + 1);\nout[0] = 1;", "it read or wrote memory outside of every array"),
    ],
)
def test_mistakes_are_told(
    cupy: Any, monkeypatch: pytest.MonkeyPatch, body: str, message: str
) -> None:
    monkeypatch.setattr(cupy.settings, "seconds", 0.1)
    with pytest.raises(LaunchError, match=message):
        outcome(cupy, body, shared_mem=64)
    assert outcome(cupy, "out[threadIdx.x] = 3;").tolist() == [3] * 32  # the next one is not hurt


def test_a_write_one_element_past_an_array(cupy: Any) -> None:
    """Behind whole 16 bytes lies a page that nobody may touch; behind other arrays a pattern."""
    kernel = kernel_of(cupy, "out[threadIdx.x] = 1;")
    for size in (1, 2, 3, 4):
        out = cupy.zeros(size, np.int32)
        kernel((1,), (size,), (out,))
        with pytest.raises(LaunchError, match=r"wrote behind an array of|outside of every array"):
            kernel((1,), (size + 1,), (out,))


def test_what_was_never_written_is_not_a_number(cupy: Any) -> None:
    body = """
    __shared__ float fixed[1];
    extern __shared__ float asked[];
    out[0] = isnan(fixed[0]) && isnan(asked[3]) && isnan(empty[0]);
    fixed[0] = asked[3] = 1.0f;  // the next block sees nothing of it
    """
    kernel, out = kernel_of(cupy, body, "const float* empty, int* out"), cupy.zeros(1, np.int32)
    kernel((3,), (1,), (cupy.empty(1, np.float32), out), shared_mem=16)
    assert out.get()[0] == 1


def test_an_array_that_is_gone(cupy: Any) -> None:
    kernel, out, stream = (
        kernel_of(cupy, "out[0] = 1;"),
        cupy.zeros(1, np.int32),
        cupy.cuda.Stream(),
    )
    with stream:
        stream.begin_capture()
        kernel((1,), (1,), (out[:],))
        graph = stream.end_capture()
    assert out.get()[0] == 0
    graph.launch(stream)
    assert out.get()[0] == 1
    del out
    with pytest.raises(LaunchError, match="memory outside of every array"):
        graph.launch(stream)


def test_blocks_and_threads_in_other_orders(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "out[blockIdx.x * 4 + threadIdx.x] = atomicAdd(out + 40, 1);"
    kernel, orders = kernel_of(cupy, body), []
    for order in (0, 1, 7):
        monkeypatch.setattr(cupy.settings, "order", order)
        out = cupy.zeros(41, np.int32)
        kernel((10,), (4,), (out,))
        orders.append(out.get()[:40].tolist())
    assert orders[0] == list(range(40))
    assert orders[1] == list(range(40))[::-1]
    assert sorted(orders[2]) == list(range(40))
    assert orders[2] not in orders[:2]


def test_warps_share_a_queue(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    body = """
    for (int ticket = 0; ticket < 50;) {
      if (threadIdx.x % 32 == 0) ticket = atomicAdd(&out[4], 1);
      ticket = __shfl_sync(~0u, ticket, 0);
      if (threadIdx.x % 32 == 0) ++out[threadIdx.x / 32];
    }
    """
    kernel, tickets = kernel_of(cupy, body), []
    for order in (0, 7):
        monkeypatch.setattr(cupy.settings, "order", order)
        out = cupy.zeros(5, np.int32)
        kernel((1,), (128,), (out,))
        tickets.append(out.get()[:4])
    assert tickets[0].tolist() == [51, 1, 1, 1]
    assert np.all(tickets[1] > 10)


def test_grids_and_blocks_of_three_dimensions(cupy: Any) -> None:
    body = """
    const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    out[block * 24 + thread] = __shfl_xor_sync(0xffffffu, thread, 1);
    """
    out = cupy.zeros(24 * 30, np.int32)
    kernel_of(cupy, body)((2, 3, 5), (4, 3, 2), (out,))
    assert out.get().tolist() == [thread ^ 1 for thread in range(24)] * 30


# --- what CuPy or CUDA would refuse --------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [(), (np.int32(1),), (np.float64(1), np.int32(1)), (np.float32(1), np.int64(1))],
    ids=str,
)
def test_arguments_that_are_not_the_parameters(cupy: Any, arguments: tuple[Any, ...]) -> None:
    kernel = kernel_of(cupy, "", "float a, int b")
    kernel((1,), (1,), (np.float32(1), np.int32(1)))
    with pytest.raises(TypeError, match="k takes fi, given are"):
        kernel((1,), (1,), arguments)


def test_values_that_only_python_knows(cupy: Any) -> None:
    for value in (1, 1.0, np.zeros(3)):
        with pytest.raises(TypeError, match="a kernel does not take"):
            kernel_of(cupy, "", "long a")((1,), (1,), (value,))


@pytest.mark.parametrize(
    ("grid", "block", "shared"),
    [((0,), (1,), 0), ((1, 65536), (1,), 0), ((1,), (1025,), 0), ((1,), (1,), 49153)],
)
def test_launches_that_cannot_be(cupy: Any, grid: Any, block: Any, shared: int) -> None:
    kernel = kernel_of(cupy, "")
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError):
        kernel(grid, block, (cupy.zeros(1),), shared_mem=shared)
    kernel.max_dynamic_shared_size_bytes = 49153
    kernel((1,), (1,), (cupy.zeros(1),), shared_mem=49153)


def test_what_no_macro_knows_does_not_compile(cupy: Any) -> None:
    with pytest.raises(CompileError, match="__dp4a"):
        kernel_of(cupy, "out[0] = __dp4a(1, 2, 3);")
    with pytest.raises(CompileError, match=r"mov.u32"):
        kernel_of(cupy, 'asm volatile("mov.u32 %0, %%laneid;" : "=r"(out[0]));')


def test_host_and_device_do_not_mix(cupy: Any) -> None:
    array = cupy.zeros(3, np.int32)
    for mix in (np.asarray, np.sum, lambda a: np.ones(3) + a, lambda a: a[np.arange(2)]):
        with pytest.raises(TypeError):
            mix(array)
    with pytest.raises(TypeError):
        array[:] = np.ones(3)


def test_nothing_of_it_stays(tmp_path: Path) -> None:
    before = {name: module for name, module in sys.modules.items() if name.startswith("cupy")}
    folder = os.environ.get("CUPY_CACHE_DIR")
    with cupy_on_cpu(tmp_path) as cupy:
        assert sys.modules["cupy"] is cupy
    after = {name: module for name, module in sys.modules.items() if name.startswith("cupy")}
    assert after == before
    assert os.environ.get("CUPY_CACHE_DIR") == folder


def test_two_emulators_know_nothing_of_each_other(cupy: Any, tmp_path: Path) -> None:
    with cupy_on_cpu(tmp_path) as other:
        for of in (cupy, other):
            with pytest.raises(LaunchError, match="it wrote before an array of 128 bytes"):
                outcome(of, "out[-1] = 1;")
