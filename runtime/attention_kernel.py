"""The loops of `runtime.attention_torch`, for numba, with what has to be said to LLVM in its own terms.

Those are products of small matrices, in the processor's widest vectors: of a loop LLVM keeps no tile in registers, and
makes no use of the instruction that multiplies pairs of bfloat16 and adds both to a float32. What is compiled
stands in one file, because numba keeps the code for as long as the file of the kernel stays the same.
"""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.registry import cpu_target
from numpy.typing import NDArray

from runtime.fast_compile import compiled
from runtime.intrinsics import called, intrinsic

# numba's own objects have no types that a checker could follow.
Array = NDArray[Any]
Object = Any
_inlined = cast(
    Callable[..., Callable[[Callable[..., Any]], Callable[..., Any]]],
    partial(njit, error_model="numpy", forceinline=True),
)
exact, reassociated = _inlined(fastmath={"contract"}), _inlined(fastmath={"contract", "nsz", "reassoc"})
"""What is compiled into others, with its sums in the order that is written, or in any.

Not inlined, it would be called in a version of its own by the process that compiles, and in another one by those that
find the code on disk: the order of sums would not be the same.
"""

QUERIES, KEYS = 64, 256
"""Of a block, whose scores and sums stay in a core's own cache with the keys and values that they are of."""

ROWS, COLUMNS = 8, 32
"""Of a tile: 16 vectors of sums hide how long an instruction takes, and leave registers for what is multiplied."""

_LOWEST = np.float32(-1e30)
"""Less than a score is, and finite: the first keys of a block may be none that a query sees."""

_LOG2_E = np.float32(np.log2(np.e))

_LANES = 16
_WORD, _FLOAT = ir.IntType(32), ir.FloatType()
_FLOATS = ir.VectorType(_FLOAT, _LANES)


class _BFloat(ir.Type):
    """LLVM's bfloat, which llvmlite has no name for."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


def multiplies_bfloat16() -> bool:
    """Whether the processor that numba compiles for has the instruction for pairs of bfloat16.

    That is this one, unless numba was told otherwise (`NUMBA_CPU_NAME`, `NUMBA_ENABLE_AVX`).
    """
    _, _, features = cast(Object, cpu_target.target_context).codegen().magic_tuple()
    return "+avx512bf16" in features.split(",")


def _at(builder: Object, address: Object, offset: Object, kind: ir.Type) -> Object:
    """A pointer to what is so many 32-bit elements after an address."""
    return builder.inttoptr(builder.add(address, builder.shl(offset, offset.type(2))), kind.as_pointer())


@intrinsic
def _multiply_add(
    typing: Object, c: Object, c_step: Object, a: Object, a_step: Object, b: Object, count: Object, like: Object
) -> Object:
    """C += A B of C [ROWS, COLUMNS] float32, A [ROWS, count > 0] and B [count, COLUMNS].

    Args:
        c: the address of C, as `a` and `b` are of the others.
        c_step: 32-bit elements from one row of C to the next; `a_step` of A. Those of B follow each other.
        like: an element of A and B: float32; or uint32, two bfloat16, whose products are both added.
    """
    pairs = like == types.uint32

    def fused(builder: Object, total: Object, x: Object, y: Object) -> Object:
        """total + x y."""
        if not pairs:
            # Where no instruction does both, a product and a sum: "llvm.fma" would call a function for each number.
            return called(builder, "llvm.fmuladd.v16f32", _FLOATS, [x, y, total])
        x, y = (builder.bitcast(vector, ir.VectorType(_BFloat(), 2 * _LANES)) for vector in (x, y))
        return called(builder, "llvm.x86.avx512bf16.dpbf16ps.512", _FLOATS, [total, x, y])

    def code(context: Object, builder: Object, signature: Object, args: Object) -> Object:
        c, c_step, a, a_step, b, count, _ = args
        index, element = count.type, _WORD if pairs else _FLOAT
        vector = ir.VectorType(element, _LANES)
        parts = list(product(range(ROWS), range(0, COLUMNS, _LANES)))
        places = [
            _at(builder, c, builder.add(builder.mul(c_step, index(row)), index(column)), _FLOATS)
            for row, column in parts
        ]
        before = [builder.load(place, align=4) for place in places]
        entry, loop, after = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("after")
        builder.branch(loop)
        builder.position_at_end(loop)
        step, sums = builder.phi(index), [builder.phi(_FLOATS) for _ in parts]
        start = builder.mul(step, index(COLUMNS))
        row_of_b = {
            column: builder.load(_at(builder, b, builder.add(start, index(column)), vector), align=4)
            for column in range(0, COLUMNS, _LANES)
        }
        spread: list[Object] = []
        for row in range(ROWS):
            one = builder.load(_at(builder, a, builder.add(builder.mul(a_step, index(row)), step), element))
            lane = builder.insert_element(ir.Constant(vector, None), one, index(0))
            zeros = ir.Constant(ir.VectorType(_WORD, _LANES), [0] * _LANES)
            spread.append(builder.shuffle_vector(lane, lane, zeros))
        added = [
            fused(builder, total, spread[row], row_of_b[column])
            for total, (row, column) in zip(sums, parts, strict=True)
        ]
        following = builder.add(step, index(1))
        for phi, first, later in zip([step, *sums], [index(0), *before], [following, *added], strict=True):
            phi.add_incoming(first, entry)
            phi.add_incoming(later, loop)
        builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
        builder.position_at_end(after)
        for place, total in zip(places, added, strict=True):
            builder.store(total, place, align=4)
        return context.get_dummy_value()

    return types.none(*[types.intp] * 6, like), code


@intrinsic
def _largest(typing: Object, address: Object) -> Object:
    """The largest of KEYS float32; LLVM makes no vectors of a loop for this."""

    def code(context: Object, builder: Object, signature: Object, args: Object) -> Object:
        vector = ir.VectorType(_FLOAT, KEYS)
        numbers = builder.load(builder.inttoptr(args[0], vector.as_pointer()), align=4)
        return called(builder, f"llvm.vector.reduce.fmax.v{KEYS}f32", _FLOAT, [numbers], ("nnan",))

    return types.float32(types.intp), code


@intrinsic
def _narrowed(typing: Object, number: Object, like: Object) -> Object:
    """A float32 as it is; where `like` is a uint16, the bits of the bfloat16 nearest to it."""

    def code(context: Object, builder: Object, signature: Object, args: Object) -> Object:
        if like == types.float32:
            return args[0]
        return builder.bitcast(builder.fptrunc(args[0], _BFloat()), ir.IntType(16))

    return like(types.float32, like), code


@intrinsic
def _times_power(typing: Object, number: Object, exponent: Object) -> Object:
    """number 2^n of float32, where `exponent` is 1.5 * 2^23 + n: the low bits of that are those of n."""

    def code(context: Object, builder: Object, signature: Object, args: Object) -> Object:
        bits = builder.add(builder.bitcast(args[1], _WORD), _WORD(127))
        return builder.fmul(args[0], builder.bitcast(builder.shl(bits, _WORD(23)), _FLOAT))

    return types.float32(types.float32, types.float32), code


@exact
def _exp2(x: Any) -> Any:
    """2^x of a float32 x <= 0, to 2^-22 of it; 0 below 2^-126."""
    shifted = x + np.float32(1.5 * 2**23)
    f = x - (shifted - np.float32(1.5 * 2**23))
    power = np.float32(1.5403530e-4)  # from here 2^f, of |f| <= 1/2
    power = power * f + np.float32(1.3333558e-3)
    power = power * f + np.float32(9.6181291e-3)
    power = power * f + np.float32(5.5504109e-2)
    power = power * f + np.float32(2.4022651e-1)
    power = power * f + np.float32(6.9314718e-1)
    power = power * f + np.float32(1)
    return np.float32(0) if x < np.float32(-126) else _times_power(power, shifted)


def _attend(
    q: Array, keys: Array, values: Array, out: Array, scale: np.float32, window: int, start: int, stop: int
) -> None:
    """Attention of one head: of the queries from `start` to `stop`.

    Args:
        q: [S, D] float32, or uint16, the bits of bfloat16; the kind of all that is multiplied.
        keys: of `pack_keys`.
        values: of `pack_values`.
        out: [S, N] float32, of which the rows of these queries are written.
        window: the number of last keys that a query sees.
    """
    for block in range(start, stop, QUERIES):
        _attend_block(q, keys, values, out, scale, window, block)


@reassociated
def _attend_block(q: Array, keys: Array, values: Array, out: Array, scale: np.float32, window: int, start: int) -> None:
    """What `_attend` does, of up to QUERIES queries, a block of KEYS keys after another.

    After each block `sums` and `totals` are those of exp(score - top), where `top` is the largest score so far.
    """
    tokens, width = q.shape
    inner, outer = keys.shape[1], len(values) * COLUMNS
    rows = min(QUERIES, tokens - start)
    high = (rows + ROWS - 1) // ROWS * ROWS
    group = 4 // q.itemsize
    like, number = keys[0, 0, 0], q[0, 0]
    a = np.zeros((QUERIES, inner * group), q.dtype)
    a[:rows, :width] = q[start : start + rows]
    scores = np.empty((QUERIES, KEYS), np.float32)
    shares = np.zeros((QUERIES, KEYS), q.dtype)
    sums, totals = np.zeros((QUERIES, outer), np.float32), np.zeros(QUERIES, np.float32)
    tops = np.full(QUERIES, _LOWEST, np.float32)
    for first in range(max(start - window + 1, 0) // KEYS * KEYS, start + rows, KEYS):
        count = min(KEYS, (start + rows - first + COLUMNS - 1) // COLUMNS * COLUMNS)
        scores[:] = np.float32(0)
        for j in range(0, count, COLUMNS):
            panel = keys[(first + j) // COLUMNS].ctypes.data
            for i in range(0, high, ROWS):
                _multiply_add(scores[i:, j:].ctypes.data, KEYS, a[i:].ctypes.data, inner, panel, inner, like)
        for i in range(rows):
            row, share, last = scores[i], shares[i], start + i - first
            for j in range(count):
                row[j] *= scale * _LOG2_E
            row[max(last + 1, 0) :] = -np.inf
            row[: max(last + 1 - window, 0)] = -np.inf
            top = max(tops[i], _largest(row.ctypes.data))
            total = np.float32(0)
            for j in range(count):
                x = _exp2(row[j] - top)
                total += x
                share[j] = _narrowed(x, number)
            less = _exp2(tops[i] - top)
            tops[i], totals[i] = top, totals[i] * less + total
            for j in range(outer):
                sums[i, j] *= less
        for j in range(0, outer, COLUMNS):
            panel = values[j // COLUMNS, first // group :].ctypes.data
            for i in range(0, high, ROWS):
                given = shares[i:].ctypes.data, KEYS // group, panel, count // group
                _multiply_add(sums[i:, j:].ctypes.data, outer, *given, like)
    for i in range(rows):
        for j in range(out.shape[1]):
            out[start + i, j] = sums[i, j] / totals[i]


def _pack_keys(k: Array, panels: Array) -> None:
    """k^T [D, S] of k [S, D] float32 in panels [S/COLUMNS, D, COLUMNS], zeros before.

    Of the 16 bits of bfloat16 in panels [S/COLUMNS, D/2, COLUMNS], of pairs of rows of k^T.
    """
    tokens, width = k.shape
    group = 4 // k.itemsize
    for j in range(tokens):
        panel, place, row = panels[j // COLUMNS], j % COLUMNS, k[j]
        for i in range(width // group):
            if group == 1:
                panel[i, place] = row[i]
            else:
                panel[i, place] = np.uint32(row[2 * i]) | np.uint32(row[2 * i + 1]) << np.uint32(16)
        if width % group:
            panel[width // 2, place] = row[width - 1]


def _pack_values(v: Array, panels: Array) -> None:
    """v [S, N] as `_pack_keys` has k^T: in panels [N/COLUMNS, S, COLUMNS], or [N/COLUMNS, S/2, COLUMNS]."""
    tokens, width = v.shape
    group = 4 // v.itemsize
    for start in range(0, width, COLUMNS):
        count, panel = min(COLUMNS, width - start), panels[start // COLUMNS]
        for i in range(tokens // group):
            low, high = v[group * i, start:], v[group * i + group - 1, start:]
            for j in range(count):
                if group == 1:
                    panel[i, j] = low[j]
                else:
                    panel[i, j] = np.uint32(low[j]) | np.uint32(high[j]) << np.uint32(16)
        if tokens % group:
            for j in range(count):
                panel[tokens // 2, j] = v[tokens - 1, start + j]


attend = compiled(_attend, reassociate=True)
pack_keys, pack_values = compiled(_pack_keys), compiled(_pack_values)
