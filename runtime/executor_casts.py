"""Changes of element type that need not be made as arrays of their own.

A model in half precision is traced with its products in float32: each operand is widened, the product is narrowed.
Where all that uses a widened value takes the narrow one as well, for the same result, nothing is widened; and a product
whose only use is to be narrowed is made in the element type that is wanted.
"""

from collections.abc import Mapping, Sequence

from xdsl.dialects import arith, tensor
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import Operation, SSAValue, Use

from dialects import dcom
from runtime.executor_arrays import Value
from runtime.executor_block import Fusion, Host, Kernel, binary, element_dtype, filled_with, unary
from runtime.executor_dcom import reconstruction
from runtime.executor_views import loop_dims


def fuse_casts(operations: Sequence[Operation], host: Host) -> Mapping[Operation, Fusion]:
    """Widenings among `operations` that become nothing, and narrowings that become one with the product before."""
    here = frozenset(operations)
    fusions: dict[Operation, Fusion] = {}
    for op in operations:
        if not isinstance(op, linalg.GenericOp):
            continue
        if _converts(op, arith.ExtFOp) and all(map(_takes_narrow, op.results[0].uses)):
            fusions[op] = Fusion(unary(_same), (op.inputs[0],), frozenset())
        elif _converts(op, arith.TruncFOp):
            product, uses = op.inputs[0].owner, list(op.inputs[0].uses)
            if isinstance(product, Operation) and product in here and len(uses) == 1:
                kernel = _narrow_product(product, op.results[0], host)
                if kernel is not None:
                    fusions[op] = Fusion(kernel, tuple(product.operands[:2]), frozenset({product}))
    return fusions


def _same(x: Value) -> Value:
    return x


def _converts(op: linalg.GenericOp, kind: type[Operation]) -> bool:
    """Whether an operation does nothing but change the element type of a tensor, so."""
    first, last = op.body.block.first_op, op.body.block.last_op
    return (
        isinstance(first, kind)
        and last is not None
        and tuple(first.operands) == op.body.block.args[:1]
        and tuple(last.operands) == tuple(first.results)
        and len({attribute.data for attribute in op.get_indexing_maps()}) == 1
    )


def _takes_narrow(use: Use) -> bool:
    """Whether a use of a value may be given it in a narrower element type that holds it."""
    match use.operation:
        case linalg.MatmulOp():
            return use.index < 2
        case dcom.DecomposeOp(energy=None) | dcom.ProjectOp():
            return use.index == 0
        case dcom.OutlierSplitOp() | dcom.TokenSplitOp() | linalg.TransposeOp() as op:
            return use.index == 0 and all(map(_takes_narrow, op.results[0].uses))
        case tensor.CollapseShapeOp() | tensor.ExpandShapeOp() as op:
            return all(map(_takes_narrow, op.results[0].uses))
        case dcom.MatmulOp() | dcom.ExactTrackOp() | dcom.OutlierMatmulOp() | dcom.TokenMatmulOp():
            return use.index == 1
        case _:
            return False


def _narrow_product(op: Operation, result: SSAValue, host: Host) -> Kernel | None:
    """The kernel of a product whose result is narrowed to the type of `result`; None where it is none."""
    dtype = element_dtype(result.type, op)
    match op:
        case dcom.ReconstructOp():
            return reconstruction(op, dtype, host)
        case linalg.MatmulOp() if filled_with(op.outputs[0]) == 0 and _is_plain(op):
            return binary(lambda a, b: host.arrays.product(a, b, dtype))
        case _:
            return None


def _is_plain(op: linalg.MatmulOp) -> bool:
    return [loop_dims(attribute.data) for attribute in op.get_indexing_maps()] == [[0, 2], [2, 1], [0, 1]]
