"""What numba lacks: counters that threads share, bfloat16, and loops over several rows in vectors.

numba keeps compiled code for as long as the file of the kernel stays the same: after a change here, `make clean`.

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

ROWS = 8
"""Of a matrix, that are taken at a time: so often is a vector from a cache used."""

LANES = 16
"""Columns that are taken at a time."""

_FLOATS, _WORDS = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.IntType(32), LANES)

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


def called(builder: Any, name: str, result: ir.Type, operands: list[Any], flags: tuple[str, ...] = ()) -> Any:
    """The call of a function of LLVM's own."""
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(result, [x.type for x in operands]), name)
    return builder.call(function, operands, fastmath=flags)


def _rows(dots: bool, adds: bool) -> Callable[..., Any]:
    """A function of `p, y, x, q, b, z, stride, steps, like` that computes y += P x, z += Qᵀ b, or both in one go.

    P and Q have ROWS rows of steps * LANES columns, steps > 0, side by side. In one go, Q is computed with while P is
    on its way from memory. Sums over columns are in no certain order.

    Args of what it gives:
        p: the address of P, as the next five are of the others; Q may be P. All but P and Q are float32, side by side.
            z is apart from all others, b from y.
        stride: bytes from one row of P to the next, and of Q.
        like: an element of P and Q: float32; or uint16, the bits of a bfloat16.
    """

    def typed(
        typing: object, p: Any, y: Any, x: Any, q: Any, b: Any, z: Any, stride: Any, steps: Any, like: Any
    ) -> object:
        if like not in (types.float32, types.uint16):
            return None
        return cast(object, types.void(*[types.intp] * 8, like)), generate

    def generate(context: Any, builder: Any, signature: Any, arguments: list[Any]) -> Any:
        p, y, x, q, b, z, stride, steps, _ = arguments
        index, single, narrow = stride.type, ir.FloatType(), signature.args[-1] == types.uint16

        def fused(a: Any, b: Any, total: Any) -> Any:
            """total + a b, in one instruction where there is one."""
            return called(builder, f"llvm.fmuladd.v{LANES}f32", _FLOATS, [a, b, total])

        def at(address: Any, element: Any, size: int, kind: Any) -> Any:
            place = builder.add(address, builder.mul(element, index(size)))
            return builder.inttoptr(place, kind.as_pointer())

        def row(address: Any, number: int, first: Any) -> Any:
            """LANES elements, as float32, of a row."""
            place = builder.add(address, builder.mul(stride, index(number)))
            if not narrow:
                return builder.load(at(place, first, 4, _FLOATS), align=4)
            half = builder.load(at(place, first, 2, ir.VectorType(ir.IntType(16), LANES)), align=2)
            shift = ir.Constant(_WORDS, [16] * LANES)
            return builder.bitcast(builder.shl(builder.zext(half, _WORDS), shift), _FLOATS)

        def spread(number: int) -> Any:
            one = builder.load(at(b, index(number), 4, single), align=4)
            lane = builder.insert_element(ir.Constant(_FLOATS, None), one, ir.IntType(32)(0))
            return builder.shuffle_vector(lane, lane, ir.Constant(_WORDS, [0] * LANES))

        shares = [spread(number) for number in range(ROWS)] if adds else []
        entry, loop, after = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("after")
        builder.branch(loop)
        builder.position_at_end(loop)
        step, sums = builder.phi(index), [builder.phi(_FLOATS) for _ in range(ROWS if dots else 0)]
        first = builder.mul(step, index(LANES))
        added: list[Any] = []
        if dots:
            across = builder.load(at(x, first, 4, _FLOATS), align=4)
            added = [fused(row(p, number, first), across, total) for number, total in enumerate(sums)]
        if adds:
            down = at(z, first, 4, _FLOATS)
            total = builder.load(down, align=4)
            for number, share in enumerate(shares):
                total = fused(row(q, number, first), share, total)
            builder.store(total, down, align=4)
        following = builder.add(step, index(1))
        zero = ir.Constant(_FLOATS, [0.0] * LANES)
        starts = [index(0), *[zero] * len(sums)]
        for phi, start, later in zip([step, *sums], starts, [following, *added], strict=True):
            phi.add_incoming(start, entry)
            phi.add_incoming(later, loop)
        builder.cbranch(builder.icmp_signed("<", following, steps), loop, after)
        builder.position_at_end(after)
        for number, total in enumerate(added):
            place = at(y, index(number), 4, single)
            name = f"llvm.vector.reduce.fadd.v{LANES}f32"
            whole = called(builder, name, single, [builder.load(place, align=4), total], ("reassoc",))
            builder.store(whole, place, align=4)
        return context.get_dummy_value()

    return intrinsic(typed)


multiply_rows, add_rows, multiply_and_add_rows = _rows(True, False), _rows(False, True), _rows(True, True)
