"""Why a reconstruction goes no further down: what reads it that does not take factors."""

from collections.abc import Mapping

from xdsl.dialects import arith, func, math, tensor
from xdsl.dialects.linalg.attrs import IteratorType
from xdsl.dialects.linalg.ops import GenericOp, IndexOp, MatmulOp, TransposeOp, YieldOp
from xdsl.ir import Operation, Use

from dcomc.ir import describe_location
from dialects.dcom import (
    DecomposeOp,
    OutlierMatmulOp,
    OutlierSplitOp,
    ProjectOp,
    ReconstructHeadsOp,
    ReconstructOp,
    TokenMatmulOp,
    TokenSplitOp,
)
from passes._sites import converts

_SHAPES = tensor.ExpandShapeOp | tensor.CollapseShapeOp | tensor.ExtractSliceOp | tensor.CastOp | TransposeOp
"""Operations that only move elements: what reads their result is the reason."""

_LINEAR = (arith.AddfOp, arith.SubfOp, arith.MulfOp, arith.ExtFOp, arith.TruncFOp, arith.ConstantOp, YieldOp)


def why_stopped(
    reconstruct: ReconstructOp | ReconstructHeadsOp, order: Mapping[Operation, int], refusals: Mapping[Operation, str]
) -> str:
    """Each distinct reason with the place of the operation that it is about; empty where nothing reads the result.

    Args:
        order: the positions of the operations of the block, for the order of the reasons.
        refusals: why operations that are linear get the dense tensor.
    """
    readers = sorted(_readers(reconstruct, refusals), key=lambda use: order.get(use.operation, len(order)))
    reasons = dict.fromkeys(
        f"{refusals.get(use.operation) or _reason(use)} ({describe_location(use.operation.location)})"
        for use in readers
    )
    return "; ".join(reasons)


def _readers(op: Operation, refusals: Mapping[Operation, str]) -> list[Use]:
    """The uses of what `op` computes, through what only moves or converts elements and sums with exact tracks."""
    found: list[Use] = []
    pending = [op]
    while pending:
        for use in (use for result in pending.pop().results for use in result.uses):
            reader = use.operation
            moves = isinstance(reader, _SHAPES) and use.index == 0
            if reader not in refusals and (moves or converts(reader) or _adds_exact_track(reader)):
                pending.append(reader)
            else:
                found.append(use)
    return found


def _adds_exact_track(op: Operation) -> bool:
    """Whether `op` adds the product of the outlier channels or exact tokens that were split off."""
    return isinstance(op, GenericOp) and any(isinstance(x.owner, OutlierMatmulOp | TokenMatmulOp) for x in op.inputs)


def _reason(use: Use) -> str:
    match use.operation:
        case GenericOp() as op:
            return _generic(op, use.index)
        case MatmulOp() as op:
            if use.index == 0:
                return "a matmul in another element type or shape"
            return "a matmul has it as its weight" if use.index == 1 else "a matmul adds to it"
        case OutlierSplitOp() | TokenSplitOp():
            return "the largest channels or tokens are chosen among its elements"
        case DecomposeOp() | ProjectOp():
            return "it is decomposed again"
        case func.ReturnOp() | func.CallOp():
            return "it leaves the function"
        case op:
            return f"{op.name} is not known to be linear"


def _generic(op: GenericOp, index: int) -> str:
    """Why a `linalg.generic` needs its operand `index` dense."""
    body = list(op.body.block.ops)
    if any(iterator.data == IteratorType.REDUCTION for iterator in op.iterator_types):
        return "a reduction over its elements" if len(op.inputs) == 1 else "a contraction with another activation"
    if any(isinstance(inner, IndexOp) for inner in body):
        return "what is done depends on the place of an element"
    if not all(isinstance(inner, _LINEAR) for inner in body):
        others = [inner for inner in body if not isinstance(inner, _LINEAR)]
        functions = [inner for inner in others if inner.name.startswith(f"{math.Math.name}.")]
        return f"{(functions or others)[0].name} is not linear"
    maps = [attribute.data for attribute in op.indexing_maps]
    dense = [position for position in range(len(op.inputs)) if position != index and maps[position] == maps[index]]
    if any(isinstance(inner, arith.MulfOp) for inner in body):
        return "an elementwise product with another tensor" if dense else "a product that varies along rows and columns"
    if any(isinstance(inner, arith.AddfOp | arith.SubfOp) for inner in body):
        return "a sum with another tensor, which is not in this basis" if dense else "a bias, cheaper to add when dense"
    return "a copy in another order or shape"
