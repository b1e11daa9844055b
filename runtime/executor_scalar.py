"""Kernels of `arith` and `math`: elementwise, so that one kernel serves a scalar, a tensor and a linalg body."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from xdsl.dialects import arith
from xdsl.dialects import math as mlir_math
from xdsl.ir import Operation

from runtime.executor_arrays import Array, Function, Value
from runtime.executor_block import (
    Builder,
    Host,
    Kernel,
    constant_value,
    element_dtype,
    failure,
    unary,
    unsupported,
    variadic,
)

Binary: TypeAlias = Callable[[Any, Any], Value]


def _unsigned(x: Value) -> Array:
    """The same bits read as an unsigned integer; bool becomes 0 or 1."""
    array = np.asarray(x)
    return array.view(f"u{array.dtype.itemsize}")


def _through_unsigned(function: Function) -> Function:
    """An integer function applied to operands read as unsigned, its result read as signed again."""

    def apply(a: Value, b: Value) -> Value:
        return np.asarray(function(_unsigned(a), _unsigned(b))).view(np.asarray(a).dtype)

    return apply


def rsqrt(x: Value) -> Value:
    """1 / sqrt(x)."""
    return np.reciprocal(np.sqrt(x))


def silu(x: Value) -> Value:
    """x / (1 + exp(-x))."""
    return x / (1 + np.exp(-x))


def _div_to_zero(a: Value, b: Value) -> Value:
    """Signed division rounded towards zero; `fmod` has C's remainder, so the division is exact."""
    return (a - np.fmod(a, b)) // b


def _ceil_div(a: Value, b: Value) -> Value:
    """Division rounded up, signed or unsigned; nothing is negated, which the least integer would not survive."""
    return a // b + np.not_equal(a % b, 0).astype(np.asarray(a).dtype)


def _round_half_away(x: Value) -> Value:
    """Round to nearest, halves away from zero; `x - trunc(x)` is exact."""
    whole: Array = np.trunc(x)
    step = np.copysign(np.ones_like(x), x)
    return np.where(np.abs(x - whole) >= 0.5, whole + step, whole)


def _fma(a: Value, b: Value, c: Value) -> Value:
    """a b + c in the next wider type, rounded back: exact products of float16 and float32."""
    narrow = np.asarray(a).dtype
    wide = np.float32 if narrow == np.float16 else np.float64
    total: Array = np.asarray(a, wide) * np.asarray(b, wide) + np.asarray(c, wide)
    return total.astype(narrow)


def select(condition: Value, a: Value, b: Value) -> Value:
    """`a` where the condition holds, else `b`; three times as fast as `np.where` on a broadcast condition."""
    shape = np.broadcast_shapes(np.shape(condition), np.shape(a), np.shape(b))
    if not shape:
        return a if condition else b
    result = np.empty(shape, np.asarray(a).dtype)
    result[...] = b
    np.copyto(result, a, where=condition)
    return result


def erf(x: Value) -> Value:
    """The error function."""
    array = np.asarray(x)
    values = [math.erf(value) for value in array.flat]
    return np.array(values, array.dtype).reshape(array.shape)


_FLOAT: dict[type[Operation], Function] = {
    arith.AddfOp: np.add,
    arith.SubfOp: np.subtract,
    arith.MulfOp: np.multiply,
    arith.DivfOp: np.divide,
    arith.NegfOp: np.negative,
    arith.MaximumfOp: np.maximum,  # a NaN wins
    arith.MinimumfOp: np.minimum,
    arith.MaxnumfOp: np.fmax,  # a number wins
    arith.MinnumfOp: np.fmin,
    mlir_math.AbsFOp: np.abs,
    mlir_math.AcosOp: np.arccos,
    mlir_math.AcoshOp: np.arccosh,
    mlir_math.AsinOp: np.arcsin,
    mlir_math.AsinhOp: np.arcsinh,
    mlir_math.AtanOp: np.arctan,
    mlir_math.Atan2Op: np.arctan2,
    mlir_math.AtanhOp: np.arctanh,
    mlir_math.CbrtOp: np.cbrt,
    mlir_math.CeilOp: np.ceil,
    mlir_math.CopySignOp: np.copysign,
    mlir_math.CosOp: np.cos,
    mlir_math.CoshOp: np.cosh,
    mlir_math.ErfOp: erf,
    mlir_math.ExpOp: np.exp,
    mlir_math.Exp2Op: np.exp2,
    mlir_math.ExpM1Op: np.expm1,
    mlir_math.FloorOp: np.floor,
    mlir_math.FmaOp: _fma,
    mlir_math.LogOp: np.log,
    mlir_math.Log10Op: np.log10,
    mlir_math.Log1pOp: np.log1p,
    mlir_math.Log2Op: np.log2,
    mlir_math.PowFOp: np.power,
    mlir_math.RoundEvenOp: np.rint,
    mlir_math.RoundOp: _round_half_away,
    mlir_math.RsqrtOp: rsqrt,
    mlir_math.SinOp: np.sin,
    mlir_math.SinhOp: np.sinh,
    mlir_math.SqrtOp: np.sqrt,
    mlir_math.TanOp: np.tan,
    mlir_math.TanhOp: np.tanh,
    mlir_math.TruncOp: np.trunc,
}

_INTEGER: dict[type[Operation], Function] = {
    arith.AddiOp: np.add,
    arith.SubiOp: np.subtract,
    arith.MuliOp: np.multiply,
    arith.MaxSIOp: np.maximum,
    arith.MinSIOp: np.minimum,
    arith.ShLIOp: np.left_shift,
    arith.ShRSIOp: np.right_shift,
    arith.ShRUIOp: _through_unsigned(np.right_shift),
    mlir_math.AbsIOp: np.abs,
}
"""Integer functions that mean something else for bool, and so are refused on `i1`."""

_BITWISE: dict[type[Operation], Function] = {
    arith.AndIOp: np.bitwise_and,
    arith.OrIOp: np.bitwise_or,
    arith.XOrIOp: np.bitwise_xor,
    arith.MaxUIOp: _through_unsigned(np.maximum),
    arith.MinUIOp: _through_unsigned(np.minimum),
}

_DIVISION: dict[type[Operation], Function] = {
    arith.DivSIOp: _div_to_zero,
    arith.DivUIOp: _through_unsigned(np.floor_divide),
    arith.FloorDivSIOp: np.floor_divide,
    arith.CeilDivSIOp: _ceil_div,
    arith.CeilDivUIOp: _through_unsigned(_ceil_div),
    arith.RemSIOp: np.fmod,
    arith.RemUIOp: _through_unsigned(np.remainder),
}

_CMPI: dict[str, Binary] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "slt": np.less,
    "sle": np.less_equal,
    "sgt": np.greater,
    "sge": np.greater_equal,
    "ult": lambda a, b: np.less(_unsigned(a), _unsigned(b)),
    "ule": lambda a, b: np.less_equal(_unsigned(a), _unsigned(b)),
    "ugt": lambda a, b: np.greater(_unsigned(a), _unsigned(b)),
    "uge": lambda a, b: np.greater_equal(_unsigned(a), _unsigned(b)),
}


def _unordered(a: Value, b: Value) -> Value:
    return np.isnan(a) | np.isnan(b)


_CMPF: dict[str, Binary] = {
    "false": lambda a, b: np.zeros(np.broadcast_shapes(np.shape(a), np.shape(b)), np.bool_),
    "oeq": np.equal,
    "ogt": np.greater,
    "oge": np.greater_equal,
    "olt": np.less,
    "ole": np.less_equal,
    "one": lambda a, b: np.less(a, b) | np.greater(a, b),
    "ord": lambda a, b: ~_unordered(a, b),
    "ueq": lambda a, b: np.equal(a, b) | _unordered(a, b),
    "ugt": lambda a, b: ~np.less_equal(a, b),
    "uge": lambda a, b: ~np.less(a, b),
    "ult": lambda a, b: ~np.greater_equal(a, b),
    "ule": lambda a, b: ~np.greater(a, b),
    "une": np.not_equal,
    "uno": _unordered,
    "true": lambda a, b: np.ones(np.broadcast_shapes(np.shape(a), np.shape(b)), np.bool_),
}


def _plain(function: Function) -> Builder:
    """The builder for a function that suits every operand type of its operation."""
    return lambda op, host: variadic(host.arrays.function(function))


def _integer(function: Function) -> Builder:
    def build(op: Operation, host: Host) -> Kernel:
        if element_dtype(op.operands[0].type, op) == np.bool_:
            raise unsupported(op, "the executor does not support this operation on i1")
        return variadic(host.arrays.function(function))

    return build


def _division(function: Function) -> Builder:
    def build(op: Operation, host: Host) -> Kernel:
        _integer(function)(op, host)

        def divide(a: Value, b: Value) -> Value:
            if not np.all(b):
                raise failure(op, "division by zero")
            return function(a, b)

        return variadic(host.arrays.function(divide))

    return build


def _constant(op: arith.ConstantOp, host: Host) -> Kernel:
    value = host.arrays.from_numpy(constant_value(op.value, op))
    return lambda: (value,)


def _cmpi(op: arith.CmpiOp, host: Host) -> Kernel:
    predicate = arith.CMPI_COMPARISON_OPERATIONS[op.predicate.value.data]
    if element_dtype(op.lhs.type, op) == np.bool_ and predicate.startswith("s"):
        raise unsupported(op, "the executor does not support signed comparison of i1")
    return variadic(host.arrays.function(_CMPI[predicate]))


def _cmpf(op: arith.CmpfOp, host: Host) -> Kernel:
    predicate = arith.CMPF_COMPARISON_OPERATIONS[op.predicate.value.data]
    return variadic(host.arrays.function(_CMPF[predicate]))


def _converted(host: Host, function: Callable[[Any], Value]) -> Kernel:
    """The kernel of a conversion that is written in NumPy."""
    return unary(host.arrays.function(function))


def _cast(op: Operation, host: Host) -> Kernel:
    """A conversion as libraries have it: float to float, signed to float, float to integer, widening."""
    target = element_dtype(op.results[0].type, op)
    source = element_dtype(op.operands[0].type, op)
    if np.bool_ in (source, target):
        raise unsupported(op, "the executor does not support this conversion on i1")
    return unary(lambda x: host.arrays.cast(x, target))


def _unsigned_cast(op: Operation, host: Host) -> Kernel:
    """A conversion that reads its operand as unsigned; an i1 counts as 0 or 1."""
    target = element_dtype(op.results[0].type, op)
    return _converted(host, lambda x: _unsigned(x).astype(target)[()])


def _extsi(op: arith.ExtSIOp, host: Host) -> Kernel:
    """Sign extension; a true i1 is -1."""
    target = element_dtype(op.result.type, op)
    if element_dtype(op.input.type, op) == np.bool_:
        return _converted(host, lambda x: -_unsigned(x).astype(target)[()])
    return _cast(op, host)


def _trunci(op: arith.TruncIOp, host: Host) -> Kernel:
    if element_dtype(op.result.type, op) == np.bool_:
        return _converted(host, lambda x: np.bitwise_and(x, np.asarray(x).dtype.type(1)).astype(np.bool_))
    return _cast(op, host)


def _fptoui(op: arith.FPToUIOp, host: Host) -> Kernel:
    target = element_dtype(op.result.type, op)
    if target == np.bool_:
        raise unsupported(op, "the executor does not support this conversion on i1")
    unsigned = np.dtype(f"u{target.itemsize}")
    return _converted(host, lambda x: np.asarray(x).astype(unsigned).view(target)[()])


def _bitcast(op: arith.BitcastOp, host: Host) -> Kernel:
    target: np.dtype[Any] = element_dtype(op.result.type, op)
    return _converted(host, lambda x: np.asarray(x).view(target)[()])


BUILDERS: dict[type[Operation], Builder] = {
    **{kind: _plain(function) for kind, function in (_FLOAT | _BITWISE).items()},
    **{kind: _integer(function) for kind, function in _INTEGER.items()},
    **{kind: _division(function) for kind, function in _DIVISION.items()},
    arith.ConstantOp: _constant,
    arith.CmpiOp: _cmpi,
    arith.CmpfOp: _cmpf,
    arith.SelectOp: _plain(select),
    arith.ExtFOp: _cast,
    arith.TruncFOp: _cast,
    arith.SIToFPOp: _cast,
    arith.UIToFPOp: _unsigned_cast,
    arith.FPToSIOp: _cast,
    arith.FPToUIOp: _fptoui,
    arith.ExtUIOp: _unsigned_cast,
    arith.ExtSIOp: _extsi,
    arith.TruncIOp: _trunci,
    arith.IndexCastOp: _cast,
    arith.BitcastOp: _bitcast,
}
"""Every operation of `arith` and `math` that the executor runs."""

COMBINERS: dict[type[Operation], np.ufunc] = {
    arith.AddfOp: np.add,
    arith.AddiOp: np.add,
    arith.MulfOp: np.multiply,
    arith.MuliOp: np.multiply,
    arith.MaximumfOp: np.maximum,
    arith.MinimumfOp: np.minimum,
    arith.MaxnumfOp: np.fmax,
    arith.MinnumfOp: np.fmin,
    arith.MaxSIOp: np.maximum,
    arith.MinSIOp: np.minimum,
    arith.AndIOp: np.bitwise_and,
    arith.OrIOp: np.bitwise_or,
    arith.XOrIOp: np.bitwise_xor,
}
"""Associative operations that a reduction may fold by, in any order, with the ufunc of the same meaning."""
