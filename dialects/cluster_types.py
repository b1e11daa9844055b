"""The types of the `cluster` dialect: what a kernel keeps in banks and buffers."""

from collections.abc import Sequence
from typing import Self, TypeVar, cast

from xdsl.dialects.builtin import ArrayAttr, IntAttr, IntegerAttr, StringAttr
from xdsl.ir import Attribute, ParametrizedAttribute, SSAValue, TypeAttribute
from xdsl.irdl import base, irdl_attr_definition, operand_def
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

ROWS, COLS = "rows", "cols"
"""Along what a vector lies: the rows of the matrix (cut over the cluster rows), or its columns."""

_Type = TypeVar("_Type", bound=Attribute)


def operand(kind: type[_Type]) -> SSAValue[_Type]:
    """`operand_def` with the type that its constraint implies."""
    return cast(SSAValue[_Type], operand_def(base(kind)))


def _parse_axis(parser: AttrParser) -> StringAttr:
    parser.parse_punctuation(",")
    return StringAttr(parser.parse_identifier())


def _parse_sizes(parser: AttrParser) -> ArrayAttr[IntAttr]:
    return ArrayAttr([IntAttr(size) for size in parser.parse_dimension_list()])


def _parse_parts(parser: AttrParser) -> ArrayAttr[IntAttr]:
    if parser.parse_optional_punctuation(",") is None:
        return ArrayAttr([])
    held = parser.parse_integer()
    parser.parse_keyword("of")
    return ArrayAttr([IntAttr(held), IntAttr(parser.parse_integer())])


def _print_placement(printer: Printer, axis: StringAttr, parts: ArrayAttr[IntAttr]) -> None:
    printer.print_string(f", {axis.data}")
    if len(parts):
        held, of = parts
        printer.print_string(f", {held.data} of {of.data}")


def _verify_parts(parts: ArrayAttr[IntAttr]) -> None:
    numbers = [part.data for part in parts]
    if numbers and (len(numbers) != 2 or not 0 < numbers[0] <= numbers[1]):
        raise VerifyException("a cluster holds 1 to all parts of its slice")


def _parts(held: int, of: int) -> ArrayAttr[IntAttr]:
    return ArrayAttr([IntAttr(held), IntAttr(of)] if of else [])


def _print_sizes(printer: Printer, sizes: ArrayAttr[IntAttr]) -> None:
    printer.print_dimension_list([size.data for size in sizes])


def _verify(sizes: ArrayAttr[IntAttr], count: int, axis: StringAttr | None = None) -> None:
    if len(sizes) != count or any(size.data < 1 for size in sizes):
        raise VerifyException(f"expected {count} positive dimension{'s' if count > 1 else ''}")
    if axis is not None and axis.data not in (ROWS, COLS):
        raise VerifyException(f"the axis is '{ROWS}' or '{COLS}', not '{axis.data}'")


@irdl_attr_definition
class MatrixType(ParametrizedAttribute, TypeAttribute):
    """`!cluster.matrix<SxH>`: the activation in the banks, binary16, in tiles."""

    name = "cluster.matrix"

    sizes: ArrayAttr[IntAttr]

    @classmethod
    def of(cls, rows: int, cols: int) -> Self:
        return cls(ArrayAttr([IntAttr(rows), IntAttr(cols)]))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, cols = self.sizes
        return rows.data, cols.data

    def length(self, axis: str) -> int:
        """Elements of a vector along `axis`."""
        return self.shape[0 if axis == ROWS else 1]

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            return (_parse_sizes(parser),)

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            _print_sizes(printer, self.sizes)

    def verify(self) -> None:
        _verify(self.sizes, 2)


@irdl_attr_definition
class VectorType(ParametrizedAttribute, TypeAttribute):
    """`!cluster.vector<N, axis>`: a binary32 vector in the buffers, sliced along `axis`, replicated along the other.

    With `, h of p` a slice is cut once more, in p equal parts, over the line of p clusters that would hold it: each
    `h` neighbours of the line hold the same h parts, the first of the line the first.
    """

    name = "cluster.vector"

    sizes: ArrayAttr[IntAttr]
    axis: StringAttr
    parts: ArrayAttr[IntAttr]

    @classmethod
    def of(cls, length: int, axis: str, held: int = 0, parts: int = 0) -> Self:
        return cls(ArrayAttr([IntAttr(length)]), StringAttr(axis), _parts(held, parts))

    @property
    def length(self) -> int:
        """Elements in all."""
        return self.sizes.data[0].data

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            return _parse_sizes(parser), _parse_axis(parser), _parse_parts(parser)

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            _print_sizes(printer, self.sizes)
            _print_placement(printer, self.axis, self.parts)

    def verify(self) -> None:
        _verify(self.sizes, 1, self.axis)
        _verify_parts(self.parts)


@irdl_attr_definition
class BasisType(ParametrizedAttribute, TypeAttribute):
    """`!cluster.basis<KxN, axis>`: K binary16 vectors in the buffers, placed as a vector is."""

    name = "cluster.basis"

    sizes: ArrayAttr[IntAttr]
    axis: StringAttr
    parts: ArrayAttr[IntAttr]

    @classmethod
    def of(cls, count: int, length: int, axis: str, held: int = 0, parts: int = 0) -> Self:
        return cls(ArrayAttr([IntAttr(count), IntAttr(length)]), StringAttr(axis), _parts(held, parts))

    @property
    def shape(self) -> tuple[int, int]:
        """Vectors, and elements in each."""
        count, length = self.sizes
        return count.data, length.data

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            return _parse_sizes(parser), _parse_axis(parser), _parse_parts(parser)

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            _print_sizes(printer, self.sizes)
            _print_placement(printer, self.axis, self.parts)

    def verify(self) -> None:
        _verify(self.sizes, 2, self.axis)
        _verify_parts(self.parts)


@irdl_attr_definition
class CellsType(ParametrizedAttribute, TypeAttribute):
    """`!cluster.cells<N>`: N binary32 scalars in the buffers, after a reduction the same in every cluster."""

    name = "cluster.cells"

    sizes: ArrayAttr[IntAttr]

    @classmethod
    def of(cls, count: int) -> Self:
        return cls(ArrayAttr([IntAttr(count)]))

    @property
    def count(self) -> int:
        """Scalars in all."""
        return self.sizes.data[0].data

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            return (_parse_sizes(parser),)

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            _print_sizes(printer, self.sizes)

    def verify(self) -> None:
        _verify(self.sizes, 1)


def parts_of(room: VectorType | BasisType) -> tuple[int, int]:
    """Parts of its slice that a cluster holds, and parts in all; (1, 1) where it holds the slice whole."""
    if not len(room.parts):
        return 1, 1
    held, of = room.parts
    return held.data, of.data


def length_in(room: VectorType | BasisType, slice_: int) -> int:
    """Elements in a cluster, of a slice of so many; the last part is padded to the length of the others."""
    held, of = parts_of(room)
    return -(-slice_ // of) * held


def shift_attr(shift: int) -> IntegerAttr | None:
    """An optional number as a property, which stands only where it is not 0."""
    return IntegerAttr(shift, 64) if shift else None


def shift_of(attribute: IntegerAttr | None) -> int:
    """The value of an optional shift, or of an optional number of pieces."""
    return attribute.value.data if attribute is not None else 0
