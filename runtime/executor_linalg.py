"""Kernels of `linalg`: structured operations as whole arrays.

An operation is looked at in this order, and the first form that fits is taken:

1. a contraction, `acc + a * b`: batched matrix multiplication;
2. a map (no reduction), or a fold of each output by an associative operation: the body runs once on arrays that span
   the iteration space, in parts that fit the cache, on all cores, and folds are the library's reductions; or, where the
   back end has code for it, as one compiled loop nest;
3. any other reduction: the reduced loops run in order, the parallel loops as arrays, in NumPy;
4. anything else: every point of the iteration space in order, the definition of `linalg.generic`, in NumPy.

Sums of contractions are taken in the accumulator's type, and in float32 for float16 accumulators (rounded once).
"""

from collections.abc import Sequence
from math import prod
from typing import Any, cast

import numpy as np
from xdsl.dialects import arith
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.linalg.abstract_ops import LinalgStructuredOperation
from xdsl.ir import Operation, SSAValue

from runtime.executor_arrays import Array, Value
from runtime.executor_block import (
    Builder,
    Host,
    Kernel,
    binary,
    element_dtype,
    filled_with,
    static_shape,
    unsupported,
)
from runtime.executor_scalar import COMBINERS
from runtime.executor_structured import Body, Form
from runtime.executor_views import loop_dims


def _slice(x: Value, axis: int, part: slice) -> Value:
    return x[(slice(None),) * axis + (part,)]


def _cut(x: Value, axis: int, part: slice) -> Value:
    """A part of one loop of a view; the whole of it where the view does not depend on that loop."""
    return x if x.shape[axis] == 1 else _slice(x, axis, part)


def _parts(space: Sequence[int], parallel: Sequence[int], points: int) -> tuple[int, list[slice]]:
    """One of the parallel loops, cut so that a part of the space has about so many points."""
    wanted = -(-prod(space) // points)
    axis = next((loop for loop in parallel if space[loop] >= wanted), max(parallel, key=lambda loop: space[loop]))
    step = -(-space[axis] // min(wanted, space[axis]))
    return axis, [slice(start, start + step) for start in range(0, space[axis], step)]


def _whole_array(form: Form, outputs: list[list[int]], folds: list[np.ufunc] | None, values: list[SSAValue]) -> Kernel:
    """Form 2: `values` over the whole space; where `folds` is given they are folded over the reduced loops."""
    body, views, space, arrays_of = Body(form, values), form.views(), form.space, form.arrays
    parallel = sorted(outputs[0])
    reduced = tuple(loop for loop in range(len(space)) if loop not in parallel)
    indices = form.loop_values(body.loops)
    dtypes = [element_dtype(result.type, form.op) for result in form.op.results]
    orders = [[parallel.index(loop) for loop in loops] for loops in outputs]
    count = len(form.maps)
    skip: Sequence[int] = () if body.reads_output or folds else range(form.inputs, count)
    broadcast, permute = arrays_of.function(np.broadcast_to), arrays_of.function(np.transpose)
    folded = [(arrays_of.fold(fold), arrays_of.function(fold)) for fold in folds or ()]
    starts = [filled_with(value) for value in form.op.operands[form.inputs : count]]
    plain = [fold is np.add and start == 0 for fold, start in zip(folds or (), starts, strict=False)]
    part = arrays_of.part
    whole = part is None or prod(space) <= part or not parallel or (folds is None and body.only_arguments)
    compiled = None if whole else arrays_of.loops(form.nest(outputs[0]))

    def evaluate(
        arrays: list[Value], axes: list[Value], captured: Sequence[Value], shape: Sequence[int]
    ) -> list[Value]:
        """The outputs on a part of the space, one axis for each parallel loop."""
        results: list[Value] = []
        for position, value in enumerate(body(arrays, axes, captured)):
            full = broadcast(value, shape)
            if folds is not None:
                fold, combine = folded[position]
                full = fold(full, reduced)
                if not plain[position]:
                    full = combine(arrays[form.inputs + position].reshape(full.shape), full)
            results.append(full)
        return results

    def kernel(*operands: Value) -> list[Value]:
        captured = operands[count:]
        arrays = [None if i in skip else views[i](operands[i]) for i in range(count)]
        if 0 in space and folds is not None:
            return list(operands[form.inputs : count])
        if part is None or whole:
            results = evaluate(arrays, indices, captured, space)
            return [permute(full, order) for full, order in zip(results, orders, strict=True)]
        if compiled is not None and (computed := compiled(*operands[:count])) is not None:
            return list(computed)
        shapes = [[space[loop] for loop in loops] for loops in outputs]
        results = [arrays_of.empty(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
        places = [permute(result, np.argsort(order).tolist()) for result, order in zip(results, orders, strict=True)]
        axis, parts = _parts(space, parallel, part)

        def work(part: slice) -> None:
            cut = [None if array is None else _cut(array, axis, part) for array in arrays]
            shape = [size if loop != axis else len(range(size)[part]) for loop, size in enumerate(space)]
            values = evaluate(cut, [_cut(index, axis, part) for index in indices], captured, shape)
            for place, value in zip(places, values, strict=True):
                _slice(place, parallel.index(axis), part)[...] = value

        arrays_of.for_each(work, parts)
        return results

    return kernel


def _match_folds(form: Form) -> tuple[list[np.ufunc], list[SSAValue]] | None:
    """For `yield combine(acc, value), …`: the combining ufuncs and the values; None where an output is no such fold."""
    folds: list[np.ufunc] = []
    values: list[SSAValue] = []
    for accumulator, result in zip(form.accumulators, form.yielded, strict=True):
        combine = result.owner
        if not isinstance(combine, Operation) or type(combine) not in COMBINERS or combine.parent is not form.body:
            return None
        others = [operand for operand in combine.operands if operand is not accumulator]
        if len(others) != 1 or len(list(accumulator.uses)) != 1 or len(list(result.uses)) != 1:
            return None
        folds.append(COMBINERS[type(combine)])
        values.append(others[0])
    return folds, values


def _match_product(form: Form, value: SSAValue) -> tuple[int, int] | None:
    """The input operands a and b when `value` is their product, each perhaps extended to the accumulator's type."""
    product = value.owner
    if not isinstance(product, arith.MulfOp | arith.MuliOp):
        return None
    sources = [
        operand.owner.operands[0] if isinstance(operand.owner, arith.ExtFOp | arith.ExtSIOp) else operand
        for operand in product.operands
    ]
    a, b = (form.argument_position(source) for source in sources)
    return (a, b) if a is not None and b is not None and max(a, b) < form.inputs else None


def _contraction(form: Form, output: list[int], a: int, b: int, accumulator: np.dtype[Any]) -> Kernel | None:
    """Form 1: the sum over the reduced loops of operand `a` times operand `b`, as one batched matrix product."""
    space = form.space
    loops_a, loops_b = ({loop for expr in form.maps[i].results for loop in expr.used_dims()} for i in (a, b))
    if accumulator == np.bool_ or loops_a | loops_b != set(range(len(space))):
        return None
    batch = sorted(loops_a & loops_b & set(output))
    rows, cols = sorted(loops_a - loops_b), sorted(loops_b - loops_a)
    summed = sorted((loops_a & loops_b) - set(output))
    if not summed or not rows + cols or not set(rows + cols) <= set(output):
        return None
    work = np.dtype(np.float32) if accumulator == np.float16 else accumulator
    view_a, view_b = form.view(a), form.view(b)
    order_a, order_b = [*batch, *rows, *summed, *cols], [*batch, *summed, *cols, *rows]
    outer, *sizes = (prod(space[loop] for loop in loops) for loops in (batch, rows, summed, cols))
    many = [outer] if batch else []
    shape_a, shape_b = [*many, sizes[0], sizes[1]], [*many, sizes[1], sizes[2]]
    loops = [*batch, *rows, *cols]
    shape = [space[loop] for loop in loops]
    order = [loops.index(loop) for loop in output]
    arrays, from_zero = form.arrays, filled_with(form.op.operands[form.inputs]) == 0
    matmul, permute, add = (arrays.function(function) for function in (np.matmul, np.transpose, np.add))

    def kernel(*operands: Value) -> tuple[Value]:
        left = arrays.cast(permute(view_a(operands[a]), order_a).reshape(shape_a), work)
        right = arrays.cast(permute(view_b(operands[b]), order_b).reshape(shape_b), work)
        product = permute(matmul(left, right).reshape(shape), order)
        if not from_zero:
            product = add(product, arrays.cast(operands[form.inputs], work))
        return (arrays.cast(product, accumulator),)

    return kernel


def _reduced_in_order(form: Form, outputs: list[list[int]]) -> Kernel:
    """Form 3: the body runs once for each point of the reduced loops, in order, on arrays of the parallel loops."""
    body, views, space = Body(form, form.yielded), form.views(), form.space
    parallel = sorted(outputs[0])
    reduced = [loop for loop in range(len(space)) if loop not in parallel]
    indices = form.loop_values(body.loops)
    shape = [space[loop] if loop in parallel else 1 for loop in range(len(space))]
    flat = [space[loop] for loop in parallel]
    orders = [[parallel.index(loop) for loop in loops] for loops in outputs]
    count = len(form.maps)

    def at(x: Array, point: Sequence[int]) -> Array:
        for loop, index in zip(reduced, point, strict=True):
            x = _cut(x, loop, slice(index, index + 1))
        return x

    def kernel(*operands: Value) -> list[Array]:
        arrays = [look(operand) for look, operand in zip(views, operands[:count], strict=True)]
        inputs, state = arrays[: form.inputs], arrays[form.inputs :]
        for point in np.ndindex(*(space[loop] for loop in reduced)):
            here = [at(x, point) for x in inputs]
            state = body([*here, *state], [at(x, point) for x in indices], operands[count:])
        full = [np.broadcast_to(value, shape).reshape(flat) for value in state]
        return [value.transpose(order) for value, order in zip(full, orders, strict=True)]

    return kernel


def _point_by_point(form: Form) -> Kernel:
    """Form 4: the definition. The body runs on scalars for every point of the iteration space, in order."""
    body, space, maps, count = Body(form, form.yielded), form.space, form.maps, len(form.maps)

    def kernel(*operands: Value) -> list[Array]:
        arrays = [np.asarray(x) for x in operands[: form.inputs]]
        arrays += [np.array(x) for x in operands[form.inputs : count]]
        for point in np.ndindex(*space):
            places = [map_.eval(point, []) for map_ in maps]
            scalars = [array[place] for array, place in zip(arrays, places, strict=True)]
            results = body(scalars, [np.int64(point[loop]) for loop in body.loops], operands[count:])
            for array, place, result in zip(arrays[form.inputs :], places[form.inputs :], results, strict=True):
                array[place] = result
        return arrays[form.inputs :]

    return kernel


def _kernel(form: Form) -> Kernel:
    outputs, numpy = form.output_loops(), form.in_numpy()
    if outputs is None or not form.is_elementwise():
        return form.arrays.kernel(_point_by_point(numpy))
    if len(outputs[0]) == len(form.space):
        return _whole_array(form, outputs, None, list(form.yielded))
    matched = _match_folds(form)
    if matched is None:
        return form.arrays.kernel(_reduced_in_order(numpy, outputs))
    folds, values = matched
    product = _match_product(form, values[0]) if folds == [np.add] else None
    if product is not None:
        accumulator = element_dtype(form.op.results[0].type, form.op)
        contraction = _contraction(form, outputs[0], *product, accumulator)
        if contraction is not None:
            return contraction
    return _whole_array(form, outputs, folds, values)


def _structured(op: LinalgStructuredOperation, host: Host) -> Kernel:
    """A generic, or a named operation whose body xDSL builds; a named one casts nothing here."""
    elements = {element_dtype(operand.type, op) for operand in op.operands}
    if not isinstance(op, linalg.GenericOp) and len(elements) > 1:
        raise unsupported(op, "the executor does not support mixed element types here; use linalg.generic")
    return _kernel(Form.of(op, host))


def _matmul(op: linalg.MatmulOp, host: Host) -> Kernel:
    """[M, K] x [K, N] added to [M, N]; the operands are first cast to the type of the result, as upstream has it."""
    form = Form.of(op, host)
    output = loop_dims(form.maps[2])
    kernel = None if output is None else _contraction(form, output, 0, 1, element_dtype(op.res[0].type, op))
    return kernel if kernel is not None else _structured(op, host)


def _fill(op: linalg.FillOp, host: Host) -> Kernel:
    dtype = element_dtype(op.res[0].type, op)
    shape = static_shape(op.outputs[0], op)
    broadcast = host.arrays.function(np.broadcast_to)
    return binary(lambda value, _: broadcast(host.arrays.cast(value, dtype), shape))


def _transpose(op: linalg.TransposeOp, host: Host) -> Kernel:
    permutation = op.permutation.get_values()
    permute = host.arrays.function(np.transpose)
    return binary(lambda x, _: permute(x, permutation))


def _broadcast(op: linalg.BroadcastOp, host: Host) -> Kernel:
    shape = static_shape(op.init, op)
    added = op.dimensions.get_values()
    broadcast, expand = host.arrays.function(np.broadcast_to), host.arrays.function(np.expand_dims)
    return binary(lambda x, _: broadcast(expand(x, added), shape))


_STRUCTURED: tuple[type[LinalgStructuredOperation], ...] = (
    linalg.GenericOp,
    linalg.AddOp,
    linalg.SubOp,
    linalg.MulOp,
    linalg.MaxOp,
    linalg.MinOp,
    linalg.ExpOp,
    linalg.LogOp,
    linalg.SqrtOp,
    linalg.CopyOp,
)

BUILDERS: dict[type[Operation], Builder] = {
    **{kind: cast(Builder, _structured) for kind in _STRUCTURED},
    linalg.MatmulOp: _matmul,
    linalg.FillOp: _fill,
    linalg.TransposeOp: _transpose,
    linalg.BroadcastOp: _broadcast,
}
"""Every operation of `linalg` that the executor runs."""
