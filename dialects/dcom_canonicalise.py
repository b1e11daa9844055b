"""Canonicalisation of `dcom`: rewrites that leave every bit of every result as it is.

Products are rounded: (V W) W' has other bits than V (W W'), and two scalings have other bits than one by their product.
Such rewrites are decisions of passes. Canonical is what rounds nothing anew: U and V do not depend on each other, so
that scalings of rows move up to the decomposition, where those of q, k and v become one, and a projection reads U where
it was made. New operations have the locations and attributes of those that they replace.
"""

import math
from typing import TypeGuard, TypeVar

from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import DenseIntOrFPElementsAttr, FloatAttr
from xdsl.dialects.linalg.ops import FillOp
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern
from xdsl.utils.hints import isa

from dcomc.ir import locate
from dialects.dcom import MatmulOp, ProjectOp, ReconstructOp, ScaleOp
from dialects.dcom_split import OutlierMatmulOp, OutlierSplitOp
from dialects.dcom_tracks import HeadMatmulOp, ReconstructHeadsOp, SliceOp

_Op = TypeVar("_Op", bound=Operation)


class RowScalesFirst(RewritePattern):
    """A scaling of rows stands before matmuls and scalings of channels, which change V or the core alone."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ScaleOp, rewriter: PatternRewriter) -> None:
        above = op.input.owner
        if op.axis.data != "rows" or not _keeps_u(above) or not above.result.has_one_use():
            return
        scaled = _like(op, ScaleOp(above.input, op.scales, "rows"))
        below = _like(above, above.clone())
        below.operands[0] = scaled.result
        rewriter.replace(op, [scaled, below])
        rewriter.erase(above)


class BasisWhereItWasMade(RewritePattern):
    """A projection, to which U alone matters, is on the factors that U comes from."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ProjectOp, rewriter: PatternRewriter) -> None:
        above = op.basis.owner
        if isinstance(above, ProjectOp):
            op.operands[1] = above.basis
        elif _keeps_u(above):
            op.operands[1] = above.input
        else:
            return
        rewriter.notify_op_modified(op)


class MatmulOfOneHead(RewritePattern):
    """One head is a prompt, and its product with all rows of the weight a matmul."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: HeadMatmulOp, rewriter: PatternRewriter) -> None:
        if op.heads.value.data == 1:
            rewriter.replace(op, _like(op, MatmulOp(op.input, op.weight)))


class ReconstructOneHead(RewritePattern):
    """The sum over one head is its reconstruction."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ReconstructHeadsOp, rewriter: PatternRewriter) -> None:
        if op.heads.value.data == 1:
            rewriter.replace(op, _like(op, ReconstructOp(op.input)))


class NothingSplitOff(RewritePattern):
    """No magnitude is above an infinite threshold: all of the input is left."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: OutlierSplitOp, rewriter: PatternRewriter) -> None:
        if _selects_nothing(op) and op.dense.uses:
            rewriter.replace_all_uses_with(op.dense, op.input)


class ProductOfNothing(RewritePattern):
    """The product of outliers of which there are none is zero."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: OutlierMatmulOp, rewriter: PatternRewriter) -> None:
        split = op.input.owner
        if isinstance(split, OutlierSplitOp) and _selects_nothing(split):
            zero = arith.ConstantOp(FloatAttr(0.0, op.result.type.element_type))
            empty = tensor.EmptyOp([], op.result.type)
            fill = FillOp([zero.result], [empty.tensor])
            rewriter.replace(op, locate([zero, empty, fill], op.location))


def all_ones(value: SSAValue) -> bool:
    """Whether a tensor is known to hold ones alone."""
    return _splat(value) == 1


def _splat(value: SSAValue) -> float | None:
    """The number that all elements of a tensor are known to be, or that a scalar is."""
    match value.owner:
        case FillOp() as fill:
            return _splat(fill.inputs[0])
        case arith.ConstantOp() as constant:
            return _number(constant.value)
        case _:
            return None


def _number(constant: Attribute) -> float | None:
    if isa(constant, FloatAttr):
        return constant.value.data
    if isinstance(constant, DenseIntOrFPElementsAttr) and constant.is_splat():
        return float(constant.get_values()[0])
    return None


def _selects_nothing(split: OutlierSplitOp) -> bool:
    return split.threshold is not None and math.isinf(split.threshold.value.data)


def _keeps_u(op: object) -> TypeGuard[MatmulOp | HeadMatmulOp | SliceOp | ScaleOp]:
    """Whether `op` changes V or the core of its first operand alone."""
    return isinstance(op, MatmulOp | HeadMatmulOp | SliceOp) or (isinstance(op, ScaleOp) and op.axis.data == "channels")


def _like(old: Operation, new: _Op) -> _Op:
    """`new`, with the location and the attributes of `old`."""
    new.location = old.location
    new.attributes.update(old.attributes)
    return new
