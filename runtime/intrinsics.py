"""What numba lacks: counters that threads share, and bfloat16.

A counter is an element of an int64 array; an operation on it is whole or not yet. The order of all of them, and of what
threads write between, is one order that every thread sees (sequential consistency).
"""

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.extending import intrinsic as numba_intrinsic
from numba.np import arrayobj
from numpy.typing import NDArray

Counters = NDArray[Any]

intrinsic = cast(Callable[[Callable[..., object]], Callable[..., Any]], numba_intrinsic)

_ORDER = "seq_cst"
_BYTES = 8


def _place(context: object, builder: Any, signature: Any, arguments: list[Any]) -> Any:
    """Where the counter lies that the first two arguments, an array and an index, name."""
    array = cast(Any, arrayobj).make_array(signature.args[0])(context, builder, arguments[0])
    return builder.gep(array.data, [arguments[1]])


@intrinsic
def load(typing: object, counters: Any, index: Any) -> object:
    """`load(counters, index)`: the counter."""

    def generate(context: object, builder: Any, signature: Any, arguments: list[Any]) -> object:
        return builder.load_atomic(_place(context, builder, signature, arguments), _ORDER, _BYTES)

    return cast(object, types.int64(counters, types.int64)), generate


@intrinsic
def store(typing: object, counters: Any, index: Any, value: Any) -> object:
    """`store(counters, index, value)`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: list[Any]) -> object:
        builder.store_atomic(arguments[2], _place(context, builder, signature, arguments), _ORDER, _BYTES)
        return context.get_dummy_value()

    return cast(object, types.void(counters, types.int64, types.int64)), generate


@intrinsic
def add(typing: object, counters: Any, index: Any, value: Any) -> object:
    """`add(counters, index, value)`: what the counter was before."""

    def generate(context: object, builder: Any, signature: Any, arguments: list[Any]) -> object:
        place = _place(context, builder, signature, arguments)
        return builder.atomic_rmw("add", place, arguments[2], _ORDER)

    return cast(object, types.int64(counters, types.int64, types.int64)), generate


@intrinsic
def single(typing: object, number: Any) -> object:
    """A float32 as it is; the 16 bits of a bfloat16, a uint16, as the float32 that they begin."""

    def generate(context: object, builder: Any, signature: object, arguments: list[Any]) -> object:
        if number == types.float32:
            return arguments[0]
        word = ir.IntType(32)
        return builder.bitcast(builder.shl(builder.zext(arguments[0], word), word(16)), ir.FloatType())

    return cast(object, types.float32(number)), generate
