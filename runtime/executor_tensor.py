"""Kernels of `tensor`. Results may be views: no value is ever changed in place."""

from collections.abc import Iterable, Sequence

import numpy as np
from xdsl.dialects import tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, TensorType
from xdsl.ir import Attribute, Operation

from runtime.executor_arrays import Value
from runtime.executor_block import (
    Builder,
    Host,
    Kernel,
    binary,
    element_dtype,
    failure,
    headed,
    static_shape,
    unary,
    unsupported,
    variadic,
)


def _fill_dynamic(static: Sequence[int], dynamic: Iterable[Value]) -> tuple[int, ...]:
    """The list with each dynamic entry taken from `dynamic`, in order."""
    values = iter(dynamic)
    return tuple(int(next(values)) if size == DYNAMIC_INDEX else size for size in static)


def _shape(type_: Attribute, op: Operation) -> tuple[int, ...]:
    if not isinstance(type_, TensorType):
        raise unsupported(op, f"the executor needs a ranked tensor, not {type_}")
    return type_.get_shape()


def check_indices(op: Operation, host: Host, shape: Sequence[int], indices: Sequence[Value]) -> None:
    """Raise `DcomError` when an index lies outside of its dimension (undefined in MLIR, wrong in NumPy if negative)."""
    for axis, (size, index) in enumerate(zip(shape, map(host.arrays.to_numpy, indices), strict=True)):
        if np.size(index) and not (np.min(index) >= 0 and np.max(index) < size):
            bad = int(np.min(index)) if np.min(index) < 0 else int(np.max(index))
            raise failure(op, f"index {bad} is outside of dimension {axis}, which has {size} elements")


def _empty(op: tensor.EmptyOp, host: Host) -> Kernel:
    """Unspecified contents take no memory: one zero, broadcast."""
    zero = host.arrays.from_numpy(element_dtype(op.tensor.type, op).type(0))
    shape = _shape(op.tensor.type, op)
    broadcast = host.arrays.function(np.broadcast_to)
    return variadic(lambda *sizes: broadcast(zero, _fill_dynamic(shape, sizes)))


def _splat(op: tensor.SplatOp, host: Host) -> Kernel:
    shape = _shape(op.result.type, op)
    broadcast = host.arrays.function(np.broadcast_to)
    return headed(lambda value, sizes: broadcast(value, _fill_dynamic(shape, sizes)))


def _from_elements(op: tensor.FromElementsOp, host: Host) -> Kernel:
    dtype = element_dtype(op.result.type, op)
    shape = static_shape(op.result, op)
    return variadic(host.arrays.function(lambda *elements: np.array(elements, dtype).reshape(shape)))


def _collapse_shape(op: tensor.CollapseShapeOp, host: Host) -> Kernel:
    groups = [[axis.value.data for axis in group.data] for group in op.reassociation.data]
    return unary(lambda x: x.reshape([int(np.prod([x.shape[axis] for axis in group])) for group in groups]))


def _expand_shape(op: tensor.ExpandShapeOp, host: Host) -> Kernel:
    shape = op.static_output_shape.get_values()
    return headed(lambda x, sizes: x.reshape(_fill_dynamic(shape, sizes)))


def _reshape(op: tensor.ReshapeOp, host: Host) -> Kernel:
    return binary(lambda x, shape: x.reshape([int(size) for size in shape]))


def _cast(op: tensor.CastOp, host: Host) -> Kernel:
    wanted = _shape(op.dest.type, op)

    def kernel(x: Value) -> tuple[Value]:
        if any(size not in (DYNAMIC_INDEX, actual) for size, actual in zip(wanted, x.shape, strict=True)):
            raise failure(op, f"a tensor of shape {list(x.shape)} is not a {op.dest.type}")
        return (x,)

    return kernel


def _dim(op: tensor.DimOp, host: Host) -> Kernel:
    def kernel(x: Value, axis: Value) -> tuple[Value]:
        check_indices(op, host, [x.ndim], [axis])
        return (host.arrays.from_numpy(np.int64(x.shape[int(axis)])),)

    return kernel


def _concat(op: tensor.ConcatOp, host: Host) -> Kernel:
    axis = op.dim.value.data
    concatenate = host.arrays.function(np.concatenate)
    return variadic(lambda *inputs: concatenate(inputs, axis))


def _extract(op: tensor.ExtractOp, host: Host) -> Kernel:
    """One element, or a gather where a linalg body gives arrays of indices."""

    def kernel(x: Value, *indices: Value) -> tuple[Value]:
        check_indices(op, host, x.shape, indices)
        return (x[indices],)

    return kernel


def _insert(op: tensor.InsertOp, host: Host) -> Kernel:
    copy = host.arrays.function(np.copy)

    def kernel(scalar: Value, x: Value, *indices: Value) -> tuple[Value]:
        check_indices(op, host, x.shape, indices)
        result = copy(x)
        result[tuple(int(index) for index in indices)] = scalar
        return (result,)

    return kernel


class _Slices:
    """Offsets, sizes and strides of a slice op as NumPy slices."""

    def __init__(self, op: tensor.ExtractSliceOp | tensor.InsertSliceOp) -> None:
        self.op = op
        self.offsets = op.static_offsets.get_values()
        self.sizes = op.static_sizes.get_values()
        self.strides = op.static_strides.get_values()
        self.ends = (len(op.offsets), len(op.offsets) + len(op.sizes))

    def resolve(self, shape: Sequence[int], dynamic: Sequence[Value]) -> tuple[tuple[slice, ...], tuple[int, ...]]:
        """The slices and their sizes; raises `DcomError` when they reach out of `shape`."""
        first, second = self.ends
        offsets = _fill_dynamic(self.offsets, dynamic[:first])
        sizes = _fill_dynamic(self.sizes, dynamic[first:second])
        strides = _fill_dynamic(self.strides, dynamic[second:])
        if any(stride < 1 for stride in strides):
            raise unsupported(self.op, "the executor does not support strides below 1")
        for offset, size, stride, extent in zip(offsets, sizes, strides, shape, strict=True):
            if size < 0 or offset < 0 or (size and offset + (size - 1) * stride >= extent):
                raise failure(self.op, f"offset {offset}, size {size}, stride {stride} reach out of {extent} elements")
        slices = tuple(slice(o, o + n * s, s) for o, n, s in zip(offsets, sizes, strides, strict=True))
        return slices, sizes


def _extract_slice(op: tensor.ExtractSliceOp, host: Host) -> Kernel:
    """A slice; where the result has a lower rank, dimensions of size 1 are dropped."""
    slices = _Slices(op)
    result = _shape(op.result.type, op)
    if len(result) == len(slices.sizes):
        return headed(lambda x, dynamic: x[slices.resolve(x.shape, dynamic)[0]])
    if DYNAMIC_INDEX in result:
        raise unsupported(op, "the executor does not drop dimensions of a slice of dynamic size")
    return headed(lambda x, dynamic: x[slices.resolve(x.shape, dynamic)[0]].reshape(result))


def _insert_slice(op: tensor.InsertSliceOp, host: Host) -> Kernel:
    """In place where the destination is a slice op's own result, which nothing else reads."""
    slices, before = _Slices(op), op.dest.owner
    own = isinstance(before, tensor.InsertSliceOp) and before.parent is op.parent and len(list(op.dest.uses)) == 1
    own = own and host.observer is None
    copy = host.arrays.function(np.copy)

    def kernel(source: Value, dest: Value, *dynamic: Value) -> tuple[Value]:
        cut, sizes = slices.resolve(dest.shape, dynamic)
        result = dest if own else copy(dest)
        result[cut] = source.reshape(sizes)
        return (result,)

    return kernel


BUILDERS: dict[type[Operation], Builder] = {
    tensor.CastOp: _cast,
    tensor.CollapseShapeOp: _collapse_shape,
    tensor.ConcatOp: _concat,
    tensor.DimOp: _dim,
    tensor.EmptyOp: _empty,
    tensor.ExpandShapeOp: _expand_shape,
    tensor.ExtractOp: _extract,
    tensor.ExtractSliceOp: _extract_slice,
    tensor.FromElementsOp: _from_elements,
    tensor.InsertOp: _insert,
    tensor.InsertSliceOp: _insert_slice,
    tensor.ReshapeOp: _reshape,
    tensor.SplatOp: _splat,
}
"""Every operation of `tensor` that the executor runs."""
