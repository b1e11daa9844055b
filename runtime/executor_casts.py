"""Changes of element type that need not be made as arrays of their own.

A model in half precision is traced with its products in float32: each operand is widened, the product is narrowed.
Where all that uses a widened value takes the narrow one as well, for the same result, nothing is widened; and a product
whose only use is to be narrowed is made in the element type that is wanted. In the bodies of elementwise operations,
what is widened, computed and narrowed again is computed by the library's kernel for the narrow type.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from xdsl.dialects import arith, math, tensor
from xdsl.dialects.builtin import BFloat16Type, Float16Type, FloatAttr
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import Operation, SSAValue, Use

from dialects import dcom
from runtime.executor_arrays import Arrays, Function, Value
from runtime.executor_block import Fusion, Host, Kernel, binary, element_dtype, filled_with, unary
from runtime.executor_dcom import reconstruction
from runtime.executor_scalar import silu
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


_ARITHMETIC: dict[type[Operation], Function] = {
    arith.AddfOp: np.add,
    arith.SubfOp: np.subtract,
    arith.MulfOp: np.multiply,
    arith.DivfOp: np.divide,
}
"""What libraries compute of numbers of 16 bits in float32, and round once: the same bits as where it is written so."""


def fuse_arithmetic(operations: Sequence[Operation], arrays: Arrays) -> Mapping[Operation, Fusion]:
    """In a body, of a and b of 16 bits: `truncf(extf(a) + extf(b))` as a + b, `truncf(extf(a))` as a; so, too, silu."""
    here = frozenset(operations)
    fusions: dict[Operation, Fusion] = {}
    for op in operations:
        narrow = isinstance(op, arith.TruncFOp) and isinstance(op.results[0].type, BFloat16Type | Float16Type)
        wide = op.operands[0].owner if narrow else None
        if not isinstance(wide, Operation) or wide not in here:
            continue
        kernel, inputs, chain = unary(_same), tuple(op.operands), list[Operation]()
        if isinstance(wide, arith.DivfOp) and (gate := _gate(wide)):
            kernel, inputs, chain = unary(arrays.function(silu)), (wide.operands[0],), [wide, *gate]
        elif type(wide) in _ARITHMETIC:
            kernel, inputs, chain = binary(arrays.function(_ARITHMETIC[type(wide)])), tuple(wide.operands), [wide]
        widened = [x.owner for x in inputs if isinstance(x.owner, arith.ExtFOp)]
        sources = tuple(x.operands[0] for x in widened if x.operands[0].type == op.results[0].type)
        if len(sources) == len(inputs) and here.issuperset(chain) and _used_by(chain, {op, *chain}):
            unused = [x for x in widened if x in here and _used_by([x], {op, *chain})]
            fusions[op] = Fusion(kernel, sources, frozenset([*chain, *unused]))
    return fusions


def _used_by(operations: Sequence[Operation], users: set[Operation]) -> bool:
    """Whether nothing but `users` uses what these operations make."""
    return all(use.operation in users for op in operations for result in op.results for use in result.uses)


def _gate(op: arith.DivfOp) -> list[Operation]:
    """The operations of 1 + exp(-x), where `op` is x / (1 + exp(-x)), which is silu."""
    x, total = op.operands[0], op.operands[1].owner
    terms = [operand.owner for operand in total.operands] if isinstance(total, arith.AddfOp) else []
    ones = [term for term in terms if isinstance(term, arith.ConstantOp) and _is_one(term)]
    powers = [term for term in terms if isinstance(term, math.ExpOp)]
    if not isinstance(total, Operation) or not len(ones) == len(powers) == 1:
        return []
    negative = powers[0].operands[0].owner
    return [total, powers[0], negative] if isinstance(negative, arith.NegfOp) and negative.operands[0] is x else []


def _is_one(op: arith.ConstantOp) -> bool:
    return isinstance(op.value, FloatAttr) and op.value.value.data == 1


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
