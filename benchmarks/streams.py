"""Streams side by side against groups of clusters in step: cycles of the same matrices, as ratios.

    python benchmarks/streams.py [--shapes 64x1024x576 512x64x576 …] [--streams 1x2 4x1 4x4] [--iterations 15]

Shapes are matrices x rows x columns. The column `groups` has the cycles of groups of clusters in step, as the mapping
`auto` makes them on one stream; the others are over that. On `grid` all clusters decompose one matrix after another,
which takes many times as long where there are hundreds, each too small for so many clusters. The rectangles that
`--streams` names follow, `-` where the buffers of one have no room for a matrix; and those that `auto` chooses.

Streams are not bound to one another: where groups in step have room for one matrix each, all wait while all load
theirs, but one stream loads beside the products of another; and a rectangle that is one group holds its matrix cut by
rows and columns, not folded. But streams above one another share banks, and each has its own share of the matrices to
balance. Cycles are counted without data, so without what early breakdowns save streams. The last line is one JSON
object.
"""

import argparse

from measure import finish

from dcomc.diagnostics import DcomError
from dcomc.single_kernel import MACHINE, compile_kernel
from runtime.accelerator import time_launch
from runtime.machine import load_machine


def count_cycles(shape: tuple[int, int, int], iterations: int, mapping: str, streams: str) -> int:
    """Of one launch of all matrices."""
    matrices, rows, cols = shape
    kernel = compile_kernel(rows, cols, iterations, mapping=mapping, matrices=matrices, streams=streams)
    return sum(run.cycles for run in time_launch(kernel, load_machine(MACHINE), matrices))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--shapes", nargs="+", default=["64x1024x576", "64x512x4096", "512x512x576", "512x64x576", "64x4096x4096"]
    )
    parser.add_argument("--streams", nargs="+", default=["1x2", "4x1", "4x4"])
    parser.add_argument("--iterations", type=int, default=15, help="default: %(default)s")
    args = parser.parse_args()
    print(
        f"{'matrices':>14} {'groups, cycles':>14} {'grid':>7}"
        + "".join(f"{streams:>7}" for streams in (*args.streams, "auto"))
    )
    ratios: dict[str, dict[str, float | None]] = {}
    for text in args.shapes:
        matrices, rows, cols = map(int, text.split("x"))
        shape = matrices, rows, cols
        groups = count_cycles(shape, args.iterations, "auto", "1x1")
        found: dict[str, float | None] = {"grid": count_cycles(shape, args.iterations, "grid", "1x1") / groups}
        for streams in (*args.streams, "auto"):
            try:
                found[streams] = count_cycles(shape, args.iterations, "auto", streams) / groups
            except DcomError:  # no room in the buffers of so few clusters
                found[streams] = None
        ratios[text] = found
        shown = (f"{ratio:>7.3f}" if ratio else f"{'-':>7}" for ratio in found.values())
        print(f"{text:>14} {groups:>14,} {''.join(shown)}", flush=True)
    finish("streams", {"iterations": args.iterations, "cycles_over_groups": ratios})


if __name__ == "__main__":
    main()
