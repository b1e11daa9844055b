"""`dcom-preserve-decomposed`: let products of a factored activation stay factored (the paper's Eq. 6)."""

from dataclasses import dataclass
from typing import cast

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, TensorType
from xdsl.dialects.linalg.ops import MatmulOp as LinalgMatmulOp
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint

from dialects.dcom import Element, MatmulOp, ReconstructOp
from passes._build import add, building, structured
from passes._sites import erase_dead, starts_from_zero


@dataclass(frozen=True)
class DcomPreserveDecomposedPass(ModulePass):
    """Move reconstruction down past matmuls: V* = V W replaces (U core V) W, and q, k and v share one decomposition.

    A matmul that accumulates onto a tensor adds that tensor after reconstruction. Before:

        %approximation = dcom.reconstruct %factors : …
        %q = linalg.matmul {dcom.role = "q_proj"} ins(%approximation, %w : …) outs(%zero : …) -> …

    and after:

        %q_factors = dcom.matmul %factors, %w {dcom.role = "q_proj"} : …
        %q = dcom.reconstruct %q_factors : …
    """

    name = "dcom-preserve-decomposed"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in op.ops:
            for region in function.regions:
                for block in region.blocks:
                    pending = [found for found in block.ops if isinstance(found, ReconstructOp)]
                    while pending:
                        pending += _push_down(pending.pop())


def _push_down(reconstruct: ReconstructOp) -> list[ReconstructOp]:
    """Replace each matmul of a reconstructed activation, and the reconstruction where nothing else uses it.

    Returns the reconstructions of the products.
    """
    below: list[ReconstructOp] = []
    element = reconstruct.input.type.element_type
    for use in list(reconstruct.result.uses):
        matmul = use.operation
        if not isinstance(matmul, LinalgMatmulOp) or use.index != 0:
            continue
        weight, initial, product = matmul.inputs[1], matmul.outputs[0], matmul.res[0]
        weight_type, type_ = cast(TensorType[Element], weight.type), cast(TensorType[Element], product.type)
        if weight_type.element_type != element or type_.element_type != element:
            continue
        result = reconstruct.input.type.with_cols(weight_type.get_shape()[1])
        with building(InsertPoint.before(matmul), matmul.location):
            factors = MatmulOp(reconstruct.input, weight, result)
            below.append(ReconstructOp(factors.result, type_))
            dense = below[-1].result
            if not starts_from_zero(matmul):
                dense = structured("sn,sn->sn", [dense, initial], element, add)
        factors.attributes.update(matmul.attributes)
        factors.result.name_hint = f"{product.name_hint}_factors" if product.name_hint else "factors"
        dense.name_hint = product.name_hint
        product.replace_all_uses_with(dense)
        erase_dead(product)
    erase_dead(reconstruct.result)
    return below
