"""Operations of the `cluster` dialect on one vector at a time: modified Gram-Schmidt, and its reductions in parts.

The step `c = v . x; x -= c v` is `dot`, `all_reduce` and `project_out`. Expanded (the paper's Fig. 9c), vectors are cut
over all clusters, which form groups; a group's partial sum goes through the global memory to replicas in every group:

    cluster.dot, cluster.group_reduce      (1) the partial sum of each group
    cluster.exchange                       (2) once through the global memory
    cluster.multiply                       (3) each replica, by its share of the partial sums
    cluster.replica_reduce, cluster.minus  (4) the correction, within the group
"""

from xdsl.dialects.builtin import ArrayAttr, IndexType, IntAttr, IntegerAttr
from xdsl.ir import Region, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    ParsePropInAttrDict,
    base,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
)
from xdsl.traits import NoTerminator
from xdsl.utils.exceptions import VerifyException

from dialects.cluster_types import BasisType, CellsType, VectorType, operand, parts_of, shift_attr


def _parts(value: SSAValue) -> ArrayAttr[IntAttr]:
    assert isinstance(value.type, BasisType | VectorType)
    return value.type.parts


@irdl_op_definition
class EachOp(IRDLOperation):
    """Run the body for each of the first `count + shift` vectors; its argument is the number of the vector."""

    name = "cluster.each"

    count = operand(IndexType)
    shift = opt_prop_def(IntegerAttr)
    body = region_def("single_block")

    traits = traits_def(NoTerminator())
    assembly_format = "`first` $count (`shift` $shift^)? attr-dict-with-keyword $body"

    def __init__(self, count: SSAValue, body: Region, shift: int = 0) -> None:
        super().__init__(operands=[count], properties={"shift": shift_attr(shift)}, regions=[body])

    def verify_(self) -> None:
        if [argument.type for argument in self.body.block.args] != [IndexType()]:
            raise VerifyException("the body takes the number of a vector, an index")


def verify_same_place(basis: BasisType, vector: VectorType) -> None:
    """Raise `VerifyException` unless a cluster holds the same elements of both."""
    if (basis.shape[1], basis.axis, basis.parts) != (vector.length, vector.axis, vector.parts):
        raise VerifyException("basis and vector differ in length, axis or parts")


@irdl_op_definition
class DotOp(IRDLOperation):
    """into[0] = basis[index] . x, of what each cluster has of them; without an index, of vector 0."""

    name = "cluster.dot"

    basis = operand(BasisType)
    index = opt_operand_def(base(IndexType))
    x = operand(VectorType)
    out = operand(CellsType)
    pieces = opt_prop_def(IntegerAttr)

    assembly_format = (
        "$basis (`[` $index^ `]`)? `,` $x `into` $out (`pieces` $pieces^)? attr-dict "
        "`:` type($basis) `,` type($x) `,` type($out)"
    )

    def __init__(
        self, basis: SSAValue, x: SSAValue, out: SSAValue, index: SSAValue | None = None, pieces: int = 0
    ) -> None:
        super().__init__(operands=[basis, index, x, out], properties={"pieces": shift_attr(pieces)})

    def verify_(self) -> None:
        verify_same_place(self.basis.type, self.x.type)


@irdl_op_definition
class ProjectOutOp(IRDLOperation):
    """x -= cells[0] basis[index]; without an index, vector 0."""

    name = "cluster.project_out"

    basis = operand(BasisType)
    index = opt_operand_def(base(IndexType))
    cells = operand(CellsType)
    x = operand(VectorType)
    pieces = opt_prop_def(IntegerAttr)

    assembly_format = (
        "$basis (`[` $index^ `]`)? `,` $cells `from` $x (`pieces` $pieces^)? attr-dict "
        "`:` type($basis) `,` type($cells) `,` type($x)"
    )

    def __init__(
        self, basis: SSAValue, cells: SSAValue, x: SSAValue, index: SSAValue | None = None, pieces: int = 0
    ) -> None:
        super().__init__(operands=[basis, index, cells, x], properties={"pieces": shift_attr(pieces)})

    def verify_(self) -> None:
        verify_same_place(self.basis.type, self.x.type)


@irdl_op_definition
class PartOp(IRDLOperation):
    """Copy a cluster's parts of a slice that it holds whole; of a basis, those of its vector `index + shift`."""

    name = "cluster.part"

    source = operand_def(base(BasisType) | base(VectorType))
    index = opt_operand_def(base(IndexType))
    shift = opt_prop_def(IntegerAttr)
    out = operand_def(base(BasisType) | base(VectorType))

    assembly_format = (
        "$source (`[` $index^ (`shift` $shift^)? `]`)? `into` $out attr-dict `:` type($source) `,` type($out)"
    )

    def __init__(self, source: SSAValue, out: SSAValue, index: SSAValue | None = None, shift: int = 0) -> None:
        super().__init__(operands=[source, index, out], properties={"shift": shift_attr(shift)})

    def verify_(self) -> None:
        if len(_parts(self.source)) or not len(_parts(self.out)):
            raise VerifyException("parts are taken from a whole slice")


@irdl_op_definition
class GatherOp(IRDLOperation):
    """All-gather over a line of clusters: each has one part, and gets as many parts as the result holds."""

    name = "cluster.gather"

    part = operand_def(base(BasisType) | base(VectorType))
    out = operand_def(base(BasisType) | base(VectorType))

    assembly_format = "$part `into` $out attr-dict `:` type($part) `,` type($out)"

    def __init__(self, part: SSAValue, out: SSAValue) -> None:
        super().__init__(operands=[part, out])

    def verify_(self) -> None:
        part, out = _parts(self.part), _parts(self.out)
        if len(part) != 2 or part.data[0].data != 1 or (len(out) and out.data[1] != part.data[1]):
            raise VerifyException("what is put together is one part in each cluster")


@irdl_op_definition
class BankRoomOp(IRDLOperation):
    """Room in the banks: each holds what the clusters of its column do. Scheduled, it is at `offset`."""

    name = "cluster.bank_room"

    offset = opt_prop_def(IntegerAttr)
    room = result_def(base(BasisType) | base(VectorType))

    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "attr-dict `:` type($room)"

    def __init__(self, room: BasisType | VectorType) -> None:
        super().__init__(result_types=[room])


class _TransferOp(IRDLOperation):
    """Between room in the banks, of a basis its vector `index + shift`, and the buffers."""

    room = operand_def(base(BasisType) | base(VectorType))
    index = opt_operand_def(base(IndexType))
    shift = opt_prop_def(IntegerAttr)
    data = operand_def(base(BasisType) | base(VectorType))

    def __init__(self, room: SSAValue, data: SSAValue, index: SSAValue | None = None, shift: int = 0) -> None:
        super().__init__(operands=[room, index, data], properties={"shift": shift_attr(shift)})

    def verify_(self) -> None:
        if not isinstance(self.room.owner, BankRoomOp):
            raise VerifyException("the room is not in the banks")
        if _parts(self.room) != _parts(self.data):
            raise VerifyException("room and data differ in parts")


@irdl_op_definition
class ReadOp(_TransferOp):
    """Read from the banks."""

    name = "cluster.read"

    assembly_format = (
        "$room (`[` $index^ (`shift` $shift^)? `]`)? `into` $data attr-dict `:` type($room) `,` type($data)"
    )


@irdl_op_definition
class WriteOp(_TransferOp):
    """Write to the banks."""

    name = "cluster.write"

    assembly_format = (
        "$data `into` $room (`[` $index^ (`shift` $shift^)? `]`)? attr-dict `:` type($data) `,` type($room)"
    )


@irdl_op_definition
class GroupReduceOp(IRDLOperation):
    """Sum cells[0] over each rectangle of `rows` by `cols` clusters, into cells[0] of its first cluster."""

    name = "cluster.group_reduce"

    cells = operand(CellsType)
    rows = prop_def(IntegerAttr)
    cols = prop_def(IntegerAttr)

    assembly_format = "$cells `over` $rows `by` $cols attr-dict `:` type($cells)"

    def __init__(self, cells: SSAValue, rows: int, cols: int) -> None:
        super().__init__(operands=[cells], properties={"rows": IntegerAttr(rows, 64), "cols": IntegerAttr(cols, 64)})


@irdl_op_definition
class ExchangeOp(IRDLOperation):
    """Send cells[0] of the first cluster of each rectangle through the global memory to all clusters.

    The receivers form a repeating pattern of `to_rows` by `to_cols` clusters, over which the values are dealt: each
    keeps its share in `sums`, the first cluster of the pattern the first values. With 1 by 1 every cluster keeps all.
    """

    name = "cluster.exchange"

    cells = operand(CellsType)
    rows = prop_def(IntegerAttr)
    cols = prop_def(IntegerAttr)
    sums = operand(CellsType)
    to_rows = prop_def(IntegerAttr)
    to_cols = prop_def(IntegerAttr)

    assembly_format = (
        "$cells `of` $rows `by` $cols `into` $sums `over` $to_rows `by` $to_cols attr-dict "
        "`:` type($cells) `,` type($sums)"
    )

    def __init__(self, cells: SSAValue, groups: tuple[int, int], sums: SSAValue, pattern: tuple[int, int]) -> None:
        numbers = {"rows": groups[0], "cols": groups[1], "to_rows": pattern[0], "to_cols": pattern[1]}
        super().__init__(
            operands=[cells, sums], properties={name: IntegerAttr(number, 64) for name, number in numbers.items()}
        )


@irdl_op_definition
class MultiplyOp(IRDLOperation):
    """out = the sum of sums[t] * basis[0] over all t, one product after another."""

    name = "cluster.multiply"

    basis = operand(BasisType)
    sums = operand(CellsType)
    out = operand(VectorType)
    pieces = opt_prop_def(IntegerAttr)

    assembly_format = (
        "$basis `,` $sums `into` $out (`pieces` $pieces^)? attr-dict `:` type($basis) `,` type($sums) `,` type($out)"
    )

    def __init__(self, basis: SSAValue, sums: SSAValue, out: SSAValue, pieces: int = 0) -> None:
        super().__init__(operands=[basis, sums, out], properties={"pieces": shift_attr(pieces)})

    def verify_(self) -> None:
        verify_same_place(self.basis.type, self.out.type)


@irdl_op_definition
class ReplicaReduceOp(IRDLOperation):
    """Sum over neighbours of a line that hold the same parts; each of them gets its own part of the sum."""

    name = "cluster.replica_reduce"

    x = operand(VectorType)
    out = operand(VectorType)

    assembly_format = "$x `into` $out attr-dict `:` type($x) `,` type($out)"

    def __init__(self, x: SSAValue, out: SSAValue) -> None:
        super().__init__(operands=[x, out])

    def verify_(self) -> None:
        if parts_of(self.out.type) != (1, parts_of(self.x.type)[1]):
            raise VerifyException("each cluster gets one part of those that are summed")


@irdl_op_definition
class MinusOp(IRDLOperation):
    """x -= y."""

    name = "cluster.minus"

    x = operand(VectorType)
    y = operand(VectorType)

    assembly_format = "$x `,` $y attr-dict `:` type($x) `,` type($y)"

    def __init__(self, x: SSAValue, y: SSAValue) -> None:
        super().__init__(operands=[x, y])

    def verify_(self) -> None:
        if self.x.type != self.y.type:
            raise VerifyException("the vectors differ in length, axis or parts")


@irdl_op_definition
class SumOp(IRDLOperation):
    """out[0] = the sum of all of `cells`, in each cluster by itself."""

    name = "cluster.sum"

    cells = operand(CellsType)
    out = operand(CellsType)

    assembly_format = "$cells `into` $out attr-dict `:` type($cells) `,` type($out)"

    def __init__(self, cells: SSAValue, out: SSAValue) -> None:
        super().__init__(operands=[cells, out])
