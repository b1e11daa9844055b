"""Assembly text: text to binary to text, and the line of every mistake."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import LAYOUT, MACHINE, program

from dcomc.assembler import assemble
from dcomc.cli import main
from dcomc.container import parse_container, program_bytes, read_program
from dcomc.diagnostics import DcomError
from dcomc.disassembler import disassemble, disassemble_kernel
from dcomc.program import Program
from runtime.encoding import Word, encode
from runtime.instructions import INSTRUCTIONS
from runtime.operands import TARGET, CountKind, Kind
from runtime.program import Kernel, Launch

LAYOUT_LINE = ".layout " + " ".join(f"{name}={value}" for name, value in vars(LAYOUT).items())
HEAD = f".machine dcom-16x16\n.kernel k\n{LAYOUT_LINE}\n"


def raws(kind: Kind) -> st.SearchStrategy[int]:
    if isinstance(kind, CountKind):
        return st.integers(0, (1 << (kind.bits - 1)) - 1) | st.integers(0, 31).map(kind.pack_register)
    return st.integers(0, (1 << kind.bits) - 1)


@st.composite
def kernels(draw: st.DrawFn) -> Kernel:
    """A kernel of any instructions, with labels anywhere and texts of any characters."""
    count = draw(st.integers(1, 12))
    words: list[Word] = []
    for index in range(count):
        row = draw(st.sampled_from(INSTRUCTIONS))
        kinds = [kind for _, kind in row.operands]
        operands = [draw(st.integers(index + 1, count) if kind is TARGET else raws(kind)) for kind in kinds]
        words.append(Word(row, tuple(operands)))
    names = st.from_regex(r"[A-Za-z_.$][A-Za-z0-9_.$]{0,6}", fullmatch=True)
    places = draw(st.lists(st.integers(0, count), unique=True, max_size=4))
    labels = dict(
        zip(places, draw(st.lists(names, unique=True, min_size=len(places), max_size=len(places))), strict=True)
    )
    texts = draw(st.lists(st.text(max_size=12), min_size=count, max_size=count))
    name = draw(st.text(min_size=1, max_size=8))
    return Kernel(name, tuple(words), labels, tuple(texts), LAYOUT, draw(st.integers(0, 2**63 - 1)))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    several = draw(st.lists(kernels(), max_size=2, unique_by=lambda entry: entry.name))
    launches = [
        Launch(entry.name, layer, draw(st.sampled_from(["qkv", "o", "gate_up"])), 1, 2, draw(st.text()))
        for layer, entry in enumerate(several)
    ]
    bits = [draw(st.integers(0, 65535)) for _ in range(3)]
    values = np.resize(np.array(bits, np.uint16), (4, 12)).view(np.float16)
    return Program(
        machine=replace(MACHINE, name=draw(st.text())),
        kernels=tuple(several),
        launches=tuple(launches),
        host=draw(st.text() | st.lists(st.sampled_from(["a", ";", "|", " ", "\n", ".host", "\r"])).map("".join)),
        options=draw(st.dictionaries(st.text(max_size=5), json_values, max_size=3)),
        activations={launch.key: values for launch in launches[: draw(st.integers(0, 2))]},
    )


@given(programs())
@settings(max_examples=120, deadline=None)
def test_binary_to_text_to_binary(written: Program) -> None:
    data = program_bytes(written)
    text = disassemble(written)
    assert program_bytes(assemble(text, "p.s")) == data
    assert disassemble(assemble(text, "p.s")) == text
    assert program_bytes(assemble(disassemble(written, hex_words=True), "p.s")) == data


def test_the_example_as_text() -> None:
    text = disassemble(program())
    assert text.startswith(".machine name=dcom-16x16\n.machine.grid rows=16 cols=16\n")
    assert (
        f"""
.kernel lanczos_4x12
{LAYOUT_LINE}
.seed 0
.loc "model.layers.0.mlp (a/b.py:10)"
    li r3, -15
    s.li s2, 1.0e-05
    ld [r0+0x100], r1, 128, 4294967295, 1, 2, t4
    wait t4
turns:
.loc "model.layers.1.mlp (a/b.py:11)"
    loop r3, end
    mv.row [r0+0x400], [r0+0x100], [r7+0x20], 1, r9, 1
    exit.ngt s1, s2, done
    addi r7, r7, 16
end:
.loc "model.layers.2.mlp (a/b.py:12)"
    reduce.row [r0+0x400], 8, 0
done:
    halt

"""
        in text
    )
    assert ".launch kernel=lanczos_4x12 layer=1 site=qkv prompts=2 rank=3 location=" in text
    assert text.endswith('.host\n| module @tiny {\n|   // a comment; "quoted"\n|\n|  | bar\n| }\n|\n')


def test_hexadecimal_shows_place_and_bits() -> None:
    lines = disassemble(program(), hex_words=True).splitlines()
    (wait, other) = [line for line in lines if line.startswith("    wait t4")]
    assert wait.endswith(f" ; 0x0030: 0x{0x405:032x}")
    assert other.endswith(f" ; 0x00d0: 0x{0x405:032x}")


def test_one_kernel() -> None:
    whole, one = disassemble(program(), hex_words=True), disassemble_kernel(program(), "other", hex_words=True)
    assert one.startswith(".kernel other\n") and f"\n{one}\n" in whole
    with pytest.raises(DcomError, match="no kernel 'othr'; did you mean 'other'"):
        disassemble_kernel(program(), "othr")


def test_written_by_hand() -> None:
    """What a person may write: no locations, comments, spaces, two labels at one place, numbers as targets."""
    text = (
        HEAD
        + """
; a comment
  li   r2 ,  0x10   ; sixteen
first: second:  loop r2, last ; "quoted; text"
  exit.ngt s1, s2, 4
last:
  fill [r0 + 64], 8
  halt
.launch kernel=k layer=0 site=o prompts=1 rank=1
"""
    )
    assembled = assemble(text, "some/folder/hand.s")
    (only,) = assembled.kernels
    assert encode(only.words) == encode(
        [
            Word.of("li", d=2, value=16),
            Word.of("loop", count=0x8002, end=3),
            Word.of("exit.ngt", a=1, b=2, target=4),
            Word.of("fill", x=64 << 5, bytes=8),
            Word.of("halt"),
        ]
    )
    assert only.labels == {1: "first", 3: "last"}
    assert only.locations == ("hand.s:6", "hand.s:7", "hand.s:8", "hand.s:10", "hand.s:11")
    assert only.seed == 0
    assert assembled.launches == (Launch("k", 0, "o", 1, 1, "hand.s:12"),)
    assert assembled.machine == MACHINE


def test_windows_line_ends() -> None:
    text = disassemble(replace(program(), host="")).replace("\n", "\r\n")
    assert program_bytes(assemble(text, "p.s")) == program_bytes(replace(program(), host=""))


def test_a_start_without_a_seed_goes_both_ways() -> None:
    first, second = program().kernels
    mean = replace(program(), kernels=(first, replace(second, seed=None)))
    text = disassemble(mean)
    assert text.count(".seed ") == text.count(".start mean\n") == 1
    assert program_bytes(assemble(text, "p.s")) == program_bytes(mean)
    assert parse_container(program_bytes(mean), "p.bin").program.kernels == mean.kernels


FULL = disassemble(program())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("mv.rwo r1", "unknown instruction 'mv.rwo'; did you mean 'mv.row'? known: addi, "),
        ("s.mul s1, s2", "s.mul takes 3 operands, not 2; they are: d, a, b"),
        ("halt s1", "halt takes 0 operands, not 1; they are: none"),
        ("li r1, 2, 3", "li takes 2 operands, not 3; they are: d, value"),
        ("li", "li takes 2 operands, not 0"),
        ("li s1, 2", "li: operand 'd': s1 is no integer register, such as r3"),
        ("li r32, 2", "li: operand 'd': r32 does not fit integer register of 5 bits"),
        (f"li r{'9' * 5000}, 2", "li: operand 'd': "),
        ("li r1,", "li: operand 'value' is missing"),
        ("fill [r1+0x80000], 2", "fill: operand 'x': [r1+0x80000] does not fit buffer address"),
        ("loop 3, xyz", "unknown label 'xyz'; known: here"),
        ("loop 3, her", "unknown label 'her'; did you mean 'here'?"),
        ("exit.ngt s1, s2, here", "exit.ngt: 'here' is no later place in the kernel; 'target' leads forward"),
        ("loop 3, 1", "loop: '1' is no later place in the kernel; 'end' leads forward"),
        ("loop 3, 99", "loop: '99' is no later place in the kernel"),
        ("here: halt", "label 'here' stands twice"),
        (".lok 5", "unknown directive '.lok'; did you mean '.loc'?"),
        (".loc here", ".loc takes a string"),
        ('.loc "a" b', "is no string"),
        ('.loc "a', "is no string"),
        (r'.loc "\ud800"', "is no string of Unicode characters"),
        (".seed", ".seed takes a number"),
        (".seed -1", ".seed takes a number"),
        (".start", ".start takes the word mean"),
        (".start 0", ".start takes the word mean"),
        (".stream row=0 col=0 rows=8 cols=16", ".stream lacks 'entry'; it takes row, col, rows, cols, entry"),
        (".stream row=x col=0 rows=8 cols=16 entry=here", "'row' of .stream must be a number"),
        (".stream row=0 col=0 rows=8 cols=16 entry=her", "unknown label 'her'; did you mean 'here'?"),
        (".kernel", ".kernel takes a name"),
        (".kernel a b", ".kernel takes a name"),
        (".kernel two", "kernel two has no .layout"),
        (f".kernel k\n{LAYOUT_LINE}\nhalt", "the name 'k' is empty or given twice"),
        (f".kernel two\n{LAYOUT_LINE}", "kernel two: has no instructions"),
        (".layout rows=1", ".layout lacks 'cols'; it takes rows, cols, "),
        (LAYOUT_LINE.replace("rows", "rosw", 1), "unknown key 'rosw' of .layout; did you mean 'rows'?"),
        (LAYOUT_LINE.replace("rows=4", "rows=x"), "'rows' of .layout must be a number"),
        (".layout rows=1 rows=2", "'rows' is given twice"),
        (".layout rows 1", "expected key=value at 'rows 1'"),
        (".launch kernel=k layer=0", ".launch lacks 'site'"),
        (".launch kernel=none layer=0 site=o prompts=1 rank=1", "launch layer0.o: there is no kernel 'none'"),
        (".launch kernel=k layer=0 site=5 prompts=1 rank=1", "'site' of .launch must be a name"),
        (".launch kernel=k layer=0 site=o prompts=1 rank=9", "rank 9 is not between 1 and the 3 iterations"),
        (".machine dcom-16x16", "a second .machine"),
        (".machine.grid rows=1 cols=1", ".machine.grid must come once, after .machine name="),
        (".options [1]", ".options takes a JSON object"),
        (".options {", ".options takes a JSON object: "),
        ('.options {"a": NaN}', ".options takes a JSON object: "),
        (r'.options {"a": "\ud800"}', ".options takes a JSON object: "),
        (".activation layer0.o rows=4", ".activation lacks 'cols'"),
        (".activation layer0.o rows=4 cols=12\n| ????", "the data is no base64: "),
        (".activation layer0.o rows=4 cols=12\n| AAAA", "3 bytes of data for 4 x 12 binary16 values"),
        (".activation layer9.o rows=1 cols=1\n| AAA=", "activation layer9.o: there is no such launch"),
        ("| module", "a line of data outside .host and .activation"),
        (".host module", ".host stands once and takes nothing but the lines below it"),
    ],
)
def test_a_mistake_has_its_line(line: str, message: str) -> None:
    before = f"{HEAD}here: li r1, 1\n"
    with pytest.raises(DcomError) as caught:
        assemble(f"{before}{line}\n{'' if '.kernel' in line else 'halt'}\n", "a/b.s")
    shown = str(caught.value)
    assert "\n" not in shown and message in shown
    # The first line of the example that can be wrong, or its .kernel line.
    assert shown.startswith("a/b.s:5: error: ")


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("", "p.s", "no .machine"),
        (".kernel k\nhalt\n", "p.s", "no .machine"),
        ("\n.machine dcom-16x61\n", "p.s:2", "unknown machine 'dcom-16x61'; did you mean 'dcom-16x16'?"),
        (".machine none.toml\n", "p.s:1", "cannot read none.toml"),
        (".machine name=a\n", "p.s:1", "missing key 'bank'"),
        (FULL.replace("hz=1000000000", "hz=0"), "p.s:1", "'clock.hz' must be a positive integer, not 0"),
        (FULL.replace("mac_rows=8", "mac_rows=6"), "p.s:1", "cluster.mac_rows = 6 is no power of two"),
        ("halt\n", "p.s:1", "'halt' before the first .kernel"),
        ("x:\n", "p.s:1", "label 'x' before the first .kernel"),
        (".seed 1\n", "p.s:1", ".seed before the first .kernel"),
        (FULL.replace("wait t4", "wait t16", 1), "p.s:18", "wait: operand 'token': t16 does not fit token of 4 bits"),
        (
            FULL.replace("end:", "ende:", 1),
            "p.s:21",
            "unknown label 'end'; did you mean 'ende'? known: done, ende, turns",
        ),
        (FULL + FULL[FULL.index(".host") :], f"p.s:{FULL.count(chr(10)) + 1}", ".host stands once"),
    ],
)
def test_mistakes_of_a_whole_text(text: str, place: str, message: str) -> None:
    with pytest.raises(DcomError) as caught:
        assemble(text, "p.s")
    assert str(caught.value).startswith(f"{place}: error: ") and message in str(caught.value)


@given(st.integers(0, len(FULL) - 1), st.integers(0, 20), st.text(max_size=5))
@settings(max_examples=300, deadline=None)
def test_any_edit_gives_a_program_or_one_line(start: int, length: int, put: str) -> None:
    try:
        assembled = assemble(FULL[:start] + put + FULL[start + length :], "p.s")
    except DcomError as error:
        assert re.match(r"p\.s(:\d+)?: error: [^\n]+$", str(error))
    else:
        program_bytes(assembled)


# The commands


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_asm_and_disasm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, binary, text = tmp_path / "p.s", tmp_path / "p.bin", tmp_path / "q.s"
    source.write_text(FULL, encoding="utf-8")
    assert run(capsys, "asm", source, "-o", binary) == (0, "", "")
    assert binary.read_bytes() == program_bytes(program())
    assert run(capsys, "disasm", binary) == (0, FULL, "")
    assert run(capsys, "disasm", binary, "-o", text) == (0, "", "")
    assert text.read_text(encoding="utf-8") == FULL
    one = disassemble_kernel(read_program(binary), "other", hex_words=True)
    assert run(capsys, "disasm", binary, "--kernel", "other", "--hex") == (0, one, "")


def test_a_mistake_leaves_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, binary = tmp_path / "p.s", tmp_path / "p.bin"
    source.write_text(FULL.replace("wait t4", "wait for it", 1), encoding="utf-8")
    code, out, err = run(capsys, "asm", source, "-o", binary)
    assert (code, out) == (1, "")
    assert err == f"{source}:18: error: wait: operand 'token': for it is no token, such as t3\n"
    assert not binary.exists()


def test_files_that_are_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "p.s"
    source.write_bytes(b".machine dcom-16x16\n; \xff\n")
    assert run(capsys, "asm", source, "-o", tmp_path / "p.bin") == (
        1,
        "",
        f"{source}:2: error: not UTF-8 text; give a file of assembly text\n",
    )
    code, _, err = run(capsys, "asm", tmp_path / "none.s", "-o", tmp_path / "p.bin")
    assert (code, err) == (
        1,
        f"error: cannot read {tmp_path / 'none.s'}: No such file or directory; give a file of assembly text\n",
    )
    code, _, err = run(capsys, "disasm", source)
    assert (code, err) == (
        1,
        f"{source}: error: no program: the file is no ELF file; give a file made by `dcomc compile`\n",
    )
