"""The `cluster` dialect, Level 2: vector kernels with explicit placement on the grid of clusters.

A kernel is one instruction stream over the whole grid. Cluster (r, c) holds a block of the matrix; a vector along the
matrix's columns is cut over the cluster columns and is the same in every cluster of a column, and one along its rows is
cut over the cluster rows. `lower-dcom-to-cluster` writes a kernel, `cluster-map` says how large each cluster's slice
is, `cluster-schedule` places everything in the buffers and banks, and `lower-cluster-to-isa` makes the instructions.
"""

from typing import cast

from xdsl.dialects.builtin import (
    DictionaryAttr,
    Float32Type,
    IndexType,
    IntegerAttr,
    StringAttr,
    SymbolNameConstraint,
)
from xdsl.ir import Attribute, Dialect, Region, SSAValue
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
from xdsl.traits import IsolatedFromAbove, NoTerminator, SymbolOpInterface
from xdsl.utils.exceptions import VerifyException

from dialects.cluster_partial import (
    BankRoomOp,
    DotOp,
    EachOp,
    ExchangeOp,
    GatherOp,
    GroupReduceOp,
    MinusOp,
    MultiplyOp,
    PartOp,
    ProjectOutOp,
    ReadOp,
    ReplicaReduceOp,
    SumOp,
    WriteOp,
)
from dialects.cluster_scalars import (
    ConstantOp,
    LoadOp,
    MaxOp,
    MulOp,
    RsqrtOp,
    StoreOp,
    WhereGreaterOp,
)
from dialects.cluster_types import (
    COLS,
    ROWS,
    BasisType,
    CellsType,
    MatrixType,
    VectorType,
    operand,
    shift_attr,
)


@irdl_op_definition
class KernelOp(IRDLOperation):
    """A Lanczos kernel. `cluster-map` adds `mapping`, `cluster-schedule` adds `banks` and the offsets inside."""

    name = "cluster.kernel"

    sym_name = prop_def(SymbolNameConstraint())
    seed = opt_prop_def(IntegerAttr)
    """The seed of the start vector; without one the vector is the same in each row."""
    mapping = opt_prop_def(DictionaryAttr)
    """Which group of clusters holds a matrix, and what of it each cluster: see `cluster-map`."""
    streams = opt_prop_def(DictionaryAttr)
    """Where several streams run it, on equal rectangles of clusters, how many of these are `down` and `across`."""
    banks = opt_prop_def(DictionaryAttr)
    """The fields of `runtime.program.KernelLayout` that are bank addresses."""
    body = region_def("single_block")

    traits = traits_def(SymbolOpInterface(), IsolatedFromAbove(), NoTerminator())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$sym_name attr-dict-with-keyword $body"

    def __init__(self, name: str, seed: int | None, body: Region) -> None:
        start = None if seed is None else IntegerAttr(seed, 64)
        super().__init__(properties={"sym_name": StringAttr(name), "seed": start}, regions=[body])


@irdl_op_definition
class MatrixOp(IRDLOperation):
    """The activation. Scheduled, it is `resident` in the buffers at `offset`, or streams through in `chunks`."""

    name = "cluster.matrix"

    chunks = opt_prop_def(IntegerAttr)
    """Pieces in which a pass reads it, by tile rows; 1 where it is resident."""
    offset = opt_prop_def(IntegerAttr)
    """The offset of the buffer bytes that hold it, or two pieces of it."""
    matrix = result_def(base(MatrixType))

    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "attr-dict `:` type($matrix)"

    def __init__(self, matrix: MatrixType) -> None:
        super().__init__(result_types=[matrix])


@irdl_op_definition
class AllocOp(IRDLOperation):
    """Room in every cluster's buffer; scheduled, at `offset`."""

    name = "cluster.alloc"

    offset = opt_prop_def(IntegerAttr)
    room = result_def(base(BasisType) | base(VectorType) | base(CellsType))

    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "attr-dict `:` type($room)"

    def __init__(self, room: BasisType | VectorType | CellsType) -> None:
        super().__init__(result_types=[room])


@irdl_op_definition
class ZeroOp(IRDLOperation):
    """Set all of an allocation to zero."""

    name = "cluster.zero"

    room = operand_def(base(BasisType) | base(VectorType) | base(CellsType))

    assembly_format = "$room attr-dict `:` type($room)"

    def __init__(self, room: SSAValue) -> None:
        super().__init__(operands=[room])


@irdl_op_definition
class LoadStartOp(IRDLOperation):
    """Load the unit start vector into vector 0 of a basis along the rows."""

    name = "cluster.load_start"

    basis = operand(BasisType)

    assembly_format = "$basis attr-dict `:` type($basis)"

    def __init__(self, basis: SSAValue) -> None:
        super().__init__(operands=[basis])

    def verify_(self) -> None:
        if self.basis.type.axis.data != ROWS:
            raise VerifyException(f"the start vector lies along '{ROWS}'")


@irdl_op_definition
class ForOp(IRDLOperation):
    """Run the body `count` times; its argument is the number of the turn, from 0."""

    name = "cluster.for"

    count = prop_def(IntegerAttr)
    body = region_def("single_block")

    traits = traits_def(NoTerminator())
    assembly_format = "$count attr-dict-with-keyword $body"

    def __init__(self, count: int, body: Region) -> None:
        super().__init__(properties={"count": IntegerAttr(count, 64)}, regions=[body])

    def verify_(self) -> None:
        if [argument.type for argument in self.body.block.args] != [IndexType()]:
            raise VerifyException("the body takes the number of the turn, an index")


class _MatvecOp(IRDLOperation):
    """A product with vector `index + shift` of a basis: each cluster computes the partial sums of its block."""

    matrix = operand(MatrixType)
    basis = operand(BasisType)
    index = operand(IndexType)
    shift = opt_prop_def(IntegerAttr)
    out = operand(VectorType)

    assembly_format = (
        "$matrix `,` $basis `[` $index (`shift` $shift^)? `]` `into` $out attr-dict "
        "`:` type($matrix) `,` type($basis) `,` type($out)"
    )

    def __init__(self, matrix: SSAValue, basis: SSAValue, index: SSAValue, out: SSAValue, shift: int = 0) -> None:
        super().__init__(operands=[matrix, basis, index, out], properties={"shift": shift_attr(shift)})

    def _verify_axes(self, source: str, target: str) -> None:
        matrix, basis, out = self.matrix.type, self.basis.type, self.out.type
        if (basis.axis.data, out.axis.data) != (source, target):
            raise VerifyException(f"expected a basis along '{source}' and a result along '{target}'")
        if (basis.shape[1], out.length) != (matrix.length(source), matrix.length(target)):
            raise VerifyException("the lengths of basis and result do not fit the matrix")


@irdl_op_definition
class MatvecOp(_MatvecOp):
    """out = A basis[index + shift], by row reduction in the tiles."""

    name = "cluster.matvec"

    def verify_(self) -> None:
        self._verify_axes(COLS, ROWS)


@irdl_op_definition
class MatvecTransposedOp(_MatvecOp):
    """out = A^T basis[index + shift], by column reduction in the same tiles."""

    name = "cluster.matvec_transposed"

    def verify_(self) -> None:
        self._verify_axes(ROWS, COLS)


@irdl_op_definition
class AllReduceOp(IRDLOperation):
    """Sum over the clusters `across` one side of the grid, and leave the result in each of them.

    Where `data` are cells, the first `count + shift` are summed, each by itself.
    """

    name = "cluster.all_reduce"

    data = operand_def(base(VectorType) | base(CellsType))
    count = cast(SSAValue[IndexType] | None, opt_operand_def(base(IndexType)))
    shift = opt_prop_def(IntegerAttr)
    across = prop_def(StringAttr)

    assembly_format = "$data (`first` $count^)? (`shift` $shift^)? `across` $across attr-dict `:` type($data)"

    def __init__(self, data: SSAValue, across: str, count: SSAValue | None = None, shift: int = 0) -> None:
        super().__init__(
            operands=[data, count],
            properties={"across": StringAttr(across), "shift": shift_attr(shift)},
        )

    def verify_(self) -> None:
        if self.across.data not in (ROWS, COLS):
            raise VerifyException(f"across '{ROWS}' or '{COLS}', not '{self.across.data}'")
        if self.count is None and self.shift is not None:
            raise VerifyException("a shift adds to a count, and there is none")
        if isinstance(self.data.type, VectorType):
            if self.count is not None:
                raise VerifyException("a vector is reduced whole")
            if self.data.type.axis.data == self.across.data:
                raise VerifyException(f"a vector along '{self.across.data}' has no partial sums across them")


class _BasisOp(IRDLOperation):
    """An operation on vectors of a basis."""

    def _verify_fit(self, basis: BasisType, vector: VectorType) -> None:
        if (basis.shape[1], basis.axis) != (vector.length, vector.axis):
            raise VerifyException("basis and vector differ in length or axis")


@irdl_op_definition
class DotsOp(_BasisOp):
    """into[i] = basis[i] . x for i < count + shift, of the slices that each cluster has."""

    name = "cluster.dots"

    basis = operand(BasisType)
    x = operand(VectorType)
    out = operand(CellsType)
    count = operand(IndexType)
    shift = opt_prop_def(IntegerAttr)
    pieces = opt_prop_def(IntegerAttr)

    assembly_format = (
        "$basis `,` $x `into` $out `first` $count (`shift` $shift^)? (`pieces` $pieces^)? attr-dict "
        "`:` type($basis) `,` type($x) `,` type($out)"
    )

    def __init__(
        self, basis: SSAValue, x: SSAValue, out: SSAValue, count: SSAValue, shift: int = 0, pieces: int = 0
    ) -> None:
        super().__init__(operands=[basis, x, out, count], properties=_counts(shift, pieces))

    def verify_(self) -> None:
        self._verify_fit(self.basis.type, self.x.type)


@irdl_op_definition
class SubtractOp(_BasisOp):
    """x -= cells[i] basis[i] for i < count + shift: one pass of Gram-Schmidt."""

    name = "cluster.subtract"

    basis = operand(BasisType)
    cells = operand(CellsType)
    x = operand(VectorType)
    count = operand(IndexType)
    shift = opt_prop_def(IntegerAttr)
    pieces = opt_prop_def(IntegerAttr)

    assembly_format = (
        "$basis `,` $cells `from` $x `first` $count (`shift` $shift^)? (`pieces` $pieces^)? attr-dict "
        "`:` type($basis) `,` type($cells) `,` type($x)"
    )

    def __init__(
        self, basis: SSAValue, cells: SSAValue, x: SSAValue, count: SSAValue, shift: int = 0, pieces: int = 0
    ) -> None:
        super().__init__(operands=[basis, cells, x, count], properties=_counts(shift, pieces))

    def verify_(self) -> None:
        self._verify_fit(self.basis.type, self.x.type)


@irdl_op_definition
class Norm2Op(IRDLOperation):
    """into[0] = x . x, of the slices that each cluster has."""

    name = "cluster.norm2"

    x = operand(VectorType)
    out = operand(CellsType)
    pieces = opt_prop_def(IntegerAttr)

    assembly_format = "$x `into` $out (`pieces` $pieces^)? attr-dict `:` type($x) `,` type($out)"

    def __init__(self, x: SSAValue, out: SSAValue, pieces: int = 0) -> None:
        super().__init__(operands=[x, out], properties={"pieces": shift_attr(pieces)})


@irdl_op_definition
class ScaleOp(_BasisOp):
    """basis[index + shift] = binary16(x * by)."""

    name = "cluster.scale"

    x = operand(VectorType)
    by = operand(Float32Type)
    basis = operand(BasisType)
    index = operand(IndexType)
    shift = opt_prop_def(IntegerAttr)
    pieces = opt_prop_def(IntegerAttr)

    assembly_format = (
        "$x `by` $by `into` $basis `[` $index (`shift` $shift^)? `]` (`pieces` $pieces^)? attr-dict "
        "`:` type($x) `,` type($basis)"
    )

    def __init__(
        self, x: SSAValue, by: SSAValue, basis: SSAValue, index: SSAValue, shift: int = 0, pieces: int = 0
    ) -> None:
        super().__init__(operands=[x, by, basis, index], properties=_counts(shift, pieces))

    def verify_(self) -> None:
        self._verify_fit(self.basis.type, self.x.type)


@irdl_op_definition
class OutputOp(IRDLOperation):
    """Write a basis or cells to the banks as output `name` of the kernel: u, v, alpha or beta."""

    name = "cluster.output"

    data = operand_def(base(BasisType) | base(CellsType))
    output = prop_def(StringAttr)

    assembly_format = "$data `as` $output attr-dict `:` type($data)"

    def __init__(self, data: SSAValue, output: str) -> None:
        super().__init__(operands=[data], properties={"output": StringAttr(output)})

    def verify_(self) -> None:
        if self.output.data not in OUTPUTS:
            raise VerifyException(f"no output '{self.output.data}'; known: {', '.join(OUTPUTS)}")


OUTPUTS = ("u", "v", "alpha", "beta")


def _counts(shift: int, pieces: int) -> dict[str, Attribute | None]:
    """Properties that stand only where they are not 0."""
    return {"shift": shift_attr(shift), "pieces": shift_attr(pieces)}


Cluster = Dialect(
    "cluster",
    [
        AllocOp,
        AllReduceOp,
        BankRoomOp,
        ConstantOp,
        DotOp,
        DotsOp,
        EachOp,
        ExchangeOp,
        ForOp,
        GatherOp,
        GroupReduceOp,
        KernelOp,
        LoadOp,
        LoadStartOp,
        MatrixOp,
        MatvecOp,
        MatvecTransposedOp,
        MaxOp,
        MinusOp,
        MulOp,
        MultiplyOp,
        Norm2Op,
        OutputOp,
        PartOp,
        ProjectOutOp,
        ReadOp,
        ReplicaReduceOp,
        RsqrtOp,
        ScaleOp,
        StoreOp,
        SubtractOp,
        SumOp,
        WhereGreaterOp,
        WriteOp,
        ZeroOp,
    ],
    [BasisType, CellsType, MatrixType, VectorType],
)
