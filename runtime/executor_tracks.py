"""Kernels of `dialects/dcom_tracks.py`: tracks side by side, heads, and products from the left."""

from typing import cast

import numpy as np
from xdsl.ir import Operation

from dialects import dcom
from runtime.executor_arrays import Array
from runtime.executor_block import Builder, Host, Kernel, element_dtype
from runtime.executor_dcom import Outliers, Tokens, in_blocks, wide
from runtime.executor_weights import WeightFactors
from runtime.lanczos import Factored


def _bias_track(op: dcom.BiasTrackOp, host: Host) -> Kernel:
    type_ = op.result.type
    count, (batch, rows, _) = type_.blocks[0], type_.dimensions
    u = in_blocks(np.ones((batch, rows, 1), element_dtype(type_.element_type, op)), type_)

    def kernel(bias: Array) -> tuple[Factored]:
        return (Factored(u, _identity(count, 1), np.broadcast_to(bias, (count, 1, len(bias)))),)

    return kernel


def _exact_track(op: dcom.ExactTrackOp, host: Host) -> Kernel:
    type_ = op.result.type
    count, (batch, rows, _), rank = type_.blocks[0], type_.dimensions, type_.rank.data
    dtype = element_dtype(type_.element_type, op)

    def kernel(exact: Outliers | Tokens, weight: Array | WeightFactors) -> tuple[Factored]:
        if isinstance(exact, Outliers):
            u = exact.values.reshape(batch, rows, rank)
            v = wide(weight[exact.indices])
        else:
            u = (np.arange(rows)[:, None] == exact.indices[:, None]).astype(dtype)
            values = wide(exact.values)
            v = weight.after(values) if isinstance(weight, WeightFactors) else values @ wide(weight)
        v = np.repeat(v.astype(dtype, copy=False), count // batch, axis=0)
        return (Factored(in_blocks(u, type_), _identity(count, rank), v),)

    return kernel


def _identity(count: int, rank: int) -> Array:
    return np.broadcast_to(np.eye(rank, dtype=np.float32), (count, rank, rank))


def _concat(op: dcom.ConcatOp, host: Host) -> Kernel:
    def kernel(first: Factored, second: Factored) -> tuple[Factored]:
        rank = first.core.shape[1]
        core = np.zeros((len(first.core), *[rank + second.core.shape[1]] * 2), np.float32)
        core[:, :rank, :rank] = first.core
        core[:, rank:, rank:] = second.core
        u = np.concatenate([first.u, second.u], axis=2)
        return (Factored(u, core, np.concatenate([first.v, second.v], axis=1)),)

    return kernel


def _split_heads(op: dcom.SplitHeadsOp, host: Host) -> Kernel:
    groups, shared = op.groups.value.data, op.shared.value.data
    batch = op.input.type.dimensions[0]

    def repeat(x: Array) -> Array:
        prompts = x.reshape(batch, 1, -1, *x.shape[1:])
        heads = np.broadcast_to(prompts, (batch, groups * shared, *prompts.shape[2:]))
        return heads.reshape(-1, *x.shape[1:])

    def kernel(f: Factored) -> tuple[Factored]:
        rank, cols = f.v.shape[1:]
        cut = f.v.reshape(batch, -1, rank, groups, cols // groups).transpose(0, 3, 1, 2, 4)[:, :, None]
        v = np.broadcast_to(cut, (batch, groups, shared, *cut.shape[3:])).reshape(-1, rank, cols // groups)
        return (Factored(repeat(f.u), repeat(f.core), v),)

    return kernel


def _left_matmul(op: dcom.LeftMatmulOp, host: Host) -> Kernel:
    dtype = element_dtype(op.result.type.element_type, op)

    def kernel(left: Array, f: Factored) -> tuple[Factored]:
        u = wide(left).reshape(len(f.u), *left.shape[-2:]) @ wide(f.u)
        return (Factored(u.astype(dtype, copy=False), f.core, f.v),)

    return kernel


def _head_matmul(op: dcom.HeadMatmulOp, host: Host) -> Kernel:
    heads = op.heads.value.data
    dtype = element_dtype(op.result.type.element_type, op)

    def kernel(f: Factored, weight: Array) -> tuple[Factored]:
        count, rank, cols = f.v.shape
        product = wide(f.v).reshape(-1, heads, rank, cols) @ wide(weight).reshape(heads, cols, -1)
        return (Factored(f.u, f.core, product.reshape(count, rank, -1).astype(dtype, copy=False)),)

    return kernel


def _reconstruct_heads(op: dcom.ReconstructHeadsOp, host: Host) -> Kernel:
    heads = op.heads.value.data
    dtype = element_dtype(op.result.type, op)

    def kernel(f: Factored) -> tuple[Array]:
        count, rows, rank = f.u.shape
        u = wide(f.u).reshape(-1, heads, rows, rank).transpose(0, 2, 1, 3).reshape(-1, rows, heads * rank)
        v = (f.core @ wide(f.v)).reshape(count // heads, heads * rank, -1)
        dense: Array = u @ v
        return (dense.reshape(-1, v.shape[2]).astype(dtype, copy=False),)

    return kernel


BUILDERS: dict[type[Operation], Builder] = {
    dcom.BiasTrackOp: cast(Builder, _bias_track),
    dcom.ExactTrackOp: cast(Builder, _exact_track),
    dcom.ConcatOp: cast(Builder, _concat),
    dcom.SplitHeadsOp: cast(Builder, _split_heads),
    dcom.LeftMatmulOp: cast(Builder, _left_matmul),
    dcom.HeadMatmulOp: cast(Builder, _head_matmul),
    dcom.ReconstructHeadsOp: cast(Builder, _reconstruct_heads),
}
"""The operations of `dialects/dcom_tracks.py`."""
