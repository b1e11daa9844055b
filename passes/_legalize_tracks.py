"""The operations of `dialects/dcom_tracks.py` in Level 0 operations.

Factors are U [M, T, R] and V [M, R, N] of the element type, and core [M, R, R] f32, of M blocks of T rows.
"""

from collections.abc import Callable
from typing import TypeAlias

from xdsl.dialects import tensor
from xdsl.dialects.builtin import f32
from xdsl.ir import SSAValue

from dialects.dcom import (
    BiasTrackOp,
    ConcatOp,
    ExactTrackOp,
    FactoredType,
    HeadMatmulOp,
    LeftMatmulOp,
    OutliersType,
    ReconstructHeadsOp,
    SplitHeadsOp,
)
from passes._build import (
    compare,
    constant,
    contract,
    convert,
    element_of,
    filled,
    join_rows,
    loop_index,
    one_where,
    reshape,
    select,
    shape_of,
    structured,
)
from passes._legalize_splits import Exact, one_hot
from passes._legalize_weights import WeightFactors, times

Factors: TypeAlias = tuple[SSAValue, SSAValue, SSAValue]
"""U, core and V."""

Split: TypeAlias = Callable[[SSAValue, FactoredType], SSAValue]
"""Cuts rows [B*S, N] into the blocks [M, T, N] of a type."""


def bias_track(op: BiasTrackOp, split: Split) -> Factors:
    """Ones, one, and the bias, for each block."""
    batch, rows, _ = op.result.type.dimensions
    count, element = op.result.type.blocks[0], op.result.type.element_type
    v = structured("n->mon", [op.bias], element, lambda x: x, sizes={"m": count, "o": 1})
    return split(filled((batch * rows, 1), element, 1), op.result.type), filled((count, 1, 1), f32, 1), v


def exact_track(op: ExactTrackOp, exact: Exact, weight: SSAValue | WeightFactors, split: Split) -> Factors:
    """The values of channels with their rows of the weight, or ones at tokens with their products."""
    batch, rows, cols = op.input.type.dimensions
    count, element = op.result.type.blocks[0], op.result.type.element_type
    if isinstance(op.input.type, OutliersType):
        u = exact.values
        v = times("bc", one_hot(exact.indices, cols), weight)
    else:
        slots = one_hot(exact.indices, rows)
        u = structured("bcs->bsc", [slots], element_of(slots), lambda x: x)
        v = times("bc", exact.values, weight)
    v = convert(v, element)
    if count != batch:
        of_block = structured("bcn->btcn", [v], element, lambda x: x, sizes={"t": count // batch})
        v = reshape(of_block, (count, *shape_of(v)[1:]))
    rank = op.result.type.rank.data
    return split(join_rows(convert(u, element)), op.result.type), _identity(count, rank), v


def _identity(count: int, rank: int) -> SSAValue:
    def entry() -> SSAValue:
        return one_where(compare(loop_index(1), "eq", loop_index(2)))

    return structured("->mrq", [], f32, entry, sizes={"m": count, "r": rank, "q": rank})


def concat(op: ConcatOp, first: Factors, second: Factors) -> Factors:
    """U and V side by side, and the cores on the diagonal of one."""
    (u1, core1, v1), (u2, core2, v2) = first, second
    count, rows, cols = op.result.type.blocks
    rank, element = op.result.type.rank.data, op.result.type.element_type
    after = op.first.type.rank.data
    u = _insert(u2, _insert(u1, filled((count, rows, rank), element, 0), 0, 0), 0, after)
    core = _insert(core2, _insert(core1, filled((count, rank, rank), f32, 0), 0, 0), after, after)
    v = _insert(v2, _insert(v1, filled((count, rank, cols), element, 0), 0, 0), after, 0)
    return u, core, v


def _insert(source: SSAValue, target: SSAValue, row: int, col: int) -> SSAValue:
    """target with target[:, row:, col:] = source, as far as it goes."""
    return tensor.InsertSliceOp.get(
        source, target, static_sizes=list(shape_of(source)), static_offsets=[0, row, col], result_type=target.type
    ).result


def split_heads(op: SplitHeadsOp, factors: Factors) -> Factors:
    """U and core for each head, and the channels of its group."""
    groups, shared = op.groups.value.data, op.shared.value.data
    count = op.input.type.dimensions[0]
    u, core, v = factors
    per_prompt = op.input.type.blocks[0] // count

    def repeat(value: SSAValue) -> SSAValue:
        rows, cols = shape_of(value)[1:]
        prompts = reshape(value, (count, per_prompt, rows, cols))
        heads = structured("bmrc->bhmrc", [prompts], element_of(value), lambda x: x, sizes={"h": groups * shared})
        return reshape(heads, (count * groups * shared * per_prompt, rows, cols))

    rank, cols = shape_of(v)[1:]
    cut = reshape(v, (count, per_prompt, rank, groups, cols // groups))
    heads = structured("bmrgn->bgqmrn", [cut], element_of(v), lambda x: x, sizes={"q": shared})
    return repeat(u), repeat(core), reshape(heads, (shape_of(v)[0] * groups * shared, rank, cols // groups))


def left_matmul(op: LeftMatmulOp, factors: Factors) -> Factors:
    """P U of each block, side by side, a block-diagonal core, and the V below one another."""
    u, core, v = factors
    batch, rows, cols = op.input.type.dimensions
    after, rank = op.result.type.dimensions[1], op.input.type.rank.data
    left = reshape(op.left, (batch, after, rows))
    element = op.input.type.element_type
    blocks = shape_of(u)[0] // batch
    if blocks == 1:
        return convert(contract("msk,mkr->msr", left, u), element), core, v
    padded = blocks * shape_of(u)[1]
    if padded > rows:
        left = _insert(left, filled((batch, after, padded), element_of(left), 0), 0, 0)
    left = reshape(left, (batch, after, blocks, padded // blocks))
    product = contract("msbt,mbtr->msbr", left, reshape(u, (batch, blocks, *shape_of(u)[1:])))

    def entry(x: SSAValue) -> SSAValue:
        return select(compare(loop_index(1), "eq", loop_index(3)), x, constant(0, f32))

    cores = reshape(core, (batch, blocks, rank, rank))
    diagonal = structured("mbrq->mbrcq", [cores], f32, entry, sizes={"c": blocks})
    tracks = blocks * rank
    return (
        convert(reshape(product, (batch, after, tracks)), element),
        reshape(diagonal, (batch, tracks, tracks)),
        reshape(v, (batch, tracks, cols)),
    )


def head_matmul(op: HeadMatmulOp, factors: Factors) -> Factors:
    """V of each head by its rows of the weight."""
    u, core, v = factors
    heads = op.heads.value.data
    count, rank, cols = shape_of(v)
    weight = reshape(op.weight, (heads, cols, shape_of(op.weight)[1]))
    product = contract("bhrd,hdn->bhrn", reshape(v, (count // heads, heads, rank, cols)), weight)
    return u, core, convert(reshape(product, (count, rank, shape_of(weight)[2])), op.input.type.element_type)


def reconstruct_heads(op: ReconstructHeadsOp, factors: Factors) -> SSAValue:
    """sum_h U_h (core_h V_h), [B*S, N]."""
    u, core, v = factors
    heads = op.heads.value.data
    weighted = contract("mrq,mqn->mrn", core, v)
    by_head = [reshape(x, (shape_of(x)[0] // heads, heads, *shape_of(x)[1:])) for x in (u, weighted)]
    return join_rows(convert(contract("bhsr,bhrn->bsn", *by_head), op.input.type.element_type))
