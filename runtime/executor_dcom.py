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
"""Takes a decomposition and its input [B*S, H]; returns its factors."""


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
        op.factors.type.dimensions[0],
        op.factors.type.rank.data,
        op.iterations.value.data,
        seed=op.seed.value.data,
        reorthogonalisation=op.reorthogonalisation.value.data,
    )


def zero_decompose(op: dcom.DecomposeOp, x: Array) -> Factored:
    """No decomposition at all: the rank-0 control, in which only the outlier channels are left."""
    batch, rows, cols = op.factors.type.dimensions
    rank = op.factors.type.rank.data
    shapes = ((batch, rows, rank), (batch, rank, rank), (batch, rank, cols))
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
    batch, rows, cols = op.factors.type.dimensions
    rank = op.factors.type.rank.data
    dtype = element_dtype(op.input.type, op)
    shapes = ((batch, rows, rank), (batch, rank, rank), (batch, rank, cols))

    def kernel(x: Array) -> tuple[Factored]:
        prompts = _prompts(op, x, batch, host.valid_rows)
        factors = host.decompose(op, prompts.reshape(x.shape))
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
        return (Factored(_wide(f.u), f.core, _wide(f.v)).reconstruct().astype(dtype, copy=False),)

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
