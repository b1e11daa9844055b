"""Kernels of `dialects/dcom_tracks.py`: tracks side by side, heads, and products from the left."""

from typing import cast

import numpy as np
from xdsl.ir import Operation

from dialects import dcom
from runtime.executor_arrays import FLOAT, Arrays, Value
from runtime.executor_block import Builder, Host, Kernel, element_dtype
from runtime.executor_dcom import in_blocks, rows_of
from runtime.executor_split import Outliers, Tokens
from runtime.executor_weights import WeightFactors
from runtime.lanczos import Factored


def _bias_track(op: dcom.BiasTrackOp, host: Host) -> Kernel:
    type_, arrays = op.result.type, host.arrays
    count, (batch, rows, _) = type_.blocks[0], type_.dimensions
    ones = arrays.from_numpy(np.ones((batch, rows, 1), element_dtype(type_.element_type, op)))
    u, core = in_blocks(ones, type_, arrays), _identity(count, 1, arrays)
    broadcast = arrays.function(np.broadcast_to)

    def kernel(bias: Value) -> tuple[Factored]:
        return (Factored(u, core, broadcast(bias, (count, 1, len(bias)))),)

    return kernel


def _exact_track(op: dcom.ExactTrackOp, host: Host) -> Kernel:
    type_, arrays = op.result.type, host.arrays
    count, (batch, rows, _), rank = type_.blocks[0], type_.dimensions, type_.rank.data
    dtype, core = element_dtype(type_.element_type, op), _identity(count, rank, arrays)
    places, repeat = arrays.from_numpy(np.arange(rows)[:, None]), arrays.function(np.repeat)

    def kernel(exact: Outliers | Tokens, weight: Value | WeightFactors) -> tuple[Factored]:
        if isinstance(exact, Outliers):
            u = exact.values.reshape(batch, rows, rank)
            v = arrays.cast(rows_of(weight, exact.indices, arrays), dtype)
        else:
            u = arrays.cast(places == exact.indices[:, None], dtype)
            if isinstance(weight, WeightFactors):
                v = arrays.cast(weight.after(exact.values), dtype)
            else:
                v = arrays.product(exact.values, weight, dtype)
        if count > batch:
            v = repeat(v, count // batch, 0)
        return (Factored(in_blocks(u, type_, arrays), core, v),)

    return kernel


def _identity(count: int, rank: int, arrays: Arrays) -> Value:
    return arrays.from_numpy(np.broadcast_to(np.eye(rank, dtype=FLOAT), (count, rank, rank)).copy())


def _concat(op: dcom.ConcatOp, host: Host) -> Kernel:
    arrays = host.arrays
    concatenate = arrays.function(np.concatenate)
    count, ranks = op.result.type.blocks[0], (op.first.type.core_shape, op.second.type.core_shape)

    def zeros(rows: int, cols: int) -> Value:
        return arrays.from_numpy(np.zeros((count, rows, cols), FLOAT))

    above, below = zeros(ranks[0][0], ranks[1][1]), zeros(ranks[1][0], ranks[0][1])

    def kernel(first: Factored, second: Factored) -> tuple[Factored]:
        rows = (concatenate([first.core, above], 2), concatenate([below, second.core], 2))
        u, v = concatenate([first.u, second.u], 2), concatenate([first.v, second.v], 1)
        return (Factored(u, concatenate(rows, 1), v),)

    return kernel


def _slice(op: dcom.SliceOp, host: Host) -> Kernel:
    first = op.offset.value.data
    channels = slice(first, first + op.result.type.dimensions[2])

    def kernel(f: Factored) -> tuple[Factored]:
        return (Factored(f.u, f.core, f.v[..., channels]),)

    return kernel


def _split_heads(op: dcom.SplitHeadsOp, host: Host) -> Kernel:
    groups, shared = op.groups.value.data, op.shared.value.data
    batch = op.input.type.dimensions[0]
    permute, broadcast = host.arrays.function(np.transpose), host.arrays.function(np.broadcast_to)

    def repeat(x: Value) -> Value:
        prompts = x.reshape(batch, 1, -1, *x.shape[1:])
        heads = broadcast(prompts, (batch, groups * shared, *prompts.shape[2:]))
        return heads.reshape(-1, *x.shape[1:])

    def kernel(f: Factored) -> tuple[Factored]:
        rank, cols = f.v.shape[1:]
        cut = permute(f.v.reshape(batch, -1, rank, groups, cols // groups), (0, 3, 1, 2, 4))[:, :, None]
        v = broadcast(cut, (batch, groups, shared, *cut.shape[3:])).reshape(-1, rank, cols // groups)
        return (Factored(repeat(f.u), repeat(f.core), v),)

    return kernel


def _left_matmul(op: dcom.LeftMatmulOp, host: Host) -> Kernel:
    dtype, arrays = element_dtype(op.result.type.element_type, op), host.arrays
    batch, rows, cols = op.input.type.dimensions
    block, rank = op.input.type.block.data, op.input.type.rank.data
    count, after = -(-rows // block), op.result.type.dimensions[1]
    concatenate, where = arrays.function(np.concatenate), arrays.function(np.where)
    same = arrays.from_numpy(np.eye(count, dtype=np.bool_)[:, None, :, None])
    zero = arrays.from_numpy(np.zeros((), FLOAT))

    def kernel(left: Value, f: Factored) -> tuple[Factored]:
        left = left.reshape(batch, after, rows)
        if count == 1:
            return (Factored(arrays.product(left, f.u, dtype), f.core, f.v),)
        u = f.u.reshape(batch, count, block, rank)
        mixed: list[Value] = []
        for number in range(count):
            columns = left[:, :, number * block : (number + 1) * block]
            mixed.append(arrays.product(columns, u[:, number, : columns.shape[2]], dtype))
        core = where(same, f.core.reshape(batch, count, rank, 1, rank), zero)
        tracks = count * rank
        return (Factored(concatenate(mixed, 2), core.reshape(batch, tracks, tracks), f.v.reshape(batch, tracks, cols)),)

    return kernel


def _head_matmul(op: dcom.HeadMatmulOp, host: Host) -> Kernel:
    heads = op.heads.value.data
    dtype = element_dtype(op.result.type.element_type, op)

    def kernel(f: Factored, weight: Value) -> tuple[Factored]:
        count, rank, cols = f.v.shape
        of_heads = weight.reshape(heads, cols, -1)
        product = host.arrays.product(f.v.reshape(-1, heads, rank, cols), of_heads, dtype)
        return (Factored(f.u, f.core, product.reshape(count, rank, -1)),)

    return kernel


def _reconstruct_heads(op: dcom.ReconstructHeadsOp, host: Host) -> Kernel:
    heads, arrays = op.heads.value.data, host.arrays
    dtype, permute = element_dtype(op.result.type, op), arrays.function(np.transpose)

    def kernel(f: Factored) -> tuple[Value]:
        count, rows, rank = f.u.shape
        u = permute(f.u.reshape(-1, heads, rows, rank), (0, 2, 1, 3)).reshape(-1, rows, heads * rank)
        v = arrays.product(f.core, f.v, FLOAT).reshape(count // heads, heads * rank, -1)
        return (arrays.product(u, v, dtype).reshape(-1, v.shape[2]),)

    return kernel


BUILDERS: dict[type[Operation], Builder] = {
    dcom.BiasTrackOp: cast(Builder, _bias_track),
    dcom.ExactTrackOp: cast(Builder, _exact_track),
    dcom.ConcatOp: cast(Builder, _concat),
    dcom.SliceOp: cast(Builder, _slice),
    dcom.SplitHeadsOp: cast(Builder, _split_heads),
    dcom.LeftMatmulOp: cast(Builder, _left_matmul),
    dcom.HeadMatmulOp: cast(Builder, _head_matmul),
    dcom.ReconstructHeadsOp: cast(Builder, _reconstruct_heads),
}
"""The operations of `dialects/dcom_tracks.py`."""
