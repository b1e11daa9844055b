"""prog.bin: what is written reads back, other tools list it, and no damaged or foreign file gets through."""

import hashlib
import json
import random
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import example, given
from hypothesis import strategies as st
from programs import MACHINE, program

from dcomc import elf
from dcomc.container import (
    FORMAT_VERSION,
    parse_container,
    program_bytes,
    read_program,
)
from dcomc.diagnostics import DcomError
from dcomc.program import Program
from runtime.encoding import Word, encode_word
from runtime.machine import machine_from_values

DATA = program_bytes(program())
CONTENT = [".text", ".rodata", ".dcom.kernels", ".dcom.launch", ".dcom.srcmap", ".dcom.options", ".dcom.host"]
DIGEST = 88  # header 64, note header 12, owner 8, format version 4


def forge(
    contents: dict[str, bytes] | None = None,
    note: Callable[[Any], Any] = lambda values: values,
    version: int = FORMAT_VERSION,
) -> bytes:
    """The example program's file with other contents, and all checksums right."""
    sections = {section.name: section for section in elf.read_elf(DATA)}
    description = elf.read_note(sections[".note.dcom"].data, "dcom", 0xDC01)
    values = json.loads(description[36:])
    for name, data in (contents or {}).items():
        sections[name] = replace(sections[name], data=data)
        values["sections"][name] = hashlib.sha256(data).hexdigest()
    text = json.dumps(note(values), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    owner = elf.write_note("dcom", 0xDC01, struct.pack("<I", version) + bytes(32) + text)
    sections[".note.dcom"] = replace(sections[".note.dcom"], data=owner)
    return sign(elf.write_elf(list(sections.values())))


def sign(data: bytes) -> bytes:
    zeroed = data[:DIGEST] + bytes(32) + data[DIGEST + 32 :]
    return data[:DIGEST] + hashlib.sha256(zeroed).digest() + data[DIGEST + 32 :]


def refusal(data: bytes) -> str:
    """The error that reading gives, which is one line with a place."""
    with pytest.raises(DcomError) as caught:
        parse_container(data, "prog.bin")
    line = str(caught.value)
    assert line.startswith("prog.bin: ") and "error: " in line and "\n" not in line
    return line.removeprefix("prog.bin: error: ")


def content(name: str) -> bytes:
    return next(section.data for section in elf.read_elf(DATA) if section.name == name)


def assert_same(left: Program, right: Program) -> None:
    for name in ("machine", "kernels", "launches", "host", "options"):
        assert getattr(left, name) == getattr(right, name)
    assert list(left.activations) == list(right.activations)
    for key, values in left.activations.items():
        assert values.dtype == right.activations[key].dtype == np.float16
        np.testing.assert_array_equal(values.view(np.uint16), right.activations[key].view(np.uint16))


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    for written in (
        program(),
        program(activations=False),
        replace(program(), host="", options={}, launches=(), activations={}),
    ):
        written.save(tmp_path / "prog.bin")
        assert_same(read_program(tmp_path / "prog.bin"), written)


def test_any_bits_of_an_activation_read_back() -> None:
    values = np.arange(96, dtype=np.uint16).reshape(8, 12) * 683 + 0x7C00
    stored = replace(program(), activations={"layer1.qkv": values.view(np.float16)})
    assert_same(parse_container(program_bytes(stored), "p").program, stored)


def test_the_same_program_gives_the_same_bytes() -> None:
    again = program()
    shuffled = replace(
        again,
        options=dict(reversed(again.options.items())),
        kernels=tuple(replace(entry, labels=dict(reversed(entry.labels.items()))) for entry in again.kernels),
    )
    assert program_bytes(shuffled) == DATA
    assert program_bytes(parse_container(DATA, "p").program) == DATA


def test_the_unmodified_forgery_is_the_file() -> None:
    assert forge() == DATA


def test_pyelftools_lists_it() -> None:
    file = ELFFile(BytesIO(DATA))
    assert (file.elfclass, file.little_endian, file["e_machine"], file["e_type"]) == (64, True, "EM_NONE", "ET_EXEC")
    sections = {section.name: section for section in file.iter_sections()}
    assert list(sections) == ["", ".note.dcom", *CONTENT, ".shstrtab"]
    assert sections[".text"].data() == b"".join(encode_word(word) for k in program().kernels for word in k.words)
    assert sections[".rodata"].data() == np.arange(96, dtype="<f2").tobytes()
    assert sections[".dcom.host"].data().decode() == program().host
    (note,) = sections[".note.dcom"].iter_notes()
    description = bytes(note["n_descdata"], "latin-1") if isinstance(note["n_descdata"], str) else note["n_descdata"]
    assert note["n_name"] == "dcom"
    assert description[:4] == struct.pack("<I", FORMAT_VERSION)
    assert description[4:36] == hashlib.sha256(DATA.replace(description[4:36], bytes(32))).digest()
    values = json.loads(description[36:])
    assert machine_from_values(values["machine"], "note") == MACHINE
    assert values["machine_hash"] == MACHINE.hash
    assert values["sections"] == {name: hashlib.sha256(sections[name].data()).hexdigest() for name in CONTENT}


# Damage


def test_a_flipped_bit_anywhere_is_found() -> None:
    generator = random.Random(1)
    for offset in range(len(DATA)):
        refusal(flipped(offset, generator.randrange(8)))


def test_each_flipped_bit_of_the_headers_is_found() -> None:
    table = struct.unpack_from("<Q", DATA, 40)[0]
    for offset in [*range(DIGEST + 40), *range(table, len(DATA))]:
        for bit in range(8):
            refusal(flipped(offset, bit))


@given(st.lists(st.tuples(st.integers(0, len(DATA) - 1), st.integers(1, 255)), min_size=1, max_size=4))
def test_several_changed_bytes_are_found(changes: list[tuple[int, int]]) -> None:
    data = bytearray(DATA)
    for offset, mask in changes:
        data[offset] ^= mask
    if bytes(data) != DATA:
        refusal(bytes(data))


def flipped(offset: int, bit: int) -> bytes:
    return DATA[:offset] + bytes([DATA[offset] ^ 1 << bit]) + DATA[offset + 1 :]


@pytest.mark.parametrize("name", CONTENT)
def test_the_damaged_section_is_named(name: str) -> None:
    offset = DATA.index(content(name))
    expected = f"section {name} is damaged (checksum does not match); compile it again"
    assert refusal(flipped(offset, 0)) == expected
    assert refusal(flipped(offset + len(content(name)) - 1, 7)) == expected


def test_a_damaged_note_is_named() -> None:
    assert refusal(flipped(DIGEST, 0)).startswith("section .note.dcom is damaged (checksum of the file does not match)")
    assert refusal(flipped(64, 0)).startswith("section .note.dcom is damaged;")


def test_padding_is_checked() -> None:
    gaps = [
        offset
        for before, after in pairwise(CONTENT)
        for offset in range(DATA.index(content(before)) + len(content(before)), DATA.index(content(after)))
    ]
    assert gaps
    for offset in gaps:
        assert refusal(flipped(offset, 3)) == "the file has damaged ELF headers; compile it again"
        assert refusal(sign(flipped(offset, 3))) == "the file has damaged ELF headers; compile it again"


def test_a_file_that_is_cut_off_is_found() -> None:
    for length in range(4, len(DATA)):
        assert refusal(DATA[:length]).startswith("the file is cut off")
    assert refusal(DATA[:1000]) == f"the file is cut off: 1000 of {len(DATA)} bytes; compile it again"


def test_something_after_the_end_is_found() -> None:
    assert refusal(DATA + b"\0") == "the file has 1 bytes after its end; compile it again"
    assert refusal(DATA + DATA) == f"the file has {len(DATA)} bytes after its end; compile it again"


# Files of other kinds


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "the file is empty"),
        (b"\x7fEL", "the file is no ELF file"),
        (b"module { }\n", "the file is no ELF file"),
        (bytes(5000), "the file is no ELF file"),
        (DATA[:4] + b"\x01" + DATA[5:], "the file is no 64-bit little-endian ELF file"),
        (DATA[:18] + b"\x3e\0" + DATA[20:], "the file is an ELF file for machine 62"),
    ],
)
def test_a_foreign_file(data: bytes, what: str) -> None:
    assert refusal(data) == f"no program: {what}; give a file made by `dcomc compile`"


def test_another_programs_elf_file() -> None:
    assert refusal(Path(sys.executable).read_bytes()).startswith("no program: the file is ")


def test_an_elf_file_of_other_sections() -> None:
    assert refusal(elf.write_elf([])) == "section .note.dcom is missing; compile it again"
    assert refusal(elf.write_elf([elf.Section(".text", b"code")])) == "section .note.dcom is missing; compile it again"
    foreign = elf.write_elf([elf.Section(".note.dcom", elf.write_note("GNU", 1, b"abc"), elf.SHT_NOTE)])
    assert refusal(foreign) == "section .note.dcom is damaged; compile it again"
    short = elf.write_elf([elf.Section(".note.dcom", elf.write_note("dcom", 0xDC01, b"abc"), elf.SHT_NOTE)])
    assert refusal(short) == "section .note.dcom is damaged; compile it again"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "none", "No such file or directory")):
        with pytest.raises(DcomError) as caught:
            read_program(path)
        assert str(caught.value) == f"error: cannot read {path}: {reason}; give a file made by `dcomc compile`"
    with pytest.raises(DcomError, match="cannot read"):
        read_program("a\0b")


@pytest.mark.parametrize("version", [0, 1, FORMAT_VERSION + 1, 2**32 - 1])
def test_another_format(version: int) -> None:
    line = refusal(forge(version=version))
    newer = version > FORMAT_VERSION
    expected = f"newer than {FORMAT_VERSION}, which this dcomc reads" if newer else "which this dcomc does not read"
    assert line.startswith(f"section .note.dcom says format {version}, ") and expected in line


# Files with right checksums that make no sense


def changed_note(**changes: Any) -> Callable[[Any], Any]:
    return lambda values: {**values, **changes}


def other_machine(values: dict[str, Any]) -> dict[str, Any]:
    return {**values, "machine": {**values["machine"], "clock": {"hz": 5}}}


def broken_machine(values: dict[str, Any]) -> dict[str, Any]:
    return {**values, "machine": {**values["machine"], "clock": {"hz": -5}}}


@pytest.mark.parametrize(
    ("note", "message"),
    [
        (other_machine, "says a172138c3dbb2376 for machine dcom-16x16, but its values have the hash "),
        (changed_note(machine_hash="0"), "says 0 for machine dcom-16x16"),
        (changed_note(machine_hash=3), "has 3 for a str"),
        (changed_note(machine=[]), "has [] for a dict"),
        (changed_note(more=1), "has an object with keys machine, machine_hash, more, sections"),
        (changed_note(sections={}), "does not list the sections that the file has"),
        (lambda values: [values], "for an object"),
    ],
)
def test_a_note_that_makes_no_sense(note: Callable[[Any], Any], message: str) -> None:
    assert message.replace("a172138c3dbb2376", MACHINE.hash) in refusal(forge(note=note))


def test_a_machine_that_makes_no_sense() -> None:
    with pytest.raises(DcomError, match=r"'clock\.hz' must be a positive integer, not -5"):
        parse_container(forge(note=broken_machine), "prog.bin")


def edited(name: str, edit: Callable[[Any], Any]) -> bytes:
    """The example's file with the JSON of a section edited."""
    value = edit(json.loads(content(name)))
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return forge({name: text.encode()})


def at(*path: int | str, to: Any) -> Callable[[Any], Any]:
    """An edit that sets what lies at a path."""

    def edit(value: Any) -> Any:
        inner = value
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to
        return value

    return edit


def two_rows_of_clusters(**strides: int) -> Callable[[Any], Any]:
    """A layout for more rows than one cluster holds, with room for all, and these strides."""
    offsets = {"a_offset": 0, "start_offset": 400, "u_offset": 600, "v_offset": 800, "alpha_offset": 900}
    layout = {**offsets, "rows": 12, "a_stride": 128, "u_stride": 64, "bank_bytes": 1024, **strides}

    def edit(value: Any) -> Any:
        value[0]["layout"].update(layout)
        return value

    return edit


HALF = {"row": 0, "col": 0, "rows": 8, "cols": 16, "entry": 0}


def narrow_streams(value: Any) -> Any:
    """A stream has too few clusters for the layout."""
    value[0]["streams"] = [HALF, {**HALF, "row": 8, "rows": 1, "cols": 1}]
    return value


def full_banks(value: Any) -> Any:
    """The banks have room for the data of one stream, and not of two."""
    value[0]["streams"] = [HALF, {**HALF, "row": 8}]
    value[0]["layout"]["bank_bytes"] = (5 << 30) // 2 + 2
    return value


K, L, S = ".dcom.kernels", ".dcom.launch", ".dcom.srcmap"


@pytest.mark.parametrize(
    ("section", "edit", "message"),
    [
        (K, lambda value: {}, "section .dcom.kernels has {} for a list"),
        (K, lambda value: value[:1], "section .dcom.kernels is for 10 instructions of 20"),
        (K, lambda value: value + value, "has a number out of range, 10"),
        (K, at(0, to=7), "section .dcom.kernels has 7 for an object"),
        (K, at(0, "words", to=-1), "has a number out of range, -1"),
        (K, at(0, "words", to=2**70), "has a number out of range"),
        (K, at(0, "words", to=True), "has True for a int"),
        (K, at(0, "more", to=1), "has an object with keys"),
        (K, at(0, "name", to="other"), "the name 'other' is empty or given twice"),
        (K, at(0, "name", to=""), "the name '' is empty or given twice"),
        (K, at(0, "seed", to=-1), "kernel lanczos_4x12: seed -1 is out of range"),
        (K, at(0, "seed", to=1.5), "has 1.5 for a int"),
        (K, at(0, "labels", 0, to=[4]), "has a damaged label"),
        (K, at(0, "labels", to=[[1, "a"], [1, "b"]]), "has two labels at instruction 1"),
        (K, at(0, "labels", to=[[[], "a"]]), "has [] for a int"),
        (K, at(0, "labels", to=[[1, "a"], [2, "a"]]), "kernel lanczos_4x12: a label stands twice"),
        (K, at(0, "labels", to=[[11, "a"]]), "label 'a' at instruction 11 is none"),
        (K, at(0, "labels", to=[[1, "a b"]]), "label 'a b' at instruction 1 is none"),
        (K, at(0, "labels", to=[["1", "a"]]), "has '1' for a int"),
        (K, at(0, "layout", to={}), "has an object with keys"),
        (K, at(0, "layout", "rows", to=0), "layout: a size is zero"),
        (K, at(0, "layout", "rows", to=-4), "layout: rows = -4 is out of range"),
        (K, at(0, "layout", "rows", to=2**63), "layout: rows = 9223372036854775808 is out of range"),
        (K, at(0, "layout", "iterations", to=5), "layout: 5 iterations of a 4 x 12 matrix"),
        (K, at(0, "layout", "slice_cols", to=12), "slices of 8 x 12 are not whole tiles"),
        (K, at(0, "layout", "cols", to=129), "1 x 17 slices on 16 x 16 clusters"),
        (K, at(0, "layout", "bank_bytes", to=2**40), "1099511627776 bytes in a bank of 5368709120"),
        (K, at(0, "layout", "a_offset", to=200), "layout: a ends at byte 328 of 280"),
        (K, at(0, "layout", "start_offset", to=266), "layout: start ends at byte 282 of 280"),
        (K, at(0, "layout", "u_offset", to=240), "layout: u ends at byte "),
        (K, at(0, "layout", "v_offset", to=233), "layout: v ends at byte 281 of 280"),
        (K, at(0, "layout", "alpha_offset", to=257), "layout: alpha ends at byte 281 of 280"),
        (K, at(0, "layout", "start_offset", to=126), "layout: start begins at byte 126, before a ends at byte 128"),
        (K, at(0, "layout", "v_offset", to=160), "layout: v begins at byte 160, before u ends at byte "),
        (K, two_rows_of_clusters(a_stride=126), "a_stride = 126 is shorter than the 128 bytes that it steps over"),
        (K, two_rows_of_clusters(u_stride=46), "u_stride = 46 is shorter than the "),
        (K, at(0, "streams", to=None), "has None for a list"),
        (K, at(0, "streams", to=[7]), "section .dcom.kernels has 7 for an object"),
        (K, at(0, "streams", to=[{"row": 0}]), "has an object with keys row for col, cols, entry, row, rows"),
        (K, at(0, "streams", to=[{**HALF, "rows": 1.5}]), "has 1.5 for a int"),
        (K, at(0, "streams", to=[HALF]), "one stream alone has all clusters and is not listed"),
        (K, at(0, "streams", to=[HALF, HALF]), "stream 1: the cluster at row 0, column 0 is of stream 0, too"),
        (
            K,
            at(0, "streams", to=[HALF, {**HALF, "row": 9}]),
            "stream 1: 8 x 16 clusters from row 9, column 0 are not on",
        ),
        (K, at(0, "streams", to=[HALF, {**HALF, "row": -1}]), "are not on the grid of 16 x 16"),
        (K, at(0, "streams", to=[{**HALF, "rows": 0}, HALF]), "stream 0: 0 x 16 clusters from row 0, column 0 are not"),
        (K, at(0, "streams", to=[{**HALF, "cols": 2**80}, HALF]), "are not on the grid of 16 x 16"),
        (K, at(0, "streams", to=[HALF, {**HALF, "row": 8, "entry": 10}]), "stream 1: begins at instruction 10 of 10"),
        (K, narrow_streams, "kernel lanczos_4x12: layout: 1 x 2 slices on 1 x 1 clusters"),
        (K, full_banks, "layout: 2684354562 bytes for each of 2 streams in a bank of 5368709120"),
        (L, lambda value: [], "section .dcom.launch has [] for an object"),
        (L, at("launches", 0, "kernel", to="none"), "launch layer1.qkv: there is no kernel 'none'"),
        (L, at("launches", 0, "layer", to=-1), "launch layer-1.qkv: layer -1, site 'qkv' is no place in a model"),
        (L, at("launches", 0, "site", to="q k"), "site 'q k' is no place in a model"),
        (L, at("launches", 0, "prompts", to=0), "launch layer1.qkv: 0 prompts, not between 1 and 16777216"),
        (L, at("launches", 0, "prompts", to=10**12), "launch layer1.qkv: 1000000000000 prompts, not between 1 and"),
        (L, at("launches", 0, "rank", to=0), "rank 0 is not between 1 and the 3 iterations"),
        (L, at("launches", 0, "rank", to=4), "rank 4 is not between 1 and the 3 iterations"),
        (L, at("launches", 0, "rank", to="3"), "has '3' for a int"),
        (L, at("launches", 0, "location", to=None), "has None for a str"),
        (L, lambda v: {**v, "launches": v["launches"] * 2}, "launch layer1.qkv: stands twice"),
        (L, at("launches", 0, "prompts", to=1), "float16 of shape (8, 12), but its launch takes float16 of (4, 12)"),
        (L, at("activations", 0, "key", to="layer9.o"), "activation layer9.o: there is no such launch"),
        (L, at("activations", 0, "rows", to=7), "section .rodata has 192 bytes for activations of 168"),
        (L, at("activations", 0, "rows", to=9), "has a damaged entry for activation layer1.qkv"),
        (L, at("activations", 0, "rows", to=0), "has a damaged entry for activation layer1.qkv"),
        (L, at("activations", 0, "cols", to=2**62), "has a damaged entry for activation layer1.qkv"),
        (L, at("activations", to=[]), "section .rodata has 192 bytes for activations of 0"),
        (S, at("index", to=[0]), "section .dcom.srcmap is for 1 instructions of 20"),
        (S, at("index", 3, to=99), "section .dcom.srcmap has a number out of range, 99"),
        (S, at("index", 3, to=-1), "section .dcom.srcmap has a number out of range, -1"),
        (S, at("strings", 0, to=5), "section .dcom.srcmap has 5 for a str"),
        (".dcom.options", lambda value: [1], "section .dcom.options has [1] for the options"),
    ],
)
def test_contents_that_make_no_sense(section: str, edit: Callable[[Any], Any], message: str) -> None:
    assert message in refusal(edited(section, edit))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff",
        b'{"a": 1}',
        b'{"b":1,"a":1}',
        b'{"a":1,"a":1}',
        b'{"a":NaN}',
        b'{"a":"\\ud800"}',
        b"[" * 100_000,
        b'{"a":' + b"1" * 5000 + b"}",
    ],
)
def test_json_of_another_form(text: bytes) -> None:
    assert refusal(forge({".dcom.options": text})) == (
        "section .dcom.options does not hold JSON as dcomc writes it; compile it again"
    )


def test_host_that_is_no_text() -> None:
    assert refusal(forge({".dcom.host": b"\xff"})) == "section .dcom.host is no text; compile it again"


def test_code_that_is_none() -> None:
    code = content(".text")
    assert "section .text is no code: code of 319 bytes" in refusal(forge({".text": code[:-1]}))
    assert "section .text is no code: instruction 2: unknown opcode 0xee" in refusal(
        forge({".text": code[:32] + b"\xee" + code[33:]})
    )
    assert "section .text is no code: instruction 9: reserved bits of halt are set" in refusal(
        forge({".text": code[:159] + b"\x01" + code[160:]})
    )


@pytest.mark.parametrize("target", [0, 4, 11, 2**24 - 1])
def test_a_branch_leads_forward_within_its_kernel(target: int) -> None:
    code = content(".text")
    word = encode_word(Word.of("loop", count=3, end=target))
    assert f"kernel lanczos_4x12: instruction 4, loop: end {target} is no later place in the kernel" in refusal(
        forge({".text": code[:64] + word + code[80:]})
    )


def test_a_kernel_has_instructions() -> None:
    def empty(kernels: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [*kernels, {**kernels[0], "name": "empty", "words": 0, "labels": []}]

    assert "kernel empty: has no instructions" in refusal(edited(".dcom.kernels", empty))


@given(st.sampled_from(CONTENT), st.binary(max_size=64), st.integers(0, 400))
def test_random_contents_with_right_checksums(name: str, patch: bytes, offset: int) -> None:
    """Whatever is in a section, reading gives a program or one error."""
    data = content(name)
    offset %= len(data) + 1
    try:
        parse_container(forge({name: data[:offset] + patch + data[offset + len(patch) :]}), "prog.bin")
    except DcomError as error:
        assert "\n" not in str(error)


@given(st.integers(0, 63), st.integers(0, 255), st.integers(0, 639), st.integers(0, 255))
@example(4, 2, 68, 0)  # the note's section type, from SHT_NOTE to SHT_NULL
def test_random_headers_with_a_right_checksum(first: int, one: int, second: int, other: int) -> None:
    table = struct.unpack_from("<Q", DATA, 40)[0]
    data = bytearray(DATA)
    data[first] = one
    data[table + second] = other
    if bytes(data) != DATA:
        refusal(sign(bytes(data)))
