"""What the operators of a transformer are in Level 0: projections, embedding, RMSNorm, rotary embedding, attention."""

import math
from collections.abc import Callable
from typing import cast

from xdsl.ir import SSAValue

from dcomc.einsum import element_of, shape_of
from dcomc.roles import role_of
from dcomc.tracer.elementwise import ELEMENTWISE
from dcomc.tracer.emitter import ELEMENTS
from dcomc.tracer.graph import CONSTANT, INPUT, WEIGHT, Node
from dcomc.tracer.scalars import F32, Scalars
from dcomc.tracer.scope import Lowering, Scope, Table, of_known_type
from dcomc.tracer.views import VIEWS


def _linear(scope: Scope, node: Node) -> SSAValue:
    """x [..., K] times the transpose of a weight [N, K], plus a bias [N]: a 2-D matmul on the rows of x.

    It is computed in f32 and rounded once, as libraries compute it.
    """
    emit = scope.emitter
    x, weight = scope.value(node.args[0]), scope.value(node.args[1])
    role = role_of(node.source.module)
    *batch, width = shape_of(x)
    if x not in scope.rows:
        scope.rows[x] = scope.cast(emit.reshape(x, (math.prod(batch), width), "rows"), F32, "rows")
    result = emit.matmul(scope.rows[x], emit.transpose(scope.cast(weight, F32, f"{role}_weight"), (1, 0)), role)
    if len(node.args) > 2 and node.args[2] is not None:
        bias = scope.cast(scope.value(node.args[2]), F32, f"{role}_bias")
        result = emit.generic("mn,n->mn", (result, bias), F32, Scalars.plus, hint=role)
    return emit.reshape(scope.cast(result, element_of(x), role), node.shape, role)


def _embedding(scope: Scope, node: Node) -> SSAValue:
    """Row ids[b, s] of a table [V, H]."""
    table, ids = scope.value(node.args[0]), scope.value(node.args[1])

    def body(scalars: Scalars, token: SSAValue) -> SSAValue:
        return scalars.gather(table, token, scalars.index("h"))

    return scope.emitter.generic(
        "bs->bsh", (ids,), element_of(table), body, sizes={"h": node.shape[-1]}, hint="embedding"
    )


def _is_two_dimensional(node: Node) -> bool:
    return of_known_type(node) and len(node.shape) == 3


def _constant(scope: Scope, node: Node) -> SSAValue:
    values = cast(tuple[float, ...], node.args)
    return scope.emitter.constant([float(value) for value in values], node.shape, ELEMENTS[node.dtype], "constant")


def _rms_norm(scope: Scope, node: Node) -> SSAValue:
    """x / sqrt(mean(x²) + epsilon) in f32, times offset + weight; see `ops.rms_norm` for where it is rounded."""
    x, weight = scope.value(node.args[0]), scope.value(node.args[1])
    epsilon, offset, late = cast(tuple[float, float, bool], node.args[2:])
    element, letters, width = element_of(x), "abcd"[: len(node.shape) - 1], node.shape[-1]

    def square(scalars: Scalars, a: SSAValue, total: SSAValue) -> SSAValue:
        wide = scalars.wide(a)
        return scalars.plus(total, scalars.mul(wide, wide))

    def scale(scalars: Scalars, a: SSAValue, total: SSAValue, w: SSAValue) -> SSAValue:
        mean = scalars.divide(total, scalars.number(float(width)))
        factor = scalars.rsqrt(scalars.plus(mean, scalars.number(epsilon)))
        scaled, gain = scalars.mul(scalars.wide(a), factor), scalars.wide(w)
        if offset:
            gain = scalars.plus(gain, scalars.number(offset))
        if not late:
            scaled, gain = (scalars.wide(scalars.cast(value, element)) for value in (scaled, gain))
        return scalars.cast(scalars.mul(scaled, gain), element)

    squares = scope.emitter.generic(f"{letters}h->{letters}", (x,), F32, square, init=0.0, hint="squares")
    subscripts = f"{letters}h,{letters},h->{letters}h"
    return scope.emitter.generic(subscripts, (x, squares, weight), element, scale, hint="norm")


def _rope_table(scope: Scope, node: Node) -> SSAValue:
    """cos or sin of position times frequency, [S, D]."""
    _, frequencies, scaling, function, _ = cast(tuple[Node, tuple[float, ...], float, str, str], node.args)
    element = ELEMENTS[node.dtype]

    def body(scalars: Scalars, frequency: SSAValue) -> SSAValue:
        angle = scalars.mul(scalars.index_to_f32(scalars.index("s")), frequency)
        wave = scalars.cos(angle) if function == "cos" else scalars.sin(angle)
        if scaling != 1.0:
            wave = scalars.mul(wave, scalars.number(scaling))
        return scalars.cast(wave, element)

    table = scope.emitter.constant(frequencies, (len(frequencies),), F32, "frequencies")
    return scope.emitter.generic("d->sd", (table,), element, body, sizes={"s": node.shape[0]}, hint=function)


def _rope(scope: Scope, node: Node) -> SSAValue:
    """(a cos − b sin, b cos + a sin) of pairs (a, b) of channels of x [B, heads, S, D]; other channels as they are."""
    emit = scope.emitter
    x, cos, sin = (scope.value(argument) for argument in node.args[:3])
    interleaved, element, width, pairs = node.args[3], element_of(x), node.shape[-1], shape_of(cos)[-1]
    if interleaved:
        low, high = emit.slice(x, 3, 0, pairs, 2), emit.slice(x, 3, 1, pairs, 2)
    else:
        low, high = emit.slice(x, 3, 0, pairs), emit.slice(x, 3, pairs, pairs)

    def rotation(combine: Callable[[Scalars, SSAValue, SSAValue], SSAValue]) -> Callable[..., SSAValue]:
        def body(scalars: Scalars, a: SSAValue, b: SSAValue, c: SSAValue, s: SSAValue) -> SSAValue:
            left = scalars.mul(scalars.wide(a), scalars.wide(c))
            right = scalars.mul(scalars.wide(b), scalars.wide(s))
            return scalars.cast(combine(scalars, left, right), element)

        return body

    subscripts = "bhsd,bhsd,sd,sd->bhsd"
    turned = [
        emit.generic(subscripts, (low, high, cos, sin), element, rotation(Scalars.minus)),
        emit.generic(subscripts, (high, low, cos, sin), element, rotation(Scalars.plus)),
    ]
    if interleaved:
        columns = [emit.reshape(part, (*node.shape[:3], pairs, 1)) for part in turned]
        turned = [emit.reshape(emit.concatenate(columns, 4), (*node.shape[:3], 2 * pairs), "turned")]
    if 2 * pairs < width:
        turned.append(emit.slice(x, 3, 2 * pairs, width - 2 * pairs))
    return turned[0] if len(turned) == 1 else emit.concatenate(turned, 3, "rope")


def _attention(scope: Scope, node: Node) -> SSAValue:
    """Causal attention: q [B, G·R, S, D], k and v [B, G, S, D], result [B, S, G·R, D]; R query heads share a key head.

    Scores, softmax and sums are f32; the row maximum is subtracted before the exponential. For the window and the cap
    of scores see `ops.attention`.
    """
    emit = scope.emitter
    query, key, value = (scope.value(argument) for argument in node.args[:3])
    scale, window, cap = cast(tuple[float, int, float], node.args[3:])
    element = element_of(query)
    batch, heads, tokens, width = shape_of(query)
    groups = shape_of(key)[1]
    query = emit.reshape(query, (batch, groups, heads // groups, tokens, width))

    def product(scalars: Scalars, a: SSAValue, b: SSAValue, total: SSAValue) -> SSAValue:
        return scalars.plus(total, scalars.mul(scalars.wide(a), scalars.wide(b)))

    def mask(scalars: Scalars, a: SSAValue) -> SSAValue:
        seen = scalars.at_most(scalars.index("j"), scalars.index("i"))
        if window:
            seen = scalars.both(seen, scalars.less(scalars.index("i"), scalars.index_plus(scalars.index("j"), window)))
        score = scalars.mul(a, scalars.number(scale))
        if cap:
            score = scalars.mul(scalars.tanh(scalars.divide(score, scalars.number(cap))), scalars.number(cap))
        return scalars.select(seen, score, scalars.number(-math.inf))

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
    return emit.reshape(scope.cast(result, element, "mixed"), node.shape, "attention")


LOWERINGS: Table = {
    **ELEMENTWISE,
    **VIEWS,
    CONSTANT: Lowering(_constant),
    "aten.embedding.default": Lowering(_embedding, _is_two_dimensional),
    "aten.linear.default": Lowering(_linear),
    "dcomc.attention.default": Lowering(_attention),
    "dcomc.rms_norm.default": Lowering(_rms_norm),
    "dcomc.rope.default": Lowering(_rope),
    "dcomc.rope_table.default": Lowering(_rope_table),
}


def is_supported(node: Node) -> bool:
    """Whether a node can be emitted, or needs not be."""
    return node.op in (INPUT, WEIGHT) or (node.op in LOWERINGS and LOWERINGS[node.op].takes(node))


def describe_unsupported(node: Node) -> str:
    """What it is about a node that is not supported: the operator, or the form in which it is used."""
    if node.op == "dcomc.other_attention.default":
        return f"attention with {node.args[3]}"
    lowering = LOWERINGS.get(node.op)
    if lowering is None:
        return node.op
    if lowering.accepts(node):
        given = [f"{name}={value}" for name, value in node.options if name not in lowering.options]
        return f"{node.op} with {' '.join(given)}"
    types = dict.fromkeys(operand.dtype for operand in node.operands())
    return f"{node.op} from {' and '.join(types) or 'numbers'} to {node.dtype}{list(node.shape)}"
