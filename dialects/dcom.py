"""The `dcom` dialect, Level 1: low-rank factors of activations, and the outlier channels kept exact beside them.

An activation is a 2-D tensor of B*S rows and H channels. Its rows are prompt-major: prompt b holds rows b*S to
(b+1)*S - 1. Each prompt, or each block of T of its rows, is decomposed on its own. A block X is held as U core V (the
paper's Eq. 2), and as long as only linear operations follow, the factors take the tensor's place:
(U core V) W = U core (V W) (Eq. 6).

`dcom-legalize` lowers each operation to Level 0, and that lowering is the operation's definition.
"""

from typing import TypeVar, cast

from xdsl.dialects.builtin import (
    I64,
    Float16Type,
    Float32Type,
    FloatAttr,
    IntegerAttr,
    StringAttr,
    SymbolRefAttr,
    TensorType,
    f32,
    i64,
)
from xdsl.ir import Attribute, Dialect, Operation, SSAValue
from xdsl.irdl import (
    IRDLAttrConstraint,
    IRDLOperation,
    ParsePropInAttrDict,
    base,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from dialects.dcom_types import Element, FactoredType, OutliersType

__all__ = [
    "SITES",
    "Dcom",
    "DecomposeOp",
    "Element",
    "FactoredType",
    "MatmulOp",
    "OutlierMatmulOp",
    "OutlierSplitOp",
    "OutliersType",
    "ReconstructOp",
]

SITES: dict[str, tuple[str, ...]] = {
    "qkv": ("q_proj", "k_proj", "v_proj"),
    "o": ("o_proj",),
    "gate_up": ("gate_proj", "up_proj"),
    "down": ("down_proj",),
}
"""The sites of a decoder layer whose input is decomposed, with the roles of the matmuls that read that input."""

_Dense = TensorType.constr(base(Float16Type) | base(Float32Type))


_Type = TypeVar("_Type", bound=Attribute)


def _operand(constraint: IRDLAttrConstraint[_Type]) -> SSAValue[_Type]:
    """`operand_def`, with the type that its constraint implies."""
    return cast(SSAValue[_Type], operand_def(constraint))


def _i64(value: int) -> IntegerAttr[I64]:
    return IntegerAttr(value, i64)


def _verify_place(layer: IntegerAttr[I64], site: StringAttr) -> None:
    """The rules of the attributes that say where in the model an operation stands."""
    if layer.value.data < 0:
        raise VerifyException(f"layer {layer.value.data} is negative")
    if site.data not in SITES:
        raise VerifyException(f"unknown site '{site.data}', expected one of {', '.join(SITES)}")


def _verify_rows(tensor: TensorType[Element], typed: FactoredType | OutliersType) -> None:
    """The rules between a dense tensor of B*S rows and the B prompts of S rows of a dcom type."""
    batch, rows, cols = typed.dimensions
    if len(tensor.get_shape()) != 2:
        raise VerifyException(f"expected a tensor of rows x channels, got {len(tensor.get_shape())} dimensions")
    if tensor.get_shape()[0] != batch * rows:
        raise VerifyException(f"tensor has {tensor.get_shape()[0]} rows, but {batch} prompts of {rows} rows are needed")
    if tensor.get_shape()[1] != cols:
        raise VerifyException(f"tensor has {tensor.get_shape()[1]} channels, but the {typed.name} type has {cols}")
    if tensor.element_type != typed.element_type:
        raise VerifyException(f"tensor holds {tensor.element_type}, but the {typed.name} type {typed.element_type}")


def _verify_weight(weight: TensorType[Element], cols: int, element: Element) -> None:
    """The rules of the weight [H, N] that multiplies H channels."""
    if len(weight.get_shape()) != 2 or weight.get_shape()[0] != cols:
        raise VerifyException(f"weight is not a matrix of {cols} rows, one for each channel")
    if weight.element_type != element:
        raise VerifyException(f"weight holds {weight.element_type}, but the activation {element}")


@irdl_op_definition
class OutlierSplitOp(IRDLOperation):
    """Split the largest channels of each prompt from the rest (the paper's section 4).

    The score of a channel of a prompt is the sum of its squares, or, with a threshold, the count of its elements with
    magnitude above the threshold. The rank of channel h is the number of channels with a higher score, or with an
    equal score and a lower index. A channel is selected when its rank is below the capacity and its score above the
    cutoff: 0, or `min_count - 1` with a threshold. `dense` is the input with the selected channels zero; slot `rank`
    of `outliers` is the channel itself.

    `dense` f16 or f32 [B*S, H]; `outliers` values [B*S, C], indices [B, C].
    """

    name = "dcom.outlier_split"

    input = _operand(_Dense)
    layer = prop_def(IntegerAttr[I64])
    site = prop_def(StringAttr)
    capacity = prop_def(IntegerAttr[I64])
    threshold = opt_prop_def(FloatAttr[Float32Type])
    min_count = opt_prop_def(IntegerAttr[I64])
    dense = result_def(_Dense)
    outliers = result_def(OutliersType)

    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(Pure())
    assembly_format = "$input attr-dict `:` type($input) `->` type($dense) `,` type($outliers)"

    def __init__(
        self,
        source: SSAValue | Operation,
        outliers: OutliersType,
        *,
        layer: int,
        site: str,
        threshold: float | None = None,
        min_count: int | None = None,
    ) -> None:
        value = SSAValue.get(source)
        super().__init__(
            operands=[value],
            result_types=[value.type, outliers],
            properties={
                "layer": _i64(layer),
                "site": StringAttr(site),
                "capacity": _i64(outliers.capacity.data),
                "threshold": None if threshold is None else FloatAttr(threshold, f32),
                "min_count": None if min_count is None else _i64(min_count),
            },
        )

    def verify_(self) -> None:
        _verify_place(self.layer, self.site)
        _verify_rows(self.input.type, self.outliers.type)
        if self.dense.type != self.input.type:
            raise VerifyException("the dense result has not the type of the input")
        if self.capacity.value.data != self.outliers.type.capacity.data:
            raise VerifyException(
                f"capacity {self.capacity.value.data} differs from {self.outliers.type.capacity.data} in the type"
            )
        if (self.threshold is None) != (self.min_count is None):
            raise VerifyException("threshold and min_count come together or not at all")
        if self.threshold is not None and not self.threshold.value.data >= 0:
            raise VerifyException(f"threshold {self.threshold.value.data} is not zero or more")
        rows = self.outliers.type.dimensions[1]
        if self.min_count is not None and not 1 <= self.min_count.value.data <= rows:
            raise VerifyException(
                f"min_count {self.min_count.value.data} is not between 1 and the {rows} rows of a prompt"
            )


@irdl_op_definition
class DecomposeOp(IRDLOperation):
    """Decompose each block by Lanczos bidiagonalisation with reorthogonalisation (the paper's Algorithm 1).

    The result's type says what a block is: a prompt, or T rows of it, the last ones filled up with zero rows.

    After k = `iterations` steps, or fewer at a breakdown, X ~ U B V with B bidiagonal; the SVD P diag(s) Q^T of B then
    truncates to the rank R: U P[:, :R], core diag(s[:R]), Q^T[:R] V. Where nothing is cut off (R = k, or a breakdown
    after at most R steps) the factors stay U, B, V, with zero columns for missing steps. `runtime/lanczos.py` is the
    definition; `kernel` names the accelerator's program for it, once there is one.

    `input` f16 or f32 [B*S, H]; the result has the same shape and element type, at rank R <= k <= min(T, H).
    """

    name = "dcom.decompose"

    input = _operand(_Dense)
    layer = prop_def(IntegerAttr[I64])
    site = prop_def(StringAttr)
    iterations = prop_def(IntegerAttr[I64])
    reorthogonalisation = prop_def(IntegerAttr[I64])
    seed = prop_def(IntegerAttr[I64])
    kernel = opt_prop_def(SymbolRefAttr)
    factors = result_def(FactoredType)

    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(Pure())
    assembly_format = "$input attr-dict `:` type($input) `->` type($factors)"

    def __init__(
        self,
        source: SSAValue | Operation,
        factors: FactoredType,
        *,
        layer: int,
        site: str,
        iterations: int,
        reorthogonalisation: int = 2,
        seed: int = 0,
        kernel: str | None = None,
    ) -> None:
        super().__init__(
            operands=[SSAValue.get(source)],
            result_types=[factors],
            properties={
                "layer": _i64(layer),
                "site": StringAttr(site),
                "iterations": _i64(iterations),
                "reorthogonalisation": _i64(reorthogonalisation),
                "seed": _i64(seed),
                "kernel": None if kernel is None else SymbolRefAttr(kernel),
            },
        )

    def verify_(self) -> None:
        _verify_place(self.layer, self.site)
        _verify_rows(self.input.type, self.factors.type)
        _, rows, cols = self.factors.type.blocks
        rank, iterations = self.factors.type.rank.data, self.iterations.value.data
        if not rank <= iterations <= min(rows, cols):
            raise VerifyException(
                f"iterations {iterations} is not between the rank {rank} and min(T, H) = {min(rows, cols)}"
            )
        if self.reorthogonalisation.value.data < 0:
            raise VerifyException(f"reorthogonalisation {self.reorthogonalisation.value.data} is negative")
        if self.seed.value.data < 0:
            raise VerifyException(f"seed {self.seed.value.data} is negative")


@irdl_op_definition
class MatmulOp(IRDLOperation):
    """Multiply a factored activation by a weight and leave it factored: V* = V W, U and core unchanged (Eq. 6).

    `weight` [H, N], of the activation's element type; products are summed in float32.
    """

    name = "dcom.matmul"

    input = _operand(FactoredType)
    weight = _operand(_Dense)
    result = result_def(FactoredType)

    traits = traits_def(Pure())
    assembly_format = "$input `,` $weight attr-dict `:` type($input) `,` type($weight) `->` type($result)"

    def __init__(self, source: SSAValue | Operation, weight: SSAValue | Operation, result: FactoredType) -> None:
        super().__init__(operands=[SSAValue.get(source), SSAValue.get(weight)], result_types=[result])

    def verify_(self) -> None:
        _verify_weight(self.weight.type, self.input.type.dimensions[2], self.input.type.element_type)
        expected = self.input.type.with_cols(self.weight.type.get_shape()[1])
        if self.result.type != expected:
            raise VerifyException(f"result type {self.result.type} is not {expected}")


@irdl_op_definition
class ReconstructOp(IRDLOperation):
    """The dense tensor of a factored one, U (core V), multiplied in that order (Eq. 4).

    The result is [B*S, N], of the factors' element type; products are summed in float32.
    """

    name = "dcom.reconstruct"

    input = _operand(FactoredType)
    result = result_def(_Dense)

    traits = traits_def(Pure())
    assembly_format = "$input attr-dict `:` type($input) `->` type($result)"

    def __init__(self, source: SSAValue | Operation, result: TensorType[Element]) -> None:
        super().__init__(operands=[SSAValue.get(source)], result_types=[result])

    def verify_(self) -> None:
        _verify_rows(self.result.type, self.input.type)


@irdl_op_definition
class OutlierMatmulOp(IRDLOperation):
    """Multiply the outlier channels of each prompt by their rows of a weight: values W[indices, :].

    `weight` [H, N], of the activation's element type; the result is [B*S, N]; products are summed in float32.
    """

    name = "dcom.outlier_matmul"

    input = _operand(OutliersType)
    weight = _operand(_Dense)
    result = result_def(_Dense)

    traits = traits_def(Pure())
    assembly_format = "$input `,` $weight attr-dict `:` type($input) `,` type($weight) `->` type($result)"

    def __init__(self, source: SSAValue | Operation, weight: SSAValue | Operation, result: TensorType[Element]) -> None:
        super().__init__(operands=[SSAValue.get(source), SSAValue.get(weight)], result_types=[result])

    def verify_(self) -> None:
        batch, rows, cols = self.input.type.dimensions
        _verify_weight(self.weight.type, cols, self.input.type.element_type)
        expected = TensorType(self.input.type.element_type, [batch * rows, self.weight.type.get_shape()[1]])
        if self.result.type != expected:
            raise VerifyException(f"result type {self.result.type} is not {expected}")


Dcom = Dialect(
    "dcom",
    [OutlierSplitOp, DecomposeOp, MatmulOp, ReconstructOp, OutlierMatmulOp],
    [FactoredType, OutliersType],
)
