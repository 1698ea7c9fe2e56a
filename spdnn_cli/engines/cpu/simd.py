"""Vectors as values in Numba code: explicit SIMD.

`Lanes` are sixteen float32, one for each image of a panel: an index and a weight are read once for
sixteen multiply-adds. `Shorts` are thirty-two uint16, neighbouring values of one image. `Words` are
four uint64, 256 bits of one. LLVM does not see them by itself through Numba's arrays, so these few
operations hand it vector instructions: one or two AVX2 registers, one of AVX-512, or several of
NEON.

Arrays are addressed by the number of their first entry: `load(array, k)` reads array[k .. k + 15].
Nothing checks the bounds.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

LANES = 16
SHORTS = 32
WORDS = 4

_INT32 = ir.IntType(32)
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_SHORTS = ir.VectorType(ir.IntType(16), SHORTS)
_WORDS = ir.VectorType(ir.IntType(64), WORDS)
_EIGHT_WORDS = ir.VectorType(ir.IntType(64), 8)
_BYTES = ir.VectorType(ir.IntType(8), 64)


class _LanesType(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Lanes")


class _ShortsType(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Shorts")


class _WordsType(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Words")


lanes = _LanesType()
shorts = _ShortsType()
words = _WordsType()


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _VECTOR)  # type: ignore[no-untyped-call]


@register_model(_ShortsType)
class _ShortsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _SHORTS)  # type: ignore[no-untyped-call]


@register_model(_WordsType)
class _WordsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _WORDS)  # type: ignore[no-untyped-call]


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


@intrinsic
def store_counts(
    typing: Any, array: Any, index: Any, p0: Any, p1: Any, p2: Any, p3: Any, p4: Any, p5: Any
) -> Any:
    """Sixty-four counts from six bit planes: count k = sum over p of (bit k of plane p) * 2^p.

    The planes are uint64, the least significant first. The counts go to a contiguous uint8 array
    from element `index` (uint64) on.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        # Byte k takes the byte of the plane that holds bit k, and asks for that bit.
        holder = ir.Constant(ir.VectorType(_INT32, 64), [k // 8 for k in range(64)])
        bit = ir.Constant(_BYTES, [1 << k % 8 for k in range(64)])
        total = ir.Constant(_BYTES, [0] * 64)
        for plane in reversed(args[2:]):
            spread = builder.bitcast(_splat(builder, plane, _EIGHT_WORDS), _BYTES)
            spread = builder.shuffle_vector(spread, ir.Constant(_BYTES, ir.Undefined), holder)
            is_set = builder.icmp_unsigned("==", builder.and_(spread, bit), bit)
            # A comparison that holds is -1 in every byte.
            total = builder.sub(builder.add(total, total), builder.sext(is_set, _BYTES))
        address = _address(context, builder, signature.args[0], args[0], args[1], _BYTES)
        builder.store(total, address).align = 1
        return context.get_dummy_value()

    return types.void(array, types.uint64, *[types.uint64] * 6), generate


@intrinsic
def splat_words(typing: Any, scalar: Any) -> Any:
    """All words equal to a uint64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _splat(builder, args[0], _WORDS)

    return words(types.uint64), generate


@intrinsic
def load_words(typing: Any, array: Any, index: Any) -> Any:
    """The four entries of a contiguous uint64 array from `index` (uint64) on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(context, builder, signature.args[0], args[0], args[1], _WORDS)
        loaded = builder.load(address)
        loaded.align = 8
        return loaded

    return words(array, types.uint64), generate


@intrinsic
def store_words(typing: Any, array: Any, index: Any, values: Any) -> Any:
    """Write the words to a contiguous uint64 array from `index` (uint64) on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(context, builder, signature.args[0], args[0], args[1], _WORDS)
        builder.store(args[2], address).align = 8
        return context.get_dummy_value()

    return types.void(array, types.uint64, words), generate


def _bitwise(name: str) -> Any:
    """An operation of LLVM on two `Words`, bit by bit."""

    @intrinsic
    def operation(typing: Any, x: Any, y: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, name)(*args)

        return words(words, words), generate

    def call(x: Any, y: Any) -> Any:
        return operation(x, y)  # type: ignore[call-arg]  # the typing context is Numba's to pass

    def of_words(x: Any, y: Any) -> Any:
        return call if x is words and y is words else None

    return of_words


for _operator, _name in ((operator.xor, "xor"), (operator.and_, "and_"), (operator.or_, "or_")):
    overload(_operator, strict=False)(_bitwise(_name))  # strict: annotations would have to agree


@intrinsic
def splat_shorts(typing: Any, scalar: Any) -> Any:
    """All shorts equal to a uint16."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _splat(builder, args[0], _SHORTS)

    return shorts(types.uint16), generate


@intrinsic
def load_shorts(typing: Any, array: Any, index: Any) -> Any:
    """The 32 entries of a contiguous uint16 array from `index` (uint64) on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(context, builder, signature.args[0], args[0], args[1], _SHORTS)
        loaded = builder.load(address)
        loaded.align = 2
        return loaded

    return shorts(array, types.uint64), generate


@intrinsic
def store_shorts(typing: Any, array: Any, index: Any, values: Any) -> Any:
    """Write the shorts to a contiguous uint16 array from `index` (uint64) on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(context, builder, signature.args[0], args[0], args[1], _SHORTS)
        builder.store(args[2], address).align = 2
        return context.get_dummy_value()

    return types.void(array, types.uint64, shorts), generate


@intrinsic
def load_counts(typing: Any, array: Any, index: Any) -> Any:
    """The 32 bytes of a contiguous uint8 array from `index` (uint64) on, as shorts."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        half = ir.VectorType(ir.IntType(8), SHORTS)
        address = _address(context, builder, signature.args[0], args[0], args[1], half)
        loaded = builder.load(address)
        loaded.align = 1
        return builder.zext(loaded, _SHORTS)

    return shorts(array, types.uint64), generate


@intrinsic
def add_shorts(typing: Any, x: Any, y: Any) -> Any:
    """x + y, modulo 2^16."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.add(*args)

    return shorts(shorts, shorts), generate


@intrinsic
def multiply_shorts(typing: Any, x: Any, y: Any) -> Any:
    """x * y, modulo 2^16."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.mul(*args)

    return shorts(shorts, shorts), generate


@intrinsic
def or_shorts(typing: Any, x: Any, y: Any) -> Any:
    """The bitwise or."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.or_(*args)

    return shorts(shorts, shorts), generate


@intrinsic
def clip_shorts(typing: Any, x: Any, less: Any, high: Any) -> Any:
    """min(max(x - less, 0), high)."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pair = ir.FunctionType(_SHORTS, [_SHORTS, _SHORTS])
        name = f"llvm.usub.sat.v{SHORTS}i16"
        subtract = cgutils.get_or_insert_function(builder.module, pair, name)  # type: ignore[no-untyped-call]
        x = builder.call(subtract, args[:2])
        return builder.select(builder.icmp_unsigned("<", x, args[2]), x, args[2])

    return shorts(shorts, shorts, shorts), generate


@intrinsic
def any_short(typing: Any, x: Any) -> Any:
    """Whether one of the shorts is not zero."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        whole = builder.bitcast(args[0], ir.IntType(16 * SHORTS))
        return builder.icmp_unsigned("!=", whole, ir.Constant(ir.IntType(16 * SHORTS), 0))

    return types.boolean(shorts), generate
