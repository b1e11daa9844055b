"""Kernels of `dcom`: factors, outlier channels and exact tokens of activations on the host.

Arrays are the back end's. What a prompt's scores choose, a few numbers, is chosen in NumPy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, cast

import ml_dtypes
import numpy as np
from xdsl.ir import Operation

from dialects import dcom
from runtime import lanczos
from runtime.executor_arrays import (
    FLOAT,
    Array,
    Arrays,
    Value,
    add_rows,
    column_squares,
    scale_rows,
    split_columns,
    take_rows,
)
from runtime.executor_block import Builder, Host, Kernel, element_dtype, failure
from runtime.executor_weights import WeightFactors
from runtime.lanczos import Factored

Decompose: TypeAlias = Callable[[dcom.DecomposeOp, Value], Factored]
"""Takes a decomposition and its input in M whole blocks of T rows, [M*T, H]; returns the factors of each."""


_Site: TypeAlias = dcom.OutlierSplitOp | dcom.TokenSplitOp | dcom.DecomposeOp | dcom.ProjectOp


class DcomHost(Host, Protocol):
    """The host as these kernels see it."""

    decompose: Decompose
    """In the back end's arrays."""
    valid_rows: Sequence[int] | None


@dataclass(frozen=True)
class Outliers:
    """The channels of each prompt that are kept exact."""

    values: Value
    """[B*S, C]; a slot that holds no channel is zero."""
    indices: Value
    """[B, C] int64, the channel in each slot."""


@dataclass(frozen=True)
class Tokens:
    """The rows of each prompt that are kept exact."""

    values: Value
    """[B, C, H]; a slot that holds no row is zero."""
    indices: Value
    """[B, C] int64, the row in each slot."""


def host_decompose(op: dcom.DecomposeOp, x: Value, by: Callable[..., Factored] = lanczos.decompose) -> Factored:
    """`dcom.decompose` by the float32 Lanczos of `runtime.lanczos`, or by the same of another library."""
    return by(
        x,
        op.factors.type.blocks[0],
        op.factors.type.rank.data,
        op.iterations.value.data,
        seed=op.start_seed,
        reorthogonalisation=op.reorthogonalisation.value.data,
        modified=op.modified,
    )


def zero_decompose(op: dcom.DecomposeOp, x: Array) -> Factored:
    """No decomposition at all: the rank-0 control, in which only the outlier channels are left."""
    count, rows, cols = op.factors.type.blocks
    rank = op.factors.type.rank.data
    shapes = ((count, rows, rank), (count, rank, rank), (count, rank, cols))
    return Factored(*(np.zeros(shape, np.float32) for shape in shapes))


def through_numpy(decompose: Decompose, arrays: Arrays) -> Decompose:
    """A decomposition in NumPy's arrays as one in the back end's."""

    def through(op: dcom.DecomposeOp, x: Value) -> Factored:
        factors = decompose(op, arrays.to_numpy(arrays.cast(x, element_dtype(op.input.type, op))))
        return Factored(*map(arrays.from_numpy, (factors.u, factors.core, factors.v)))

    return through


def _prompts(op: _Site, x: Value, batch: int, host: DcomHost) -> Value:
    """`x` as [B, S, H], with the rows of padding zero."""
    arrays, valid = host.arrays, host.valid_rows
    prompts = x.reshape(batch, -1, x.shape[-1])
    if isinstance(op.input.owner, dcom.OutlierSplitOp | dcom.TokenSplitOp):  # which has done all of this
        return prompts
    rows = prompts.shape[1]
    if valid is not None and any(count < rows for count in valid):
        if len(valid) != batch:
            raise failure(op, f"{len(valid)} numbers of valid rows are given for {batch} prompts")
        inside = np.zeros((batch, rows, 1), np.bool_)
        for prompt, count in zip(inside, valid, strict=True):
            prompt[:count] = True
        prompts = _kept(op, prompts, inside, arrays)
    return prompts


def _check_finite(op: _Site, prompts: Value, scores: Array | None, arrays: Arrays) -> None:
    """Check that numbers are finite.

    Args:
        scores: what is not finite where a number is not; the sum of all unless given.

    Raises:
        DcomError: a NaN or an infinity.
    """
    if isinstance(op.input.owner, dcom.OutlierSplitOp | dcom.TokenSplitOp):  # which has done this
        return
    totals = arrays.to_numpy(arrays.fold(np.add)(prompts, (0, 1, 2))) if scores is None else scores
    if not np.isfinite(totals).all():  # or they are too large, of numbers that are not
        finite = arrays.to_numpy(arrays.function(np.isfinite)(prompts))
        if not finite.all():
            what = "NaN" if np.isnan(arrays.to_numpy(prompts)).any() else "infinity"
            raise failure(op, f"{what} in the activations of layer {op.layer.value.data}, site {op.site.data}")


def _kept(op: Operation, x: Value, where: Array, arrays: Arrays) -> Value:
    """`x` where it is to be kept, and zero elsewhere."""
    zero = arrays.from_numpy(element_dtype(op.operands[0].type, op).type(0))
    return arrays.function(np.where)(arrays.from_numpy(where), x, zero)


def _outlier_split(op: dcom.OutlierSplitOp, host: DcomHost) -> Kernel:
    batch, _, cols = op.outliers.type.dimensions
    capacity, arrays = op.capacity.value.data, host.arrays
    threshold = None if op.threshold is None else arrays.from_numpy(np.float32(op.threshold.value.data))
    cutoff = 0 if op.min_count is None else op.min_count.value.data - 1
    magnitude, above, split = (arrays.function(function) for function in (np.abs, np.greater, split_columns))

    def counts(prompts: Value) -> Value:
        """How many numbers of each channel are above the threshold [B, H]: part by part, as in `column_squares`."""
        rows = prompts.shape[1]
        step = rows if arrays.part is None else max(arrays.part // (batch * cols), 1)
        total = arrays.from_numpy(FLOAT.type(0))
        for start in range(0, rows, step):
            exact = arrays.cast(prompts[:, start : start + step], FLOAT)
            total = total + arrays.fold(np.add)(arrays.cast(above(magnitude(exact), threshold), FLOAT), (1,))
        return total

    scores_of = counts if threshold is not None else arrays.function(column_squares)

    def kernel(x: Value) -> tuple[Value, Outliers]:
        prompts = _prompts(op, x, batch, host)
        scores = arrays.to_numpy(scores_of(prompts))
        _check_finite(op, prompts, scores if threshold is None else None, arrays)
        indices, chosen = _choose(scores, capacity, cutoff)
        places = arrays.from_numpy(indices)
        values, dense = split(prompts, places, arrays.from_numpy(chosen.sum(1)))
        return dense.reshape(x.shape), Outliers(values.reshape(-1, capacity), places)

    return kernel


def _choose(scores: Array, capacity: int, cutoff: float) -> tuple[Array, Array]:
    """Of scores [B, N] the indices of the highest above the cutoff [B, C], 0 in empty slots, and which slots are used.

    Highest score first; a stable sort leaves the lower index first among equals.
    """
    order = np.argsort(-scores, 1, kind="stable")[:, :capacity]
    chosen = np.take_along_axis(scores, order, 1) > cutoff
    return np.where(chosen, order, 0), chosen


def _not_chosen(indices: Array, chosen: Array, size: int) -> Array:
    """[B, size] bool: false at the indices of slots that hold something."""
    keep = np.ones((len(indices), size), np.bool_)
    for row, places, used in zip(keep, indices, chosen, strict=True):
        row[places[used]] = False
    return keep


def _token_split(op: dcom.TokenSplitOp, host: DcomHost) -> Kernel:
    batch, rows, _ = op.tokens.type.dimensions
    capacity, arrays = op.capacity.value.data, host.arrays
    take = arrays.function(np.take_along_axis)

    def kernel(x: Value, *like: Tokens) -> tuple[Value, Tokens]:
        prompts = _prompts(op, x, batch, host)
        if like:
            _check_finite(op, prompts, None, arrays)
            indices = arrays.to_numpy(like[0].indices)
            chosen = arrays.to_numpy(_energies(like[0].values, arrays)) > 0
        else:
            scores = arrays.to_numpy(_energies(prompts, arrays))
            _check_finite(op, prompts, scores, arrays)
            indices, chosen = _choose(scores.astype(ml_dtypes.bfloat16).astype(FLOAT), capacity, 0)
        places = arrays.from_numpy(indices)
        values = _kept(op, take(prompts, places[:, :, None], 1), chosen[:, :, None], arrays)
        dense = _kept(op, prompts, _not_chosen(indices, chosen, rows)[:, :, None], arrays)
        return dense.reshape(x.shape), Tokens(values, places)

    return kernel


def _energies(x: Value, arrays: Arrays) -> Value:
    """The sum of squares over the last axis, float32."""
    exact = arrays.cast(x, FLOAT)
    return arrays.fold(np.add)(exact * exact, (exact.ndim - 1,))


def _decompose(op: dcom.DecomposeOp, host: DcomHost) -> Kernel:
    type_, arrays = op.factors.type, host.arrays
    rank = type_.rank.data
    count, rows, cols = type_.blocks
    dtype = element_dtype(op.input.type, op)
    energy = None if op.energy is None else op.energy.value.data
    shapes = ((count, rows, rank), (count, rank, rank), (count, rank, cols))

    def kernel(x: Value) -> tuple[Factored]:
        prompts = _prompts(op, x, type_.dimensions[0], host)
        _check_finite(op, prompts, None, arrays)
        blocks = in_blocks(prompts, type_, arrays).reshape(-1, cols)
        factors = host.decompose(op, blocks)
        parts = (factors.u, factors.core, factors.v)
        if tuple(tuple(part.shape) for part in parts) != shapes:
            raise failure(op, f"the decomposition gave factors of shapes {factors.u.shape}, {factors.v.shape}")
        if energy is not None:
            kept = lanczos.keep_energy(Factored(*map(arrays.to_numpy, parts)), arrays.to_numpy(blocks), energy)
            parts = tuple(map(arrays.from_numpy, (kept.u, kept.core, kept.v)))
        u, core, v = parts
        return (Factored(arrays.cast(u, dtype), arrays.cast(core, FLOAT), arrays.cast(v, dtype)),)

    return kernel


def _project(op: dcom.ProjectOp, host: DcomHost) -> Kernel:
    type_, arrays = op.factors.type, host.arrays
    dtype = element_dtype(op.input.type, op)
    permute, root, divide, select = (
        arrays.function(function) for function in (np.transpose, np.sqrt, np.divide, np.where)
    )
    identity = arrays.from_numpy(np.eye(type_.rank.data, dtype=np.float32))
    zero = arrays.from_numpy(np.float32(0))

    def kernel(x: Value, basis: Factored) -> tuple[Factored]:
        prompts = _prompts(op, x, type_.dimensions[0], host)
        _check_finite(op, prompts, None, arrays)
        blocks = in_blocks(prompts, type_, arrays)
        shares = arrays.product(permute(basis.u, (0, 2, 1)), blocks, FLOAT)
        norms = root(_energies(shares, arrays))[:, :, None]
        v = select(norms > 0, divide(shares, norms), zero)
        return (Factored(basis.u, norms * identity, arrays.cast(v, dtype)),)

    return kernel


def in_blocks(prompts: Value, type_: dcom.FactoredType, arrays: Arrays) -> Value:
    """[B, S, N] as [M, T, N], each prompt filled up with zero rows to whole blocks."""
    batch, rows, cols = prompts.shape
    count, block, _ = type_.blocks
    missing = count // batch * block - rows
    if missing:
        zeros = arrays.function(np.broadcast_to)(prompts[:1, :1, :1] * 0, (batch, missing, cols))
        prompts = arrays.function(np.concatenate)([prompts, zeros], 1)
    return prompts.reshape(count, block, cols)


def _out_of_blocks(blocks: Value, type_: dcom.FactoredType) -> Value:
    """[M*T, N] or [M, T, N] as [B*S, N], without the rows that fill up a prompt."""
    batch, rows, _ = type_.dimensions
    cols = blocks.shape[-1]
    return blocks.reshape(batch, -1, cols)[:, :rows].reshape(batch * rows, cols)


def _matmul(op: dcom.MatmulOp, host: DcomHost) -> Kernel:
    dtype = element_dtype(op.input.type.element_type, op)

    def kernel(f: Factored, w: Value | WeightFactors) -> tuple[Factored]:
        if isinstance(w, WeightFactors):
            return (Factored(f.u, f.core @ w.after_core(f.v), w.v),)
        return (Factored(f.u, f.core, host.arrays.product(f.v, w, dtype)),)

    return kernel


def _scale(op: dcom.ScaleOp, host: DcomHost) -> Kernel:
    type_ = op.input.type
    by_rows = op.axis.data == "rows"

    def kernel(f: Factored, scales: Value) -> tuple[Factored]:
        if not by_rows:
            return (Factored(f.u, f.core, f.v * scales),)
        column = scales.reshape(type_.dimensions[0], -1, 1)
        return (Factored(f.u * in_blocks(column, type_, host.arrays), f.core, f.v),)

    return kernel


def _reconstruct(op: dcom.ReconstructOp, host: DcomHost) -> Kernel:
    return reconstruction(op, element_dtype(op.result.type, op), host)


def reconstruction(op: dcom.ReconstructOp, dtype: np.dtype[Any], host: Host) -> Kernel:
    """The kernel of `op` that gives its result in an element type, rounded once."""
    arrays = host.arrays
    scaled = arrays.function(scale_rows)

    def kernel(f: Factored) -> tuple[Value]:
        if op.left_first:
            dense = arrays.product(arrays.product(f.u, f.core, FLOAT), f.v, dtype)
        else:
            dense = arrays.product(f.u, scaled(f.core, arrays.cast(f.v, FLOAT)), dtype)
        return (_out_of_blocks(dense, op.input.type),)

    return kernel


def rows_of(weight: Value | WeightFactors, indices: Value, arrays: Arrays) -> Value:
    """The rows [B, C, N] of a weight [H, N] at indices [B, C]."""
    return weight[indices] if isinstance(weight, WeightFactors) else arrays.function(take_rows)(weight, indices)


def _outlier_matmul(op: dcom.OutlierMatmulOp, host: DcomHost) -> Kernel:
    dtype = element_dtype(op.result.type, op)
    batch, rows, _ = op.input.type.dimensions

    def kernel(outliers: Outliers, weight: Value | WeightFactors) -> tuple[Value]:
        values = outliers.values.reshape(batch, rows, -1)
        chosen = rows_of(weight, outliers.indices, host.arrays)
        return (host.arrays.product(values, chosen, dtype).reshape(batch * rows, -1),)

    return kernel


def _token_matmul(op: dcom.TokenMatmulOp, host: DcomHost) -> Kernel:
    dtype, arrays = element_dtype(op.result.type, op), host.arrays
    batch, rows, _ = op.input.type.dimensions

    def kernel(tokens: Tokens, weight: Value | WeightFactors) -> tuple[Value]:
        if isinstance(weight, WeightFactors):
            products = arrays.cast(weight.after(tokens.values), dtype)
        else:
            products = arrays.product(tokens.values, weight, dtype)
        return (arrays.function(add_rows)(rows, tokens.indices, products).reshape(batch * rows, -1),)

    return kernel


BUILDERS: dict[type[Operation], Builder] = {
    dcom.OutlierSplitOp: cast(Builder, _outlier_split),
    dcom.OutlierMatmulOp: cast(Builder, _outlier_matmul),
    dcom.TokenSplitOp: cast(Builder, _token_split),
    dcom.TokenMatmulOp: cast(Builder, _token_matmul),
    dcom.DecomposeOp: cast(Builder, _decompose),
    dcom.ProjectOp: cast(Builder, _project),
    dcom.MatmulOp: cast(Builder, _matmul),
    dcom.ScaleOp: cast(Builder, _scale),
    dcom.ReconstructOp: cast(Builder, _reconstruct),
}
"""Every operation of `dcom`."""
