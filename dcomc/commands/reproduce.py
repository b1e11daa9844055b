"""Compute the paper's figures, tables and equations, and say of each claim whether it is reproduced."""

import argparse
from pathlib import Path

from dcomc.diagnostics import DcomError, check_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `dcomc reproduce`."""
    from dcomc.reproduce import WHAT

    parser.add_argument(
        "what", nargs="+", choices=(*WHAT, "all"), metavar="WHAT", help=f"all, or of: {', '.join(WHAT)}"
    )
    parser.add_argument("--gpu", default="a100-80gb", metavar="NAME|FILE.toml", help="(default: %(default)s)")
    parser.add_argument("--machine", default="dcom-16x16", metavar="NAME|FILE.toml", help="(default: %(default)s)")
    parser.add_argument(
        "--tp", type=int, choices=(1, 2, 4, 8), default=4, help="GPUs that share the model (default: 4)"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="write FOLDER/reproduction.md, with plots and numbers beside it",
    )


def run(args: argparse.Namespace) -> int:
    """Reproduce, print, and write the report."""
    from dcomc.reproduce import WHAT, reproduction
    from dcomc.reproduce.report import claim_rows, write_report
    from dcomc.reproduce.workbench import Workbench
    from dcomc.tables import print_table

    if args.output is not None:
        if not args.output.is_dir():
            raise DcomError(f"there is no folder {args.output}", hint="give one that exists, such as docs")
        check_output(args.output / "reproduction.md")
    bench = Workbench(args.gpu, args.machine, args.tp)
    results = [reproduction(name)(bench) for name in WHAT if name in args.what or "all" in args.what]
    for result in results:
        print(f"{result.name}: {WHAT[result.name]}")
        print(result.setting)
        print_table(("claim", "paper", "ours", "range", "ratio", "verdict"), claim_rows(result.claims))
        for why in dict.fromkeys(claim.reason for claim in result.claims if claim.reason):
            print(f"  {why}")
    if args.output is not None:
        for file in write_report(results, args.output)[:1]:
            print(f"wrote {file}")
    return 0
