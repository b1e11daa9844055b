"""Show a program as one page for a browser: its IR at every level, cycles, roofline and quality."""

import argparse
from pathlib import Path

from dcomc.diagnostics import check_output, say_written, write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", type=Path, metavar="PROG.bin", help="a program, made by `dcomc compile`")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.html", help="the page to write")
    parser.add_argument(
        "--stages",
        type=Path,
        metavar="DIR",
        help="the folder that `dcomc compile --dump-ir-dir` wrote for this program: the stages before its kernels",
    )
    parser.add_argument(
        "--result",
        type=Path,
        action="append",
        default=[],
        metavar="FILE.json",
        help="what `dcomc sim --stats`, `run --json`, `eval --json` or `estimate --stats` found of it; may be given "
        "again",
    )
    parser.add_argument(
        "--expansion",
        action="store_true",
        help="sweep the paper's expansion factor for each kernel by simulation, which takes some seconds each",
    )


def run(args: argparse.Namespace) -> int:
    from dcomc.report.data import gather
    from dcomc.report.page import render_page

    check_output(args.output, args.program, *args.result)
    write_text(args.output, render_page(gather(args.program, args.stages, args.result, expansion=args.expansion)))
    say_written(args.output)
    return 0
