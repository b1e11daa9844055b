"""The `isa` dialect, Level 3: one operation an instruction, generated from the instruction table.

A kernel is a list of instructions and labels, printed as in assembly:

    isa.kernel @lanczos layout {rows = 64 : i64, …} seed 0 {
      isa.li r2, 15
      isa.loop r2, @done
      isa.mv.row [r0+0x100], [r3+0x0], [r2+0x40], 4, r7, 1
      isa.label @done
      isa.halt
    }

Where several streams run side by side, `streams` follows the seed: for each the label that it begins at, the row and
column of its first cluster, and how many clusters down and across it has.

    isa.kernel @pair layout {…} seed 0 streams [@left at 0, 0 of 16 x 8, @right at 0, 8 of 16 x 8] { … }

An operand is an i64 property that holds the bits of its field; a branch target is the name of a label.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import ClassVar, TypeAlias, cast

from xdsl.dialects.builtin import (
    I64,
    ArrayAttr,
    DictionaryAttr,
    IntegerAttr,
    LocationAttr,
    StringAttr,
    SymbolNameConstraint,
    i64,
)
from xdsl.ir import Attribute, Block, Dialect, Operation, Region
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    lazy_traits_def,
    opt_prop_def,
    prop_def,
    region_def,
    traits_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import HasParent, IsolatedFromAbove, NoTerminator, SymbolOpInterface
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.hints import isa

from dcomc.ir import describe_location
from runtime.encoding import Word
from runtime.instructions import BY_MNEMONIC, INSTRUCTIONS, Instruction
from runtime.operands import LABEL, TARGET, Kind, OperandError
from runtime.program import Kernel, KernelLayout, KernelStream

_I64: TypeAlias = IntegerAttr[I64]
Rectangle: TypeAlias = tuple[int, ...]
"""Row and column of its first cluster, and its rows and columns."""
_SIDES = "row", "col", "rows", "cols"


class InstructionOp(IRDLOperation):
    """An instruction. Its class is made from its row of the table, with one property for each operand."""

    INSTRUCTION: ClassVar[Instruction]

    traits = lazy_traits_def(lambda: (HasParent(KernelOp),))

    def fields(self) -> Iterator[tuple[str, Kind, int | str]]:
        """Name, kind and value of each operand: the bits of its field, or the name of a label."""
        for name, kind in self.INSTRUCTION.operands:
            value = self.properties[name]
            yield name, kind, value.data if isinstance(value, StringAttr) else cast(_I64, value).value.data

    @property
    def branch_label(self) -> str | None:
        """The label that the instruction names, if it takes one."""
        return next((value for _, _, value in self.fields() if isinstance(value, str)), None)

    def word(self, indices: Mapping[str, int]) -> Word:
        """The instruction's word, where `indices` gives the index of each label."""
        values = (value for _, _, value in self.fields())
        return Word(self.INSTRUCTION, tuple(indices[value] if isinstance(value, str) else value for value in values))

    def verify_(self) -> None:
        for name, kind, value in self.fields():
            if isinstance(value, int):
                try:
                    kind.check(value, f"{self.name}: {name} = {value}")
                except OperandError as error:
                    raise VerifyException(str(error)) from error

    def print(self, printer: Printer) -> None:
        for number, (_, kind, value) in enumerate(self.fields()):
            printer.print_string(", " if number else " ")
            if isinstance(value, str):
                printer.print_symbol_name(value)
            else:
                printer.print_string(kind.format(value))
        if self.attributes:
            printer.print_op_attributes(self.attributes)

    @classmethod
    def parse(cls, parser: Parser) -> "InstructionOp":
        properties: dict[str, Attribute] = {}
        for number, (name, kind) in enumerate(cls.INSTRUCTION.operands):
            if number:
                parser.parse_punctuation(",", f" before operand '{name}' of {cls.name}")
            properties[name] = parser.parse_symbol_name() if kind is TARGET else _parse_operand(parser, name, kind)
        return cls(properties=properties, attributes=parser.parse_optional_attr_dict())


def _parse_operand(parser: Parser, name: str, kind: Kind) -> _I64:
    """An operand's text is that of assembly: `r3`, `[r3+0x40]`, `-15`, `0.5`."""
    start = parser.pos
    if parser.parse_optional_punctuation("[") is not None:
        parser.parse_identifier()
        parser.parse_punctuation("+")
        parser.parse_integer()
        parser.parse_punctuation("]")
    elif parser.parse_optional_identifier() is None:
        parser.parse_number(context_msg=f" as operand '{name}'")
    text = parser.lexer.input.content[start : parser.pos].split("//")[0].strip()
    try:
        return IntegerAttr(kind.parse(text), i64)
    except OperandError as error:
        parser.raise_error(str(error), start)


def _define(row: Instruction) -> type[InstructionOp]:
    """The operation class of a row of the table."""
    members: dict[str, object] = {
        "__doc__": row.meaning,
        "__module__": __name__,
        "__annotations__": {"INSTRUCTION": ClassVar[Instruction]},
        "name": f"isa.{row.mnemonic}",
        "INSTRUCTION": row,
    }
    for name, kind in row.operands:
        if hasattr(InstructionOp, name):
            raise ValueError(f"{row.mnemonic}: operations have another '{name}'")
        members[name] = prop_def(StringAttr if kind is TARGET else _I64)
    title = "".join(part.capitalize() for part in row.mnemonic.split("."))
    return irdl_op_definition(cast(type[InstructionOp], type(f"{title}Op", (InstructionOp,), members)))


OPERATIONS: dict[str, type[InstructionOp]] = {row.mnemonic: _define(row) for row in INSTRUCTIONS}
"""The operation class of each instruction by mnemonic."""


@irdl_op_definition
class LabelOp(IRDLOperation):
    """Names the place of the next instruction, or the end of the kernel."""

    name = "isa.label"

    label = prop_def(StringAttr)

    traits = lazy_traits_def(lambda: (HasParent(KernelOp),))

    def __init__(self, label: str) -> None:
        super().__init__(properties={"label": StringAttr(label)})

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.label.data)

    @classmethod
    def parse(cls, parser: Parser) -> "LabelOp":
        return cls(parser.parse_symbol_name().data)


@irdl_op_definition
class KernelOp(IRDLOperation):
    """One instruction stream over the whole grid, or several; `layout` has the fields of `KernelLayout`.

    Each of `streams` has the fields of `KernelStream`, with a label as its entry. The start vector comes from `seed`,
    or is the same in each row: `start mean`.
    """

    name = "isa.kernel"

    sym_name = prop_def(SymbolNameConstraint())
    layout = prop_def(DictionaryAttr)
    seed = opt_prop_def(_I64)
    streams = opt_prop_def(ArrayAttr[DictionaryAttr])
    body = region_def("single_block")

    traits = traits_def(SymbolOpInterface(), IsolatedFromAbove(), NoTerminator())

    def __init__(
        self,
        name: str,
        operations: Iterable[Operation],
        layout: KernelLayout,
        seed: int | None,
        streams: Sequence[tuple[str, Rectangle]] = (),
    ) -> None:
        super().__init__(
            properties={
                "sym_name": StringAttr(name),
                "layout": DictionaryAttr({key: IntegerAttr(value, i64) for key, value in asdict(layout).items()}),
                "seed": None if seed is None else IntegerAttr(seed, i64),
                "streams": ArrayAttr(_stream(*stream) for stream in streams) if streams else None,
            },
            regions=[Region(Block(operations))],
        )

    @property
    def entries(self) -> list[tuple[str, Rectangle]]:
        """For each of several streams its first label, and row, column, rows and columns of its clusters."""
        return [
            (cast(StringAttr, stream.data["entry"]).data, tuple(_number(stream, key) for key in _SIDES))
            for stream in self.streams or ()
        ]

    @property
    def kernel_layout(self) -> KernelLayout:
        """The layout as the program holds it."""
        return KernelLayout(**{key: _number(self.layout, key) for key in self.layout.data})

    def verify_(self) -> None:
        expected = [field.name for field in fields(KernelLayout)]
        if sorted(self.layout.data) != sorted(expected):
            raise VerifyException(f"layout does not have exactly the keys {', '.join(expected)}")
        for key, value in self.layout.data.items():
            if not isa(value, _I64):
                raise VerifyException(f"layout entry '{key}' is no i64")
            if value.value.data < 0:
                raise VerifyException(f"layout entry '{key}' is negative")
        if self.seed is not None and self.seed.value.data < 0:
            raise VerifyException(f"seed {self.seed.value.data} is negative")
        for stream in self.streams or ():
            if sorted(stream.data) != sorted(field.name for field in fields(KernelStream)):
                raise VerifyException("a stream does not have exactly the keys entry, row, col, rows, cols")
        labels: set[str] = set()
        for op in self.body.block.ops:
            if not isinstance(op, InstructionOp | LabelOp):
                raise VerifyException(f"a kernel holds instructions and labels, not {op.name}")
            if isinstance(op, LabelOp):
                if not LABEL.fullmatch(op.label.data):
                    raise VerifyException(
                        f"'{op.label.data}' is no name for a label: letters, digits, '_', '.' and '$'"
                    )
                if op.label.data in labels:
                    raise VerifyException(f"label @{op.label.data} stands twice")
                labels.add(op.label.data)
        for op in self.body.block.ops:
            if isinstance(op, InstructionOp) and op.branch_label is not None and op.branch_label not in labels:
                raise VerifyException(f"unknown label @{op.branch_label}")
        for entry, _ in self.entries:
            if entry not in labels:
                raise VerifyException(f"unknown label @{entry}, at which a stream begins")

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.sym_name.data)
        printer.print_string(" layout ")
        printer.print_attr_dict(self.layout.data)
        printer.print_string(" start mean " if self.seed is None else f" seed {self.seed.value.data} ")
        if self.streams is not None:
            printer.print_string("streams ")
            with printer.in_square_brackets():
                printer.print_list(self.entries, lambda stream: _print_stream(printer, *stream))
            printer.print_string(" ")
        printer.print_region(self.body, print_empty_block=False)

    @classmethod
    def parse(cls, parser: Parser) -> "KernelOp":
        name = parser.parse_symbol_name()
        parser.parse_keyword("layout")
        layout = DictionaryAttr(parser.parse_optional_attr_dict())
        properties: dict[str, Attribute] = {"sym_name": name, "layout": layout}
        if parser.parse_optional_keyword("start"):
            parser.parse_keyword("mean")
        else:
            parser.parse_keyword("seed")
            properties["seed"] = IntegerAttr(parser.parse_integer(), i64)
        if parser.parse_optional_keyword("streams"):
            streams = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, lambda: _parse_stream(parser))
            properties["streams"] = ArrayAttr(streams)
        return cls.create(properties=properties, regions=[parser.parse_region()])


def _number(dictionary: DictionaryAttr, key: str) -> int:
    return cast(_I64, dictionary.data[key]).value.data


def _stream(entry: str, rectangle: Rectangle) -> DictionaryAttr:
    sides = {key: IntegerAttr(value, i64) for key, value in zip(_SIDES, rectangle, strict=True)}
    return DictionaryAttr({"entry": StringAttr(entry), **sides})


def _print_stream(printer: Printer, entry: str, rectangle: Rectangle) -> None:
    printer.print_symbol_name(entry)
    printer.print_string(" at {}, {} of {} x {}".format(*rectangle))


def _parse_stream(parser: Parser) -> DictionaryAttr:
    entry = parser.parse_symbol_name().data
    parser.parse_keyword("at")
    row = parser.parse_integer()
    parser.parse_punctuation(",")
    col = parser.parse_integer()
    parser.parse_keyword("of")
    rows = parser.parse_integer()
    parser.parse_keyword("x")
    return _stream(entry, (row, col, rows, parser.parse_integer()))


def instruction(mnemonic: str, *, location: LocationAttr, **operands: int | str) -> InstructionOp:
    """The operation of an instruction.

    Args:
        operands: by the names of the table: the bits of the field, as in `runtime.encoding.Word.of`; for a branch
            target the name of its label.

    Raises:
        ValueError: the operands are not those of the instruction.
    """
    row = BY_MNEMONIC[mnemonic]
    names = [name for name, _ in row.operands]
    if set(names) != set(operands):
        raise ValueError(f"{mnemonic} takes operands {names}, not {sorted(operands)}")
    properties: dict[str, Attribute] = {}
    for name, kind in row.operands:
        value = operands[name]
        if isinstance(value, str) != (kind is TARGET):
            raise ValueError(f"{mnemonic}: {name} = {value!r} is no {kind.what}")
        properties[name] = StringAttr(value) if isinstance(value, str) else IntegerAttr(value, i64)
    op = OPERATIONS[mnemonic](properties=properties)
    op.location = location
    return op


def assemble_kernel(kernel: KernelOp) -> Kernel:
    """The kernel of a verified `isa.kernel`: labels become indices, locations text.

    Where several labels name one place, the program keeps the name of the first.
    """
    instructions: list[InstructionOp] = []
    indices: dict[str, int] = {}
    labels: dict[int, str] = {}
    for op in kernel.body.block.ops:
        if isinstance(op, LabelOp):
            indices[op.label.data] = len(instructions)
            labels.setdefault(len(instructions), op.label.data)
        elif isinstance(op, InstructionOp):
            instructions.append(op)
    return Kernel(
        name=kernel.sym_name.data,
        words=tuple(op.word(indices) for op in instructions),
        labels=labels,
        locations=tuple(describe_location(op.location) for op in instructions),
        layout=kernel.kernel_layout,
        seed=None if kernel.seed is None else kernel.seed.value.data,
        streams=tuple(KernelStream(*rectangle, entry=indices[entry]) for entry, rectangle in kernel.entries),
    )


Isa = Dialect("isa", [KernelOp, LabelOp, *OPERATIONS.values()], [])
