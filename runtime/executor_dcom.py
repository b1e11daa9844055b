"""Kernels of `dcom`: factors, outlier channels and exact tokens of activations on the host."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, cast

import numpy as np
from xdsl.ir import Operation

from dialects import dcom
from runtime import lanczos
from runtime.executor_arrays import Array
from runtime.executor_block import Builder, Host, Kernel, element_dtype, failure
from runtime.executor_weights import WeightFactors
from runtime.lanczos import Factored

Decompose: TypeAlias = Callable[[dcom.DecomposeOp, Array], Factored]
"""Takes a decomposition and its input in M whole blocks of T rows, [M*T, H]; returns the factors of each."""


class DcomHost(Host, Protocol):
    """The host as these kernels see it."""

    decompose: Decompose
    valid_rows: Sequence[int] | None


@dataclass(frozen=True)
class Outliers:
    """The channels of each prompt that are kept exact."""

    values: Array
    """[B*S, C]; a slot that holds no channel is zero."""
    indices: Array
    """[B, C] int64, the channel in each slot."""


@dataclass(frozen=True)
class Tokens:
    """The rows of each prompt that are kept exact."""

    values: Array
    """[B, C, H]; a slot that holds no row is zero."""
    indices: Array
    """[B, C] int64, the row in each slot."""


def host_decompose(op: dcom.DecomposeOp, x: Array, by: Callable[..., Factored] = lanczos.decompose) -> Factored:
    """`dcom.decompose` by the float32 Lanczos of `runtime.lanczos`, or by the same of another library."""
    return by(
        x,
        op.factors.type.blocks[0],
        op.factors.type.rank.data,
        op.iterations.value.data,
        seed=op.seed.value.data,
        reorthogonalisation=op.reorthogonalisation.value.data,
    )


def zero_decompose(op: dcom.DecomposeOp, x: Array) -> Factored:
    """No decomposition at all: the rank-0 control, in which only the outlier channels are left."""
    count, rows, cols = op.factors.type.blocks
    rank = op.factors.type.rank.data
    shapes = ((count, rows, rank), (count, rank, rank), (count, rank, cols))
    return Factored(*(np.zeros(shape, np.float32) for shape in shapes))


def _prompts(
    op: dcom.OutlierSplitOp | dcom.TokenSplitOp | dcom.DecomposeOp | dcom.ProjectOp,
    x: Array,
    batch: int,
    valid: Sequence[int] | None,
) -> Array:
    """`x` as [B, S, H], with the rows of padding zero.

    Raises:
        DcomError: a NaN or an infinity.
    """
    prompts = x.reshape(batch, -1, x.shape[-1])
    if valid is not None and any(rows < prompts.shape[1] for rows in valid):
        if len(valid) != batch:
            raise failure(op, f"{len(valid)} numbers of valid rows are given for {batch} prompts")
        prompts = prompts.copy()
        for prompt, rows in zip(prompts, valid, strict=True):
            prompt[rows:] = 0
    if not np.isfinite(prompts).all():
        what = "NaN" if np.isnan(prompts).any() else "infinity"
        raise failure(op, f"{what} in the activations of layer {op.layer.value.data}, site {op.site.data}")
    return prompts


def _outlier_split(op: dcom.OutlierSplitOp, host: DcomHost) -> Kernel:
    batch, _, cols = op.outliers.type.dimensions
    capacity = op.capacity.value.data
    threshold = None if op.threshold is None else np.float32(op.threshold.value.data)
    cutoff = 0 if op.min_count is None else op.min_count.value.data - 1

    def kernel(x: Array) -> tuple[Array, Outliers]:
        prompts = _prompts(op, x, batch, host.valid_rows)
        exact = prompts.astype(np.float32, copy=False)
        if threshold is None:
            scores = np.add.reduce(exact * exact, 1)
        else:
            scores = np.count_nonzero(np.abs(exact) > threshold, 1)
        indices, chosen = _choose(scores, capacity, cutoff)
        values = np.where(chosen[:, None], np.take_along_axis(prompts, indices[:, None], 2), prompts.dtype.type(0))
        keep = _not_chosen(indices, chosen, cols)
        dense = np.where(keep[:, None], prompts, prompts.dtype.type(0))
        return dense.reshape(x.shape), Outliers(values.reshape(-1, capacity), indices)

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
    capacity = op.capacity.value.data

    def kernel(x: Array, *like: Tokens) -> tuple[Array, Tokens]:
        prompts = _prompts(op, x, batch, host.valid_rows)
        if like:
            indices, chosen = like[0].indices, _energies(like[0].values) > 0
        else:
            indices, chosen = _choose(_energies(prompts), capacity, 0)
        zero = prompts.dtype.type(0)
        values = np.where(chosen[:, :, None], np.take_along_axis(prompts, indices[:, :, None], 1), zero)
        dense = np.where(_not_chosen(indices, chosen, rows)[:, :, None], prompts, zero)
        return dense.reshape(x.shape), Tokens(values, indices)

    return kernel


def _energies(x: Array) -> Array:
    """The sum of squares over the last axis, float32."""
    exact = wide(x)
    return np.add.reduce(exact * exact, -1)


def _decompose(op: dcom.DecomposeOp, host: DcomHost) -> Kernel:
    type_ = op.factors.type
    rank = type_.rank.data
    count, rows, cols = type_.blocks
    dtype = element_dtype(op.input.type, op)
    energy = None if op.energy is None else op.energy.value.data
    shapes = ((count, rows, rank), (count, rank, rank), (count, rank, cols))

    def kernel(x: Array) -> tuple[Factored]:
        prompts = _prompts(op, x, type_.dimensions[0], host.valid_rows)
        blocks = in_blocks(prompts, type_).reshape(-1, cols)
        factors = host.decompose(op, blocks)
        if (factors.u.shape, factors.core.shape, factors.v.shape) != shapes:
            raise failure(op, f"the decomposition gave factors of shapes {factors.u.shape}, {factors.v.shape}")
        if energy is not None:
            factors = lanczos.keep_energy(factors, blocks, energy)
        return (
            Factored(
                factors.u.astype(dtype, copy=False),
                factors.core.astype(np.float32, copy=False),
                factors.v.astype(dtype, copy=False),
            ),
        )

    return kernel


def _project(op: dcom.ProjectOp, host: DcomHost) -> Kernel:
    type_ = op.factors.type
    dtype = element_dtype(op.input.type, op)

    def kernel(x: Array, basis: Factored) -> tuple[Factored]:
        blocks = wide(in_blocks(_prompts(op, x, type_.dimensions[0], host.valid_rows), type_))
        shares = wide(basis.u).transpose(0, 2, 1) @ blocks
        norms = np.sqrt(_energies(shares))
        v = np.divide(shares, norms[:, :, None], out=np.zeros_like(shares), where=norms[:, :, None] > 0)
        core = norms[:, :, None] * np.eye(norms.shape[1], dtype=np.float32)
        return (Factored(basis.u, core, v.astype(dtype, copy=False)),)

    return kernel


def in_blocks(prompts: Array, type_: dcom.FactoredType) -> Array:
    """[B, S, N] as [M, T, N], each prompt filled up with zero rows to whole blocks."""
    batch, rows, cols = prompts.shape
    count, block, _ = type_.blocks
    missing = count // batch * block - rows
    if missing:
        prompts = np.concatenate([prompts, np.zeros((batch, missing, cols), prompts.dtype)], axis=1)
    return prompts.reshape(count, block, cols)


def _out_of_blocks(blocks: Array, type_: dcom.FactoredType) -> Array:
    """[M*T, N] or [M, T, N] as [B*S, N], without the rows that fill up a prompt."""
    batch, rows, _ = type_.dimensions
    cols = blocks.shape[-1]
    return blocks.reshape(batch, -1, cols)[:, :rows].reshape(batch * rows, cols)


def wide(x: Array) -> Array:
    """In float32, the type in which products are summed."""
    return x.astype(np.float32, copy=False)


def _matmul(op: dcom.MatmulOp, host: DcomHost) -> Kernel:
    dtype = element_dtype(op.input.type.element_type, op)

    def kernel(f: Factored, w: Array | WeightFactors) -> tuple[Factored]:
        v = wide(f.v)
        if isinstance(w, WeightFactors):
            return (Factored(f.u, f.core @ w.after_core(v), w.v),)
        return (Factored(f.u, f.core, (v @ wide(w)).astype(dtype, copy=False)),)

    return kernel


def _scale(op: dcom.ScaleOp, host: DcomHost) -> Kernel:
    type_ = op.input.type
    by_rows = op.axis.data == "rows"

    def kernel(f: Factored, scales: Array) -> tuple[Factored]:
        if not by_rows:
            return (Factored(f.u, f.core, f.v * scales),)
        column = scales.reshape(type_.dimensions[0], -1, 1)
        return (Factored(f.u * in_blocks(column, type_), f.core, f.v),)

    return kernel


def _reconstruct(op: dcom.ReconstructOp, host: DcomHost) -> Kernel:
    dtype = element_dtype(op.result.type, op)

    def kernel(f: Factored) -> tuple[Array]:
        u, v = wide(f.u), wide(f.v)
        dense: Array = (u @ f.core) @ v if op.left_first else u @ (f.core @ v)
        return (_out_of_blocks(dense, op.input.type).astype(dtype, copy=False),)

    return kernel


def _outlier_matmul(op: dcom.OutlierMatmulOp, host: DcomHost) -> Kernel:
    dtype = element_dtype(op.result.type, op)
    batch, rows, _ = op.input.type.dimensions

    def kernel(outliers: Outliers, weight: Array | WeightFactors) -> tuple[Array]:
        values = wide(outliers.values.reshape(batch, rows, -1))
        product = values @ wide(weight[outliers.indices])
        return (product.reshape(batch * rows, -1).astype(dtype, copy=False),)

    return kernel


def _token_matmul(op: dcom.TokenMatmulOp, host: DcomHost) -> Kernel:
    dtype = element_dtype(op.result.type, op)
    batch, rows, _ = op.input.type.dimensions

    def kernel(tokens: Tokens, weight: Array | WeightFactors) -> tuple[Array]:
        values = wide(tokens.values)
        products = weight.after(values) if isinstance(weight, WeightFactors) else values @ wide(weight)
        products = products.astype(dtype, copy=False)
        result = np.zeros((batch, rows, products.shape[-1]), dtype)
        for prompt, indices, values in zip(result, tokens.indices, products, strict=True):
            np.add.at(prompt, indices, values)  # an empty slot adds zeros to row 0
        return (result.reshape(batch * rows, -1),)

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
