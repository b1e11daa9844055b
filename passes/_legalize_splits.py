"""The outlier channels and exact tokens of `dcom` in Level 0 operations: scores, ranks, and one-hot choices."""

from typing import NamedTuple

from xdsl.dialects import math
from xdsl.dialects.builtin import bf16, f32, i1, i64
from xdsl.ir import SSAValue

from dialects.dcom import OutlierMatmulOp, OutlierSplitOp, TokenMatmulOp, TokenSplitOp
from passes._build import (
    Body,
    add,
    add_square,
    both,
    compare,
    constant,
    contract,
    convert,
    count_above,
    join_rows,
    loop_index,
    one_where,
    select,
    split_rows,
    structured,
    widen,
)
from passes._legalize_weights import WeightFactors, times


class Exact(NamedTuple):
    """Channels or tokens kept exact: values [B*S, C] or [B, C, H] of the element type, and indices [B, C] i64."""

    values: SSAValue
    indices: SSAValue


def outlier_split(op: OutlierSplitOp) -> tuple[SSAValue, Exact]:
    """The dense rest [B*S, H] and the outlier channels."""
    batch, _, _ = op.outliers.type.dimensions
    element = op.outliers.type.element_type
    x = split_rows(op.input, batch)
    scores = structured("bsh->bh", [x], f32, _score(op), initial=0)
    cutoff = op.min_count.value.data - 1 if op.min_count is not None else 0
    selected, indices, slots = _choose(scores, op.capacity.value.data, cutoff)
    dense = structured("bsh,bh->bsh", [x, selected], element, lambda value, on: select(on, constant(0, element), value))
    values = convert(contract("bsh,bch->bsc", x, slots), element)
    return join_rows(dense), Exact(values, indices)


def outlier_matmul(op: OutlierMatmulOp, outliers: Exact, weight: SSAValue | WeightFactors) -> SSAValue:
    """values W[indices, :], the rows of W taken by a one-hot product."""
    rows = times("bc", one_hot(outliers.indices, op.input.type.dimensions[2]), weight)
    return join_rows(convert(contract("bsc,bcn->bsn", outliers.values, rows), op.input.type.element_type))


def token_split(op: TokenSplitOp, like: Exact | None) -> tuple[SSAValue, Exact]:
    """The dense rest [B*S, H] and the exact tokens, those of `like` where it is given."""
    batch, rows, _ = op.tokens.type.dimensions
    element = op.tokens.type.element_type
    x = split_rows(op.input, batch)
    if like is None:
        energies = structured("bsh->bs", [x], f32, add_square, initial=0)
        scores = convert(convert(energies, bf16), f32)
        selected, indices, slots = _choose(scores, op.capacity.value.data, 0)
    else:
        selected, indices, slots = _same(like, rows)
    dense = structured("bsh,bs->bsh", [x, selected], element, lambda value, on: select(on, constant(0, element), value))
    return join_rows(dense), Exact(convert(contract("bcs,bsh->bch", slots, x), element), indices)


def token_matmul(op: TokenMatmulOp, tokens: Exact, weight: SSAValue | WeightFactors) -> SSAValue:
    """values W, scattered to their rows by a one-hot product."""
    rows = op.input.type.dimensions[1]
    products = times("bc", tokens.values, weight)
    scattered = contract("bcs,bcn->bsn", one_hot(tokens.indices, rows), products)
    return join_rows(convert(scattered, op.input.type.element_type))


def _choose(scores: SSAValue, capacity: int, cutoff: int) -> tuple[SSAValue, SSAValue, SSAValue]:
    """What scores [B, N] select [B, N] i1, its indices [B, C] i64, and its slots as one-hot rows [B, C, N] f32."""

    ranks = structured("bh,bg->bh", [scores, scores], i64, count_above(1), initial=0)

    def chosen(rank: SSAValue, score: SSAValue) -> SSAValue:
        return both(compare(rank, "slt", constant(capacity, i64)), compare(score, "ogt", constant(cutoff, f32)))

    selected = structured("bh,bh->bh", [ranks, scores], i1, chosen)

    def slot(rank: SSAValue, on: SSAValue) -> SSAValue:
        return both(on, compare(rank, "eq", loop_index(1)))

    slots = structured("bh,bh->bch", [ranks, selected], i1, slot, sizes={"c": capacity})

    def position(on: SSAValue, total: SSAValue) -> SSAValue:
        return select(on, loop_index(2), total)

    indices = structured("bch->bc", [slots], i64, position, initial=0)
    weights = structured("bch->bch", [slots], f32, one_where)
    return selected, indices, weights


def _same(like: Exact, size: int) -> tuple[SSAValue, SSAValue, SSAValue]:
    """What `_choose` gives, from the choice of another split; a slot whose values are all zero holds nothing."""
    energies = structured("bch->bc", [like.values], f32, add_square, initial=0)

    def slot(index: SSAValue, energy: SSAValue) -> SSAValue:
        here = both(compare(energy, "ogt", constant(0, f32)), compare(index, "eq", loop_index(2)))
        return one_where(here)

    slots = structured("bc,bc->bcs", [like.indices, energies], f32, slot, sizes={"s": size})
    counts = structured("bcs->bs", [slots], f32, add, initial=0)
    selected = structured("bs->bs", [counts], i1, lambda count: compare(count, "ogt", constant(0, f32)))
    return selected, like.indices, slots


def one_hot(indices: SSAValue, size: int) -> SSAValue:
    """[B, C] to [B, C, size] f32: one at the index, zero elsewhere."""
    return structured(
        "bc->bch",
        [indices],
        f32,
        lambda index: one_where(compare(index, "eq", loop_index(2))),
        sizes={"h": size},
    )


def _score(op: OutlierSplitOp) -> Body:
    """The body that adds an element to its channel's score: its square, or one where it exceeds the threshold."""
    if op.threshold is None:
        return add_square
    threshold = op.threshold.value.data

    def count(x: SSAValue, total: SSAValue) -> SSAValue:
        above = compare(math.AbsFOp(widen(x)).result, "ogt", constant(threshold, f32))
        return add(total, one_where(above))

    return count
