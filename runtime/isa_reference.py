"""The instruction reference, written from the instruction table by `python -m dcomc.reference`."""

from collections.abc import Iterator

from runtime import instructions
from runtime.encoding import Word
from runtime.instructions import INSTRUCTIONS, OPCODE_BITS, WORD_BITS, Instruction, Unit
from runtime.machine import Machine, load_machine
from runtime.operands import INTEGER_REGISTERS, SCALAR_REGISTERS, TOKENS, Kind

MACHINE = "dcom-16x16"
"""The machine of the example cycles."""

EXAMPLES = {
    "r": "r3",
    "s": "s3",
    "t": "t3",
    "bank": "r4",
    "buffer": "[r5+0x40]",
    "global": "[r0+0x80]",
    "count": "16",
    "bytes": "1024",
    "stride": "4096",
    "extent": "0",
    "pieces": "2",
    "flag": "1",
    "target": "20",
    "immediate": "-15",
    "float": "0.5",
}
"""Text of an operand of each kind."""


def reference() -> str:
    """The page, in Markdown."""
    return "\n".join(_lines(load_machine(MACHINE)))


def _lines(machine: Machine) -> Iterator[str]:
    yield "# Instruction set"
    yield ""
    yield "Written by `python -m dcomc.reference` from the table in `runtime/instructions.py`; edit there, not here."
    yield ""
    yield (instructions.__doc__ or "").split("\n\n", 2)[2].strip()
    yield ""
    yield f"A stream has {INTEGER_REGISTERS} integer registers of 64 bits (r0 is zero, r1 the launch's bank address at"
    yield f"entry) and {TOKENS} tokens, each cluster {SCALAR_REGISTERS} scalar registers of 32 bits."
    yield ""
    yield "An instruction keeps its unit for its busy cycles; its result can be used latency cycles after these."
    yield ""
    yield "## Operands"
    yield ""
    yield "| kind | bits | what | example |"
    yield "|---|---:|---|---|"
    for kind in _kinds():
        what = kind.what + (", or integer register (top bit set)" if kind.name == "count" else "")
        yield f"| {kind.name} | {kind.bits} | {what} | `{EXAMPLES[kind.name]}` |"
    yield ""
    yield "## Instructions"
    yield ""
    yield "| opcode | instruction | unit |"
    yield "|---|---|---|"
    for row in INSTRUCTIONS:
        yield f"| 0x{row.opcode:02x} | [`{row.mnemonic}`](#{_anchor(row)}) | {row.unit.value} |"
    for row in INSTRUCTIONS:
        yield ""
        yield from _instruction(row, machine)
    yield ""


def _instruction(row: Instruction, machine: Machine) -> Iterator[str]:
    yield f"### {row.mnemonic}"
    yield ""
    yield f"`{' '.join([row.mnemonic, ', '.join(name for name, _ in row.operands)]).rstrip()}`"
    yield ""
    yield row.meaning
    yield ""
    yield "| bits | operand | kind | use |"
    yield "|---|---|---|---|"
    yield f"| 0–{OPCODE_BITS - 1} | opcode 0x{row.opcode:02x} | | |"
    uses = {entry.operand: f"buffer {entry.access.value}" for entry in row.ranges}
    uses |= dict.fromkeys(row.scalars_read, "scalar read") | dict.fromkeys(row.scalars_written, "scalar write")
    end = OPCODE_BITS
    for name, kind, position in row.layout:
        end = position + kind.bits
        bits = str(position) if kind.bits == 1 else f"{position}–{end - 1}"
        yield f"| {bits} | {name} | {kind.name} | {uses.get(name, '')} |"
    yield f"| {end}–{WORD_BITS - 1} | zero | | |"
    if row.unit is Unit.CONTROL:
        return
    yield ""
    word = Word(row, tuple(kind.parse(EXAMPLES[kind.name]) for _, kind in row.operands))
    values = {
        name: kind.value(raw, [0] * INTEGER_REGISTERS)
        for (name, kind), raw in zip(row.operands, word.operands, strict=True)
    }
    sizes = ", ".join(f"{entry.size(values, machine):,} bytes at {entry.operand}" for entry in row.ranges)
    yield f"`{word}` on {machine.name}: busy {row.cost.busy(values, machine)}, latency " + "; ".join(
        filter(None, [f"{row.cost.latency(values, machine)} cycles", sizes])
    )


def _kinds() -> Iterator[Kind]:
    yield from dict.fromkeys(kind for row in INSTRUCTIONS for _, kind in row.operands)


def _anchor(row: Instruction) -> str:
    """The heading's anchor as Markdown viewers make it: dots are left out."""
    return row.mnemonic.replace(".", "")
