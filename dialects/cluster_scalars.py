"""Scalars of the `cluster` dialect: binary32 values between cells and the vectors that they scale."""

from xdsl.dialects.builtin import Float32Type, FloatAttr, IndexType, f32
from xdsl.ir import SSAValue
from xdsl.irdl import IRDLOperation, base, irdl_op_definition, opt_operand_def, prop_def, result_def, traits_def
from xdsl.traits import Pure

from dialects.cluster_types import CellsType, operand


@irdl_op_definition
class LoadOp(IRDLOperation):
    """The scalar in cell 0."""

    name = "cluster.load"

    cells = operand(CellsType)
    result = result_def(f32)

    assembly_format = "$cells attr-dict `:` type($cells)"

    def __init__(self, cells: SSAValue) -> None:
        super().__init__(operands=[cells], result_types=[f32])


@irdl_op_definition
class StoreOp(IRDLOperation):
    """cells[index] = value."""

    name = "cluster.store"

    value = operand(Float32Type)
    cells = operand(CellsType)
    index = opt_operand_def(base(IndexType))

    assembly_format = "$value `,` $cells (`[` $index^ `]`)? attr-dict `:` type($cells)"

    def __init__(self, value: SSAValue, cells: SSAValue, index: SSAValue | None = None) -> None:
        super().__init__(operands=[value, cells, index])


@irdl_op_definition
class ConstantOp(IRDLOperation):
    """A binary32 constant."""

    name = "cluster.constant"

    value = prop_def(FloatAttr[Float32Type])
    result = result_def(f32)

    traits = traits_def(Pure())
    assembly_format = "$value attr-dict"

    def __init__(self, value: float) -> None:
        super().__init__(properties={"value": FloatAttr(value, f32)}, result_types=[f32])


class _BinaryOp(IRDLOperation):
    """A scalar from two."""

    lhs = operand(Float32Type)
    rhs = operand(Float32Type)
    result = result_def(f32)

    traits = traits_def(Pure())
    assembly_format = "$lhs `,` $rhs attr-dict"

    def __init__(self, lhs: SSAValue, rhs: SSAValue) -> None:
        super().__init__(operands=[lhs, rhs], result_types=[f32])


@irdl_op_definition
class MulOp(_BinaryOp):
    """lhs * rhs in binary32."""

    name = "cluster.mul"


@irdl_op_definition
class MaxOp(_BinaryOp):
    """The greater of two scalars."""

    name = "cluster.max"


@irdl_op_definition
class RsqrtOp(IRDLOperation):
    """1 / sqrt(value)."""

    name = "cluster.rsqrt"

    value = operand(Float32Type)
    result = result_def(f32)

    traits = traits_def(Pure())
    assembly_format = "$value attr-dict"

    def __init__(self, value: SSAValue) -> None:
        super().__init__(operands=[value], result_types=[f32])


@irdl_op_definition
class WhereGreaterOp(IRDLOperation):
    """value where lhs > rhs, else 0: after a breakdown, and beside a NaN, the scale that makes later vectors zero."""

    name = "cluster.where_greater"

    lhs = operand(Float32Type)
    rhs = operand(Float32Type)
    value = operand(Float32Type)
    result = result_def(f32)

    traits = traits_def(Pure())
    assembly_format = "$lhs `,` $rhs `,` $value attr-dict"

    def __init__(self, lhs: SSAValue, rhs: SSAValue, value: SSAValue) -> None:
        super().__init__(operands=[lhs, rhs, value], result_types=[f32])
