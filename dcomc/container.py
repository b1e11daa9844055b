"""prog.bin: a program as an ELF file in which every byte is checked.

    .note.dcom     format version, SHA-256 of the whole file, machine, SHA-256 of each section
    .text          the instruction words of all kernels, one kernel after another
    .rodata        stored activations, binary16
    .dcom.kernels  JSON: name, number of words, labels, layout, seed and streams of each kernel
    .dcom.launch   JSON: the launches, and the shapes of the stored activations
    .dcom.srcmap   JSON: for each instruction of .text where it comes from
    .dcom.options  JSON: what the compiler was asked for
    .dcom.host     the host's part of the model, MLIR text

The same program gives the same bytes. Reading checks form, checksums and meaning; what fails is one `DcomError`.
"""

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from dcomc import elf
from dcomc.diagnostics import DcomError
from dcomc.program import Program, factors_file
from dcomc.program_check import LIMIT, ProgramError, check_program
from runtime.encoding import WORD_BYTES, DecodeError, decode, encode
from runtime.machine import Machine, machine_from_values
from runtime.program import Kernel, KernelLayout, KernelStream, Launch

FORMAT_VERSION = 3
OWNER, NOTE_KIND = "dcom", 0xDC01

NOTE, TEXT, RODATA = ".note.dcom", ".text", ".rodata"
KERNELS, LAUNCH, SRCMAP, OPTIONS, HOST = ".dcom.kernels", ".dcom.launch", ".dcom.srcmap", ".dcom.options", ".dcom.host"
CONTENT = (TEXT, RODATA, KERNELS, LAUNCH, SRCMAP, OPTIONS, HOST)

_PREFIX = struct.Struct("<I32s")  # format version, SHA-256 of the file with these 32 bytes zero
_DIGEST_OFFSET = elf.FIRST_OFFSET + elf.note_description_offset(OWNER) + 4
_AGAIN = "compile it again"


class SectionError(ValueError):
    """What is wrong with a section."""

    def __init__(self, section: str, what: str) -> None:
        super().__init__(f"section {section} {what}")


@dataclass(frozen=True)
class SectionSummary:
    """A section for people."""

    name: str
    bytes: int
    sha256: str
    what: str


@dataclass(frozen=True)
class Container:
    """A program with how it is stored."""

    program: Program
    version: int
    bytes: int
    sections: tuple[SectionSummary, ...]


_WHAT = {
    NOTE: "format version, machine, checksums",
    TEXT: "instruction words",
    RODATA: "stored activations",
    KERNELS: "labels, layout, seed and streams of each kernel",
    LAUNCH: "launches",
    SRCMAP: "where each instruction comes from",
    OPTIONS: "what the compiler was asked for",
    HOST: "the host's part of the model, MLIR",
}


def program_bytes(program: Program) -> bytes:
    """The file of a program.

    Raises:
        ProgramError: the program does not hold together, so that reading would refuse it.
    """
    check_program(program)
    strings: dict[str, int] = {}
    index = [strings.setdefault(text, len(strings)) for kernel in program.kernels for text in kernel.locations]
    stored = sorted(program.activations.items())
    contents = {
        TEXT: b"".join(encode(kernel.words) for kernel in program.kernels),
        RODATA: b"".join(values.astype("<f2").tobytes() for _, values in stored),
        KERNELS: _dump(
            [
                {
                    "name": kernel.name,
                    "words": len(kernel.words),
                    "labels": [list(item) for item in sorted(kernel.labels.items())],
                    "layout": asdict(kernel.layout),
                    "seed": kernel.seed,
                    "streams": [asdict(stream) for stream in kernel.streams],
                }
                for kernel in program.kernels
            ]
        ),
        LAUNCH: _dump(
            {
                "launches": [asdict(launch) for launch in program.launches],
                "activations": [
                    {"key": key, "rows": values.shape[0], "cols": values.shape[1]} for key, values in stored
                ],
            }
        ),
        SRCMAP: _dump({"strings": list(strings), "index": index}),
        OPTIONS: _dump(program.options),
        HOST: program.host.encode(),
    }
    return seal(contents, {"machine": json.loads(program.machine.to_json()), "machine_hash": program.machine.hash})


def seal(contents: Mapping[str, bytes], note: Mapping[str, Any], version: int = FORMAT_VERSION) -> bytes:
    """The file of some sections, with the checksums that they need; nothing is looked at.

    Args:
        contents: of the sections by name, in the order of `CONTENT`.
        note: what the note says beside the version and the checksums.
    """
    sums = {name: _sha256(data) for name, data in contents.items()}
    description = _PREFIX.pack(version, bytes(32)) + _dump({**note, "sections": sums})
    sections = {NOTE: elf.write_note(OWNER, NOTE_KIND, description), **contents}
    data = elf.write_elf([_section(name, data) for name, data in sections.items()])
    return data[:_DIGEST_OFFSET] + _file_digest(data) + data[_DIGEST_OFFSET + 32 :]


def _section(name: str, data: bytes) -> elf.Section:
    """The section of that name as a program has it."""
    if name == NOTE:
        return elf.Section(NOTE, data, elf.SHT_NOTE, align=4)
    flags = {TEXT: elf.SHF_ALLOC | elf.SHF_EXECINSTR, RODATA: elf.SHF_ALLOC}.get(name, 0)
    return elf.Section(name, data, flags=flags, align=WORD_BYTES)


def read_program(path: str | Path) -> Program:
    """The program in a file.

    Raises:
        DcomError: the file cannot be read, is no program, or is damaged, incomplete, or of a newer format.
    """
    return replace(read_container(path).program, factors=factors_file(Path(path)))


def read_container(path: str | Path) -> Container:
    """The program in a file, with how it is stored; raises `DcomError` as `read_program`."""
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DcomError(f"cannot read {path}: {reason}", hint="give a file made by `dcomc compile`") from error
    return parse_container(data, str(path))


def parse_container(data: bytes, place: str) -> Container:
    """The program in the bytes of a file; `place` names it in errors, which are all `DcomError`."""
    try:
        sections = elf.read_elf(data)
    except elf.ForeignError as error:
        raise DcomError(
            f"no program: the file {error}", hint="give a file made by `dcomc compile`", place=place
        ) from error
    except elf.ElfError as error:
        raise DcomError(f"the file {error}", hint=_AGAIN, place=place) from error
    try:
        version, note = _check_sums(sections, data)
        for section in sections:
            if section != _section(section.name, section.data):
                raise SectionError(section.name, "has an ELF type, flags or alignment of another kind of section")
        contents = {section.name: section.data for section in sections}
        program = Program(
            machine=_machine(note, place),
            **_kernels_and_launches(contents),
            host=_utf8(contents, HOST),
            options=_object(_load(contents, OPTIONS), OPTIONS, "the options"),
        )
        check_program(program)
    except SectionError as error:
        raise DcomError(str(error), hint=_AGAIN, place=place) from error
    except ProgramError as error:
        raise DcomError(f"the program is inconsistent: {error.what}", hint=_AGAIN, place=place) from error
    summaries = (SectionSummary(s.name, len(s.data), _sha256(s.data), _WHAT[s.name]) for s in sections)
    return Container(program, version, len(data), tuple(summaries))


def check_machine(program: Program, machine: Machine) -> None:
    """Raise `DcomError` unless `program` is for `machine`: same values, whatever the name."""
    own = program.machine
    if own.hash != machine.hash:
        raise DcomError(
            f"the program is for machine {own.name} ({own.hash}), not {machine.name} ({machine.hash})",
            hint="compile it for that machine, or leave out --machine",
        )


def _check_sums(sections: Sequence[elf.Section], data: bytes) -> tuple[int, dict[str, Any]]:
    """The format version and what the note says, once every checksum holds."""
    if not sections or sections[0].name != NOTE:
        raise SectionError(NOTE, "is missing")
    try:
        description = elf.read_note(sections[0].data, OWNER, NOTE_KIND)
    except elf.ElfError as error:
        raise SectionError(NOTE, "is damaged") from error
    if len(description) < _PREFIX.size:
        raise SectionError(NOTE, "is damaged")
    version, digest = _PREFIX.unpack_from(description)
    if version > FORMAT_VERSION:
        raise SectionError(NOTE, f"says format {version}, newer than {FORMAT_VERSION}, which this dcomc reads")
    if version < FORMAT_VERSION:
        raise SectionError(NOTE, f"says format {version}, which this dcomc does not read")
    whole = digest == _file_digest(data)
    note = _keys(_load({NOTE: description[_PREFIX.size :]}, NOTE), NOTE, machine=dict, machine_hash=str, sections=dict)
    names = [section.name for section in sections[1:]]
    sums = cast(dict[str, Any], note["sections"])
    if names != list(CONTENT) or sorted(sums) != sorted(CONTENT):
        raise SectionError(NOTE, "does not list the sections that the file has")
    for section in sections[1:]:
        if sums[section.name] != _sha256(section.data):
            raise SectionError(section.name, "is damaged (checksum does not match)")
    if not whole:
        raise SectionError(NOTE, "is damaged (checksum of the file does not match)")
    return version, note


def _machine(note: dict[str, Any], place: str) -> Machine:
    machine = machine_from_values(note["machine"], f"{place}: section {NOTE}")
    if machine.hash != note["machine_hash"]:
        raise SectionError(
            NOTE, f"says {note['machine_hash']} for machine {machine.name}, but its values have the hash {machine.hash}"
        )
    return machine


def _kernels_and_launches(contents: dict[str, bytes]) -> dict[str, Any]:
    """`kernels`, `launches` and `activations` of the program."""
    try:
        words = decode(contents[TEXT])
    except DecodeError as error:
        raise SectionError(TEXT, f"is no code: {error}") from error
    srcmap = _keys(_load(contents, SRCMAP), SRCMAP, strings=list, index=list)
    strings = [_typed(text, SRCMAP, str) for text in srcmap["strings"]]
    index = [_number(entry, SRCMAP, len(strings)) for entry in srcmap["index"]]
    if len(index) != len(words):
        raise SectionError(SRCMAP, f"is for {len(index)} instructions of {len(words)}")
    kernels: list[Kernel] = []
    start = 0
    for entry in _typed(_load(contents, KERNELS), KERNELS, list):
        values = _keys(entry, KERNELS, name=str, words=int, labels=list, layout=dict, seed=int | None, streams=list)
        end = start + _number(values["words"], KERNELS, len(words) - start + 1)
        kernels.append(
            Kernel(
                name=values["name"],
                words=tuple(words[start:end]),
                labels=_labels(values["labels"]),
                locations=tuple(strings[entry] for entry in index[start:end]),
                layout=KernelLayout(**_integers(values["layout"], KernelLayout)),
                seed=values["seed"],
                streams=tuple(KernelStream(**_integers(entry, KernelStream)) for entry in values["streams"]),
            )
        )
        start = end
    if start != len(words):
        raise SectionError(KERNELS, f"is for {start} instructions of {len(words)}")
    table = _keys(_load(contents, LAUNCH), LAUNCH, launches=list, activations=list)
    types = {"kernel": str, "layer": int, "site": str, "prompts": int, "rank": int, "location": str}
    return {
        "kernels": tuple(kernels),
        "launches": tuple(Launch(**_keys(entry, LAUNCH, **types)) for entry in table["launches"]),
        "activations": _activations(table["activations"], contents[RODATA]),
    }


def _integers(value: Any, kind: type[KernelLayout] | type[KernelStream]) -> dict[str, int]:
    """The fields of a layout or a stream, which are integers all."""
    return _keys(value, KERNELS, **{field.name: int for field in fields(kind)})


def _labels(entries: list[Any]) -> dict[int, str]:
    labels: dict[int, str] = {}
    for entry in entries:
        pair = _typed(entry, KERNELS, list)
        if len(pair) != 2:
            raise SectionError(KERNELS, "has a damaged label")
        place, label = _typed(pair[0], KERNELS, int), _typed(pair[1], KERNELS, str)
        if place in labels:
            raise SectionError(KERNELS, f"has two labels at instruction {place}")
        labels[place] = label
    return labels


def _activations(entries: list[Any], data: bytes) -> dict[str, NDArray[np.float16]]:
    stored: dict[str, NDArray[np.float16]] = {}
    start = 0
    for entry in entries:
        values = _keys(entry, LAUNCH, key=str, rows=int, cols=int)
        rows, cols = _number(values["rows"], LAUNCH, LIMIT), _number(values["cols"], LAUNCH, LIMIT)
        end = start + 2 * rows * cols
        if not start < end <= len(data) or values["key"] in stored:
            raise SectionError(LAUNCH, f"has a damaged entry for activation {values['key']}")
        stored[values["key"]] = np.frombuffer(data[start:end], "<f2").reshape(rows, cols)
        start = end
    if start != len(data):
        raise SectionError(RODATA, f"has {len(data)} bytes for activations of {start}")
    return stored


def _dump(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _load(contents: dict[str, bytes], section: str) -> Any:
    """The JSON of a section, which must be as `_dump` writes it."""
    try:
        value = json.loads(contents[section])
        if _dump(value) != contents[section]:
            raise ValueError("other bytes for the same values")
    except (ValueError, RecursionError) as error:
        raise SectionError(section, "does not hold JSON as dcomc writes it") from error
    return value


def _utf8(contents: dict[str, bytes], section: str) -> str:
    try:
        return contents[section].decode()
    except UnicodeDecodeError as error:
        raise SectionError(section, "is no text") from error


def _typed(value: Any, section: str, kind: type | UnionType) -> Any:
    if type(value) not in (get_args(kind) or (kind,)):
        raise SectionError(section, f"has {value!r:.40} for a {getattr(kind, '__name__', kind)}")
    return value


def _number(value: Any, section: str, limit: int) -> int:
    if not 0 <= _typed(value, section, int) < limit:
        raise SectionError(section, f"has a number out of range, {value}")
    return value


def _object(value: Any, section: str, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SectionError(section, f"has {value!r:.40} for {what}")
    return cast(dict[str, Any], value)


def _keys(value: Any, section: str, **kinds: type | UnionType) -> dict[str, Any]:
    """An object of exactly these keys and types."""
    entries = _object(value, section, "an object")
    if sorted(entries) != sorted(kinds):
        raise SectionError(section, f"has an object with keys {', '.join(entries)} for {', '.join(sorted(kinds))}")
    for key, kind in kinds.items():
        _typed(entries[key], section, kind)
    return entries


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _file_digest(data: bytes) -> bytes:
    return hashlib.sha256(data[:_DIGEST_OFFSET] + bytes(32) + data[_DIGEST_OFFSET + 32 :]).digest()
