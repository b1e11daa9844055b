"""Compiled kernels of the fast engine, and the few intrinsics that speak LLVM for them: numba has no binary16.

`words` is uint16 [buffer word, cluster], each cluster's buffer a column of it; addresses count 16-bit words, and a
binary32 element takes two rows, its low half first. Clusters lie row by row of the grid, so that `cols` neighbours are
a cluster row. Every sum is in the order of `runtime.reference`, and so gives the same bits.

What is compiled into one another stands in one file, because numba keeps compiled code for as long as the file of the
kernel stays the same.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic as numba_intrinsic
from numpy.typing import NDArray

from runtime.fast_compile import compiled

Words = NDArray[np.uint16]
Single = NDArray[np.float32]

BLOCK = 16
"""Leaves of the trees that `dots` and `norm2` unroll; levels above are loops."""
_LANES = 16
_LINE = 32  # words of a cache line
_AHEAD = 4  # tiles from the one that is read to the one that is fetched: measured
_NAN_HALF, _NAN_SINGLE = 0x7E00, 0x7FC00000
_I64, _I32, _I16 = ir.IntType(64), ir.IntType(32), ir.IntType(16)
_HALF, _FLOAT = ir.HalfType(), ir.FloatType()

# numba's own objects have no types that a checker could follow.
Object = Any
intrinsic = cast(Callable[[Callable[..., Object]], Callable[..., Any]], numba_intrinsic)
literal_intrinsic = cast(Callable[[Callable[..., Object]], Callable[..., Any]], numba_intrinsic(prefer_literal=True))
for_range = cast(Callable[..., Any], cgutils.for_range)


def _pointer(context: Object, builder: Object, kind: Object, words: Object, row: Object, cluster: Object) -> Object:
    array = context.make_array(kind)(context, builder, words)
    offset = builder.add(builder.mul(row, builder.extract_value(array.shape, 1)), cluster)
    return builder.gep(array.data, [offset], inbounds=True)


def _element(context: Object, builder: Object, kind: Object, array: Object, offset: Object) -> Object:
    """A pointer to an element of a one-dimensional contiguous array."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [offset], inbounds=True)


@intrinsic
def load_half(typing: Object, words: Object, row: Object, cluster: Object) -> Object:
    """The binary16 element at words[row, cluster], widened to binary32."""

    def code(context: Object, builder: Object, signature: Object, args: Object) -> Object:
        bits = builder.load(_pointer(context, builder, signature.args[0], *args))
        return builder.fpext(builder.bitcast(bits, _HALF), _FLOAT)

    return types.float32(words, types.int64, types.int64), code


@intrinsic
def load_single(typing: Object, words: Object, row: Object, cluster: Object) -> Object:
    """The binary32 element at words[row : row + 2, cluster]."""

    def code(context: Object, builder: Object, signature: Object, args: Object) -> Object:
        words, row, cluster = args
        low = builder.load(_pointer(context, builder, signature.args[0], words, row, cluster))
        high = builder.load(_pointer(context, builder, signature.args[0], words, builder.add(row, _I64(1)), cluster))
        bits = builder.or_(builder.zext(low, _I32), builder.shl(builder.zext(high, _I32), _I32(16)))
        return builder.bitcast(bits, _FLOAT)

    return types.float32(words, types.int64, types.int64), code


@intrinsic
def store_half(typing: Object, words: Object, row: Object, cluster: Object, value: Object) -> Object:
    """words[row, cluster] = binary16(value), to nearest even; a NaN becomes 0x7E00."""

    def code(context: Object, builder: Object, signature: Object, args: Object) -> Object:
        words, row, cluster, value = args
        bits = builder.bitcast(builder.fptrunc(value, _HALF), _I16)
        bits = builder.select(builder.fcmp_unordered("uno", value, value), _I16(_NAN_HALF), bits)
        builder.store(bits, _pointer(context, builder, signature.args[0], words, row, cluster))
        return context.get_dummy_value()

    return types.void(words, types.int64, types.int64, types.float32), code


@intrinsic
def store_single(typing: Object, words: Object, row: Object, cluster: Object, value: Object) -> Object:
    """words[row : row + 2, cluster] = value; a NaN becomes 0x7FC00000."""

    def code(context: Object, builder: Object, signature: Object, args: Object) -> Object:
        words, row, cluster, value = args
        bits, kind = builder.bitcast(value, _I32), signature.args[0]
        bits = builder.select(builder.fcmp_unordered("uno", value, value), _I32(_NAN_SINGLE), bits)
        builder.store(builder.trunc(bits, _I16), _pointer(context, builder, kind, words, row, cluster))
        high = builder.trunc(builder.lshr(bits, _I32(16)), _I16)
        builder.store(high, _pointer(context, builder, kind, words, builder.add(row, _I64(1)), cluster))
        return context.get_dummy_value()

    return types.void(words, types.int64, types.int64, types.float32), code


@literal_intrinsic
def add_trees(
    typing: Object,
    a: Object,
    a_start: Object,
    a_step: Object,
    a_next: Object,
    x: Object,
    x_start: Object,
    total: Object,
    total_start: Object,
    cols: Object,
    count: Object,
    number: Object,
) -> Object:
    """total[m * cols + c] += tree(a[m * a_next + i * a_step + c] * x[i * cols + c] for i < count).

    For m < number and c < cols, and each array from its start on. `a` is uint16 that holds binary16, or float32; x and
    total are float32; all are one-dimensional. `count` and `number` are constants, count a power of two. Lanes of
    neighbouring c go through the vector unit together.
    """
    leaves, trees = (getattr(literal, "literal_value", None) for literal in (count, number))
    if leaves is None or trees is None:
        return None

    def code(context: Object, builder: Object, signature: Object, args: Object) -> Object:
        a, a_start, a_step, a_next, x, x_start, total, total_start, cols, _, _ = args
        a_kind, x_kind, total_kind = (signature.args[index] for index in (0, 4, 6))

        def at(start: Object, step: Object, times: int, c: Object) -> Object:
            return builder.add(builder.add(start, builder.mul(step, _I64(times))), c)

        def load(kind: Object, array: Object, offset: Object, lanes: int) -> Object:
            wide = kind.dtype == types.float32
            pointer = _element(context, builder, kind, array, offset)
            stored = ir.VectorType(_FLOAT if wide else _I16, lanes)
            value = builder.load(builder.bitcast(pointer, stored.as_pointer()))
            value.align = 4 if wide else 2
            if wide:
                return value
            return builder.fpext(builder.bitcast(value, ir.VectorType(_HALF, lanes)), ir.VectorType(_FLOAT, lanes))

        def step(c: Object, lanes: int) -> None:
            vector = [load(x_kind, x, at(x_start, cols, i, c), lanes) for i in range(leaves)]
            for m in range(trees):
                first, place = at(a_start, a_next, m, c), at(total_start, cols, m, c)

                def tree(begin: int, size: int, first: Object = first) -> Object:
                    if size > 1:
                        return builder.fadd(tree(begin, size // 2), tree(begin + size // 2, size // 2))
                    left = load(a_kind, a, builder.add(first, builder.mul(a_step, _I64(begin))), lanes)
                    return builder.fmul(left, vector[begin])

                value = builder.fadd(load(total_kind, total, place, lanes), tree(0, leaves))
                pointer = _element(context, builder, total_kind, total, place)
                builder.store(value, builder.bitcast(pointer, ir.VectorType(_FLOAT, lanes).as_pointer())).align = 4

        wide = builder.udiv(cols, _I64(_LANES))
        with for_range(builder, wide) as loop:
            step(builder.mul(loop.index, _I64(_LANES)), _LANES)
        with for_range(builder, cols, start=builder.mul(wide, _I64(_LANES))) as loop:
            step(loop.index, 1)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(a, i64, i64, i64, x, i64, total, i64, i64, count, number), code


@intrinsic
def copy_spread(
    typing: Object, source: Object, start: Object, step: Object, target: Object, place: Object, count: Object
) -> Object:
    """target[place + i] = source[start + i * step] for i < count; both are one-dimensional and uint16."""

    def code(context: Object, builder: Object, signature: Object, args: Object) -> Object:
        source, start, step, target, place, count = args
        with for_range(builder, count) as loop:
            taken = builder.add(start, builder.mul(step, loop.index))
            value = builder.load(_element(context, builder, signature.args[0], source, taken))
            builder.store(value, _element(context, builder, signature.args[3], target, builder.add(place, loop.index)))
        return context.get_dummy_value()

    return types.void(source, types.int64, types.int64, target, types.int64, types.int64), code


@intrinsic
def prefetch(typing: Object, words: Object, start: Object, count: Object) -> Object:
    """Ask for `count` words of a one-dimensional array, from `start` on, which may lie beyond it."""

    def code(context: Object, builder: Object, signature: Object, args: Object) -> Object:
        words, start, count = args
        first = builder.gep(context.make_array(signature.args[0])(context, builder, words).data, [start])
        numbers = [_I32(0), _I32(3), _I32(1)]  # to read, soon and often, data
        kind = ir.FunctionType(ir.VoidType(), [first.type, *(number.type for number in numbers)])
        function = builder.module.declare_intrinsic("llvm.prefetch", [first.type], kind)
        with for_range(builder, builder.udiv(count, _I64(_LINE))) as loop:
            builder.call(function, [builder.gep(first, [builder.mul(loop.index, _I64(_LINE))]), *numbers])
        return context.get_dummy_value()

    return types.void(words, types.int64, types.int64), code


@intrinsic
def in_pieces(typing: Object, value: Object, drop: Object) -> Object:
    """A binary32 number with its lowest `drop` bits rounded away, to nearest even; a NaN stays one."""

    def code(context: Object, builder: Object, signature: Object, args: Object) -> Object:
        value, drop = args[0], builder.trunc(args[1], _I32)
        bits, none = builder.bitcast(value, _I32), builder.icmp_unsigned("==", drop, _I32(0))
        less = builder.select(none, _I32(0), builder.sub(drop, _I32(1)))
        even = builder.and_(builder.lshr(bits, drop), _I32(1))
        up = builder.add(builder.sub(builder.shl(_I32(1), less), _I32(1)), even)
        rounded = builder.shl(builder.lshr(builder.add(bits, up), drop), drop)
        same = builder.or_(none, builder.fcmp_unordered("uno", value, value))
        return builder.bitcast(builder.select(same, bits, rounded), _FLOAT)

    return types.float32(types.float32, types.int64), code


@compiled
def aligned(count: int) -> Single:
    """So many float32 with anything in them, at the beginning of a cache line, which vectors then do not straddle."""
    room = np.empty(count + _LANES, np.float32)
    start = -(room.ctypes.data // 4) % _LANES
    return room[start : start + count]


@cache
def matvec_row(mac_cols: int) -> Callable[..., None]:
    """y = A x for tiles of mac_cols columns; kernel(...) as its arguments below say.

    Args of the kernel:
        a: one-dimensional uint16; word w of cluster (r, c) of the tiles is a[a_start + r * a_row + w * a_word + c].
        y, x: their first words in `words`.
    """

    @compiled
    def kernel(
        words: Words,
        y: int,
        x: int,
        a: Words,
        a_start: int,
        a_row: int,
        a_word: int,
        cols: int,
        mac_rows: int,
        tile_rows: int,
        tile_cols: int,
        accumulate: bool,
    ) -> None:
        vector = aligned(tile_cols * mac_cols * cols)
        total = aligned(mac_rows * cols)
        for r in range(words.shape[1] // cols):
            for e in range(tile_cols * mac_cols):
                for c in range(cols):
                    vector[e * cols + c] = load_half(words, x + e, r * cols + c)
            word = a_start + r * a_row
            for i in range(tile_rows):
                out = y + 2 * i * mac_rows
                for p in range(mac_rows):
                    for c in range(cols):
                        old = load_single(words, out + 2 * p, r * cols + c)
                        total[p * cols + c] = old if accumulate else np.float32(0)
                size = mac_rows * mac_cols * a_word
                for j in range(tile_cols):
                    prefetch(a, word + _AHEAD * size, size)
                    for p in range(mac_rows):
                        first = j * mac_cols * cols
                        add_trees(a, word, a_word, 0, vector, first, total, p * cols, cols, mac_cols, 1)
                        word += mac_cols * a_word
                for p in range(mac_rows):
                    for c in range(cols):
                        store_single(words, out + 2 * p, r * cols + c, total[p * cols + c])

    return kernel


@cache
def matvec_column(mac_rows: int, together: int) -> Callable[..., None]:
    """y = A^T x for tiles of mac_rows rows, as `matvec_row`, with mac_cols in the place of mac_rows.

    So many columns go together, 1 or 2: their elements lie side by side, and x is the same for them.
    """

    @compiled
    def kernel(
        words: Words,
        y: int,
        x: int,
        a: Words,
        a_start: int,
        a_row: int,
        a_word: int,
        cols: int,
        mac_cols: int,
        tile_rows: int,
        tile_cols: int,
        accumulate: bool,
    ) -> None:
        width = tile_cols * mac_cols
        vector = aligned(mac_rows * cols)
        total = aligned(width * cols)
        for r in range(words.shape[1] // cols):
            for e in range(width):
                for c in range(cols):
                    total[e * cols + c] = load_single(words, y + 2 * e, r * cols + c) if accumulate else np.float32(0)
            word = a_start + r * a_row
            for i in range(tile_rows):
                for e in range(mac_rows):
                    for c in range(cols):
                        vector[e * cols + c] = load_half(words, x + i * mac_rows + e, r * cols + c)
                size = mac_rows * mac_cols * a_word
                for j in range(tile_cols):
                    prefetch(a, word + _AHEAD * size, size)
                    for q in range(0, mac_cols, together):
                        start, place = word + q * a_word, (j * mac_cols + q) * cols
                        step = mac_cols * a_word
                        add_trees(a, start, step, a_word, vector, 0, total, place, cols, mac_rows, together)
                    word += size
            for e in range(width):
                for c in range(cols):
                    store_single(words, y + 2 * e, r * cols + c, total[e * cols + c])

    return kernel


@compiled
def _tree_of_rows(terms: Single, count: int, cols: int) -> None:
    """terms[:cols] = the tree of the first `count` rows of `cols` elements; the rest is overwritten."""
    while count > 1:
        for i in range(count // 2):
            for c in range(cols):
                terms[i * cols + c] = terms[2 * i * cols + c] + terms[(2 * i + 1) * cols + c]
        if count % 2:
            for c in range(cols):
                terms[count // 2 * cols + c] = terms[(count - 1) * cols + c]
        count = (count + 1) // 2


@cache
def dots(block: int) -> Callable[..., None]:
    """kernel(words, d, basis, x, count, length, drop, lanes, cols) for clusters with `lanes` multipliers.

    The lowest `drop` bits of x are rounded away; `block` divides `lanes`.
    """

    @compiled
    def kernel(
        words: Words, d: int, basis: int, x: int, count: int, length: int, drop: int, lanes: int, cols: int
    ) -> None:
        clusters = words.shape[1]
        flat = words.reshape(-1)
        chunks = (length + lanes - 1) // lanes
        whole = length // lanes
        vector = np.zeros(chunks * lanes * cols, np.float32)
        last = np.zeros(lanes * cols, np.uint16)  # the last chunk, where it is short
        terms = np.empty(lanes // block * cols, np.float32)
        total = np.empty(cols, np.float32)
        for first in range(0, clusters, cols):
            for e in range(length):
                for c in range(cols):
                    vector[e * cols + c] = in_pieces(load_single(words, x + 2 * e, first + c), drop)
            for i in range(count):
                row = basis + i * length
                for e in range(whole * lanes, length):
                    for c in range(cols):
                        last[(e - whole * lanes) * cols + c] = words[row + e, first + c]
                total[:] = 0
                for chunk in range(chunks):
                    terms[:] = 0
                    for b in range(lanes // block):
                        e = chunk * lanes + b * block
                        if chunk < whole:
                            start = (row + e) * clusters + first
                            add_trees(flat, start, clusters, 0, vector, e * cols, terms, b * cols, cols, block, 1)
                        else:
                            start = b * block * cols
                            add_trees(last, start, cols, 0, vector, e * cols, terms, b * cols, cols, block, 1)
                    _tree_of_rows(terms, lanes // block, cols)
                    for c in range(cols):
                        total[c] += terms[c]
                for c in range(cols):
                    store_single(words, d + 2 * i, first + c, total[c])

    return kernel


@cache
def norm2(block: int) -> Callable[..., None]:
    """kernel(words, d, x, length, drop, lanes, cols), as `dots`."""

    @compiled
    def kernel(words: Words, d: int, x: int, length: int, drop: int, lanes: int, cols: int) -> None:
        chunks = (length + lanes - 1) // lanes
        vector = np.zeros(chunks * lanes * cols, np.float32)
        terms = np.empty(lanes // block * cols, np.float32)
        total = np.empty(cols, np.float32)
        for first in range(0, words.shape[1], cols):
            for e in range(length):
                for c in range(cols):
                    vector[e * cols + c] = in_pieces(load_single(words, x + 2 * e, first + c), drop)
            total[:] = 0
            for chunk in range(chunks):
                terms[:] = 0
                for b in range(lanes // block):
                    start = (chunk * lanes + b * block) * cols
                    add_trees(vector, start, cols, 0, vector, start, terms, b * cols, cols, block, 1)
                _tree_of_rows(terms, lanes // block, cols)
                for c in range(cols):
                    total[c] += terms[c]
            for c in range(cols):
                store_single(words, d, first + c, total[c])

    return kernel


@compiled
def subtract(words: Words, x: int, basis: int, c: int, count: int, length: int, drop: int) -> None:
    """x -= c[i] * basis[i], in the order of i; the lowest `drop` bits of c are rounded away."""
    clusters = words.shape[1]
    value = np.empty(clusters, np.float32)
    for e in range(length):
        for n in range(clusters):
            value[n] = load_single(words, x + 2 * e, n)
        for i in range(count):
            for n in range(clusters):
                factor = in_pieces(load_single(words, c + 2 * i, n), drop)
                value[n] -= factor * load_half(words, basis + i * length + e, n)
        for n in range(clusters):
            store_single(words, x + 2 * e, n, value[n])


@compiled
def scale(words: Words, d: int, x: int, by: Single, length: int, drop: int) -> None:
    """d = binary16(x * by), by [clusters], the lowest `drop` bits of both rounded away."""
    for e in range(length):
        for n in range(words.shape[1]):
            value = in_pieces(load_single(words, x + 2 * e, n), drop)
            store_half(words, d + e, n, value * in_pieces(by[n], drop))


@compiled
def reduce(words: Words, x: int, length: int, line: int, span: int, lanes: int) -> None:
    """In each `line` of clusters, x of the first `lanes` of each `span` = the trees over those `lanes` apart."""
    terms = np.empty(span, np.float32)
    for e in range(length):
        for begin in range(0, words.shape[1], line):
            for first in range(begin, begin + line, span):
                count = min(span, begin + line - first)
                for n in range(count):
                    terms[n] = load_single(words, x + 2 * e, first + n)
                _tree_of_rows(terms, count // lanes, lanes)
                for n in range(lanes):
                    store_single(words, x + 2 * e, first + n, terms[n])


@compiled
def tile(
    a: Single,
    factor: float,
    banks: Words,
    start: int,
    stride: int,
    slice_rows: int,
    slice_cols: int,
    mac_rows: int,
    mac_cols: int,
    left: int,
    clusters: int,
    first: int,
) -> None:
    """Write binary16(binary32(a * factor)), a [S, H], to `banks`, [word, column], in tiles; place and stride in words.

    Of the columns of a from `first` on, each of so many `clusters` from the grid's column `left` on gets slice_cols;
    their block of the r-th slice_rows rows lies at start + r * stride, as `runtime.banks` says.
    """
    rows, columns, flat = a.shape[0], banks.shape[1], banks.reshape(-1)
    last = min(a.shape[1], first + clusters * slice_cols)
    lines = np.zeros((mac_rows, clusters * slice_cols), np.uint16)
    for top in range(0, rows, mac_rows):
        for p in range(min(mac_rows, rows - top)):
            for h in range(first, last):
                store_half(lines, p, h - first, np.float32(np.float64(a[top + p, h]) * factor))
        for p in range(rows - top, mac_rows):
            lines[p] = 0
        word = start + top // slice_rows * stride + top % slice_rows * slice_cols
        for j in range(slice_cols // mac_cols):
            for p in range(mac_rows):
                for q in range(mac_cols):
                    copy_spread(lines[p], j * mac_cols + q, slice_cols, flat, word * columns + left, clusters)
                    word += 1
