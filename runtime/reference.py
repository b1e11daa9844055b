"""The reference engine: the meaning of each instruction in NumPy, written to be read.

All clusters are one array whose first two axes are the grid. The instruction table says what each instruction does.
"""

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime import costs
from runtime.arithmetic import Single, chunk_sums, in_pieces, line_sum, to_half, tree, with_one_nan
from runtime.engine import Engine, Meanings
from runtime.machine import Machine
from runtime.operands import SCALAR_REGISTERS, Values
from runtime.sequencer import Issue

Array = NDArray[Any]


class ReferenceEngine(Engine):
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

    @property
    def bank_bytes(self) -> int:
        return self.banks.shape[1]

    def carry_out(self, issue: Issue) -> None:
        meaning = _MEANINGS.of(issue)
        if meaning is not None:
            meaning(self, issue.values)

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


_MEANINGS = Meanings[ReferenceEngine]()
_executes, _along = _MEANINGS.executes, _MEANINGS.along


def _transfer(engine: ReferenceEngine, v: Values, to_buffer: bool) -> None:
    size, bank = int(v["bytes"]), int(v["bank"])
    rows, cols = costs.transfer_extent(v, engine.machine)
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


def _chunks(engine: ReferenceEngine, terms: Single) -> Single:
    return chunk_sums(terms, costs.lanes(engine.machine))


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


@_along("part")
def _part(engine: ReferenceEngine, v: Values, axis: int) -> None:
    d, x = _lines(engine, v["d"], v["bytes"], axis), _lines(engine, v["x"], v["total"], axis)
    d[:] = 0
    for place in range(d.shape[1]):
        first = place % (int(v["span"]) or d.shape[1]) // int(v["share"]) * d.shape[2] if v["share"] else 0
        part = x[:, place, first : first + d.shape[2]]
        d[:, place, : part.shape[1]] = part


@_along("gather")
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


@_along("reduce")
def _reduce(engine: ReferenceEngine, v: Values, axis: int) -> None:
    for x in _spans(engine, v, axis):
        x[:, :, 0] = with_one_nan(tree(x))


@_along("allreduce")
def _all_reduce(engine: ReferenceEngine, v: Values, axis: int) -> None:
    for x in _spans(engine, v, axis):
        x[:] = with_one_nan(line_sum(x))[:, :, None]


@_along("bcast")
def _broadcast(engine: ReferenceEngine, v: Values, axis: int) -> None:
    for x in _spans(engine, v, axis):
        x[:, :, 1:] = x[:, :, :1]


@_executes("s.ld")
def _scalar_load(engine: ReferenceEngine, v: Values) -> None:
    engine.scalars[int(v["d"])] = engine.single(v["x"], 1)[..., 0]


@_executes("s.st")
def _scalar_store(engine: ReferenceEngine, v: Values) -> None:
    engine.single(v["x"], 1)[..., 0] = engine.scalars[int(v["a"])]


_MEANINGS.check()
