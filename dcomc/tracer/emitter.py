"""Appending tensor operations to a block: reshapes, slices and `linalg.generic` by subscripts, with locations."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import (
    AnyFloat,
    ArrayAttr,
    BFloat16Type,
    DenseArrayBase,
    DenseIntOrFPElementsAttr,
    Float16Type,
    Float32Type,
    IntegerAttr,
    IntegerType,
    StringAttr,
    TensorType,
    i64,
)
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import Attribute, Block, SSAValue

from dcomc.einsum import element_of, generic, shape_of
from dcomc.tracer.scalars import F32, Appender, Scalars

ELEMENTS: Mapping[str, BFloat16Type | Float16Type | Float32Type | IntegerType] = {
    "bf16": BFloat16Type(),
    "f16": Float16Type(),
    "f32": F32,
    "i64": i64,
}


def tensor_type(shape: Sequence[int], element: Attribute) -> TensorType[Attribute]:
    """The static tensor type of a shape."""
    return TensorType(element, shape)


@dataclass
class Emitter(Appender):
    """Appends tensor operations to `block`, all with `location`."""

    def constant(self, values: Sequence[float], shape: Sequence[int], element: Attribute, hint: str) -> SSAValue:
        """A constant tensor; `values` in row-major order."""
        kind = TensorType(cast(AnyFloat, element), shape)
        return self.add(arith.ConstantOp(DenseIntOrFPElementsAttr.from_list(kind, values)), hint)

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

    def slice(self, value: SSAValue, axis: int, start: int, size: int, step: int = 1) -> SSAValue:
        """`size` elements from `start` along one axis, every `step`-th."""
        shape = shape_of(value)
        if (start, size, step) == (0, shape[axis], 1):
            return value
        sizes = [size if n == axis else extent for n, extent in enumerate(shape)]
        offsets = [start if n == axis else 0 for n in range(len(shape))]
        strides = [step if n == axis else 1 for n in range(len(shape))]
        result = tensor_type(sizes, element_of(value))
        return self.add(tensor.ExtractSliceOp(value, offsets, sizes, strides, result), "slice")

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
            subscripts: such as `bsh,h->bsh`, as `dcomc.einsum.generic` has them.
            inputs: one tensor a group.
            element: the output's element type.
            body: called as body(emitter, *elements) within the region, with the running value last if `init` is given.
            init: what a reduction starts from; without it the output starts out unspecified.
            sizes: extents of letters that no input has.
        """

        def start(shape: Sequence[int]) -> SSAValue:
            return self.empty(shape, element) if init is None else self.filled(init, shape, element)

        def fill(block: Block, loops: str) -> None:
            scalars = Scalars(block, self.location, loops)
            elements = block.args if init is not None else block.args[:-1]
            scalars.append(linalg.YieldOp(body(scalars, *elements)))

        return self.add(generic(subscripts, inputs, start, fill, sizes), hint)


def _reassociation(coarse: Sequence[int], fine: Sequence[int]) -> ArrayAttr[ArrayAttr[IntegerAttr]] | None:
    """Which dimensions of `fine` make up each of `coarse`, or None where they do not nest."""
    if not coarse and all(extent == 1 for extent in fine):
        return ArrayAttr(())
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
