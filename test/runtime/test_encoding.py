"""Instruction words: bytes written by hand, every word there and back, and what is no word.

The bytes follow from the layout in `runtime/instructions.py` alone: opcode in bits 0 to 7, operands from there, lowest
bits first. A buffer address is register | offset << 5; a count from a register is 0x8000 | register.
"""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.encoding import DecodeError, Word, decode, decode_word, encode, encode_word
from runtime.instructions import BY_MNEMONIC, BY_OPCODE, INSTRUCTIONS, Instruction
from runtime.operands import COUNT, CountKind, Kind, OperandError

# In the order of the file's bytes.
BY_HAND = [
    ("halt", "00000000 00000000 00000000 00000000"),
    ("li r3, -15", "0123feff ffffff1f 00000000 00000000"),
    ("li r31, 140737488355327", "01ffffff ffffff0f 00000000 00000000"),
    ("addi r7, r30, 64", "02c70301 00000000 00000000 00000000"),
    ("loop 15, 20", "030f0014 00000000 00000000 00000000"),
    ("loop r9, 16777215", "030980ff ffff0000 00000000 00000000"),
    ("exit.ngt s1, s31, 258", "04e10b04 00000000 00000000 00000000"),
    ("barrier", "06000000 00000000 00000000 00000000"),
    ("wait t15", "050f0000 00000000 00000000 00000000"),
    ("ld [r0+0x100], r1, 4096, 65536, 16, 0, t3", "10002000 01000200 00020020 00060000"),
    ("st [r2+0x40], r5, 1048575, 4294967295, 255, 1, t15", "11020800 e5ffffff ffffffff 031e0000"),
    ("fill [r4+0x80], 512", "12041000 00020000 00000000 00000000"),
    ("mv.row [r0+0x100], [r3+0x0], [r2+0x40], 4, r7, 1", "20002000 03000002 08000400 07800100"),
    ("mv.col [r31+0x7ffff], [r0+0x8], [r1+0x10], r31, 32767, 0", "21ffffff 00010001 02001f80 ff7f0000"),
    ("dots [r0+0x800], [r6+0x0], [r0+0x20], r2, 256, 0", "22000001 06000000 04000280 00010000"),
    ("norm2 [r0+0x4], [r0+0x200], 64, 0", "23800000 00400040 00000000 00000000"),
    ("subtract [r0+0x200], [r6+0x0], [r0+0x800], 1, 300, 0", "24004000 06000000 00010100 2c010000"),
    ("scale [r8+0x0], [r0+0x200], s5, 512, 0", "25080000 00400005 40000000 00000000"),
    ("dots [r0+0x800], [r6+0x0], [r0+0x20], r2, 256, 2", "22000001 06000000 04000280 00010200"),
    ("norm2 [r0+0x4], [r0+0x200], 64, 1", "23800000 00400040 00010000 00000000"),
    ("reduce.row [r0+0x10], 2, 0", "30000200 02000000 00000000 00000000"),
    ("reduce.row [r0+0x10], 2, 4", "30000200 02000400 00000000 00000000"),
    ("reduce.col [r0+0x10], r2, 0", "31000200 02800000 00000000 00000000"),
    ("bcast.row [r1+0x0], 255, 0", "32010000 ff000000 00000000 00000000"),
    ("bcast.col [r2+0x0], 256, 0", "33020000 00010000 00000000 00000000"),
    ("allreduce.row [r1+0x0], 255, 8", "34010000 ff000800 00000000 00000000"),
    ("allreduce.col [r2+0x0], r3, 0", "35020000 03800000 00000000 00000000"),
    ("put [r0+0x100], [r0+0x40], 1, 8, 4", "13002000 00080001 00080400 00000000"),
    ("get [r2+0x20], [r5+0x7ffff], r3, 0, 255", "14020400 e5ffff03 8000ff00 00000000"),
    ("madd [r0+0x4], [r1+0x200], [r2+0x8], 4, 300, 1, 2", "26800000 01400002 01000400 2c010500"),
    ("sub [r0+0x100], [r3+0x40], r2", "27002000 03080002 80000000 00000000"),
    ("sum [r0+0x4], [r0+0x100], 8", "28800000 00200008 00000000 00000000"),
    ("part.row [r0+0x4], [r3+0x40], 32, 512, 8, 0", "29800000 03080020 00002000 08000000"),
    ("part.col [r31+0x7ffff], [r0+0x40], 1048575, 2, 255, 16", "2affffff 000800ff ff2f0000 ff100000"),
    ("gather.row [r0+0x4], [r3+0x40], 32, 512, 8", "36800000 03080020 00002000 08000000"),
    ("gather.col [r0+0x4], [r3+0x40], 2, 1048575, 0", "37800000 03080002 00f0ffff 00000000"),
    ("s.div s1, s2, s3", "47410c00 00000000 00000000 00000000"),
    ("s.li s4, 1.0", "40040000 f0070000 00000000 00000000"),
    ("s.ld s1, [r0+0x4]", "41011000 00000000 00000000 00000000"),
    ("s.st [r0+0x4], s1", "42800000 01000000 00000000 00000000"),
    ("s.mul s1, s2, s3", "43410c00 00000000 00000000 00000000"),
    ("s.max s3, s2, s1", "44430400 00000000 00000000 00000000"),
    ("s.rsqrt s16, s8", "45100100 00000000 00000000 00000000"),
    ("s.where s1, s2, s3, s4", "46410c02 00000000 00000000 00000000"),
]


def parse(text: str) -> Word:
    """The word of an instruction's text, with branch targets as numbers."""
    mnemonic, _, rest = text.partition(" ")
    row = BY_MNEMONIC[mnemonic]
    texts = [part.strip() for part in rest.split(",")] if rest else []
    return Word(row, tuple(kind.parse(part) for (_, kind), part in zip(row.operands, texts, strict=True)))


@pytest.mark.parametrize(("text", "hexadecimal"), BY_HAND)
def test_bytes_by_hand(text: str, hexadecimal: str) -> None:
    data = bytes.fromhex(hexadecimal)
    assert encode_word(parse(text)) == data
    assert decode_word(data) == parse(text)
    assert str(decode_word(data)) == text


def test_every_instruction_has_bytes_by_hand() -> None:
    assert {bytes.fromhex(hexadecimal)[0] for _, hexadecimal in BY_HAND} == set(BY_OPCODE)


def raws(kind: Kind) -> st.SearchStrategy[int]:
    """All operands of a kind."""
    if isinstance(kind, CountKind):
        immediate = st.integers(0, (1 << (kind.bits - 1)) - 1)
        return immediate | st.integers(0, 31).map(kind.pack_register)
    return st.integers(0, (1 << kind.bits) - 1)


@st.composite
def words(draw: st.DrawFn) -> Word:
    row = draw(st.sampled_from(INSTRUCTIONS))
    return Word(row, tuple(draw(raws(kind)) for _, kind in row.operands))


@given(words())
@settings(max_examples=1000)
def test_encode_decode_encode(word: Word) -> None:
    data = encode_word(word)
    assert len(data) == 16
    assert decode_word(data) == word
    assert encode_word(decode_word(data)) == data


@given(words())
@settings(max_examples=1000)
def test_text_of_every_operand_reads_back(word: Word) -> None:
    assert parse(str(word)) == word


@given(st.lists(words(), max_size=5))
def test_code_is_one_word_after_another(program: list[Word]) -> None:
    data = encode(program)
    assert data == b"".join(map(encode_word, program))
    assert decode(data) == program


@given(words(), st.integers(0, 127))
@settings(max_examples=1000)
def test_a_flipped_bit_makes_another_word_or_none(word: Word, position: int) -> None:
    """No two words mean the same."""
    data = (int.from_bytes(encode_word(word), "little") ^ 1 << position).to_bytes(16, "little")
    try:
        other = decode_word(data)
    except DecodeError:
        return
    assert other != word
    assert encode_word(other) == data


@pytest.mark.parametrize("row", INSTRUCTIONS, ids=lambda row: row.mnemonic)
def test_each_reserved_bit_is_refused(row: Instruction) -> None:
    word = parse(next(text for text, _ in BY_HAND if text.split(" ")[0] == row.mnemonic))
    bits = int.from_bytes(encode_word(word), "little")
    end = 8 + sum(kind.bits for _, kind in row.operands)
    for position in range(end, 128):
        data = (bits | 1 << position).to_bytes(16, "little")
        with pytest.raises(DecodeError, match=rf"^instruction 7: reserved bits of {row.mnemonic} are set in word 0x"):
            decode_word(data, 7)


def test_unknown_opcodes_are_refused_with_place_and_word() -> None:
    for opcode in set(range(256)) - set(BY_OPCODE):
        data = bytes([opcode, *range(1, 16)])
        number = f"{int.from_bytes(data, 'little'):#034x}"
        with pytest.raises(DecodeError, match=f"^instruction 3: unknown opcode {opcode:#04x} in word {number}$"):
            decode_word(data, 3)


def test_a_decoding_error_names_the_instruction() -> None:
    good = encode_word(Word.of("halt"))
    with pytest.raises(DecodeError, match=r"^instruction 2: unknown opcode 0xff"):
        decode(good + good + b"\xff" + bytes(15))


@pytest.mark.parametrize("length", [1, 15, 17])
def test_code_is_whole_words(length: int) -> None:
    with pytest.raises(DecodeError, match=f"code of {length} bytes is no whole number of 16-byte words"):
        decode(bytes(length))


@pytest.mark.parametrize("position", range(5, 15))
def test_reserved_bits_of_a_count_are_refused(position: int) -> None:
    raw = COUNT.pack_register(3) | 1 << position
    word = Word(BY_MNEMONIC["loop"], (raw, 20))
    with pytest.raises(OperandError, match="does not fit count"):
        encode_word(word)
    data = (0x03 | raw << 8 | 20 << 24).to_bytes(16, "little")
    with pytest.raises(DecodeError, match=r"^instruction 0: loop: count = 0x.* does not fit count"):
        decode_word(data)


@pytest.mark.parametrize("row", INSTRUCTIONS, ids=lambda row: row.mnemonic)
def test_an_operand_that_does_not_fit_is_refused(row: Instruction) -> None:
    fitting = [0] * len(row.operands)
    for place, (name, kind) in enumerate(row.operands):
        for wrong in (-1, 1 << kind.bits):
            operands = (*fitting[:place], wrong, *fitting[place + 1 :])
            with pytest.raises(OperandError, match=f"{row.mnemonic}: {name} = {wrong} does not fit"):
                encode_word(Word(row, operands))


def test_a_word_takes_exactly_its_operands() -> None:
    assert Word.of("s.mul", b=3, a=2, d=1).operands == (1, 2, 3)
    for operands in ({}, {"d": 1, "a": 2}, {"d": 1, "a": 2, "b": 3, "c": 4}):
        with pytest.raises(ValueError, match=r"s\.mul takes operands"):
            Word.of("s.mul", **operands)


def test_random_code_never_fails_otherwise() -> None:
    generator = random.Random(0)
    for _ in range(2000):
        try:
            decode(generator.randbytes(generator.choice([16, 32, 48])))
        except DecodeError as error:
            assert str(error).startswith("instruction ")
