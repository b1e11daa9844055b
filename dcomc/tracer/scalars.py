"""Appending scalar operations to a block: what stands in the body of a `linalg.generic`."""

from dataclasses import dataclass
from typing import cast

from xdsl.dialects import arith, tensor
from xdsl.dialects import math as math_dialect
from xdsl.dialects.builtin import (
    AnyFloat,
    Float32Type,
    FloatAttr,
    IndexType,
    IntegerAttr,
    LocationAttr,
    TensorType,
    i64,
)
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import Attribute, Block, Operation, SSAValue

from dcomc.ir import locate

F32 = Float32Type()


@dataclass
class Appender:
    """Appends operations to `block`, all with `location`."""

    block: Block
    location: LocationAttr

    def add(self, op: Operation, hint: str | None = None) -> SSAValue:
        """Append an operation of one result; returns the result, named `hint`."""
        self.append(op)
        op.results[0].name_hint = hint
        return op.results[0]

    def append(self, op: Operation) -> None:
        """Append an operation of any number of results."""
        self.block.add_op(op)
        locate([op], self.location)

    def number(self, value: float, element: Attribute = F32) -> SSAValue:
        """A floating-point constant."""
        return self.add(arith.ConstantOp(FloatAttr(value, cast(AnyFloat, element))))


@dataclass
class Scalars(Appender):
    """Appends scalar operations to the body of a `linalg.generic` whose loops are named by `letters`."""

    letters: str

    def mul(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.add(arith.MulfOp(a, b))

    def plus(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.add(arith.AddfOp(a, b))

    def minus(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.add(arith.SubfOp(a, b))

    def divide(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.add(arith.DivfOp(a, b))

    def negate(self, a: SSAValue) -> SSAValue:
        return self.add(arith.NegfOp(a))

    def maximum(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.add(arith.MaximumfOp(a, b))

    def minimum(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.add(arith.MinimumfOp(a, b))

    def absolute(self, a: SSAValue) -> SSAValue:
        return self.add(math_dialect.AbsFOp(a))

    def exp(self, a: SSAValue) -> SSAValue:
        return self.add(math_dialect.ExpOp(a))

    def expm1(self, a: SSAValue) -> SSAValue:
        return self.add(math_dialect.ExpM1Op(a))

    def log(self, a: SSAValue) -> SSAValue:
        return self.add(math_dialect.LogOp(a))

    def log1p(self, a: SSAValue) -> SSAValue:
        return self.add(math_dialect.Log1pOp(a))

    def sqrt(self, a: SSAValue) -> SSAValue:
        return self.add(math_dialect.SqrtOp(a))

    def rsqrt(self, a: SSAValue) -> SSAValue:
        return self.add(math_dialect.RsqrtOp(a))

    def power(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.add(math_dialect.PowFOp(a, b))

    def tanh(self, a: SSAValue) -> SSAValue:
        return self.add(math_dialect.TanhOp(a))

    def erf(self, a: SSAValue) -> SSAValue:
        return self.add(math_dialect.ErfOp(a))

    def cos(self, a: SSAValue) -> SSAValue:
        return self.add(math_dialect.CosOp(a))

    def sin(self, a: SSAValue) -> SSAValue:
        return self.add(math_dialect.SinOp(a))

    def index(self, letter: str) -> SSAValue:
        """The loop index of a letter."""
        return self.add(linalg.IndexOp(self.letters.index(letter)))

    def index_to_f32(self, value: SSAValue) -> SSAValue:
        return self.add(arith.SIToFPOp(self.add(arith.IndexCastOp(value, i64)), F32))

    def index_plus(self, a: SSAValue, offset: int) -> SSAValue:
        """The index a + offset."""
        return self.add(arith.AddiOp(a, self.add(arith.ConstantOp(IntegerAttr(offset, IndexType())))))

    def at_most(self, a: SSAValue, b: SSAValue) -> SSAValue:
        """Whether index a <= index b."""
        return self.add(arith.CmpiOp(a, b, "ule"))

    def less(self, a: SSAValue, b: SSAValue) -> SSAValue:
        """Whether index a < index b."""
        return self.add(arith.CmpiOp(a, b, "ult"))

    def above(self, a: SSAValue, b: SSAValue) -> SSAValue:
        """Whether a > b; not where either is a NaN."""
        return self.add(arith.CmpfOp(a, b, "ogt"))

    def both(self, a: SSAValue, b: SSAValue) -> SSAValue:
        """Whether two conditions hold."""
        return self.add(arith.AndIOp(a, b))

    def select(self, condition: SSAValue, yes: SSAValue, no: SSAValue) -> SSAValue:
        return self.add(arith.SelectOp(condition, yes, no))

    def gather(self, table: SSAValue, *indices: SSAValue) -> SSAValue:
        """An element of a tensor; integer indices are cast."""
        cast_indices = [
            value if isinstance(value.type, IndexType) else self.add(arith.IndexCastOp(value, IndexType()))
            for value in indices
        ]
        element = cast(TensorType[Attribute], table.type).element_type
        return self.add(tensor.ExtractOp(table, cast_indices, element))

    def cast(self, value: SSAValue, element: Attribute) -> SSAValue:
        """The value as another floating-point type, rounded to nearest even where that is narrower."""
        if value.type == element:
            return value
        target, source = cast(AnyFloat, element), cast(AnyFloat, value.type)
        if target.bitwidth == source.bitwidth:
            return self.cast(self.cast(value, F32), element)
        widens = target.bitwidth > source.bitwidth
        return self.add(arith.ExtFOp(value, target) if widens else arith.TruncFOp(value, target))

    def wide(self, value: SSAValue) -> SSAValue:
        """The value as f32."""
        return self.cast(value, F32)
