"""Compiled access to planar buffers, [16-bit word][cluster]: binary16 and binary32 elements, trees of products.

These are the only places that speak LLVM: numba has no binary16. A binary32 element takes two rows, low half first.
"""

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.extending import intrinsic as numba_intrinsic

_I64, _I32, _I16 = ir.IntType(64), ir.IntType(32), ir.IntType(16)
_HALF, _FLOAT = ir.HalfType(), ir.FloatType()
_NAN = 0x7E00

# Below, `words` is a uint16 array [W, N]; numba's own objects have no types that a checker could follow.
Object = Any
intrinsic = cast(Callable[[Callable[..., Object]], Callable[..., Any]], numba_intrinsic)
literal_intrinsic = cast(Callable[[Callable[..., Object]], Callable[..., Any]], numba_intrinsic(prefer_literal=True))


def _pointer(context: Object, builder: Object, kind: Object, words: Object, row: Object, cluster: Object) -> Object:
    array = context.make_array(kind)(context, builder, words)
    offset = builder.add(builder.mul(row, builder.extract_value(array.shape, 1)), cluster)
    return builder.gep(array.data, [offset], inbounds=True)


def _half(context: Object, builder: Object, kind: Object, words: Object, row: Object, cluster: Object) -> Object:
    bits = builder.load(_pointer(context, builder, kind, words, row, cluster))
    return builder.fpext(builder.bitcast(bits, _HALF), _FLOAT)


def _single(context: Object, builder: Object, kind: Object, words: Object, row: Object, cluster: Object) -> Object:
    low = builder.load(_pointer(context, builder, kind, words, row, cluster))
    high = builder.load(_pointer(context, builder, kind, words, builder.add(row, _I64(1)), cluster))
    bits = builder.or_(builder.zext(low, _I32), builder.shl(builder.zext(high, _I32), _I32(16)))
    return builder.bitcast(bits, _FLOAT)


@intrinsic
def load_half(typing: Object, words: Object, row: Object, cluster: Object) -> Object:
    """The binary16 element at words[row, cluster], widened to binary32."""

    def code(context: Object, builder: Object, signature: Object, args: Object) -> Object:
        return _half(context, builder, signature.args[0], *args)

    return types.float32(words, types.int64, types.int64), code


@intrinsic
def load_single(typing: Object, words: Object, row: Object, cluster: Object) -> Object:
    """The binary32 element at words[row : row + 2, cluster]."""

    def code(context: Object, builder: Object, signature: Object, args: Object) -> Object:
        return _single(context, builder, signature.args[0], *args)

    return types.float32(words, types.int64, types.int64), code


@intrinsic
def store_half(typing: Object, words: Object, row: Object, cluster: Object, value: Object) -> Object:
    """words[row, cluster] = binary16(value), to nearest even; a NaN becomes 0x7E00."""

    def code(context: Object, builder: Object, signature: Object, args: Object) -> Object:
        words, row, cluster, value = args
        bits = builder.bitcast(builder.fptrunc(value, _HALF), _I16)
        bits = builder.select(builder.fcmp_unordered("uno", value, value), _I16(_NAN), bits)
        builder.store(bits, _pointer(context, builder, signature.args[0], words, row, cluster))
        return context.get_dummy_value()

    return types.void(words, types.int64, types.int64, types.float32), code


@intrinsic
def store_single(typing: Object, words: Object, row: Object, cluster: Object, value: Object) -> Object:
    """words[row : row + 2, cluster] = value."""

    def code(context: Object, builder: Object, signature: Object, args: Object) -> Object:
        words, row, cluster, value = args
        bits, kind = builder.bitcast(value, _I32), signature.args[0]
        builder.store(builder.trunc(bits, _I16), _pointer(context, builder, kind, words, row, cluster))
        high = builder.trunc(builder.lshr(bits, _I32(16)), _I16)
        builder.store(high, _pointer(context, builder, kind, words, builder.add(row, _I64(1)), cluster))
        return context.get_dummy_value()

    return types.void(words, types.int64, types.int64, types.float32), code


@literal_intrinsic
def tree_of_halves(
    typing: Object, words: Object, a: Object, step: Object, x: Object, cluster: Object, count: Object
) -> Object:
    """tree(half[a + i * step] * half[x + i] for i < count), where `count` is a constant power of two."""
    leaves = getattr(count, "literal_value", None)
    if leaves is None:
        return None

    def code(context: Object, builder: Object, signature: Object, args: Object) -> Object:
        words, a, step, x, cluster, _ = args

        def half(row: Object) -> Object:
            return _half(context, builder, signature.args[0], words, row, cluster)

        terms = [
            builder.fmul(half(builder.add(a, builder.mul(step, _I64(i)))), half(builder.add(x, _I64(i))))
            for i in range(leaves)
        ]
        while len(terms) > 1:
            terms = [builder.fadd(terms[i], terms[i + 1]) for i in range(0, len(terms), 2)]
        return terms[0]

    return types.float32(words, types.int64, types.int64, types.int64, types.int64, count), code
