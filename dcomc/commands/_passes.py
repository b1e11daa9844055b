"""The options that `dcomc compile` and `dcomc opt` share: what to watch while passes run."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from dcomc.instrumentation import Instrumentation


def add_pass_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `instrumentation`."""
    group = parser.add_argument_group("passes")
    group.add_argument("--dump-ir-dir", type=Path, metavar="DIR", help="write the IR after each pass that changes it")
    group.add_argument(
        "--print-ir-after-all",
        "--mlir-print-ir-after-all",
        action="store_true",
        help="print the IR after each pass to standard error",
    )
    group.add_argument(
        "--verify-each",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="verify the IR after each pass (the default), or only after the last",
    )
    group.add_argument(
        "--time-passes", "--mlir-timing", action="store_true", help="print the time of each pass to standard error"
    )
    group.add_argument(
        "--crash-reproducer",
        type=Path,
        metavar="FILE.mlir",
        help="where to write the IR before a pass that crashes, with the command that runs it again "
        "(default: beside the dumps, else among the temporary files)",
    )


def instrumentation(args: argparse.Namespace, origin: "Callable[[], ModuleOp]") -> "Instrumentation":
    """What the options ask for; `origin` makes the input module anew."""
    from dcomc.instrumentation import Instrumentation

    return Instrumentation(
        dump_dir=args.dump_ir_dir,
        verify_each=args.verify_each,
        print_after_all=args.print_ir_after_all,
        print_times=args.time_passes,
        origin=origin,
        crash_reproducer=args.crash_reproducer,
    )
