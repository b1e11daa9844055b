"""Operations of the `dcom` dialect on factors as such: tracks side by side, heads, and products from the left.

A track is one column of U with its row of V. A bias, exact channels and exact tokens are tracks as well, so that a sum
with them stays factored: [U1 U2] diag(core1, core2) [V1; V2] = U1 core1 V1 + U2 core2 V2.
"""

from collections.abc import Sequence
from math import prod
from typing import cast

from xdsl.dialects.builtin import I64, IntegerAttr, TensorType
from xdsl.interfaces import HasCanonicalizationPatternsInterface, HasFolderInterface
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import IRDLOperation, ParsePropInAttrDict, base, irdl_op_definition, prop_def, result_def, traits_def
from xdsl.pattern_rewriter import RewritePattern
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from dialects.dcom_rules import DENSE, WEIGHT, i64_attr, operand, verify_result, verify_rows, verify_weight
from dialects.dcom_types import Element, FactoredType, OutliersType, TokensType


def _verify_own_v(type_: FactoredType) -> None:
    if type_.weight_rank.data:
        raise VerifyException(f"{type_} has the V of a weight, not one of each block's own")


def _verify_heads(count: int, heads: int, what: str) -> None:
    if heads < 1 or count % heads:
        raise VerifyException(f"{count} {what} are not {heads} heads of equal size")


@irdl_op_definition
class BiasTrackOp(IRDLOperation):
    """A bias, added to every row, as a factored value of rank 1: U is all ones, the core 1, and V the bias.

    `bias` [N], of the result's element type.
    """

    name = "dcom.bias_track"

    bias = operand(DENSE)
    result = result_def(FactoredType)

    traits = traits_def(Pure())
    assembly_format = "$bias attr-dict `:` type($bias) `->` type($result)"

    def __init__(self, bias: SSAValue, result: FactoredType) -> None:
        super().__init__(operands=[bias], result_types=[result])

    def verify_(self) -> None:
        type_ = self.result.type
        if self.bias.type != TensorType(type_.element_type, [type_.dimensions[2]]):
            raise VerifyException(f"bias is {self.bias.type}, but {type_} has another number or type of channels")
        verify_result(type_, type_.with_rank(1))


@irdl_op_definition
class ExactTrackOp(IRDLOperation):
    """The product of exact channels or tokens with a weight, as a factored value of rank C, their capacity.

    For channels, U holds their values and V their rows of the weight, W[indices, :]. For tokens, U[s, c] is 1 where row
    s is the token in slot c, else 0, and V holds the products of the tokens with the weight. The core is the identity.
    Where the result is in blocks, each block has its rows of U, and all blocks of a prompt the same V.

    `weight` [H, N], dense or in factors, of the element type; products are summed in float32.
    """

    name = "dcom.exact_track"

    input = operand(base(OutliersType) | base(TokensType))
    weight = operand(WEIGHT)
    result = result_def(FactoredType)

    traits = traits_def(Pure())
    assembly_format = "$input `,` $weight attr-dict `:` type($input) `,` type($weight) `->` type($result)"

    def __init__(self, source: SSAValue, weight: SSAValue, result: FactoredType) -> None:
        super().__init__(operands=[source, weight], result_types=[result])

    def verify_(self) -> None:
        batch, rows, cols = self.input.type.dimensions
        verify_weight(self.weight.type, cols, self.input.type.element_type)
        type_ = self.result.type
        shape = (batch, rows, self.weight.type.get_shape()[1])
        block = min(type_.block.data, rows)
        verify_result(
            type_, FactoredType.get(*shape, self.input.type.capacity.data, self.input.type.element_type, block)
        )


@irdl_op_definition
class ConcatOp(IRDLOperation):
    """The sum of two factored values of the same shape, of rank R1 + R2: tracks side by side, a block-diagonal core."""

    name = "dcom.concat"

    first = operand(FactoredType)
    second = operand(FactoredType)
    result = result_def(FactoredType)

    traits = traits_def(Pure())
    assembly_format = "$first `,` $second attr-dict `:` type($first) `,` type($second) `->` type($result)"

    def __init__(self, first: SSAValue[FactoredType], second: SSAValue[FactoredType]) -> None:
        result = first.type.with_rank(first.type.rank.data + second.type.rank.data)
        super().__init__(operands=[first, second], result_types=[result])

    def verify_(self) -> None:
        first, second = self.first.type, self.second.type
        for type_ in (first, second):
            _verify_own_v(type_)
        if first.with_rank(1) != second.with_rank(1):
            raise VerifyException(f"{first} and {second} differ in more than the rank")
        verify_result(self.result.type, first.with_rank(first.rank.data + second.rank.data))


@irdl_op_definition
class SliceOp(IRDLOperation, HasFolderInterface):
    """Take consecutive channels: the columns of V from `offset` on, as many as the result has; U and core stay."""

    name = "dcom.slice"

    input = operand(FactoredType)
    offset = prop_def(IntegerAttr[I64])
    """The first channel, counted from 0."""
    result = result_def(FactoredType)

    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(Pure())
    assembly_format = "$input attr-dict `:` type($input) `->` type($result)"

    def __init__(self, source: SSAValue[FactoredType], offset: int, cols: int) -> None:
        super().__init__(
            operands=[source],
            result_types=[source.type.sliced(cols)],
            properties={"offset": i64_attr(offset)},
        )

    def fold(self) -> Sequence[SSAValue | Attribute] | None:
        """All channels are the value itself."""
        return [self.input] if self.result.type == self.input.type else None

    def verify_(self) -> None:
        offset, cols, of = self.offset.value.data, self.result.type.dimensions[2], self.input.type.dimensions[2]
        if not 0 <= offset <= of - cols:
            raise VerifyException(f"{cols} channels from {offset} on are not among the {of} of the input")
        verify_result(self.result.type, self.input.type.sliced(cols))


@irdl_op_definition
class SplitHeadsOp(IRDLOperation, HasFolderInterface):
    """Cut the channels into groups, and make each of the `shared` heads of a group a prompt of its own.

    With B prompts, G groups and Q heads a group, head (b, g, q) becomes prompt (b G + g) Q + q. It has the U and the
    core of prompt b, and channels g N/G to (g + 1) N/G of its V.
    """

    name = "dcom.split_heads"

    input = operand(FactoredType)
    groups = prop_def(IntegerAttr[I64])
    """G."""
    shared = prop_def(IntegerAttr[I64])
    """Q, 1 where each head has channels of its own."""
    result = result_def(FactoredType)

    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(Pure())
    assembly_format = "$input attr-dict `:` type($input) `->` type($result)"

    def __init__(self, source: SSAValue[FactoredType], groups: int, shared: int) -> None:
        super().__init__(
            operands=[source],
            result_types=[source.type.heads(groups, shared)],
            properties={"groups": i64_attr(groups), "shared": i64_attr(shared)},
        )

    def fold(self) -> Sequence[SSAValue | Attribute] | None:
        """One head that nothing shares is all of the channels."""
        return [self.input] if self.groups.value.data == self.shared.value.data == 1 else None

    def verify_(self) -> None:
        groups, shared = self.groups.value.data, self.shared.value.data
        _verify_own_v(self.input.type)
        _verify_heads(self.input.type.dimensions[2], groups, "channels")
        if shared < 1:
            raise VerifyException(f"a group is shared by {shared} heads, not by one or more")
        verify_result(self.result.type, self.input.type.heads(groups, shared))


@irdl_op_definition
class LeftMatmulOp(IRDLOperation):
    """Multiply the rows of each prompt from the left: U* = P U, core and V unchanged, as softmax(P) V does.

    `left` [..., S*, S] has a matrix for each prompt, and is f16 or f32 by itself; the result has S* rows a prompt, in
    one block, since P mixes the rows of all blocks. A prompt of M blocks with R tracks each gives a result of M R
    tracks: P X is the sum over blocks of (P_b U_b) core_b V_b, where P_b are the columns of P that meet the rows of
    block b. So the core is block-diagonal, and the V stand below one another. Products are summed in float32.
    """

    name = "dcom.left_matmul"

    left = operand(DENSE)
    input = operand(FactoredType)
    result = result_def(FactoredType)

    traits = traits_def(Pure())
    assembly_format = "$left `,` $input attr-dict `:` type($left) `,` type($input) `->` type($result)"

    def __init__(self, left: SSAValue, source: SSAValue[FactoredType]) -> None:
        rows = cast(TensorType[Element], left.type).get_shape()[-2]
        super().__init__(operands=[left, source], result_types=[source.type.left_times(rows)])

    def verify_(self) -> None:
        batch, rows, _ = self.input.type.dimensions
        shape = self.left.type.get_shape()
        if len(shape) < 2 or (prod(shape[:-2]), shape[-1]) != (batch, rows):
            raise VerifyException(f"left is {self.left.type}, not {batch} matrices of {rows} columns")
        if self.input.type.block.data != rows and self.input.type.weight_rank.data:
            raise VerifyException(f"prompts in blocks of {self.input.type.block.data} have the V of a weight")
        verify_result(self.result.type, self.input.type.left_times(shape[-2]))


@irdl_op_definition
class HeadMatmulOp(IRDLOperation, HasCanonicalizationPatternsInterface):
    """Multiply each of `heads` heads by its own rows of a weight: prompt b H + h by W[h N : (h + 1) N, :].

    The product of the heads side by side with the weight is the sum of the results over the heads of a prompt.
    `weight` [H*N, N*], of the element type; products are summed in float32.
    """

    name = "dcom.head_matmul"

    input = operand(FactoredType)
    weight = operand(DENSE)
    heads = prop_def(IntegerAttr[I64])
    result = result_def(FactoredType)

    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(Pure())
    assembly_format = "$input `,` $weight attr-dict `:` type($input) `,` type($weight) `->` type($result)"

    def __init__(self, source: SSAValue[FactoredType], weight: SSAValue, heads: int) -> None:
        cols = cast(TensorType[Element], weight.type).get_shape()[1]
        super().__init__(
            operands=[source, weight],
            result_types=[source.type.with_cols(cols)],
            properties={"heads": i64_attr(heads)},
        )

    @classmethod
    def get_canonicalization_patterns(cls) -> tuple[RewritePattern, ...]:
        from dialects.dcom_canonicalise import MatmulOfOneHead

        return (MatmulOfOneHead(),)

    def verify_(self) -> None:
        batch, _, cols = self.input.type.dimensions
        heads = self.heads.value.data
        _verify_own_v(self.input.type)
        _verify_heads(batch, heads, "prompts")
        verify_weight(self.weight.type, heads * cols, self.input.type.element_type)
        verify_result(self.result.type, self.input.type.with_cols(self.weight.type.get_shape()[1]))


@irdl_op_definition
class ReconstructHeadsOp(IRDLOperation, HasCanonicalizationPatternsInterface):
    """Reconstruct and sum the heads of each prompt, sum_h U_h (core_h V_h), as one product over heads and tracks.

    `input` holds the `heads` heads of each of B prompts, prompt-major; the result is [B*S, N], of the factors' element
    type; products are summed in float32.
    """

    name = "dcom.reconstruct_heads"

    input = operand(FactoredType)
    heads = prop_def(IntegerAttr[I64])
    result = result_def(DENSE)

    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(Pure())
    assembly_format = "$input attr-dict `:` type($input) `->` type($result)"

    def __init__(self, source: SSAValue[FactoredType], heads: int) -> None:
        batch, rows, cols = source.type.dimensions
        dense = TensorType(source.type.element_type, [batch // heads * rows, cols])
        super().__init__(operands=[source], result_types=[dense], properties={"heads": i64_attr(heads)})

    @classmethod
    def get_canonicalization_patterns(cls) -> tuple[RewritePattern, ...]:
        from dialects.dcom_canonicalise import ReconstructOneHead

        return (ReconstructOneHead(),)

    def verify_(self) -> None:
        type_, heads = self.input.type, self.heads.value.data
        _verify_own_v(type_)
        _verify_heads(type_.dimensions[0], heads, "prompts")
        if type_.block.data != type_.dimensions[1]:
            raise VerifyException("the sum over heads takes prompts of one block")
        verify_rows(self.result.type, type_.with_batch(type_.dimensions[0] // heads))
