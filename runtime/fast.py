"""The fast engine: the meaning of each instruction in compiled code, the same bits as the reference engine.

The buffers of all clusters lie as [16-bit word, cluster], so that what a cluster does to an element is one operation on
a whole row; `runtime.fast_kernels` has the loops. A stream from the banks to all clusters is not carried out at once:
matvecs, which are most of the work, read their tiles in the banks, and the words are copied only where something else
needs them in the buffers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from runtime import costs
from runtime import fast_kernels as kernels
from runtime.access import check_access, transfer_extent
from runtime.instructions import BY_MNEMONIC, Access, Unit
from runtime.machine import Machine
from runtime.operands import PIECES_DROP, SCALAR_REGISTERS, Values
from runtime.reference import Single, chunk_sums, in_pieces, line_sum, with_one_nan
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


class FastEngine:
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
        self.lanes = cluster.mac_rows * cluster.mac_cols
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

    def execute(self, issue: Issue) -> None:
        """Carry out one instruction; control flow is the sequencer's, and waiting the timing's.

        Raises:
            MachineFault: memory that the instruction may not touch.
        """
        check_access(issue, self.machine, 2 * len(self.banks))
        self.carry_out(issue)

    def carry_out(self, issue: Issue) -> None:
        """Carry out one instruction that has been checked."""
        meaning = _MEANINGS.get(issue.mnemonic)
        if meaning is not None:
            if issue.mnemonic not in _PREPARE_THEMSELVES:
                self._prepare(issue)
            meaning(self, issue.values)

    def leaves(self, issue: Issue) -> bool:
        """Whether `exit.ngt` leaves: the first cluster's scalars decide."""
        a, b = (self.scalars[int(issue.values[name]), 0] for name in ("a", "b"))
        return not a > b

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


Meaning = Callable[[FastEngine, Values], None]
_MEANINGS: dict[str, Meaning] = {}
_PREPARE_THEMSELVES = ("ld", "mv.row", "mv.col")


def _executes(*mnemonics: str) -> Callable[[Meaning], Meaning]:
    def register(meaning: Meaning) -> Meaning:
        _MEANINGS.update(dict.fromkeys(mnemonics, meaning))
        return meaning

    return register


def _word(v: Values, operand: str) -> int:
    """The first 16-bit word of a buffer operand, or any other number of bytes in words."""
    return int(v[operand]) // 2


@_executes("ld")
def _load(engine: FastEngine, v: Values) -> None:
    stream = _Pending(_word(v, "buffer"), _word(v, "bank"), _word(v, "stride"), _word(v, "bytes"))
    if stream.count:
        engine.load(stream, *transfer_extent(v, engine.machine))


@_executes("st")
def _store(engine: FastEngine, v: Values) -> None:
    rows, cols = transfer_extent(v, engine.machine)
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


@_executes("mv.row")
def _matvec_row(engine: FastEngine, v: Values) -> None:
    down, right = _sides(engine, v)
    _matvec(engine, v, engine.matvec_row, down, right)


@_executes("mv.col")
def _matvec_column(engine: FastEngine, v: Values) -> None:
    down, right = _sides(engine, v)
    _matvec(engine, v, engine.matvec_column, right, down)


def _sides(engine: FastEngine, v: Values) -> tuple[kernels.Side, kernels.Side]:
    """Down and to the right."""
    cluster, rows, cols = engine.machine.cluster, int(v["rows"]), int(v["cols"])
    return (cluster.mac_rows, rows, cols * engine.lanes, cluster.mac_cols), (cluster.mac_cols, cols, engine.lanes, 1)


def _matvec(
    engine: FastEngine, v: Values, kernel: Callable[..., None], y_side: kernels.Side, x_side: kernels.Side
) -> None:
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
    with np.errstate(all="ignore"):
        for c in in_pieces(_single(engine, v, "c", "count"), v):
            total += c * factors
    _write(engine, _word(v, "d"), total)


@_executes("sub")
def _minus(engine: FastEngine, v: Values) -> None:
    with np.errstate(all="ignore"):
        difference = _single(engine, v, "x", "length") - _single(engine, v, "y", "length")
    _write(engine, _word(v, "x"), difference)


@_executes("sum")
def _sum(engine: FastEngine, v: Values) -> None:
    x = _single(engine, v, "x", "length")
    with np.errstate(all="ignore"):
        _write(engine, _word(v, "d"), chunk_sums(x.T, engine.lanes)[None])


@_executes("part.row")
def _part_row(engine: FastEngine, v: Values) -> None:
    _part(engine, v, 2)


@_executes("part.col")
def _part_column(engine: FastEngine, v: Values) -> None:
    _part(engine, v, 1)


def _part(engine: FastEngine, v: Values, axis: int) -> None:
    d, x = (np.swapaxes(engine.grid(_word(v, at), _word(v, size)), 1, axis) for at, size in _PART)
    d[:] = 0
    for place in range(d.shape[1]):
        first = place % (int(v["span"]) or d.shape[1]) // int(v["share"]) * len(d) if v["share"] else 0
        part = x[first : first + len(d), place]
        d[: len(part), place] = part


_PART = (("d", "bytes"), ("x", "total"))


@_executes("gather.row")
def _gather_row(engine: FastEngine, v: Values) -> None:
    _gather(engine, v, 2)


@_executes("gather.col")
def _gather_column(engine: FastEngine, v: Values) -> None:
    _gather(engine, v, 1)


def _gather(engine: FastEngine, v: Values, axis: int) -> None:
    d = np.swapaxes(engine.grid(_word(v, "d"), _word(v, "bytes")), 1, axis)
    span = costs.span(v, d.shape[1])
    x = np.swapaxes(engine.grid(_word(v, "x"), min(_word(v, "total"), span * len(d))), 1, axis)
    for first in range(0, d.shape[1], span):
        parts = np.swapaxes(d[:, first : first + span], 0, 1)
        whole = parts.reshape(-1, d.shape[2])[: len(x)]
        x[: len(whole), first : first + span] = whole[:, None]


@_executes("reduce.row")
def _reduce_row(engine: FastEngine, v: Values) -> None:
    cols = engine.machine.grid.cols
    kernels.reduce(engine.words, _word(v, "x"), int(v["length"]), cols, int(v["span"]) or cols, 1)


@_executes("reduce.col")
def _reduce_column(engine: FastEngine, v: Values) -> None:
    grid = engine.machine.grid
    clusters, span = grid.rows * grid.cols, (int(v["span"]) or grid.rows) * grid.cols
    kernels.reduce(engine.words, _word(v, "x"), int(v["length"]), clusters, span, grid.cols)


@_executes("allreduce.row")
def _all_reduce_row(engine: FastEngine, v: Values) -> None:
    _all_reduce(engine, v, 1)


@_executes("allreduce.col")
def _all_reduce_column(engine: FastEngine, v: Values) -> None:
    _all_reduce(engine, v, 0)


def _all_reduce(engine: FastEngine, v: Values, axis: int) -> None:
    words = engine.grid(_word(v, "x"), 2 * int(v["length"]))
    bits = words[0::2] | words[1::2].astype(np.uint32) << 16
    x = np.moveaxis(bits, axis + 1, 2).view(np.float32)
    span = int(v["span"]) or x.shape[2]
    with np.errstate(all="ignore"):
        for first in range(0, x.shape[2], span):
            line = x[:, :, first : first + span]
            line[:] = with_one_nan(line_sum(line))[:, :, None]
    words[0::2], words[1::2] = bits & 0xFFFF, bits >> 16


@_executes("bcast.row")
def _broadcast_row(engine: FastEngine, v: Values) -> None:
    x = engine.grid(_word(v, "x"), 2 * int(v["length"]))
    span = int(v["span"]) or x.shape[2]
    for first in range(0, x.shape[2], span):
        x[:, :, first + 1 : first + span] = x[:, :, first : first + 1]


@_executes("bcast.col")
def _broadcast_column(engine: FastEngine, v: Values) -> None:
    x = engine.grid(_word(v, "x"), 2 * int(v["length"]))
    span = int(v["span"]) or x.shape[1]
    for first in range(0, x.shape[1], span):
        x[:, first + 1 : first + span] = x[:, first : first + 1]


@_executes("s.li")
def _scalar_immediate(engine: FastEngine, v: Values) -> None:
    _set_scalar(engine, v, np.float32(v["value"]))


@_executes("s.ld")
def _scalar_load(engine: FastEngine, v: Values) -> None:
    x = _word(v, "x")
    pairs = np.ascontiguousarray(engine.words[x : x + 2].T)
    engine.scalars[int(v["d"])] = pairs.view(np.float32)[:, 0]


@_executes("s.st")
def _scalar_store(engine: FastEngine, v: Values) -> None:
    x = _word(v, "x")
    engine.words[x : x + 2] = engine.scalars[int(v["a"])].view(np.uint16).reshape(-1, 2).T


@_executes("s.mul")
def _scalar_multiply(engine: FastEngine, v: Values) -> None:
    with np.errstate(all="ignore"):  # infinities and NaNs are values of the machine
        _set_scalar(engine, v, engine.scalars[int(v["a"])] * engine.scalars[int(v["b"])])


@_executes("s.div")
def _scalar_divide(engine: FastEngine, v: Values) -> None:
    with np.errstate(all="ignore"):
        _set_scalar(engine, v, engine.scalars[int(v["a"])] / engine.scalars[int(v["b"])])


@_executes("s.max")
def _scalar_maximum(engine: FastEngine, v: Values) -> None:
    a, b = engine.scalars[int(v["a"])], engine.scalars[int(v["b"])]
    with np.errstate(all="ignore"):
        _set_scalar(engine, v, cast("NDArray[np.float32]", np.where(a > b, a, b)))


@_executes("s.where")
def _scalar_where(engine: FastEngine, v: Values) -> None:
    a, b, c = (engine.scalars[int(v[name])] for name in ("a", "b", "c"))
    with np.errstate(all="ignore"):
        _set_scalar(engine, v, cast("NDArray[np.float32]", np.where(a > b, c, np.float32(0))))


@_executes("s.rsqrt")
def _scalar_rsqrt(engine: FastEngine, v: Values) -> None:
    with np.errstate(all="ignore"):
        _set_scalar(engine, v, 1 / np.sqrt(engine.scalars[int(v["a"])].astype(np.float64)))


def _set_scalar(engine: FastEngine, v: Values, values: NDArray[np.floating] | np.float32) -> None:
    engine.scalars[int(v["d"])] = with_one_nan(np.asarray(values, np.float32))


def _check_meanings() -> None:
    """Fail at import where the table has an instruction without a meaning here, or the other way round."""
    wanted = {name for name, instruction in BY_MNEMONIC.items() if instruction.unit is not Unit.CONTROL}
    if wanted != set(_MEANINGS):
        raise ValueError(f"meanings do not match the table: {sorted(wanted ^ set(_MEANINGS))}")


_check_meanings()
