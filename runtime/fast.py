"""The fast engine: the meaning of each instruction in compiled code, the same bits as the reference engine.

The buffers of all clusters lie as [16-bit word][cluster], so that what a cluster does to an element is one operation on
whole rows, and a tree within a cluster is a sum of rows. `runtime.fast_kernels` has the loops.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from runtime import fast_kernels as kernels
from runtime.access import check_access, transfer_extent
from runtime.instructions import BY_MNEMONIC, Unit
from runtime.machine import Machine
from runtime.operands import SCALAR_REGISTERS, Values
from runtime.reference import tree
from runtime.sequencer import Issue


class FastEngine:
    """The state of the machine while one stream runs over the whole grid; used as `ReferenceEngine` is.

    Args:
        banks: uint8 [grid columns, bytes], an even number of bytes; read and written in place.
    """

    def __init__(self, machine: Machine, banks: NDArray[np.uint8]) -> None:
        clusters = machine.grid.rows * machine.grid.cols
        self.machine = machine
        self.banks = banks
        self.planar_banks = np.ascontiguousarray(banks.view(np.uint16).T)
        self.words = np.zeros((machine.cluster.buffer_bytes // 2, clusters), np.uint16)
        self.scalars = np.zeros((SCALAR_REGISTERS, clusters), np.float32)
        self.lanes = machine.cluster.mac_rows * machine.cluster.mac_cols
        self.matvec = kernels.matvec(machine.cluster.mac_rows, machine.cluster.mac_cols)

    def execute(self, issue: Issue) -> None:
        """Carry out one instruction; control flow is the sequencer's, and waiting the timing's.

        Raises:
            MachineFault: memory that the instruction may not touch.
        """
        check_access(issue, self.machine, self.banks.shape[1])
        meaning = _MEANINGS.get(issue.mnemonic)
        if meaning is not None:
            with np.errstate(all="ignore"):  # infinities and NaNs are values of the machine
                meaning(self, issue.values)

    def leaves(self, issue: Issue) -> bool:
        """Whether `exit.ngt` leaves: the first cluster's scalars decide."""
        a, b = (self.scalars[int(issue.values[name]), 0] for name in ("a", "b"))
        return not a > b


Meaning = Callable[[FastEngine, Values], None]
_MEANINGS: dict[str, Meaning] = {}


def _executes(*mnemonics: str) -> Callable[[Meaning], Meaning]:
    def register(meaning: Meaning) -> Meaning:
        _MEANINGS.update(dict.fromkeys(mnemonics, meaning))
        return meaning

    return register


def _word(v: Values, operand: str) -> int:
    """The first 16-bit word of a buffer operand."""
    return int(v[operand]) // 2


@_executes("ld")
def _load(engine: FastEngine, v: Values) -> None:
    rows, cols = transfer_extent(v, engine.machine)
    place = (_word(v, "buffer"), _word(v, "bank"), _word(v, "stride"), _word(v, "bytes"))
    kernels.load(engine.words, engine.planar_banks, *place, rows, cols)


@_executes("st")
def _store(engine: FastEngine, v: Values) -> None:
    rows, cols = transfer_extent(v, engine.machine)
    buffer, bank, stride, count = (_word(v, name) for name in ("buffer", "bank", "stride", "bytes"))
    kernels.store(engine.words, engine.planar_banks, buffer, bank, stride, count, rows, cols)
    end = bank + (rows - 1) * stride + count
    engine.banks.view(np.uint16)[:cols, bank:end] = engine.planar_banks[bank:end, :cols].T


@_executes("fill")
def _fill(engine: FastEngine, v: Values) -> None:
    start = _word(v, "x")
    engine.words[start : start + _word(v, "bytes")] = 0


@_executes("mv.row")
def _matvec_row(engine: FastEngine, v: Values) -> None:
    _matvec(engine, v, 0)


@_executes("mv.col")
def _matvec_col(engine: FastEngine, v: Values) -> None:
    _matvec(engine, v, 1)


def _matvec(engine: FastEngine, v: Values, which: int) -> None:
    addresses = (_word(v, name) for name in ("y", "a", "x"))
    engine.matvec[which](engine.words, *addresses, int(v["rows"]), int(v["cols"]), bool(v["accumulate"]))


@_executes("dots")
def _dots(engine: FastEngine, v: Values) -> None:
    d, basis, x = (_word(v, name) for name in ("d", "basis", "x"))
    kernels.dots(engine.words, d, basis, x, int(v["count"]), int(v["length"]), engine.lanes)


@_executes("norm2")
def _norm2(engine: FastEngine, v: Values) -> None:
    kernels.norm2(engine.words, _word(v, "d"), _word(v, "x"), int(v["length"]), engine.lanes)


@_executes("subtract")
def _subtract(engine: FastEngine, v: Values) -> None:
    x, basis, c = (_word(v, name) for name in ("x", "basis", "c"))
    kernels.subtract(engine.words, x, basis, c, int(v["count"]), int(v["length"]))


@_executes("scale")
def _scale(engine: FastEngine, v: Values) -> None:
    kernels.scale(engine.words, _word(v, "d"), _word(v, "x"), engine.scalars[int(v["by"])], int(v["length"]))


def _on_grid(engine: FastEngine, v: Values, change: Callable[[NDArray[np.float32]], None]) -> None:
    """Apply `change` in place to x as [grid rows, grid cols, length]."""
    values = kernels.read_singles(engine.words, _word(v, "x"), int(v["length"]))
    grid = np.ascontiguousarray(values.T).reshape(engine.machine.grid.rows, engine.machine.grid.cols, -1)
    change(grid)
    kernels.write_singles(engine.words, _word(v, "x"), np.ascontiguousarray(grid.reshape(values.T.shape).T))


@_executes("reduce.row")
def _reduce_row(engine: FastEngine, v: Values) -> None:
    def change(x: NDArray[np.float32]) -> None:
        x[:, 0] = tree(np.swapaxes(x, 1, 2))

    _on_grid(engine, v, change)


@_executes("reduce.col")
def _reduce_col(engine: FastEngine, v: Values) -> None:
    def change(x: NDArray[np.float32]) -> None:
        x[0] = tree(np.moveaxis(x, 0, 2))

    _on_grid(engine, v, change)


@_executes("bcast.row")
def _broadcast_row(engine: FastEngine, v: Values) -> None:
    def change(x: NDArray[np.float32]) -> None:
        x[:, 1:] = x[:, :1]

    _on_grid(engine, v, change)


@_executes("bcast.col")
def _broadcast_col(engine: FastEngine, v: Values) -> None:
    def change(x: NDArray[np.float32]) -> None:
        x[1:] = x[:1]

    _on_grid(engine, v, change)


@_executes("s.li")
def _scalar_immediate(engine: FastEngine, v: Values) -> None:
    engine.scalars[int(v["d"])] = v["value"]


@_executes("s.ld")
def _scalar_load(engine: FastEngine, v: Values) -> None:
    engine.scalars[int(v["d"])] = kernels.read_singles(engine.words, _word(v, "x"), 1)[0]


@_executes("s.st")
def _scalar_store(engine: FastEngine, v: Values) -> None:
    kernels.write_singles(engine.words, _word(v, "x"), engine.scalars[int(v["a"])][None])


@_executes("s.mul")
def _scalar_multiply(engine: FastEngine, v: Values) -> None:
    engine.scalars[int(v["d"])] = engine.scalars[int(v["a"])] * engine.scalars[int(v["b"])]


@_executes("s.max")
def _scalar_maximum(engine: FastEngine, v: Values) -> None:
    a, b = engine.scalars[int(v["a"])], engine.scalars[int(v["b"])]
    engine.scalars[int(v["d"])] = np.where(a > b, a, b)


@_executes("s.rsqrt")
def _scalar_rsqrt(engine: FastEngine, v: Values) -> None:
    engine.scalars[int(v["d"])] = 1 / np.sqrt(engine.scalars[int(v["a"])].astype(np.float64))


def _check_meanings() -> None:
    """Fail at import where the table has an instruction without a meaning here, or the other way round."""
    wanted = {name for name, instruction in BY_MNEMONIC.items() if instruction.unit is not Unit.CONTROL}
    if wanted != set(_MEANINGS):
        raise ValueError(f"meanings do not match the table: {sorted(wanted ^ set(_MEANINGS))}")


_check_meanings()
