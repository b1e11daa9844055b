"""The instructions for one vector at a time, and for vectors in parts, whose sums go through the global memory."""

from xdsl.ir import Operation, SSAValue

from dialects import cluster
from dialects.cluster_types import COLS, BasisType, VectorType, length_in, parts_of, shift_of
from passes._instructions import Lowering
from passes.cluster_schedule import alloc_bytes
from runtime.operands import BUFFER
from runtime.sequencer import BASE_REGISTER, ROUNDS_REGISTER

_LAST_POINTER = ROUNDS_REGISTER - 1
"""Integer registers that move with the vectors of a turn, from here downward."""
_READ, _WRITTEN = 4, 5
"""Tokens, for which nothing waits: what reads the buffer waits for the data."""
_Placed = BasisType | VectorType


class PartialSumsLowering(Lowering):
    """The instructions of one kernel, loops over the vectors of a turn among them."""

    _vector_pointers: dict[tuple[int, int, int], int]
    """As `_pointers`, of the loop over vectors that is being lowered."""

    def _lower_operation(self, op: Operation) -> None:
        match op:
            case cluster.EachOp():
                self._lower_each(op)
            case cluster.BankRoomOp():
                pass
            case cluster.DotOp():
                self._emit(
                    "dots",
                    d=self._at(op.out),
                    basis=self._vector_at(op.basis, op.index),
                    x=self._at(op.x),
                    count=1,
                    length=self._held(op.x),
                    pieces=shift_of(op.pieces),
                )
            case cluster.ProjectOutOp():
                self._emit(
                    "subtract",
                    x=self._at(op.x),
                    basis=self._vector_at(op.basis, op.index),
                    c=self._at(op.cells),
                    count=1,
                    length=self._held(op.x),
                    pieces=shift_of(op.pieces),
                )
            case cluster.PartOp():
                out = _placed(op.out)
                self._emit(
                    f"part.{_line(out)}",
                    d=self._at(op.out),
                    x=self._vector_at(op.source, op.index, shift_of(op.shift)),
                    bytes=self._bytes(op.out),
                    total=_element(out) * self._slices[f"slice_{out.axis.data}"],
                    share=parts_of(out)[0],
                    span=0,
                )
            case cluster.GatherOp():
                out = _placed(op.out)
                self._emit(
                    f"gather.{_line(out)}",
                    x=self._at(op.out),
                    d=self._at(op.part),
                    bytes=self._bytes(op.part),
                    total=self._bytes(op.out),
                    span=parts_of(out)[0] if len(out.parts) else 0,
                )
            case cluster.ReadOp() | cluster.WriteOp():
                self._lower_transfer(op)
            case cluster.GroupReduceOp():
                x = self._at(op.cells)
                for line, span in (("row", op.cols), ("col", op.rows)):
                    if span.value.data > 1:
                        self._emit(f"reduce.{line}", x=x, length=1, span=span.value.data)
            case cluster.ExchangeOp():
                rows, cols = op.rows.value.data, op.cols.value.data
                self._emit("put", x=self._at(op.cells), g=0, length=1, rows=rows, cols=cols)
                rows, cols = op.to_rows.value.data, op.to_cols.value.data
                self._emit("get", x=self._at(op.sums), g=0, length=op.sums.type.count, rows=rows, cols=cols)
            case _:
                self._lower_elementwise(op)

    def _lower_elementwise(self, op: Operation) -> None:
        match op:
            case cluster.MultiplyOp():
                self._emit(
                    "madd",
                    d=self._at(op.out),
                    v=self._at(op.basis),
                    c=self._at(op.sums),
                    count=op.sums.type.count,
                    length=self._held(op.out),
                    accumulate=0,
                    pieces=shift_of(op.pieces),
                )
            case cluster.ReplicaReduceOp():
                line, replicas = _line(op.x.type), parts_of(op.x.type)[0]
                self._emit(f"allreduce.{line}", x=self._at(op.x), length=self._held(op.x), span=replicas)
                self._emit(
                    f"part.{line}",
                    d=self._at(op.out),
                    x=self._at(op.x),
                    bytes=self._bytes(op.out),
                    total=self._bytes(op.x),
                    share=1,
                    span=replicas,
                )
            case cluster.MinusOp():
                self._emit("sub", x=self._at(op.x), y=self._at(op.y), length=self._held(op.x))
            case cluster.SumOp():
                self._emit("sum", d=self._at(op.out), x=self._at(op.cells), length=op.cells.type.count)
            case _:
                super()._lower_operation(op)

    def _lower_each(self, each: cluster.EachOp) -> None:
        self._vector_pointers = {}
        start = len(self._operations)
        location = self._location
        for op in each.body.block.ops:
            self._lower(op)
        body, self._operations = self._operations[start:], self._operations[:start]
        self._location = location
        self._begin(self._vector_pointers)
        self._labels += 1
        label = f"each{self._labels}"
        self._emit("loop", count=self._count(each), end=label)
        self._operations += body
        self._advance(self._vector_pointers)
        self._label(label)

    def _lower_transfer(self, op: cluster.ReadOp | cluster.WriteOp) -> None:
        """Each cluster of a column has its bytes of a vector in the bank, one after another."""
        assert isinstance(op.room.owner, cluster.BankRoomOp)
        assert op.room.owner.offset is not None
        size, room = self._bytes(op.data), _placed(op.room)
        step = size * self._machine.grid.rows
        offset = op.room.owner.offset.value.data + shift_of(op.shift) * step
        if op.index is None or not isinstance(room, BasisType):
            self._bank_pointer(offset)
            bank = self._bank
        elif _is_of_each(op.index):
            bank = self._vector_pointer(step, BASE_REGISTER, offset)
        else:
            bank = self._turn_pointer(step, BASE_REGISTER, offset)
        mnemonic, token = ("ld", _READ) if isinstance(op, cluster.ReadOp) else ("st", _WRITTEN)
        self._emit(mnemonic, buffer=self._at(op.data), bank=bank, bytes=size, stride=size, rows=0, cols=0, token=token)

    def _vector_at(self, room: SSAValue, index: SSAValue | None, shift: int = 0) -> int:
        """The address of a vector of a basis: the first, that of a loop over vectors, or that of the turn."""
        if index is None:
            return self._at(room)
        return self._vector_of_each(room) if _is_of_each(index) else self._vector(room, shift)

    def _vector_of_each(self, room: SSAValue) -> int:
        return BUFFER.pack(self._vector_pointer(self._vector_bytes(room)), self._offset(room))

    def _vector_pointer(self, step: int, base: int = 0, start: int = 0) -> int:
        """As `_turn_pointer`, of the loop over vectors."""
        return self._vector_pointers.setdefault((base, start, step), _LAST_POINTER - len(self._vector_pointers))

    def _held(self, vector: SSAValue) -> int:
        """Elements of a vector in a cluster."""
        placed = _placed(vector)
        return length_in(placed, self._slices[f"slice_{placed.axis.data}"])

    def _bytes(self, room: SSAValue) -> int:
        """Of a vector, or of one vector of a basis, in a cluster."""
        placed = _placed(room)
        return alloc_bytes(placed, self._slices) // (placed.shape[0] if isinstance(placed, BasisType) else 1)


def _placed(room: SSAValue) -> _Placed:
    assert isinstance(room.type, _Placed)
    return room.type


def _element(room: _Placed) -> int:
    """Bytes of an element."""
    return 2 if isinstance(room, BasisType) else 4


def _line(room: _Placed) -> str:
    """The line of clusters that holds a slice along the columns, or along the rows, in parts."""
    return "col" if room.axis.data == COLS else "row"


def _is_of_each(index: SSAValue) -> bool:
    return isinstance(index.owner.parent_op(), cluster.EachOp)
