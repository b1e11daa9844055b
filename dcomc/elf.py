"""ELF64 files of sections, in the one layout that dcomc writes: header, sections, their names, section headers.

`readelf -S` and other ELF tools list such a file. Reading is strict: a file that is not, byte for byte, what writing
its sections gives is refused, so that padding and unused fields hold nothing either.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

SHT_PROGBITS, SHT_STRTAB, SHT_NOTE = 1, 3, 7
SHF_ALLOC, SHF_EXECINSTR = 2, 4

MAGIC = b"\x7fELF"
_IDENT = MAGIC + bytes([2, 1, 1]) + bytes(9)  # 64 bits, little-endian, ELF version 1
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
_NOTE = struct.Struct("<III")
_ET_EXEC, _EM_NONE = 2, 0
_NAMES = ".shstrtab"

FIRST_OFFSET = _HEADER.size
"""Where the first section begins in the file, if it is aligned to no more than this."""


class ElfError(ValueError):
    """Bytes that are no such file; the message goes on from the file's name."""


class ForeignError(ElfError):
    """Bytes that never were such a file."""


@dataclass(frozen=True)
class Section:
    """A section; `kind` is its SHT_ and `flags` its SHF_ value."""

    name: str
    data: bytes
    kind: int = SHT_PROGBITS
    flags: int = 0
    align: int = 8


def write_elf(sections: Sequence[Section]) -> bytes:
    """The file of `sections`, in their order, each at a multiple of its `align`, a power of two."""
    offsets: dict[str, int] = {}
    strings = b"\0"
    for name in [*(section.name for section in sections), _NAMES]:
        offsets[name] = len(strings)
        strings += name.encode() + b"\0"
    body = bytearray(FIRST_OFFSET)
    headers = bytes(_SECTION_HEADER.size)
    for section in [*sections, Section(_NAMES, strings, SHT_STRTAB, align=1)]:
        body += bytes(-len(body) % section.align)
        headers += _SECTION_HEADER.pack(
            offsets[section.name],
            section.kind,
            section.flags,
            0,
            len(body),
            len(section.data),
            0,
            0,
            section.align,
            0,
        )
        body += section.data
    body += bytes(-len(body) % 8)
    count = len(sections) + 2
    body[:FIRST_OFFSET] = _HEADER.pack(
        _IDENT,
        _ET_EXEC,
        _EM_NONE,
        1,
        0,
        0,
        len(body),
        0,
        _HEADER.size,
        0,
        0,
        _SECTION_HEADER.size,
        count,
        count - 1,
    )
    return bytes(body) + headers


def read_elf(data: bytes) -> list[Section]:
    """The sections of a file that `write_elf` made.

    Raises:
        ForeignError: it is a file of another kind.
        ElfError: it is damaged, incomplete, or has something after its end.
    """
    if not data.startswith(MAGIC):
        raise ForeignError("is empty" if not data else "is no ELF file")
    if len(data) < _HEADER.size:
        raise ElfError(f"is cut off within its header, after {len(data)} bytes")
    fields = _HEADER.unpack_from(data)
    ident, machine, table, size, count = fields[0], fields[2], fields[6], fields[11], fields[12]
    if ident != _IDENT:
        raise ForeignError("is no 64-bit little-endian ELF file")
    if machine != _EM_NONE:
        raise ForeignError(f"is an ELF file for machine {machine}")
    if size != _SECTION_HEADER.size or count < 2:
        raise ElfError("has a damaged ELF header")
    end = table + size * count
    if end > len(data):
        raise ElfError(f"is cut off: {len(data)} of {end} bytes")
    if end < len(data):
        raise ElfError(f"has {len(data) - end} bytes after its end")
    headers = [_SECTION_HEADER.unpack_from(data, table + size * index) for index in range(count)]
    contents = [data[header[4] : header[4] + header[5]] for header in headers]
    if sum(len(content) for content in contents) > len(data):
        raise ElfError("has damaged ELF section headers")
    strings = contents[-1]
    sections: list[Section] = []
    for header, content in zip(headers[1:-1], contents[1:-1], strict=True):
        name = strings[header[0] :].split(b"\0", 1)[0]
        align = header[8]
        if not name.isascii() or align not in (1, 2, 4, 8, 16, 32, 64):
            raise ElfError("has damaged ELF section headers")
        sections.append(Section(name.decode(), content, header[1], header[2], align))
    if write_elf(sections) != data:
        raise ElfError("has damaged ELF headers")
    return sections


def write_note(owner: str, kind: int, description: bytes) -> bytes:
    """One ELF note, with everything at multiples of 4 bytes."""
    name = owner.encode() + b"\0"
    parts = [name, bytes(-len(name) % 4), description, bytes(-len(description) % 4)]
    return _NOTE.pack(len(name), len(description), kind) + b"".join(parts)


def read_note(data: bytes, owner: str, kind: int) -> bytes:
    """The description of the one note in `data`; raises `ElfError` where it is not exactly that."""
    name = owner.encode() + b"\0"
    start = note_description_offset(owner)
    if len(data) >= start:
        description = data[start : start + _NOTE.unpack_from(data)[1]]
        if write_note(owner, kind, description) == data:
            return description
    raise ElfError(f"has no note of {name[:-1].decode()}")


def note_description_offset(owner: str) -> int:
    """Where in a note of `owner` its description begins."""
    return _NOTE.size + (len(owner) + 1 + 3) // 4 * 4
