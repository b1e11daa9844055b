"""Run passes over IR, from text to text, as mlir-opt does."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dcomc.commands._passes import add_pass_arguments, instrumentation
from dcomc.diagnostics import DcomError, write_text
from dcomc.expected import Diagnostic, unmet

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

SEPARATOR = "// -----"
"""What stands alone on a line between the modules of a file read with `--split-input-file`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `dcomc opt`."""
    parser.add_argument(
        "file", nargs="?", default="-", metavar="FILE.mlir", help="MLIR text (default: -, standard input)"
    )
    parser.add_argument(
        "-p",
        "--pass-pipeline",
        "--passes",
        metavar="'NAME{OPTION=VALUE …},…'",
        help="passes to run in turn; without it: parse, verify and print",
    )
    parser.add_argument(
        "-o", "--output", default="-", metavar="FILE.mlir", help="where to write (default: -, standard output)"
    )
    parser.add_argument("--print-debuginfo", "--mlir-print-debuginfo", action="store_true", help="print locations")
    parser.add_argument(
        "--print-op-generic", "--mlir-print-op-generic", action="store_true", help="print in the generic syntax"
    )
    parser.add_argument(
        "--allow-unregistered-dialect", action="store_true", help="take operations of unknown dialects as they are"
    )
    parser.add_argument(
        "--split-input-file", action="store_true", help=f"treat what stands between lines `{SEPARATOR}` as files"
    )
    parser.add_argument(
        "--verify-diagnostics",
        action="store_true",
        help="hold errors and remarks against the comments `// expected-error @+1 {{text}}` and `expected-remark`",
    )
    parser.add_argument(
        "--remarks", action="store_true", help="print what passes remark, such as why a value is reconstructed"
    )
    parser.add_argument("--show-dialects", action="store_true", help="list the dialects and exit")
    parser.add_argument("--list-passes", action="store_true", help="list the passes and exit")
    parser.add_argument("--describe-pass", metavar="NAME", help="describe a pass and its options and exit")
    add_pass_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the pipeline; nothing is written where a module has an error."""
    # xDSL takes a second to import, which `--help` need not wait for.
    from dcomc.ir import make_context, parse_module, print_module, read_text
    from dcomc.pipeline import run_passes
    from passes import describe_pass, make_passes, pass_summaries

    if args.list_passes:
        summaries = pass_summaries()
        width = max(map(len, summaries))
        print("\n".join(f"{name:<{width}}  {summary}" for name, summary in summaries.items()))
        return 0
    if args.describe_pass is not None:
        print(describe_pass(args.describe_pass))
        return 0
    if args.show_dialects:
        print("\n".join(sorted(make_context().registered_dialect_names)))
        return 0
    if args.file == "-" and sys.stdin.isatty():
        raise DcomError("no FILE given", hint="give a file of MLIR text, or pipe it to standard input")
    passes = make_passes(args.pass_pipeline) if args.pass_pipeline is not None else []
    name, whole = read_text(args.file, "give a file of MLIR text")

    def transform(text: str, said: list[Diagnostic]) -> str:
        context = make_context(allow_unregistered=args.allow_unregistered_dialect)

        def parse() -> "ModuleOp":
            return parse_module(text, name, context)

        watch = instrumentation(args, parse)
        try:
            with watch.times.measure("parse"):
                module = parse()
            run_passes(context, module, passes, watch)
        except DcomError as error:
            if not args.verify_diagnostics:
                raise
            said.append(Diagnostic("error", f"{error.what}; {error.hint}" if error.hint else error.what, error.place))
            return ""
        said.extend(_remarks(module))
        with watch.times.measure("print"):
            result = print_module(module, locations=args.print_debuginfo, generic=args.print_op_generic)
        if watch.print_times:
            watch.times.print()
        return result

    results: list[str] = []
    problems: list[str] = []
    for part in _split(whole) if args.split_input_file else [whole]:
        said: list[Diagnostic] = []
        results.append(transform(part, said))
        if args.verify_diagnostics:
            problems += unmet(part, name, said)
        elif args.remarks:
            print(*said, sep="\n", end="\n" if said else "", file=sys.stderr)
    if problems:
        print(*problems, sep="\n", file=sys.stderr)
        return 1
    result = f"{SEPARATOR}\n".join(results)
    if args.output == "-":
        sys.stdout.write(result)
    else:
        write_text(Path(args.output), result)
    return 0


def _remarks(module: "ModuleOp") -> Iterator[Diagnostic]:
    """What passes noted at operations for people to read."""
    from xdsl.dialects.builtin import StringAttr

    from dcomc.ir import describe_location
    from passes.dcom_preserve_decomposed import STOPPED

    for op in module.walk():
        why = op.attributes.get(STOPPED)
        if isinstance(why, StringAttr):
            yield Diagnostic("remark", f"reconstructed for {why.data}", describe_location(op.location))


def _split(text: str) -> Iterator[str]:
    """The modules of a text; empty lines stand for what is before each, so that errors give lines of the whole."""
    lines: list[str] = []
    for number, line in enumerate(text.splitlines()):
        if line.strip() == SEPARATOR:
            yield "\n".join(lines)
            lines = [""] * (number + 1)
        else:
            lines.append(line)
    yield "\n".join(lines)
