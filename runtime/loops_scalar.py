"""The operations of bodies in LLVM's terms, for `runtime.loops`: what a value is, and the code of each operation."""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
from llvmlite import ir
from numpy.polynomial import Chebyshev, Polynomial
from xdsl.dialects import arith, builtin, math
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import Attribute, Operation

# llvmlite's objects have no types that a checker could follow.
Object = Any

Emitter = Callable[[Object, Any, list[Object]], Object]
"""Takes a builder, an operation and its operands, and gives its result."""

INDEX = ir.IntType(64)
_FLOAT, _WORD, _SHORT = ir.FloatType(), ir.IntType(32), ir.IntType(16)


def llvm_type(kind: Attribute) -> Object:
    """The type of an element; None where it has none here. A bfloat16 is its 16 bits."""
    match kind:
        case builtin.Float32Type():
            return _FLOAT
        case builtin.Float64Type():
            return ir.DoubleType()
        case builtin.BFloat16Type():
            return _SHORT
        case builtin.IndexType():
            return INDEX
        case builtin.IntegerType() if kind in (builtin.i1, builtin.i32, builtin.i64):
            return ir.IntType(kind.width.data)
        case _:
            return None


def has_code(op: object) -> bool:
    """Whether an operation has code here, for the types that it has."""
    if not isinstance(op, Operation) or type(op) not in CODE:
        return isinstance(op, linalg.IndexOp | linalg.YieldOp)
    values = [value.type for value in (*op.operands, *op.results)]
    narrow = any(isinstance(kind, builtin.BFloat16Type) for kind in values)
    match op:
        case arith.ExtFOp():
            known = values == [builtin.bf16, builtin.f32]
        case arith.TruncFOp():
            known = values == [builtin.f32, builtin.bf16]
        case arith.ConstantOp():
            known = isinstance(op.value, builtin.FloatAttr | builtin.IntegerAttr)
        case arith.CmpfOp():
            known = not narrow and arith.CMPF_COMPARISON_OPERATIONS[op.predicate.value.data] in _CMPF
        case arith.CmpiOp():
            known = values[0] != builtin.i1
        case arith.SelectOp():
            known = True
        case math.ExpOp():
            known = values == [builtin.f32, builtin.f32]
        case _:
            known = not narrow
    return known and all(llvm_type(kind) is not None for kind in values)


def _binary(name: str) -> Emitter:
    return lambda builder, op, operands: getattr(builder, name)(*operands)


def _intrinsic(name: str) -> Emitter:
    def emit(builder: Object, op: Operation, operands: list[Object]) -> Object:
        kind = operands[0].type
        function = builder.module.declare_intrinsic(name, [kind], ir.FunctionType(kind, [kind] * len(operands)))
        return builder.call(function, operands)

    return emit


def _constant(builder: Object, op: arith.ConstantOp, operands: list[Object]) -> Object:
    assert isinstance(op.value, builtin.FloatAttr | builtin.IntegerAttr)
    number, kind = op.value.value.data, llvm_type(op.result.type)
    if isinstance(op.result.type, builtin.BFloat16Type):
        return ir.Constant(kind, int(np.array(number, ml_dtypes.bfloat16).view(np.uint16)))
    return ir.Constant(kind, number)


def _widened(builder: Object, op: Operation, operands: list[Object]) -> Object:
    """A bfloat16 is the first half of a float32."""
    return builder.bitcast(builder.shl(builder.zext(operands[0], _WORD), _WORD(16)), _FLOAT)


def _narrowed(builder: Object, op: Operation, operands: list[Object]) -> Object:
    """To the nearest bfloat16, the even one of two; a NaN stays one. (The processor's own flushes subnormals.)"""
    bits = builder.bitcast(operands[0], _WORD)
    odd = builder.and_(builder.lshr(bits, _WORD(16)), _WORD(1))
    nearest = builder.add(builder.add(bits, _WORD(0x7FFF)), odd)
    nan = builder.fcmp_unordered("uno", operands[0], operands[0])
    chosen = builder.select(nan, builder.or_(bits, _WORD(0x400000)), nearest)
    return builder.trunc(builder.lshr(chosen, _WORD(16)), _SHORT)


def _rsqrt(builder: Object, op: Operation, operands: list[Object]) -> Object:
    root = _intrinsic("llvm.sqrt")(builder, op, operands)
    return builder.fdiv(ir.Constant(root.type, 1.0), root)


_LN_2 = float(np.log(2))
_LN_2_SHORT = 355 / 512
"""ln 2 in so few bits that a product with a number of 9 bits is exact."""

_EXP = [float(c) for c in Chebyshev.interpolate(np.exp, 6, domain=[-_LN_2 / 2, _LN_2 / 2]).convert(kind=Polynomial)]
"""e^r for |r| <= (ln 2) / 2, to 2e-9: coefficients of 1, r, r^2, ..."""

_INTEGER = 1.5 * 2**23
"""Added to a float32 of less than 2^22, leaves the nearest integer in the low bits."""


def _exp(builder: Object, op: Operation, operands: list[Object]) -> Object:
    """e^x = 2^n e^r of a float32, within two units in the last place; subnormal results, too."""

    def number(value: float) -> Object:
        return ir.Constant(_FLOAT, float(np.float32(value)))

    def multiply_add(a: Object, b: Object, c: Object) -> Object:
        return _intrinsic("llvm.fmuladd")(builder, op, [a, b, c])

    def power(exponent: Object) -> Object:
        """2^n for -127 < n < 128."""
        return builder.bitcast(builder.shl(builder.add(exponent, _WORD(127)), _WORD(23)), _FLOAT)

    [x] = operands
    x = builder.select(builder.fcmp_ordered(">", x, number(89)), number(89), x)  # e^89 is infinite
    x = builder.select(builder.fcmp_ordered("<", x, number(-104)), number(-104), x)  # e^-104 is zero
    shifted = multiply_add(x, number(1 / _LN_2), number(_INTEGER))
    n = builder.fsub(shifted, number(_INTEGER))
    rest = multiply_add(n, number(-_LN_2_SHORT), x)
    rest = multiply_add(n, number(_LN_2_SHORT - _LN_2), rest)
    result = number(_EXP[-1])
    for coefficient in reversed(_EXP[:-1]):
        result = multiply_add(result, rest, number(coefficient))
    exponent = builder.sub(builder.bitcast(shifted, _WORD), builder.bitcast(number(_INTEGER), _WORD))
    half = builder.ashr(exponent, _WORD(1))  # 2^n itself may be no float32
    return builder.fmul(builder.fmul(result, power(half)), power(builder.sub(exponent, half)))


_SIGNS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_CMPF = {f"{order}{name}": sign for name, sign in _SIGNS.items() for order in "ou"} | {"ord": "ord", "uno": "uno"}


def _cmpf(builder: Object, op: arith.CmpfOp, operands: list[Object]) -> Object:
    name = arith.CMPF_COMPARISON_OPERATIONS[op.predicate.value.data]
    compare = builder.fcmp_unordered if name.startswith("u") else builder.fcmp_ordered
    return compare(_CMPF[name], *operands)


def _cmpi(builder: Object, op: arith.CmpiOp, operands: list[Object]) -> Object:
    name = arith.CMPI_COMPARISON_OPERATIONS[op.predicate.value.data]
    compare = builder.icmp_unsigned if name.startswith("u") else builder.icmp_signed
    return compare(_SIGNS[name[-2:]], *operands)


CODE: dict[type[Operation], Emitter] = {
    arith.ConstantOp: _constant,
    arith.ExtFOp: _widened,
    arith.TruncFOp: _narrowed,
    arith.AddfOp: _binary("fadd"),
    arith.SubfOp: _binary("fsub"),
    arith.MulfOp: _binary("fmul"),
    arith.DivfOp: _binary("fdiv"),
    arith.NegfOp: _binary("fneg"),
    arith.MaximumfOp: _intrinsic("llvm.maximum"),
    arith.MinimumfOp: _intrinsic("llvm.minimum"),
    arith.AddiOp: _binary("add"),
    arith.SubiOp: _binary("sub"),
    arith.MuliOp: _binary("mul"),
    arith.AndIOp: _binary("and_"),
    arith.OrIOp: _binary("or_"),
    arith.XOrIOp: _binary("xor"),
    arith.CmpfOp: _cmpf,
    arith.CmpiOp: _cmpi,
    arith.SelectOp: _binary("select"),
    math.AbsFOp: _intrinsic("llvm.fabs"),
    math.ExpOp: _exp,
    math.SqrtOp: _intrinsic("llvm.sqrt"),
    math.RsqrtOp: _rsqrt,
}
"""Each operation that has code here, for elements of 32 or 64 bits, unless said otherwise in `has_code`."""
