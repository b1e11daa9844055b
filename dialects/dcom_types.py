"""The types of the `dcom` dialect: activations and weights in factors, and the channels and tokens kept exact."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias

from xdsl.dialects.builtin import ArrayAttr, Float16Type, Float32Type, IntAttr, IntegerAttr, TensorType
from xdsl.ir import Attribute, ParametrizedAttribute, TypeAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.hints import isa

Element: TypeAlias = Float16Type | Float32Type
"""The element type of an activation."""


def _parse_shape(parser: AttrParser) -> ArrayAttr[IntAttr]:
    """Parse `BxSxN,`."""
    shape = ArrayAttr([IntAttr(dimension) for dimension in parser.parse_dimension_list()])
    parser.parse_punctuation(",")
    return shape


def _parse_size(parser: AttrParser, keyword: str) -> IntAttr:
    """Parse `keyword R,`."""
    parser.parse_keyword(keyword)
    size = IntAttr(parser.parse_integer(allow_negative=False, allow_boolean=False))
    parser.parse_punctuation(",")
    return size


def _parse_rank(parser: AttrParser) -> list[int]:
    """Parse `rank R,` or `rank PxQ,`."""
    parser.parse_keyword("rank")
    start = parser.pos
    ranks = parser.parse_dimension_list()
    if len(ranks) not in (1, 2) or min(ranks[1:], default=1) < 1:
        parser.raise_error("expected one rank, or two positive ones with an x between", start, parser.pos)
    parser.parse_punctuation(",")
    return ranks


def _parse_element(parser: AttrParser) -> Element:
    start = parser.pos
    element = parser.parse_type()
    if not isinstance(element, Element):
        parser.raise_error("expected the element type f16 or f32", start, parser.pos)
    return element


def _print(printer: Printer, shape: ArrayAttr[IntAttr], sizes: str, element: Element) -> None:
    """Print `BxSxN, sizes, element`."""
    printer.print_dimension_list([dimension.data for dimension in shape])
    printer.print_string(f", {sizes}, ")
    printer.print_attribute(element)


class _DcomType(ParametrizedAttribute, TypeAttribute):
    """A type with a syntax of its own, and one for other tools: in generic IR the parameters stand one by one.

    `!dcom.factored<[1, 512, 64], 10, f32, 512, 0>` is what mlir-opt and iree-opt read by `dialects/dcom.irdl`.
    """

    @classmethod
    @abstractmethod
    def parse_words(cls, parser: AttrParser) -> Sequence[Attribute]:
        """The parameters, from between the angle brackets."""

    @abstractmethod
    def print_words(self, printer: Printer) -> None:
        """Print what `parse_words` reads."""

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            shape = parser.parse_optional_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_attribute)
            if shape is None:
                return cls.parse_words(parser)
            parameters: list[Attribute] = [ArrayAttr(shape)]
            for _ in cls.get_irdl_definition().parameters[1:]:
                parser.parse_punctuation(",")
                parameters.append(parser.parse_attribute())
            return [_plain(parameter) for parameter in parameters]

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            if printer.print_generic_format:
                printer.print_list(self.parameters, lambda parameter: _print_generic(printer, parameter))
            else:
                self.print_words(printer)


def _plain(parameter: Attribute) -> Attribute:
    """A parameter as MLIR has it, with integers as xDSL has those of types."""
    if isa(parameter, ArrayAttr[Attribute]):
        return ArrayAttr([_plain(element) for element in parameter])
    return parameter.value if isa(parameter, IntegerAttr) else parameter


def _print_generic(printer: Printer, parameter: Attribute) -> None:
    if isa(parameter, ArrayAttr[Attribute]):
        with printer.in_square_brackets():
            printer.print_list(parameter, lambda element: _print_generic(printer, element))
    elif isa(parameter, IntAttr):
        printer.print_string(str(parameter.data))
    else:
        printer.print_attribute(parameter)


def _verify_shape(shape: ArrayAttr[IntAttr]) -> None:
    if len(shape) != 3 or any(dimension.data < 1 for dimension in shape):
        raise VerifyException("expected a shape of three positive dimensions: prompts x tokens x channels")


@dataclass(frozen=True, init=False)
class _PromptsType(_DcomType):
    """A type of B prompts of S rows and N channels."""

    shape: ArrayAttr[IntAttr]
    """B, S and the number of channels."""

    @property
    def dimensions(self) -> tuple[int, int, int]:
        """B, S, N."""
        batch, rows, cols = self.shape
        return batch.data, rows.data, cols.data


@irdl_attr_definition
class FactoredType(_PromptsType):
    """`!dcom.factored<BxSxN, rank R, element>`: B prompts of S rows and N channels, each held as U core V.

    U is [B, S, R] and V is [B, R, N], of the element type; core is [B, R, R], always float32, since the norms of an
    activation overflow binary16.

    `!dcom.factored<BxSxN, block T, rank R, element>` has a basis for each block of T rows of a prompt: with
    M = B ceil(S / T) blocks, U is [M, T, R], core [M, R, R] and V [M, R, N]. The last block of a prompt may be short;
    its U is filled with zero rows.

    With `rank RxQ` the core is [M, R, Q], and V [Q, N] is that of a weight in factors, the same for all blocks: what a
    product with such a weight leaves (the paper's Eq. 7).
    """

    name = "dcom.factored"

    shape: ArrayAttr[IntAttr]
    rank: IntAttr
    """R."""
    element_type: Element
    """The element type of U and V."""
    block: IntAttr
    """T; the S rows of a prompt where the prompt is one block."""
    weight_rank: IntAttr
    """Q; 0 where each block has a V of its own."""

    @classmethod
    def get(
        cls,
        batch: int,
        rows: int,
        cols: int,
        rank: int,
        element_type: Element,
        block: int | None = None,
        weight_rank: int = 0,
    ) -> "FactoredType":
        """The type of `batch` prompts of `rows` x `cols` at `rank`, in blocks of `block` rows (the whole prompt)."""
        shape = ArrayAttr([IntAttr(batch), IntAttr(rows), IntAttr(cols)])
        block_attr = IntAttr(rows if block is None else block)
        return cls(shape, IntAttr(rank), element_type, block_attr, IntAttr(weight_rank))

    def _with(self, batch: int, rows: int, cols: int, rank: int, block: int, weight_rank: int) -> "FactoredType":
        return self.get(batch, rows, cols, rank, self.element_type, block, weight_rank)

    def with_batch(self, batch: int) -> "FactoredType":
        """The same but for the number of prompts."""
        _, rows, cols = self.dimensions
        return self._with(batch, rows, cols, self.rank.data, self.block.data, self.weight_rank.data)

    def with_rank(self, rank: int) -> "FactoredType":
        """The same but for the rank, with a V of each block's own."""
        return self._with(*self.dimensions, rank, self.block.data, 0)

    def with_cols(self, cols: int) -> "FactoredType":
        """The same U, with a V of each block's own for `cols` channels."""
        batch, rows, _ = self.dimensions
        return self._with(batch, rows, cols, self.rank.data, self.block.data, 0)

    def sliced(self, cols: int) -> "FactoredType":
        """The same U and core, with `cols` columns of V."""
        batch, rows, _ = self.dimensions
        return self._with(batch, rows, cols, self.rank.data, self.block.data, self.weight_rank.data)

    def times(self, weight: "TensorType[Element] | WeightType") -> "FactoredType":
        """The type of the product with a weight [H, N]: a new V for a dense one, a new core for one in factors."""
        batch, rows, _ = self.dimensions
        weight_rank = weight.ranks[1] if isinstance(weight, WeightType) else self.weight_rank.data
        return self._with(batch, rows, weight.get_shape()[1], self.rank.data, self.block.data, weight_rank)

    def left_times(self, rows: int) -> "FactoredType":
        """The type of the product with `rows` x S from the left: one block, with the tracks of all blocks before."""
        batch, before, cols = self.dimensions
        rank = self.rank.data * -(-before // self.block.data)
        return self._with(batch, rows, cols, rank, rows, self.weight_rank.data)

    def heads(self, groups: int, shared: int) -> "FactoredType":
        """The type of `groups` groups of channels as prompts, each `shared` times."""
        batch, _, cols = self.dimensions
        return self.with_batch(batch * groups * shared).with_cols(cols // groups)

    @property
    def dense(self) -> TensorType[Element]:
        """The tensor [B*S, N] that the factors stand for."""
        batch, rows, cols = self.dimensions
        return TensorType(self.element_type, [batch * rows, cols])

    @property
    def core_shape(self) -> tuple[int, int]:
        """R and Q, or R and R."""
        return self.rank.data, self.weight_rank.data or self.rank.data

    @property
    def blocks(self) -> tuple[int, int, int]:
        """M, T, N: how many matrices are held in factors, and the shape of each."""
        batch, rows, cols = self.dimensions
        return batch * -(-rows // self.block.data), self.block.data, cols

    @classmethod
    def parse_words(cls, parser: AttrParser) -> Sequence[Attribute]:
        shape = _parse_shape(parser)
        block = shape.data[1] if len(shape) == 3 else IntAttr(1)
        if parser.parse_optional_keyword("block") is not None:
            block = IntAttr(parser.parse_integer(allow_negative=False, allow_boolean=False))
            parser.parse_punctuation(",")
        rank, *weight_rank = map(IntAttr, _parse_rank(parser))
        return shape, rank, _parse_element(parser), block, *(weight_rank or [IntAttr(0)])

    def print_words(self, printer: Printer) -> None:
        block = "" if self.block == self.shape.data[1] else f"block {self.block.data}, "
        weight = f"x{self.weight_rank.data}" if self.weight_rank.data else ""
        _print(printer, self.shape, f"{block}rank {self.rank.data}{weight}", self.element_type)

    def verify(self) -> None:
        _verify_shape(self.shape)
        rows, block = self.dimensions[1], self.block.data
        if not 1 <= block <= rows:
            raise VerifyException(f"block {block} is not between 1 and the {rows} rows of a prompt")
        if not 1 <= self.rank.data <= block:
            what = "prompt" if block == rows else "block"
            raise VerifyException(f"rank {self.rank.data} is not between 1 and the {block} rows of a {what}")


@dataclass(frozen=True, init=False)  # or else the parameters have no part in equality
class _ExactType(_PromptsType):
    """A type of prompts of which `capacity` rows or channels are kept."""

    capacity: IntAttr
    """C."""
    element_type: Element
    """The element type of the values."""

    @classmethod
    def get(cls, batch: int, rows: int, cols: int, capacity: int, element_type: Element) -> Self:
        """The type of `capacity` channels or rows of `batch` prompts of `rows` x `cols`."""
        return cls(ArrayAttr([IntAttr(batch), IntAttr(rows), IntAttr(cols)]), IntAttr(capacity), element_type)

    def times(self, weight: "TensorType[Element] | WeightType") -> TensorType[Element]:
        """The tensor [B*S, N] that the product with a weight [H, N] is."""
        batch, rows, _ = self.dimensions
        return TensorType(self.element_type, [batch * rows, weight.get_shape()[1]])

    @classmethod
    def parse_words(cls, parser: AttrParser) -> Sequence[Attribute]:
        return _parse_shape(parser), _parse_size(parser, "capacity"), _parse_element(parser)

    def print_words(self, printer: Printer) -> None:
        _print(printer, self.shape, f"capacity {self.capacity.data}", self.element_type)

    def _verify_capacity(self, most: int, what: str) -> None:
        if not 1 <= self.capacity.data <= most:
            raise VerifyException(f"capacity {self.capacity.data} is not between 1 and the {most} {what}")


@irdl_attr_definition
class OutliersType(_ExactType):
    """`!dcom.outliers<BxSxH, capacity C, element>`: up to C of the H channels of each of B prompts of S rows.

    Values are [B*S, C] of the element type, indices [B, C]; an unused slot is a zero column with index 0.
    """

    name = "dcom.outliers"

    def verify(self) -> None:
        _verify_shape(self.shape)
        self._verify_capacity(self.dimensions[2], "channels")


@irdl_attr_definition
class TokensType(_ExactType):
    """`!dcom.tokens<BxSxH, capacity C, element>`: up to C of the S rows of each of B prompts of H channels.

    Values are [B, C, H] of the element type, indices [B, C]; an unused slot is a zero row with index 0.
    """

    name = "dcom.tokens"

    def verify(self) -> None:
        _verify_shape(self.shape)
        self._verify_capacity(self.dimensions[1], "rows of a prompt")


@irdl_attr_definition
class WeightType(_DcomType):
    """`!dcom.weight<HxN, rank PxQ, element>`: a weight of H rows and N columns, held as U core V (the paper's Eq. 1).

    U is [H, P], core [P, Q] and V [Q, N], all of the element type.
    """

    name = "dcom.weight"

    shape: ArrayAttr[IntAttr]
    """H and N."""
    rank: ArrayAttr[IntAttr]
    """P and Q."""
    element_type: Element
    """The element type of all factors."""

    @classmethod
    def get(cls, rows: int, cols: int, ranks: tuple[int, int], element_type: Element) -> "WeightType":
        """The type of `rows` x `cols` at two ranks."""
        shape, rank = (ArrayAttr([IntAttr(extent) for extent in pair]) for pair in ((rows, cols), ranks))
        return cls(shape, rank, element_type)

    def get_shape(self) -> tuple[int, int]:
        """H, N: as of the tensor that the factors stand for."""
        rows, cols = self.shape
        return rows.data, cols.data

    @property
    def ranks(self) -> tuple[int, int]:
        """P, Q."""
        left, right = self.rank
        return left.data, right.data

    @property
    def elements(self) -> int:
        """Elements of all three factors."""
        (rows, cols), (left, right) = self.get_shape(), self.ranks
        return rows * left + left * right + right * cols

    @classmethod
    def parse_words(cls, parser: AttrParser) -> Sequence[Attribute]:
        return _parse_shape(parser), ArrayAttr(map(IntAttr, _parse_rank(parser))), _parse_element(parser)

    def print_words(self, printer: Printer) -> None:
        _print(printer, self.shape, f"rank {self.ranks[0]}x{self.ranks[1]}", self.element_type)

    def verify(self) -> None:
        if len(self.shape) != 2 or any(extent.data < 1 for extent in self.shape):
            raise VerifyException("expected a shape of two positive dimensions: rows x columns")
        if len(self.rank) != 2:
            raise VerifyException("expected two ranks, such as rank 8x8")
        for rank, extent, what in zip(self.ranks, self.get_shape(), ("rows", "columns"), strict=True):
            if not 1 <= rank <= extent:
                raise VerifyException(f"rank {rank} is not between 1 and the {extent} {what} of the weight")
