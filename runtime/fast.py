"""The fast engine: the meaning of each instruction in compiled code, the same bits as the reference engine.

The buffers of all clusters lie as [16-bit word, cluster], so that what a cluster does to an element is one operation on
a whole row; `runtime.fast_kernels` has the loops. A stream from the banks to all clusters is not carried out at once:
matvecs, which are most of the work, read their tiles in the banks, and the words are copied only where something else
needs them in the buffers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime import costs
from runtime import fast_kernels as kernels
from runtime.arithmetic import Single, chunk_sums, in_pieces, line_sum, with_one_nan
from runtime.engine import Engine, Meanings
from runtime.instructions import Access
from runtime.machine import Machine
from runtime.operands import PIECES_DROP, SCALAR_REGISTERS, Values
from runtime.sequencer import Issue

Words = NDArray[np.uint16]


@dataclass(frozen=True)
class _Pending:
    """A stream to all clusters that has not been carried out; in 16-bit words."""

    buffer: int
    bank: int
    stride: int
    count: int

    def meets(self, start: int, end: int) -> bool:
        """Whether it writes any word from `start` to before `end`."""
        return self.buffer < end and start < self.buffer + self.count

    def lies_in(self, start: int, end: int) -> bool:
        """Whether all that it writes is from `start` to before `end`."""
        return start <= self.buffer and self.buffer + self.count <= end


class FastEngine(Engine):
    """The state of the machine while one stream runs over the whole grid; used as `ReferenceEngine` is.

    Args:
        banks: uint16 [bank word, grid column], C-contiguous; read and written in place.
        buffers: uint16 [buffer word, cluster], zero, to be used as the buffers (default: new ones).
    """

    def __init__(self, machine: Machine, banks: Words, buffers: Words | None = None) -> None:
        grid, cluster = machine.grid, machine.cluster
        self.machine = machine
        self.banks = banks
        self.scalars = np.zeros((SCALAR_REGISTERS, grid.rows * grid.cols), np.float32)
        self.lanes = costs.lanes(machine)
        block = min(self.lanes, kernels.BLOCK)
        self.dots, self.norm2 = kernels.dots(block), kernels.norm2(block)
        self.matvec_row = kernels.matvec(cluster.mac_cols, min(cluster.mac_rows, 2))
        self.matvec_column = kernels.matvec(cluster.mac_rows, min(cluster.mac_cols, 2))
        self.global_memory = np.zeros(machine.global_memory.bytes // 2, np.uint16)
        if buffers is None:
            buffers = np.zeros((cluster.buffer_bytes // 2, grid.rows * grid.cols), np.uint16)
        self.words = buffers
        """The buffers but for what is pending."""
        self._pending: list[_Pending] = []

    @property
    def bank_bytes(self) -> int:
        return 2 * len(self.banks)

    def carry_out(self, issue: Issue) -> None:
        meaning = _MEANINGS.of(issue)
        if meaning is not None:
            if issue.mnemonic not in _PREPARE_THEMSELVES:
                self._prepare(issue)
            meaning(self, issue.values)

    def buffers(self) -> NDArray[np.uint8]:
        """The bytes of all buffers, [grid rows, grid columns, bytes], copied."""
        self.settle(0, len(self.words))
        shape = (self.machine.grid.rows, self.machine.grid.cols, -1)
        return np.ascontiguousarray(self.words.T).view(np.uint8).reshape(shape)

    def grid(self, x: int, count: int) -> Words:
        """Words of all buffers from word `x` on, [count, grid rows, grid columns], in place."""
        return self.words[x : x + count].reshape(count, self.machine.grid.rows, self.machine.grid.cols)

    def _prepare(self, issue: Issue) -> None:
        """Carry out the pending streams that an instruction would notice; forget those that it overwrites."""
        for used in issue.word.instruction.ranges if self._pending else ():
            if used.shared:
                continue
            start = _word(issue.values, used.operand)
            end = start + used.size(issue.values, self.machine) // 2
            if used.access is Access.WRITE and used.everywhere:
                self._pending = [stream for stream in self._pending if not stream.lies_in(start, end)]
            self.settle(start, end)

    def settle(self, start: int, end: int) -> None:
        """Carry out the pending streams to any buffer word from `start` to before `end`."""
        for stream in [stream for stream in self._pending if stream.meets(start, end)]:
            self._pending.remove(stream)
            self.copy_in(stream, self.machine.grid.rows, self.machine.grid.cols)

    def settle_bank(self, start: int, end: int) -> None:
        """Carry out the pending streams that read any bank word from `start` to before `end`."""
        for stream in list(self._pending):
            last = stream.bank + (self.machine.grid.rows - 1) * stream.stride
            if stream.bank < end and start < last + stream.count:
                self._pending.remove(stream)
                self.copy_in(stream, self.machine.grid.rows, self.machine.grid.cols)

    def copy_in(self, stream: _Pending, rows: int, cols: int) -> None:
        """Copy words from the banks to the first rows x cols clusters."""
        buffers = self.grid(stream.buffer, stream.count)
        for row in range(rows):
            first = stream.bank + row * stream.stride
            buffers[:, row, :cols] = self.banks[first : first + stream.count, :cols]

    def load(self, stream: _Pending, rows: int, cols: int) -> None:
        """Carry out a stream from the banks, or leave it pending where it goes to all clusters."""
        end = stream.buffer + stream.count
        everywhere = (rows, cols) == (self.machine.grid.rows, self.machine.grid.cols)
        if everywhere:
            self._pending = [other for other in self._pending if not other.lies_in(stream.buffer, end)]
        self.settle(stream.buffer, end)
        if everywhere:
            self._pending.append(stream)
        else:
            self.copy_in(stream, rows, cols)

    def tiles(self, start: int, count: int) -> tuple[Words, kernels.Place]:
        """Where `count` words of all clusters lie that begin at buffer word `start`: in a one-dimensional array."""
        cols = self.machine.grid.cols
        for stream in self._pending:
            if stream.buffer <= start and start + count <= stream.buffer + stream.count:
                first = stream.bank + start - stream.buffer
                return self.banks.reshape(-1), (first * cols, stream.stride * cols, cols)
        self.settle(start, start + count)
        return self.words.reshape(-1), (start * self.words.shape[1], cols, self.words.shape[1])


_MEANINGS = Meanings[FastEngine]()
_executes, _along = _MEANINGS.executes, _MEANINGS.along
_PREPARE_THEMSELVES = ("ld", "mv.row", "mv.col")


def _word(v: Values, operand: str) -> int:
    """The first 16-bit word of a buffer operand, or any other number of bytes in words."""
    return int(v[operand]) // 2


@_executes("ld")
def _load(engine: FastEngine, v: Values) -> None:
    stream = _Pending(_word(v, "buffer"), _word(v, "bank"), _word(v, "stride"), _word(v, "bytes"))
    if stream.count:
        engine.load(stream, *costs.transfer_extent(v, engine.machine))


@_executes("st")
def _store(engine: FastEngine, v: Values) -> None:
    rows, cols = costs.transfer_extent(v, engine.machine)
    bank, stride, count = (_word(v, name) for name in ("bank", "stride", "bytes"))
    engine.settle_bank(bank, bank + (rows - 1) * stride + count)
    buffers = engine.grid(_word(v, "buffer"), count)
    for row in range(rows):  # in order, so that the last wins where they overlap
        first = bank + row * stride
        engine.banks[first : first + count, :cols] = buffers[:, row, :cols]


@_executes("put")
def _put(engine: FastEngine, v: Values) -> None:
    rows, cols = costs.rectangle(v, engine.machine)
    x = engine.grid(_word(v, "x"), 2 * int(v["length"]))[:, ::rows, ::cols]
    engine.global_memory[_word(v, "g") :][: x.size] = np.moveaxis(x, 0, -1).reshape(-1)


@_executes("get")
def _get(engine: FastEngine, v: Values) -> None:
    rows, cols = costs.rectangle(v, engine.machine)
    x = engine.grid(_word(v, "x"), 2 * int(v["length"]))
    sent = engine.global_memory[_word(v, "g") :][: rows * cols * len(x)].reshape(rows, cols, len(x))
    repeated = np.tile(sent, (-(-x.shape[1] // rows), -(-x.shape[2] // cols), 1))
    x[:] = np.moveaxis(repeated[: x.shape[1], : x.shape[2]], -1, 0)


@_executes("fill")
def _fill(engine: FastEngine, v: Values) -> None:
    start = _word(v, "x")
    engine.words[start : start + _word(v, "bytes")] = 0


@_along("mv")
def _matvec(engine: FastEngine, v: Values, axis: int) -> None:
    cluster, rows, cols = engine.machine.cluster, int(v["rows"]), int(v["cols"])
    down = cluster.mac_rows, rows, cols * engine.lanes, cluster.mac_cols
    right = cluster.mac_cols, cols, engine.lanes, 1
    kernel, y_side, x_side = (engine.matvec_row, down, right) if axis else (engine.matvec_column, right, down)
    y, x, outputs, inputs = _word(v, "y"), _word(v, "x"), y_side[0] * y_side[1], x_side[0] * x_side[1]
    engine.settle(y, y + 2 * outputs)
    engine.settle(x, x + inputs)
    a, place = engine.tiles(_word(v, "a"), outputs * inputs)
    kernel(engine.words, y, x, a, place, engine.machine.grid.cols, y_side, x_side, bool(v["accumulate"]))


@_executes("dots")
def _dots(engine: FastEngine, v: Values) -> None:
    d, basis, x = (_word(v, name) for name in ("d", "basis", "x"))
    drop = PIECES_DROP[int(v["pieces"])]
    engine.dots(engine.words, d, basis, x, int(v["count"]), int(v["length"]), drop, engine.lanes)


@_executes("norm2")
def _norm2(engine: FastEngine, v: Values) -> None:
    drop = PIECES_DROP[int(v["pieces"])]
    engine.norm2(engine.words, _word(v, "d"), _word(v, "x"), int(v["length"]), drop, engine.lanes)


@_executes("subtract")
def _subtract(engine: FastEngine, v: Values) -> None:
    x, basis, c = (_word(v, name) for name in ("x", "basis", "c"))
    drop = PIECES_DROP[int(v["pieces"])]
    kernels.subtract(engine.words, x, basis, c, int(v["count"]), int(v["length"]), drop)


@_executes("scale")
def _scale(engine: FastEngine, v: Values) -> None:
    by, drop = engine.scalars[int(v["by"])], PIECES_DROP[int(v["pieces"])]
    kernels.scale(engine.words, _word(v, "d"), _word(v, "x"), by, int(v["length"]), drop)


def _single(engine: FastEngine, v: Values, operand: str, count: str) -> Single:
    """Binary32 elements, [element, cluster], copied."""
    pairs = engine.words[_word(v, operand) :][: 2 * int(v[count])]
    return (pairs[0::2] | pairs[1::2].astype(np.uint32) << 16).view(np.float32)


def _write(engine: FastEngine, address: int, values: Single) -> None:
    """Store binary32 elements, [element, cluster]."""
    bits = with_one_nan(values).view(np.uint32)
    pairs = engine.words[address : address + 2 * len(bits)]
    pairs[0::2], pairs[1::2] = bits & 0xFFFF, bits >> 16


@_executes("madd")
def _multiply_add(engine: FastEngine, v: Values) -> None:
    length = int(v["length"])
    total = _single(engine, v, "d", "length") if v["accumulate"] else np.zeros((length, engine.words.shape[1]), "f4")
    factors = engine.words[_word(v, "v") :][:length].view(np.float16).astype(np.float32)
    for c in in_pieces(_single(engine, v, "c", "count"), v):
        total += c * factors
    _write(engine, _word(v, "d"), total)


@_executes("sub")
def _minus(engine: FastEngine, v: Values) -> None:
    difference = _single(engine, v, "x", "length") - _single(engine, v, "y", "length")
    _write(engine, _word(v, "x"), difference)


@_executes("sum")
def _sum(engine: FastEngine, v: Values) -> None:
    x = _single(engine, v, "x", "length")
    _write(engine, _word(v, "d"), chunk_sums(x.T, engine.lanes)[None])


@_along("part")
def _part(engine: FastEngine, v: Values, axis: int) -> None:
    d, x = (
        np.swapaxes(engine.grid(_word(v, at), _word(v, size)), 1, axis + 1)
        for at, size in (("d", "bytes"), ("x", "total"))
    )
    d[:] = 0
    for place in range(d.shape[1]):
        first = place % (int(v["span"]) or d.shape[1]) // int(v["share"]) * len(d) if v["share"] else 0
        part = x[first : first + len(d), place]
        d[: len(part), place] = part


@_along("gather")
def _gather(engine: FastEngine, v: Values, axis: int) -> None:
    d = np.swapaxes(engine.grid(_word(v, "d"), _word(v, "bytes")), 1, axis + 1)
    span = costs.span(v, d.shape[1])
    x = np.swapaxes(engine.grid(_word(v, "x"), min(_word(v, "total"), span * len(d))), 1, axis + 1)
    for first in range(0, d.shape[1], span):
        parts = np.swapaxes(d[:, first : first + span], 0, 1)
        whole = parts.reshape(-1, d.shape[2])[: len(x)]
        x[: len(whole), first : first + span] = whole[:, None]


@_along("reduce")
def _reduce(engine: FastEngine, v: Values, axis: int) -> None:
    grid = engine.machine.grid
    line, apart = (grid.cols, 1) if axis else (grid.rows * grid.cols, grid.cols)
    kernels.reduce(engine.words, _word(v, "x"), int(v["length"]), line, int(v["span"]) * apart or line, apart)


@_along("allreduce")
def _all_reduce(engine: FastEngine, v: Values, axis: int) -> None:
    words = engine.grid(_word(v, "x"), 2 * int(v["length"]))
    bits = words[0::2] | words[1::2].astype(np.uint32) << 16
    x = np.moveaxis(bits, axis + 1, 2).view(np.float32)
    span = int(v["span"]) or x.shape[2]
    for first in range(0, x.shape[2], span):
        line = x[:, :, first : first + span]
        line[:] = with_one_nan(line_sum(line))[:, :, None]
    words[0::2], words[1::2] = bits & 0xFFFF, bits >> 16


@_along("bcast")
def _broadcast(engine: FastEngine, v: Values, axis: int) -> None:
    x = np.swapaxes(engine.grid(_word(v, "x"), 2 * int(v["length"])), 1, axis + 1)
    span = int(v["span"]) or x.shape[1]
    for first in range(0, x.shape[1], span):
        x[:, first + 1 : first + span] = x[:, first : first + 1]


@_executes("s.ld")
def _scalar_load(engine: FastEngine, v: Values) -> None:
    x = _word(v, "x")
    pairs = np.ascontiguousarray(engine.words[x : x + 2].T)
    engine.scalars[int(v["d"])] = pairs.view(np.float32)[:, 0]


@_executes("s.st")
def _scalar_store(engine: FastEngine, v: Values) -> None:
    x = _word(v, "x")
    engine.words[x : x + 2] = engine.scalars[int(v["a"])].view(np.uint16).reshape(-1, 2).T


_MEANINGS.check()
