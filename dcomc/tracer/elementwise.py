"""Elementwise operators and reductions: computed in f32 and rounded once, whatever the element type."""

import math
from collections.abc import Callable
from typing import cast

from xdsl.ir import SSAValue

from dcomc.einsum import shape_of
from dcomc.tracer.emitter import ELEMENTS
from dcomc.tracer.graph import WHERE_ABOVE, Node
from dcomc.tracer.scalars import F32, Scalars
from dcomc.tracer.scope import LETTERS, Lowering, Scope, Table, arguments, in_floats

Scalar = Callable[..., SSAValue]


def elementwise(scope: Scope, node: Node, operands: tuple[object, ...], scalar: Scalar, hint: str) -> SSAValue:
    """scalar(scalars, *elements) for each element of the node's shape.

    Args:
        operands: nodes, broadcast to the node's shape, or numbers.
        scalar: works in f32.
    """
    emit, rank = scope.emitter, len(node.shape)
    tensors = [operand for operand in operands if isinstance(operand, Node)]
    element = ELEMENTS[node.dtype]
    groups: list[str] = []
    values: list[SSAValue] = []
    for operand in tensors:
        value = scope.value(operand)
        shape = shape_of(value)
        letters = LETTERS[rank - len(shape) : rank]
        wanted = node.shape[rank - len(shape) :]
        kept = [n for n, extent in enumerate(shape) if extent == wanted[n]]
        values.append(emit.reshape(value, [shape[n] for n in kept], hint))
        groups.append("".join(letters[n] for n in kept))

    def body(scalars: Scalars, *elements: SSAValue) -> SSAValue:
        given = iter(elements)
        wide = [
            scalars.wide(next(given)) if isinstance(operand, Node) else scalars.number(float(cast(float, operand)))
            for operand in operands
        ]
        return scalars.cast(scalar(scalars, *wide), element)

    sizes = dict(zip(LETTERS, node.shape, strict=False))
    return emit.generic(f"{','.join(groups)}->{LETTERS[:rank]}", values, element, body, sizes=sizes, hint=hint)


def _pointwise(scalar: Scalar, hint: str, operands: int) -> Lowering:
    """An operator of tensors and numbers that means `scalar` on their elements."""

    def lower(scope: Scope, node: Node) -> SSAValue:
        return elementwise(scope, node, node.args, scalar, hint)

    def accepts(node: Node) -> bool:
        numbers = all(isinstance(argument, Node | int | float) for argument in node.args)
        return in_floats(node) and numbers and len(node.args) == operands and len(node.shape) <= len(LETTERS)

    return Lowering(lower, accepts)


def _power(scope: Scope, node: Node) -> SSAValue:
    """x to a constant power; common exponents by multiplication or square root, as libraries compute them."""
    x, exponent = node.args

    def power(scalars: Scalars, a: SSAValue) -> SSAValue:
        match exponent:
            case 2:
                return scalars.mul(a, a)
            case 3:
                return scalars.mul(scalars.mul(a, a), a)
            case 0.5:
                return scalars.sqrt(a)
            case -0.5:
                return scalars.rsqrt(a)
            case _:
                return scalars.power(a, scalars.number(float(cast(float, exponent))))

    return elementwise(scope, node, (x,), power, "power")


def _clamp(scope: Scope, node: Node) -> SSAValue:
    """x, but not below a least or above a largest number, either of which may be missing."""
    x, least, largest = (*node.args, None)[:3]

    def clamp(scalars: Scalars, a: SSAValue) -> SSAValue:
        for bound, nearer in ((least, scalars.maximum), (largest, scalars.minimum)):
            a = a if bound is None else nearer(a, scalars.number(float(cast(float, bound))))
        return a

    return elementwise(scope, node, (x,), clamp, "clamped")


def _softplus(scalars: Scalars, a: SSAValue) -> SSAValue:
    """log(1 + exp(x)); from 20 on, x itself, as in torch."""
    twenty = scalars.number(20.0)
    return scalars.select(scalars.above(a, twenty), a, scalars.log1p(scalars.exp(a)))


def _where_above(scalars: Scalars, a: SSAValue, bound: SSAValue, yes: SSAValue, no: SSAValue) -> SSAValue:
    return scalars.select(scalars.above(a, bound), yes, no)


def _square(scalars: Scalars, a: SSAValue) -> SSAValue:
    return scalars.mul(a, a)


def _sigmoid(scalars: Scalars, a: SSAValue) -> SSAValue:
    one = scalars.number(1.0)
    return scalars.divide(one, scalars.plus(one, scalars.exp(scalars.negate(a))))


def _silu(scalars: Scalars, a: SSAValue) -> SSAValue:
    decay = scalars.exp(scalars.negate(a))
    return scalars.divide(a, scalars.plus(scalars.number(1.0), decay))


def _relu(scalars: Scalars, a: SSAValue) -> SSAValue:
    return scalars.maximum(a, scalars.number(0.0))


def _gelu_exact(scalars: Scalars, a: SSAValue) -> SSAValue:
    """x (1 + erf(x / √2)) / 2."""
    half, root = scalars.mul(a, scalars.number(0.5)), scalars.mul(a, scalars.number(math.sqrt(0.5)))
    return scalars.mul(half, scalars.plus(scalars.number(1.0), scalars.erf(root)))


def _gelu_tanh(scalars: Scalars, a: SSAValue) -> SSAValue:
    """x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2."""
    cube = scalars.mul(scalars.mul(scalars.mul(a, a), a), scalars.number(0.044715))
    inner = scalars.mul(scalars.plus(a, cube), scalars.number(math.sqrt(2 / math.pi)))
    half = scalars.mul(a, scalars.number(0.5))
    return scalars.mul(half, scalars.plus(scalars.number(1.0), scalars.tanh(inner)))


def _gelu(scope: Scope, node: Node) -> SSAValue:
    scalar = _gelu_tanh if dict(node.options).get("approximate") == "tanh" else _gelu_exact
    return elementwise(scope, node, node.args[:1], scalar, "gelu")


def _reduction(mean: bool) -> Callable[[Scope, Node], SSAValue]:
    """The sum or the mean over given dimensions."""

    def lower(scope: Scope, node: Node) -> SSAValue:
        emit, x = scope.emitter, scope.value(node.args[0])
        shape, element = shape_of(x), ELEMENTS[node.dtype]
        axes = {axis % len(shape) for axis in cast(tuple[int, ...], node.args[1])}
        letters = LETTERS[: len(shape)]
        kept = "".join(letter for n, letter in enumerate(letters) if n not in axes)

        def add(scalars: Scalars, a: SSAValue, total: SSAValue) -> SSAValue:
            return scalars.plus(total, scalars.wide(a))

        def finish(scalars: Scalars, total: SSAValue) -> SSAValue:
            count = math.prod(shape[n] for n in axes)
            return scalars.cast(scalars.divide(total, scalars.number(float(count))) if mean else total, element)

        result = emit.generic(f"{letters}->{kept}", (x,), F32, add, init=0.0, hint="sum")
        result = emit.generic(f"{kept}->{kept}", (result,), element, finish, hint="mean" if mean else "sum")
        return emit.reshape(result, node.shape)

    return lower


def _has_axes(node: Node) -> bool:
    return in_floats(node) and node.args[1] not in (None, ())


def _layer_norm(scope: Scope, node: Node) -> SSAValue:
    """(x − mean) / sqrt(variance + epsilon) over the last dimension, times a weight, plus a bias, where it has them."""
    emit, x = scope.emitter, scope.value(node.args[0])
    _, weight, bias, epsilon = arguments(node, None, None, None, 1e-5)[:4]
    element, letters, width = ELEMENTS[node.dtype], LETTERS[: len(node.shape) - 1], float(node.shape[-1])

    def add(scalars: Scalars, a: SSAValue, total: SSAValue) -> SSAValue:
        return scalars.plus(total, scalars.wide(a))

    def centred(scalars: Scalars, a: SSAValue, total: SSAValue) -> SSAValue:
        return scalars.minus(scalars.wide(a), scalars.divide(total, scalars.number(width)))

    def square(scalars: Scalars, a: SSAValue, total: SSAValue, squares: SSAValue) -> SSAValue:
        difference = centred(scalars, a, total)
        return scalars.plus(squares, scalars.mul(difference, difference))

    def scale(scalars: Scalars, a: SSAValue, total: SSAValue, squares: SSAValue, *affine: SSAValue) -> SSAValue:
        variance = scalars.divide(squares, scalars.number(width))
        factor = scalars.rsqrt(scalars.plus(variance, scalars.number(cast(float, epsilon))))
        result, rest = scalars.mul(centred(scalars, a, total), factor), list(affine)
        if weight is not None:
            result = scalars.mul(result, scalars.wide(rest.pop(0)))
        return scalars.cast(scalars.plus(result, scalars.wide(rest[0])) if rest else result, element)

    totals = emit.generic(f"{letters}z->{letters}", (x,), F32, add, init=0.0, hint="totals")
    squares = emit.generic(f"{letters}z,{letters}->{letters}", (x, totals), F32, square, init=0.0, hint="squares")
    affine = [scope.value(argument) for argument in (weight, bias) if argument is not None]
    subscripts = f"{letters}z,{letters},{letters}{',z' * len(affine)}->{letters}z"
    return emit.generic(subscripts, (x, totals, squares, *affine), element, scale, hint="norm")


def _over_last_dimension(node: Node) -> bool:
    return in_floats(node) and len(cast(tuple[int, ...], node.args[1])) == 1


ELEMENTWISE: Table = {
    "aten.abs.default": _pointwise(Scalars.absolute, "absolute", 1),
    "aten.add.Tensor": _pointwise(Scalars.plus, "sum", 2),
    "aten.clamp.default": Lowering(_clamp),
    "aten.clamp_.default": Lowering(_clamp),
    "aten.cos.default": _pointwise(Scalars.cos, "cos", 1),
    "aten.div.Tensor": _pointwise(Scalars.divide, "quotient", 2),
    "aten.erf.default": _pointwise(Scalars.erf, "erf", 1),
    "aten.exp.default": _pointwise(Scalars.exp, "exp", 1),
    "aten.expm1.default": _pointwise(Scalars.expm1, "expm1", 1),
    "aten.gelu.default": Lowering(_gelu, options=frozenset(("approximate",))),
    "aten.layer_norm.default": Lowering(_layer_norm, _over_last_dimension),
    "aten.log.default": _pointwise(Scalars.log, "log", 1),
    "aten.maximum.default": _pointwise(Scalars.maximum, "maximum", 2),
    "aten.mean.dim": Lowering(_reduction(True), _has_axes),
    "aten.min.other": _pointwise(Scalars.minimum, "minimum", 2),
    "aten.minimum.default": _pointwise(Scalars.minimum, "minimum", 2),
    "aten.mul.Tensor": _pointwise(Scalars.mul, "product", 2),
    "aten.neg.default": _pointwise(Scalars.negate, "negated", 1),
    "aten.pow.Tensor_Scalar": Lowering(_power),
    "aten.relu.default": _pointwise(_relu, "relu", 1),
    "aten.rsqrt.default": _pointwise(Scalars.rsqrt, "rsqrt", 1),
    "aten.sigmoid.default": _pointwise(_sigmoid, "sigmoid", 1),
    "aten.silu.default": _pointwise(_silu, "silu", 1),
    "aten.sin.default": _pointwise(Scalars.sin, "sin", 1),
    "aten.softplus.default": _pointwise(_softplus, "softplus", 1),
    "aten.sqrt.default": _pointwise(Scalars.sqrt, "root", 1),
    "aten.square.default": _pointwise(_square, "square", 1),
    "aten.sub.Tensor": _pointwise(Scalars.minus, "difference", 2),
    "aten.sum.dim_IntList": Lowering(_reduction(False), _has_axes),
    "aten.tanh.default": _pointwise(Scalars.tanh, "tanh", 1),
    WHERE_ABOVE: _pointwise(_where_above, "chosen", 4),
}
