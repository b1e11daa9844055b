"""Operations on counters that threads share, for numba, which has none of its own for a CPU: each is whole or not yet.

A counter is an element of an int64 array. The order of all of them, and of what threads write between, is one order
that every thread sees (sequential consistency).
"""

from collections.abc import Callable
from typing import Any, cast

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
