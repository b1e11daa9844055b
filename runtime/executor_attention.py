"""Causal attention among the operations of a block, for back ends that have it as one kernel.

The tracer writes attention as seven `linalg.generic`s (`dcomc.tracer.lowerings`):

    scores = Σ_d q k          masked = select(j <= i [and i < j + window], scores · scale, -inf)
    largest = max_j masked    weights = exp(masked - largest)    totals = Σ_j weights
    shares = weights / totals           mixed = Σ_j shares v

The last may be a `dcom.left_matmul` of the shares with factors: then v is U, one column a track.

They are recognised from the last backwards by what each computes: its body as an expression, its indexing maps, its
initial value. An operation that is anything else, or a value that something else uses too, and the block runs as it is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
from xdsl.dialects import arith
from xdsl.dialects.builtin import Float32Type, FloatAttr, IntegerAttr, TensorType
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import Attribute, BlockArgument, Operation, SSAValue
from xdsl.utils.hints import isa

from dialects import dcom
from runtime.executor_arrays import Arrays, Attention, Value
from runtime.executor_block import Fusion, Kernel, element_dtype, filled_with
from runtime.executor_views import loop_dims
from runtime.lanczos import Factored

Tree: TypeAlias = tuple[Any, ...]
"""An expression: `("arith.addf", a, b)`, `("input", n)`, `("output",)`, `("loop", n)`, `("number", x)`, or unknown."""

_COMMUTATIVE = ("arith.addf", "arith.mulf", "arith.maximumf", "arith.andi", "arith.addi")


def _tree(name: str, *children: Tree) -> Tree:
    """An operation, with the operands of a commutative one in a fixed order."""
    return (name, *sorted(children, key=repr)) if name in _COMMUTATIVE else (name, *children)


@dataclass(frozen=True)
class _Form:
    """What a `linalg.generic` of one result computes from its inputs."""

    loops: tuple[tuple[int, ...], ...]
    """The loops that index each input, numbered as the output's come, and then the inputs'."""
    result: Tree
    initial: float | None = None
    """What the output starts from, where the body reads it."""


_A, _B, _SUM, _I, _J = ("input", 0), ("input", 1), ("output",), ("loop", 3), ("loop", 4)
_PRODUCT = _tree("arith.addf", _SUM, _tree("arith.mulf", _A, _B))
_FULL, _ROWS = (0, 1, 2, 3, 4), (0, 1, 2, 3)
_SCORES = _Form(((0, 1, 2, 3, 5), (0, 1, 4, 5)), _PRODUCT, 0.0)
_LARGEST = _Form((_FULL,), _tree("arith.maximumf", _A, _SUM), -math.inf)
_WEIGHTS = _Form((_FULL, _ROWS), ("math.exp", ("arith.subf", _A, _B)))
_TOTALS = _Form((_FULL,), _tree("arith.addf", _A, _SUM), 0.0)
_SHARES = _Form((_FULL, _ROWS), ("arith.divf", _A, _B))
_MIXED = _Form(((0, 2, 3, 1, 5), (0, 2, 5, 4)), _PRODUCT, 0.0)


@dataclass(frozen=True)
class CausalAttention:
    """Operations of a block that together are causal attention."""

    mixed: linalg.GenericOp | dcom.LeftMatmulOp
    """The last of them."""
    operands: tuple[SSAValue, SSAValue, SSAValue]
    """q, k and v; v is in factors where the last is a `dcom.left_matmul`."""
    scale: float
    """Of the scores."""
    window: int | None
    """How many tokens each sees, itself included; all before it for None."""
    absorbed: frozenset[Operation]
    """The other operations, whose results nothing else uses."""


def find_attention(operations: Sequence[Operation]) -> dict[Operation, CausalAttention]:
    """The attentions whose operations all stand in `operations`, by the last operation of each."""
    here = frozenset(operations)
    last = (op for op in operations if isinstance(op, linalg.GenericOp | dcom.LeftMatmulOp))
    found = ((op, _match(op, here)) for op in last)
    return {op: attention for op, attention in found if attention is not None}


def fuse_attention(operations: Sequence[Operation], attention: Attention, arrays: Arrays) -> dict[Operation, Fusion]:
    """The attentions among `operations`, each as one kernel of a back end that has `attention`."""
    return {
        op: Fusion(_kernel(found, attention, arrays), found.operands, found.absorbed)
        for op, found in find_attention(operations).items()
    }


def _match(mixed: linalg.GenericOp | dcom.LeftMatmulOp, here: frozenset[Operation]) -> CausalAttention | None:
    """The attention that ends in `mixed`; None where it is none."""
    if isinstance(mixed, linalg.GenericOp) and _form(mixed) != _MIXED:
        return None
    shares, value = mixed.operands[:2]
    chain: list[Operation] = [mixed]

    def made_by(result: SSAValue, form: _Form) -> tuple[SSAValue, ...] | None:
        """The inputs of the operation that makes `result`, if it computes `form`."""
        op = result.owner
        if not isinstance(op, linalg.GenericOp) or op not in here or _form(op) != form:
            return None
        chain.append(op)
        return tuple(op.inputs)

    if (divided := made_by(shares, _SHARES)) is None or made_by(divided[1], _TOTALS) != (divided[0],):
        return None
    if (exponent := made_by(divided[0], _WEIGHTS)) is None or made_by(exponent[1], _LARGEST) != (exponent[0],):
        return None
    mask = exponent[0].owner
    if not isinstance(mask, linalg.GenericOp) or mask not in here or (masked := _mask(mask)) is None:
        return None
    chain.append(mask)
    if (factors := made_by(mask.inputs[0], _SCORES)) is None:
        return None
    query, key = factors
    inner = frozenset(chain) - {mixed}
    if any(use.operation not in chain for op in inner for use in op.results[0].uses):
        return None
    if isinstance(mixed, dcom.LeftMatmulOp):
        suits = _suit(query, key) and _suits_factors(mixed, query)
    else:
        suits = _suit(query, key, value) and isa(mixed.results[0].type, TensorType[Float32Type])
    return CausalAttention(mixed, (query, key, value), *masked, inner) if suits else None


def _suits_factors(op: dcom.LeftMatmulOp, query: SSAValue) -> bool:
    """Whether U is one block, no wider than the queries, and the same for all heads that share a key."""
    assert isa(query.type, TensorType)
    *_, shared, _, width = query.type.get_shape()
    heads = op.input.owner
    alike = isinstance(heads, dcom.SplitHeadsOp) and heads.shared.value.data == shared
    one_block = op.result.type.rank == op.input.type.rank
    return one_block and op.input.type.rank.data <= width and (alike or shared == 1)


def _suit(query: SSAValue, *others: SSAValue) -> bool:
    """Whether keys, and values, are of the element type of the queries, and as many and as long as they."""
    types = [x.type for x in (query, *others)]
    if not isa(types, list[TensorType[Attribute]]) or len({kind.element_type for kind in types}) > 1:
        return False
    tokens, width = types[0].get_shape()[3:]
    return all(kind.get_shape()[2:] == (tokens, width) for kind in types[1:]) and min(types[0].get_shape()) > 0


def _kernel(found: CausalAttention, attention: Attention, arrays: Arrays) -> Kernel:
    if isinstance(found.mixed, dcom.LeftMatmulOp):
        return _kernel_on_u(found.mixed, found, attention, arrays)

    def kernel(query: Value, key: Value, value: Value) -> tuple[Value]:
        return (attention(query, key, value, found.scale, found.window),)

    return kernel


def _kernel_on_u(op: dcom.LeftMatmulOp, found: CausalAttention, attention: Attention, arrays: Arrays) -> Kernel:
    """softmax(P) U, with zero columns up to the width of queries and keys: fused kernels want all as wide."""
    rank = op.input.type.rank.data
    dtype = element_dtype(op.input.type.element_type, op)
    dtype_of_values = element_dtype(found.operands[0].type, op)
    permute, concatenate = arrays.function(np.transpose), arrays.function(np.concatenate)

    def kernel(query: Value, key: Value, factors: Factored) -> tuple[Factored]:
        batch, groups, shared, tokens, width = query.shape
        u = arrays.cast(factors.u.reshape(batch, groups, shared, tokens, rank)[:, :, 0], dtype_of_values)
        zeros = arrays.from_numpy(np.zeros((batch, groups, tokens, width - rank), dtype_of_values))
        value = concatenate([u, zeros], 3)
        mixed = attention(query, key, value, found.scale, found.window)[..., :rank]
        heads = permute(mixed, (0, 2, 3, 1, 4)).reshape(-1, tokens, rank)
        return (Factored(arrays.cast(heads, dtype), factors.core, factors.v),)

    return kernel


def _mask(op: linalg.GenericOp) -> tuple[float, int | None] | None:
    """The scale and the window of a causal mask; None where `op` is none."""
    form = _form(op)
    if form is None or form.loops != (_FULL,):
        return None
    match form.result:
        case ("arith.select", seen, ("arith.mulf", ("input", 0), ("number", float(scale))), ("number", float(low))):
            if low != -math.inf:
                return None
        case _:
            return None
    causal = ("arith.cmpi ule", _J, _I)
    if seen == causal:
        return scale, None
    for child in cast(Tree, seen)[1:]:
        match child:
            case ("arith.cmpi ult", ("loop", 3), ("arith.addi", ("loop", 4), ("number", int(window)))):
                within = ("arith.cmpi ult", _I, ("arith.addi", _J, ("number", window)))
                return (scale, window) if seen == _tree("arith.andi", causal, within) else None
            case _:
                pass
    return None


def _form(op: linalg.GenericOp) -> _Form | None:
    """What a generic computes; None where it has several results or is not indexed by plain loops."""
    maps = [loop_dims(attribute.data) for attribute in op.get_indexing_maps()]
    if len(op.results) != 1 or len(maps) != len(op.inputs) + 1:
        return None
    *inputs, output = maps
    if output is None or None in inputs:
        return None
    loops = [dims for dims in inputs if dims is not None]
    numbers = {loop: n for n, loop in enumerate(dict.fromkeys([*output, *(loop for dims in loops for loop in dims)]))}
    last = op.body.block.last_op
    assert last is not None
    result = _expression(last.operands[0], op, numbers)
    initial = filled_with(op.outputs[0]) if "output" in repr(result) else None
    return _Form(tuple(tuple(numbers[loop] for loop in dims) for dims in loops), result, initial)


def _expression(value: SSAValue, op: linalg.GenericOp, numbers: Mapping[int, int]) -> Tree:
    """How `value` follows from the inputs; inputs that are widened count as they are."""
    if isinstance(value, BlockArgument):
        if value.owner is not op.body.block:
            return ("unknown",)
        return ("input", value.index) if value.index < len(op.inputs) else ("output",)
    match value.owner:
        case arith.ConstantOp(value=IntegerAttr() | FloatAttr() as number):
            return ("number", number.value.data)
        case linalg.IndexOp() as index:
            return ("loop", numbers[index.dim.value.data])
        case Operation() as inner if inner.parent is op.body.block:
            children: list[Tree] = [_expression(operand, op, numbers) for operand in inner.operands]
            if isinstance(inner, arith.ExtFOp) and children[0][0] == "input":
                return children[0]
            return _tree(_name(inner), *children)
        case _:
            return ("unknown",)


def _name(op: Operation) -> str:
    if isinstance(op, arith.CmpiOp):
        return f"{op.name} {arith.CMPI_COMPARISON_OPERATIONS[op.predicate.value.data]}"
    return op.name
