"""The types of the `dcom` dialect: a batch of activations in factors, and a batch of outlier channels."""

from collections.abc import Sequence
from typing import TypeAlias

from xdsl.dialects.builtin import ArrayAttr, Float16Type, Float32Type, IntAttr
from xdsl.ir import Attribute, ParametrizedAttribute, TypeAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

Element: TypeAlias = Float16Type | Float32Type
"""The element type of an activation."""


def _parse(parser: AttrParser, keyword: str) -> Sequence[Attribute]:
    """Parse `<BxSxN, keyword R, element>`."""
    with parser.in_angle_brackets():
        shape = ArrayAttr([IntAttr(dimension) for dimension in parser.parse_dimension_list()])
        parser.parse_punctuation(",")
        parser.parse_keyword(keyword)
        size = IntAttr(parser.parse_integer(allow_negative=False, allow_boolean=False))
        parser.parse_punctuation(",")
        start = parser.pos
        element = parser.parse_type()
        if not isinstance(element, Element):
            parser.raise_error("expected the element type f16 or f32", start, parser.pos)
        return shape, size, element


def _print(printer: Printer, shape: ArrayAttr[IntAttr], keyword: str, size: IntAttr, element: Element) -> None:
    with printer.in_angle_brackets():
        printer.print_dimension_list([dimension.data for dimension in shape])
        printer.print_string(f", {keyword} {size.data}, ")
        printer.print_attribute(element)


def _verify_shape(shape: ArrayAttr[IntAttr]) -> None:
    if len(shape) != 3 or any(dimension.data < 1 for dimension in shape):
        raise VerifyException("expected a shape of three positive dimensions: prompts x tokens x channels")


@irdl_attr_definition
class FactoredType(ParametrizedAttribute, TypeAttribute):
    """`!dcom.factored<BxSxN, rank R, element>`: B prompts of S rows and N channels, each held as U core V.

    U is [B, S, R] and V is [B, R, N], of the element type; core is [B, R, R], always float32, since the norms of an
    activation overflow binary16.
    """

    name = "dcom.factored"

    shape: ArrayAttr[IntAttr]
    rank: IntAttr
    element_type: Element

    @classmethod
    def get(cls, batch: int, rows: int, cols: int, rank: int, element_type: Element) -> "FactoredType":
        """The type of `batch` prompts of `rows` x `cols` at `rank`."""
        return cls(ArrayAttr([IntAttr(batch), IntAttr(rows), IntAttr(cols)]), IntAttr(rank), element_type)

    @property
    def dimensions(self) -> tuple[int, int, int]:
        """B, S, N."""
        batch, rows, cols = self.shape
        return batch.data, rows.data, cols.data

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        return _parse(parser, "rank")

    def print_parameters(self, printer: Printer) -> None:
        _print(printer, self.shape, "rank", self.rank, self.element_type)

    def verify(self) -> None:
        _verify_shape(self.shape)
        rows = self.dimensions[1]
        if not 1 <= self.rank.data <= rows:
            raise VerifyException(f"rank {self.rank.data} is not between 1 and the {rows} rows of a prompt")


@irdl_attr_definition
class OutliersType(ParametrizedAttribute, TypeAttribute):
    """`!dcom.outliers<BxSxH, capacity C, element>`: up to C of the H channels of each of B prompts of S rows.

    Values are [B*S, C] of the element type, indices [B, C]; an unused slot is a zero column with index 0.
    """

    name = "dcom.outliers"

    shape: ArrayAttr[IntAttr]
    capacity: IntAttr
    element_type: Element

    @classmethod
    def get(cls, batch: int, rows: int, cols: int, capacity: int, element_type: Element) -> "OutliersType":
        """The type of `capacity` channels of `batch` prompts of `rows` x `cols`."""
        return cls(ArrayAttr([IntAttr(batch), IntAttr(rows), IntAttr(cols)]), IntAttr(capacity), element_type)

    @property
    def dimensions(self) -> tuple[int, int, int]:
        """B, S, H."""
        batch, rows, cols = self.shape
        return batch.data, rows.data, cols.data

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        return _parse(parser, "capacity")

    def print_parameters(self, printer: Printer) -> None:
        _print(printer, self.shape, "capacity", self.capacity, self.element_type)

    def verify(self) -> None:
        _verify_shape(self.shape)
        cols = self.dimensions[2]
        if not 1 <= self.capacity.data <= cols:
            raise VerifyException(f"capacity {self.capacity.data} is not between 1 and the {cols} channels")
