"""The isa dialect as passes use it: building instructions, and the kernel that they make."""

from pathlib import Path

import pytest
from xdsl.dialects.builtin import UnknownLoc

from dcomc.ir import parse_module, print_module, read_module, source_location
from dialects import isa
from dialects.isa import KernelOp, LabelOp, assemble_kernel, instruction
from runtime.encoding import Word, encode
from runtime.instructions import BY_MNEMONIC, INSTRUCTIONS
from runtime.operands import BUFFER, COUNT, IMMEDIATE
from runtime.program import KernelLayout

LAYOUT = KernelLayout(4, 12, 3, 8, 8, 0, 128, 128, 144, 48, 192, 240, 264, 0, 0, 0, 1)
HERE = source_location("model.layers.1.mlp", "model.py", 7)


def kernel() -> KernelOp:
    operations = [
        instruction("li", d=2, value=IMMEDIATE.pack(-15), location=HERE),
        LabelOp("turns"),
        LabelOp("again"),
        instruction("loop", count=COUNT.pack_register(2), end="end", location=UnknownLoc()),
        instruction("fill", x=BUFFER.pack(3, 0x40), bytes=8, location=HERE),
        LabelOp("end"),
        instruction("exit.ngt", a=1, b=2, target="last", location=HERE),
        instruction("halt", location=HERE),
        LabelOp("last"),
    ]
    return KernelOp("k", operations, LAYOUT, 7)


def test_a_kernel_is_assembled() -> None:
    made = kernel()
    made.verify()
    assembled = assemble_kernel(made)
    assert encode(assembled.words) == encode(
        [
            Word.of("li", d=2, value=(1 << 48) - 15),
            Word.of("loop", count=0x8002, end=3),
            Word.of("fill", x=3 | 0x40 << 5, bytes=8),
            Word.of("exit.ngt", a=1, b=2, target=5),
            Word.of("halt"),
        ]
    )
    assert assembled.labels == {1: "turns", 3: "end", 5: "last"}
    where = "model.layers.1.mlp (model.py:7)"
    assert assembled.locations == (where, "?", where, where, where)
    assert (assembled.name, assembled.layout, assembled.seed) == ("k", LAYOUT, 7)


def test_a_kernel_survives_its_text() -> None:
    text = print_module(kernel())
    (again,) = parse_module(text, "k.mlir").body.block.ops
    assert isinstance(again, KernelOp)
    assert assemble_kernel(again) == assemble_kernel(kernel())
    assert print_module(again) == text


def test_every_instruction_is_in_the_round_trip_file() -> None:
    module = read_module(str(Path(__file__).parent / "isa" / "ops.mlir"))
    seen = {op.name.removeprefix("isa.") for op in module.walk()}
    assert set(BY_MNEMONIC) <= seen


@pytest.mark.parametrize("row", INSTRUCTIONS, ids=lambda row: row.mnemonic)
def test_an_operation_has_its_rows_operands(row: isa.Instruction) -> None:
    definition = isa.OPERATIONS[row.mnemonic].get_irdl_definition()
    assert list(definition.properties) == [name for name, _ in row.operands]
    assert isa.OPERATIONS[row.mnemonic].__doc__ == row.meaning


@pytest.mark.parametrize(
    "operands", [{}, {"d": 1}, {"d": 1, "value": 2, "more": 3}, {"d": 1, "value": "label"}, {"d": "x", "value": 2}]
)
def test_operands_that_are_not_the_instructions(operands: dict[str, int | str]) -> None:
    with pytest.raises(ValueError, match=r"^li"):
        instruction("li", location=HERE, **operands)


def test_a_branch_takes_a_label() -> None:
    with pytest.raises(ValueError, match="loop: end = 3 is no instruction index"):
        instruction("loop", location=HERE, count=1, end=3)


def test_an_operand_that_an_operation_has_otherwise() -> None:
    """An operand named as a member of every operation would hide it."""
    row = isa.Instruction("bad", 0xFF, (("word", BUFFER),), "", INSTRUCTIONS[0].unit, INSTRUCTIONS[0].cost)
    with pytest.raises(ValueError, match="bad: operations have another 'word'"):
        isa._define(row)
