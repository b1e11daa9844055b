"""What a row of the instruction table says, and how its word is laid out."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import cached_property

from runtime import costs
from runtime.machine import Machine
from runtime.operands import SREG, Kind, Values

WORD_BITS = 128
OPCODE_BITS = 8
RESULT = "d"
"""The name of the operand that is a register in which an instruction leaves its result."""
AFTER_BUFFERS = 1 << 48
"""Where the bytes of the global memory begin among all that instructions use: after those of any buffer."""


class Unit(StrEnum):
    """What an instruction keeps busy. A stream has one of each but the ports: those of a bank belong to a column, and
    those of the global memory to all streams."""

    CONTROL = "control"
    ARRAY = "array"
    ROW_LINKS = "row links"
    COLUMN_LINKS = "column links"
    SCALAR = "scalar"
    BANK = "bank"
    GLOBAL_WRITE = "global memory write"
    GLOBAL_READ = "global memory read"


GLOBAL_PORTS = Unit.GLOBAL_WRITE, Unit.GLOBAL_READ


class Access(Enum):
    """How an instruction uses the buffer at an address operand."""

    READ = "read"
    WRITE = "write"
    UPDATE = "update"


@dataclass(frozen=True)
class Range:
    """Bytes of the buffer, or of the global memory, that an instruction uses from an address operand on."""

    operand: str
    access: Access
    size: Callable[[Values, Machine], int]
    element: int
    """Bytes of an element; address and size are multiples of it."""
    shared: bool = False
    """Whether they are of the global memory."""
    everywhere: bool = True
    """Whether each cluster writes all that it is to write; some, fewer bytes or none."""

    def interval(self, values: Values, machine: Machine) -> tuple[int, int]:
        """First byte and end, where those of the global memory come after all that a buffer may have."""
        first = int(values[self.operand]) + (AFTER_BUFFERS if self.shared else 0)
        return first, first + self.size(values, machine)


@dataclass(frozen=True)
class Instruction:
    """One row of the table."""

    mnemonic: str
    opcode: int
    operands: tuple[tuple[str, Kind], ...]
    meaning: str
    unit: Unit
    cost: costs.Cost
    ranges: tuple[Range, ...] = ()
    products: Callable[[Values, Machine], int] = costs.none
    """Multiplications that the array of each cluster makes."""

    @cached_property
    def scalars_read(self) -> tuple[str, ...]:
        """Operands that are scalar registers, but for the result."""
        return tuple(name for name, kind in self.operands if kind is SREG and name != RESULT)

    @cached_property
    def scalars_written(self) -> tuple[str, ...]:
        """The result, where it is a scalar register."""
        return tuple(name for name, kind in self.operands if kind is SREG and name == RESULT)

    @cached_property
    def layout(self) -> tuple[tuple[str, Kind, int], ...]:
        """Name, kind and lowest bit of each operand."""
        fields: list[tuple[str, Kind, int]] = []
        position = OPCODE_BITS
        for name, kind in self.operands:
            fields.append((name, kind, position))
            position += kind.bits
        return tuple(fields)
