"""Sixteen float32 lanes as one value in Numba code: explicit SIMD.

A panel holds sixteen images, so that an index and a weight are read once for sixteen multiply-adds.
LLVM does not see that by itself through Numba's arrays, so these few operations hand it vector
instructions: two AVX2 registers, one of AVX-512, or four of NEON.

Arrays are addressed by the number of their first float: `load(array, k)` reads array[k .. k + 15].
Nothing checks the bounds.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 16

_INT32 = ir.IntType(32)
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_WORDS = ir.VectorType(ir.IntType(64), 8)
_BYTES = ir.VectorType(ir.IntType(8), 64)


class _LanesType(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Lanes")  # type: ignore[no-untyped-call]


lanes = _LanesType()


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _VECTOR)  # type: ignore[no-untyped-call]


def _splat(builder: Any, scalar: Any, vector: Any) -> Any:
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(_INT32, 0))
    zeros = ir.Constant(ir.VectorType(_INT32, vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, undefined, zeros)


def _address(
    context: Any, builder: Any, array_type: Any, array: Any, index: Any, vector: Any = _VECTOR
) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


@intrinsic
def splat(typing: Any, scalar: Any) -> Any:
    """All lanes equal to a float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _splat(builder, args[0], _VECTOR)

    return lanes(types.float32), generate


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """The sixteen floats of a contiguous float32 array from element `index` (uint64) on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        loaded = builder.load(_address(context, builder, signature.args[0], *args))
        loaded.align = 4
        return loaded

    return lanes(array, types.uint64), generate


@intrinsic
def store(typing: Any, array: Any, index: Any, values: Any) -> Any:
    """Write the lanes to a contiguous float32 array from element `index` (uint64) on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        stored = builder.store(args[2], _address(context, builder, signature.args[0], *args[:2]))
        stored.align = 4
        return context.get_dummy_value()

    return types.void(array, types.uint64, lanes), generate


@intrinsic
def add(typing: Any, x: Any, y: Any) -> Any:
    """x + y, lane by lane."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fadd(*args)

    return lanes(lanes, lanes), generate


@intrinsic
def multiply_add(typing: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z, lane by lane, rounded once where the machine can."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        product = builder.fmul(args[0], args[1], flags=("contract",))
        return builder.fadd(product, args[2], flags=("contract",))

    return lanes(lanes, lanes, lanes), generate


@intrinsic
def clip(typing: Any, x: Any, low: Any, high: Any) -> Any:
    """min(max(x, low), high), lane by lane; the lanes must not be NaN."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, low, high = args
        plain = ("nnan", "nsz")
        x = builder.select(builder.fcmp_ordered(">", x, low, flags=plain), x, low)
        return builder.select(builder.fcmp_ordered("<", x, high, flags=plain), x, high)

    return lanes(lanes, lanes, lanes), generate


@intrinsic
def where_nonzero(typing: Any, condition: Any, x: Any) -> Any:
    """x in the lanes where `condition` is not zero, else 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero = ir.Constant(_VECTOR, [0.0] * LANES)
        return builder.select(builder.fcmp_unordered("!=", args[0], zero), args[1], zero)

    return lanes(lanes, lanes), generate


@intrinsic
def greatest(typing: Any, x: Any, y: Any) -> Any:
    """max(x, y), lane by lane; the lanes must not be NaN."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *args, flags=("nnan", "nsz")), *args)

    return lanes(lanes, lanes), generate


@intrinsic
def least(typing: Any, x: Any, y: Any) -> Any:
    """min(x, y), lane by lane; the lanes must not be NaN."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", *args, flags=("nnan", "nsz")), *args)

    return lanes(lanes, lanes), generate


def _across(name: str) -> Any:
    """An intrinsic that takes the largest or the smallest of the lanes."""

    @intrinsic
    def reduce(typing: Any, x: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            function = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
                builder.module,
                ir.FunctionType(ir.FloatType(), [_VECTOR]),
                f"llvm.vector.reduce.{name}.v{LANES}f32",
            )
            return builder.call(function, args, fastmath=("nnan", "nsz"))

        return types.float32(lanes), generate

    return reduce


greatest_lane = _across("fmax")
least_lane = _across("fmin")


@intrinsic
def store_counts(
    typing: Any, array: Any, index: Any, p0: Any, p1: Any, p2: Any, p3: Any, p4: Any, p5: Any
) -> Any:
    """Sixty-four counts from six bit planes: count k = sum over p of (bit k of plane p) * 2^p.

    The planes are uint64, the least significant first. The counts go to a contiguous uint8 array
    from element `index` (uint64) on.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        # Word r collects bit r of every byte b of the planes: the counts 8 b + r, one a byte.
        rows = ir.Constant(_WORDS, list(range(8)))
        ones = ir.Constant(_WORDS, [0x0101010101010101] * 8)
        total = ir.Constant(_WORDS, [0] * 8)
        for power, plane in enumerate(args[2:]):
            bits = builder.and_(builder.lshr(_splat(builder, plane, _WORDS), rows), ones)
            total = builder.or_(total, builder.shl(bits, ir.Constant(_WORDS, [power] * 8)))
        in_order = [8 * r + b for b in range(8) for r in range(8)]
        mask = ir.Constant(ir.VectorType(_INT32, 64), in_order)
        flat = builder.bitcast(total, _BYTES)
        ordered = builder.shuffle_vector(flat, ir.Constant(_BYTES, ir.Undefined), mask)
        address = _address(context, builder, signature.args[0], args[0], args[1], _BYTES)
        builder.store(ordered, address).align = 1
        return context.get_dummy_value()

    return types.void(array, types.uint64, *[types.uint64] * 6), generate


@intrinsic
def load_counts(typing: Any, array: Any, index: Any) -> Any:
    """Sixteen bytes of a contiguous uint8 array from element `index` (uint64) on, as floats."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sixteen = ir.VectorType(ir.IntType(8), LANES)
        address = _address(context, builder, signature.args[0], args[0], args[1], sixteen)
        loaded = builder.load(address)
        loaded.align = 1
        return builder.uitofp(loaded, _VECTOR)

    return lanes(array, types.uint64), generate
