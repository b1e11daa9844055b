"""What the operations of the `dcom` dialect share: sites, operands, and the rules that several of them check."""

from typing import TypeVar, cast

from xdsl.dialects.builtin import I64, Float16Type, Float32Type, IntegerAttr, StringAttr, TensorType, i64
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import IRDLAttrConstraint, base, operand_def, opt_operand_def
from xdsl.utils.exceptions import VerifyException

from dcomc.diagnostics import did_you_mean
from dialects.dcom_types import Element, FactoredType, OutliersType, TokensType, WeightType

SITES: dict[str, tuple[str, ...]] = {
    "qkv": ("q_proj", "k_proj", "v_proj"),
    "o": ("o_proj",),
    "gate_up": ("gate_proj", "up_proj"),
    "down": ("down_proj",),
}
"""The sites of a decoder layer whose input is decomposed, with the roles of the matmuls that read that input."""


def unknown_site(name: str) -> str:
    """A hint for a name that is no site: that of a projection, such as `q` or `q_proj`, is answered by its site."""
    roles = {role: site for site, roles in SITES.items() for role in roles}
    return did_you_mean(name, SITES, {**roles, **{role.removesuffix("_proj"): site for role, site in roles.items()}})


GRAM_SCHMIDT = ("classical", "modified")
"""How a vector is made orthogonal to those before: to all at once, or to one after another."""

MOST_PASSES = 8
"""Gram-Schmidt passes a vector that a decomposition may ask for: two are enough, and each is code in its kernel."""

STARTS = ("random", "mean")

DENSE = TensorType.constr(base(Float16Type) | base(Float32Type))

WEIGHT: IRDLAttrConstraint[TensorType[Element] | WeightType] = DENSE | base(WeightType)
"""A weight [H, N], dense or in factors."""


Operand = TypeVar("Operand", bound=Attribute)


def operand(constraint: IRDLAttrConstraint[Operand]) -> SSAValue[Operand]:
    """`operand_def`, with the type that its constraint implies."""
    return cast(SSAValue[Operand], operand_def(constraint))


def opt_operand(constraint: IRDLAttrConstraint[Operand] | type[Operand]) -> SSAValue[Operand] | None:
    """`opt_operand_def`, with the type that its constraint implies."""
    return cast(SSAValue[Operand] | None, opt_operand_def(constraint))


def i64_attr(value: int) -> IntegerAttr[I64]:
    return IntegerAttr(value, i64)


def verify_place(layer: IntegerAttr[I64], site: StringAttr) -> None:
    """The rules of the attributes that say where in the model an operation stands."""
    if layer.value.data < 0:
        raise VerifyException(f"layer {layer.value.data} is negative")
    if site.data not in SITES:
        raise VerifyException(f"unknown site '{site.data}', expected one of {', '.join(SITES)}")


def verify_rows(tensor: TensorType[Element], typed: FactoredType | OutliersType | TokensType) -> None:
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


def verify_result(result: Attribute, inferred: Attribute) -> None:
    """The rule of a result whose type follows from operands and attributes."""
    if result != inferred:
        raise VerifyException(f"result type {result} is not {inferred}")


def weight_type(weight: SSAValue) -> TensorType[Element] | WeightType:
    """The type of a weight; whether it is one is for the verifier to say."""
    return cast(TensorType[Element] | WeightType, weight.type)


def verify_weight(weight: TensorType[Element] | WeightType, cols: int, element: Element) -> None:
    """The rules of the weight [H, N] that multiplies H channels."""
    if len(weight.get_shape()) != 2 or weight.get_shape()[0] != cols:
        raise VerifyException(f"weight is not a matrix of {cols} rows, one for each channel")
    if weight.element_type != element:
        raise VerifyException(f"weight holds {weight.element_type}, but the activation {element}")
