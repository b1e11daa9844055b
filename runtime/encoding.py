"""Instruction words to bytes and back, from the instruction table alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from runtime.instructions import BY_MNEMONIC, BY_OPCODE, OPCODE_BITS, WORD_BITS, Instruction
from runtime.operands import OperandError

WORD_BYTES = WORD_BITS // 8


class DecodeError(ValueError):
    """Bytes that are no instruction; the message says which word and why."""


@dataclass(frozen=True)
class Word:
    """One instruction with its operands as the unsigned integers that the word holds, in the table's order."""

    instruction: Instruction
    operands: tuple[int, ...]

    @classmethod
    def of(cls, mnemonic: str, **operands: int) -> Self:
        """A word by the names of its operands; all must be given."""
        instruction = BY_MNEMONIC[mnemonic]
        names = [name for name, _ in instruction.operands]
        if set(names) != set(operands):
            raise ValueError(f"{mnemonic} takes operands {names}, not {sorted(operands)}")
        return cls(instruction, tuple(operands[name] for name in names))

    def __str__(self) -> str:
        texts = [kind.format(raw) for (_, kind), raw in zip(self.instruction.operands, self.operands, strict=True)]
        return " ".join([self.instruction.mnemonic, ", ".join(texts)]).rstrip()


def encode_word(word: Word) -> bytes:
    """The 16 bytes of a word, little-endian; raises `ValueError` where an operand does not fit its field."""
    bits = word.instruction.opcode
    for (name, kind, position), raw in zip(word.instruction.layout, word.operands, strict=True):
        bits |= kind.check(raw, f"{word.instruction.mnemonic}: {name} = {raw}") << position
    return bits.to_bytes(WORD_BYTES, "little")


def decode_word(data: bytes, index: int = 0) -> Word:
    """The word of 16 bytes.

    Args:
        index: the word's place in its program, for the error.

    Raises:
        DecodeError: the opcode is unknown, a reserved bit is set, or an operand is none of its kind.
    """
    bits = int.from_bytes(data, "little")
    instruction = BY_OPCODE.get(bits & ((1 << OPCODE_BITS) - 1))
    if instruction is None:
        raise DecodeError(f"instruction {index}: unknown opcode {data[0]:#04x} in word {bits:#034x}")
    used = OPCODE_BITS
    operands: list[int] = []
    for name, kind, position in instruction.layout:
        raw = bits >> position & ((1 << kind.bits) - 1)
        try:
            operands.append(kind.check(raw, f"{name} = {raw:#x}"))
        except OperandError as error:
            raise DecodeError(f"instruction {index}: {instruction.mnemonic}: {error} in word {bits:#034x}") from error
        used = position + kind.bits
    if bits >> used:
        raise DecodeError(f"instruction {index}: reserved bits of {instruction.mnemonic} are set in word {bits:#034x}")
    return Word(instruction, tuple(operands))


def encode(words: Sequence[Word]) -> bytes:
    """The code of a program."""
    return b"".join(encode_word(word) for word in words)


def decode(data: bytes) -> list[Word]:
    """The words of a program; raises `DecodeError` for the first that is none."""
    if len(data) % WORD_BYTES:
        raise DecodeError(f"code of {len(data)} bytes is no whole number of {WORD_BYTES}-byte words")
    return [decode_word(data[i : i + WORD_BYTES], i // WORD_BYTES) for i in range(0, len(data), WORD_BYTES)]
