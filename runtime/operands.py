"""Kinds of operands: for each, its width in an instruction word, its text, and the value it stands for.

An operand is held as the unsigned integer that the word contains; a kind turns that into text and back, and, with the
integer registers of a stream, into the value that an engine works with.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

INTEGER_REGISTERS = 32
"""r0 to r31, 64 bit; r0 is zero. At entry r1 holds the bank address of the launch's data and r31
a number of rounds."""
SCALAR_REGISTERS = 32
"""s0 to s31, binary32, one set in each cluster."""
TOKENS = 16
"""t0 to t15: completion of a stream between bank and buffer."""
PIECES_DROP = (0, 13, 2, 0)
"""Lowest bits of a binary32 factor that are rounded away where an instruction names so many pieces of 11 bits."""

LABEL = re.compile(r"[A-Za-z_.$][\w.$]*", re.ASCII)
"""The name of an instruction's place, as it stands in assembly."""

_REGISTER = re.compile(r"r(\d+)")
_ADDRESS = re.compile(r"\[r(\d+)\s*\+\s*(\w+)\]")


class OperandError(ValueError):
    """Text or a value that is no operand of the kind."""


@dataclass(frozen=True)
class Kind:
    """A kind of operand, `bits` wide in the word."""

    name: str
    bits: int
    what: str

    def format(self, raw: int) -> str:
        """The text of an operand in assembly."""
        return str(raw)

    def parse(self, text: str) -> int:
        """The operand for its text; raises `OperandError` where the text is none or does not fit."""
        return self.check(_integer(text, self.what), text)

    def value(self, raw: int, registers: Sequence[int]) -> int | float:
        """What the operand stands for while a stream has these integer registers."""
        return raw

    def register(self, raw: int) -> int:
        """The integer register that the value depends on; 0 for none."""
        return 0

    def check(self, raw: int, text: str) -> int:
        """`raw` if it fits the width; raises `OperandError` otherwise."""
        if not 0 <= raw < 1 << self.bits:
            raise OperandError(f"{text} does not fit {self.what} of {self.bits} bits")
        return raw


class RegisterKind(Kind):
    """A register by number; the value is the number, for it is the engine that reads and writes it."""

    def format(self, raw: int) -> str:
        return f"{self.name[0]}{raw}"

    def parse(self, text: str) -> int:
        match = re.fullmatch(rf"{self.name[0]}(\d+)", text)
        if match is None:
            raise OperandError(f"{text} is no {self.what}, such as {self.name[0]}3")
        return self.check(int(match[1]), text)


class PointerKind(RegisterKind):
    """An address held in an integer register."""

    def format(self, raw: int) -> str:
        return f"r{raw}"

    def parse(self, text: str) -> int:
        match = _REGISTER.fullmatch(text)
        if match is None:
            raise OperandError(f"{text} is no {self.what}, such as r3")
        return self.check(int(match[1]), text)

    def value(self, raw: int, registers: Sequence[int]) -> int:
        return registers[raw]

    def register(self, raw: int) -> int:
        return raw


class AddressKind(Kind):
    """A byte address in the cluster buffer or the global memory: an integer register plus an offset."""

    OFFSET_BITS = 19

    def format(self, raw: int) -> str:
        return f"[r{raw & 31}+{raw >> 5:#x}]"

    def parse(self, text: str) -> int:
        match = _ADDRESS.fullmatch(text)
        if match is None:
            raise OperandError(f"{text} is no {self.what}, such as [r3+0x40]")
        return self.check(self.pack(int(match[1]), _integer(match[2], "offset")), text)

    def pack(self, register: int, offset: int) -> int:
        """The operand for register + offset."""
        if not 0 <= register < INTEGER_REGISTERS or not 0 <= offset < 1 << self.OFFSET_BITS:
            raise OperandError(f"[r{register}+{offset:#x}] does not fit {self.what}")
        return register | offset << 5

    def value(self, raw: int, registers: Sequence[int]) -> int:
        return registers[raw & 31] + (raw >> 5)

    def register(self, raw: int) -> int:
        return raw & 31


class CountKind(Kind):
    """A number of elements, tiles or turns: immediate, or in an integer register (top bit set)."""

    def format(self, raw: int) -> str:
        return f"r{raw & 31}" if raw >> (self.bits - 1) else str(raw)

    def parse(self, text: str) -> int:
        match = _REGISTER.fullmatch(text)
        if match is not None:
            return self.pack_register(int(match[1]))
        raw = _integer(text, self.what)
        if not 0 <= raw < 1 << (self.bits - 1):
            raise OperandError(f"{text} does not fit {self.what} of {self.bits - 1} bits")
        return raw

    def check(self, raw: int, text: str) -> int:
        """Of an operand that names a register, the bits between the number and the top one are reserved."""
        if super().check(raw, text) >> (self.bits - 1) and raw & ((1 << (self.bits - 1)) - 1) >= INTEGER_REGISTERS:
            raise OperandError(f"{text} does not fit {self.what} of {self.bits - 1} bits")
        return raw

    def pack_register(self, register: int) -> int:
        """The operand that takes its number from a register."""
        if not 0 <= register < INTEGER_REGISTERS:
            raise OperandError(f"there is no register r{register}")
        return 1 << (self.bits - 1) | register

    def value(self, raw: int, registers: Sequence[int]) -> int:
        return registers[raw & 31] if raw >> (self.bits - 1) else raw

    def register(self, raw: int) -> int:
        return raw & 31 if raw >> (self.bits - 1) else 0


class ImmediateKind(Kind):
    """A signed integer in two's complement."""

    def format(self, raw: int) -> str:
        return str(self.value(raw, ()))

    def parse(self, text: str) -> int:
        return self.pack(_integer(text, self.what))

    def pack(self, number: int) -> int:
        """The operand for a signed number."""
        if not -(1 << (self.bits - 1)) <= number < 1 << (self.bits - 1):
            raise OperandError(f"{number} does not fit {self.what} of {self.bits} bits")
        return number & ((1 << self.bits) - 1)

    def value(self, raw: int, registers: Sequence[int]) -> int:
        return raw - (1 << self.bits) if raw >> (self.bits - 1) else raw


class FloatKind(Kind):
    """A binary32 immediate.

    Its text is the shortest decimal that reads back to the same bits, with a point always, as MLIR wants it; or the
    bits in hexadecimal where no decimal does: infinities and NaNs.
    """

    def format(self, raw: int) -> str:
        text = str(np.array(raw, np.uint32).view(np.float32))
        if "." not in text:
            text = text.replace("e", ".0e")
        return text if text.strip("-")[0].isdigit() and self.pack(float(text)) == raw else f"{raw:#010x}"

    def parse(self, text: str) -> int:
        if text.startswith("0x"):
            return self.check(_integer(text, self.what), text)
        try:
            return self.pack(float(text))
        except OperandError:
            raise
        except ValueError as error:
            raise OperandError(f"{text} is no {self.what}") from error

    def pack(self, number: float) -> int:
        """The operand for a number, rounded to binary32; raises `OperandError` where it is too large."""
        with np.errstate(over="ignore"):
            single = np.array(number, np.float32)
        if np.isinf(single) and not np.isinf(number):
            raise OperandError(f"{number} does not fit {self.what}")
        return int(single.view(np.uint32))

    def value(self, raw: int, registers: Sequence[int]) -> float:
        return float(np.array(raw, np.uint32).view(np.float32))


def _integer(text: str, what: str) -> int:
    try:
        return int(text, 0)
    except ValueError as error:
        raise OperandError(f"{text} is no {what}") from error


IREG = RegisterKind("r", 5, "integer register")
SREG = RegisterKind("s", 5, "scalar register")
TOKEN = RegisterKind("t", 4, "token")
BANK = PointerKind("bank", 5, "bank address (an integer register)")
BUFFER = AddressKind("buffer", 5 + AddressKind.OFFSET_BITS, "buffer address")
GLOBAL = AddressKind("global", 5 + AddressKind.OFFSET_BITS, "global memory address")
COUNT = CountKind("count", 16, "count")
BYTES = Kind("bytes", 20, "number of bytes")
STRIDE = Kind("stride", 32, "stride in bytes")
EXTENT = Kind("extent", 8, "number of cluster rows or columns, 0 for all")
PIECES = Kind("pieces", 2, "number of 11-bit pieces, 0 for all")
FLAG = Kind("flag", 1, "flag")
TARGET = Kind("target", 24, "instruction index")
IMMEDIATE = ImmediateKind("immediate", 48, "integer")
FLOAT = FloatKind("float", 32, "binary32 number")

Values = Mapping[str, int | float]
"""Values of an instruction's operands by name, as an engine sees them."""
