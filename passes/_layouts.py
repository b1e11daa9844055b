"""How a dense tensor of any shape holds the elements of a factored value, through reshaping and transposition."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import prod
from typing import NamedTuple

from xdsl.dialects import tensor
from xdsl.dialects.builtin import ArrayAttr, DenseArrayBase, IntegerAttr, i64
from xdsl.dialects.linalg.ops import TransposeOp
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.utils.hints import isa

from dialects.dcom import FactoredType
from passes._build import element_of, empty, reshape, shape_of


class Axis(IntEnum):
    """An index of a factored value."""

    PROMPT = 0
    ROW = 1
    CHANNEL = 2


class Digit(NamedTuple):
    """A part of an index, as in a number of mixed radix: index // stride % size. A part of size 1 is left out."""

    axis: Axis
    stride: int
    size: int


def joined(digits: Sequence[Digit]) -> tuple[Digit, ...]:
    """Digits in order, those that are neighbours in one index as one."""
    result: list[Digit] = []
    for digit in digits:
        if digit.size == 1:
            continue
        last = result[-1] if result else None
        if last is not None and last.axis == digit.axis and last.stride == digit.stride * digit.size:
            result[-1] = Digit(digit.axis, digit.stride, last.size * digit.size)
        else:
            result.append(digit)
    return tuple(result)


@dataclass(frozen=True)
class Layout:
    """Which digits index each dimension of a tensor, the most significant first."""

    dims: tuple[tuple[Digit, ...], ...]

    @staticmethod
    def natural(type_: FactoredType) -> "Layout":
        """The layout of the tensor [B*S, N] that reconstruction makes."""
        batch, rows, cols = type_.dimensions
        return Layout(
            (
                joined([Digit(Axis.PROMPT, 1, batch), Digit(Axis.ROW, 1, rows)]),
                joined([Digit(Axis.CHANNEL, 1, cols)]),
            )
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor."""
        return tuple(prod(digit.size for digit in dim) for dim in self.dims)

    @property
    def transposed(self) -> bool:
        """Whether the elements stand in another order than in the natural layout."""
        flat = [digit for dim in self.dims for digit in dim]
        return joined(flat) != joined(_in_order(flat))

    def through(self, op: Operation) -> "Layout | None":
        """The layout of the result of an operation that only moves elements; None where `op` is not known to be one."""
        match op:
            case tensor.ExpandShapeOp():
                return self._expanded([_numbers(group) for group in op.reassociation], shape_of(op.result))
            case tensor.CollapseShapeOp():
                groups = [_numbers(group) for group in op.reassociation]
                return Layout(tuple(joined([digit for dim in group for digit in self.dims[dim]]) for group in groups))
            case TransposeOp():
                return Layout(tuple(self.dims[dim] for dim in op.permutation.get_values()))
            case _:
                return None

    def sliced(self, op: tensor.ExtractSliceOp) -> "tuple[Layout, int, int] | None":
        """Of a slice that takes channels that are neighbours, of all rows: its layout, the first of them, how many.

        They are where a dimension is cut that the most significant digit of the channels indexes alone. None of any
        other slice.
        """
        offsets, sizes = op.static_offsets.get_values(), op.static_sizes.get_values()
        strides = op.static_strides.get_values()
        if op.offsets or op.sizes or set(strides) != {1} or shape_of(op.result) != tuple(sizes):
            return None
        dims = list(self.dims)
        cut = [dim for dim, size in enumerate(sizes) if size != self.shape[dim]]
        if len(cut) != 1 or len(dims[cut[0]]) != 1:
            return None
        (digit,) = dims[cut[0]]
        if digit.axis != Axis.CHANNEL or any(other.stride > digit.stride for other in self._of_channels):
            return None
        offset, size = offsets[cut[0]], sizes[cut[0]]
        dims[cut[0]] = joined([digit._replace(size=size)])
        return Layout(tuple(dims)), offset * digit.stride, size * digit.stride

    @property
    def _of_channels(self) -> list[Digit]:
        return [digit for dim in self.dims for digit in dim if digit.axis == Axis.CHANNEL]

    def _expanded(self, groups: Sequence[Sequence[int]], shape: Sequence[int]) -> "Layout | None":
        dims: list[tuple[Digit, ...]] = []
        for dim, group in zip(self.dims, groups, strict=True):
            left = list(dim)
            for place in group:
                taken = _take(left, shape[place])
                if taken is None:
                    return None
                dims.append(taken)
        return Layout(tuple(dims))

    def arrange(self, value: SSAValue) -> SSAValue:
        """Build the tensor of this layout from the natural one, `value` [B*S, N]."""
        flat = [digit for dim in self.dims for digit in dim]
        order = _in_order(flat)
        if self.transposed:
            value = reshape(value, [digit.size for digit in order])
            target = empty([digit.size for digit in flat], element_of(value))
            permutation = DenseArrayBase.from_list(i64, [order.index(digit) for digit in flat])
            value = TransposeOp(value, target, permutation).res[0]
        return value if shape_of(value) == self.shape else reshape(value, self.shape)


def origin(value: SSAValue) -> tuple[Operation, list[Operation]] | None:
    """The operation that computes the elements of `value`, and those that move them since, in order."""
    moves: list[Operation] = []
    while isinstance(op := value.owner, tensor.ExpandShapeOp | tensor.CollapseShapeOp | TransposeOp):
        moves.append(op)
        value = op.operands[0]
    return (op, moves[::-1]) if isinstance(op, Operation) else None


def _numbers(group: Attribute) -> list[int]:
    assert isa(group, ArrayAttr[IntegerAttr])
    return [number.value.data for number in group]


def _in_order(digits: Sequence[Digit]) -> list[Digit]:
    return sorted(digits, key=lambda digit: (digit.axis, -digit.stride))


def _take(digits: list[Digit], size: int) -> tuple[Digit, ...] | None:
    """Take the most significant digits that make up `size`, cutting one where need be; None where they do not."""
    taken: list[Digit] = []
    while size > 1:
        if not digits:
            return None
        axis, stride, extent = digits.pop(0)
        if extent > size and extent % size == 0:
            digits.insert(0, Digit(axis, stride, extent // size))
            stride, extent = stride * (extent // size), size
        if size % extent:
            return None
        taken.append(Digit(axis, stride, extent))
        size //= extent
    return tuple(taken)
