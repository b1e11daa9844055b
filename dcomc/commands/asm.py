"""Assemble text, as `dcomc disasm` writes it, to a program."""

import argparse
import sys
from pathlib import Path

from dcomc.assembler import assemble
from dcomc.diagnostics import DcomError, check_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="assembly text; - is standard input")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="PROG.bin", help="the program to write")


def run(args: argparse.Namespace) -> int:
    check_output(args.output, args.file)
    name = "<stdin>" if args.file == "-" else args.file
    try:
        data = sys.stdin.buffer.read() if args.file == "-" else Path(args.file).read_bytes()
    except OSError as error:
        raise DcomError(f"cannot read {name}: {error.strerror}", hint="give a file of assembly text") from error
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DcomError("not UTF-8 text", hint="give a file of assembly text", place=f"{name}:{line}") from error
    assemble(text, name).save(args.output)
    return 0
