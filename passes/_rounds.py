"""Several matrices in flight in each group: their instructions written out, interleaved, and looped over in rounds."""

from collections.abc import Mapping

from xdsl.ir import Operation, SSAValue

from dcomc.diagnostics import DcomError
from dialects import cluster
from dialects.cluster_types import COLS, VectorType, shift_of
from passes._interleave import Interleaver
from passes._kernels import only
from passes._partial_sums import PartialSumsLowering
from passes._scalar_registers import ScalarRegisters
from passes.cluster_schedule import slot_bytes
from runtime.machine import Machine
from runtime.operands import BUFFER, COUNT, SCALAR_REGISTERS, TOKENS
from runtime.sequencer import BASE_REGISTER, ROUNDS_REGISTER

_FURTHER_ROUNDS, _FIRST_BASE, _FIRST_BANK = 2, 3, 17
"""Integer registers: rounds but the last; the bank addresses of each slot's matrix; one for what a slot streams."""
MOST_IN_FLIGHT = 4
"""A slot needs eight scalar registers."""
_STORED = TOKENS - 1
"""The token of what nothing waits for in a round; matrices have those of their slots."""
_ASIDE = 32
"""Instructions beside those of the turns, in a stream or before all of them: no more than that."""
_PARTS = 2
"""Parts of A v and of the reduction of it, so that these overlap and short instructions get between."""
_LEAST_PART = 64
"""Elements of a vector that is worth parting."""


class RoundsLowering(PartialSumsLowering):
    """A slot of the buffer for each matrix in flight; its turns written out, so that addresses and counts are numbers.

    A slot streams its next matrix in as soon as it has multiplied by the last. The slots are an equal part of their
    work apart, so that one slot's loading passes beside the products of the others: in a round, slot s finishes the
    matrix that it began in the round before and begins another. The rounds from the first to the last but one are a
    hardware loop; before it the slots get their distance, and after it they finish.
    """

    def __init__(
        self, kernel: cluster.KernelOp, slices: Mapping[str, int], banks: Mapping[str, int], machine: Machine
    ) -> None:
        super().__init__(kernel, slices, banks, machine)
        self._slots = slices["in_flight"]
        if self._slots > MOST_IN_FLIGHT:
            raise DcomError(
                f"kernel @{kernel.sym_name.data} has {self._slots} matrices in flight",
                hint=f"registers serve {MOST_IN_FLIGHT}",
            )
        registers = SCALAR_REGISTERS // self._slots
        self._scalars_of = [ScalarRegisters(slot * registers, registers) for slot in range(self._slots)]
        self._slot_bytes = slot_bytes(kernel, slices, machine)
        self._slot, self._number, self._of_each = 0, 0, 0
        ops = list(kernel.body.block.ops)
        self._before, self._after = ops[: ops.index(self._loop)], ops[ops.index(self._loop) + 1 :]
        self._stored_token = _STORED

    def _lower_body(self) -> None:
        self._set_up()
        streams, last = ([self._matrix_in(slot, further) for slot in range(self._slots)] for further in (True, False))
        pairs = enumerate(zip(streams[0], last[0], strict=False))
        alike = next(index for index, (one, other) in pairs if not one.is_structurally_equivalent(other))
        cuts = [min(len(streams[0]) * (-slot % self._slots) // self._slots, alike) for slot in range(self._slots)]
        machine = Interleaver(self._machine)
        machine.merge([self._operations])
        self._operations += machine.merge(
            [[op.clone() for op in stream[:cut]] for stream, cut in zip(streams, cuts, strict=True)]
        )
        self._location = self._loop.location
        self._emit("loop", count=COUNT.pack_register(_FURTHER_ROUNDS), end="last")
        a_round = [stream[cut:] + stream[:cut] for stream, cut in zip(streams, cuts, strict=True)]
        machine.merge(a_round)  # the order of the second round is that of all
        self._operations += machine.merge(a_round)
        self._label("last")
        self._operations += machine.merge([stream[cut:] for stream, cut in zip(last, cuts, strict=True)])

    def _set_up(self) -> None:
        """Start vectors, which no matrix overwrites, before the first matrices: a bank serves in order."""
        (start,) = (op for op in self._before if isinstance(op, cluster.LoadStartOp))
        size = 2 * self._slices["slice_rows"]
        for slot in range(self._slots):
            self._at_slot(slot, start)
            self._add(_FIRST_BASE + slot, BASE_REGISTER, slot * self._banks["bank_bytes"])
            self._add(self._bank, BASE_REGISTER, self._banks["start_offset"])
            self._stream("ld", self._at(start.basis), size, token=_STORED, stride=size)
            for op in self._before:
                if isinstance(op, cluster.ConstantOp):
                    self._lower(op)
        for slot in range(self._slots):
            self._at_slot(slot, self._matrix)
            self._load_matrix(0)
        self._emit("wait", token=_STORED)
        self._add(_FURTHER_ROUNDS, ROUNDS_REGISTER, -1)

    def _at_slot(self, slot: int, op: Operation) -> None:
        self._slot, self._scalars, self._bank = slot, self._scalars_of[slot], _FIRST_BANK + slot
        self._location = op.location

    def _matrix_in(self, slot: int, further: bool) -> list[Operation]:
        """The instructions for a matrix in a slot, and, if there is a further one, the load of that.

        They are the same each time, in the same registers, up to that load.
        """
        kept, self._operations = self._operations, []
        self._at_slot(slot, self._matrix)
        self._scalars = self._scalars.copy()
        self._emit("wait", token=slot)
        for op in self._before:
            if isinstance(op, cluster.ZeroOp):
                self._lower(op)
        body = list(self._loop.body.block.ops)
        last_product = [op for op in body if isinstance(op, cluster.MatvecOp | cluster.MatvecTransposedOp)][-1]
        for number in range(self._layout.iterations):
            self._number = number
            for op in body:
                self._lower(op)
                if further and op is last_product and number == self._layout.iterations - 1:
                    self._location = self._matrix.location
                    self._load_matrix(self._slots * self._banks["bank_bytes"])
        for op in self._after:
            self._lower(op)
        if further:
            base = _FIRST_BASE + slot
            self._add(base, base, self._slots * self._banks["bank_bytes"])
        stream, self._operations = self._operations, kept
        return stream

    def _load_matrix(self, further: int) -> None:
        self._bank_pointer(further + self._banks["a_offset"])
        self._stream("ld", self._half(0), self._chunk_bytes, token=self._slot, stride=self._banks["a_stride"])

    def _product(self, mnemonic: str, y: int, x: int) -> None:
        """The parts of A^T u would wait for one another's sums, and nothing reduces it between clusters."""
        by_rows = mnemonic == "mv.row"
        parts = _PARTS if by_rows and self._chunk_rows % _PARTS == 0 else 1
        rows = self._chunk_rows // parts
        for part in range(parts):
            done = part * rows
            self._emit(
                mnemonic,
                y=_moved(y, 4 * done * self._machine.cluster.mac_rows),
                a=_moved(self._half(0), done * self._tile_cols * self._machine.tile_bytes),
                x=x,
                rows=rows,
                cols=self._tile_cols,
                accumulate=0,
            )

    def _parts(self, op: cluster.AllReduceOp) -> list[tuple[int, int]]:
        ((x, length),) = super()._parts(op)
        if not isinstance(op.data.type, VectorType) or length < _LEAST_PART * _PARTS:
            return [(x, length)]
        each = -(-length // _PARTS)
        return [(_moved(x, 4 * first), min(each, length - first)) for first in range(0, length, each)]

    def _bank_pointer(self, offset: int) -> None:
        self._add(self._bank, _FIRST_BASE + self._slot, offset)

    def _base_offset(self) -> int:
        return self._slot * self._slot_bytes

    def _vector(self, room: SSAValue, shift: int = 0) -> int:
        return BUFFER.pack(0, self._offset(room) + (self._number + shift) * self._vector_bytes(room))

    def _lower_each(self, each: cluster.EachOp) -> None:
        for number in range(self._count(each)):
            self._of_each = number
            for op in each.body.block.ops:
                self._lower(op)

    def _vector_of_each(self, room: SSAValue) -> int:
        return BUFFER.pack(0, self._offset(room) + self._of_each * self._vector_bytes(room))

    def _count(self, op: cluster.DotsOp | cluster.SubtractOp | cluster.AllReduceOp | cluster.EachOp) -> int:
        return self._number + shift_of(op.shift)


def _moved(address: int, distance: int) -> int:
    """An address operand without a register, so many bytes further."""
    return BUFFER.pack(0, (address >> 5) + distance)


def instructions(kernel: cluster.KernelOp, in_flight: int) -> int:
    """At most so many are written out for a kernel of folded matrices.

    A slot's stream stands twice: in the loop, and before and after it together.
    """
    loop = only(kernel, cluster.ForOp)
    a_turn = 0
    turns = loop.count.value.data
    for op in loop.body.block.ops:
        match op:
            case cluster.EachOp():
                a_turn += (turns + 1) // 2 * len(list(op.body.block.ops)) * 2 + 1
            case cluster.AllReduceOp():  # of a folded matrix, what lies across its rows is whole in each cluster
                parts = _PARTS if isinstance(op.data.type, VectorType) else 1
                a_turn += 2 * parts if op.across.data == COLS else 0
            case cluster.MatvecOp():
                a_turn += _PARTS
            case _:
                a_turn += 1
    return 2 * in_flight * (turns * a_turn + _ASIDE) + _ASIDE
