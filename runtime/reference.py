"""The reference engine: the meaning of each instruction in NumPy, written to be read.

All clusters are one array whose first two axes are the grid. The instruction table says what each instruction does.
"""

from collections.abc import Callable, Iterator
from functools import reduce
from math import prod
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from runtime import costs
from runtime.access import check_access, transfer_extent
from runtime.instructions import BY_MNEMONIC, Unit
from runtime.machine import Machine
from runtime.operands import PIECES_DROP, SCALAR_REGISTERS, Values
from runtime.sequencer import Issue

Array = NDArray[Any]
Single = NDArray[np.float32]


def tree(terms: Single) -> Single:
    """Sum over the last axis by a binary tree of binary32 additions; an odd last term passes through a level."""
    while terms.shape[-1] > 1:
        pairs = terms.shape[-1] // 2
        sums = terms[..., 0 : 2 * pairs : 2] + terms[..., 1 : 2 * pairs : 2]
        terms = np.concatenate((sums, terms[..., 2 * pairs :]), axis=-1)
    return terms[..., 0]


def line_sum(terms: Single) -> Single:
    """Sum over the last axis, one after another from each end to the middle; the first half is the larger."""
    middle = (terms.shape[-1] + 1) // 2
    first, last = (np.moveaxis(half, -1, 0) for half in (terms[..., :middle], terms[..., : middle - 1 : -1]))
    total = reduce(np.add, first)
    return total + reduce(np.add, last) if len(last) else total


def to_half(values: Single) -> NDArray[np.float16]:
    """Round to binary16, to nearest even; a NaN becomes 0x7E00."""
    halves = values.astype(np.float16)
    halves.view(np.uint16)[np.isnan(values)] = 0x7E00
    return halves


def with_one_nan(values: Single) -> Single:
    """The same numbers, and 0x7FC00000 for every NaN."""
    return np.where(np.isnan(values), np.uint32(0x7FC00000).view(np.float32), values)


def in_pieces(values: Single, v: Values) -> Single:
    """Binary32 factors rounded to the `pieces` of an instruction, to nearest even."""
    dropped = PIECES_DROP[int(v["pieces"])]
    if not dropped:
        return values
    bits = np.asarray(values, np.float32).view(np.uint32)
    rounded = bits + ((1 << dropped - 1) - 1 + (bits >> dropped & 1)) >> dropped << dropped
    return np.where(np.isnan(values), values, rounded.astype(np.uint32).view(np.float32))


class ReferenceEngine:
    """The state of the machine while one stream runs over the whole grid.

    Args:
        banks: uint8 [grid columns, bytes], read and written in place.
    """

    def __init__(self, machine: Machine, banks: NDArray[np.uint8]) -> None:
        grid = (machine.grid.rows, machine.grid.cols)
        self.machine = machine
        self.banks = banks
        self.buffers = np.zeros((*grid, machine.cluster.buffer_bytes), np.uint8)
        self.scalars = np.zeros((SCALAR_REGISTERS, *grid), np.float32)
        self.global_memory = np.zeros(machine.global_memory.bytes, np.uint8)

    def execute(self, issue: Issue) -> None:
        """Carry out one instruction; control flow is the sequencer's, and waiting the timing's.

        Raises:
            MachineFault: memory that the instruction may not touch.
        """
        check_access(issue, self.machine, self.banks.shape[1])
        self.carry_out(issue)

    def carry_out(self, issue: Issue) -> None:
        """Carry out one instruction that has been checked."""
        meaning = _MEANINGS.get(issue.mnemonic)
        if meaning is not None:
            with np.errstate(all="ignore"):  # infinities and NaNs are values of the machine
                meaning(self, issue.values)

    def leaves(self, issue: Issue) -> bool:
        """Whether `exit.ngt` leaves: the first cluster's scalars decide."""
        a, b = (self.scalars[int(issue.values[name]), 0, 0] for name in ("a", "b"))
        return not a > b

    def view(self, address: int | float, count: int, kind: type[np.generic]) -> Array:
        """`count` elements in every cluster's buffer, [rows, cols, count], in place."""
        start, size = int(address), count * np.dtype(kind).itemsize
        return self.buffers[:, :, start : start + size].view(kind)

    def single(self, address: int | float, count: int | float) -> Single:
        """Binary32 elements in place."""
        return self.view(address, int(count), np.float32)

    def half(self, address: int | float, count: int | float) -> Single:
        """Binary16 elements, widened."""
        return self.view(address, int(count), np.float16).astype(np.float32)


Meaning = Callable[[ReferenceEngine, Values], None]
_MEANINGS: dict[str, Meaning] = {}


def _executes(*mnemonics: str) -> Callable[[Meaning], Meaning]:
    def register(meaning: Meaning) -> Meaning:
        _MEANINGS.update(dict.fromkeys(mnemonics, meaning))
        return meaning

    return register


def _transfer(engine: ReferenceEngine, v: Values, to_buffer: bool) -> None:
    size, bank = int(v["bytes"]), int(v["bank"])
    rows, cols = transfer_extent(v, engine.machine)
    buffers = engine.view(v["buffer"], size, np.uint8)
    for row in range(rows):
        start = bank + row * int(v["stride"])
        if to_buffer:
            buffers[row, :cols] = engine.banks[:cols, start : start + size]
        else:
            engine.banks[:cols, start : start + size] = buffers[row, :cols]


@_executes("ld")
def _load(engine: ReferenceEngine, v: Values) -> None:
    _transfer(engine, v, to_buffer=True)


@_executes("st")
def _store(engine: ReferenceEngine, v: Values) -> None:
    _transfer(engine, v, to_buffer=False)


def _shared(engine: ReferenceEngine, v: Values, size: int) -> NDArray[np.uint32]:
    """Words of the global memory from g on, in place."""
    return engine.global_memory[int(v["g"]) :][:size].view(np.uint32)


@_executes("put")
def _put(engine: ReferenceEngine, v: Values) -> None:
    rows, cols = costs.rectangle(v, engine.machine)
    x = engine.view(v["x"], int(v["length"]), np.uint32)[::rows, ::cols]
    _shared(engine, v, x.nbytes)[:] = x.reshape(-1)


@_executes("get")
def _get(engine: ReferenceEngine, v: Values) -> None:
    rows, cols = costs.rectangle(v, engine.machine)
    sent = _shared(engine, v, costs.get_bytes(v, engine.machine)).reshape(rows, cols, int(v["length"]))
    x = engine.view(v["x"], int(v["length"]), np.uint32)
    for r, c in np.ndindex(x.shape[:2]):
        x[r, c] = sent[r % rows, c % cols]


@_executes("fill")
def _fill(engine: ReferenceEngine, v: Values) -> None:
    engine.view(v["x"], int(v["bytes"]), np.uint8)[:] = 0


def _tiles(engine: ReferenceEngine, v: Values) -> Single:
    """A as [grid rows, grid cols, tile rows, tile cols, rows in a tile, columns in a tile]."""
    cluster = engine.machine.cluster
    shape = (int(v["rows"]), int(v["cols"]), cluster.mac_rows, cluster.mac_cols)
    tiles = engine.half(v["a"], prod(shape))
    return tiles.reshape(*tiles.shape[:2], *shape)


@_executes("mv.row")
def _matvec_row(engine: ReferenceEngine, v: Values) -> None:
    a = _tiles(engine, v)
    x = engine.half(v["x"], v["cols"] * a.shape[-1]).reshape(*a.shape[:2], 1, a.shape[3], 1, a.shape[-1])
    y = engine.single(v["y"], v["rows"] * a.shape[-2]).reshape(*a.shape[:3], a.shape[-2])
    _accumulate(y, np.moveaxis(tree(a * x), 3, 0), v)


@_executes("mv.col")
def _matvec_col(engine: ReferenceEngine, v: Values) -> None:
    a = _tiles(engine, v)
    x = engine.half(v["x"], v["rows"] * a.shape[-2]).reshape(*a.shape[:3], 1, a.shape[-2], 1)
    y = engine.single(v["y"], v["cols"] * a.shape[-1]).reshape(*a.shape[:2], a.shape[3], a.shape[-1])
    _accumulate(y, np.moveaxis(tree(np.swapaxes(a * x, -1, -2)), 2, 0), v)


def _accumulate(y: Single, terms: Single, v: Values) -> None:
    """Add `terms` along their first axis, in order, to y or to zero."""
    total = y.copy() if v["accumulate"] else np.zeros_like(y)
    for term in terms:
        total += term
    y[...] = with_one_nan(total)


def chunk_sums(terms: Single, lanes: int) -> Single:
    """Sum over the last axis: a tree for each chunk of the array's multipliers, chunks in order from zero."""
    padding = -terms.shape[-1] % lanes
    padded = np.pad(terms, [(0, 0)] * (terms.ndim - 1) + [(0, padding)])
    total = np.zeros(terms.shape[:-1], np.float32)
    for chunk in np.split(padded, padded.shape[-1] // lanes, axis=-1) if padded.shape[-1] else []:
        total += tree(chunk)
    return total


def _chunks(engine: ReferenceEngine, terms: Single) -> Single:
    return chunk_sums(terms, engine.machine.cluster.mac_rows * engine.machine.cluster.mac_cols)


def _basis(engine: ReferenceEngine, v: Values) -> Single:
    basis = engine.half(v["basis"], v["count"] * v["length"])
    return basis.reshape(*basis.shape[:2], int(v["count"]), int(v["length"]))


@_executes("dots")
def _dots(engine: ReferenceEngine, v: Values) -> None:
    x = engine.single(v["x"], v["length"])
    engine.single(v["d"], v["count"])[:] = with_one_nan(
        _chunks(engine, _basis(engine, v) * in_pieces(x, v)[:, :, None, :])
    )


@_executes("norm2")
def _norm2(engine: ReferenceEngine, v: Values) -> None:
    x = in_pieces(engine.single(v["x"], v["length"]), v)
    engine.single(v["d"], 1)[..., 0] = with_one_nan(_chunks(engine, x * x))


@_executes("subtract")
def _subtract(engine: ReferenceEngine, v: Values) -> None:
    x, basis = engine.single(v["x"], v["length"]), _basis(engine, v)
    c = in_pieces(engine.single(v["c"], v["count"]), v)
    for i in range(basis.shape[2]):
        x -= c[:, :, i, None] * basis[:, :, i]
    x[:] = with_one_nan(x)


@_executes("scale")
def _scale(engine: ReferenceEngine, v: Values) -> None:
    x = in_pieces(engine.single(v["x"], v["length"]), v)
    d = engine.view(v["d"], x.shape[-1], np.float16)
    d[:] = to_half(x * in_pieces(engine.scalars[int(v["by"])], v)[:, :, None])


@_executes("madd")
def _multiply_add(engine: ReferenceEngine, v: Values) -> None:
    d, factors = engine.single(v["d"], v["length"]), engine.half(v["v"], v["length"])
    total = d.copy() if v["accumulate"] else np.zeros_like(d)
    for c in np.moveaxis(in_pieces(engine.single(v["c"], v["count"]), v), 2, 0):
        total += c[:, :, None] * factors
    d[:] = with_one_nan(total)


@_executes("sub")
def _minus(engine: ReferenceEngine, v: Values) -> None:
    x = engine.single(v["x"], v["length"])
    x[:] = with_one_nan(x - engine.single(v["y"], v["length"]))


@_executes("sum")
def _sum(engine: ReferenceEngine, v: Values) -> None:
    engine.single(v["d"], 1)[..., 0] = with_one_nan(_chunks(engine, engine.single(v["x"], v["length"])))


def _lines(engine: ReferenceEngine, address: int | float, size: int | float, axis: int) -> NDArray[np.uint8]:
    """Bytes of every buffer, [other axis, along the line, bytes], in place; the line goes along `axis` of the grid."""
    return np.swapaxes(engine.view(address, int(size), np.uint8), 1, axis)


@_executes("part.row")
def _part_row(engine: ReferenceEngine, v: Values) -> None:
    _part(engine, v, 1)


@_executes("part.col")
def _part_col(engine: ReferenceEngine, v: Values) -> None:
    _part(engine, v, 0)


def _part(engine: ReferenceEngine, v: Values, axis: int) -> None:
    d, x = _lines(engine, v["d"], v["bytes"], axis), _lines(engine, v["x"], v["total"], axis)
    d[:] = 0
    for place in range(d.shape[1]):
        first = place % (int(v["span"]) or d.shape[1]) // int(v["share"]) * d.shape[2] if v["share"] else 0
        part = x[:, place, first : first + d.shape[2]]
        d[:, place, : part.shape[1]] = part


@_executes("gather.row")
def _gather_row(engine: ReferenceEngine, v: Values) -> None:
    _gather(engine, v, 1)


@_executes("gather.col")
def _gather_col(engine: ReferenceEngine, v: Values) -> None:
    _gather(engine, v, 0)


def _gather(engine: ReferenceEngine, v: Values, axis: int) -> None:
    d = _lines(engine, v["d"], v["bytes"], axis)
    span = costs.span(v, d.shape[1])
    x = _lines(engine, v["x"], min(v["total"], span * v["bytes"]), axis)
    for first in range(0, d.shape[1], span):
        parts = d[:, first : first + span]
        whole = parts.reshape(len(parts), -1)[:, : x.shape[2]]
        x[:, first : first + span, : whole.shape[1]] = whole[:, None]


def _spans(engine: ReferenceEngine, v: Values, axis: int) -> Iterator[Single]:
    """x of the clusters that take part together, [other axis, length, clusters], in place."""
    x = np.moveaxis(engine.single(v["x"], v["length"]), axis, 2)
    span = int(v["span"]) or x.shape[2]
    return (x[:, :, first : first + span] for first in range(0, x.shape[2], span))


@_executes("reduce.row")
def _reduce_row(engine: ReferenceEngine, v: Values) -> None:
    for x in _spans(engine, v, 1):
        x[:, :, 0] = with_one_nan(tree(x))


@_executes("reduce.col")
def _reduce_col(engine: ReferenceEngine, v: Values) -> None:
    for x in _spans(engine, v, 0):
        x[:, :, 0] = with_one_nan(tree(x))


@_executes("allreduce.row")
def _all_reduce_row(engine: ReferenceEngine, v: Values) -> None:
    for x in _spans(engine, v, 1):
        x[:] = with_one_nan(line_sum(x))[:, :, None]


@_executes("allreduce.col")
def _all_reduce_col(engine: ReferenceEngine, v: Values) -> None:
    for x in _spans(engine, v, 0):
        x[:] = with_one_nan(line_sum(x))[:, :, None]


@_executes("bcast.row")
def _broadcast_row(engine: ReferenceEngine, v: Values) -> None:
    for x in _spans(engine, v, 1):
        x[:, :, 1:] = x[:, :, :1]


@_executes("bcast.col")
def _broadcast_col(engine: ReferenceEngine, v: Values) -> None:
    for x in _spans(engine, v, 0):
        x[:, :, 1:] = x[:, :, :1]


@_executes("s.li")
def _scalar_immediate(engine: ReferenceEngine, v: Values) -> None:
    _set_scalar(engine, v, np.float32(v["value"]))


@_executes("s.ld")
def _scalar_load(engine: ReferenceEngine, v: Values) -> None:
    engine.scalars[int(v["d"])] = engine.single(v["x"], 1)[..., 0]


@_executes("s.st")
def _scalar_store(engine: ReferenceEngine, v: Values) -> None:
    engine.single(v["x"], 1)[..., 0] = engine.scalars[int(v["a"])]


@_executes("s.mul")
def _scalar_multiply(engine: ReferenceEngine, v: Values) -> None:
    _set_scalar(engine, v, engine.scalars[int(v["a"])] * engine.scalars[int(v["b"])])


@_executes("s.div")
def _scalar_divide(engine: ReferenceEngine, v: Values) -> None:
    _set_scalar(engine, v, engine.scalars[int(v["a"])] / engine.scalars[int(v["b"])])


@_executes("s.max")
def _scalar_maximum(engine: ReferenceEngine, v: Values) -> None:
    a, b = engine.scalars[int(v["a"])], engine.scalars[int(v["b"])]
    _set_scalar(engine, v, cast(Single, np.where(a > b, a, b)))


@_executes("s.where")
def _scalar_where(engine: ReferenceEngine, v: Values) -> None:
    a, b, c = (engine.scalars[int(v[name])] for name in ("a", "b", "c"))
    _set_scalar(engine, v, cast(Single, np.where(a > b, c, np.float32(0))))


@_executes("s.rsqrt")
def _scalar_rsqrt(engine: ReferenceEngine, v: Values) -> None:
    _set_scalar(engine, v, 1 / np.sqrt(engine.scalars[int(v["a"])].astype(np.float64)))


def _set_scalar(engine: ReferenceEngine, v: Values, values: Array | np.float32) -> None:
    engine.scalars[int(v["d"])] = with_one_nan(np.asarray(values, np.float32))


def _check_meanings() -> None:
    """Fail at import where the table has an instruction without a meaning here, or the other way round."""
    wanted = {name for name, instruction in BY_MNEMONIC.items() if instruction.unit is not Unit.CONTROL}
    if wanted != set(_MEANINGS):
        raise ValueError(f"meanings do not match the table: {sorted(wanted ^ set(_MEANINGS))}")


_check_meanings()
