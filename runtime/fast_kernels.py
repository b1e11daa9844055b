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
Place = tuple[int, int, int]
"""Where words lie in all clusters: the first word of cluster (0, 0), and words to the next grid row and to the next
word."""
Side = tuple[int, int, int, int]
"""One side of A in a cluster: elements of a tile; tiles; words from a tile to the next; words from an element to the
next."""

BLOCK = 16
"""Leaves of the trees that `dots` and `norm2` unroll; levels above are loops."""
LANES = 16
_LINE = 32  # words of a cache line
_AHEAD = 2  # tiles from the one that is read to the one that is fetched: measured
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


def _vector(context: Object, builder: Object, kind: Object, array: Object, offset: Object, vector: Object) -> Object:
    """A pointer to neighbours in a one-dimensional contiguous array."""
    first = builder.gep(context.make_array(kind)(context, builder, array).data, [offset], inbounds=True)
    return builder.bitcast(first, vector.as_pointer())


def _load(context: Object, builder: Object, kind: Object, array: Object, offset: Object, vector: Object) -> Object:
    value = builder.load(_vector(context, builder, kind, array, offset, vector))
    value.align = 2
    return value


def _store(context: Object, builder: Object, kind: Object, array: Object, offset: Object, value: Object) -> None:
    builder.store(value, _vector(context, builder, kind, array, offset, value.type)).align = 2


def _in_lanes(builder: Object, lanes: Object, step: Callable[[Object, int], None]) -> None:
    """step(first, number) for all LANES together where there are so many, else for each of fewer."""
    with builder.if_else(builder.icmp_signed("==", lanes, _I64(LANES))) as (all_of_them, fewer):
        with all_of_them:
            step(_I64(0), LANES)
        with fewer, for_range(builder, lanes) as loop:
            step(loop.index, 1)


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
    lanes: Object,
    count: Object,
    number: Object,
) -> Object:
    """total[m * LANES + c] += tree(a[m * a_next + i * a_step + c] * x[i * LANES + c] for i < count).

    For m < number and c < lanes, at most LANES, and each array from its start on. `a` is uint16 that holds binary16, or
    float32; x and total are float32; all are one-dimensional. `count` and `number` are constants, count a power of two.
    """
    leaves, trees = (getattr(literal, "literal_value", None) for literal in (count, number))
    if leaves is None or trees is None:
        return None

    def code(context: Object, builder: Object, signature: Object, args: Object) -> Object:
        a, a_start, a_step, a_next, x, x_start, total, total_start, lanes, _, _ = args
        a_kind, x_kind, total_kind = (signature.args[index] for index in (0, 4, 6))

        def at(start: Object, step: Object, times: int, c: Object) -> Object:
            return builder.add(builder.add(start, c), builder.mul(step, _I64(times)))

        def load(kind: Object, array: Object, offset: Object, lanes: int) -> Object:
            single = ir.VectorType(_FLOAT, lanes)
            if kind.dtype == types.float32:
                return _load(context, builder, kind, array, offset, single)
            return builder.fpext(_load(context, builder, kind, array, offset, ir.VectorType(_HALF, lanes)), single)

        def step(c: Object, lanes: int) -> None:
            vector = [load(x_kind, x, at(x_start, _I64(LANES), i, c), lanes) for i in range(leaves)]
            for m in range(trees):
                first, place = at(a_start, a_next, m, c), at(total_start, _I64(LANES), m, c)

                def tree(begin: int, size: int, first: Object = first) -> Object:
                    if size > 1:
                        return builder.fadd(tree(begin, size // 2), tree(begin + size // 2, size // 2))
                    left = load(a_kind, a, builder.add(first, builder.mul(a_step, _I64(begin))), lanes)
                    return builder.fmul(left, vector[begin])

                value = builder.fadd(load(total_kind, total, place, lanes), tree(0, leaves))
                _store(context, builder, total_kind, total, place, value)

        _in_lanes(builder, lanes, step)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(a, i64, i64, i64, x, i64, total, i64, i64, count, number), code


@literal_intrinsic
def copy_turned(
    typing: Object,
    source: Object,
    start: Object,
    step: Object,
    target: Object,
    place: Object,
    cols: Object,
    lanes: Object,
    count: Object,
) -> Object:
    """target[place + e * cols + n] = source[start + n * step + e] for e < count and n < lanes, at most LANES.

    Both are one-dimensional and uint16; `count` is a constant.
    """
    length = getattr(count, "literal_value", None)
    if length is None:
        return None

    def code(context: Object, builder: Object, signature: Object, args: Object) -> Object:
        source, start, step, target, place, cols, lanes, _ = args

        def turn(first: Object, number: int) -> None:
            loaded, rows = ir.VectorType(_I16, length), []
            for n in range(number):
                begin = builder.add(start, builder.mul(step, builder.add(first, _I64(n))))
                rows.append(_load(context, builder, signature.args[0], source, begin, loaded))
            while len(rows) > 1:  # one of each half by turns: in the end all are in one, element by element
                half, size = len(rows) // 2, rows[0].type.count
                taken = ir.Constant(ir.VectorType(_I32, 2 * size), [n + i for n in range(size) for i in (0, size)])
                rows = [builder.shuffle_vector(*pair, taken) for pair in zip(rows[:half], rows[half:], strict=True)]
            for e in range(length):
                taken = ir.Constant(ir.VectorType(_I32, number), [*range(e * number, (e + 1) * number)])
                begin = builder.add(builder.add(place, first), builder.mul(cols, _I64(e)))
                value = builder.shuffle_vector(rows[0], rows[0], taken)
                _store(context, builder, signature.args[3], target, begin, value)

        _in_lanes(builder, lanes, turn)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(source, i64, i64, target, i64, i64, i64, count), code


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
    room = np.empty(count + LANES, np.float32)
    start = -(room.ctypes.data // 4) % LANES
    return room[start : start + count]


@cache
def matvec(leaves: int, together: int) -> Callable[..., None]:
    """y = A x, or A^T x, for tiles with trees of so many leaves, of which so many go together: x is the same for them.

    An element of y is the sum of its trees in all tiles along x, in their order.

    Args of the kernel:
        y, x: their first words in `words`.
        a, place: one-dimensional uint16; word w of cluster (r, c) of the tiles is a[start + r * row + w * word + c].
        y_side, x_side: the sides of A that y and x go along; a tile has a tree for each of its elements of y.
    """

    @compiled
    def kernel(
        words: Words, y: int, x: int, a: Words, place: Place, cols: int, y_side: Side, x_side: Side, accumulate: bool
    ) -> None:
        a_start, a_row, a_word = place
        trees, y_tiles, y_next, tree = y_side
        _, x_tiles, x_next, leaf = x_side
        vector = aligned(x_tiles * leaves * LANES)
        total = aligned(trees * LANES)
        next_leaf, next_tree, fetched = leaf * a_word, tree * a_word, together * leaves * a_word
        for first in range(0, words.shape[1], cols):
            for left in range(0, cols, LANES):
                cluster, lanes = first + left, min(LANES, cols - left)
                for e in range(x_tiles * leaves):
                    for c in range(lanes):
                        vector[e * LANES + c] = load_half(words, x + e, cluster + c)
                for i in range(y_tiles):
                    out = y + 2 * i * trees
                    for m in range(trees):
                        for c in range(lanes):
                            old = load_single(words, out + 2 * m, cluster + c)
                            total[m * LANES + c] = old if accumulate else np.float32(0)
                    for j in range(x_tiles):
                        word = a_start + first // cols * a_row + left + (i * y_next + j * x_next) * a_word
                        begin = j * leaves * LANES
                        for m in range(0, trees, together):
                            prefetch(a, word + (_AHEAD * trees + m) * leaves * a_word, fetched)
                            at, to = word + m * next_tree, m * LANES
                            add_trees(a, at, next_leaf, next_tree, vector, begin, total, to, lanes, leaves, together)
                    for m in range(trees):
                        for c in range(lanes):
                            store_single(words, out + 2 * m, cluster + c, total[m * LANES + c])

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
    """kernel(words, d, basis, x, count, length, drop, lanes) for clusters with `lanes` multipliers.

    The lowest `drop` bits of x are rounded away; `block` divides `lanes`.
    """

    @compiled
    def kernel(words: Words, d: int, basis: int, x: int, count: int, length: int, drop: int, lanes: int) -> None:
        clusters = words.shape[1]
        flat = words.reshape(-1)
        chunks = (length + lanes - 1) // lanes
        whole = length // lanes
        vector = np.zeros(chunks * lanes * LANES, np.float32)
        last = np.zeros(lanes * LANES, np.uint16)  # the last chunk, where it is short
        terms = np.empty(lanes // block * LANES, np.float32)
        total = np.empty(LANES, np.float32)
        for first in range(0, clusters, LANES):
            cols = min(LANES, clusters - first)
            for e in range(length):
                for c in range(cols):
                    vector[e * LANES + c] = in_pieces(load_single(words, x + 2 * e, first + c), drop)
            for i in range(count):
                row = basis + i * length
                for e in range(whole * lanes, length):
                    for c in range(cols):
                        last[(e - whole * lanes) * LANES + c] = words[row + e, first + c]
                total[:] = 0
                for chunk in range(chunks):
                    terms[:] = 0
                    for b in range(lanes // block):
                        e = chunk * lanes + b * block
                        if chunk < whole:
                            start = (row + e) * clusters + first
                            add_trees(flat, start, clusters, 0, vector, e * LANES, terms, b * LANES, cols, block, 1)
                        else:
                            start = b * block * LANES
                            add_trees(last, start, LANES, 0, vector, e * LANES, terms, b * LANES, cols, block, 1)
                    _tree_of_rows(terms, lanes // block, LANES)
                    for c in range(cols):
                        total[c] += terms[c]
                for c in range(cols):
                    store_single(words, d + 2 * i, first + c, total[c])

    return kernel


@cache
def norm2(block: int) -> Callable[..., None]:
    """kernel(words, d, x, length, drop, lanes), as `dots`."""

    @compiled
    def kernel(words: Words, d: int, x: int, length: int, drop: int, lanes: int) -> None:
        chunks = (length + lanes - 1) // lanes
        vector = np.zeros(chunks * lanes * LANES, np.float32)
        terms = np.empty(lanes // block * LANES, np.float32)
        total = np.empty(LANES, np.float32)
        for first in range(0, words.shape[1], LANES):
            cols = min(LANES, words.shape[1] - first)
            for e in range(length):
                for c in range(cols):
                    vector[e * LANES + c] = in_pieces(load_single(words, x + 2 * e, first + c), drop)
            total[:] = 0
            for chunk in range(chunks):
                terms[:] = 0
                for b in range(lanes // block):
                    start = (chunk * lanes + b * block) * LANES
                    add_trees(vector, start, LANES, 0, vector, start, terms, b * LANES, cols, block, 1)
                _tree_of_rows(terms, lanes // block, LANES)
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


@cache
def tile(block: int) -> Callable[..., None]:
    """Write binary16(binary32(a * factor)), a [S, H], to `banks`, [word, column], in tiles; place and stride in words.

    Of the columns of a from `first` on, each of so many `clusters` from the grid's column `left` on gets slice_cols;
    their block of the r-th slice_rows rows lies at start + r * stride, as `runtime.banks` says. `block` divides
    mac_cols.
    """

    @compiled
    def kernel(
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
        rows, columns, flat = a.shape[0], banks.shape[1], banks.reshape(-1)
        last = min(a.shape[1], first + clusters * slice_cols)
        line = np.zeros((1, clusters * slice_cols), np.uint16)
        for top in range(0, rows, mac_rows):
            word = start + top // slice_rows * stride + top % slice_rows * slice_cols
            for p in range(mac_rows):
                if top + p < rows:
                    taken = a[top + p, first:last]
                    for h in range(len(taken)):
                        store_half(line, 0, h, np.float32(np.float64(taken[h]) * factor))
                else:
                    line[:] = 0
                for e in range(0, slice_cols, block):
                    place = word + (e // mac_cols * mac_rows + p) * mac_cols + e % mac_cols
                    for n in range(0, clusters, LANES):
                        begin, lanes = n * slice_cols + e, min(LANES, clusters - n)
                        copy_turned(line[0], begin, slice_cols, flat, place * columns + left + n, columns, lanes, block)

    return kernel
