"""`dcom-preserve-decomposed`: let products of a factored activation stay factored (the paper's Eq. 6 and 7)."""

from dataclasses import dataclass
from typing import cast

from xdsl.context import Context
from xdsl.dialects import arith
from xdsl.dialects.builtin import ModuleOp, StringAttr, TensorType
from xdsl.dialects.linalg.ops import GenericOp
from xdsl.dialects.linalg.ops import MatmulOp as LinalgMatmulOp
from xdsl.ir import SSAValue
from xdsl.ir.affine import AffineExpr, AffineMap
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint

from dialects.dcom import Element, MatmulOp, ReconstructOp, ScaleOp, WeightMatmulOp, WeightType
from passes._build import add, building, structured
from passes._sites import erase_dead, starts_from_zero
from passes._stops import why_stopped

STOPPED = "dcom.stopped"
"""The attribute of a reconstruction that says why it stands where it does."""


@dataclass(frozen=True)
class DcomPreserveDecomposedPass(ModulePass):
    """Move reconstruction down past matmuls and scalings, so that q, k and v share one decomposition.

    V* = V W replaces (U core V) W; a matmul that accumulates onto a tensor adds that tensor after reconstruction. An
    elementwise product with a vector over the rows or the channels scales U or V. A weight in factors gives a new core,
    (U core V) (U_W core_W V_W) = U (core (V U_W) core_W) V_W (Eq. 5 and 7). Before:

        %approximation = dcom.reconstruct %factors : …
        %q = linalg.matmul {dcom.role = "q_proj"} ins(%approximation, %w : …) outs(%zero : …) -> …

    and after:

        %q_factors = dcom.matmul %factors, %w {dcom.role = "q_proj"} : …
        %q = dcom.reconstruct %q_factors {dcom.stopped = "a bias, … (model.layers.10.self_attn.q_proj (…:155))"} : …

    Each reconstruction that is left says in `dcom.stopped` what reads it and why that needs the dense tensor.
    """

    name = "dcom-preserve-decomposed"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in op.ops:
            for region in function.regions:
                for block in region.blocks:
                    pending = [found for found in block.ops if isinstance(found, ReconstructOp)]
                    while pending:
                        pending += _push_down(pending.pop())
                    order = {found: position for position, found in enumerate(block.ops)}
                    for left in [found for found in order if isinstance(found, ReconstructOp)]:
                        left.attributes[STOPPED] = StringAttr(why_stopped(left, order) or "nothing reads it")


def _push_down(reconstruct: ReconstructOp) -> list[ReconstructOp]:
    """Replace each linear operation on a reconstructed activation, and the reconstruction where nothing else uses it.

    Returns the reconstructions of the results.
    """
    below: list[ReconstructOp] = []
    for use in list(reconstruct.result.uses):
        match use.operation:
            case LinalgMatmulOp() | WeightMatmulOp() as matmul if use.index == 0:
                below += _matmul(reconstruct, matmul)
            case GenericOp() as generic:
                below += _scale(reconstruct, generic, use.index)
            case _:
                pass
    erase_dead(reconstruct.result)
    return below


def _matmul(reconstruct: ReconstructOp, matmul: LinalgMatmulOp | WeightMatmulOp) -> list[ReconstructOp]:
    weight, product = matmul.operands[1], matmul.results[0]
    weight_type, type_ = cast(TensorType[Element] | WeightType, weight.type), cast(TensorType[Element], product.type)
    element = reconstruct.input.type.element_type
    if weight_type.element_type != element or type_.element_type != element:
        return []
    result = reconstruct.input.type.times(weight_type)
    with building(InsertPoint.before(matmul), matmul.location):
        factors = MatmulOp(reconstruct.input, weight, result)
        below = ReconstructOp(factors.result, type_)
        dense = below.result
        if isinstance(matmul, LinalgMatmulOp) and not starts_from_zero(matmul):
            dense = structured("sn,sn->sn", [dense, matmul.outputs[0]], element, add)
    factors.attributes.update(matmul.attributes)
    _take_place(product, dense, factors.result)
    return [below]


def _scale(reconstruct: ReconstructOp, generic: GenericOp, index: int) -> list[ReconstructOp]:
    """Where `generic` multiplies each row, or each channel, by an element of a vector."""
    axis = _scaled_axis(generic, index)
    product = generic.results[0]
    scales = generic.inputs[1 - index] if axis is not None else None
    if axis is None or scales is None or product.type != reconstruct.result.type:
        return []
    if cast(TensorType[Element], scales.type).element_type != reconstruct.input.type.element_type:
        return []
    with building(InsertPoint.before(generic), generic.location):
        factors = ScaleOp(reconstruct.input, scales, axis).result
        below = ReconstructOp(factors, reconstruct.result.type)
    _take_place(product, below.result, factors)
    return [below]


def _scaled_axis(generic: GenericOp, index: int) -> str | None:
    """What `generic` multiplies operand `index` by: one scale for each of `rows` or `channels`; None for neither."""
    maps = [attribute.data for attribute in generic.indexing_maps]
    if len(generic.inputs) != 2 or index > 1 or len(generic.results) != 1 or maps[index].num_dims != 2:
        return None
    identity = AffineMap.identity(2)
    body = list(generic.body.block.ops)
    if maps[index] != identity or maps[2] != identity or len(body) != 2 or not isinstance(body[0], arith.MulfOp):
        return None
    if set(body[0].operands) != set(generic.body.block.args[:2]):
        return None
    axes = {AffineExpr.dimension(0): "rows", AffineExpr.dimension(1): "channels"}
    scales = maps[1 - index].results
    return axes.get(scales[0]) if len(scales) == 1 else None


def _take_place(product: SSAValue, dense: SSAValue, factors: SSAValue) -> None:
    """Let `dense`, reconstructed from `factors`, stand for `product`, which goes."""
    factors.name_hint = f"{product.name_hint}_factors" if product.name_hint else "factors"
    dense.name_hint = product.name_hint
    product.replace_all_uses_with(dense)
    erase_dead(product)
