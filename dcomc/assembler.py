"""A program from its assembly text, which holds every bit of it; `dcomc.disassembler` writes such text.

.machine name=dcom-16x16            ; values follow as .machine.grid rows=16 cols=16 …; or: .machine dcom-16x16
.options {"rank": 10}
.kernel lanczos
.layout rows=64 cols=64 …
.seed 0                             ; or: .start mean
.stream row=0 col=0 rows=8 cols=16 entry=begin    ; a line for each of several streams, by label or index
.loc "model.layers.10 (modeling_llama.py:182)"
    li r2, 15
    loop r2, done
    mv.row [r0+0x100], [r3+0x0], [r2+0x40], 4, r7, 1
done:
    halt
.launch kernel=lanczos layer=10 site=qkv prompts=1 rank=10 location="…"
.activation layer10.qkv rows=64 cols=64
| base64 of the binary16 values
.host
| module { … }
"""

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dcomc.diagnostics import DcomError, did_you_mean
from dcomc.program import Program
from dcomc.program_check import ProgramError, check_program
from runtime.encoding import Word
from runtime.instructions import BY_MNEMONIC, Instruction
from runtime.machine import Machine, load_machine, machine_from_values
from runtime.operands import LABEL, TARGET
from runtime.program import Kernel, KernelLayout, KernelStream, Launch

_LAUNCH_KEYS = {entry.name: entry.type for entry in fields(Launch)}
_LAYOUT_KEYS = [entry.name for entry in fields(KernelLayout)]
BARE = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
"""A name that stands without quotes."""

_STRING = r'"(?:[^"\\]|\\.)*"'
_COMMENT = re.compile(rf"({_STRING})|;.*")
_PAIR = re.compile(rf"(\w+)=({_STRING}|[^\s\"]+)(?:\s+|$)")
_LABEL_LINE = re.compile(rf"({LABEL.pattern}):\s*", re.ASCII)


def assemble(text: str, name: str) -> Program:
    """The program of a text.

    Args:
        name: what to call the text in errors, commonly its file. An instruction without `.loc` comes from its line.

    Raises:
        DcomError: the text is no program; the place is `name:line`.
    """
    return _Assembler(name).assemble(text)


@dataclass
class _Instruction:
    """An instruction whose branch targets may not be known yet."""

    line: int
    row: Instruction
    operands: Sequence[int | str]
    location: str


@dataclass
class _Kernel:
    """A kernel while it is read."""

    name: str
    line: int
    instructions: list[_Instruction] = field(default_factory=list[_Instruction])
    indices: dict[str, int] = field(default_factory=dict[str, int])
    location: str | None = None
    layout: KernelLayout | None = None
    seed: int | None = 0
    streams: list[tuple[int, dict[str, int | str]]] = field(default_factory=list[tuple[int, dict[str, int | str]]])
    """Line and values of each."""


class _Assembler:
    def __init__(self, name: str) -> None:
        self._name = name
        self._line = 0
        self._machine: Machine | None = None
        self._machine_line = 0
        self._machine_values: dict[str, Any] = {}
        self._options: dict[str, Any] = {}
        self._kernels: list[_Kernel] = []
        self._launches: list[Launch] = []
        self._activations: dict[str, tuple[int, int, int, list[str]]] = {}
        self._host: list[str] | None = None
        self._block: list[str] | None = None
        self._lines: dict[str, int] = {}  # of what a ProgramError can name
        self._directives: dict[str, Callable[[str], None]] = {
            ".machine": self._read_machine,
            ".options": self._read_options,
            ".kernel": self._read_kernel,
            ".layout": self._read_layout,
            ".seed": self._read_seed,
            ".start": self._read_start,
            ".stream": self._read_stream,
            ".loc": self._read_location,
            ".launch": self._read_launch,
            ".activation": self._read_activation,
            ".host": self._read_host,
        }

    def assemble(self, text: str) -> Program:
        for self._line, line in enumerate(text.split("\n"), 1):
            if line.startswith("|"):
                self._read_block_line(line)
            else:
                self._read_line(line)
        if self._machine is None and not self._machine_values:
            raise DcomError("no .machine", hint="begin with .machine and the name of one", place=self._name)
        machine = self._machine or machine_from_values(self._machine_values, f"{self._name}:{self._machine_line}")
        program = Program(
            machine=machine,
            kernels=tuple(self._finish(kernel) for kernel in self._kernels),
            launches=tuple(self._launches),
            host="\n".join(self._host or []),
            options=self._options,
            activations={key: self._values(*entry) for key, entry in sorted(self._activations.items())},
        )
        try:
            check_program(program)
        except ProgramError as error:
            raise self._error(error.what, line=self._lines.get(error.part, 1)) from error
        return program

    def _here(self) -> str:
        """The line as a source location, the same wherever the file lies."""
        return f"{Path(self._name).name}:{self._line}"

    def _error(self, what: str, hint: str | None = None, line: int | None = None) -> DcomError:
        return DcomError(what, hint=hint, place=f"{self._name}:{line or self._line}")

    def _read_block_line(self, line: str) -> None:
        if self._block is None:
            raise self._error("a line of data outside .host and .activation")
        self._block.append(line[1:].removeprefix(" "))

    def _read_line(self, line: str) -> None:
        code = _COMMENT.sub(lambda match: match[1] or "", line).strip()
        while label := _LABEL_LINE.match(code):
            self._read_label(label[1])
            code = code[label.end() :]
        if not code:
            return
        self._block = None
        word, rest = [*code.split(None, 1), ""][:2]
        if not word.startswith("."):
            self._read_instruction(word, rest)
        elif word.startswith(".machine."):
            self._read_machine_table(word.removeprefix(".machine."), rest)
        elif word in self._directives:
            self._directives[word](rest)
        else:
            raise self._error(f"unknown directive '{word}'", did_you_mean(word, self._directives))

    # Values

    def _read_pairs(self, text: str) -> dict[str, int | str]:
        values: dict[str, int | str] = {}
        position = 0
        while position < len(text):
            match = _PAIR.match(text, position)
            if match is None:
                raise self._error(f"expected key=value at '{text[position:]:.20}'")
            key, value = match[1], match[2]
            if key in values:
                raise self._error(f"'{key}' is given twice")
            values[key] = int(value) if re.fullmatch(r"-?[0-9]{1,19}", value) else self._text(value)
            position = match.end()
        return values

    def _text(self, text: str) -> str:
        if not text.startswith('"'):
            return text
        try:
            value = json.loads(text)
        except ValueError as error:
            raise self._error(f"{text:.40} is no string: {error}") from error
        if not _encodable(value):
            raise self._error(f"{text:.40} is no string of Unicode characters")
        return value

    def _check_keys(self, values: Mapping[str, int | str], types: Mapping[str, type], what: str) -> None:
        for key, value in values.items():
            if key not in types:
                raise self._error(f"unknown key '{key}' of {what}", did_you_mean(key, types))
            if type(value) is not types[key]:
                raise self._error(f"'{key}' of {what} must be {'a number' if types[key] is int else 'a name'}")
        missing = [key for key in types if key not in values]
        if missing:
            raise self._error(f"{what} lacks '{missing[0]}'", f"it takes {', '.join(types)}")

    def _current(self, what: str) -> _Kernel:
        if not self._kernels:
            raise self._error(f"{what} before the first .kernel")
        return self._kernels[-1]

    # Directives

    def _read_machine(self, rest: str) -> None:
        if self._machine is not None or self._machine_values:
            raise self._error("a second .machine")
        self._machine_line = self._line
        if "=" in rest:
            self._machine_values = dict(self._read_pairs(rest))
        else:
            try:
                self._machine = load_machine(self._text(rest))
            except DcomError as error:
                what = f"{error.place}: {error.what}" if error.place else error.what
                raise self._error(what, error.hint) from error

    def _read_machine_table(self, table: str, rest: str) -> None:
        if not self._machine_values or table in self._machine_values:
            raise self._error(f".machine.{table} must come once, after .machine name=…")
        self._machine_values[table] = self._read_pairs(rest)

    def _read_options(self, rest: str) -> None:
        try:
            value = json.loads(rest)
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError) as error:
            raise self._error(f".options takes a JSON object: {error}") from error
        if not isinstance(value, dict):
            raise self._error(".options takes a JSON object")
        self._options = cast(dict[str, Any], value)

    def _read_kernel(self, rest: str) -> None:
        if not BARE.fullmatch(rest) and not re.fullmatch(_STRING, rest):
            raise self._error(".kernel takes a name")
        name = self._text(rest)
        self._kernels.append(_Kernel(name, self._line))
        self._lines.setdefault(f"kernel {name}", self._line)
        self._lines["kernels"] = self._line

    def _read_layout(self, rest: str) -> None:
        kernel = self._current(".layout")
        values = self._read_pairs(rest)
        self._check_keys(values, dict.fromkeys(_LAYOUT_KEYS, int), ".layout")
        kernel.layout = KernelLayout(**cast(dict[str, int], values))

    def _read_seed(self, rest: str) -> None:
        if not re.fullmatch(r"[0-9]{1,19}", rest):
            raise self._error(".seed takes a number")
        self._current(".seed").seed = int(rest)

    def _read_start(self, rest: str) -> None:
        if rest != "mean":
            raise self._error(".start takes the word mean")
        self._current(".start").seed = None

    def _read_stream(self, rest: str) -> None:
        kernel, values = self._current(".stream"), self._read_pairs(rest)
        types = {entry.name: int for entry in fields(KernelStream)}
        self._check_keys(values, {**types, "entry": type(values.get("entry"))}, ".stream")
        kernel.streams.append((self._line, values))

    def _read_location(self, rest: str) -> None:
        if not rest.startswith('"'):
            raise self._error(".loc takes a string")
        self._current(".loc").location = self._text(rest)

    def _read_launch(self, rest: str) -> None:
        values = self._read_pairs(rest)
        values.setdefault("location", self._here())
        self._check_keys(values, cast(dict[str, type], _LAUNCH_KEYS), ".launch")
        launch = Launch(**cast(dict[str, Any], values))
        self._launches.append(launch)
        self._lines[f"launch {launch.key}"] = self._line

    def _read_activation(self, rest: str) -> None:
        key, pairs = [*rest.split(None, 1), "", ""][:2]
        values = self._read_pairs(pairs)
        self._check_keys(values, {"rows": int, "cols": int}, ".activation")
        if key in self._activations:
            raise self._error(f"a second .activation {key}")
        self._block = []
        self._activations[key] = (self._line, cast(int, values["rows"]), cast(int, values["cols"]), self._block)
        self._lines[f"activation {key}"] = self._line

    def _values(self, line: int, rows: int, cols: int, lines: Sequence[str]) -> NDArray[np.float16]:
        try:
            data = base64.b64decode("".join(line.strip() for line in lines), validate=True)
        except ValueError as error:
            raise self._error(f"the data is no base64: {error}", line=line) from error
        if min(rows, cols) < 1 or len(data) != 2 * rows * cols:
            raise self._error(f"{len(data)} bytes of data for {rows} x {cols} binary16 values", line=line)
        return np.frombuffer(data, "<f2").reshape(rows, cols)

    def _read_host(self, rest: str) -> None:
        if rest or self._host is not None:
            raise self._error(".host stands once and takes nothing but the lines below it")
        self._host = self._block = []

    # Instructions

    def _read_label(self, name: str) -> None:
        kernel = self._current(f"label '{name}'")
        if name in kernel.indices:
            raise self._error(f"label '{name}' stands twice")
        kernel.indices[name] = len(kernel.instructions)

    def _read_instruction(self, mnemonic: str, rest: str) -> None:
        kernel = self._current(f"'{mnemonic}'")
        row = BY_MNEMONIC.get(mnemonic)
        if row is None:
            raise self._error(f"unknown instruction '{mnemonic}'", did_you_mean(mnemonic, BY_MNEMONIC))
        texts = [text.strip() for text in rest.split(",")] if rest else []
        if len(texts) != len(row.operands):
            names = ", ".join(name for name, _ in row.operands) or "none"
            raise self._error(f"{mnemonic} takes {len(row.operands)} operands, not {len(texts)}", f"they are: {names}")
        operands: list[int | str] = []
        for (name, kind), text in zip(row.operands, texts, strict=True):
            if kind is TARGET and LABEL.fullmatch(text):
                operands.append(text)
                continue
            if not text:
                raise self._error(f"{mnemonic}: operand '{name}' is missing")
            try:
                operands.append(kind.parse(text))
            except ValueError as error:
                raise self._error(f"{mnemonic}: operand '{name}': {error}") from error
        location = self._here() if kernel.location is None else kernel.location
        kernel.instructions.append(_Instruction(self._line, row, operands, location))

    def _finish(self, kernel: _Kernel) -> Kernel:
        if kernel.layout is None:
            raise self._error(f"kernel {kernel.name} has no .layout", line=kernel.line)
        words: list[Word] = []
        for index, entry in enumerate(kernel.instructions):
            operands: list[int] = []
            for (name, kind), operand in zip(entry.row.operands, entry.operands, strict=True):
                raw = self._place(operand, kernel, entry.line)
                if kind is TARGET and not index < raw <= len(kernel.instructions):
                    raise self._error(
                        f"{entry.row.mnemonic}: '{operand}' is no later place in the kernel",
                        f"'{name}' leads forward",
                        entry.line,
                    )
                operands.append(raw)
            words.append(Word(entry.row, tuple(operands)))
        labels: dict[int, str] = {}
        for name, index in kernel.indices.items():
            labels.setdefault(index, name)
        locations = tuple(entry.location for entry in kernel.instructions)
        streams = tuple(
            KernelStream(**cast(dict[str, int], {**values, "entry": self._place(values["entry"], kernel, line)}))
            for line, values in kernel.streams
        )
        return Kernel(kernel.name, tuple(words), labels, locations, kernel.layout, kernel.seed, streams)

    def _place(self, place: int | str, kernel: _Kernel, line: int) -> int:
        """The index of an instruction that is given so, or by a label."""
        if isinstance(place, str) and place not in kernel.indices:
            hint = did_you_mean(place, kernel.indices) if kernel.indices else "the kernel has no labels"
            raise self._error(f"unknown label '{place}'", hint, line)
        return kernel.indices[place] if isinstance(place, str) else place


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
