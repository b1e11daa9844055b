"""Kernels of `dcom`: factors and outlier channels of activations on the host."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, cast

import numpy as np
from xdsl.ir import Operation

from dialects import dcom
from runtime import lanczos
from runtime.executor_block import Array, Builder, Host, Kernel, element_dtype, failure
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


def host_decompose(op: dcom.DecomposeOp, x: Array) -> Factored:
    """`dcom.decompose` by the float32 Lanczos of `runtime.lanczos`."""
    return lanczos.decompose(
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


def _prompts(op: dcom.OutlierSplitOp | dcom.DecomposeOp, x: Array, batch: int, valid: Sequence[int] | None) -> Array:
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
        # Highest score first; a stable sort leaves the lower index first among equals.
        channels = np.argsort(-scores, 1, kind="stable")[:, :capacity]
        chosen = np.take_along_axis(scores, channels, 1) > cutoff
        indices = np.where(chosen, channels, 0)
        values = np.where(chosen[:, None], np.take_along_axis(prompts, indices[:, None], 2), prompts.dtype.type(0))
        keep = np.ones((batch, cols), np.bool_)
        for row, kept, which in zip(keep, channels, chosen, strict=True):
            row[kept[which]] = False
        dense = np.where(keep[:, None], prompts, prompts.dtype.type(0))
        return dense.reshape(x.shape), Outliers(values.reshape(-1, capacity), indices)

    return kernel


def _decompose(op: dcom.DecomposeOp, host: DcomHost) -> Kernel:
    type_ = op.factors.type
    rank = type_.rank.data
    count, rows, cols = type_.blocks
    dtype = element_dtype(op.input.type, op)
    shapes = ((count, rows, rank), (count, rank, rank), (count, rank, cols))

    def kernel(x: Array) -> tuple[Factored]:
        prompts = _prompts(op, x, type_.dimensions[0], host.valid_rows)
        factors = host.decompose(op, _in_blocks(prompts, type_).reshape(-1, cols))
        if (factors.u.shape, factors.core.shape, factors.v.shape) != shapes:
            raise failure(op, f"the decomposition gave factors of shapes {factors.u.shape}, {factors.v.shape}")
        return (
            Factored(
                factors.u.astype(dtype, copy=False),
                factors.core.astype(np.float32, copy=False),
                factors.v.astype(dtype, copy=False),
            ),
        )

    return kernel


def _in_blocks(prompts: Array, type_: dcom.FactoredType) -> Array:
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


def _wide(x: Array) -> Array:
    """In float32, the type in which products are summed."""
    return x.astype(np.float32, copy=False)


def _matmul(op: dcom.MatmulOp, host: DcomHost) -> Kernel:
    dtype = element_dtype(op.weight.type, op)

    def kernel(f: Factored, w: Array) -> tuple[Factored]:
        return (Factored(f.u, f.core, (_wide(f.v) @ _wide(w)).astype(dtype, copy=False)),)

    return kernel


def _reconstruct(op: dcom.ReconstructOp, host: DcomHost) -> Kernel:
    dtype = element_dtype(op.result.type, op)

    def kernel(f: Factored) -> tuple[Array]:
        dense = Factored(_wide(f.u), f.core, _wide(f.v)).reconstruct()
        return (_out_of_blocks(dense, op.input.type).astype(dtype, copy=False),)

    return kernel


def _outlier_matmul(op: dcom.OutlierMatmulOp, host: DcomHost) -> Kernel:
    dtype = element_dtype(op.result.type, op)
    batch, rows, _ = op.input.type.dimensions

    def kernel(outliers: Outliers, weight: Array) -> tuple[Array]:
        values = _wide(outliers.values.reshape(batch, rows, -1))
        product = values @ _wide(weight[outliers.indices])
        return (product.reshape(batch * rows, -1).astype(dtype, copy=False),)

    return kernel


BUILDERS: dict[type[Operation], Builder] = {
    dcom.OutlierSplitOp: cast(Builder, _outlier_split),
    dcom.DecomposeOp: cast(Builder, _decompose),
    dcom.MatmulOp: cast(Builder, _matmul),
    dcom.ReconstructOp: cast(Builder, _reconstruct),
    dcom.OutlierMatmulOp: cast(Builder, _outlier_matmul),
}
"""Every operation of `dcom`."""
