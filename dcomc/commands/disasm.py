"""Write a program as assembly text, from which `dcomc asm` makes the same program again."""

import argparse
import sys
from pathlib import Path

from dcomc.container import read_program
from dcomc.diagnostics import check_output, write_text
from dcomc.disassembler import disassemble, disassemble_kernel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", metavar="PROG.bin", help="the program to read")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to write (default: standard output)")
    parser.add_argument("--kernel", metavar="NAME", help="write this kernel alone")
    parser.add_argument("--hex", action="store_true", help="add the byte offset in .text and the bits of each word")


def run(args: argparse.Namespace) -> int:
    check_output(args.output, args.program)
    program = read_program(args.program)
    if args.kernel is None:
        text = disassemble(program, hex_words=args.hex)
    else:
        text = disassemble_kernel(program, args.kernel, hex_words=args.hex)
    if args.output is None:
        sys.stdout.write(text)
    else:
        write_text(args.output, text)
    return 0
