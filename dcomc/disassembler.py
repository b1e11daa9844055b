"""The assembly text of a program, from which `dcomc.assembler` makes the same bytes again."""

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dcomc.assembler import BARE
from dcomc.diagnostics import DcomError, did_you_mean
from runtime.encoding import WORD_BYTES, Word, encode_word
from runtime.operands import TARGET
from runtime.program import Kernel, Program

_BASE64_WIDTH = 96


def disassemble(program: Program, *, hex_words: bool = False) -> str:
    """The text from which `assemble` makes the same program; `hex_words` adds place and bits of each instruction."""
    machine = asdict(program.machine)
    lines = [f".machine name={_quote(machine.pop('name'))}"]
    lines += [f".machine.{table} {_pairs(values)}" for table, values in machine.items()]
    lines.append(f".options {json.dumps(program.options, sort_keys=True, ensure_ascii=False)}")
    start = 0
    for kernel in program.kernels:
        lines += ["", *_kernel_lines(kernel, start, hex_words)]
        start += len(kernel.words) * WORD_BYTES
    lines.append("")
    lines += [f".launch {_pairs(asdict(launch))}" for launch in program.launches]
    for key, values in sorted(program.activations.items()):
        lines.append(f".activation {key} rows={values.shape[0]} cols={values.shape[1]}")
        text = base64.b64encode(values.astype("<f2").tobytes()).decode()
        lines += [f"| {text[i : i + _BASE64_WIDTH]}" for i in range(0, len(text), _BASE64_WIDTH)]
    if program.host:
        lines += [".host", *(f"| {line}" if line else "|" for line in program.host.split("\n"))]
    return "\n".join(lines) + "\n"


def disassemble_kernel(program: Program, name: str, *, hex_words: bool = False) -> str:
    """The text of one kernel; raises `DcomError` where there is none of that name."""
    start = 0
    for kernel in program.kernels:
        if kernel.name == name:
            return "\n".join(_kernel_lines(kernel, start, hex_words)) + "\n"
        start += len(kernel.words) * WORD_BYTES
    raise DcomError(f"no kernel '{name}'", hint=did_you_mean(name, (kernel.name for kernel in program.kernels)))


def _kernel_lines(kernel: Kernel, start: int, hex_words: bool) -> list[str]:
    first = ".start mean" if kernel.seed is None else f".seed {kernel.seed}"
    lines = [f".kernel {_quote(kernel.name)}", f".layout {_pairs(asdict(kernel.layout))}", first]
    for stream in kernel.streams:
        entry = kernel.labels.get(stream.entry, stream.entry)
        lines.append(f".stream {_pairs({**asdict(stream), 'entry': entry})}")
    location = None
    for index, word in enumerate(kernel.words):
        if index in kernel.labels:
            lines.append(f"{kernel.labels[index]}:")
        if kernel.locations[index] != location:
            location = kernel.locations[index]
            lines.append(f".loc {json.dumps(location, ensure_ascii=False)}")
        text = f"    {instruction_text(word, kernel.labels)}"
        if hex_words:
            bits = int.from_bytes(encode_word(word), "little")
            text = f"{text:<72} ; {start + index * WORD_BYTES:#06x}: {bits:#034x}"
        lines.append(text)
    if len(kernel.words) in kernel.labels:
        lines.append(f"{kernel.labels[len(kernel.words)]}:")
    return lines


def instruction_text(word: Word, labels: Mapping[int, str]) -> str:
    """An instruction as in assembly; `labels` by the index of the instruction that they stand before."""
    texts = [
        labels.get(raw, kind.format(raw)) if kind is TARGET else kind.format(raw)
        for (_, kind), raw in zip(word.instruction.operands, word.operands, strict=True)
    ]
    return " ".join([word.instruction.mnemonic, ", ".join(texts)]).rstrip()


def _quote(text: str) -> str:
    return text if BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _pairs(values: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={_quote(value) if isinstance(value, str) else value}" for key, value in values.items())
