"""Run passes over IR, from text to text, as mlir-opt does."""

import argparse
import sys
from pathlib import Path

from dcomc.diagnostics import DcomError, write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", metavar="FILE", help="MLIR text; - is standard input")
    parser.add_argument(
        "-p",
        "--pass-pipeline",
        metavar="'NAME{OPTION=VALUE …},…'",
        help="passes to run in turn; none: only parse, verify and print",
    )
    parser.add_argument(
        "-o", "--output", default="-", metavar="FILE", help="where to write (default: -, standard output)"
    )
    parser.add_argument(
        "--print-debuginfo",
        "--mlir-print-debuginfo",
        action="store_true",
        help="print locations",
    )
    parser.add_argument("--dump-ir-dir", type=Path, metavar="DIR", help="write the IR after each pass that changes it")
    parser.add_argument("--list-passes", action="store_true", help="list the passes and exit")
    parser.add_argument("--describe-pass", metavar="NAME", help="describe a pass and its options and exit")


def run(args: argparse.Namespace) -> int:
    # The dialects take a tenth of a second to import, which `--help` need not wait for.
    from dcomc.ir import make_context, print_module, read_module
    from dcomc.pipeline import run_passes
    from passes import describe_pass, make_passes, pass_summaries

    if args.list_passes:
        summaries = pass_summaries()
        width = max(map(len, summaries))
        for name, summary in summaries.items():
            print(f"{name:<{width}}  {summary}")
        return 0
    if args.describe_pass is not None:
        print(describe_pass(args.describe_pass))
        return 0
    if args.file is None:
        raise DcomError("no FILE given", hint="give a file of MLIR text, or - for standard input")
    passes = make_passes(args.pass_pipeline) if args.pass_pipeline is not None else []
    context = make_context()
    module = read_module(args.file, context)
    run_passes(context, module, passes, args.dump_ir_dir)
    text = print_module(module, locations=args.print_debuginfo)
    if args.output == "-":
        sys.stdout.write(text)
    else:
        write_text(Path(args.output), text)
    return 0
