"""The instructions of a scheduled kernel, one operation after another."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from xdsl.dialects.builtin import IntegerAttr, LocationAttr
from xdsl.ir import Operation, SSAValue
from xdsl.utils.exceptions import VerifyException

from dialects import cluster, isa
from dialects.cluster_types import COLS, ROWS, BasisType, CellsType, VectorType, length_in, shift_of
from passes._kernel_check import refuse
from passes._kernels import only
from passes._scalar_registers import ScalarRegisters
from passes.cluster_schedule import alloc_bytes
from runtime.groups import Groups
from runtime.machine import Machine
from runtime.operands import BUFFER, COUNT, FLOAT, IMMEDIATE, OperandError
from runtime.program import KernelLayout
from runtime.sequencer import BASE_REGISTER, ROUNDS_REGISTER

_BANK, _TURN, _NEXT, _CHUNK, _FIRST_POINTER = 2, 3, 4, 5, 6
"""Integer registers: a bank address, the turn of the loop and the one after, bytes of a vector done by chunks, and
pointers into bases."""


_BEGIN, _END = "begin", "end"
"""Labels of a stream's first instruction and, where it takes several rounds, of what comes after them."""


class Lowering:
    """The instructions of one kernel that has been checked, in order."""

    def __init__(
        self, kernel: cluster.KernelOp, slices: Mapping[str, int], banks: Mapping[str, int], machine: Machine
    ) -> None:
        self._kernel, self._slices, self._banks, self._machine = kernel, slices, banks, machine
        self._operations: list[Operation] = []
        self._location: LocationAttr = kernel.location
        self._scalars = ScalarRegisters()
        self._pointers: dict[tuple[int, int, int], int] = {}
        """Registers by the one that they begin with, the bytes beyond it, and the bytes that each turn adds."""
        self._matrix = only(kernel, cluster.MatrixOp)
        self._loop = only(kernel, cluster.ForOp)
        self._layout = KernelLayout(
            rows=self._matrix.matrix.type.shape[0],
            cols=self._matrix.matrix.type.shape[1],
            iterations=self._loop.count.value.data,
            **slices,
            **banks,
        )
        self._groups = Groups.of(self._layout, machine.grid)
        self._labels = 0
        self._bank, self._stored_token = _BANK, 3
        self._started = False
        """Whether the start vector is there, which no round overwrites."""

    def kernel(self, streams: Sequence[isa.Rectangle] = ()) -> isa.KernelOp:
        """The kernel in instructions, for one stream or for several that all run them."""
        self._location = self._kernel.location
        if streams:
            self._label(_BEGIN)
        rounds = bool(streams) and self._slices["in_flight"] == 1
        if rounds:
            self._lower(only(self._kernel, cluster.LoadStartOp))
            self._started = True
            self._location = self._kernel.location
            self._emit("loop", count=COUNT.pack_register(ROUNDS_REGISTER), end=_END)
            self._clear_scalars()
        self._lower_body()
        self._location = self._kernel.location
        if rounds:
            self._add(BASE_REGISTER, BASE_REGISTER, self._layout.bank_bytes)
            self._label(_END)
        self._emit("halt")
        seed = None if self._kernel.seed is None else self._kernel.seed.value.data
        entries = [(_BEGIN, rectangle) for rectangle in streams]
        lowered = isa.KernelOp(self._kernel.sym_name.data, self._operations, self._layout, seed, entries)
        lowered.location = self._kernel.location
        return lowered

    def _lower_body(self) -> None:
        for op in self._kernel.body.block.ops:
            self._lower(op)

    def _clear_scalars(self) -> None:
        """Zeros for the steps that a round does not take, where the round before has left others."""
        for op in self._kernel.body.block.ops:
            if isinstance(op, cluster.OutputOp) and isinstance(op.data.type, CellsType):
                self._location = op.location
                self._emit("fill", x=self._at(op.data), bytes=alloc_bytes(op.data.type, self._slices))

    def _emit(self, mnemonic: str, **operands: int | str) -> None:
        instruction = isa.instruction(mnemonic, location=self._location, **operands)
        instruction.verify_()
        self._operations.append(instruction)

    def _label(self, name: str) -> None:
        label = isa.LabelOp(name)
        label.location = self._location
        self._operations.append(label)

    def _lower(self, op: Operation) -> None:
        self._location = op.location
        try:
            self._lower_operation(op)
        except (OperandError, VerifyException) as error:
            refuse(op, str(error), "no instruction holds that number")
        self._scalars.release_after(op)

    def _lower_operation(self, op: Operation) -> None:
        match op:
            case cluster.MatrixOp():
                self._prefetch()
            case cluster.AllocOp():
                pass
            case cluster.LoadStartOp() if self._started:
                pass
            case cluster.ZeroOp():
                self._emit("fill", x=self._at(op.room), bytes=alloc_bytes(op.room.type, self._slices))
            case cluster.LoadStartOp():
                size = 2 * self._slices["slice_rows"]
                self._bank_pointer(self._banks["start_offset"])
                self._stream("ld", self._at(op.basis), size, token=2, stride=size)
                self._emit("wait", token=2)
            case cluster.ForOp():
                self._lower_loop(op)
            case cluster.MatvecOp():
                x = self._vector(op.basis, shift_of(op.shift))
                self._product("mv.row", self._at(op.out), x)
            case cluster.MatvecTransposedOp():
                x = self._vector(op.basis, shift_of(op.shift))
                self._product("mv.col", self._at(op.out), x)
            case cluster.AllReduceOp():
                self._all_reduce(op)
            case cluster.DotsOp():
                self._emit(
                    "dots",
                    d=self._at(op.out),
                    basis=self._at(op.basis),
                    x=self._at(op.x),
                    count=self._count(op),
                    length=self._slice(op.x.type),
                    pieces=shift_of(op.pieces),
                )
            case cluster.SubtractOp():
                self._emit(
                    "subtract",
                    x=self._at(op.x),
                    basis=self._at(op.basis),
                    c=self._at(op.cells),
                    count=self._count(op),
                    length=self._slice(op.x.type),
                    pieces=shift_of(op.pieces),
                )
            case cluster.Norm2Op():
                self._emit(
                    "norm2",
                    d=self._at(op.out),
                    x=self._at(op.x),
                    length=self._slice(op.x.type),
                    pieces=shift_of(op.pieces),
                )
            case cluster.ScaleOp():
                self._emit(
                    "scale",
                    d=self._vector(op.basis, shift_of(op.shift)),
                    x=self._at(op.x),
                    by=self._scalars[op.by],
                    length=self._slice(op.x.type),
                    pieces=shift_of(op.pieces),
                )
            case cluster.OutputOp():
                self._lower_output(op)
            case _:
                self._lower_scalar(op)

    def _all_reduce(self, op: cluster.AllReduceOp) -> None:
        """Along the lines of clusters that hold partial sums: by trees forth, and back in the other order; in a group
        that holds its matrix folded, both ways at once."""
        lines = self._lines(op.across.data)
        parts = self._parts(op)
        if self._groups.folded:
            for line, span in lines:
                for x, length in parts:
                    self._emit(f"allreduce.{line}", x=x, length=length, span=span)
            return
        for line, span in lines:
            for x, length in parts:
                self._emit(f"reduce.{line}", x=x, length=length, span=span)
        for line, span in reversed(lines):
            for x, length in parts:
                self._emit(f"bcast.{line}", x=x, length=length, span=span)

    def _lines(self, across: str) -> list[tuple[str, int]]:
        """The lines of clusters over which a side of the matrix is cut, and how many of each take part.

        The clusters across the grid's rows are those of a column, and the other way round.
        """
        folded = self._groups.folded
        lines: list[tuple[str, int]] = []
        if across == COLS:
            lines.append(("row", self._slices["span_cols"]))
        if (across == ROWS and not folded) or (across == COLS and folded):
            lines.append(("col", self._slices["span_rows"]))
        return [(line, span) for line, span in lines if span != 1]

    def _parts(self, op: cluster.AllReduceOp) -> list[tuple[int, int]]:
        """Address and length of what is reduced at a time."""
        return [(self._at(op.data), self._length(op))]

    def _lower_scalar(self, op: Operation) -> None:
        match op:
            case cluster.ConstantOp():
                self._emit("s.li", d=self._scalars.take(op.result), value=FLOAT.pack(op.value.value.data))
            case cluster.LoadOp():
                self._emit("s.ld", d=self._scalars.take(op.result), x=self._at(op.cells))
            case cluster.StoreOp():
                x = self._at(op.cells) if op.index is None else self._vector(op.cells)
                self._emit("s.st", x=x, a=self._scalars[op.value])
            case cluster.MulOp() | cluster.MaxOp():
                a, b = self._scalars[op.lhs], self._scalars[op.rhs]
                mnemonic = "s.mul" if isinstance(op, cluster.MulOp) else "s.max"
                self._emit(mnemonic, d=self._scalars.take(op.result), a=a, b=b)
            case cluster.RsqrtOp():
                self._emit("s.rsqrt", d=self._scalars.take(op.result), a=self._scalars[op.value])
            case cluster.WhereGreaterOp():
                a, b, c = (self._scalars[operand] for operand in op.operands)
                if self._groups.count == self._slices["in_flight"] == 1:  # no other matrix needs what is to come
                    self._emit("exit.ngt", a=a, b=b, target="done")
                    self._scalars.share(op.result, op.operands[2])
                else:
                    self._emit("s.where", d=self._scalars.take(op.result), a=a, b=b, c=c)
            case _:
                refuse(op, f"{op.name} has no lowering to instructions")

    def _lower_loop(self, loop: cluster.ForOp) -> None:
        self._emit("li", d=_TURN, value=0)
        self._emit("li", d=_NEXT, value=1)
        start = len(self._operations)
        body_location = self._location
        for op in loop.body.block.ops:
            self._lower(op)
        body, self._operations = self._operations[start:], self._operations[:start]
        self._location = body_location
        self._begin(self._pointers)
        self._emit("loop", count=loop.count.value.data, end="done")
        self._operations += body
        self._location = body_location
        self._add(_TURN, _TURN, 1)
        self._add(_NEXT, _NEXT, 1)
        self._advance(self._pointers)
        self._label("done")

    def _begin(self, pointers: Mapping[tuple[int, int, int], int]) -> None:
        for (base, start, _), register in pointers.items():
            if base:
                self._add(register, base, start)
            else:
                self._emit("li", d=register, value=start)

    def _advance(self, pointers: Mapping[tuple[int, int, int], int]) -> None:
        for (_, _, step), register in pointers.items():
            self._add(register, register, step)

    def _turn_pointer(self, step: int, base: int = 0, start: int = 0) -> int:
        """A register that is `start` beyond the register `base` in the first turn, and `step` more in each."""
        return self._pointers.setdefault((base, start, step), _FIRST_POINTER + len(self._pointers))

    def _lower_output(self, op: cluster.OutputOp) -> None:
        """Each cluster stores what it alone has; what several have, the first of the group, if one instruction can."""
        size, offset = alloc_bytes(op.data.type, self._slices), self._banks.get(f"{op.output.data}_offset")
        first_row, first_col = int(self._groups.down == 1), int(self._groups.across == 1)
        stride = size
        match op.data.type:
            case BasisType() if op.data.type.axis.data == COLS:
                rows, cols = first_row if not self._groups.folded else 0, 0
            case BasisType():
                rows, cols, stride = first_row if self._groups.folded else 0, first_col, self._banks["u_stride"]
            case _:
                rows, cols, stride = first_row, first_col, 2 * size
        if offset is None:
            offset = self._banks["alpha_offset"] + (size if op.output.data == "beta" else 0)
        self._bank_pointer(offset)
        self._stream(
            "st",
            self._at(op.data),
            size,
            token=self._stored_token,
            stride=0 if rows == 1 else stride,
            rows=rows,
            cols=cols,
        )

    # The matrix: resident, or in chunks of tile rows that alternate between two halves of its room.

    @property
    def _chunks(self) -> int:
        return _number(self._matrix.chunks)

    @property
    def _chunk_rows(self) -> int:
        return self._slices["slice_rows"] // self._machine.cluster.mac_rows // self._chunks

    @property
    def _chunk_bytes(self) -> int:
        return self._chunk_rows * self._tile_cols * self._machine.tile_bytes

    @property
    def _tile_cols(self) -> int:
        return self._slices["slice_cols"] // self._machine.cluster.mac_cols

    def _half(self, half: int) -> int:
        offset = _number(self._matrix.offset) + half * self._chunk_bytes
        return BUFFER.pack(0, self._base_offset() + offset)

    def _load_chunk(self, half: int) -> None:
        self._emit(
            "ld",
            buffer=self._half(half),
            bank=_BANK,
            bytes=self._chunk_bytes,
            stride=self._banks["a_stride"],
            rows=0,
            cols=0,
            token=half,
        )

    def _prefetch(self) -> None:
        self._bank_pointer(self._banks["a_offset"])
        self._load_chunk(0)

    def _product(self, mnemonic: str, y: int, x: int) -> None:
        if self._chunks == 1:
            self._emit("wait", token=0)
            self._multiply(mnemonic, y, x, 0, accumulate=False)
            return
        # y = A x: each chunk gives its rows of y. y = A^T x: each adds its rows' share to all of y, from zero on.
        by_rows = mnemonic == "mv.row"
        step = self._chunk_rows * self._machine.cluster.mac_rows * (4 if by_rows else 2)
        if by_rows:
            self._emit("li", d=_CHUNK, value=0)
            y = BUFFER.pack(_CHUNK, y >> 5)
        else:
            self._emit("fill", x=y, bytes=4 * self._slices["slice_cols"])
            self._add(_CHUNK, x & 31, 0)
            x = BUFFER.pack(_CHUNK, x >> 5)
        self._bank_pointer(self._banks["a_offset"] + self._chunk_bytes)

        def pair(advance: Callable[[], None]) -> None:
            self._load_chunk(1)
            self._emit("wait", token=0)
            self._multiply(mnemonic, y, x, 0, accumulate=not by_rows)
            self._add(_CHUNK, _CHUNK, step)
            advance()
            self._load_chunk(0)
            self._emit("wait", token=1)
            self._multiply(mnemonic, y, x, 1, accumulate=not by_rows)
            self._add(_CHUNK, _CHUNK, step)

        turns = self._chunks // 2 - 1
        if turns:
            self._labels += 1
            label = f"pass{self._labels}"
            self._emit("loop", count=turns, end=label)
            pair(lambda: self._add(_BANK, _BANK, self._chunk_bytes))
            self._add(_BANK, _BANK, self._chunk_bytes)
            self._label(label)
        pair(lambda: self._bank_pointer(self._banks["a_offset"]))

    def _multiply(self, mnemonic: str, y: int, x: int, half: int, *, accumulate: bool) -> None:
        self._emit(
            mnemonic,
            y=y,
            a=self._half(half),
            x=x,
            rows=self._chunk_rows,
            cols=self._tile_cols,
            accumulate=int(accumulate),
        )

    # Addresses, registers and sizes.

    def _bank_pointer(self, offset: int) -> None:
        self._add(_BANK, BASE_REGISTER, offset)

    def _add(self, d: int, a: int, value: int) -> None:
        self._emit("addi", d=d, a=a, value=IMMEDIATE.pack(value))

    def _stream(
        self, mnemonic: str, buffer: int, size: int, *, token: int, stride: int, rows: int = 0, cols: int = 0
    ) -> None:
        self._emit(
            mnemonic, buffer=buffer, bank=self._bank, bytes=size, stride=stride, rows=rows, cols=cols, token=token
        )

    def _offset(self, room: SSAValue) -> int:
        assert isinstance(room.owner, cluster.AllocOp)
        return self._base_offset() + _number(room.owner.offset)

    def _base_offset(self) -> int:
        """Where in the buffer the matrix has its room."""
        return 0

    def _at(self, room: SSAValue) -> int:
        return BUFFER.pack(0, self._offset(room))

    def _vector_bytes(self, room: SSAValue) -> int:
        """Bytes from one vector of a basis, or one scalar of cells, to the next."""
        if isinstance(room.type, BasisType):
            return 2 * length_in(room.type, self._slices[f"slice_{room.type.axis.data}"])
        return 4

    def _vector(self, room: SSAValue, shift: int = 0) -> int:
        """The address of the turn's vector of a basis, or its scalar of cells, or of one `shift` further."""
        step = self._vector_bytes(room)
        return BUFFER.pack(self._turn_pointer(step), self._offset(room) + shift * step)

    def _count(self, op: cluster.DotsOp | cluster.SubtractOp | cluster.AllReduceOp | cluster.EachOp) -> int:
        """The number of vectors or cells, that of the turn plus `shift`, as a count operand."""
        return COUNT.pack_register(_NEXT if shift_of(op.shift) else _TURN)

    def _slice(self, vector: VectorType) -> int:
        return self._slices[f"slice_{vector.axis.data}"]

    def _length(self, op: cluster.AllReduceOp) -> int:
        if op.count is not None:
            return self._count(op)
        data = op.data.type
        return data.count if isinstance(data, CellsType) else self._slice(cast(VectorType, data))


def _number(attribute: IntegerAttr | None) -> int:
    assert attribute is not None
    return attribute.value.data
