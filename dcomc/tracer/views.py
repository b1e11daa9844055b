"""Operators that move elements and compute nothing: reshapes, slices, transpositions, broadcasts, casts."""

from collections.abc import Callable
from typing import cast

from xdsl.ir import SSAValue

from dcomc.einsum import shape_of
from dcomc.tracer.elementwise import elementwise
from dcomc.tracer.emitter import ELEMENTS
from dcomc.tracer.graph import Node
from dcomc.tracer.scalars import Scalars
from dcomc.tracer.scope import FLOATS, Lowering, Scope, Table, arguments, axis_of, in_floats, of_known_type


def _same(scope: Scope, node: Node) -> SSAValue:
    return scope.value(node.args[0])


def _cast(scope: Scope, node: Node) -> SSAValue:
    return scope.cast(scope.value(node.args[0]), ELEMENTS[node.dtype], "cast")


def _keeps_or_converts(node: Node) -> bool:
    operand = next(node.operands())
    return of_known_type(node) and (operand.dtype == node.dtype or {operand.dtype, node.dtype} <= FLOATS)


def _reshape(scope: Scope, node: Node) -> SSAValue:
    return scope.emitter.reshape(scope.value(node.args[0]), node.shape, "view")


def _permute(order: Callable[[Node], list[int]]) -> Lowering:
    """A permutation of the dimensions; `order` gives the operand's dimension for each of the result's."""

    def lower(scope: Scope, node: Node) -> SSAValue:
        value, permutation = scope.value(node.args[0]), order(node)
        if permutation == sorted(permutation):
            return value
        return scope.emitter.transpose(value, permutation, "transposed")

    return Lowering(lower, of_known_type)


def _swap(node: Node) -> list[int]:
    _, first, second = cast(tuple[Node, int, int], node.args)
    order = list(range(len(node.shape)))
    first, second = axis_of(node, first), axis_of(node, second)
    order[first], order[second] = order[second], order[first]
    return order


def _given_order(node: Node) -> list[int]:
    return [axis_of(node, axis) for axis in cast(tuple[int, ...], node.args[1])]


def _slice(scope: Scope, node: Node) -> SSAValue:
    value = scope.value(node.args[0])
    axis, start, _, step = arguments(node, 0, None, None, 1)
    axis = axis_of(node, cast(int, axis))
    extent = shape_of(value)[axis]
    first = min(max(start + extent if start < 0 else start, 0), extent) if isinstance(start, int) else 0
    return scope.emitter.slice(value, axis, first, node.shape[axis], cast(int, step))


def _select(scope: Scope, node: Node) -> SSAValue:
    value = scope.value(node.args[0])
    axis, position = cast(tuple[int, int], node.args[1:])
    shape = shape_of(value)
    axis = axis % len(shape)
    return scope.emitter.reshape(scope.emitter.slice(value, axis, position % shape[axis], 1), node.shape, "item")


def _concatenate(scope: Scope, node: Node) -> SSAValue:
    parts = [scope.value(part) for part in cast(tuple[Node, ...], node.args[0])]
    return scope.emitter.concatenate(parts, axis_of(node, cast(int, arguments(node, 0)[0])), "joined")


def _stack(scope: Scope, node: Node) -> SSAValue:
    axis = axis_of(node, cast(int, arguments(node, 0)[0]))
    shape = (*node.shape[:axis], 1, *node.shape[axis + 1 :])
    parts = [scope.emitter.reshape(scope.value(part), shape) for part in cast(tuple[Node, ...], node.args[0])]
    return scope.emitter.concatenate(parts, axis, "stacked")


def _parts_alike(node: Node) -> bool:
    parts = cast(tuple[Node, ...], node.args[0])
    return of_known_type(node) and all(part.dtype == node.dtype and 0 not in part.shape for part in parts)


def _expand(scope: Scope, node: Node) -> SSAValue:
    def same(scalars: Scalars, a: SSAValue) -> SSAValue:
        return a

    return elementwise(scope, node, node.args[:1], same, "broadcast")


def _repeat_each(scope: Scope, node: Node) -> SSAValue:
    """Each element of one dimension `count` times, one after another."""
    emit, value = scope.emitter, scope.value(node.args[0])
    _, count, axis = cast(tuple[Node, int, int], node.args)
    axis, shape = axis_of(node, axis), shape_of(value)
    column = emit.reshape(value, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    return emit.reshape(emit.concatenate([column] * count, axis + 1), node.shape, "repeated")


def _along_one_axis(node: Node) -> bool:
    return of_known_type(node) and len(node.args) == 3


def _off(node: Node) -> bool:
    """Whether dropout has no effect."""
    return of_known_type(node) and (not node.args[2] or not node.args[1])


_VIEW = Lowering(_reshape, of_known_type, frozenset(("memory_format",)))
_SAME = Lowering(_same, of_known_type, frozenset(("memory_format",)))
_CAST = Lowering(_cast, _keeps_or_converts, frozenset(("dtype", "layout", "device", "non_blocking", "copy")))

VIEWS: Table = {
    "aten._to_copy.default": _CAST,
    "aten.alias.default": _SAME,
    "aten.cat.default": Lowering(_concatenate, _parts_alike),
    "aten.clone.default": _SAME,
    "aten.contiguous.default": _SAME,
    "aten.detach.default": _SAME,
    "aten.dropout.default": Lowering(_same, _off),
    "aten.expand.default": Lowering(_expand, in_floats),
    "aten.flatten.using_ints": _VIEW,
    "aten.permute.default": _permute(_given_order),
    "aten.repeat_interleave.self_int": Lowering(_repeat_each, _along_one_axis),
    "aten.reshape.default": _VIEW,
    "aten.select.int": Lowering(_select, of_known_type),
    "aten.slice.Tensor": Lowering(_slice, of_known_type),
    "aten.squeeze.dim": _VIEW,
    "aten.stack.default": Lowering(_stack, _parts_alike),
    "aten.to.device": _CAST,
    "aten.to.dtype": _CAST,
    "aten.transpose.int": _permute(_swap),
    "aten.type_as.default": _CAST,
    "aten.unflatten.int": _VIEW,
    "aten.unsqueeze.default": _VIEW,
    "aten.view.default": _VIEW,
}
