"""Appending Level 0 operations to a block: tensors, reshapes and `linalg.generic` by subscripts, with locations."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from xdsl.dialects import arith, tensor
from xdsl.dialects import math as math_dialect
from xdsl.dialects.builtin import (
    AffineMapAttr,
    AnyFloat,
    ArrayAttr,
    DenseArrayBase,
    DenseIntOrFPElementsAttr,
    Float16Type,
    Float32Type,
    FloatAttr,
    IndexType,
    IntegerAttr,
    IntegerType,
    LocationAttr,
    StringAttr,
    TensorType,
    i64,
)
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.linalg.attrs import IteratorTypeAttr
from xdsl.ir import Attribute, Block, BlockArgument, Operation, Region, SSAValue
from xdsl.ir.affine import AffineExpr, AffineMap

from dcomc.ir import locate

ELEMENTS: Mapping[str, Float16Type | Float32Type | IntegerType] = {
    "f16": Float16Type(),
    "f32": Float32Type(),
    "i64": i64,
}
F32 = Float32Type()


def tensor_type(shape: Sequence[int], element: Attribute) -> TensorType[Attribute]:
    """The static tensor type of a shape."""
    return TensorType(element, shape)


def shape_of(value: SSAValue) -> tuple[int, ...]:
    """The shape of a tensor value."""
    return cast(TensorType[Attribute], value.type).get_shape()


def element_of(value: SSAValue) -> Attribute:
    """The element type of a tensor value."""
    return cast(TensorType[Attribute], value.type).element_type


@dataclass
class Emitter:
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

    def number(self, value: float, element: Attribute) -> SSAValue:
        """A floating-point constant."""
        return self.add(arith.ConstantOp(FloatAttr(value, cast(AnyFloat, element))))

    def table(self, values: Sequence[float]) -> SSAValue:
        """A constant f32 vector."""
        attribute = DenseIntOrFPElementsAttr.from_list(TensorType(F32, [len(values)]), values)
        return self.add(arith.ConstantOp(attribute))

    def empty(self, shape: Sequence[int], element: Attribute) -> SSAValue:
        """A tensor of unspecified contents."""
        return self.add(tensor.EmptyOp((), tensor_type(shape, element)))

    def filled(self, value: float, shape: Sequence[int], element: Attribute) -> SSAValue:
        """A tensor of one value."""
        scalar = self.number(value, element)
        return self.add(linalg.FillOp((scalar,), (self.empty(shape, element),)))

    def transpose(self, value: SSAValue, permutation: Sequence[int], hint: str | None = None) -> SSAValue:
        """result[i0, i1, …] with result dimension n being dimension permutation[n] of `value`."""
        init = self.empty([shape_of(value)[axis] for axis in permutation], element_of(value))
        return self.add(linalg.TransposeOp(value, init, DenseArrayBase.from_list(i64, permutation)), hint)

    def matmul(self, left: SSAValue, right: SSAValue, role: str) -> SSAValue:
        """left [M, K] times right [K, N], marked with its role."""
        element = element_of(left)
        init = self.filled(0.0, (shape_of(left)[0], shape_of(right)[1]), element)
        attributes: dict[str, Attribute] = {"dcom.role": StringAttr(role)}
        return self.add(linalg.MatmulOp((left, right), (init,), attributes=attributes), role)

    def slice(self, value: SSAValue, axis: int, start: int, size: int) -> SSAValue:
        """`size` elements from `start` along one axis."""
        shape = shape_of(value)
        sizes = [size if n == axis else extent for n, extent in enumerate(shape)]
        offsets = [start if n == axis else 0 for n in range(len(shape))]
        result = tensor_type(sizes, element_of(value))
        return self.add(tensor.ExtractSliceOp(value, offsets, sizes, [1] * len(shape), result))

    def concatenate(self, parts: Sequence[SSAValue], axis: int, hint: str | None = None) -> SSAValue:
        """The parts one after another along one axis."""
        shape = list(shape_of(parts[0]))
        shape[axis] = sum(shape_of(part)[axis] for part in parts)
        result = self.empty(shape, element_of(parts[0]))
        start = 0
        for part in parts:
            offsets = [start if n == axis else 0 for n in range(len(shape))]
            op = tensor.InsertSliceOp.from_static_parameters(part, result, offsets, shape_of(part))
            result = self.add(op, hint)
            start += shape_of(part)[axis]
        return result

    def reshape(self, value: SSAValue, shape: Sequence[int], hint: str | None = None) -> SSAValue:
        """The same elements in another shape, by expanding or collapsing dimensions, or by one after the other."""
        source = shape_of(value)
        target = tuple(shape)
        if source == target:
            return value
        groups = _reassociation(target, source)
        if groups is not None:
            collapsed = tensor_type(target, element_of(value))
            properties: dict[str, Attribute] = {"reassociation": groups}
            op = tensor.CollapseShapeOp.build(operands=[value], result_types=[collapsed], properties=properties)
            return self.add(op, hint)
        groups = _reassociation(source, target)
        if groups is not None:
            expanded = tensor_type(target, element_of(value))
            return self.add(tensor.ExpandShapeOp(value, (), groups, target, expanded), hint)
        return self.reshape(self.reshape(value, (math.prod(source),)), target, hint)

    def generic(
        self,
        subscripts: str,
        inputs: Sequence[SSAValue],
        element: Attribute,
        body: "Callable[..., SSAValue]",
        *,
        init: float | None = None,
        sizes: Mapping[str, int] | None = None,
        hint: str | None = None,
    ) -> SSAValue:
        """A `linalg.generic` described as einsum describes it.

        Args:
            subscripts: one group of letters an input, then `->` and the output's, such as `bsh,h->bsh`; letters
                that the output lacks are reduced.
            inputs: one tensor a group.
            element: the output's element type.
            body: called as body(emitter, *elements) within the region, with the running value last if `init` is given.
            init: what a reduction starts from; without it the output starts out unspecified.
            sizes: extents of letters that no input has.
        """
        left, output = subscripts.split("->")
        groups = left.split(",") if left else []
        extents = dict(sizes or {})
        for group, value in zip(groups, inputs, strict=True):
            extents.update(zip(group, shape_of(value), strict=True))
        letters = output + "".join(letter for letter in dict.fromkeys("".join(groups)) if letter not in output)
        shape = [extents[letter] for letter in output]
        start = self.empty(shape, element) if init is None else self.filled(init, shape, element)
        block = Block(arg_types=[*(element_of(value) for value in inputs), element])
        elements: Sequence[BlockArgument] = block.args if init is not None else block.args[:-1]
        scalars = Scalars(block, self.location, letters)
        scalars.append(linalg.YieldOp(body(scalars, *elements)))
        maps = [_projection(letters, group) for group in (*groups, output)]
        iterators = [
            IteratorTypeAttr.parallel() if letter in output else IteratorTypeAttr.reduction() for letter in letters
        ]
        return self.add(
            linalg.GenericOp(inputs, (start,), Region(block), maps, iterators, (tensor_type(shape, element),)), hint
        )


@dataclass
class Scalars(Emitter):
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

    def exp(self, a: SSAValue) -> SSAValue:
        return self.add(math_dialect.ExpOp(a))

    def rsqrt(self, a: SSAValue) -> SSAValue:
        return self.add(math_dialect.RsqrtOp(a))

    def cos(self, a: SSAValue) -> SSAValue:
        return self.add(math_dialect.CosOp(a))

    def sin(self, a: SSAValue) -> SSAValue:
        return self.add(math_dialect.SinOp(a))

    def index(self, letter: str) -> SSAValue:
        """The loop index of a letter."""
        return self.add(linalg.IndexOp(self.letters.index(letter)))

    def index_to_f32(self, value: SSAValue) -> SSAValue:
        return self.add(arith.SIToFPOp(self.add(arith.IndexCastOp(value, i64)), F32))

    def at_most(self, a: SSAValue, b: SSAValue) -> SSAValue:
        """Whether index a <= index b."""
        return self.add(arith.CmpiOp(a, b, "ule"))

    def select(self, condition: SSAValue, yes: SSAValue, no: SSAValue) -> SSAValue:
        return self.add(arith.SelectOp(condition, yes, no))

    def gather(self, table: SSAValue, *indices: SSAValue) -> SSAValue:
        """An element of a tensor; integer indices are cast."""
        cast_indices = [
            value if isinstance(value.type, IndexType) else self.add(arith.IndexCastOp(value, IndexType()))
            for value in indices
        ]
        return self.add(tensor.ExtractOp(table, cast_indices, element_of(table)))

    def cast(self, value: SSAValue, element: Attribute) -> SSAValue:
        """The value as another floating-point type, rounded to nearest even where that is narrower."""
        if value.type == element:
            return value
        target = cast(AnyFloat, element)
        widens = target.bitwidth > cast(AnyFloat, value.type).bitwidth
        return self.add(arith.ExtFOp(value, target) if widens else arith.TruncFOp(value, target))

    def wide(self, value: SSAValue) -> SSAValue:
        """The value as f32."""
        return self.cast(value, F32)


def _projection(letters: str, group: str) -> AffineMapAttr:
    results = tuple(AffineExpr.dimension(letters.index(letter)) for letter in group)
    return AffineMapAttr(AffineMap(len(letters), 0, results))


def _reassociation(coarse: Sequence[int], fine: Sequence[int]) -> ArrayAttr[ArrayAttr[IntegerAttr]] | None:
    """Which dimensions of `fine` make up each of `coarse`, or None where they do not nest."""
    groups: list[list[int]] = []
    position = 0
    for extent in coarse:
        group: list[int] = []
        product = 1
        while position < len(fine) and (not group or product < extent):
            product *= fine[position]
            group.append(position)
            position += 1
        if product != extent or not group:
            return None
        groups.append(group)
    while position < len(fine) and fine[position] == 1 and groups:
        groups[-1].append(position)
        position += 1
    if position < len(fine):
        return None
    return ArrayAttr([ArrayAttr([IntegerAttr(n, i64) for n in group]) for group in groups])
