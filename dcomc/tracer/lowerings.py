"""What each captured operator is in Level 0: one function an operator, in one table."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

from xdsl.dialects.builtin import LocationAttr
from xdsl.ir import Attribute, SSAValue

from dcomc.tracer.emitter import ELEMENTS, F32, Emitter, Scalars, element_of, shape_of
from dcomc.tracer.graph import INPUT, WEIGHT, Node


@dataclass
class Scope:
    """A function being emitted: the values of the nodes so far, and the 2-D views of projections' inputs."""

    emitter: Emitter
    values: dict[Node, SSAValue]
    rows: dict[SSAValue, SSAValue] = field(default_factory=dict[SSAValue, SSAValue])

    def value(self, argument: object) -> SSAValue:
        """The value of an argument that is a node."""
        return self.values[cast(Node, argument)]

    def lower(self, node: Node, location: LocationAttr) -> None:
        """Emit one node; its operator must be in `LOWERINGS`."""
        self.emitter.location = location
        self.values[node] = LOWERINGS[node.op](self, node)


def is_supported(node: Node) -> bool:
    """Whether `Scope.lower` can emit a node."""
    if node.op in ("aten.add.Tensor", "aten.mul.Tensor"):
        alike = (isinstance(operand, Node) and operand.shape == node.shape for operand in node.args)
        return not node.options and all(alike) and len({operand.dtype for operand in node.operands()}) == 1
    return node.op in (INPUT, WEIGHT) or (node.op in LOWERINGS and not node.options and node.dtype in ELEMENTS)


def _cast(emit: Emitter, value: SSAValue, element: Attribute, hint: str) -> SSAValue:
    """A tensor with its elements cast; the tensor itself where they are of that type."""
    if element_of(value) == element:
        return value

    def body(scalars: Scalars, a: SSAValue) -> SSAValue:
        return scalars.cast(a, element)

    letters = "abcde"[: len(shape_of(value))]
    return emit.generic(f"{letters}->{letters}", (value,), element, body, hint=hint)


def _linear(scope: Scope, node: Node) -> SSAValue:
    """x [..., K] times the transpose of a weight [N, K], plus a bias [N]: a 2-D matmul on the rows of x.

    It is computed in f32 and rounded once, as libraries compute it.
    """
    emit = scope.emitter
    x, weight = scope.value(node.args[0]), scope.value(node.args[1])
    role = node.source.module.rpartition(".")[2]
    *batch, width = shape_of(x)
    if x not in scope.rows:
        scope.rows[x] = _cast(emit, emit.reshape(x, (math.prod(batch), width), "rows"), F32, "rows")
    result = emit.matmul(scope.rows[x], emit.transpose(_cast(emit, weight, F32, f"{role}_weight"), (1, 0)), role)
    if len(node.args) > 2 and node.args[2] is not None:
        bias = _cast(emit, scope.value(node.args[2]), F32, f"{role}_bias")
        result = emit.generic("mn,n->mn", (result, bias), F32, Scalars.plus, hint=role)
    return emit.reshape(_cast(emit, result, element_of(x), role), node.shape, role)


def _embedding(scope: Scope, node: Node) -> SSAValue:
    """Row ids[b, s] of a table [V, H]."""
    table, ids = scope.value(node.args[0]), scope.value(node.args[1])

    def body(scalars: Scalars, token: SSAValue) -> SSAValue:
        return scalars.gather(table, token, scalars.index("h"))

    return scope.emitter.generic(
        "bs->bsh", (ids,), element_of(table), body, sizes={"h": node.shape[-1]}, hint="embedding"
    )


def _rms_norm(scope: Scope, node: Node) -> SSAValue:
    """x / sqrt(mean(x²) + epsilon) in f32, rounded to x's type, times the weight."""
    x, weight = scope.value(node.args[0]), scope.value(node.args[1])
    epsilon = cast(float, node.args[2])
    element, letters, width = element_of(x), "abcd"[: len(node.shape) - 1], node.shape[-1]

    def square(scalars: Scalars, a: SSAValue, total: SSAValue) -> SSAValue:
        wide = scalars.wide(a)
        return scalars.plus(total, scalars.mul(wide, wide))

    def scale(scalars: Scalars, a: SSAValue, total: SSAValue, w: SSAValue) -> SSAValue:
        mean = scalars.divide(total, scalars.number(float(width), F32))
        factor = scalars.rsqrt(scalars.plus(mean, scalars.number(epsilon, F32)))
        return scalars.mul(scalars.cast(scalars.mul(scalars.wide(a), factor), element), w)

    squares = scope.emitter.generic(f"{letters}h->{letters}", (x,), F32, square, init=0.0, hint="squares")
    subscripts = f"{letters}h,{letters},h->{letters}h"
    return scope.emitter.generic(subscripts, (x, squares, weight), element, scale, hint="norm")


def _rope_table(scope: Scope, node: Node) -> SSAValue:
    """cos or sin of position times frequency, [S, D/2]."""
    _, frequencies, scaling, function = cast(tuple[Node, tuple[float, ...], float, str], node.args)
    element = ELEMENTS[node.dtype]

    def body(scalars: Scalars, frequency: SSAValue) -> SSAValue:
        angle = scalars.mul(scalars.index_to_f32(scalars.index("s")), frequency)
        wave = scalars.cos(angle) if function == "cos" else scalars.sin(angle)
        if scaling != 1.0:
            wave = scalars.mul(wave, scalars.number(scaling, F32))
        return scalars.cast(wave, element)

    table = scope.emitter.table(frequencies)
    return scope.emitter.generic("d->sd", (table,), element, body, sizes={"s": node.shape[0]}, hint=function)


def _rope(scope: Scope, node: Node) -> SSAValue:
    """(x₁ cos − x₂ sin, x₂ cos + x₁ sin) of the halves of x [B, heads, S, D]."""
    emit = scope.emitter
    x, cos, sin = (scope.value(argument) for argument in node.args)
    element, half = element_of(x), node.shape[-1] // 2
    low, high = emit.slice(x, 3, 0, half), emit.slice(x, 3, half, half)

    def rotation(combine: Callable[[Scalars, SSAValue, SSAValue], SSAValue]) -> Callable[..., SSAValue]:
        def body(scalars: Scalars, a: SSAValue, b: SSAValue, c: SSAValue, s: SSAValue) -> SSAValue:
            left = scalars.mul(scalars.wide(a), scalars.wide(c))
            right = scalars.mul(scalars.wide(b), scalars.wide(s))
            return scalars.cast(combine(scalars, left, right), element)

        return body

    subscripts = "bhsd,bhsd,sd,sd->bhsd"
    first = emit.generic(subscripts, (low, high, cos, sin), element, rotation(Scalars.minus))
    second = emit.generic(subscripts, (high, low, cos, sin), element, rotation(Scalars.plus))
    return emit.concatenate((first, second), 3, "rope")


def _attention(scope: Scope, node: Node) -> SSAValue:
    """Causal attention: q [B, G·R, S, D], k and v [B, G, S, D], result [B, S, G·R, D]; R query heads share a key head.

    Scores, softmax and sums are f32; the row maximum is subtracted before the exponential.
    """
    emit = scope.emitter
    query, key, value = (scope.value(argument) for argument in node.args[:3])
    scale, element = cast(float, node.args[3]), element_of(query)
    batch, heads, tokens, width = shape_of(query)
    groups = shape_of(key)[1]
    query = emit.reshape(query, (batch, groups, heads // groups, tokens, width))

    def product(scalars: Scalars, a: SSAValue, b: SSAValue, total: SSAValue) -> SSAValue:
        return scalars.plus(total, scalars.mul(scalars.wide(a), scalars.wide(b)))

    def mask(scalars: Scalars, a: SSAValue) -> SSAValue:
        seen = scalars.at_most(scalars.index("j"), scalars.index("i"))
        scaled = scalars.mul(a, scalars.number(scale, F32))
        return scalars.select(seen, scaled, scalars.number(-math.inf, F32))

    def weight(scalars: Scalars, a: SSAValue, largest: SSAValue) -> SSAValue:
        return scalars.exp(scalars.minus(a, largest))

    def share(scalars: Scalars, a: SSAValue, total: SSAValue) -> SSAValue:
        return scalars.divide(a, total)

    scores = emit.generic("bgrid,bgjd->bgrij", (query, key), F32, product, init=0.0, hint="scores")
    scores = emit.generic("bgrij->bgrij", (scores,), F32, mask, hint="masked")
    largest = emit.generic("bgrij->bgri", (scores,), F32, Scalars.maximum, init=-math.inf, hint="largest")
    weights = emit.generic("bgrij,bgri->bgrij", (scores, largest), F32, weight, hint="weights")
    totals = emit.generic("bgrij->bgri", (weights,), F32, Scalars.plus, init=0.0, hint="totals")
    weights = emit.generic("bgrij,bgri->bgrij", (weights, totals), F32, share, hint="weights")
    result = emit.generic("bgrij,bgjd->bigrd", (weights, value), F32, product, init=0.0, hint="mixed")
    return emit.reshape(_cast(emit, result, element, "mixed"), node.shape, "attention")


def _silu(scope: Scope, node: Node) -> SSAValue:
    """x / (1 + exp(−x)), in f32."""
    x = scope.value(node.args[0])
    element = element_of(x)

    def body(scalars: Scalars, a: SSAValue) -> SSAValue:
        wide = scalars.wide(a)
        decay = scalars.exp(scalars.negate(wide))
        return scalars.cast(scalars.divide(wide, scalars.plus(scalars.number(1.0, F32), decay)), element)

    letters = "abcde"[: len(node.shape)]
    return scope.emitter.generic(f"{letters}->{letters}", (x,), element, body, hint="silu")


def _binary(scalar: Callable[[Scalars, SSAValue, SSAValue], SSAValue], hint: str) -> Callable[[Scope, Node], SSAValue]:
    """An elementwise operator on two tensors of one shape."""

    def lower(scope: Scope, node: Node) -> SSAValue:
        letters = "abcde"[: len(node.shape)]
        operands = tuple(scope.value(argument) for argument in node.args)
        subscripts = f"{letters},{letters}->{letters}"
        return scope.emitter.generic(subscripts, operands, element_of(operands[0]), scalar, hint=hint)

    return lower


def _reshape(scope: Scope, node: Node) -> SSAValue:
    return scope.emitter.reshape(scope.value(node.args[0]), node.shape, "view")


def _transpose(scope: Scope, node: Node) -> SSAValue:
    _, first, second = cast(tuple[Node, int, int], node.args)
    order = list(range(len(node.shape)))
    order[first], order[second] = order[second], order[first]
    return scope.emitter.transpose(scope.value(node.args[0]), order, "heads")


def _same(scope: Scope, node: Node) -> SSAValue:
    return scope.value(node.args[0])


LOWERINGS: Mapping[str, Callable[[Scope, Node], SSAValue]] = {
    "aten.add.Tensor": _binary(Scalars.plus, "sum"),
    "aten.alias.default": _same,
    "aten.embedding.default": _embedding,
    "aten.linear.default": _linear,
    "aten.mul.Tensor": _binary(Scalars.mul, "product"),
    "aten.reshape.default": _reshape,
    "aten.silu.default": _silu,
    "aten.transpose.int": _transpose,
    "aten.view.default": _reshape,
    "dcomc.attention.default": _attention,
    "dcomc.rms_norm.default": _rms_norm,
    "dcomc.rope.default": _rope,
    "dcomc.rope_table.default": _rope_table,
}
