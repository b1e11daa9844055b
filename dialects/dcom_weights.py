"""The operations of the `dcom` dialect on weights in factors: W ~ U core V, found when the program is compiled.

A product with such a weight goes factor by factor, and W itself is never made. `dcom.matmul`, `dcom.outlier_matmul` and
`dcom.token_matmul` take it in the place of a dense weight; `dcom.weight_matmul` multiplies a dense activation.
"""

from typing import cast

from xdsl.dialects.builtin import I64, IntegerAttr, StringAttr, TensorType
from xdsl.ir import SSAValue
from xdsl.irdl import IRDLOperation, ParsePropInAttrDict, irdl_op_definition, prop_def, result_def, traits_def
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from dialects.dcom_rules import DENSE, i64_attr, operand, verify_place, verify_result, verify_weight
from dialects.dcom_types import Element, WeightType

METHODS = {
    "svd": "the truncated singular value decomposition",
    "whitened": "the truncation that is best for the activations of a calibration text",
    "tucker2": "U and V shared by a site's weights of one shape, a core for each (Tucker-2 by HOOI)",
}
"""How factors of a weight are found (`runtime/weight_factors.py`)."""


@irdl_op_definition
class WeightOp(IRDLOperation):
    """A weight as its factors: W ~ U core V.

    The factors are found when the program is compiled, together for weights that share the values `u` and `v`.

    `u` [H, P], `core` [P, Q] and `v` [Q, N], f16 or f32.
    """

    name = "dcom.factored_weight"

    u = operand(DENSE)
    core = operand(DENSE)
    v = operand(DENSE)
    of = prop_def(StringAttr)
    """The weight's name in the model."""
    layer = prop_def(IntegerAttr[I64])
    site = prop_def(StringAttr)
    method = prop_def(StringAttr)
    """How the factors are found: `svd`, `whitened` or `tucker2` (`METHODS`)."""
    weight = cast(SSAValue[WeightType], result_def(WeightType))

    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(Pure())
    assembly_format = "$u `,` $core `,` $v attr-dict `:` type($u) `,` type($core) `,` type($v) `->` type($weight)"

    def __init__(
        self, u: SSAValue, core: SSAValue, v: SSAValue, *, of: str, layer: int, site: str, method: str
    ) -> None:
        (rows, left), (right, cols) = (cast(TensorType[Element], x.type).get_shape() for x in (u, v))
        element = cast(TensorType[Element], u.type).element_type
        super().__init__(
            operands=[u, core, v],
            result_types=[WeightType.get(rows, cols, (left, right), element)],
            properties={
                "of": StringAttr(of),
                "layer": i64_attr(layer),
                "site": StringAttr(site),
                "method": StringAttr(method),
            },
        )

    def verify_(self) -> None:
        verify_place(self.layer, self.site)
        if self.method.data not in METHODS:
            raise VerifyException(f"unknown method '{self.method.data}', expected one of {', '.join(METHODS)}")
        (rows, cols), (left, right) = self.weight.type.get_shape(), self.weight.type.ranks
        shapes = ((rows, left), (left, right), (right, cols))
        for name, value, shape in zip(("u", "core", "v"), self.operands, shapes, strict=True):
            expected = TensorType(self.weight.type.element_type, shape)
            if value.type != expected:
                raise VerifyException(f"{name} is {value.type}, but {self.weight.type} needs {expected}")


@irdl_op_definition
class WeightMatmulOp(IRDLOperation):
    """Multiply a dense activation by a weight in factors: ((X U) core) V.

    `input` f16 or f32 [S, H]; the result is [S, N], of the same element type; products are summed in float32.
    """

    name = "dcom.weight_matmul"

    input = operand(DENSE)
    weight = operand(WeightType)
    result = result_def(DENSE)

    traits = traits_def(Pure())
    assembly_format = "$input `,` $weight attr-dict `:` type($input) `,` type($weight) `->` type($result)"

    def __init__(self, source: SSAValue, weight: SSAValue[WeightType]) -> None:
        type_ = cast(TensorType[Element], source.type)
        product = TensorType(type_.element_type, [type_.get_shape()[0], weight.type.get_shape()[1]])
        super().__init__(operands=[source, weight], result_types=[product])

    def verify_(self) -> None:
        shape = self.input.type.get_shape()
        if len(shape) != 2:
            raise VerifyException(f"expected a tensor of rows x channels, got {len(shape)} dimensions")
        verify_weight(self.weight.type, shape[1], self.input.type.element_type)
        product = TensorType(self.input.type.element_type, [shape[0], self.weight.type.get_shape()[1]])
        verify_result(self.result.type, product)
