"""The types of the `cluster` dialect: what a kernel keeps in banks and buffers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self, TypeVar, cast

from xdsl.dialects.builtin import ArrayAttr, IntAttr, IntegerAttr, StringAttr
from xdsl.ir import Attribute, ParametrizedAttribute, SSAValue, TypeAttribute
from xdsl.irdl import base, irdl_attr_definition, operand_def
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from dcomc.diagnostics import counted

ROWS, COLS = "rows", "cols"
"""Along what a vector lies: the rows of the matrix (cut over the cluster rows), or its columns."""

_Type = TypeVar("_Type", bound=Attribute)


def operand(kind: type[_Type]) -> SSAValue[_Type]:
    """`operand_def` with the type that its constraint implies."""
    return cast(SSAValue[_Type], operand_def(base(kind)))


def _parts(held: int, of: int) -> ArrayAttr[IntAttr]:
    return ArrayAttr([IntAttr(held), IntAttr(of)] if of else [])


@dataclass(frozen=True, init=False)
class _SizedType(ParametrizedAttribute, TypeAttribute):
    """A type that is its sizes: `!cluster.name<AxB>`."""

    DIMENSIONS: ClassVar[int]
    """How many sizes it has."""

    sizes: ArrayAttr[IntAttr]
    """Its dimensions."""

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            sizes = ArrayAttr([IntAttr(size) for size in parser.parse_dimension_list()])
            return (sizes, *cls.parse_placement(parser))

    @classmethod
    def parse_placement(cls, parser: AttrParser) -> Sequence[Attribute]:
        """The parameters after the sizes."""
        return ()

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_dimension_list([size.data for size in self.sizes])
            self.print_placement(printer)

    def print_placement(self, printer: Printer) -> None:
        """Print what `parse_placement` reads."""

    def verify(self) -> None:
        if len(self.sizes) != self.DIMENSIONS or any(size.data < 1 for size in self.sizes):
            raise VerifyException(f"expected {counted(self.DIMENSIONS, 'positive dimension')}")


@dataclass(frozen=True, init=False)
class _PlacedType(_SizedType):
    """A type that also says along which side of the matrix it lies, and of what parts of its slice a cluster has."""

    axis: StringAttr
    """`rows` or `cols`."""
    parts: ArrayAttr[IntAttr]
    """How many parts a cluster holds, and how many there are; empty where each holds the whole slice."""

    @classmethod
    def parse_placement(cls, parser: AttrParser) -> Sequence[Attribute]:
        parser.parse_punctuation(",")
        axis = StringAttr(parser.parse_identifier())
        if parser.parse_optional_punctuation(",") is None:
            return axis, _parts(0, 0)
        held = parser.parse_integer()
        parser.parse_keyword("of")
        return axis, ArrayAttr([IntAttr(held), IntAttr(parser.parse_integer())])

    def print_placement(self, printer: Printer) -> None:
        printer.print_string(f", {self.axis.data}")
        if len(self.parts):
            held, of = self.parts
            printer.print_string(f", {held.data} of {of.data}")

    def verify(self) -> None:
        super().verify()
        if self.axis.data not in (ROWS, COLS):
            raise VerifyException(f"the axis is '{ROWS}' or '{COLS}', not '{self.axis.data}'")
        numbers = [part.data for part in self.parts]
        if numbers and (len(numbers) != 2 or not 0 < numbers[0] <= numbers[1]):
            raise VerifyException("a cluster holds 1 to all parts of its slice")


@irdl_attr_definition
class MatrixType(_SizedType):
    """`!cluster.matrix<SxH>`: the activation in the banks, binary16, in tiles."""

    name = "cluster.matrix"
    DIMENSIONS = 2

    @classmethod
    def of(cls, rows: int, cols: int) -> Self:
        """The type of a matrix [rows, cols]."""
        return cls(ArrayAttr([IntAttr(rows), IntAttr(cols)]))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, cols = self.sizes
        return rows.data, cols.data

    def length(self, axis: str) -> int:
        """Elements of a vector along `axis`."""
        return self.shape[0 if axis == ROWS else 1]


@irdl_attr_definition
class VectorType(_PlacedType):
    """`!cluster.vector<N, axis>`: a binary32 vector in the buffers, sliced along `axis`, replicated along the other.

    With `, h of p` a slice is cut once more, in p equal parts, over the line of p clusters that would hold it: each
    `h` neighbours of the line hold the same h parts, the first of the line the first.
    """

    name = "cluster.vector"
    DIMENSIONS = 1

    @classmethod
    def of(cls, length: int, axis: str, held: int = 0, parts: int = 0) -> Self:
        """The type of a vector [length]; of its slice each cluster has `held` of `parts` parts, or all (0)."""
        return cls(ArrayAttr([IntAttr(length)]), StringAttr(axis), _parts(held, parts))

    @property
    def length(self) -> int:
        """Elements in all."""
        return self.sizes.data[0].data


@irdl_attr_definition
class BasisType(_PlacedType):
    """`!cluster.basis<KxN, axis>`: K binary16 vectors in the buffers, placed as a vector is."""

    name = "cluster.basis"
    DIMENSIONS = 2

    @classmethod
    def of(cls, count: int, length: int, axis: str, held: int = 0, parts: int = 0) -> Self:
        """The type of `count` vectors [length], placed as `VectorType.of` says."""
        return cls(ArrayAttr([IntAttr(count), IntAttr(length)]), StringAttr(axis), _parts(held, parts))

    @property
    def shape(self) -> tuple[int, int]:
        """Vectors, and elements in each."""
        count, length = self.sizes
        return count.data, length.data


@irdl_attr_definition
class CellsType(_SizedType):
    """`!cluster.cells<N>`: N binary32 scalars in the buffers, after a reduction the same in every cluster."""

    name = "cluster.cells"
    DIMENSIONS = 1

    @classmethod
    def of(cls, count: int) -> Self:
        """The type of `count` scalars."""
        return cls(ArrayAttr([IntAttr(count)]))

    @property
    def count(self) -> int:
        """Scalars in all."""
        return self.sizes.data[0].data


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
