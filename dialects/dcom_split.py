"""The operations of the `dcom` dialect that keep channels and tokens exact beside a decomposition."""

from collections.abc import Sequence

from xdsl.dialects.builtin import I64, Float32Type, FloatAttr, IntegerAttr, StringAttr, f32
from xdsl.interfaces import HasCanonicalizationPatternsInterface, HasFolderInterface
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_op_definition,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.pattern_rewriter import RewritePattern
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from dialects.dcom_rules import (
    DENSE,
    WEIGHT,
    i64_attr,
    operand,
    opt_operand,
    verify_place,
    verify_result,
    verify_rows,
    verify_weight,
    weight_type,
)
from dialects.dcom_types import OutliersType, TokensType


@irdl_op_definition
class OutlierSplitOp(IRDLOperation, HasCanonicalizationPatternsInterface):
    """Split the largest channels of each prompt from the rest (the paper's section 4).

    The score of a channel of a prompt is the sum of its squares, or, with a threshold, the count of its elements with
    magnitude above the threshold. The rank of channel h is the number of channels with a higher score, or with an
    equal score and a lower index. A channel is selected when its rank is below the capacity and its score above the
    cutoff: 0, or `min_count - 1` with a threshold. `dense` is the input with the selected channels zero; slot `rank`
    of `outliers` is the channel itself.

    `dense` f16 or f32 [B*S, H]; `outliers` values [B*S, C], indices [B, C].
    """

    name = "dcom.outlier_split"

    input = operand(DENSE)
    layer = prop_def(IntegerAttr[I64])
    site = prop_def(StringAttr)
    capacity = prop_def(IntegerAttr[I64])
    threshold = opt_prop_def(FloatAttr[Float32Type])
    """The magnitude above which an element counts."""
    min_count = opt_prop_def(IntegerAttr[I64])
    """The count of an outlier channel, 1 or more; with a threshold only."""
    dense = result_def(DENSE)
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
                "layer": i64_attr(layer),
                "site": StringAttr(site),
                "capacity": i64_attr(outliers.capacity.data),
                "threshold": None if threshold is None else FloatAttr(threshold, f32),
                "min_count": None if min_count is None else i64_attr(min_count),
            },
        )

    @classmethod
    def get_canonicalization_patterns(cls) -> tuple[RewritePattern, ...]:
        from dialects.dcom_canonicalise import NothingSplitOff

        return (NothingSplitOff(),)

    def verify_(self) -> None:
        verify_place(self.layer, self.site)
        verify_rows(self.input.type, self.outliers.type)
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
class OutlierMatmulOp(IRDLOperation, HasCanonicalizationPatternsInterface):
    """Multiply the outlier channels of each prompt by their rows of a weight: values W[indices, :].

    `weight` [H, N], dense or in factors, of the activation's element type; the result is [B*S, N]; products are summed
    in float32.
    """

    name = "dcom.outlier_matmul"

    input = operand(OutliersType)
    weight = operand(WEIGHT)
    result = result_def(DENSE)

    traits = traits_def(Pure())
    assembly_format = "$input `,` $weight attr-dict `:` type($input) `,` type($weight) `->` type($result)"

    def __init__(self, source: SSAValue[OutliersType], weight: SSAValue) -> None:
        super().__init__(operands=[source, weight], result_types=[source.type.times(weight_type(weight))])

    @classmethod
    def get_canonicalization_patterns(cls) -> tuple[RewritePattern, ...]:
        from dialects.dcom_canonicalise import ProductOfNothing

        return (ProductOfNothing(),)

    def verify_(self) -> None:
        verify_weight(self.weight.type, self.input.type.dimensions[2], self.input.type.element_type)
        verify_result(self.result.type, self.input.type.times(self.weight.type))


@irdl_op_definition
class TokenSplitOp(IRDLOperation, HasFolderInterface):
    """Split the tokens (rows) of largest energy of each prompt from the rest, to keep them exact.

    The score of a row is the sum of its squares, rounded to bfloat16. (An RMSNorm without weights gives all rows the
    same energy, up to how a library rounds; such rows then count as equal, unless a value halfway between two of
    bfloat16 lies between them.) The rank of a row is the number of rows of its prompt with a higher score, or with an
    equal score and a lower index. A row is selected when its rank is below the capacity and its score above 0. `dense`
    is the input with the selected rows zero; slot `rank` of `tokens` is the row itself.

    With `like`, the rows are those that another split selected, each in the same slot; a slot of `like` whose values
    are all zero is unused.

    `dense` f16 or f32 [B*S, H]; `tokens` values [B, C, H], indices [B, C].
    """

    name = "dcom.token_split"

    input = operand(DENSE)
    like = opt_operand(TokensType)
    layer = prop_def(IntegerAttr[I64])
    site = prop_def(StringAttr)
    capacity = prop_def(IntegerAttr[I64])
    dense = result_def(DENSE)
    tokens = result_def(TokensType)

    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(Pure())
    assembly_format = (
        "$input (`like` $like^ `:` type($like))? attr-dict `:` type($input) `->` type($dense) `,` type($tokens)"
    )

    def __init__(
        self,
        source: SSAValue | Operation,
        tokens: TokensType,
        *,
        layer: int,
        site: str,
        like: SSAValue | None = None,
    ) -> None:
        value = SSAValue.get(source)
        super().__init__(
            operands=[value, like],
            result_types=[value.type, tokens],
            properties={
                "layer": i64_attr(layer),
                "site": StringAttr(site),
                "capacity": i64_attr(tokens.capacity.data),
            },
        )

    def fold(self) -> Sequence[SSAValue | Attribute] | None:
        """The tokens that a split of the same tensor has selected are already split off."""
        match self.like.owner if self.like is not None else None:
            case TokenSplitOp(like=None) as split if split.input == self.input:
                return [split.dense, split.tokens]
            case _:
                return None

    def verify_(self) -> None:
        verify_place(self.layer, self.site)
        verify_rows(self.input.type, self.tokens.type)
        if self.dense.type != self.input.type:
            raise VerifyException("the dense result has not the type of the input")
        capacity = self.tokens.type.capacity.data
        if self.capacity.value.data != capacity:
            raise VerifyException(f"capacity {self.capacity.value.data} differs from {capacity} in the type")
        if self.like is not None:
            batch, rows, _ = self.like.type.dimensions
            if (batch, rows, self.like.type.capacity.data) != (*self.tokens.type.dimensions[:2], capacity):
                raise VerifyException(f"{self.like.type} selects other numbers of rows than {self.tokens.type}")


@irdl_op_definition
class TokenMatmulOp(IRDLOperation):
    """Multiply the exact tokens of each prompt by a weight: rows `indices` of the result are values W, others zero.

    `weight` [H, N], dense or in factors, of the activation's element type; the result is [B*S, N]; products are summed
    in float32.
    """

    name = "dcom.token_matmul"

    input = operand(TokensType)
    weight = operand(WEIGHT)
    result = result_def(DENSE)

    traits = traits_def(Pure())
    assembly_format = "$input `,` $weight attr-dict `:` type($input) `,` type($weight) `->` type($result)"

    def __init__(self, source: SSAValue[TokensType], weight: SSAValue) -> None:
        super().__init__(operands=[source, weight], result_types=[source.type.times(weight_type(weight))])

    def verify_(self) -> None:
        verify_weight(self.weight.type, self.input.type.dimensions[2], self.input.type.element_type)
        verify_result(self.result.type, self.input.type.times(self.weight.type))
