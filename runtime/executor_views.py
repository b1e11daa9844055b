"""Operands of structured operations seen from the iteration space: one axis for each loop, of size 1 where unused."""

from collections.abc import Callable, Sequence
from typing import TypeAlias, cast

import numpy as np
from xdsl.ir import Operation
from xdsl.ir.affine import AffineConstantExpr, AffineDimExpr, AffineExpr, AffineMap

from runtime.executor_arrays import Array, Arrays, Value
from runtime.executor_block import unsupported

View: TypeAlias = Callable[[Value], Value]
"""Takes an operand (an array, or a scalar) and returns it with one axis for each loop."""


def loop_axis(space: Sequence[int], loop: int) -> Array:
    """The values of one loop's index, [1, …, size, …, 1]."""
    return np.arange(space[loop]).reshape([size if axis == loop else 1 for axis, size in enumerate(space)])


def loop_dims(map_: AffineMap) -> list[int] | None:
    """The loop that each result of `map_` is, when they are distinct loops; None otherwise."""
    dims = [expr.position for expr in map_.results if isinstance(expr, AffineDimExpr)]
    return dims if len(dims) == len(map_.results) == len(set(dims)) else None


def iteration_space(maps: Sequence[AffineMap], shapes: Sequence[Sequence[int]], op: Operation) -> tuple[int, ...]:
    """The size of each loop, from the operand dimensions that are just that loop.

    Raises:
        DcomError: a loop is no operand's dimension.
    """
    sizes: dict[int, int] = {}
    for map_, shape in zip(maps, shapes, strict=True):
        for expr, size in zip(map_.results, shape, strict=True):
            if isinstance(expr, AffineDimExpr):
                sizes.setdefault(expr.position, size)
    loops = range(maps[0].num_dims if maps else 0)
    missing = [loop for loop in loops if loop not in sizes]
    if missing:
        raise unsupported(op, f"the size of loop d{missing[0]} follows from no operand")
    return tuple(sizes[loop] for loop in loops)


def _evaluate(expr: AffineExpr, space: Sequence[int]) -> Array:
    """The values of an affine expression over the iteration space, broadcastable to it."""
    axes = [loop_axis(space, loop) for loop in range(len(space))]
    value = expr.eval(cast(Sequence[int], axes), [])
    return np.asarray(value).reshape(np.shape(value) or (1,) * len(space))


def view(map_: AffineMap, space: Sequence[int], shape: Sequence[int], op: Operation, arrays: Arrays) -> View:
    """How an operand of `shape`, indexed by `map_`, looks from the iteration space.

    Plain loops are transposed into place without a copy. A dimension indexed by a function of one loop (`d1 floordiv 3`
    for grouped KV heads) or by a constant is taken along its axis; anything else is one gather over all axes.
    """
    used = [expr.used_dims() for expr in map_.results]
    loops = [loop for dims in used for loop in dims]
    indices = [_evaluate(expr, space) for expr in map_.results]
    if 0 not in space:
        for axis, (index, size) in enumerate(zip(indices, shape, strict=True)):
            if index.min() < 0 or index.max() >= size:
                raise unsupported(op, f"{map_} reaches out of dimension {axis} of an operand of shape {list(shape)}")
    if len(loops) != len(set(loops)) or any(len(dims) > 1 for dims in used):
        places = tuple(map(arrays.from_numpy, indices))
        return lambda x: x[places]

    taken = [
        (axis, arrays.from_numpy(index.reshape(-1)))
        for axis, (expr, index) in enumerate(zip(map_.results, indices, strict=True))
        if not isinstance(expr, AffineDimExpr)
    ]
    constants = tuple(axis for axis, expr in enumerate(map_.results) if isinstance(expr, AffineConstantExpr))
    order = sorted(range(len(loops)), key=lambda axis: loops[axis])
    spread = tuple(slice(None) if loop in loops else None for loop in range(len(space)))

    take, squeeze, permute = (arrays.function(function) for function in (np.take, np.squeeze, np.transpose))

    def look(x: Value) -> Value:
        for axis, index in taken:
            x = take(x, index, axis)
        return permute(squeeze(x, constants), order)[spread]

    return look
