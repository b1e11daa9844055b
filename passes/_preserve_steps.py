"""One step of a reconstruction down: a linear operation on the dense tensor, and the same on factors."""

from dataclasses import dataclass, replace
from typing import cast

from xdsl.dialects import arith, math
from xdsl.dialects.builtin import Float16Type, Float32Type, FloatAttr
from xdsl.dialects.linalg.ops import GenericOp
from xdsl.dialects.linalg.ops import MatmulOp as LinalgMatmulOp
from xdsl.dialects.tensor import ExtractSliceOp
from xdsl.ir import Attribute, Operation, SSAValue, Use
from xdsl.ir.affine import AffineDimExpr, AffineMap
from xdsl.utils.hints import isa

from dcomc.costs import reconstruction
from dialects.dcom import (
    BiasTrackOp,
    ConcatOp,
    ExactTrackOp,
    FactoredType,
    HeadMatmulOp,
    LeftMatmulOp,
    MatmulOp,
    OutlierMatmulOp,
    ReconstructHeadsOp,
    ReconstructOp,
    ScaleOp,
    SliceOp,
    SplitHeadsOp,
    TokenMatmulOp,
    WeightMatmulOp,
    WeightType,
)
from passes._build import add, convert, element_of, filled, reshape, shape_of, structured
from passes._layouts import Axis, Digit, Layout, joined, origin
from passes._sites import converts, starts_from_zero


@dataclass(frozen=True)
class State:
    """A dense tensor in factors."""

    factors: SSAValue[FactoredType]
    layout: Layout
    element: Attribute
    """The element type of the dense tensor."""
    heads: int = 1
    """How many prompts are to be summed, each a head; nothing but reconstruction follows, where more than one."""
    initial: SSAValue | None = None
    """A tensor [B*S, N] to be added; nothing but reconstruction follows."""

    @staticmethod
    def of(reconstruct: ReconstructOp) -> "State":
        """What a reconstruction makes."""
        type_ = reconstruct.input.type
        return State(reconstruct.input, Layout.natural(type_), type_.element_type)

    @property
    def type(self) -> FactoredType:
        return self.factors.type

    @property
    def left_first(self) -> bool:
        """Whether (U core) V is fewer operations than U (core V); both move as many bytes."""
        flops = [reconstruction(self.type, left_first=left_first).flops for left_first in (False, True)]
        return self.heads == 1 and flops[1] < flops[0]

    def reconstruct(self) -> SSAValue:
        """Build the dense tensor."""
        if self.heads > 1:
            dense: SSAValue = ReconstructHeadsOp(self.factors, self.heads).result
        else:
            dense = ReconstructOp(self.factors, left_first=self.left_first).result
        if self.initial is not None:
            dense = structured("sn,sn->sn", [dense, self.initial], self.type.element_type, add)
        return self.layout.arrange(convert(dense, self.element))


@dataclass(frozen=True)
class Step:
    """The tensor after an operation, and what runs for it where the tensor is dense."""

    state: State
    dense: tuple[Operation, ...] = ()
    parted: tuple[Operation, ...] = ()
    """What runs within one kernel with the operation where the tensor is dense, and by itself where it is not."""


def take(state: State, use: Use) -> Step | str | None:
    """Build what `use` does to the tensor on its factors; insert where the innermost `building` block says.

    Returns:
        The step; or why factors cannot take an operation that is linear; or None for one that is not known to be. Of
        the latter two nothing is built.
    """
    op = use.operation
    if use.index == 0 and (layout := state.layout.through(op)) is not None:
        return Step(replace(state, layout=layout), (op,) if layout.transposed else ())
    if state.heads > 1 or state.initial is not None:
        return None
    match op:
        case ExtractSliceOp() if (part := state.layout.sliced(op)) is not None:
            layout, offset, cols = part
            return _step(state, op, SliceOp(state.factors, offset, cols).result, layout=layout)
        case LinalgMatmulOp() | WeightMatmulOp() if use.index == 0:
            return _matmul(state, op)
        case GenericOp() if len(op.results) == 1 and use.index < len(op.inputs):
            return _generic(state, op, use.index)
        case _:
            return None


def _matmul(state: State, op: LinalgMatmulOp | WeightMatmulOp) -> Step | str | None:
    """V* = V W (Eq. 6), or a new core (Eq. 7); of heads side by side, V* of each by its own rows of W."""
    weight, product = op.operands[1], op.results[0]
    element = state.type.element_type
    if {state.element, element_of(product), _element(weight)} != {element}:
        return None
    initial = None if isinstance(op, WeightMatmulOp) or starts_from_zero(op) else op.outputs[0]
    if state.layout == Layout.natural(state.type):
        factors = MatmulOp(state.factors, weight)
        factors.attributes.update(op.attributes)
        return _step(replace(state, initial=initial), op, factors.result)
    heads = _heads_side_by_side(state)
    if heads is None or isinstance(op, WeightMatmulOp):
        return None
    if state.type.weight_rank.data or state.type.block.data != state.type.dimensions[1]:
        return "its heads are in blocks, or have the V of a weight"
    of_heads = HeadMatmulOp(state.factors, weight, heads)
    of_heads.attributes.update(op.attributes)
    batch, rows, _ = state.type.dimensions
    summed = FactoredType.get(batch // heads, rows, shape_of(weight)[1], 1, element)
    after = replace(state, heads=heads, initial=initial, layout=Layout.natural(summed))
    return _step(after, op, of_heads.result, layout=after.layout)


def _heads_side_by_side(state: State) -> int | None:
    """How many heads, each a prompt, have their channels one after another in the rows of a matrix; None otherwise."""
    batch, rows, cols = state.type.dimensions
    if len(state.layout.dims) != 2 or not state.layout.dims[1] or state.layout.dims[1][0].axis != Axis.PROMPT:
        return None
    heads = state.layout.dims[1][0].size
    expected = (
        joined([Digit(Axis.PROMPT, heads, batch // heads), Digit(Axis.ROW, 1, rows)]),
        joined([Digit(Axis.PROMPT, 1, heads), Digit(Axis.CHANNEL, 1, cols)]),
    )
    return heads if state.layout.dims == expected else None


def _step(
    state: State, op: Operation, factors: SSAValue[FactoredType], *dense: Operation, layout: Layout | None = None
) -> Step:
    hint = op.results[0].name_hint
    factors.name_hint = f"{hint}_factors" if hint else "factors"
    if layout is None:
        layout = Layout.natural(factors.type) if state.layout == Layout.natural(state.type) else state.layout
    after = replace(state, factors=factors, layout=layout, element=element_of(op.results[0]))
    return Step(after, (op, *dense))


def _generic(state: State, op: GenericOp, index: int) -> Step | str | None:
    loops = [_loops(attribute.data) for attribute in op.get_indexing_maps()]
    *body, end = (inner for inner in op.body.block.ops if not isinstance(inner, arith.ExtFOp))
    if any(dims is None for dims in loops):
        return None
    ours, output = cast(list[int], loops[index]), cast(list[int], loops[-1])
    if converts(op):
        return Step(replace(state, element=element_of(op.results[0])), (op,))
    if len(op.inputs) == 1 and ours == output:
        return _scaling(state, op)
    if (
        len(op.inputs) != 2
        or op.inputs[0] is op.inputs[1]
        or not body
        or tuple(end.operands) != tuple(body[-1].results)
    ):
        return None
    other, theirs = op.inputs[1 - index], cast(list[int], loops[1 - index])
    match body:
        case [arith.MulfOp() as product, arith.AddfOp() as total] if _is_contraction(op, product, total):
            return _left_matmul(state, op, other, ours, theirs, output)
        case [arith.MulfOp() | arith.AddfOp() as binary] if _reads_both(op, binary) and ours == output:
            if {state.element, element_of(op.results[0]), element_of(other)} != {state.type.element_type}:
                return None
            if not set(theirs) <= set(ours):
                return None
            if theirs == ours:
                return _sum(state, op, other) if isinstance(binary, arith.AddfOp) else None
            digits = joined([digit for loop in theirs for digit in state.layout.dims[ours.index(loop)]])
            return _vector(state, op, other, digits, isinstance(binary, arith.AddfOp))
        case _:
            return None


def _loops(map_: AffineMap) -> list[int] | None:
    """The loop of each dimension; None where one is not just a loop."""
    dims = [expression.position for expression in map_.results if isinstance(expression, AffineDimExpr)]
    return dims if len(dims) == len(map_.results) == len(set(dims)) else None


def _reads_both(op: GenericOp, binary: Operation) -> bool:
    return set(map(_argument, binary.operands)) == set(op.body.block.args[:2])


def _argument(value: SSAValue) -> SSAValue:
    """The block argument that a value widens, or itself."""
    return value.owner.input if isinstance(value.owner, arith.ExtFOp) else value


def _is_contraction(op: GenericOp, product: Operation, total: Operation) -> bool:
    return (
        _reads_both(op, product)
        and set(total.operands) == {product.results[0], op.body.block.args[2]}
        and starts_from_zero(op)
    )


def _scaling(state: State, op: GenericOp) -> Step | None:
    """A product with a constant, which goes into V."""
    end = op.body.block.last_op
    product = end.operands[0].owner if end is not None and len(end.operands) == 1 else None
    if not isinstance(product, arith.MulfOp):
        return None
    factors = [x.owner.value for x in product.operands if isinstance(x.owner, arith.ConstantOp)]
    if len(factors) != 1 or op.body.block.args[0] not in product.operands or not isa(factors[0], FloatAttr):
        return None
    if {state.element, element_of(op.results[0])} != {state.type.element_type}:
        return None
    vector = filled([state.type.dimensions[2]], state.element, factors[0].value.data)
    return _step(state, op, ScaleOp(state.factors, vector, "channels").result)


def _vector(state: State, op: GenericOp, vector: SSAValue, digits: tuple[Digit, ...], adds: bool) -> Step | str | None:
    """A scaling of rows or channels, which goes into U or V; or a bias, which is a track."""
    batch, rows, cols = state.type.dimensions
    axes = {
        joined([Digit(Axis.PROMPT, 1, batch), Digit(Axis.ROW, 1, rows)]): "rows",
        joined([Digit(Axis.CHANNEL, 1, cols)]): "channels",
    }
    axis = axes.get(digits)
    if axis is None or (adds and axis == "rows"):
        return None
    if adds:
        refusal = _refuse_tracks(state.type, 1)
        if refusal is not None:
            return refusal
        track = BiasTrackOp(reshape(vector, [cols]), state.type.with_rank(1)).result
        return _step(state, op, ConcatOp(state.factors, track).result)
    vector = reshape(vector, [batch * rows if axis == "rows" else cols])
    return _step(state, op, ScaleOp(state.factors, vector, axis).result)


def _refuse_tracks(type_: FactoredType, count: int) -> str | None:
    """Why tracks cannot stand beside those of a value; None where they can."""
    if type_.weight_rank.data:
        return "its V is that of a weight in factors, which has no room for other tracks"
    rank = type_.rank.data + count
    if rank > type_.block.data:
        return f"with the tracks of the sum its rank {rank} exceeds the {type_.block.data} rows that share a basis"
    return None


def _sum(state: State, op: GenericOp, other: SSAValue) -> Step | str | None:
    """A sum with exact channels, exact tokens or another factored value, whose tracks then stand beside these."""
    found = origin(other)
    if found is None:
        return None
    source, moves = found
    match source:
        case OutlierMatmulOp() | TokenMatmulOp():
            batch, rows, _ = source.input.type.dimensions
            count = source.input.type.capacity.data
            cols, element = shape_of(source.result)[1], source.input.type.element_type
            type_ = FactoredType.get(batch, rows, cols, 1, element, min(state.type.block.data, rows))
        case ReconstructOp():
            type_, count = source.input.type, source.input.type.rank.data
            if type_.weight_rank.data:
                return None
        case _:
            return None
    layout: Layout | None = Layout.natural(type_)
    for move in moves:
        layout = layout.through(move) if layout is not None else None
    if layout != state.layout or type_.with_rank(1) != state.type.with_rank(1):
        return None
    refusal = _refuse_tracks(state.type, count)
    if refusal is not None:
        return refusal
    if isinstance(source, ReconstructOp):
        tracks = source.input
    else:
        tracks = ExactTrackOp(source.input, source.weight, state.type.with_rank(count)).result
    replaced = [move for move in (source, *moves) if move.results[0].has_one_use()]
    return _step(state, op, ConcatOp(state.factors, tracks).result, *replaced)


def _left_matmul(
    state: State, op: GenericOp, left: SSAValue, ours: list[int], theirs: list[int], output: list[int]
) -> Step | str | None:
    """softmax(P) V with P [prompts, groups of channels, heads that share a group, S*, S]: U* = P U of each head.

    Of V in blocks of tokens the result has the tracks of all blocks.
    Any of the leading dimensions of P may be missing; the dimensions of V and of the result stand in any order.
    """
    batch, rows, cols = state.type.dimensions
    digits = dict(zip(ours, state.layout.dims, strict=True))
    sizes = dict(zip(theirs, shape_of(left), strict=True))
    summed = [loop for loop in digits if loop not in output]
    if len(theirs) < 2 or summed != [theirs[-1]] or digits[summed[0]] != joined([Digit(Axis.ROW, 1, rows)]):
        return None
    *leading, token, _ = theirs
    if token in digits or any(loop not in output for loop in theirs[:-1]):
        return None
    shared = [loop for loop in leading if loop not in digits]
    groups = [loop for loop in leading if loop in digits]
    order = [digit for loop in groups for digit in digits[loop]]
    prompts = joined([digit for digit in order if digit.axis == Axis.PROMPT])
    cut = joined([digit for digit in order if digit.axis == Axis.CHANNEL])
    count = cut[0].size if cut else 1
    whole = (*joined([Digit(Axis.PROMPT, 1, batch)]), *joined([Digit(Axis.CHANNEL, cols // count, count)]))
    if leading != groups + shared or (*prompts, *cut) != whole or joined(order) != whole:
        return None
    known = digits.keys() | sizes.keys()
    if not known.issuperset(output) or not isinstance(element_of(left), Float16Type | Float32Type):
        return None
    if state.type.weight_rank.data:
        return "its V is that of a weight in factors, which all heads have"
    rank = state.type.rank.data * -(-rows // state.type.block.data)
    if rank > sizes[token]:
        return f"the rank {rank} exceeds its {sizes[token]} rows"
    repeats = 1
    for loop in shared:
        repeats *= sizes[loop]
    of_heads = state.factors if count * repeats == 1 else SplitHeadsOp(state.factors, count, repeats).result
    mixed = LeftMatmulOp(left, of_heads).result
    heads: dict[int, tuple[Digit, ...]] = {token: joined([Digit(Axis.ROW, 1, sizes[token])])}
    stride = batch * count * repeats
    for loop in leading:
        stride //= sizes[loop]
        heads[loop] = joined([Digit(Axis.PROMPT, stride, sizes[loop])])
    layout = Layout(tuple(heads[loop] if loop in heads else digits[loop] for loop in output))
    step = _step(state, op, mixed, layout=layout)
    fused = state.type.block.data == rows and rank <= cols // count
    return step if fused else replace(step, parted=_softmax_before(left))


def _softmax_before(shares: SSAValue) -> tuple[Operation, ...]:
    """The operations that make P of the scores.

    Kernels of attention keep P on chip; they multiply it by one matrix no wider than the V of a head. The U of several
    blocks are not one, and a U of more tracks than a head has channels is wider.
    """
    found: dict[Operation, None] = {}
    pending = [shares]
    while pending:
        op = pending.pop().owner
        if isinstance(op, GenericOp) and op not in found and not any(map(_is_product, op.body.block.ops)):
            found[op] = None
            pending += op.inputs
    exponential = any(isinstance(inner, math.ExpOp) for op in found for inner in op.regions[0].block.ops)
    return tuple(found) if exponential else ()


def _is_product(op: Operation) -> bool:
    """Whether an operation multiplies two values, as the body of a contraction does, not one by a constant."""
    return isinstance(op, arith.MulfOp) and not any(isinstance(x.owner, arith.ConstantOp) for x in op.operands)


def _element(value: SSAValue) -> Attribute:
    return value.type.element_type if isinstance(value.type, WeightType) else element_of(value)
