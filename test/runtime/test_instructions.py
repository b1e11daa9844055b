"""The instruction table: no ambiguity, operands with one meaning, a reference page with every row."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import instructions
from runtime.instructions import INSTRUCTIONS, OPCODE_BITS, WORD_BITS, Instruction, Range
from runtime.isa_reference import reference
from runtime.machine import load_machine
from runtime.operands import BANK, BUFFER, BYTES, COUNT, FLOAT, GLOBAL, IMMEDIATE, IREG, SREG, TOKEN, Kind, OperandError

MACHINE = load_machine("dcom-16x16")
HALT, LI = INSTRUCTIONS[0], INSTRUCTIONS[1]


@pytest.mark.parametrize("row", INSTRUCTIONS, ids=lambda row: row.mnemonic)
def test_fields_follow_one_another_and_fit(row: Instruction) -> None:
    position = OPCODE_BITS
    for (name, kind), field in zip(row.operands, row.layout, strict=True):
        assert field == (name, kind, position)
        position += kind.bits
    assert position <= WORD_BITS


@pytest.mark.parametrize("row", INSTRUCTIONS, ids=lambda row: row.mnemonic)
def test_every_address_has_its_range_and_every_scalar_its_use(row: Instruction) -> None:
    """What timing waits for: no operand that touches the buffer, or a scalar of the meaning, is forgotten."""
    addresses = {(name, kind is GLOBAL) for name, kind in row.operands if kind in (BUFFER, GLOBAL)}
    scalars = set(re.findall(r"\bs\[(\w+)\]", row.meaning))
    assert {(entry.operand, entry.shared) for entry in row.ranges} == addresses
    assert {*row.scalars_read, *row.scalars_written} == scalars
    assert bool(row.scalars_written) is row.meaning.startswith("s[d] = ")


@pytest.mark.parametrize("row", INSTRUCTIONS, ids=lambda row: row.mnemonic)
def test_costs_are_defined_for_every_value(row: Instruction) -> None:
    for number in (0, 1, 7, 300):
        values = {name: number for name, _ in row.operands}
        assert row.cost.busy(values, MACHINE) >= 0
        assert row.cost.latency(values, MACHINE) >= 0
        assert all(entry.size(values, MACHINE) >= 0 for entry in row.ranges)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([HALT, replace(LI, mnemonic="halt")], "same mnemonic or opcode"),
        ([HALT, replace(LI, opcode=0)], "same mnemonic or opcode"),
        ([replace(LI, operands=(("d", IREG), ("d", IREG)))], "li: operand names are ambiguous"),
        ([replace(LI, ranges=(Range("x", instructions.Access.READ, lambda v, m: 4, 4),))], "li: operand names"),
        ([replace(LI, operands=tuple((f"d{i}", IMMEDIATE) for i in range(3)))], "li: operands overflow the word"),
        ([replace(LI, operands=tuple((f"d{i}", IREG) for i in range(25)))], "li: operands overflow the word"),
    ],
)
def test_an_ambiguous_table_fails(rows: list[Instruction], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "INSTRUCTIONS", tuple(rows))
    monkeypatch.setattr(instructions, "BY_MNEMONIC", {row.mnemonic: row for row in rows})
    monkeypatch.setattr(instructions, "BY_OPCODE", {row.opcode: row for row in rows})
    with pytest.raises(ValueError, match=message):
        instructions._check_table()


def test_a_full_word_is_no_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    full = replace(LI, operands=tuple((f"d{i}", IREG) for i in range(24)))
    monkeypatch.setattr(instructions, "INSTRUCTIONS", (full,))
    monkeypatch.setattr(instructions, "BY_MNEMONIC", {"li": full})
    monkeypatch.setattr(instructions, "BY_OPCODE", {1: full})
    instructions._check_table()


REGISTERS = [0, *range(1000, 1031)]


@pytest.mark.parametrize(
    ("kind", "text", "raw", "value"),
    [
        (IREG, "r31", 31, 31),
        (SREG, "s7", 7, 7),
        (TOKEN, "t15", 15, 15),
        (BANK, "r4", 4, 1003),
        (BUFFER, "[r2+0x40]", 2 | 0x40 << 5, 1001 + 0x40),
        (BUFFER, "[r0+0x7ffff]", 0x7FFFF << 5, 0x7FFFF),
        (COUNT, "32767", 32767, 32767),
        (COUNT, "r9", 0x8009, 1008),
        (BYTES, "1048575", 0xFFFFF, 1048575),
        (IMMEDIATE, "-1", (1 << 48) - 1, -1),
        (IMMEDIATE, "-140737488355328", 1 << 47, -(1 << 47)),
        (FLOAT, "0.1", 0x3DCCCCCD, float(np.float32(0.1))),
        (FLOAT, "-0.0", 0x80000000, -0.0),
        (FLOAT, "1.0e-45", 1, float(np.float32(1e-45))),
        (FLOAT, "0x7f800000", 0x7F800000, float("inf")),
    ],
)
def test_text_bits_and_value(kind: Kind, text: str, raw: int, value: float) -> None:
    assert kind.parse(text) == raw
    assert kind.format(raw) == text
    assert kind.value(raw, REGISTERS) == value


@pytest.mark.parametrize(
    ("kind", "text", "raw"),
    [
        (BUFFER, "[r3 + 64]", 3 | 64 << 5),
        (COUNT, "0x10", 16),
        (FLOAT, "inf", 0x7F800000),
        (FLOAT, "nan", 0x7FC00000),
        (FLOAT, "1", 0x3F800000),
    ],
)
def test_other_spellings(kind: Kind, text: str, raw: int) -> None:
    assert kind.parse(text) == raw


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (IREG, "r32", "r32 does not fit integer register"),
        (IREG, "s3", "s3 is no integer register, such as r3"),
        (IREG, "3", "3 is no integer register"),
        (SREG, "s32", "does not fit"),
        (TOKEN, "t16", "does not fit"),
        (BANK, "[r3+0x0]", "is no bank address"),
        (BUFFER, "r3", "r3 is no buffer address, such as"),
        (BUFFER, "[r32+0x0]", "does not fit buffer address"),
        (BUFFER, "[r3+0x80000]", "does not fit buffer address"),
        (BUFFER, "[r3+abc]", "is no offset"),
        (BUFFER, "[r3-0x40]", "is no buffer address"),
        (COUNT, "32768", "32768 does not fit count of 15 bits"),
        (COUNT, "-1", "does not fit"),
        (COUNT, "r32", "no register r32"),
        (COUNT, "many", "many is no count"),
        (BYTES, "1048576", "does not fit number of bytes of 20 bits"),
        (BYTES, "1.5", "is no number of bytes"),
        (IMMEDIATE, "140737488355328", "does not fit integer of 48 bits"),
        (IMMEDIATE, "9" * 5000, "is no integer"),
        (FLOAT, "one", "one is no binary32 number"),
        (FLOAT, "1e39", "does not fit binary32 number"),
        (FLOAT, "0x100000000", "does not fit"),
    ],
)
def test_text_that_is_no_operand(kind: Kind, text: str, message: str) -> None:
    with pytest.raises(OperandError, match=message):
        kind.parse(text)


@given(st.integers(0, 2**32 - 1))
def test_the_text_of_a_float_has_its_bits(raw: int) -> None:
    text = FLOAT.format(raw)
    assert FLOAT.parse(text) == raw
    assert "." in text or text.startswith("0x")


def test_the_reference_page_has_every_instruction() -> None:
    page = reference()
    for row in INSTRUCTIONS:
        assert f"\n### {row.mnemonic}\n" in page
        assert row.meaning in page
