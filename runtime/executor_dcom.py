"""Kernels of `dcom` on the host: activations in factors, products with them, and products of what stays exact."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
from xdsl.ir import Operation

from dialects import dcom
from runtime import executor_split, lanczos
from runtime.executor_arrays import FLOAT, Array, Arrays, Value, add_rows, scale_rows, take_columns, take_rows
from runtime.executor_block import Builder, Fusion, Host, Kernel, element_dtype, failure
from runtime.executor_split import (
    DcomHost,
    Decompose,
    Outliers,
    Tokens,
    check_finite,
    energies,
    exact_channels,
    prompts_of,
)
from runtime.executor_weights import WeightFactors
from runtime.lanczos import Factored


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


def _decompose(op: dcom.DecomposeOp, host: DcomHost) -> Kernel:
    type_, arrays = op.factors.type, host.arrays
    rank = type_.rank.data
    count, rows, cols = type_.blocks
    energy = None if op.energy is None else op.energy.value.data
    shapes = ((count, rows, rank), (count, rank, rank), (count, rank, cols))

    def kernel(x: Value) -> tuple[Factored]:
        prompts = prompts_of(op, x, type_.dimensions[0], host)
        check_finite(op, prompts, None, arrays)
        blocks = in_blocks(prompts, type_, arrays).reshape(-1, cols)
        factors = host.decompose(op, blocks)
        parts = (factors.u, factors.core, factors.v)
        if tuple(tuple(part.shape) for part in parts) != shapes:
            raise failure(op, f"the decomposition gave factors of shapes {factors.u.shape}, {factors.v.shape}")
        if energy is not None:
            kept = lanczos.keep_energy(Factored(*map(arrays.to_numpy, parts)), arrays.to_numpy(blocks), energy)
            parts = tuple(map(arrays.from_numpy, (kept.u, kept.core, kept.v)))
        return (_in_types(op, Factored(*parts), arrays),)

    return kernel


def fuse_splits(operations: Sequence[Operation], host: DcomHost) -> Mapping[Operation, Fusion]:
    """Decompositions that do the split before them, too, where nothing else needs what it leaves.

    That is not written then: the back end's Lanczos takes the exact channels of its input as zero.
    """
    places = {op: place for place, op in enumerate(operations)}
    fusions: dict[Operation, Fusion] = {}
    for op in operations:
        if not isinstance(op, dcom.DecomposeOp) or op.energy is not None:
            continue
        split = op.input.owner
        if not isinstance(split, dcom.OutlierSplitOp) or split not in places or not split.dense.has_one_use():
            continue
        if all(places.get(use.operation, -1) > places[op] for use in split.outliers.uses):
            results = (*op.results, split.outliers)
            fusions[op] = Fusion(_split_and_decompose(split, op, host), (split.input,), frozenset({split}), results)
    return fusions


def _split_and_decompose(split: dcom.OutlierSplitOp, op: dcom.DecomposeOp, host: DcomHost) -> Kernel:
    type_, arrays = op.factors.type, host.arrays
    choose, take = exact_channels(split, host), arrays.function(take_columns)

    def kernel(x: Value) -> tuple[Factored, Outliers]:
        prompts = prompts_of(split, x, type_.dimensions[0], host)
        exact: list[tuple[Value, Value]] = []

        def without(squares: Value) -> tuple[Value, Value]:
            exact.append(choose(prompts, squares))
            return exact[0]

        blocks = in_blocks(prompts, type_, arrays).reshape(-1, prompts.shape[2])
        factors = host_decompose(op, blocks, partial(arrays.lanczos, prompts=len(prompts), without=without))
        indices, counts = exact[0]
        values = take(prompts, indices, counts)
        return _in_types(op, factors, arrays), Outliers(values.reshape(-1, indices.shape[1]), indices)

    return kernel


def _in_types(op: dcom.DecomposeOp, factors: Factored, arrays: Arrays) -> Factored:
    """The factors in the element types that a decomposition gives."""
    dtype = element_dtype(op.input.type, op)
    core = arrays.cast(factors.core, FLOAT)
    return Factored(arrays.cast(factors.u, dtype), core, arrays.cast(factors.v, dtype))


def _project(op: dcom.ProjectOp, host: DcomHost) -> Kernel:
    type_, arrays = op.factors.type, host.arrays
    dtype = element_dtype(op.input.type, op)
    permute, root, divide, select = (
        arrays.function(function) for function in (np.transpose, np.sqrt, np.divide, np.where)
    )
    identity = arrays.from_numpy(np.eye(type_.rank.data, dtype=np.float32))
    zero = arrays.from_numpy(np.float32(0))

    def kernel(x: Value, basis: Factored) -> tuple[Factored]:
        prompts = prompts_of(op, x, type_.dimensions[0], host)
        check_finite(op, prompts, None, arrays)
        blocks = in_blocks(prompts, type_, arrays)
        shares = arrays.product(permute(basis.u, (0, 2, 1)), blocks, FLOAT)
        norms = root(energies(shares, arrays))[:, :, None]
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
            dense = arrays.product(f.u, scaled(f.core, f.v), dtype)
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
    **executor_split.BUILDERS,
    dcom.OutlierMatmulOp: cast(Builder, _outlier_matmul),
    dcom.TokenMatmulOp: cast(Builder, _token_matmul),
    dcom.DecomposeOp: cast(Builder, _decompose),
    dcom.ProjectOp: cast(Builder, _project),
    dcom.MatmulOp: cast(Builder, _matmul),
    dcom.ScaleOp: cast(Builder, _scale),
    dcom.ReconstructOp: cast(Builder, _reconstruct),
}
"""Every operation of `dcom`."""
