"""Say what is installed and what this machine is; with --measure, describe its processor for `dcomc estimate --gpu`."""

import argparse
from pathlib import Path

from dcomc.diagnostics import DcomError, cannot_import, check_output, write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `dcomc doctor`."""
    parser.add_argument(
        "--measure",
        action="store_true",
        help="measure products, bandwidth and dispatch for a few seconds, and print them as a GPU's TOML",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE.toml", help="where --measure writes (default: standard output)"
    )


def run(args: argparse.Namespace) -> int:
    """Report, or measure; 1 where something that dcomc cannot do without is missing."""
    if args.measure:
        return _measure(args.output)
    if args.output is not None:
        raise DcomError("-o is for --measure", hint="dcomc doctor --measure -o cpu.toml")
    from dcomc.doctor import libraries, machine, packages, tools
    from dcomc.tables import print_table

    findings = [*machine(), *libraries(), *packages(), *tools()]
    print_table(("what", "found", "for"), [(f.what, f.found, f.why) for f in findings])
    return 0 if all(finding.good for finding in findings) else 1


def _measure(output: Path | None) -> int:
    check_output(output)
    try:
        from dcomc.measure_host import measured_toml
    except ImportError as error:
        raise cannot_import(error.name, "--measure", "model") from error
    text = measured_toml("cpu" if output is None else output.stem)
    if output is None:
        print(text, end="")
    else:
        write_text(output, text)
        print(f"wrote {output}")
    return 0
